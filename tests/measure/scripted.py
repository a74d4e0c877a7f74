"""A clock that moves only when told to, and a backend whose calls move it: what the engine is tested with."""

from collections.abc import Callable, Iterable, Iterator
from itertools import chain, repeat
from typing import Any, ClassVar

from harness.backends.base import Operands, Results
from harness.backends.numpy import NumpyBackend, NumpyPrepared
from harness.spec import Cell, Device, Mode

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


class Prepared:
    """Calls that take what the script says and whose results come from the reference."""

    op = "scripted.call"
    settings: ClassVar[dict[str, str]] = {"tuning": "none"}

    def __init__(self, backend: "Backend", cell: Cell, operands: Operands) -> None:
        self.backend, self.clock, self.reference = backend, backend.clock, NumpyPrepared(backend.np, cell, operands)

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
