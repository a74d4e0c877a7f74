"""Which call of TensorFlow makes a pass of a convolution, bound to its operands, with nothing around it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from harness.axes import Bias, Direction, Epilogue
from harness.backends.tensorflow_geometry import Geometry
from harness.spec import Cell

Call = Callable[[], Any]
Bind = Callable[..., Call]  # of a pass's operands makes the call


def layer(tf: Any, geometry: Geometry, dtype: str) -> Any:
    """The layer object of Keras, with its kernel and its bias as variables of zeros."""
    made = getattr(tf.keras.layers, geometry.layer_name)(**geometry.layer_arguments, dtype=dtype)
    made.build(tuple(geometry.shape(geometry.spec.x_shape)))
    return made


def parameters(layer: Any) -> tuple[Any, ...]:
    """The variables of a layer: its kernel, and its bias where it has one."""
    return tuple(variable.value for variable in (layer.kernel, layer.bias) if variable is not None)


def forward(tf: Any, geometry: Geometry, cell: Cell, layer: Any = None) -> tuple[str, Bind]:
    """The documented forward call, bound to (x, w) or (x, w, b), and one call more for a bias and for an epilogue.

    A layer has a w and a b of its own.
    """
    if layer is not None:
        return geometry.layer_text, lambda x, *_: partial(layer, x)
    name, plain = _forward(tf, geometry)
    biased, finished = cell.bias is Bias.CHANNEL, cell.epilogue is Epilogue.RELU
    if not biased and not finished:
        return name, plain
    bias_add, relu, format_ = tf.nn.bias_add, tf.nn.relu, geometry.bias_format

    def with_bias(x: Any, w: Any, b: Any) -> Call:
        convolution = plain(x, w)
        return lambda: bias_add(convolution(), b, format_)

    def with_relu(x: Any, w: Any) -> Call:
        convolution = plain(x, w)
        return lambda: relu(convolution())

    def with_both(x: Any, w: Any, b: Any) -> Call:
        convolution = plain(x, w)
        return lambda: relu(bias_add(convolution(), b, format_))

    more = ", tf.nn.bias_add" * biased + ", tf.nn.relu" * finished
    return name + more, (with_both if finished else with_bias) if biased else with_relu


def _forward(tf: Any, geometry: Geometry) -> tuple[str, Bind]:
    """The call of the convolution itself; tf.nn takes explicit paddings as pairs in the place of `padding`."""
    if geometry.transposed:
        name = f"conv{max(2, geometry.spec.ndim)}d_transpose"
        op, shape = getattr(tf.nn, name), tf.constant(geometry.shape(geometry.spec.x_shape), tf.int32)
        strides, padding, rest = geometry.told
        return f"tf.nn.{name}", lambda x, w: partial(op, x, w, shape, strides, padding, **rest)
    return _convolution(tf, geometry)


def gradient(tf: Any, geometry: Geometry, cell: Cell) -> tuple[str, Bind]:
    """One gradient alone, bound to its two tensors, (dy, w) or (x, dy); beside that of the filter the one of a bias."""
    name, plain = _gradient(tf, geometry, cell.direction)
    if "db" not in cell.outputs:
        return name, plain
    op, format_ = tf.raw_ops.BiasAddGrad, geometry.bias_format

    def bind(x: Any, dy: Any) -> Call:
        filters, bias = plain(x, dy), partial(op, out_backprop=dy, data_format=format_)
        return lambda: (filters(), bias())

    return f"{name}, tf.raw_ops.BiasAddGrad", bind


def _gradient(tf: Any, geometry: Geometry, direction: Direction) -> tuple[str, Bind]:
    """The call of the gradient itself.

    It is a raw op, but for the input gradient of a transposed convolution, which is a convolution.
    """
    raw, told, volume = tf.raw_ops, geometry.arguments, geometry.spec.ndim == 3
    prefix = "DepthwiseConv2dNative" if geometry.depthwise else "Conv3D" if volume else "Conv2D"
    version = "V2" if volume else ""
    if direction is Direction.DGRAD:
        if geometry.transposed:
            return _convolution(tf, geometry)
        name, sizes = f"{prefix}BackpropInput{version}", tf.constant(geometry.shape(geometry.x_shape), tf.int32)
        op = getattr(raw, name)
        return f"tf.raw_ops.{name}", lambda dy, w: partial(op, input_sizes=sizes, filter=w, out_backprop=dy, **told)
    name, sizes = f"{prefix}BackpropFilter{version}", tf.constant(geometry.filter_shape, tf.int32)
    op = getattr(raw, name)
    if geometry.transposed:  # y of the transposed convolution is what the mirrored one reads
        return f"tf.raw_ops.{name}", lambda x, dy: partial(op, input=dy, filter_sizes=sizes, out_backprop=x, **told)
    return f"tf.raw_ops.{name}", lambda x, dy: partial(op, input=x, filter_sizes=sizes, out_backprop=dy, **told)


def both(
    tf: Any, geometry: Geometry, cell: Cell, variables: tuple[Any, ...], optimizer: Any, layer: Any
) -> tuple[str, Bind]:  # fmt: skip
    """Forward pass, loss and all gradients, of (x, w) or (x, w, b) or variables in their place; with an optimizer its step."""
    name, bind = forward(tf, geometry, cell, layer)
    train = optimizer is not None

    def call(x: Any, *given: Any) -> Any:
        parameters = variables or given
        with tf.GradientTape() as tape:
            tape.watch([x] if variables else [x, *given])  # a variable is watched by itself, a tensor is not
            y = bind(x, *parameters)()
            loss = tf.reduce_mean(tf.square(y))
        gradients = tape.gradient(loss, [x, *parameters])
        if train:
            optimizer.apply_gradients([(gradients[1 + at], variable) for at, variable in enumerate(variables)])
        return (y, loss, *gradients)

    text = f"{name}, mean(y^2), GradientTape.gradient"
    return (f"{text}, optimizers.{cell.optimizer}.apply_gradients" if train else text), call


def taped(tf: Any, geometry: Geometry, cell: Cell, layer: Any) -> tuple[str, Bind]:
    """One gradient, or those of filter and bias, by a tape around the forward call: for calls that have no op of it.

    It is bound to x and (w, dy) or (w, b, dy), and a layer, which has its own w and b, to x and (None, dy).
    """
    name, bind = forward(tf, geometry, cell, layer)
    in_x = cell.direction is Direction.DGRAD

    def call(x: Any, w: Any, dy: Any) -> Any:
        of = x if in_x else w if layer is None else layer.kernel.value
        with tf.GradientTape() as tape:
            if in_x or layer is None:  # a variable is watched by itself
                tape.watch(of)
            y = bind(x, w)()
        return tape.gradient(y, of, dy)

    def biased_call(x: Any, *others: Any) -> Any:
        *given, dy = others
        of = given if layer is None else parameters(layer)
        with tf.GradientTape() as tape:
            if layer is None:
                tape.watch(of)
            y = bind(x, *given)()
        return tape.gradient(y, of, dy)

    text, chosen = f"{name}, GradientTape.gradient of {geometry.taped_for}", biased_call if "db" in cell.outputs else call
    return text, lambda x, others: partial(chosen, x, *others)


def _convolution(tf: Any, geometry: Geometry) -> tuple[str, Bind]:
    name = "depthwise_conv2d" if geometry.depthwise else "conv3d" if geometry.spec.ndim == 3 else "conv2d"
    op = getattr(tf.nn, name)
    strides, padding, rest = geometry.told
    return f"tf.nn.{name}", lambda x, w: partial(op, x, w, strides, padding, **rest)
