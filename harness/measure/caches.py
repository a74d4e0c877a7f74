"""Cold caches: their contents are overwritten, so that the next call finds none of its operands there."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

_FALLBACK_BYTES = 32 * 2**20
# An H200's level 2 cache has 50 MiB. nvbench and triton.testing overwrite this much at the most.
GPU_BYTES = 256 * 2**20


class Eviction:
    """Reads and writes a buffer of twice the last-level cache from every core of this process."""

    def __init__(self) -> None:
        self.buffer = np.zeros(2 * last_level_bytes() // 8)
        self.cores = sorted(os.sched_getaffinity(0))

    def __call__(self) -> None:
        """Go through the buffer on one core after the other, since each core has caches of its own."""
        for core in self.cores:
            os.sched_setaffinity(0, {core})
            self.buffer += 1.0
        os.sched_setaffinity(0, self.cores)


class GpuEviction:
    """Overwrites more of a GPU's memory than its level 2 cache holds, by a call of the framework (`Prepared.evict`)."""

    def __init__(self, evict: Callable[[int], None]) -> None:
        self._evict = evict

    def __call__(self) -> None:
        """Overwrite the memory, and wait until it is done."""
        self._evict(GPU_BYTES)


def last_level_bytes() -> int:
    """The bytes of the largest cache that the kernel reports for CPU 0; 32 MiB where it reports none, or less."""
    sizes = [_FALLBACK_BYTES]
    for path in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"):
        text = path.read_text().strip()
        scale = {"K": 2**10, "M": 2**20}.get(text[-1:], 1)
        sizes.append(int(text.rstrip("KM")) * scale)
    return max(sizes)
