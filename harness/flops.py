"""FLOP and least bytes of a workload, from its shape alone. Each formula with its source; a multiply-add is two FLOP.

Never a framework's own counter: torch's FlopCounterMode over-counts the grouped filter gradient by `groups`
(pytorch#183405), XLA on CPU a depthwise convolution about seven times.
"""

import math

from harness.axes import UPDATED, Bias, Epilogue, Optimizer
from harness.spec import Cell
from harness.workload import Spec


def nominal(spec: Spec) -> int:
    """FLOP of one pass, 2 * N * K * P * Q * (C/g) * R * S; the same for fprop, dgrad and wgrad.

    What a bias and an epilogue add is not counted, so that rates of the same convolution can be compared.

    Source: what DeepBench, MIOpen and TensorFlow's profiler count. Taps that fall into the padding are counted too. A matrix
    product has 2 * m * n * k, a copy none.
    """
    return 2 * spec.multiply_adds


def exact(spec: Spec) -> int:
    """FLOP of one pass without the taps that fall into the padding."""
    return 2 * spec.multiply_adds_inside


def beside(cell: Cell) -> tuple[int, ...]:
    """The FLOP that a framework may count of a single pass beside the convolution: none, or those of one or both.

    A bias is one for each element of y or dy, and so is an epilogue. Source: XLA's cost analysis, which counts an addition, a
    maximum and each step of a sum so.
    """
    biased = cell.bias is Bias.CHANNEL and ("b" in cell.reads or "db" in cell.outputs)
    operations = biased + (cell.epilogue is not Epilogue.NONE)
    return tuple(times * math.prod(cell.operand_shapes["dy"]) for times in range(operations + 1))


def result_bytes(cell: Cell) -> int:
    """Bytes of what a call leaves behind: y, dx or dw alone; y, dx and dw together; the updated w and slots beside them."""
    return _bytes(cell, *cell.results.values()) + _slots(cell)


def least_bytes(cell: Cell) -> int:
    """Least traffic of a call: each operand read once, each result written once, no im2col expansion."""
    operands = cell.operand_shapes
    return _bytes(cell, *(operands[name] for name in cell.reads)) + _slots(cell) + result_bytes(cell)


def _bytes(cell: Cell, *shapes: tuple[int, ...]) -> int:
    return sum(map(math.prod, shapes)) * cell.precision.itemsize


def _slots(cell: Cell) -> int:
    """Bytes of the two moments that Adam keeps of each element of the filter and of the bias."""
    updated = [shape for name, shape in cell.results.items() if name in UPDATED]
    return 2 * _bytes(cell, *updated) if cell.optimizer is Optimizer.ADAM else 0
