"""The clock that everything is timed by, and what it costs to read it. Tests pass a scripted one."""

import itertools
import time
from collections.abc import Callable

Clock = Callable[[], int]  # nanoseconds since any fixed point; never goes back

# A block lasts at least as long as so many readings of the clock, so that reading it costs a fifth of a percent. It is not made
# longer than that, since a block gives the mean of its calls. The mean carries the hiccups of a few calls (3 % for calls of 0.1
# ms), so that the median over such blocks is not the median of the calls.
READS_PER_BLOCK = 500

system: Clock = time.perf_counter_ns


def cost_ns(clock: Clock, reads: int = 200) -> float:
    """What one reading of the clock costs: the median difference of readings in a row, in ns; at least 1."""
    times = [clock() for _ in range(reads + 1)]
    differences = sorted(later - earlier for earlier, later in itertools.pairwise(times))
    return max(1.0, float(differences[reads // 2]))
