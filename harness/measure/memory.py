"""The peak of memory in one call, which is made for this alone and is not timed.

The host's peak is the kernel's high-water mark of resident memory, which is reset just before the call. Pages that the
allocator has kept from earlier calls are handed back first, where the C library can do that; since it still reuses some, the
figure is a lower bound. The kernel counts resident pages for each CPU and adds them up only now and then, so that a small
workspace is off by some hundred KiB.
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
    """Bring glibc's malloc into the state in which it stays: a freed block of this size raises its thresholds to their maxima.

    Until a process has freed such a block, each call gets its large buffers from the kernel, page faults included, and gives
    them back; afterwards malloc keeps them. Otherwise whatever frees the first large block, a check of convbench for example,
    would change the figures of all that follows: the filter gradient of one layer of ResNet-50 took 20.4 ms in PyTorch before,
    and 6.8 ms afterwards.
    """
    bytearray(_SETTLING_BYTES)


def _kibibytes(field: str) -> int:
    for line in _STATUS.read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise OSError(f"{_STATUS} has no {field}")


def _trim() -> None:
    """Hand freed pages back to the system; only glibc can."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
    except (OSError, AttributeError):
        return


def measure(call: Callable[[], object], device: tuple[int, int, str] | None) -> Memory:
    """The resident bytes before `call` and at their peak. `device` is what the framework says of its device: (base, peak, how).

    `call` must wait for its results and let them go. Where the high-water mark cannot be reset (no procfs, a sealed container),
    the figures of the host are None and `method` says why.
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
