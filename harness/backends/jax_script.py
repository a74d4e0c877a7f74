"""The call of a cell in JAX as a program of its own: what `jax.JaxConvolution` does, its numbers written out."""

from __future__ import annotations

from harness.axes import UPDATED, Api, Bias, Direction, Epilogue, Layout, Mode, Optimizer, Precision
from harness.backends import base, jax_transposed
from harness.backends.base import DTYPES, Script
from harness.backends.jax_settings import lacks
from harness.spec import Cell


def script(cell: Cell) -> Script | None:
    """The program of a convolution; None for a cell that JAX has no call for."""
    if not cell.is_convolution or cell.api is not Api.DEFAULT or lacks(cell):
        return None
    return Script(
        imports=_imports(cell),
        operands=_operands(cell),
        call=(*_convolution(cell), *_call(cell)),
        result=_result(cell),
        op=_op(cell),
        wait='methodcaller("block_until_ready")' if len(cell.outputs) == 1 else "jax.block_until_ready",
        versions=(("jax", "jax.__version__"), ("jaxlib", "jaxlib.__version__")),
    )


def _imports(cell: Cell) -> tuple[str, ...]:
    return (
        *(("from operator import methodcaller",) if len(cell.outputs) == 1 else ()),
        *(("from functools import partial",) if cell.direction is not Direction.TRAIN else ()),
        "import jax",
        "import jax.numpy as jnp",
        "import jaxlib",
        *(("from jax.example_libraries import optimizers",) if cell.direction is Direction.TRAIN else ()),
        "",
        f'jax.config.update("jax_enable_x64", {cell.precision is Precision.FP64})',
    )


def _dtype(cell: Cell) -> str:
    return f"jnp.{DTYPES[cell.precision]}"


def _operands(cell: Cell) -> tuple[str, ...]:
    last = cell.layout is Layout.CHANNELS_LAST
    images, filters = ("np.moveaxis({}, 1, -1)", "np.moveaxis({}, (0, 1), (-1, -2))") if last else ("{}", "{}")
    filters = filters.format("turned({})") if cell.spec.transposed else filters
    more = {"dy": images}
    if "b" in cell.reads:
        more["b"] = f"{{}}.reshape({_bias_shape(cell)})"  # as y is broadcast
    needed = {"x": images, "w": filters, **{name: more[name] for name in more if name in cell.reads}}
    device = "cpu" if cell.device.kind == "cpu" else "cuda"
    return (
        f'device = jax.devices("{device}")[{cell.device.index}]',
        "",
        "",
        "def placed(array):",
        f"    return jax.device_put(array.astype({_dtype(cell)}), device)",
        "",
        "",
        *(_turned(cell) if cell.spec.transposed else ()),
        *(f"t{name} = placed({text.format(name)})" for name, text in needed.items()),
    )


def _bias_shape(cell: Cell) -> tuple[int, ...]:
    """The shape of a bias by which it is broadcast to y."""
    return (*cell.operand_shapes["b"], *(1,) * (0 if cell.layout is Layout.CHANNELS_LAST else cell.conv.ndim))


def _given(cell: Cell) -> tuple[str, ...]:
    """The operands of the forward pass."""
    return ("x", "w") if cell.bias is Bias.NONE else ("x", "w", "b")


def _turned(cell: Cell) -> tuple[str, ...]:
    """What brings the filter of a transposed convolution into the order that JAX takes: see `jax_transposed.turned`."""
    groups = cell.conv.groups
    return (
        "def turned(w):  # [C, K/g, *kernel] as [K, C/g, *kernel], reversed in space; the same again turns it back",
        "    first, second, *kernel = w.shape",
        f"    split = w.reshape({groups}, first // {groups}, second, *kernel).swapaxes(1, 2)",
        f"    swapped = split.reshape({groups} * second, first // {groups}, *kernel)",
        "    return np.ascontiguousarray(np.flip(swapped, tuple(range(2, w.ndim))))",
        "",
    )


def _convolution(cell: Cell) -> tuple[str, ...]:
    spec, last = cell.conv, f"precision=jax.lax.Precision.{_precision(cell)}"
    rest = f"rhs_dilation={spec.dilation}, dimension_numbers={_numbers(cell)},"
    name, told = "conv_general_dilated", f"x, w, {spec.stride}, {spec.padding}, {rest}"
    ending = f"feature_group_count={spec.groups}, {last},"
    if cell.spec.transposed and spec.groups == 1:
        name, told, ending = "conv_transpose", f"x, w, {spec.stride}, {jax_transposed.pads(spec)}, {rest}", f"{last},"
    elif cell.spec.transposed:  # lax.conv_transpose takes no groups
        told = f"x, w, {(1,) * spec.ndim}, {jax_transposed.pads(spec)}, lhs_dilation={spec.stride}, {rest}"
    return (
        "def convolution(x, w):",
        f"    return jax.lax.{name}(",
        f"        {told}",
        f"        {ending}",
        "    )",
        "",
        *_finished(cell),
    )


def _finished(cell: Cell) -> tuple[str, ...]:
    """The forward pass where it is more than the convolution."""
    if _forward(cell) == "convolution":
        return ()
    y = "convolution(x, w)" + " + b" * (cell.bias is Bias.CHANNEL)
    y = y if cell.epilogue is Epilogue.NONE else f"jax.nn.{cell.epilogue}({y})"
    return ("", f"def forward({', '.join(_given(cell))}):", f"    return {y}", "")


def _forward(cell: Cell) -> str:
    """The name of the function that makes y."""
    return "convolution" if cell.bias is Bias.NONE and cell.epilogue is Epilogue.NONE else "forward"


def _precision(cell: Cell) -> str:
    """DEFAULT lets XLA use TF32 on a GPU; HIGHEST forbids it."""
    return "HIGHEST" if cell.precision in (Precision.FP32, Precision.FP64) else "DEFAULT"


def _numbers(cell: Cell) -> tuple[str, str, str]:
    """The letters of the dimensions of x, w and y."""
    spatial = {1: "W", 2: "HW", 3: "DHW"}[cell.conv.ndim]
    activations = cell.layout.text(cell.conv.ndim)
    return activations, f"{spatial}IO" if cell.layout is Layout.CHANNELS_LAST else f"OI{spatial}", activations


def _call(cell: Cell) -> tuple[str, ...]:
    compiled, forward, given = cell.mode is Mode.COMPILED, _forward(cell), _given(cell)
    names, tensors = ", ".join(given), ", ".join(f"t{name}" for name in given)
    gradients = ", ".join(f"d{name}" for name in given)
    match cell.direction:
        case Direction.FPROP:
            return (f"launch = partial({f'jax.jit({forward})' if compiled else forward}, {tensors})",)
        case Direction.DGRAD | Direction.WGRAD:
            return _gradient(cell)
    both = (
        f"def loss({names}):",
        f"    y = {forward}({names})",
        "    return jnp.mean(jnp.square(y)), y",
        "",
        "",
        f"def both({names}):",
        f"    (value, y), ({gradients}) = jax.value_and_grad(loss, argnums={tuple(range(len(given)))}, has_aux=True)({names})",
        f"    return y, value, {gradients}",
        "",
        "",
    )
    if cell.direction is Direction.TRAIN:
        return (*both, *_step(cell))
    return (*both, f"launch = partial({'jax.jit(both)' if compiled else 'both'}, {tensors})")


def _gradient(cell: Cell) -> tuple[str, ...]:
    """One gradient alone: the transpose of the convolution, in x with w at hand or in w with x.

    Un-jitted it is made before the call, so that its tracing is not timed.
    """
    in_x, names = cell.direction is Direction.DGRAD, ", ".join(_given(cell))
    variables: tuple[str, ...] = ("x",) if in_x else _given(cell)[1:]
    other = "w" if in_x else "x"
    inner, whole = ", ".join(variables), "" if len(variables) > 1 else "[0]"
    shapes = [f"jax.ShapeDtypeStruct(t{variables[0]}.shape, t{variables[0]}.dtype)"]
    shapes += [f"jax.ShapeDtypeStruct({_bias_shape(cell)}, {_dtype(cell)})"] if "b" in variables else []
    like = f"like = [{', '.join(shapes)}]"
    if cell.mode is Mode.EAGER:
        kept = ", ".join(f"t{name}" if name == other else name for name in _given(cell))
        return (
            like,
            f"transposed = jax.linear_transpose(lambda {inner}: {_forward(cell)}({kept}), *like)",
            f"launch = partial(lambda dy: transposed(dy){whole}, tdy)",
        )
    return (
        like,
        "",
        "",
        "@jax.jit",
        f"def gradient(dy, {other}):",
        f"    return jax.linear_transpose(lambda {inner}: {_forward(cell)}({names}), *like)(dy){whole}",
        "",
        "",
        f"launch = partial(gradient, tdy, t{other})",
    )


def _step(cell: Cell) -> tuple[str, ...]:
    """A training step: the filter lives in the optimizer's state, which each step hands on to the next."""
    made = f"sgd({base.LEARNING_RATE})"
    if cell.optimizer is Optimizer.ADAM:
        made = f"adam({base.LEARNING_RATE}, {base.ADAM_BETA1}, {base.ADAM_BETA2}, {base.ADAM_EPSILON})"
    given = _given(cell)
    biased, gradients = len(given) > 2, ", ".join(f"d{name}" for name in given[1:])
    held, changed, first = ("*params(state)", f"({gradients})", "(tw, tb)") if biased else ("params(state)", gradients, "tw")
    zero = "0" if cell.mode is Mode.EAGER else "jax.device_put(np.int32(0), device)"
    return (
        f"init, update, params = optimizers.{made}",
        "",
        "",
        *(("@jax.jit",) if cell.mode is Mode.COMPILED else ()),
        "def step(index, x, state):",
        f"    y, value, dx, {gradients} = both(x, {held})",
        f"    return index + 1, (y, value, dx, {gradients}, update(index, {changed}, state))",
        "",
        "",
        "def reset():",
        "    global state, steps",
        f"    state, steps = jax.block_until_ready((init({first}), {zero}))",
        "",
        "",
        "def launch():",
        "    global state, steps",
        "    steps, results = step(steps, tx, state)",
        "    state = results[-1]",
        "    return results",
    )


def _result(cell: Cell) -> tuple[str, ...]:
    last, names = cell.layout is Layout.CHANNELS_LAST, cell.outputs

    def canonical(name: str) -> str:
        """An expression for an output, whose handle has its name."""
        text = f"host({name})"
        if name in ("db", "b"):
            return f"{text}.reshape(-1)"
        if not last:
            laid = text
        else:
            laid = f"np.moveaxis({text}, (-1, -2), (0, 1))" if name in ("dw", "w") else f"np.moveaxis({text}, -1, 1)"
        return f"turned({laid})" if cell.spec.transposed and name in ("dw", "w") else laid

    values = ", ".join(f'"{name}": {"float(loss)" if name == "loss" else canonical(name)}' for name in names)
    unpacked: tuple[str, ...] = (f"    {', '.join(names)} = handle",)
    if cell.direction is Direction.TRAIN:  # filter and bias are in the optimizer's state
        kept = [name for name in names if name not in UPDATED]
        unpacked = (f"    {', '.join(kept)}, held = handle", f"    {', '.join(_given(cell)[1:])} = params(held)")
    short = cell.precision.itemsize < 4
    return (
        "def host(array):",
        f"    return np.asarray(array{'.astype(jnp.float32)' if short else ''}).astype(np.float64)",
        "",
        "",
        "def result(handle):",
        *unpacked,
        f"    return {{{values}}}",
    )


def _op(cell: Cell) -> str:
    name = "lax.conv_general_dilated"
    if cell.spec.transposed:
        name = "lax.conv_transpose" if cell.conv.groups == 1 else f"{name}(lhs_dilation)"
    name, y = (f"{name} + b", f"({name} + b)") if cell.bias is Bias.CHANNEL else (name, name)
    text = {
        Direction.FPROP: name if cell.epilogue is Epilogue.NONE else f"jax.nn.{cell.epilogue}({name})",
        Direction.DGRAD: f"linear_transpose({name}) in x",
        Direction.WGRAD: f"linear_transpose({name}) in w{' and b' if cell.bias is Bias.CHANNEL else ''}",
        Direction.BPROP: f"value_and_grad(mean({y}^2))",
        Direction.TRAIN: f"value_and_grad(mean({y}^2)), optimizers.{cell.optimizer}",
    }[cell.direction]
    return f"jax.jit({text})" if cell.mode is Mode.COMPILED else text


def reason(cell: Cell) -> str:
    """Why another call is timed than the one that users make: see `Backend.op_reason`."""
    reasons = []
    if cell.direction in (Direction.DGRAD, Direction.WGRAD):
        brings, alone = "jax.vjp brings the forward pass with a gradient", "the transpose of the convolution is called alone"
        eager = cell.mode is Mode.EAGER
        reasons.append(f"{brings}, so {alone}" if eager else f"{alone}, as without jax.jit, where {brings}")
    if cell.spec.transposed and cell.conv.groups > 1:
        reasons.append("lax.conv_transpose takes no groups, so a convolution of an x that is dilated by the stride is called")
    return "; ".join(reasons)
