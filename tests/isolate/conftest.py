"""What several rooms need: workers that find these tests, tiny budgets, and a look at who is left behind."""

from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from harness.axes import Device
from harness.isolate import launcher, process
from harness.isolate.wire import Setup
from harness.plan import Budget

ROOT = Path(__file__).parents[2]
TINY = Budget(
    trials=1, visits=3, visit_s=1e-6, warmup_calls=1, warmup_cpu_s=0, warmup_max_s=0.01, block_s=1e-6, timeout_s=60,
)  # fmt: skip


@pytest.fixture(autouse=True)
def workers_find_the_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers run without the current folder in their path."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


@pytest.fixture(autouse=True)
def nobody_stays_behind(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every test ends with as many child processes as it began with."""
    monkeypatch.setattr(process, "_GRACE_S", 5.0)
    before = set(psutil.Process().children(recursive=True))
    yield
    assert set(psutil.Process().children(recursive=True)) <= before


@pytest.fixture
def make_worker(tmp_path: Path) -> Iterator[Callable[[str], process.Worker]]:
    """A worker of one of the test backends; killed at the end where it still runs."""
    made: list[process.Worker] = []

    def make(kind: str) -> process.Worker:
        cores = tuple(launcher.physical_cores_first()[:1])
        setup = Setup(f"tests.isolate.backends:{kind}", kind.lower(), Device("cpu"), cores, TINY, 1, "run")
        made.append(process.Worker(setup, tmp_path / "worker.log"))
        return made[-1]

    yield make
    for worker in made:
        worker.kill()
