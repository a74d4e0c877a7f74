"""The clock, and what reading it costs. Tests pass a scripted one."""

import itertools
import time
from collections.abc import Callable

Clock = Callable[[], int]  # nanoseconds from any fixed point, never going back

# A block must dwarf the clock: 500 readings keep its cost at a fifth of a percent. No longer than that: the mean of many calls
# carries the hiccups of a few, 3 % in calls of 0.1 ms, and the median over such blocks is not that of the calls.
READS_PER_BLOCK = 500

system: Clock = time.perf_counter_ns


def cost_ns(clock: Clock, reads: int = 200) -> float:
    """What one reading costs: the median of back-to-back differences, in ns; at least 1, so that it may divide."""
    times = [clock() for _ in range(reads + 1)]
    differences = sorted(later - earlier for earlier, later in itertools.pairwise(times))
    return max(1.0, float(differences[reads // 2]))
