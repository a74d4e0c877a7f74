"""The clock, and what reading it costs. Tests pass a scripted one."""

import itertools
import time
from collections.abc import Callable

Clock = Callable[[], int]  # nanoseconds from any fixed point, never going back

# A block must dwarf the clock: 10^4 readings keep their cost under a hundredth of a percent.
READS_PER_BLOCK = 10_000

system: Clock = time.perf_counter_ns


def cost_ns(clock: Clock, reads: int = 200) -> float:
    """What one reading costs: the median of back-to-back differences, in ns; at least 1, so that it may divide."""
    times = [clock() for _ in range(reads + 1)]
    differences = sorted(later - earlier for earlier, later in itertools.pairwise(times))
    return max(1.0, float(differences[reads // 2]))
