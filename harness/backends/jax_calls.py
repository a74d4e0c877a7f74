"""The functions of JAX that make a pass of a convolution, of its operands, before they are jitted or dispatched op by op."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from harness.axes import Bias, Direction, Epilogue
from harness.backends import jax_transposed
from harness.spec import Cell

Function = Callable[..., Any]


class Calls:
    """What is made of the forward call of a cell: `parameters` are its filter and, where there is one, its bias."""

    def __init__(self, jax: Any, cell: Cell, numbers: tuple[str, str, str], precision: Any) -> None:
        self._jax, self._cell, self._biased = jax, cell, cell.bias is Bias.CHANNEL
        plain, self.convolution = self._plain(numbers, precision)
        self._name = f"{plain} + b" if self._biased else plain
        self.forward = self._forward()

    def _plain(self, numbers: tuple[str, str, str], precision: Any) -> tuple[str, Function]:
        """The name of the convolution, and the function of (x, w)."""
        spec, lax = self._cell.conv, self._jax.lax
        if self._cell.spec.transposed:
            return jax_transposed.call(lax, spec, numbers, precision)

        def convolution(x: Any, w: Any) -> Any:
            return lax.conv_general_dilated(
                x, w, spec.stride, spec.padding, rhs_dilation=spec.dilation, dimension_numbers=numbers,
                feature_group_count=spec.groups, precision=precision,
            )  # fmt: skip

        return "lax.conv_general_dilated", convolution

    def _forward(self) -> Function:
        """The forward pass, of (x, w) or (x, w, b), where b has the shape that y's channels are broadcast by."""
        convolution, relu = self.convolution, self._jax.nn.relu if self._cell.epilogue is Epilogue.RELU else None
        if relu is None:
            return (lambda x, w, b: convolution(x, w) + b) if self._biased else convolution
        return (lambda x, w, b: relu(convolution(x, w) + b)) if self._biased else lambda x, w: relu(convolution(x, w))

    @property
    def text(self) -> str:
        """The call that is timed, as text, before it is jitted."""
        name, y = self._name, f"({self._name})" if self._biased else self._name
        return {
            Direction.FPROP: name if self._cell.epilogue is Epilogue.NONE else f"jax.nn.relu({name})",
            Direction.DGRAD: f"linear_transpose({name}) in x",
            Direction.WGRAD: f"linear_transpose({name}) in w{' and b' if self._biased else ''}",
            Direction.BPROP: f"value_and_grad(mean({y}^2))",
            Direction.TRAIN: f"value_and_grad(mean({y}^2)), optimizers.{self._cell.optimizer}",
        }[self._cell.direction]

    def transpose(self, other: Any, like: tuple[Any, ...]) -> Function:
        """The gradient as a function of dy: the transpose of the convolution in x with `other` = w, or in the others with x.

        `like` has the shapes of what it is transposed in.
        """
        forward = self.forward
        if self._cell.direction is Direction.DGRAD:
            return self._transposed(lambda x: forward(x, other), like)
        if self._biased:
            return self._transposed(lambda w, b: forward(other, w, b), like)
        return self._transposed(lambda w: forward(other, w), like)

    def _transposed(self, function: Function, like: tuple[Any, ...]) -> Function:
        shapes = (self._jax.ShapeDtypeStruct(array.shape, array.dtype) for array in like)
        transposed: Function = self._jax.linear_transpose(function, *shapes)
        return transposed

    def both(self, x: Any, *parameters: Any) -> Any:
        """Forward pass, loss and all gradients."""
        places = tuple(range(1 + len(parameters)))
        (loss, y), gradients = self._jax.value_and_grad(self._loss, argnums=places, has_aux=True)(x, *parameters)
        return (y, loss, *gradients)

    def _loss(self, x: Any, *parameters: Any) -> tuple[Any, Any]:
        y = self.forward(x, *parameters)
        return self._jax.numpy.mean(self._jax.numpy.square(y)), y

    def step(self, params: Function, update: Function) -> Function:
        """A training step of an optimizer: (the number of the next step, what it leaves), of a number, x and its state.

        The state holds the filter, or the pair of filter and bias; returned beside it these would be copied.
        """

        def counted(index: Any, x: Any, state: Any) -> Any:
            held = params(state)
            y, loss, dx, *gradients = self.both(x, *(held if self._biased else (held,)))
            changed = update(index, tuple(gradients) if self._biased else gradients[0], state)
            return index + 1, (y, loss, dx, *gradients, changed)

        return counted
