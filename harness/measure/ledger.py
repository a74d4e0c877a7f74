"""Where the time of a step goes: a stopwatch per name of `record.SPENT`, one inside another without overlap."""

from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from harness.measure.clock import Clock


class Ledger:
    """Time spent by name, in ns. What is spent inside belongs to the inner name alone, so the sum is the whole.

    `enter` is told each outermost name before its stopwatch starts, so that somebody knows where a step is that never ends.
    """

    def __init__(self, clock: Clock, enter: Callable[[str], None] = lambda name: None) -> None:
        self._clock, self._enter = clock, enter
        self._inner = [0]  # per open entry, what the entries inside it took
        self.ns: dict[str, int] = defaultdict(int)

    @contextmanager
    def spending(self, name: str) -> Iterator[None]:
        """Book the time of the block under that name, failed or not."""
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
