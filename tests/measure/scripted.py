"""A clock that moves only when told to, and a backend whose calls move it: what the engine is tested with."""

from collections.abc import Callable, Iterable, Iterator
from itertools import chain, repeat
from typing import Any, ClassVar

from harness.axes import Device, Direction, Mode, Optimizer
from harness.backends import base
from harness.backends.base import Operands, Results
from harness.backends.numpy import NumpyBackend
from harness.measure.engine import Engine
from harness.plan import Budget, Step
from harness.record import Record, SeriesKind, Status
from harness.spec import Cell
from tests import builders

MS = 1_000_000
S = 1_000 * MS


class Clock:
    """Nanoseconds; every reading costs `tick` and is noted in `events`."""

    def __init__(self, tick: int = 0) -> None:
        self.now, self.tick = 0, tick
        self.events: list[str] = []

    def __call__(self) -> int:
        self.events.append("clock")
        self.now += self.tick
        return self.now

    def pass_(self, ns: int) -> None:
        """Let time pass."""
        self.now += ns


def then_always(first: Iterable[int], last: int) -> Iterator[int]:
    """Some durations, then one for ever."""
    return chain(first, repeat(last))


class Prepared(base.Prepared):
    """Calls that take what the script says and whose results come from the reference."""

    op = "scripted.call"
    settings: ClassVar[dict[str, str]] = {"tuning": "none"}

    def __init__(self, backend: "Backend", cell: Cell, operands: Operands) -> None:
        self.backend, self.clock = backend, backend.clock
        self.reference: Any = NumpyBackend.prepare(backend, cell, operands)

    def load(self, operands: Operands) -> None:
        self.backend.note("load")
        self.reference.load(operands)

    def reset(self) -> None:
        self.backend.note("reset")
        self.clock.pass_(self.backend.reset_ns)

    def launch(self) -> int:
        self.backend.note("launch")
        duration = next(self.backend.durations)
        self.clock.pass_(duration // 4)
        return duration - duration // 4

    def wait(self, handle: int) -> None:
        self.backend.note("wait")
        self.clock.pass_(handle)

    def fetch(self, handle: int) -> Results:
        self.backend.note("fetch")
        self.reference.reset()
        return self.backend.distort(self.reference.fetch(self.reference.launch()))

    def close(self) -> None:
        self.backend.note("close")


class WithHooks(Prepared):
    """One whose framework tells device memory and FLOP."""

    def device_memory(self) -> tuple[int, int, str]:
        return 1000, 3000, "device: scripted counter"

    def flops(self) -> float:
        return 576.0


class Backend(NumpyBackend):
    """The reference with scripted times. `fail` is called with every event, so that it may raise in any."""

    name: ClassVar[str] = "scripted"
    modes: ClassVar[frozenset[Mode]] = frozenset({Mode.EAGER})

    @staticmethod
    def op_reason(cell: Cell) -> str:
        return f"scripted: {cell.direction}"

    def __init__(self, clock: Clock, durations: Iterable[int]) -> None:
        super().__init__(Device("cpu"), 1)
        self.clock, self.durations = clock, iter(durations)
        self.prepare_ns = self.reset_ns = 0
        self.kind: type[Prepared] = Prepared
        self.distort: Callable[[Results], Results] = lambda results: results
        self.fail: Callable[[str], Any] = lambda event: None
        self.prepared: Prepared | None = None

    @property
    def events(self) -> list[str]:
        """What was asked of the backend and of the clock, in order."""
        return self.clock.events

    def note(self, event: str) -> None:
        self.events.append(event)
        self.fail(event)

    def supports(self, cell: Cell) -> str | None:
        return None

    def threads_used(self) -> int:
        return 3

    def prepare(self, cell: Cell, operands: Operands) -> Prepared:
        self.note("prepare")
        self.clock.pass_(self.prepare_ns)
        self.prepared = self.kind(self, cell, operands)
        return self.prepared


# What the engine is asked, and what of the machine it sees --------------------------------------------------------------


BUDGET = Budget(warmup_cpu_s=0.02, visits=3)
CALL = 20 * MS


class Machine:
    """What the witnesses say: per group of blocks, the share of its time that our threads waited and that others ran."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.waited: Iterator[float] | None = repeat(0.0)
        self.others: Iterator[float] | None = repeat(0.0)
        self.reading_ns = 0
        self.open = 0

    def delay(self) -> "Reading":
        return Reading(self, self.waited, self.reading_ns)

    def rest(self, apart: object) -> "Reading":
        return Reading(self, self.others, 0)


class Reading:
    """One witness: the first reading learns what reading costs, then readings stand before and after each group."""

    def __init__(self, machine: Machine, shares: Iterator[float] | None, cost_ns: int) -> None:
        self.machine, self.shares, self.cost_ns = machine, shares, cost_ns
        self.total, self.readings, self.begun = 0.0, 0, 0
        machine.open += 1

    def refresh(self, since_ns: float = 0) -> None:
        pass

    def read(self) -> float | None:
        clock = self.machine.clock
        if self.shares is None:
            return None
        self.readings += 1
        if self.readings > 1 and self.readings % 2:
            self.total += next(self.shares) * (clock.now - self.begun)
        clock.pass_(self.cost_ns)
        self.begun = clock.now
        return self.total

    def close(self) -> None:
        self.machine.open -= 1


def step(**overrides: Any) -> Step:
    return Step(trial=2, order=7, cell=builders.cell(**{"backend": "scripted", **overrides}))


TRAIN = {"direction": Direction.TRAIN, "optimizer": Optimizer.SGD}


def measure(
    backend: Backend,
    budget: Budget = BUDGET,
    yardstick: Callable[[], int] | None = None,
    **cell: Any,
) -> Record:
    of = Engine(backend, budget, seed=11, run_id="run", environment_id="env", clock=backend.clock, yardstick=yardstick)
    backend.events.clear()
    return of.measure(step(**cell))


def series_of(record: Record) -> Any:
    assert record.status is Status.OK, record.reason
    assert record.samples is not None
    assert record.samples.series[0].kind is SeriesKind.LATENCY
    return record.samples.series[0]


def timed(backend: Backend) -> str:
    """What happened between the two calls that are compared with the first one: nothing but them fetches a result there."""
    *_, between, after = " ".join(backend.events).split(" launch wait fetch")
    assert [event for event in after.split() if event != "clock"] == ["launch", "wait", "close"]  # the memory pass
    return between
