"""Samples of a throttled GPU are set aside: the rule that says which, and the guard that looks at the GPU and follows it."""

from collections.abc import Callable

from harness.measure.gpu import Gpu, State
from harness.measure.ledger import Ledger
from harness.plan import Budget

_FIRST_PAUSE_S, _PAUSE_GROWTH, _LONGEST_PAUSE_S = 0.05, 1.5, 0.5
CROWDED = 0.2  # the row is flagged where a larger share of its visits was beside processes of others


class Throttling:
    """The rule by which batches of samples are set aside while the GPU is throttled. It only decides; the caller sleeps.

    Waiting and discarded batches may take `limit_s` together. When one more round would take more, every batch is kept from
    then on, so that no row is left empty, and `flagged` is true. `seen` is what NVML told the last time that the GPU was
    throttled.
    """

    def __init__(self, limit_s: float) -> None:
        self.limit_s = limit_s
        self.lost_s = 0.0
        self.discarded = 0
        self.flagged = False
        self.seen = ""
        self._gave_up = False
        self._pause_s = _FIRST_PAUSE_S

    def pause_s(self, before: State, after: State, batch_s: float) -> float | None:
        """How long the GPU must rest after a batch that must be set aside, in seconds; None where the batch may stay.

        `before` and `after` are the GPU's states right before and right after the batch, which took `batch_s` seconds. A low
        clock before the batch counts only where the GPU had work, since a GPU clocks down by itself while it rests.
        """
        bad = next((state for state in (after, before) if state.throttled), None)
        bad = bad or (after if after.slow else before if before.slow and not before.idle else None)
        if bad is None:
            self._pause_s = _FIRST_PAUSE_S
            return None
        self.seen = str(bad)
        if self._gave_up or self.lost_s + batch_s + self._pause_s > self.limit_s:
            self._gave_up = self.flagged = True
            return None
        pause_s = self._pause_s
        self.lost_s += batch_s + pause_s
        self.discarded += 1
        self._pause_s = min(_LONGEST_PAUSE_S, pause_s * _PAUSE_GROWTH)
        return pause_s


class Guard:
    """Looks at the GPU around each batch of samples, and sets batches aside while it is throttled.

    `company` counts the processes of others that are on it.
    """

    def __init__(
        self, gpu: Gpu, budget: Budget, ledger: Ledger, sleep: Callable[[float], None], company: Callable[[], int] | None = None
    ) -> None:  # fmt: skip
        self._gpu, self._ledger, self._sleep, self._company = gpu, ledger, sleep, company
        self._rule = Throttling(budget.throttled_s)
        self._before = State()
        self._clocks: dict[str, list[int]] = {}  # of what was kept, by the name of the series
        self._capped = False
        self._beside = 0  # processes of others at the last look
        self._batches = self._in_company = 0  # that were kept, and those of them beside others

    def note(self, series: str, *states: State) -> None:
        """Keep the clock that a series was taken at; without `states` that of now."""
        if not states:
            with self._ledger.spending("witness"):
                states = (self._gpu.read(),)
        self._capped = self._capped or any(state.power_capped for state in states)
        clocks = [state.clock_mhz for state in states if state.clock_mhz is not None]
        self._clocks.setdefault(series, []).extend(clocks)

    def noted(self) -> dict[str, str]:
        """The range of each series' clock, whether the power limit held it, who else was there, and why nothing is told."""
        told = {f"{series} clock MHz": f"{min(at)} to {max(at)}" for series, at in self._clocks.items() if at}
        if self._capped:
            told["power cap"] = "held the clock"
        if self._in_company:
            told["others on the GPU"] = f"in {self._in_company} of {self._batches} visits"
        if self._gpu.reason:
            told["throttling"] = f"not seen: {self._gpu.reason}"
        return told

    @property
    def flagged(self) -> bool:
        """Whether there was more throttling than could be waited for."""
        return self._rule.flagged

    @property
    def seen(self) -> str:
        """What NVML told the last time that the GPU was throttled."""
        return self._rule.seen

    @property
    def crowded(self) -> bool:
        """Whether so many batches were taken beside processes of others that the row bears a flag."""
        return self._in_company > CROWDED * self._batches

    def clock_mhz(self) -> float | None:
        """The clock of the GPU now; None where it is not told."""
        with self._ledger.spending("witness"):
            return self._gpu.read().clock_mhz

    def _others(self) -> int:
        """How many processes of others are on the GPU; 0 where nobody counts them."""
        return self._company() if self._company else 0

    def look(self) -> None:
        """Read the state of the GPU before a batch."""
        with self._ledger.spending("witness"):
            self._before, self._beside = self._gpu.read(), self._others()

    def keeps(self, batch_ns: int) -> bool:
        """Whether a batch that took `batch_ns` stays. Where it does not, this returns after the GPU has rested."""
        with self._ledger.spending("witness"):
            after, beside = self._gpu.read(), self._others()
        before, self._before = self._before, after
        pause_s = self._rule.pause_s(before, after, batch_ns / 1e9)
        if pause_s is None:
            self.note("latency", before, after)
            self._batches += 1
            self._in_company += bool(self._beside or beside)
            return True
        with self._ledger.spending("waiting"):
            self._sleep(pause_s)
        self.look()
        return False
