"""Peak bytes of one call, in a pass of its own: never while the clock runs.

The host's peak is the kernel's high-water mark of resident memory, reset just before. Pages that the allocator kept
from earlier calls are handed back first where the C library can, and what it still reuses makes the figure a lower bound.
The kernel counts resident pages per CPU and sums them now and then, so a small workspace is off by some hundred KiB.
"""

import ctypes
from collections.abc import Callable
from pathlib import Path

from harness.record import Memory

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")
_RESET_HIGH_WATER_MARK = "5"  # https://www.kernel.org/doc/html/latest/filesystems/proc.html, clear_refs


# Just under the 32 MiB at which glibc's mmap threshold ends (mallopt(3), M_MMAP_THRESHOLD).
_SETTLING_BYTES = 31 * 2**20


def settle_allocator() -> None:
    """Bring glibc's malloc to where it stays: a freed block of this size raises its thresholds to their ends, for good.

    Until a process has freed a large block, every call gets its large buffers from the kernel and gives them back, page
    faults included; afterwards they are kept. Whatever freed such a block first, a check of ours among them, would decide the
    figures of all that follows: one ResNet-50 layer's filter gradient took 20.4 ms in PyTorch before and 6.8 ms after.
    """
    bytearray(_SETTLING_BYTES)


def _kibibytes(field: str) -> int:
    for line in _STATUS.read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"{_STATUS} has no {field}")


def _trim() -> None:
    """Hand freed pages back to the system; glibc only."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError):
        return


def measure(call: Callable[[], object], device: tuple[int, int, str] | None) -> Memory:
    """Resident bytes before `call` and at its peak; `device` is what the framework says of its own, (base, peak, how).

    `call` must wait for its results and let go of them. Where the high-water mark cannot be reset (no procfs, a sealed
    container) the host fields are None and `method` says so.
    """
    device_base, device_peak, device_method = device or (None, None, "")
    try:
        _trim()
        base = _kibibytes("VmRSS")
        _CLEAR.write_text(_RESET_HIGH_WATER_MARK)
        call()
        peak = _kibibytes("VmHWM")
    except OSError as error:
        methods = [f"host: not measured ({error})", device_method]
        return Memory(None, None, device_base, device_peak, "; ".join(filter(None, methods)))
    methods = ["host: high-water mark of resident memory over one call", device_method]
    return Memory(base, max(peak, base), device_base, device_peak, "; ".join(filter(None, methods)))
