"""The layer objects of PyTorch as what is called: `nn.Conv2d` and its kin, whose weight and bias are the cell's own.

Their gradients are autograd's. One gradient alone comes with the forward pass before it, and only what is asked for is marked
to have one, as in a first layer or a frozen one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from harness.axes import Api, Bias, Direction, Mode
from harness.backends import torch_calls
from harness.spec import Cell, TransposedSpec


def described(cell: Cell) -> tuple[str, Mapping[str, Any]]:
    """The class of a cell's layer in `torch.nn`, and what it is made with, but for its device."""
    spec = cell.conv
    sizes = (spec.k, spec.c) if cell.spec.transposed else (spec.c, spec.k)
    told: dict[str, Any] = {"in_channels": sizes[0], "out_channels": sizes[1], "kernel_size": spec.kernel}
    pads = tuple(lo for lo, _ in spec.padding) if spec.pads_evenly else (0,) * spec.ndim
    told |= {"stride": spec.stride, "padding": pads, "dilation": spec.dilation, "groups": spec.groups}
    told["bias"] = cell.bias is Bias.CHANNEL
    if isinstance(cell.spec, TransposedSpec):
        told["output_padding"] = cell.spec.sizes["output_padding"]
    return f"Conv{'Transpose' if cell.spec.transposed else ''}{spec.ndim}d", told


def takes_one(cell: Cell) -> bool:
    """Whether the call makes one gradient alone by autograd, with the forward pass before it."""
    return cell.api is Api.LAYER and cell.direction in (Direction.DGRAD, Direction.WGRAD)


def wanted(cell: Cell) -> tuple[bool, bool]:
    """Whether autograd is to make the gradient of x, and those of w and a bias, whatever is called."""
    both, one = cell.direction in (Direction.BPROP, Direction.TRAIN), cell.direction if takes_one(cell) else None
    return both or one is Direction.DGRAD, both or one is Direction.WGRAD


def text(cell: Cell) -> str:
    """The name of the call."""
    name, of = f"nn.{described(cell)[0]}", "w"
    if cell.bias is Bias.CHANNEL:
        name, of = f"{name}(bias=True)", "w and b"
    named = {
        Direction.FPROP: name,
        Direction.DGRAD: f"{name}, autograd.grad of x",
        Direction.WGRAD: f"{name}, autograd.grad of {of}",
        Direction.BPROP: f"{name}, mean(y^2), autograd.grad",
        Direction.TRAIN: f"{name}, mean(y^2), backward, optim.{cell.optimizer}.step",
    }[cell.direction]
    if cell.mode is Mode.COMPILED:
        compiled, comma, rest = named.partition(", backward")
        named = f"torch.compile({compiled}){comma}{rest}"
    return named + ("" if cell.spec.transposed or cell.spec.pads_evenly else " on x padded beforehand")


def called(
    torch: Any, cell: Cell, operands: tuple[Any, ...], optimizer: Any, compiled: Callable[..., Any]
) -> tuple[str, Callable[[], Any]]:  # fmt: skip
    """The name of the call, and the call of (x, w, dy) or (x, w, b, dy); `compiled` compiles a function.

    The parameters w and b become those of the layer.
    """
    (name, told), (x, *parameters, dy), named = described(cell), operands, text(cell)
    layer, grad = getattr(torch.nn, name)(**told, device="meta"), torch.autograd.grad  # on a real device it would draw a weight
    layer.weight = parameters[0]
    if cell.bias is Bias.CHANNEL:
        layer.bias = parameters[1]
    if cell.direction.single:
        forward = compiled(lambda x: layer(x)) if cell.mode is Mode.COMPILED else layer
        if cell.direction is Direction.FPROP:
            return named, partial(forward, x)
        of = x if cell.direction is Direction.DGRAD else parameters
        return named, lambda: grad(forward(x), of, dy)

    def loss_of(x: Any, w: Any, b: Any = None) -> tuple[Any, Any]:
        y = layer(x)
        return y, y.square().mean()

    both = compiled(loss_of) if cell.mode is Mode.COMPILED else loss_of

    given = (x, *parameters)

    def gradients() -> Any:
        y, loss = both(*given)
        return (y, loss, *grad(loss, given))

    return named, torch_calls.step(both, optimizer, *given) if cell.direction is Direction.TRAIN else gradients
