"""Which functions of PyTorch make a pass of a convolution, and what they are told beside its tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from harness.axes import Bias, Direction, Epilogue
from harness.spec import Cell, TransposedSpec

Function = Callable[..., Any]
Named = tuple[str, Function, tuple[Any, ...]]  # the text of a call, its function, and the arguments behind the tensors


def forward(torch: Any, cell: Cell, pads: tuple[int, ...]) -> Named:
    """The forward pass, whose tensors are x, w and, where there is one, the bias."""
    spec, functional = cell.conv, torch.nn.functional
    name = f"conv{'_transpose' if cell.spec.transposed else ''}{spec.ndim}d"
    text, conv = f"F.{name}", getattr(functional, name)
    told: tuple[Any, ...] = (spec.stride, pads, spec.dilation, spec.groups)
    if isinstance(cell.spec, TransposedSpec):
        told = (spec.stride, pads, cell.spec.sizes["output_padding"], spec.groups, spec.dilation)
    if cell.bias is Bias.CHANNEL:
        text = f"{text}(bias=b)"
    else:
        told = (None, *told)
    if cell.epilogue is Epilogue.RELU:  # PyTorch has no public call of both
        relu = functional.relu
        return f"{text}, F.relu", lambda *given: relu(conv(*given)), told
    return text, conv, told


def gradient(torch: Any, cell: Cell, pads: tuple[int, ...]) -> Named:
    """One gradient alone, or those of filter and bias; the tensors are dy, x and w."""
    spec, transposed = cell.conv, cell.spec.transposed
    more = cell.spec.sizes["output_padding"] if isinstance(cell.spec, TransposedSpec) else (0,) * spec.ndim
    sizes = list(cell.operand_shapes["b"]) if "db" in cell.outputs else None
    mask = [cell.direction is Direction.DGRAD, cell.direction is Direction.WGRAD, "db" in cell.outputs]
    how = f"transposed=True, output_mask={mask}" if transposed else f"output_mask={mask}"
    geometry = (list(spec.stride), list(pads), list(spec.dilation), transposed, list(more))
    told = (sizes, *geometry, spec.groups, mask)
    return f"aten.convolution_backward({how})", torch.ops.aten.convolution_backward, told


def loss(conv: Function, told: tuple[Any, ...], biased: bool) -> Function:
    """The forward pass and the loss of its result, as a function of x, w and the bias where there is one."""

    def forward_loss(x: Any, w: Any) -> tuple[Any, Any]:
        y = conv(x, w, *told)
        return y, y.square().mean()

    def biased_forward_loss(x: Any, w: Any, b: Any) -> tuple[Any, Any]:
        y = conv(x, w, b, *told)
        return y, y.square().mean()

    return biased_forward_loss if biased else forward_loss


def step(forward_loss: Function, optimizer: Any, x: Any, w: Any, b: Any = None) -> Callable[[], Any]:
    """A training step on the filter, and on the bias where there is one."""

    def launch() -> Any:
        x.grad = w.grad = None
        y, loss = forward_loss(x, w)
        loss.backward()
        optimizer.step()
        return y, loss, x.grad, w.grad, w

    def biased_launch() -> Any:
        x.grad = w.grad = b.grad = None
        y, loss = forward_loss(x, w, b)
        loss.backward()
        optimizer.step()
        return y, loss, x.grad, w.grad, b.grad, w, b

    return launch if b is None else biased_launch
