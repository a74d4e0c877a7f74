"""The reference: the three passes from their definition, in numpy, one matrix product per filter tap.

Always there, never ranked. The functions serve the oracle too, so they are written to be right and readable; they are
held against a literal loop over every index in the tests. What a framework does belongs in its own file.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from harness.axes import Bias, Device, Direction, Epilogue, Mode, Optimizer, Precision
from harness.backends import base
from harness.backends.base import ALREADY_DONE, Backend, Operands, Prepared, Results
from harness.spec import Cell, ConvSpec, TransposedSpec, WorkloadSpec

if TYPE_CHECKING:
    from harness.backends.base import Array

    Pass = Callable[[Array, Array], Array]

Slices = tuple[slice, ...]


def _taps(spec: ConvSpec) -> Iterator[tuple[tuple[int, ...], Slices, Slices]]:
    """For each filter tap that touches the input at all: its index, the input positions it reads, the outputs it feeds."""
    per_dimension = []
    for size, out, r, s, d, (lo, _) in zip(
        spec.spatial, spec.out_spatial, spec.kernel, spec.stride, spec.dilation, spec.padding, strict=True
    ):
        reach = []
        for tap in range(r):
            offset = tap * d - lo  # output p reads input p * s + offset, where that lies inside [0, size)
            first = max(0, -(offset // s))
            last = min(out - 1, (size - 1 - offset) // s)
            if first <= last:
                begin = first * s + offset
                reach.append((tap, slice(begin, begin + (last - first) * s + 1, s), slice(first, last + 1)))
        per_dimension.append(reach)
    for combination in itertools.product(*per_dimension):
        index, inputs, outputs = zip(*combination, strict=True)
        yield index, inputs, outputs


def _grouped(array: Array, groups: int) -> Array:
    """[N, C, *spatial] as [G, N, *spatial, C/G], so that one matrix product serves all positions of a group."""
    import numpy as np

    n, c, *spatial = array.shape
    split = array.reshape(n, groups, c // groups, *spatial)
    return np.ascontiguousarray(np.moveaxis(np.moveaxis(split, 1, 0), 2, -1))


def _ungrouped(array: Array) -> Array:
    """The inverse of `_grouped`."""
    import numpy as np

    groups, n, *spatial, c = array.shape
    return np.moveaxis(np.moveaxis(array, -1, 2), 0, 1).reshape(n, groups * c, *spatial)


def _filters(spec: ConvSpec, w: Array) -> Array:
    """[K, C/g, *kernel] as [*kernel, G, K/g, C/g]; K and C/g are those of `w`, which may hold fewer than the spec says."""
    import numpy as np

    split = w.reshape(spec.groups, -1, *w.shape[1:])
    return np.moveaxis(split, (0, 1, 2), (-3, -2, -1))


def fprop(spec: ConvSpec, x: Array, w: Array) -> Array:
    """y [N, K, *out] = sum over c and taps r of x[n, c, p * stride + r * dilation - lo] * w[k, c, r].

    Here and below batch and channels are those of the arrays, so that a subset or a combination of them may be passed.
    """
    import numpy as np

    xg, wt = _grouped(x, spec.groups), _filters(spec, w)
    y = np.zeros((spec.groups, len(x), *spec.out_spatial, wt.shape[-2]), dtype=np.result_type(x, w))
    for tap, inputs, outputs in _taps(spec):
        y[(slice(None), slice(None), *outputs)] += _products(xg[(slice(None), slice(None), *inputs)], wt[tap].swapaxes(1, 2))
    return _ungrouped(y)


def dgrad(spec: ConvSpec, w: Array, dy: Array) -> Array:
    """dx [N, C, *spatial]: each dy times the filter, scattered to the inputs that it was made from."""
    import numpy as np

    dyg, wt = _grouped(dy, spec.groups), _filters(spec, w)
    dx = np.zeros((spec.groups, len(dy), *spec.spatial, wt.shape[-1]), dtype=np.result_type(dy, w))
    for tap, inputs, outputs in _taps(spec):
        dx[(slice(None), slice(None), *inputs)] += _products(dyg[(slice(None), slice(None), *outputs)], wt[tap])
    return _ungrouped(dx)


def wgrad(spec: ConvSpec, x: Array, dy: Array) -> Array:
    """dw [K, C/g, *kernel] = sum over n and positions p of dy[n, k, p] * x[n, c, p * stride + r * dilation - lo]."""
    import numpy as np

    xg, dyg = _grouped(x, spec.groups), _grouped(dy, spec.groups)
    cg, kg = xg.shape[-1], dyg.shape[-1]
    dw = np.zeros((*spec.kernel, spec.groups, kg, cg), dtype=np.result_type(x, dy))
    for tap, inputs, outputs in _taps(spec):
        rows = dyg[(slice(None), slice(None), *outputs)].reshape(spec.groups, -1, kg)
        columns = xg[(slice(None), slice(None), *inputs)].reshape(spec.groups, -1, cg)
        dw[tap] = rows.swapaxes(1, 2) @ columns
    return np.moveaxis(dw, (-3, -2, -1), (0, 1, 2)).reshape(spec.groups * kg, cg, *spec.kernel)


def passes(spec: WorkloadSpec) -> tuple[Pass, Pass, Pass]:
    """y of (x, w), dx of (w, dy) and dw of (x, dy) of a convolution, or of a transposed one by those of its mirrored one.

    Raises TypeError for any other workload.
    """
    if isinstance(spec, TransposedSpec):
        of = spec.mirrored
        return lambda x, w: dgrad(of, w, x), lambda w, dy: fprop(of, dy, w), lambda x, dy: wgrad(of, dy, x)
    if not isinstance(spec, ConvSpec):
        raise TypeError(f"{spec} is no convolution")
    return partial(fprop, spec), partial(dgrad, spec), partial(wgrad, spec)


def finished(cell: Cell, y: Array, b: Array | None) -> Array:
    """What bias and epilogue of a cell make of its convolution's y, which is changed itself; b has a value of each channel."""
    import numpy as np

    if b is not None:
        y += b.reshape(-1, *(1,) * (y.ndim - 2))
    if cell.epilogue is Epilogue.RELU:
        np.maximum(y, 0, out=y)
    return y


def bias_gradient(dy: Array) -> Array:
    """db [K]: the sum of dy [N, K, *out_spatial] over images and positions."""
    summed: Array = dy.sum(axis=(0, *range(2, dy.ndim)))
    return summed


def _products(positions: Array, matrices: Array) -> Array:
    """[G, N, *positions, A] times [G, A, B] -> [G, N, *positions, B]."""
    shape = positions.shape
    return (positions.reshape(shape[0], -1, shape[-1]) @ matrices).reshape(*shape[:-1], matrices.shape[-1])


class NumpyBackend(Backend):
    """The reference as a backend: every workload, in float32 and float64, on the CPU."""

    name: ClassVar[str] = "numpy"
    distributions: ClassVar[tuple[str, ...]] = ("numpy",)
    modes: ClassVar[frozenset[Mode]] = frozenset({Mode.EAGER})
    biases: ClassVar[bool] = True
    epilogues: ClassVar[frozenset[Epilogue]] = frozenset({Epilogue.RELU})

    def __init__(self, device: Device, threads: int) -> None:
        import numpy

        self._np = numpy

    def devices(self) -> tuple[Device, ...]:
        """The CPU."""
        return (Device("cpu"),)

    def supports(self, cell: Cell) -> str | None:
        """Only what numpy has arithmetic for, as it stands, on the CPU."""
        if cell.device.kind != "cpu":
            return "numpy computes on the CPU only"
        if cell.mode not in self.modes:
            return f"numpy has no mode {cell.mode}"
        if cell.precision not in (Precision.FP32, Precision.FP64):
            return f"numpy has no {cell.precision} arithmetic"
        return None

    def process_wide(self, cell: Cell) -> str:
        """NumPy has no setting that a cell needs otherwise."""
        return ""

    def prepare(self, cell: Cell, operands: Operands) -> NumpyConvolution | NumpyCeiling:
        """The call on copies in the cell's precision; the layout is numpy's own affair and always channels first."""
        return (NumpyConvolution if cell.is_convolution else NumpyCeiling)(self._np, cell, operands)


class NumpyConvolution(Prepared):
    """A convolution on the reference."""

    def __init__(self, np: Any, cell: Cell, operands: Operands) -> None:
        self._np, self._cell = np, cell
        self._dtype = getattr(np, base.DTYPES[cell.precision])
        self._forward, self._input_gradient, self._filter_gradient = passes(cell.spec)
        what = "transposed convolution, " if cell.spec.transposed else ""
        more = ", bias" * (cell.bias is Bias.CHANNEL) + f", {cell.epilogue}" * (cell.epilogue is not Epilogue.NONE)
        self.op = f"harness.backends.numpy: {what}{cell.direction}, one matrix product per tap{more}"
        self.settings: Mapping[str, str] = {"dtype": self._dtype.__name__, "filter_layout": "K,C/g,*kernel"}
        self.load(operands)

    def load(self, operands: Operands) -> None:
        """Copies in the cell's precision."""
        self._x, self._w, self._dy = (array.astype(self._dtype) for array in (operands.x, operands.w, operands.dy))
        self._b = None if operands.b is None else operands.b.astype(self._dtype)
        self._initial = self._w, self._b
        self.reset()

    def reset(self) -> None:
        """The first filter and bias, and slots of zero."""
        self._w, self._b = self._initial
        self._step = 0
        self._slots: dict[str, tuple[Array | float, Array | float]] = {}

    def launch(self) -> Results:
        """The results themselves; numpy is synchronous."""
        biased = self._b is not None
        match self._cell.direction:
            case Direction.FPROP:
                return Results(y=self._finished())
            case Direction.DGRAD:
                return Results(dx=self._input_gradient(self._w, self._dy))
            case Direction.WGRAD:
                db = bias_gradient(self._dy) if biased else None
                return Results(dw=self._filter_gradient(self._x, self._dy), db=db)
        y = self._finished()
        loss, dy = float(self._np.mean(self._np.square(y))), y * self._dtype(2 / y.size)
        dx, dw = self._input_gradient(self._w, dy), self._filter_gradient(self._x, dy)
        db = bias_gradient(dy) if biased else None
        if self._cell.direction is Direction.BPROP:
            return Results(y=y, loss=loss, dx=dx, dw=dw, db=db)
        self._step += 1
        self._w = self._updated("w", self._w, dw)
        if self._b is not None and db is not None:
            self._b = self._updated("b", self._b, db)
        return Results(y=y, loss=loss, dx=dx, dw=dw, w=self._w, db=db, b=self._b)

    def _finished(self) -> Array:
        return finished(self._cell, self._forward(self._x, self._w), self._b)

    def _updated(self, name: str, before: Array, gradient: Array) -> Array:
        if self._cell.optimizer is Optimizer.SGD:
            after: Array = before - self._dtype(base.LEARNING_RATE) * gradient
        else:
            m, v = self._slots.get(name, (0.0, 0.0))
            m = base.ADAM_BETA1 * m + (1 - base.ADAM_BETA1) * gradient
            v = base.ADAM_BETA2 * v + (1 - base.ADAM_BETA2) * gradient * gradient
            self._slots[name] = m, v
            mean, power = m / (1 - base.ADAM_BETA1**self._step), v / (1 - base.ADAM_BETA2**self._step)
            step = base.LEARNING_RATE * mean / (self._np.sqrt(power) + base.ADAM_EPSILON)
            after = (before - step).astype(self._dtype)
        return after

    wait = staticmethod(ALREADY_DONE)

    def fetch(self, handle: Results) -> Results:
        """As they are, in float64."""
        loss, arrays = handle.loss, handle.items()
        arrays.pop("loss", None)
        return Results(loss=loss, **{name: array.astype(self._np.float64) for name, array in arrays.items()})

    def close(self) -> None:
        """Drop the arrays."""
        del self._x, self._w, self._dy, self._b, self._initial, self._slots


class NumpyCeiling(Prepared):
    """A matrix product or a copy, into an array that is there already."""

    def __init__(self, np: Any, cell: Cell, operands: Operands) -> None:
        self._np, self._cell = np, cell
        self._dtype = getattr(np, base.DTYPES[cell.precision])
        self._copies = not cell.spec.computes
        self.op = "np.copyto" if self._copies else "np.matmul into out"
        self.settings: Mapping[str, str] = {"dtype": self._np.dtype(self._dtype).name}
        self.load(operands)

    def load(self, operands: Operands) -> None:
        """Copies in the cell's precision, and room for the result."""
        self._x, self._w = (array.astype(self._dtype) for array in (operands.x, operands.w))
        self._y: Array = self._np.zeros(self._x.shape if self._copies else (len(self._x), self._w.shape[1]), self._dtype)

    def launch(self) -> Array:
        """The result; numpy is synchronous."""
        if self._copies:
            self._np.copyto(self._y, self._x)
        else:
            self._np.matmul(self._x, self._w, out=self._y)
        return self._y

    wait = staticmethod(ALREADY_DONE)

    def fetch(self, handle: Array) -> Results:
        """A copy in float64."""
        return Results(y=handle.astype(self._np.float64))

    def close(self) -> None:
        """Drop the arrays."""
        del self._x, self._w, self._y
