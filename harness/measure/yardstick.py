"""A fixed piece of work, timed beside the samples: how fast the machine was meanwhile.

Shared machines change speed by the minute. The ratio of a sample to the yardstick next to it stays where both change alike.
"""

import numpy as np

from harness.measure import clock as clocks

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
