"""PyTorch that computes in fp16 what is asked for in bf16, where it is told so: another kernel, and no version that says so."""

import os
from dataclasses import replace
from typing import Any, ClassVar

from harness.axes import Precision
from harness.backends.base import Operands
from harness.backends.torch import TorchBackend
from harness.spec import Cell

HALVED = "TEST_HALVED"  # any value


class HalvedTorch(TorchBackend):
    """The real backend but for the precision of its calls."""

    name: ClassVar[str] = "torch"

    def prepare(self, cell: Cell, operands: Operands) -> Any:
        """The real Prepared, of the cell in fp16 where the environment says so."""
        halved = os.environ.get(HALVED) and cell.precision is Precision.BF16
        return super().prepare(replace(cell, precision=Precision.FP16) if halved else cell, operands)
