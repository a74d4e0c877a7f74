"""Where the time of a step goes: a stopwatch for each name of `columns.SPENT`. Nested stopwatches never count twice."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from harness.measure.clock import Clock


class Ledger:
    """Time spent by name, in ns. Time within a nested name belongs to that name alone, so that all names add up to the whole.

    `enter` is called with each outermost name before its stopwatch starts, so that somebody knows where a step hangs.
    """

    def __init__(self, clock: Clock, enter: Callable[[str], None] = lambda name: None) -> None:
        self._clock, self._enter = clock, enter
        self._inner = [0]  # for each stopwatch that runs, the time of those nested in it
        self.ns: dict[str, int] = defaultdict(int)

    def taken(self) -> dict[str, int]:
        """The time by name since this was asked for last."""
        found = dict(self.ns)
        self.ns.clear()
        return found

    @contextmanager
    def spending(self, name: str) -> Iterator[None]:
        """Add the time of the `with` block to a name, also where the block raises."""
        if len(self._inner) == 1:
            self._enter(name)
        self._inner.append(0)
        begun = self._clock()
        try:
            yield
        finally:
            took = self._clock() - begun
            self.ns[name] += took - self._inner.pop()
            self._inner[-1] += took
