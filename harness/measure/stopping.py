"""When a series has enough samples. Blocks are added one by one, and the rule is asked in between whether to stop.

The rule knows nothing but durations. A contended block counts for the time spent and for the number of blocks, but not for the
figure; every other block is called clean.
"""

from collections import deque

import numpy as np

from harness.plan import Budget
from harness.stats import median_interval

# Clean samples between two tests of the interval. A test costs time, and the more often one tests the more often chance passes.
CHECK_EVERY = 16
NOISE_WINDOW, NOISE_SETTLED = 64, 0.05  # nvbench's stdrel criterion: the relative standard deviation has stopped changing


class Stopping:
    """The rule for one series, in which a block has `iterations` calls. Once `done()` is true, `why` says what ended it."""

    def __init__(self, budget: Budget, iterations: int = 1) -> None:
        self.budget, self.iterations = budget, iterations
        self.clean: list[int] = []
        self.why = ""
        self._drawn, self._drawn_ns, self._clean_ns, self._looked = 0, 0, 0, 0
        self._mean = self._squares = 0.0  # Welford's running mean and sum of squared deviations
        self._noise: deque[float] = deque(maxlen=NOISE_WINDOW)

    def add(self, block_ns: int, contended: bool = False) -> None:
        """Add one more block."""
        self._drawn += 1
        self._drawn_ns += block_ns
        if contended:
            return
        self.clean.append(block_ns)
        self._clean_ns += block_ns
        deviation = block_ns - self._mean
        self._mean += deviation / len(self.clean)
        self._squares += deviation * (block_ns - self._mean)
        if len(self.clean) > 1 and self._mean > 0:
            self._noise.append((self._squares / (len(self.clean) - 1)) ** 0.5 / self._mean)

    def done(self) -> bool:
        """Whether to stop; from then on `why` is interval, noise_settled, max_samples or max_time."""
        budget, n = self.budget, len(self.clean)
        # Whether a call is slow is told by the clean blocks where there are any: a call that only contention makes long must
        # not do with the fewer samples of a slow one.
        block_ns = self._clean_ns / n if n else self._drawn_ns / max(1, self._drawn)
        slow = block_ns / self.iterations > budget.slow_call_s * 1e9
        enough = budget.slow_min_samples if slow else budget.min_samples
        max_s = budget.slow_max_time_s if slow else budget.max_time_s
        # The series is long enough with the least number of samples over the least time. Where calls are so short that even the
        # largest number of samples takes less than the least time, that number suffices.
        reached = n >= enough and (self._clean_ns >= budget.min_time_s * 1e9 or n >= budget.max_samples)
        if n // CHECK_EVERY > self._looked:  # blocks may be added several at a time, so that n may jump over a multiple
            self._looked = n // CHECK_EVERY
            self.why = self._content() if reached else ""
        at_cap = ""
        if n >= budget.max_samples or self._drawn >= budget.replace_factor * budget.max_samples:
            at_cap = "max_samples"
        # A slow call may go over the cap of time until it has its least number of samples, but not over `replace_factor` caps.
        over = self._clean_ns >= max_s * 1e9 and (n >= budget.slow_min_samples or not slow)
        if not at_cap and (over or self._drawn_ns >= budget.replace_factor * max_s * 1e9):
            at_cap = "max_time"
        if at_cap and not self.why:  # one last test: a slow call reaches a cap between two tests
            self.why = (self._content() if reached else "") or at_cap
        return bool(self.why)

    @property
    def contended_share(self) -> float:
        """The share of contended blocks so far, from 0 to 1; 0 before the first block."""
        return 1 - len(self.clean) / self._drawn if self._drawn else 0.0

    @property
    def converged(self) -> bool:
        """Whether the series ended because its figure was good enough, and not at a cap."""
        return self.why in ("interval", "noise_settled")

    def _content(self) -> str:
        """Why the figure is good enough; empty where it is not yet."""
        bounds = median_interval(self.clean)
        if bounds and (bounds.high - bounds.low) / 2 <= self.budget.rel_half_width * float(np.median(self.clean)):
            return "interval"
        if len(self._noise) == NOISE_WINDOW and np.std(self._noise) < NOISE_SETTLED * np.mean(self._noise):
            return "noise_settled"
        return ""
