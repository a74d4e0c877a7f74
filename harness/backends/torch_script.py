"""The call of a cell in PyTorch as a program of its own: what `torch.TorchConvolution` does, its numbers written out."""

from __future__ import annotations

from harness.axes import Autotune, Direction, Layout, Mode, Optimizer, Switch
from harness.backends import base
from harness.backends.base import DTYPES, Script
from harness.backends.torch_settings import fp32_precision
from harness.spec import Cell, ConvSpec, TransposedSpec


def script(cell: Cell) -> Script | None:
    """The program of a convolution; None for a cell that PyTorch has no call for."""
    if not cell.is_convolution or cell.mode not in (Mode.EAGER, Mode.COMPILED):
        return None
    if cell.layout is Layout.CHANNELS_LAST and cell.conv.ndim == 1:
        return None
    if cell.spec.transposed and not cell.spec.pads_evenly:
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
    lines = ["from functools import partial"] if cell.direction.single else []
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
    if not spec.pads_evenly:
        flat = [side for pair in reversed(spec.padding) for side in pair]
        lines.append("# Asymmetric padding is no argument of any convolution here: x is padded beforehand.")
        lines.append(f"tx = F.pad(tx, {flat}).to(memory_format=torch.{formats[cell.layout]})")
    if not cell.direction.single:
        lines += ["tx.requires_grad_()", "tw.requires_grad_()"]
    return tuple(lines)


def _call(cell: Cell) -> tuple[str, ...]:
    spec, compiled = cell.conv, cell.mode is Mode.COMPILED
    pads = tuple(lo for lo, _ in spec.padding) if spec.pads_evenly else (0,) * spec.ndim
    transposed, more = cell.spec.transposed, (0,) * spec.ndim
    rest = f"None, {spec.stride}, {pads}, {spec.dilation}, {spec.groups}"
    if isinstance(cell.spec, TransposedSpec):
        more = cell.spec.sizes["output_padding"]
        rest = f"None, {spec.stride}, {pads}, {more}, {spec.groups}, {spec.dilation}"
    convolution = _name(cell)
    match cell.direction:
        case Direction.FPROP:
            return _single(convolution, ("x", "w"), rest, compiled)
        case Direction.DGRAD | Direction.WGRAD:
            mask = [cell.direction is Direction.DGRAD, cell.direction is Direction.WGRAD, False]
            geometry = f"{list(spec.stride)}, {list(pads)}, {list(spec.dilation)}, {transposed}, {list(more)}, {spec.groups}"
            return _single("torch.ops.aten.convolution_backward", ("dy", "x", "w"), f"None, {geometry}, {mask}", compiled)
    forward = (
        "def forward_loss(x, w):",
        f"    y = {convolution}(x, w, {rest})",
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
        "    y, loss = forward_loss(tx, tw)",
        "    return (y, loss, *torch.autograd.grad(loss, (tx, tw)))",
    )


def _single(function: str, names: tuple[str, ...], rest: str, compiled: bool) -> tuple[str, ...]:
    """One op; eager without a function around it, which would be timed with it."""
    tensors = ", ".join(f"t{name}" for name in names)
    if not compiled:
        return (f"launch = partial({function}, {tensors}, {rest})",)
    inner = ", ".join(names)
    return (
        f"call = torch.compile(lambda {inner}: {function}({inner}, {rest}), dynamic=False, fullgraph=True)",
        f"launch = partial(call, {tensors})",
    )


def _step(cell: Cell) -> tuple[str, ...]:
    """A training step, and what brings back the filter and the optimizer's slots, which the first step makes."""
    rate, betas = base.LEARNING_RATE, (base.ADAM_BETA1, base.ADAM_BETA2)
    adam = cell.optimizer is Optimizer.ADAM
    slots = (
        "        for slots in optimizer.state.values():",
        "            for slot in slots.values():",
        "                slot.zero_()",
    )
    return (
        f"optimizer = torch.optim.Adam([tw], lr={rate}, betas={betas}, eps={base.ADAM_EPSILON})"
        if adam
        else f"optimizer = torch.optim.SGD([tw], lr={rate})",
        "first_w = tw.detach().clone()",
        "",
        "",
        "def reset():",
        "    with torch.no_grad():",
        "        tw.copy_(first_w)",
        *(slots if adam else ()),
        "",
        "",
        "def launch():",
        "    tx.grad = tw.grad = None",
        "    y, loss = forward_loss(tx, tw)",
        "    loss.backward()",
        "    optimizer.step()",
        "    return y, loss, tx.grad, tw.grad, tw",
    )


def _result(cell: Cell) -> tuple[str, ...]:
    names = cell.direction.outputs
    cut = "" if cell.conv.pads_evenly else f"[:, :, {_inside(cell.conv)}]"
    values = ", ".join(f'"{name}": host({name}){cut if name == "dx" else ""}' for name in names)
    # Of (dx, dw, db) the mask leaves one.
    of_three = {Direction.DGRAD: "dx, _, _", Direction.WGRAD: "_, dw, _"}
    unpacked = of_three.get(cell.direction, ", ".join(names))
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
    spec, name = cell.conv, _name(cell)
    gradient = f"aten.convolution_backward({'transposed=True, ' if cell.spec.transposed else ''}output_mask={{}})"
    text = {
        Direction.FPROP: name,
        Direction.DGRAD: gradient.format([True, False, False]),
        Direction.WGRAD: gradient.format([False, True, False]),
        Direction.BPROP: f"{name}, mean(y^2), autograd.grad",
        Direction.TRAIN: f"{name}, mean(y^2), backward, optim.{cell.optimizer}.step",
    }[cell.direction]
    if cell.mode is Mode.COMPILED:
        compiled, comma, rest = text.partition(", backward")
        text = f"torch.compile({compiled}){comma}{rest}"
    return text + ("" if spec.pads_evenly else " on x padded beforehand")
