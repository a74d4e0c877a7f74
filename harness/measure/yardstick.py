"""A fixed piece of work that is timed beside the samples and tells how fast the machine was meanwhile.

Shared machines change speed by the minute. As far as the samples and the yardstick change alike, their ratio stays the same.
"""

import math
from collections.abc import Callable

import numpy as np

from harness.measure import clock as clocks
from harness.measure import witness
from harness.measure.witness import Witness
from harness.record import CONTENDED_SHARE, contended

# The side of the matrices. OpenBLAS computes a product of at most 2^18 multiply-adds on one thread (interface/gemm.c,
# SMP_THRESHOLD_MIN times GEMM_MULTITHREAD_THRESHOLD). More threads would collide with those of the framework, which spin for a
# while after a call: beside PyTorch 0.5 ms became 5 to 10 ms. The three matrices take 48 KiB, so that the framework's operands
# stay in the caches.
_SIDE = 64
# The products that count take about half a millisecond on a core that does 60 GFLOP/s.
_PRODUCTS = 64
# So many products come first and do not count: after calls of a framework the first ones must fetch code and operands again,
# which took 5 to 8 % of the whole, differently in each process. Where they counted, the time differed between processes by
# 1.3 to 1.4 %, and where they did not, by 0.4 % (one standard deviation over 12 and 14 processes, beside calls of 2 ms that
# differed by 0.1 %). A lead of two products did as well, and one of 64 no better.
_LEAD = 8
_REWARM_BELOW_NS = 1_000_000  # a longer call fills its caches again within a hundredth of its time


class Yardstick:
    """Float32 matrix products through numpy on one thread, the same in every process and for every cell.

    Do not change the work, nor what comes before it: ratios to it are compared between runs. Where it must change,
    `YARDSTICK_SINCE` in `record` begins a new series of ratios.
    """

    def __init__(self, clock: clocks.Clock = clocks.system) -> None:
        rng = np.random.default_rng(0)
        self._a, self._b = (rng.standard_normal((_SIDE, _SIDE), dtype=np.float32) for _ in "ab")
        self._result = np.empty_like(self._a)
        self._clock = clock
        np.matmul(self._a, self._b, out=self._result)  # with its first product the library sets itself up

    def __call__(self) -> int:
        """The wall time of the products that count, in ns."""
        multiply, a, b, result = np.matmul, self._a, self._b, self._result
        for _ in range(_LEAD):
            multiply(a, b, out=result)
        begun = self._clock()
        for _ in range(_PRODUCTS):
            multiply(a, b, out=result)
        return self._clock() - begun


class PacedYardstick:
    """A yardstick that is read now and then between samples, so that reading it takes a small share of the time.

    `last_ns` is what the work took the last time, NaN before the first. Without a yardstick it is never due.
    """

    def __init__(self, work: Callable[[], int] | None, clock: clocks.Clock) -> None:
        self._work, self._clock = work, clock
        self.last_ns = math.nan
        self.call_ns = 0.0  # how long a call of the cell takes
        self._cost_ns, self._taken = math.inf, -math.inf

    @property
    def due(self) -> bool:
        """Whether to read it now: before the first block, and when enough time has passed for what a reading costs.

        The cost is the least so far. If it were the last one's, a reading that lost its core for a while would be a long one,
        and would stand beside the more samples.
        """
        return self._work is not None and (
            math.isnan(self.last_ns) or self._clock() - self._taken >= witness.WORK_TO_READING * self._cost_ns
        )

    def take(self, looking: Witness, call: Callable[[], None]) -> None:
        """Time the work, then make one call that is not timed where calls are short, since the work has cooled their caches.

        Where another process held the core meanwhile the work is timed once more, and the shorter time counts.
        """
        assert self._work is not None
        delay, others = looking.read()
        begun = self._clock()
        taken = self._work()
        delay_after, others_after = looking.read()
        if contended(taken, delay_after - delay, others_after - others, CONTENDED_SHARE):
            taken = min(taken, self._work())
        self.last_ns = float(taken)
        if self.call_ns < _REWARM_BELOW_NS:
            call()
        self._taken = self._clock()
        self._cost_ns = min(self._cost_ns, self._taken - begun)
