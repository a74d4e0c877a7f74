"""The energy of calls in a row, read from a counter in a pass of its own. Without a counter no call is made.

A counter moves in steps: NVML's every 20 to 100 ms, RAPL's every millisecond. So the window begins at one step of the counter
and ends at another; if it were cut anywhere else, the energy of one second would be off by up to a tenth.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from harness.measure.clock import Clock
from harness.measure.gpu import Gpu, State
from harness.record import Power

POWERCAP = Path("/sys/class/powercap")
_GROUP_NS = 10_000_000  # calls are queued for about this long before they are waited for
_STEP_TIMEOUT_NS = 2_000_000_000  # a counter that does not move for so long is not used

Reading = tuple[int, ...]


class Counters(Protocol):
    """A set of energy counters. `missing` says why they cannot be read, and is empty where they can."""

    source: str
    missing: str

    def read(self) -> Reading | None:
        """The counters now; None where they could not be read this time."""

    def joules(self, before: Reading, after: Reading) -> float:
        """The energy between two readings."""

    def state(self) -> State:
        """The state of a GPU; an empty State where there is nothing to tell."""


class GpuEnergy:
    """NVML's counter of the energy of a whole GPU board, idle power included."""

    source = "NVML total energy of the GPU"

    def __init__(self, gpu: Gpu) -> None:
        self._gpu = gpu
        self.missing = gpu.energy_mj().reason

    def read(self) -> Reading | None:
        """Millijoules."""
        value = self._gpu.energy_mj().value
        return None if value is None else (value,)

    def joules(self, before: Reading, after: Reading) -> float:
        """Joules. The counter has 64 bits and does not wrap."""
        return (after[0] - before[0]) / 1e3

    def state(self) -> State:
        """Clock, temperature, throttle reasons."""
        return self._gpu.read()


class _Domain(NamedTuple):
    name: str
    counter: Path
    range_uj: int


class Rapl:
    """The energy counters of all CPU packages, of Intel and AMD, in Linux's powercap tree.

    They count idle cores and other processes, too. Parts of a package (core, uncore, dram) are left out since the package
    contains them, and the whole platform (psys) since it contains the rest of the machine. Source:
    https://www.kernel.org/doc/html/latest/power/powercap/powercap.html
    """

    def __init__(self, root: Path = POWERCAP) -> None:
        self._domains: list[_Domain] = []
        self.source = self.missing = ""
        try:
            for folder in sorted(root.glob("intel-rapl:*")):
                name = (folder / "name").read_text().strip()
                if not name.startswith("package"):
                    continue
                counter = folder / "energy_uj"
                int(counter.read_text())
                self._domains.append(_Domain(name, counter, int((folder / "max_energy_range_uj").read_text())))
        except OSError as error:
            # Since CVE-2020-8694 only root may read them. A sum of some of them would be the energy of a part of the machine.
            self.missing = f"{error.filename or root}: {error.strerror}"
        except ValueError as error:
            self.missing = f"{root}: {error}"
        if not self._domains and not self.missing:
            self.missing = f"no CPU package in {root}"
        self.source = f"RAPL {', '.join(domain.name for domain in self._domains)}"

    def read(self) -> Reading | None:
        """Microjoules, one number for each package."""
        try:
            return tuple(int(domain.counter.read_text()) for domain in self._domains)
        except (OSError, ValueError):
            return None

    def joules(self, before: Reading, after: Reading) -> float:
        """Joules. Each counter starts again from 0 after its range, which in a window of seconds happens at most once."""
        pairs = zip(self._domains, before, after, strict=True)
        return sum((end - begin) % (domain.range_uj + 1) for domain, begin, end in pairs) / 1e6

    def state(self) -> State:
        """Empty: nothing more is told of a CPU."""
        return State()


def measure(call: Callable[[], Any], sync: Callable[[Any], object], window_s: float, clock: Clock, counters: Counters) -> Power:
    """The energy of calls in a row over at least `window_s` seconds. Without a counter no call is made.

    `call` launches a call and returns its handle, and `sync` waits for a handle. Calls are queued for about 10 ms at a time:
    enough to keep the device busy, and not more, since queued calls hold memory.
    """
    if counters.missing:
        return _not_measured(f"no readable energy counter: {counters.missing}")
    queue = _Queue(call, sync, clock)
    before, _ = _step(counters, queue, clock)
    if before is None:
        return _not_measured(f"{counters.source} did not move within {_STEP_TIMEOUT_NS / 1e9:g} s")
    begun, calls = clock(), 0
    while clock() - begun < window_s * 1e9:
        calls += queue.group()
    after, more = _step(counters, queue, clock)
    window_ns = clock() - begun
    if after is None:
        return _not_measured(f"{counters.source} stopped moving")
    state = counters.state()
    return Power(
        counters.joules(before, after), window_ns, calls + more, counters.source,
        state.clock_mhz, state.temperature_c, state.reasons or (),
    )  # fmt: skip


def _not_measured(why: str) -> Power:
    return Power(None, None, None, f"not measured ({why})")


def _step(counters: Counters, queue: "_Queue", clock: Clock) -> tuple[Reading | None, int]:
    """(the counters right after they have moved, the number of calls made until then); None where they do not move."""
    at, calls, begun = counters.read(), 0, clock()
    while at is not None and clock() - begun < _STEP_TIMEOUT_NS:
        calls += queue.group()
        now = counters.read()
        if now is None or now != at:
            return now, calls
    return None, calls


class _Queue:
    """Launches calls in groups of about 10 ms, and waits for the last call of each group."""

    def __init__(self, call: Callable[[], Any], sync: Callable[[Any], object], clock: Clock) -> None:
        self.call, self.sync, self.clock = call, sync, clock
        self.size = 1

    def group(self) -> int:
        """Make the calls of one group. Returns how many there were."""
        size, begun = self.size, self.clock()
        handle = None
        for _ in range(size):
            handle = self.call()
        self.sync(handle)
        if self.clock() - begun < _GROUP_NS / 2:
            self.size *= 2
        return size
