"""The call of a cell in TensorFlow as a program of its own: what `tensorflow.TensorFlowConvolution` does, written out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from harness.axes import Api, Bias, Direction, Epilogue, Mode, Optimizer, Precision
from harness.backends import base
from harness.backends.base import DTYPES, Script
from harness.backends.tensorflow_geometry import Geometry, compiled_inside, lacks, lacks_depthwise, runs_all, taped
from harness.spec import Cell

_BARE = {name: name for name in ("x", "w", "b", "dy")}
_TENSORS = {name: f"t{name}" for name in _BARE}


class _Op(NamedTuple):
    """A function and its arguments as text, in which `{x}`, `{w}`, `{b}` and `{dy}` stand for tensors."""

    function: str
    arguments: str

    def of(self, names: Mapping[str, str]) -> str:
        """A call of tensors of these names."""
        return f"{self.function}({self.arguments.format(**names)})"


def script(cell: Cell) -> Script | None:
    """The program of a convolution; None for anything else. What has no kernel fails in the program as it does here."""
    if not cell.is_convolution or lacks(cell):
        return None
    geometry = Geometry(cell)
    keras = (("keras", "tf.keras.__version__"),) if cell.direction is Direction.TRAIN or geometry.layer else ()
    return Script(
        imports=_imports(cell),
        operands=_operands(cell, geometry),
        call=_call(cell, geometry),
        result=_result(cell, geometry),
        op=_text(cell, geometry),
        wait="" if cell.device.kind == "cpu" else "lambda handle: tf.test.experimental.sync_devices()",
        versions=(("tensorflow", "tf.__version__"), *keras),
    )


def _imports(cell: Cell) -> tuple[str, ...]:
    only = (
        f'tf.config.set_visible_devices(tf.config.list_physical_devices("GPU")[{cell.device.index}], "GPU")',
        "tf.config.set_soft_device_placement(False)",
    )
    return (
        *(("from functools import partial",) if cell.direction is not Direction.TRAIN else ()),
        "import tensorflow as tf",
        "",
        "tf.config.threading.set_intra_op_parallelism_threads(THREADS)",
        "tf.config.threading.set_inter_op_parallelism_threads(THREADS)",
        *(() if cell.device.kind == "cpu" else only),
        f"tf.config.experimental.enable_tensor_float_32_execution({cell.precision is Precision.TF32})",
    )


def _device(cell: Cell) -> str:
    return "/CPU:0" if cell.device.kind == "cpu" else "/GPU:0"


def _operands(cell: Cell, geometry: Geometry) -> tuple[str, ...]:
    spec, line = geometry.spec, "[:, :, None]" if geometry.raised else ""  # a height of 1
    kernel = (1, *spec.kernel) if geometry.raised else spec.kernel
    filters = f"np.moveaxis(w{line}, (0, 1), (-1, -2))"
    if geometry.depthwise:
        filters = f"np.moveaxis(w{line}[:, 0].reshape({(spec.c, spec.k // spec.c, *kernel)}), (0, 1), (-2, -1))"
    images = f"np.moveaxis({{}}{line}, 1, -1)" if geometry.last else f"{{}}{line}"
    lines = [
        "def tensor(array):",
        f'    with tf.device("{_device(cell)}"):',
        f"        return tf.cast(tf.constant(np.ascontiguousarray(array)), tf.{DTYPES[cell.precision]})",
        "",
        "",
        f"tx = tensor({images.format('x')})",
        f"{'first_w' if cell.direction is Direction.TRAIN or geometry.layer else 'tw'} = tensor({filters})",
    ]
    if "b" in cell.reads:
        lines.append(f"{'first_b' if cell.direction is Direction.TRAIN or geometry.layer else 'tb'} = tensor(b)")
    elif cell.bias is Bias.CHANNEL and taped(cell) and not geometry.layer:
        lines.append(f"tb = tf.zeros({cell.operand_shapes['b']}, tx.dtype)  # its values change no gradient")
    if "dy" in cell.reads:
        lines.append(f"tdy = tensor({images.format('dy')})")
    if geometry.prepadded:
        lines.append("# Conv3D takes SAME and VALID alone: for any other padding x is padded beforehand.")
        lines += [f'with tf.device("{_device(cell)}"):', f"    tx = tf.pad(tx, {geometry.pads})"]
    if geometry.layer:
        told = {**geometry.layer_arguments, "dtype": DTYPES[cell.precision]}
        lines += [
            f'with tf.device("{_device(cell)}"):',
            f"    layer = tf.keras.layers.{geometry.layer_name}({_keywords(told)[2:]})",
            f"    layer.build({tuple(geometry.shape(spec.x_shape))})",
            "tw = layer.kernel.value",
            "tw.assign(first_w)",
        ]
        if cell.bias is Bias.CHANNEL:
            lines += ["tb = layer.bias.value", *(["tb.assign(first_b)"] if "b" in cell.reads else ())]
    return tuple(lines)


def _forward(cell: Cell, geometry: Geometry) -> _Op:
    """The documented forward call, or nested calls where there is a bias or an epilogue; a layer has its bias itself."""
    op = _plain(geometry)
    if cell.bias is Bias.CHANNEL and not geometry.layer:
        op = _Op("tf.nn.bias_add", f"{op.function}({op.arguments}), {{b}}, {geometry.bias_format!r}")
    if cell.epilogue is Epilogue.RELU:
        op = _Op("tf.nn.relu", f"{op.function}({op.arguments})")
    return op


def _plain(geometry: Geometry) -> _Op:
    """The convolution itself."""
    if geometry.layer:
        return _Op("layer", "{x}")
    if not geometry.transposed:
        return _convolution(geometry, "{x}")
    strides, padding, rest = geometry.told
    name = f"tf.nn.conv{max(2, geometry.spec.ndim)}d_transpose"
    return _Op(name, f"{{x}}, {{w}}, shape, {strides}, {padding!r}{_keywords(rest)}")


def _convolution(geometry: Geometry, image: str) -> _Op:
    name = "depthwise_conv2d" if geometry.depthwise else "conv3d" if geometry.spec.ndim == 3 else "conv2d"
    strides, padding, rest = geometry.told
    return _Op(f"tf.nn.{name}", f"{image}, {{w}}, {strides}, {padding!r}{_keywords(rest)}")


def _given(cell: Cell) -> tuple[str, ...]:
    """The operands of the forward pass; a layer has its filter and its bias itself."""
    return ("x",) if cell.api is Api.LAYER else ("x", *_parameters(cell))


def _parameters(cell: Cell) -> tuple[str, ...]:
    """The filter, and the bias where there is one."""
    return ("w",) if cell.bias is Bias.NONE else ("w", "b")


def _backward(cell: Cell, geometry: Geometry) -> _Op:
    """One gradient alone, or as a pair those of filter and bias."""
    op = _gradient(cell, geometry)
    if "db" not in cell.outputs:
        return op
    bias = f"tf.raw_ops.BiasAddGrad(out_backprop={{dy}}, data_format={geometry.bias_format!r})"
    return _Op("", f"{op.function}({op.arguments}), {bias}")


def _gradient(cell: Cell, geometry: Geometry) -> _Op:
    """One gradient alone, by its raw op; the input gradient of a transposed convolution is a convolution."""
    volume = geometry.spec.ndim == 3
    prefix = "DepthwiseConv2dNative" if geometry.depthwise else "Conv3D" if volume else "Conv2D"
    version, told = "V2" if volume else "", _keywords(geometry.arguments)
    if cell.direction is Direction.DGRAD and geometry.transposed:
        return _convolution(geometry, "{dy}")
    if cell.direction is Direction.DGRAD:
        arguments = f"input_sizes=sizes, filter={{w}}, out_backprop={{dy}}{told}"
        return _Op(f"tf.raw_ops.{prefix}BackpropInput{version}", arguments)
    image, given = ("dy", "x") if geometry.transposed else ("x", "dy")  # y of a transposed one is what its mirrored one reads
    arguments = f"input={{{image}}}, filter_sizes=sizes, out_backprop={{{given}}}{told}"
    return _Op(f"tf.raw_ops.{prefix}BackpropFilter{version}", arguments)


def _keywords(told: Mapping[str, Any]) -> str:
    return "".join(f", {name}={value!r}" for name, value in told.items())


def _call(cell: Cell, geometry: Geometry) -> tuple[str, ...]:
    shape = f"shape = tf.constant({geometry.shape(geometry.spec.x_shape)}, tf.int32)"
    forward, before, given = _forward(cell, geometry), (shape,) if geometry.transposed else (), _given(cell)
    match cell.direction:
        case Direction.FPROP:
            return (*before, *_launched(cell, forward, given))
        case Direction.DGRAD | Direction.WGRAD if cell.api is not Api.DEFAULT:
            return _taped(cell, forward)
        case Direction.DGRAD | Direction.WGRAD:
            in_x = cell.direction is Direction.DGRAD
            like = geometry.shape(geometry.x_shape) if in_x else geometry.filter_shape
            sizes = () if in_x and geometry.transposed else (f"sizes = tf.constant({like}, tf.int32)",)
            return (*sizes, *_launched(cell, _backward(cell, geometry), ("dy", "w") if in_x else ("x", "dy")))
        case Direction.BPROP:
            called = _Op("both", ", ".join(f"{{{name}}}" for name in given))
            return (*before, *_both(cell, forward), "", *_launched(cell, called, given))
    return (*before, *_train(cell, forward))


def _launched(cell: Cell, op: _Op, names: tuple[str, ...]) -> tuple[str, ...]:
    """The lines that bind an op to tensors: arguments of a tf.function, so that none is folded."""
    if cell.mode is Mode.EAGER and _several(cell):
        return (f"launch = lambda: {op.of(_TENSORS)}",)
    if cell.mode is Mode.EAGER:
        return (f"launch = partial({op.function}, {op.arguments.format(**_TENSORS)})",)
    inner = ", ".join(names)
    return (
        f"traced = tf.function(lambda {inner}: {op.of(_BARE)}, jit_compile={cell.mode is Mode.XLA})",
        f"launch = partial(traced, {', '.join(_TENSORS[name] for name in names)})",
    )


def _several(cell: Cell) -> bool:
    """Whether a single pass is made of several ops."""
    more = cell.bias is not Bias.NONE or cell.epilogue is not Epilogue.NONE
    return more and cell.direction.single and cell.api is not Api.LAYER


def _taped(cell: Cell, forward: _Op) -> tuple[str, ...]:
    """One gradient, or those of filter and bias, by a tape around the forward call."""
    layer, in_x = cell.api is Api.LAYER, cell.direction is Direction.DGRAD
    names = (*_given(cell), "dy")
    of = "x" if in_x else ", ".join(f"{'t' if layer else ''}{name}" for name in _parameters(cell))
    of = of if in_x or cell.bias is Bias.NONE else f"[{of}]"
    return (
        f"def gradient({', '.join(names)}):",
        "    with tf.GradientTape() as tape:",
        *((f"        tape.watch({of})",) if in_x or not layer else ()),  # a variable is watched by itself
        f"        y = {forward.of(_BARE)}",
        f"    return tape.gradient(y, {of}, dy)",
        "",
        "",
        *_launched(cell, _Op("gradient", ", ".join(f"{{{name}}}" for name in names)), names),
    )


def _both(cell: Cell, forward: _Op) -> tuple[str, ...]:
    names = ", ".join(_given(cell))
    own = (f"{'t' if cell.api is Api.LAYER else ''}{name}" for name in _parameters(cell))
    of, gradients = ", ".join(("x", *own)), ", ".join(f"d{name}" for name in ("x", *_parameters(cell)))
    return (
        f"def both({names}):",
        "    with tf.GradientTape() as tape:",
        f"        tape.watch([{names}])",
        f"        y = {forward.of(_BARE)}",
        "        loss = tf.reduce_mean(tf.square(y))",
        f"    {gradients} = tape.gradient(loss, [{of}])",
        f"    return y, loss, {gradients}",
    )


def _train(cell: Cell, forward: _Op) -> tuple[str, ...]:
    """A training step of a variable, and what brings back the variable and the optimizer's slots."""
    made = f"SGD({base.LEARNING_RATE})"
    if cell.optimizer is Optimizer.ADAM:
        made = f"Adam({base.LEARNING_RATE}, {base.ADAM_BETA1}, {base.ADAM_BETA2}, {base.ADAM_EPSILON})"
    parameters = _parameters(cell)
    variables, gradients = (", ".join(f"{letter}{name}" for name in parameters) for letter in ("t", "d"))
    pairs = ", ".join(f"(d{name}, t{name})" for name in parameters)
    traced = (f"step = tf.function(step, jit_compile={cell.mode is Mode.XLA})",) if cell.mode is not Mode.EAGER else ()
    return (
        f'with tf.device("{_device(cell)}"):',
        *(f"    t{name} = tf.Variable(first_{name})" for name in parameters if cell.api is not Api.LAYER),
        f"    optimizer = tf.keras.optimizers.{made}",
        f"    optimizer.build([{variables}])",
        "",
        "",
        "def step(x):",
        "    with tf.GradientTape() as tape:",
        "        tape.watch([x])  # a variable is watched by itself",
        f"        y = {forward.of({**_TENSORS, 'x': 'x'})}",
        "        loss = tf.reduce_mean(tf.square(y))",
        f"    dx, {gradients} = tape.gradient(loss, [x, {variables}])",
        f"    optimizer.apply_gradients([{pairs}])",
        f"    return y, loss, dx, {gradients}",
        "",
        "",
        "def reset():",
        *(f"    t{name}.assign(first_{name})" for name in parameters),
        "    for slot in optimizer.variables:",
        '        if slot.path.rsplit("/", 1)[-1] != "learning_rate":',
        "            slot.assign(tf.zeros_like(slot.value))",
        "",
        "",
        *traced,
        f"launch = lambda: (*step(tx), {variables})",
    )


def _result(cell: Cell, geometry: Geometry) -> tuple[str, ...]:
    names = cell.outputs
    values = ", ".join(f'"{name}": {"float(loss)" if name == "loss" else _canonical(name, geometry)}' for name in names)
    return (
        "def host(value):",
        "    return tf.cast(value, tf.float64).numpy()",
        "",
        "",
        "def result(handle):",
        f"    {', '.join(names)} = handle",
        f"    return {{{values}}}",
    )


def _canonical(name: str, geometry: Geometry) -> str:
    """An expression for the output of that name, whose handle has its name, in canonical layout."""
    spec, text = geometry.spec, f"host({name})"
    if name in ("db", "b"):
        return text
    line = "[:, :, 0]" if geometry.raised else ""
    if name in ("dw", "w"):
        if not geometry.depthwise:
            return f"np.moveaxis({text}, (-1, -2), (0, 1)){line}"
        kernel = (1, *spec.kernel) if geometry.raised else spec.kernel
        return f"np.moveaxis({text}, (-2, -1), (0, 1)).reshape({(spec.k, 1, *kernel)}){line}"
    text = (f"np.moveaxis({text}, -1, 1)" if geometry.last else text) + line
    if name == "y" or not geometry.prepadded:
        return text
    inside = (f"{lo}:{lo + size}" for size, (lo, _) in zip(spec.spatial, spec.padding, strict=True))
    return f"{text}[:, :, {', '.join(inside)}]"


def _text(cell: Cell, geometry: Geometry) -> str:
    """The name of the call, as the adapter has it."""
    added = ", tf.nn.bias_add" * (cell.bias is Bias.CHANNEL) + ", tf.nn.relu" * (cell.epilogue is Epilogue.RELU)
    name = geometry.layer_text if geometry.layer else _plain(geometry).function + added
    match cell.direction:
        case Direction.DGRAD | Direction.WGRAD if cell.api is not Api.DEFAULT:
            name = f"{name}, GradientTape.gradient of {geometry.taped_for}"
        case Direction.DGRAD | Direction.WGRAD:
            name = _gradient(cell, geometry).function + ", tf.raw_ops.BiasAddGrad" * ("db" in cell.outputs)
        case Direction.BPROP:
            name = f"{name}, mean(y^2), GradientTape.gradient"
        case Direction.TRAIN:
            name = f"{name}, mean(y^2), GradientTape.gradient, optimizers.{cell.optimizer}.apply_gradients"
    if cell.mode is not Mode.EAGER:
        name = f"tf.function({name}{', jit_compile=True' if cell.mode is Mode.XLA else ''})"
    return name + (" on x padded beforehand" if geometry.prepadded else "")


def reason(cell: Cell) -> str:
    """Why another call is timed than the one that users make: see `Backend.op_reason`."""
    if not cell.is_convolution:
        return ""
    geometry, reasons, usual = Geometry(cell), [], cell.api is Api.DEFAULT
    if taped(cell):
        also = "the forward pass and the other gradient are in it, too"
        dropped = "the forward pass and the other gradient are dropped from what is compiled, since nothing uses them"
        reasons.append(f"the call has no gradient but GradientTape's: {also if runs_all(cell) else dropped}")
    elif cell.direction in (Direction.DGRAD, Direction.WGRAD):
        brings = "tf.GradientTape brings the forward pass and the other gradient"
        alone = "the op of this gradient alone is called"
        eager = cell.mode is Mode.EAGER
        reasons.append(f"{brings}, so {alone}" if eager else f"{alone}, as in eager mode, where {brings}")
    if compiled_inside(cell) and cell.mode is not Mode.XLA:
        inside = "Keras calls a tf.function(jit_compile=True) inside of this layer"
        new = f"{inside}, a new one each time: each call traces and compiles it"
        reasons.append(new if cell.mode is Mode.EAGER else f"{inside}: XLA compiles the convolution in this mode, too")
    if usual and (lack := lacks_depthwise(geometry.spec)) and not geometry.transposed:
        reasons.append(f"{lack}, so the op for dense convolutions is called, on a filter of one input channel")
    if geometry.raised:
        reasons.append("TensorFlow computes one dimension as two, with a height of 1, so the op of two is called on such an x")
    if geometry.prepadded:
        reasons.append("tf.nn.conv3d takes paddings SAME and VALID only, so x is padded before the clock starts")
    return "; ".join(reasons)
