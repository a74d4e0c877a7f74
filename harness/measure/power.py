"""Energy of back-to-back calls, from a counter, in a pass of its own. No counter: nothing is run, and the reason is told.

A counter moves in steps (NVML's every 20 to 100 ms, RAPL's every millisecond), so the window begins at one of its steps and
ends at another: cut anywhere else, a window of one second would be off by up to a tenth.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from harness.measure.clock import Clock
from harness.measure.gpu import Gpu, State
from harness.record import Power

POWERCAP = Path("/sys/class/powercap")
_GROUP_NS = 10_000_000  # calls are queued for about this long before they are waited for
_STEP_TIMEOUT_NS = 2_000_000_000  # a counter that has not moved by then does not count

Reading = tuple[int, ...]


class Counters(Protocol):
    """A set of energy counters. `missing` says why they cannot be read, "" where they can."""

    source: str
    missing: str

    def read(self) -> Reading | None:
        """The counters now; None where they could not be read this time."""

    def joules(self, before: Reading, after: Reading) -> float:
        """The energy between two readings."""

    def state(self) -> State:
        """What else is to be told of the device; an empty State where there is nothing."""


class GpuEnergy:
    """NVML's counter of a whole GPU board, idle power included."""

    source = "NVML total energy of the GPU"

    def __init__(self, gpu: Gpu) -> None:
        self._gpu = gpu
        self.missing = gpu.energy_mj().reason

    def read(self) -> Reading | None:
        """Millijoules."""
        value = self._gpu.energy_mj().value
        return None if value is None else (value,)

    def joules(self, before: Reading, after: Reading) -> float:
        """The counter is of 64 bits and does not wrap."""
        return (after[0] - before[0]) / 1e3

    def state(self) -> State:
        """Clock, temperature, throttle reasons."""
        return self._gpu.read()


class _Domain(NamedTuple):
    name: str
    counter: Path
    range_uj: int


class Rapl:
    """The counters of all CPU packages, Intel's and AMD's, through Linux's powercap tree; idle cores and other processes count.

    Parts of a package (core, uncore, dram) and the whole platform (psys) are left out: the first is counted already, the last
    counts the rest of the machine. https://www.kernel.org/doc/html/latest/power/powercap/powercap.html
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
            # Root's alone since CVE-2020-8694. A sum of those that can be read would be the energy of a part.
            self.missing = f"{error.filename or root}: {error.strerror}"
        except ValueError as error:
            self.missing = f"{root}: {error}"
        if not self._domains and not self.missing:
            self.missing = f"no CPU package in {root}"
        self.source = f"RAPL {', '.join(domain.name for domain in self._domains)}"

    def read(self) -> Reading | None:
        """Microjoules, a counter a package."""
        try:
            return tuple(int(domain.counter.read_text()) for domain in self._domains)
        except (OSError, ValueError):
            return None

    def joules(self, before: Reading, after: Reading) -> float:
        """Each counter begins anew at its range; in a window of seconds it does so at most once."""
        pairs = zip(self._domains, before, after, strict=True)
        return sum((end - begin) % (domain.range_uj + 1) for domain, begin, end in pairs) / 1e6

    def state(self) -> State:
        """Nothing more is told of a CPU."""
        return State()


def measure(call: Callable[[], Any], sync: Callable[[Any], object], window_s: float, clock: Clock, counters: Counters) -> Power:
    """Energy of back-to-back calls over at least `window_s`; where there is no counter, nothing is called.

    `call` launches and returns a handle, `sync` waits for it. Calls are queued for about 10 ms at a time: the device must not
    run dry, and what is queued holds memory.
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
    """The counters right after they have moved, and the calls made until then; None where they do not move."""
    at, calls, begun = counters.read(), 0, clock()
    while at is not None and clock() - begun < _STEP_TIMEOUT_NS:
        calls += queue.group()
        now = counters.read()
        if now is None or now != at:
            return now, calls
    return None, calls


class _Queue:
    """Launches calls in groups of about 10 ms and waits for the last of each."""

    def __init__(self, call: Callable[[], Any], sync: Callable[[Any], object], clock: Clock) -> None:
        self.call, self.sync, self.clock = call, sync, clock
        self.size = 1

    def group(self) -> int:
        """Make the calls of one group; how many there were."""
        size, begun = self.size, self.clock()
        handle = None
        for _ in range(size):
            handle = self.call()
        self.sync(handle)
        if self.clock() - begun < _GROUP_NS / 2:
            self.size *= 2
        return size
