"""A fixed piece of work, timed beside the samples: how fast the machine was meanwhile.

Shared machines change speed by the minute. The ratio of a sample to the yardstick next to it stays where both change alike.
"""

import numpy as np

from harness.measure import clock as clocks

# About half a millisecond on a core that does 60 GFLOP/s; more cores get that much more of it.
_SIDE_OF_ONE_THREAD = 256


class Yardstick:
    """A float32 matrix product through numpy, on as many threads as its library was told to use in the environment.

    Never change the work: ratios to it are compared across runs. It depends on the number of threads alone.
    """

    def __init__(self, threads: int, clock: clocks.Clock = clocks.system) -> None:
        side = round(_SIDE_OF_ONE_THREAD * threads ** (1 / 3))
        rng = np.random.default_rng(0)
        self._a, self._b = (rng.standard_normal((side, side), dtype=np.float32) for _ in "ab")
        self._result = np.empty_like(self._a)
        self._clock = clock
        self()  # the library starts its threads with the first product

    def __call__(self) -> int:
        """Wall time of one product, in ns."""
        begun = self._clock()
        np.matmul(self._a, self._b, out=self._result)
        return self._clock() - begun
