"""What a padded cell takes of memory beside its forecast: run as a program, of one backend and direction, it prints both."""

import os
import sys

from harness.axes import Device, Direction, Layout, Optimizer
from harness.backends import registry
from harness.isolate import worker
from harness.plan import Budget, Step
from harness.spec import Cell, ConvSpec

# A KiB unpadded and some tens of MiB padded, on a stride so wide that little is computed.
SPECS = {
    "torch": (ConvSpec.parse("n1 c4 k4 8x8 f3x3 p0-1x0-1"), ConvSpec.parse("n1 c4 k4 8x8 f3x3 s64x64 p0-1500x0-1500")),
    "tensorflow": (
        ConvSpec.parse("n1 c4 k4 3x8x8 f3x3x3 p0-1x0-1x0-1"),
        ConvSpec.parse("n1 c4 k4 3x8x8 f3x3x3 s1x64x64 p0-3x0-500x0-500"),
    ),
}
TINY = Budget(warmup_calls=1, warmup_cpu_s=0, warmup_max_s=0.001, visits=1, visit_s=1e-6)


def main(name: str, direction: Direction) -> None:
    """Measure a small cell of the kind, so that all is loaded, then the large one; print what it took and its forecast."""
    backend = worker.load(registry.find(name), Device("cpu"), sorted(os.sched_getaffinity(0)))
    from harness.measure import footprint, memory
    from harness.measure.engine import Engine

    engine = Engine(backend, TINY, 1, "run", "env")
    cells = [
        Cell(
            workload="conv", spec=spec, direction=direction, backend=name, device=Device("cpu"), layout=Layout.CHANNELS_LAST,
            optimizer=Optimizer.SGD if direction is Direction.TRAIN else None,
        )
        for spec in SPECS[name]
    ]  # fmt: skip
    small, large = (Step(0, 0, cell) for cell in cells)
    engine.measure(small)
    memory._trim()
    before = memory._kibibytes("VmRSS")
    memory._CLEAR.write_text(memory._RESET_HIGH_WATER_MARK)
    record = engine.measure(large)
    taken = memory._kibibytes("VmHWM") - before
    forecast = footprint.need(large.cell, len(os.sched_getaffinity(0)), backend.pads_beforehand(large.cell)).host_bytes
    print(record.status, taken, forecast, record.reason)


if __name__ == "__main__":
    main(sys.argv[1], Direction(sys.argv[2]))
