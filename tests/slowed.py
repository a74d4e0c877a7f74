"""PyTorch, slower by a known factor: what a comparison must find. The factors come by cell in the environment."""

import json
import os
import time
from typing import Any, ClassVar

from harness.backends.base import Operands
from harness.backends.torch import TorchBackend
from harness.spec import Cell

FACTORS = "TEST_SLOWDOWN_FACTORS"  # {"rn50_res2_3x3/fprop/torch/": 1.3}, by the start of a cell's id; any other keeps its time


class SlowedTorch(TorchBackend):
    """Each call spins after it was made, for as long as its factor says of the time that it took."""

    name: ClassVar[str] = "torch"

    def prepare(self, cell: Cell, operands: Operands) -> Any:
        """The real Prepared, its launch followed by a spin. PyTorch on the CPU is synchronous, so the launch is the call."""
        prepared: Any = super().prepare(cell, operands)
        launch, clock = prepared.launch, time.perf_counter_ns
        factors = json.loads(os.environ.get(FACTORS, "{}"))
        more = next((factor for start, factor in factors.items() if str(cell).startswith(start)), 1.0) - 1.0

        def slowed() -> Any:
            begun = clock()
            handle = launch()
            until = clock() + round(more * (clock() - begun))
            while clock() < until:
                pass
            return handle

        if more:
            prepared.launch = slowed
        return prepared
