"""A fixed piece of work, timed beside the samples: how fast the machine was meanwhile.

Shared machines change speed by the minute. The ratio of a sample to the yardstick next to it stays where both change alike.
"""

import math
from collections.abc import Callable

import numpy as np

from harness.measure import clock as clocks
from harness.measure import witness
from harness.measure.witness import Witness
from harness.record import contended

# OpenBLAS keeps a product of at most 2^18 multiply-adds on one thread (interface/gemm.c, SMP_THRESHOLD_MIN times
# GEMM_MULTITHREAD_THRESHOLD). More threads would collide with those of the framework, which spin for a while after a call:
# 0.5 ms became 5 to 10 beside PyTorch's. And 48 KiB of operands leave the framework's in the caches.
_SIDE = 64
# About half a millisecond on a core that does 60 GFLOP/s.
_PRODUCTS = 64
# So many come first and do not count. After calls of a framework the first ones fetch code and operands again; that was 5 to
# 8 % of the whole, by luck of each process. Between processes the time differed by 1.3 to 1.4 %, and by 0.4 % without it (one
# standard deviation, 12 and 14 processes, beside calls of 2 ms that differed by 0.1 %). Two did as well, 64 no better.
_LEAD = 8
_REWARM_BELOW_NS = 1_000_000  # of what the yardstick took a longer call has filled its caches again within a hundredth


class Yardstick:
    """Float32 matrix products through numpy on one thread, the same in every process and for every cell.

    Never change the work, nor what comes before it: ratios to it are compared across runs. Where it must be, `YARDSTICK_SINCE`
    in `record` begins a new series.
    """

    def __init__(self, clock: clocks.Clock = clocks.system) -> None:
        rng = np.random.default_rng(0)
        self._a, self._b = (rng.standard_normal((_SIDE, _SIDE), dtype=np.float32) for _ in "ab")
        self._result = np.empty_like(self._a)
        self._clock = clock
        np.matmul(self._a, self._b, out=self._result)  # the library sets itself up with its first product

    def __call__(self) -> int:
        """Wall time of the products that count, in ns."""
        multiply, a, b, result = np.matmul, self._a, self._b, self._result
        for _ in range(_LEAD):
            multiply(a, b, out=result)
        begun = self._clock()
        for _ in range(_PRODUCTS):
            multiply(a, b, out=result)
        return self._clock() - begun


class PacedYardstick:
    """When the fixed piece of work is due, and what it last took; NaN and never due where there is none."""

    def __init__(self, work: Callable[[], int] | None, clock: clocks.Clock) -> None:
        self._work, self._clock = work, clock
        self.last_ns = math.nan
        self.call_ns = 0.0  # how long a call is
        self._cost_ns, self._taken = math.inf, -math.inf

    @property
    def due(self) -> bool:
        """Before the first block, and whenever the time since is worth the cost.

        The least cost so far: with that of the last one a reading that lost its core would stand for the more samples.
        """
        return self._work is not None and (
            math.isnan(self.last_ns) or self._clock() - self._taken >= witness.WORK_TO_READING * self._cost_ns
        )

    def take(self, looking: Witness, call: Callable[[], None]) -> None:
        """Time the work, then call once untimed where the call is short, since the work took its caches.

        Where another process held the core meanwhile it is timed once more, and the shorter time counts.
        """
        assert self._work is not None
        delay, others = looking.read()
        begun = self._clock()
        taken = self._work()
        delay_after, others_after = looking.read()
        if contended(taken, delay_after - delay, others_after - others):
            taken = min(taken, self._work())
        self.last_ns = float(taken)
        if self.call_ns < _REWARM_BELOW_NS:
            call()
        self._taken = self._clock()
        self._cost_ns = min(self._cost_ns, self._taken - begun)
