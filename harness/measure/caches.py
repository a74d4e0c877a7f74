"""Cold caches: what lies in them overwritten, so that the next call finds none of its operands there."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

_FALLBACK_BYTES = 32 * 2**20
# An H200's level 2 has 50 MiB; overwriting this much is what nvbench and triton.testing do at the most.
GPU_BYTES = 256 * 2**20


class Eviction:
    """Streams over twice the last-level cache from every core of this process."""

    def __init__(self) -> None:
        self.buffer = np.zeros(2 * last_level_bytes() // 8)
        self.cores = sorted(os.sched_getaffinity(0))

    def __call__(self) -> None:
        """Read and write every line; each core has caches of its own, so this thread goes round."""
        for core in self.cores:
            os.sched_setaffinity(0, {core})
            self.buffer += 1.0
        os.sched_setaffinity(0, self.cores)


class GpuEviction:
    """Overwrites more device memory than any level 2 holds, by the framework's own call."""

    def __init__(self, evict: Callable[[int], None]) -> None:
        self._evict = evict

    def __call__(self) -> None:
        """Overwrite, and wait for it."""
        self._evict(GPU_BYTES)


def last_level_bytes() -> int:
    """Bytes of the largest cache that the kernel reports for this CPU."""
    sizes = [_FALLBACK_BYTES]
    for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        text = path.read_text().strip()
        scale = {"K": 2**10, "M": 2**20}.get(text[-1:], 1)
        sizes.append(int(text.rstrip("KM")) * scale)
    return max(sizes)
