"""Which op of TensorFlow makes a pass of a convolution, bound to its operands, with nothing around it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from harness.axes import Direction
from harness.backends.tensorflow_geometry import Geometry

Call = Callable[[], Any]
Bind = Callable[[Any, Any], Call]  # of a pass's two operands makes the call


def forward(tf: Any, geometry: Geometry) -> tuple[str, Bind]:
    """The documented forward call, bound to (x, w); tf.nn takes explicit paddings as pairs in the place of `padding`."""
    if geometry.transposed:
        name = f"conv{max(2, geometry.spec.ndim)}d_transpose"
        op, shape = getattr(tf.nn, name), tf.constant(geometry.shape(geometry.spec.x_shape), tf.int32)
        strides, padding, rest = _told(geometry)
        return f"tf.nn.{name}", lambda x, w: partial(op, x, w, shape, strides, padding, **rest)
    return _convolution(tf, geometry)


def gradient(tf: Any, geometry: Geometry, direction: Direction) -> tuple[str, Bind]:
    """One gradient alone, bound to its two tensors, (dy, w) or (x, dy).

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


def _convolution(tf: Any, geometry: Geometry) -> tuple[str, Bind]:
    name = "depthwise_conv2d" if geometry.depthwise else "conv3d" if geometry.spec.ndim == 3 else "conv2d"
    op = getattr(tf.nn, name)
    strides, padding, rest = _told(geometry)
    return f"tf.nn.{name}", lambda x, w: partial(op, x, w, strides, padding, **rest)


def _told(geometry: Geometry) -> tuple[Any, Any, dict[str, Any]]:
    """Strides, padding, and what else a call of tf.nn is told."""
    raw = geometry.arguments
    flat = raw.get("explicit_paddings")
    padding = [list(pair) for pair in zip(flat[::2], flat[1::2], strict=True)] if flat else geometry.padding
    return raw["strides"], padding, {key: raw[key] for key in ("data_format", "dilations") if key in raw}
