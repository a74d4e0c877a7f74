"""The call of a cell in PyTorch as a program of its own: what `torch.TorchConvolution` does, its numbers written out."""

from __future__ import annotations

from harness.axes import Api, Autotune, Bias, Direction, Epilogue, Layout, Mode, Optimizer, Switch
from harness.backends import base, torch_layer
from harness.backends.base import DTYPES, Script
from harness.backends.torch_settings import fp32_precision, lacks
from harness.spec import Cell, ConvSpec, TransposedSpec


def script(cell: Cell) -> Script | None:
    """The program of a convolution; None for a cell that PyTorch has no call for."""
    if not cell.is_convolution or cell.api not in (Api.DEFAULT, Api.LAYER) or lacks(cell):
        return None
    device, versions = "cpu", [("torch", "torch.__version__")]
    if cell.device.kind != "cpu":
        device = f"cuda:{cell.device.index}"
        versions += [("CUDA", "torch.version.cuda"), ("cuDNN", "torch.backends.cudnn.version()")]
    return Script(
        imports=_imports(cell),
        operands=_operands(cell, device),
        call=_call(cell),
        result=_result(cell),
        op=_op(cell),
        wait="" if cell.device.kind == "cpu" else f'lambda handle: torch.cuda.current_stream("{device}").synchronize()',
        versions=tuple(versions),
    )


def _imports(cell: Cell) -> tuple[str, ...]:
    wanted = fp32_precision(cell)
    lines = ["from functools import partial"] if cell.direction.single and not torch_layer.takes_one(cell) else []
    lines += ["import torch", "import torch.nn.functional as F", "", "torch.set_num_threads(THREADS)"]
    if cell.device.kind == "cpu":
        mkldnn = "torch.backends.mkldnn"
        if cell.switch is Switch.ONEDNN_OFF:
            lines.append(f"{mkldnn}.enabled = False")
        if cell.switch is Switch.FLUSH_DENORMALS:
            lines.insert(-1, "torch.set_flush_denormal(True)  # before there are threads, which inherit it")
        return (*lines, f'{mkldnn}.conv.fp32_precision = {mkldnn}.matmul.fp32_precision = "{wanted}"')
    asked = cell.autotune is not Autotune.DEFAULT
    tries = (f"torch.backends.cudnn.benchmark = {cell.autotune is Autotune.ON}",) if asked else ()
    return (
        *lines,
        f'torch.set_float32_matmul_precision("{"high" if wanted == "tf32" else "highest"}")',
        f"torch.backends.cudnn.allow_tf32 = {wanted == 'tf32'}",
        f'torch.backends.cudnn.rnn.fp32_precision = torch.backends.cudnn.conv.fp32_precision = "{wanted}"',
        f'torch.backends.cuda.matmul.fp32_precision = "{wanted}"',
        *tries,
    )


def _operands(cell: Cell, device: str) -> tuple[str, ...]:
    spec, needed = cell.conv, ["x", "w", *(["dy"] if "dy" in cell.direction.reads else [])]
    formats = {Layout.CHANNELS_FIRST: "contiguous_format", Layout.CHANNELS_LAST: "channels_last" + "_3d" * (spec.ndim == 3)}
    lines = [
        "def tensor(array):",
        f'    made = torch.tensor(array, dtype=torch.{DTYPES[cell.precision]}, device="{device}")',
        f"    return made.to(memory_format=torch.{formats[cell.layout]})",
        "",
        "",
        f"{', '.join(f't{name}' for name in needed)} = {', '.join(f'tensor({name})' for name in needed)}",
    ]
    if "b" in cell.reads:
        lines.append(f'tb = torch.tensor(b, dtype=torch.{DTYPES[cell.precision]}, device="{device}")')
    if not spec.pads_evenly:
        flat = [side for pair in reversed(spec.padding) for side in pair]
        lines.append("# Asymmetric padding is no argument of any convolution here: x is padded beforehand.")
        lines.append(f"tx = F.pad(tx, {flat}).to(memory_format=torch.{formats[cell.layout]})")
    if cell.api is Api.LAYER:
        lines += _layer(cell)
    in_x, in_parameters = torch_layer.wanted(cell)
    asked = [*(["x"] if in_x else []), *(_given(cell)[1:] if in_parameters else ())]
    lines += [f"t{name}.requires_grad_()" for name in asked]
    return tuple(lines)


def _given(cell: Cell) -> tuple[str, ...]:
    """The operands of the forward pass."""
    return ("x", "w") if cell.bias is Bias.NONE else ("x", "w", "b")


def _layer(cell: Cell) -> tuple[str, ...]:
    """The lines that make the layer, whose weight is the filter; its bias is as drawn, or 0 where no result depends on it."""
    name, told = torch_layer.described(cell)
    arguments = ", ".join(f"{key}={value!r}" for key, value in told.items())
    frozen = "torch.nn.Parameter({}, requires_grad=False)"
    lines = [f"layer = torch.nn.{name}({arguments}, device='meta')", f"tw = layer.weight = {frozen.format('tw')}"]
    if cell.bias is Bias.CHANNEL:
        drawn = "tb" if "b" in cell.reads else f"tw.new_zeros({cell.operand_shapes['b'][0]})"
        lines.append(f"tb = layer.bias = {frozen.format(drawn)}")
    return tuple(lines)


def _call(cell: Cell) -> tuple[str, ...]:
    spec, compiled, given = cell.conv, cell.mode is Mode.COMPILED, _given(cell)
    pads = tuple(lo for lo, _ in spec.padding) if spec.pads_evenly else (0,) * spec.ndim
    transposed, more = cell.spec.transposed, (0,) * spec.ndim
    rest = f"{spec.stride}, {pads}, {spec.dilation}, {spec.groups}"
    if isinstance(cell.spec, TransposedSpec):
        more = cell.spec.sizes["output_padding"]
        rest = f"{spec.stride}, {pads}, {more}, {spec.groups}, {spec.dilation}"
    if cell.bias is Bias.NONE:
        rest = f"None, {rest}"
    match cell.direction:
        case Direction.FPROP if cell.api is Api.LAYER:
            return _of_layer(compiled, "partial({}, tx)")
        case Direction.DGRAD | Direction.WGRAD if cell.api is Api.LAYER:
            of = "tx" if cell.direction is Direction.DGRAD else "tw" if cell.bias is Bias.NONE else "(tw, tb)"
            return _of_layer(compiled, f"lambda: torch.autograd.grad({{}}(tx), {of}, tdy)")
        case Direction.FPROP:
            after = "" if cell.epilogue is Epilogue.NONE else f"F.{cell.epilogue}"
            return _single(_name(cell), given, rest, compiled, after)
        case Direction.DGRAD | Direction.WGRAD:
            sizes = list(cell.operand_shapes["b"]) if "db" in cell.outputs else None
            geometry = f"{list(spec.stride)}, {list(pads)}, {list(spec.dilation)}, {transposed}, {list(more)}, {spec.groups}"
            told = f"{sizes}, {geometry}, {_mask(cell)}"
            return _single("torch.ops.aten.convolution_backward", ("dy", "x", "w"), told, compiled)
    names, tensors = ", ".join(given), ", ".join(f"t{name}" for name in given)
    forward = (
        f"def forward_loss({names}):",
        f"    y = {'layer(x)' if cell.api is Api.LAYER else f'{_name(cell)}({names}, {rest})'}",
        "    return y, y.square().mean()",
        "",
        "",
        *(("forward_loss = torch.compile(forward_loss, dynamic=False, fullgraph=True)", "", "") if compiled else ()),
    )
    if cell.direction is Direction.TRAIN:
        return (*forward, *_step(cell))
    return (
        *forward,
        "def launch():",
        f"    y, loss = forward_loss({tensors})",
        f"    return (y, loss, *torch.autograd.grad(loss, ({tensors})))",
    )


def _mask(cell: Cell) -> list[bool]:
    """Which gradients `aten.convolution_backward` is asked for: of input, filter and bias."""
    return [cell.direction is Direction.DGRAD, cell.direction is Direction.WGRAD, "db" in cell.outputs]


def _of_layer(compiled: bool, launch: str) -> tuple[str, ...]:
    """The lines that launch the layer, or what is compiled of it, which stands for {} in `launch`."""
    if not compiled:
        return (f"launch = {launch.format('layer')}",)
    return ("call = torch.compile(lambda x: layer(x), dynamic=False, fullgraph=True)", f"launch = {launch.format('call')}")


def _single(function: str, names: tuple[str, ...], rest: str, compiled: bool, after: str = "") -> tuple[str, ...]:
    """One op, eager without a function around it, which would be timed, too; `after` is called on its result."""
    tensors, inner = ", ".join(f"t{name}" for name in names), ", ".join(names)
    if not compiled and not after:
        return (f"launch = partial({function}, {tensors}, {rest})",)
    called = f"{function}({inner}, {rest})"
    whole = f"lambda {inner}: {f'{after}({called})' if after else called}"
    if not compiled:
        return (f"launch = partial({whole}, {tensors})",)
    return (
        f"call = torch.compile({whole}, dynamic=False, fullgraph=True)",
        f"launch = partial(call, {tensors})",
    )


def _step(cell: Cell) -> tuple[str, ...]:
    """A training step, and what brings back the filter, the bias and the optimizer's slots, which the first step makes."""
    rate, betas = base.LEARNING_RATE, (base.ADAM_BETA1, base.ADAM_BETA2)
    adam, given = cell.optimizer is Optimizer.ADAM, _given(cell)
    told, gradients = ", ".join(f"t{name}" for name in given[1:]), ", ".join(f"t{name}.grad" for name in given)
    slots = (
        "        for slots in optimizer.state.values():",
        "            for slot in slots.values():",
        "                slot.zero_()",
    )
    return (
        f"optimizer = torch.optim.Adam([{told}], lr={rate}, betas={betas}, eps={base.ADAM_EPSILON})"
        if adam
        else f"optimizer = torch.optim.SGD([{told}], lr={rate})",
        *(f"first_{name} = t{name}.detach().clone()" for name in given[1:]),
        "",
        "",
        "def reset():",
        "    with torch.no_grad():",
        *(f"        t{name}.copy_(first_{name})" for name in given[1:]),
        *(slots if adam else ()),
        "",
        "",
        "def launch():",
        f"    {gradients.replace(', ', ' = ')} = None",
        f"    y, loss = forward_loss(tx, {told})",
        "    loss.backward()",
        "    optimizer.step()",
        f"    return y, loss, {gradients}, {told}",
    )


def _result(cell: Cell) -> tuple[str, ...]:
    names = cell.outputs
    cut = "" if cell.conv.pads_evenly else f"[:, :, {_inside(cell.conv)}]"
    values = ", ".join(f'"{name}": host({name}){cut if name == "dx" else ""}' for name in names)
    unpacked = ", ".join(names)
    if torch_layer.takes_one(cell):  # autograd gives as many as it is asked for
        unpacked = f"{unpacked},"
    elif cell.direction in (Direction.DGRAD, Direction.WGRAD):  # of three gradients the mask leaves some
        unpacked = ", ".join(name if name in names else "_" for name in ("dx", "dw", "db"))
    return (
        "def host(tensor):",
        '    return tensor.detach().to("cpu", torch.float64).numpy().copy()',
        "",
        "def result(handle):",
        f"    {unpacked} = handle",
        f"    return {{{values}}}",
    )


def _inside(spec: ConvSpec) -> str:
    """The slices of x within its padding."""
    return ", ".join(f"{lo}:{lo + size}" for size, (lo, _) in zip(spec.spatial, spec.padding, strict=True))


def _name(cell: Cell) -> str:
    return f"F.conv{'_transpose' if cell.spec.transposed else ''}{cell.conv.ndim}d"


def _op(cell: Cell) -> str:
    if cell.api is Api.LAYER:
        return torch_layer.text(cell)
    spec, name = cell.conv, _name(cell)
    gradient = f"aten.convolution_backward({'transposed=True, ' if cell.spec.transposed else ''}output_mask={_mask(cell)})"
    forward = name if cell.bias is Bias.NONE else f"{name}(bias=b)"
    text = {
        Direction.FPROP: forward if cell.epilogue is Epilogue.NONE else f"{forward}, F.{cell.epilogue}",
        Direction.DGRAD: gradient,
        Direction.WGRAD: gradient,
        Direction.BPROP: f"{forward}, mean(y^2), autograd.grad",
        Direction.TRAIN: f"{forward}, mean(y^2), backward, optim.{cell.optimizer}.step",
    }[cell.direction]
    if cell.mode is Mode.COMPILED:
        compiled, comma, rest = text.partition(", backward")
        text = f"torch.compile({compiled}){comma}{rest}"
    return text + ("" if spec.pads_evenly else " on x padded beforehand")


def reason(cell: Cell) -> str:
    """Why another call is timed than the one that users make: see `Backend.op_reason`."""
    reasons = []
    if torch_layer.takes_one(cell):
        alone = "a layer has no gradient but autograd's, so the forward pass is in the call, too"
        reasons.append(f"{alone}, and not the other gradient")
    elif cell.direction in (Direction.DGRAD, Direction.WGRAD):
        reasons.append("autograd brings the forward pass with a gradient, so the op behind it is called for one gradient alone")
    if not (cell.spec.transposed or cell.spec.pads_evenly):
        told = "PyTorch's convolutions take the same padding on both sides of a dimension only"
        reasons.append(f"{told}, so x is padded before the clock starts")
    return "; ".join(reasons)
