"""One worker that measures many cells: it must not grow, and no file or thread may stay behind."""

import os
import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, islice, product
from pathlib import Path

import psutil
import pytest

from harness.axes import Cache, Device, Direction, Layout, Mode, Optimizer, Precision
from harness.backends import registry
from harness.isolate import launcher
from harness.isolate.wire import Hello, Setup
from harness.plan import Budget, Step
from harness.record import Record, Status
from harness.spec import Cell, ConvSpec, CopySpec, GemmSpec

BUDGET = Budget(
    trials=1, visits=2, visit_s=0.01, warmup_calls=1, warmup_cpu_s=0, warmup_max_s=0.01, timeout_s=300,
)  # fmt: skip
EAGER = (Mode.EAGER,)
WARM = 50  # cells after which the worker is as large as it has to be


@dataclass(frozen=True)
class Seen:
    """A worker between two cells."""

    rss: int
    files: int
    threads: int


def files(process: psutil.Process) -> int:
    """How many files it has open, but for those in which its witness looks at the threads that are active on the machine."""
    names = [os.readlink(file) for file in Path(f"/proc/{process.pid}/fd").iterdir()]
    return sum("/schedstat" not in name for name in names)


def cells(backend: str, modes: tuple[Mode, ...] = EAGER) -> Iterator[Cell]:
    """Small cells without end, no two alike: directions, precisions, layouts, caches, ceilings; one in 50 in the other mode."""
    lots = random.Random(1)
    kinds = list(product([*Direction], [Precision.FP32, Precision.FP64]))
    for number in count():
        direction, precision = kinds[number % len(kinds)]
        mode = modes[-1] if number % 50 == 49 else modes[0]
        if direction is Direction.NONE:
            spec: object = lots.choice([GemmSpec(*(lots.randint(1, 64) for _ in "mnk")), CopySpec(16 * lots.randint(1, 5_000))])
        else:
            r = lots.choice((1, 3))
            channels = lots.randint(1, 9)
            padding = ((lots.randint(0, 2), lots.randint(0, 2)), (1, 1))
            size = (lots.randint(4, 24), lots.randint(4, 24))
            spec = ConvSpec(
                lots.randint(1, 4), channels, lots.randint(1, 9), size, (r, r), (lots.randint(1, 2),) * 2, (1, 1), padding
            )
        yield Cell(
            workload=f"w{number}", spec=spec, direction=direction, backend=backend, mode=mode, device=Device("cpu"),
            precision=precision, layout=lots.choice([*Layout]), cache=Cache.COLD if number % 40 == 7 else Cache.HOT,
            optimizer=lots.choice([*Optimizer]) if direction is Direction.TRAIN else None,
        )  # fmt: skip


def soaked(backend: str, number: int, log: Path, modes: tuple[Mode, ...] = EAGER) -> list[Seen]:
    """What a worker was like after each of so many cells; every one of them must have been right."""
    cores = tuple(launcher.physical_cores_first()[:1])
    worker = launcher.Worker(Setup(registry.find(backend), backend, Device("cpu"), cores, BUDGET, 1, "run"), log)
    try:
        assert isinstance(greeting := worker.hello(), Hello), greeting
        process = psutil.Process(worker.process.pid)
        seen = []
        for order, cell in enumerate(islice(cells(backend, modes), number)):
            step = Step(0, order, cell)
            for ask in (worker.alone, worker.prepare, worker.visit, worker.finish):
                found = ask(step, 300)
                assert not isinstance(found, Record) or found.status is Status.OK, f"{cell}: {found.status}: {found.reason}"
            seen.append(Seen(process.memory_info().rss, files(process), process.num_threads()))
        return seen
    finally:
        worker.kill()


@pytest.mark.fault("a worker measures sixty cells", "no file and no thread is left over")
def test_sixty_cells_leave_no_file_and_no_thread(tmp_path: Path) -> None:
    seen = soaked("numpy", 60, tmp_path / "worker.log")
    assert {found.files for found in seen} == {seen[0].files}
    assert {found.threads for found in seen[12:]} == {seen[12].threads}  # BLAS has started its own by then
    assert max(found.rss for found in seen) < seen[12].rss + 2**26


# oneDNN keeps the last 1024 kernels that it made, some 35 KiB for each of these cells: its own affair, and bounded.
_NO_KERNELS_KEPT = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "0"}
# What PyTorch compiles it loads as modules and libraries, and nothing unloads them: 2 MiB for each of these cells.
_COMPILED_BYTES = 3 * 2**20


@pytest.mark.fault(
    "a worker measures 500 cells",
    "no file is left over, and 5 % of memory at most beside what oneDNN's cache and compiled modules keep",
)
@pytest.mark.long
@pytest.mark.parametrize(("backend", "modes"), [("numpy", EAGER), ("torch", EAGER), ("torch", (Mode.EAGER, Mode.COMPILED))])
def test_five_hundred_cells_leave_no_file_and_five_percent_of_memory(
    backend: str, modes: tuple[Mode, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(backend)
    for name, value in _NO_KERNELS_KEPT.items():
        monkeypatch.setenv(name, value)
    seen = soaked(backend, 500, tmp_path / "worker.log", modes)
    before, after = seen[WARM - 1], seen[-1]
    compiled = sum(cell.mode is Mode.COMPILED for cell in islice(cells(backend, modes), WARM, 500))
    print(f"{backend}: {before.rss / 2**20:.1f} MiB after {WARM} cells, {after.rss / 2**20:.1f} after 500; "
          f"files {before.files} and {after.files}, threads {before.threads} and {after.threads}")  # fmt: skip
    assert after.files <= before.files
    assert after.threads <= before.threads
    assert after.rss <= 1.05 * before.rss + compiled * _COMPILED_BYTES
