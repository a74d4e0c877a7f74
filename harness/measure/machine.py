"""How this machine is set up and what it grants a process, as /proc and /sys tell it. These are facts; `doctor` judges them.

Every function takes the folder that contains /proc and /sys. What the kernel does not tell is None or empty, and no error.
"""

import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from harness.measure import witness
from harness.measure.witness import steal_ns

ROOT = Path("/")
_CPUS = "sys/devices/system/cpu"
_NODES = "sys/devices/system/node"
# Numbers of vendors on the PCI bus (https://pci-ids.ucw.cz), and the classes of display and compute devices.
_NVIDIA, _OTHERS = "0x10de", {"0x1002": "AMD's GPUs", "0x8086": "Intel's GPUs"}
_DISPLAYS, _ACCELERATORS = "0x03", "0x12"
_FIRST_PIDS = "pid:[4026531836]"  # the kernel's PROC_PID_INIT_INO: the namespace that shows every process
_UNLIMITED_BYTES = 2**60  # version 1 of the control groups says "no limit" by a number near 2**63


def text(path: Path) -> str:
    """The text of a file without white space around it; empty where the file cannot be read."""
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""


def _number(path: Path) -> int | None:
    try:
        return int(text(path))
    except ValueError:
        return None


# CPUs ---------------------------------------------------------------------------------------------------------------------


def _numbers(ranges: str) -> tuple[int, ...]:
    """The numbers of a list such as `0-3,8`; empty for any other text."""
    bounds = [part.partition("-") for part in ranges.split(",") if part]
    try:
        return tuple(number for low, _, high in bounds for number in range(int(low), int(high or low) + 1))
    except ValueError:
        return ()


def online(root: Path = ROOT) -> tuple[int, ...]:
    """The CPUs that are online."""
    return _numbers(text(root / _CPUS / "online"))


def siblings(cpus: Iterable[int], root: Path = ROOT) -> set[tuple[int, ...]]:
    """The cores that these CPUs belong to, each as the CPUs (hardware threads) that share it."""
    lists = (text(root / f"{_CPUS}/cpu{cpu}/topology/thread_siblings_list") for cpu in cpus)
    return {_numbers(each) for each in lists if each}


def cores(cpus: Iterable[int], root: Path = ROOT) -> dict[int, tuple[int, ...]]:
    """The core of each of these CPUs, as the CPUs that share it. A CPU of which nothing is told is a core of its own."""
    cpus = list(cpus)
    told = siblings(cpus, root)
    return {cpu: next((core for core in sorted(told) if cpu in core), (cpu,)) for cpu in cpus}


def node_lists(root: Path = ROOT) -> dict[str, str]:
    """The CPUs of each memory node as the kernel writes them, `0-3,8`; empty where the kernel knows of no nodes.

    Nodes that have memory and no CPUs, as behind CXL, are left out.
    """
    folders = {folder.name.removeprefix("node"): folder for folder in (root / _NODES).glob("node[0-9]*")}
    told = {number: text(folders[number] / "cpulist") for number in sorted(filter(str.isdecimal, folders), key=int)}
    return {number: cpus for number, cpus in told.items() if cpus}


def nodes(root: Path = ROOT) -> dict[int, tuple[int, ...]]:
    """The CPUs of each memory node that has any, by the node's number."""
    return {int(number): _numbers(cpus) for number, cpus in node_lists(root).items()}


def spanned(cpus: Iterable[int], root: Path = ROOT) -> tuple[int, ...]:
    """The memory nodes that these CPUs lie on."""
    ours = set(cpus)
    return tuple(node for node, members in nodes(root).items() if ours & set(members))


def in_turn(cpus: Iterable[int], root: Path = ROOT) -> list[int]:
    """These CPUs in the order in which threads take them.

    First comes one CPU of each core, one memory node after the other, and then the other CPUs of the cores, one node after the
    other again: a core of another node computes more than the other half of a core that is taken. The node with the most of
    these cores is the first, so that threads stay on one node as long as they fit.
    """
    node_of = {cpu: node for node, members in nodes(root).items() for cpu in members}
    seen: set[tuple[int, ...]] = set()
    first: list[int] = []  # one CPU of each core
    rest: list[int] = []
    of_core = cores(sorted(cpus), root)
    for cpu, core in of_core.items():
        (rest if core in seen else first).append(cpu)
        seen.add(core)
    held = Counter(node_of.get(cpu, -1) for cpu in first)

    def place(cpu: int) -> tuple[int, int, int]:
        node = node_of.get(cpu, -1)
        return -held[node], node, cpu

    return sorted(first, key=place) + sorted(rest, key=place)


def governors(cpus: Iterable[int], root: Path = ROOT) -> dict[int, str]:
    """The frequency governor of each CPU that has one."""
    found = {cpu: text(root / f"{_CPUS}/cpu{cpu}/cpufreq/scaling_governor") for cpu in cpus}
    return {cpu: name for cpu, name in found.items() if name}


def boost(root: Path = ROOT) -> tuple[bool, str] | None:
    """(whether a CPU may clock above its base, the command that forbids it); None where the kernel does not tell."""
    for file, on, off in (("intel_pstate/no_turbo", "0", 1), ("cpufreq/boost", "1", 0)):
        if told := text(root / _CPUS / file):
            return told == on, f"echo {off} | sudo tee /{_CPUS}/{file}"
    return None


# Control groups -----------------------------------------------------------------------------------------------------------


def _groups(controller: str, root: Path) -> Iterator[Path]:
    """The folders of the control groups that this process is in for one controller, from its own up to the topmost.

    In a container its own group is the topmost that is shown, whatever path /proc/self/cgroup names. Folders that do not exist
    are among them, and the callers read nothing from these.
    """
    top = root / "sys/fs/cgroup"
    for line in text(root / "proc/self/cgroup").splitlines():
        controllers, _, path = line.partition(":")[2].partition(":")
        if not controllers:  # version 2; beside version 1 it is mounted as `unified`
            mounts = [top, top / "unified"]
        elif controller in controllers.split(","):
            mounts = [top / controllers, top / controller]
        else:
            continue
        place = PurePosixPath("/" if ".." in path else path)
        yield from (mount / str(group).lstrip("/") for mount in mounts for group in (place, *place.parents))


def cpu_quota(root: Path = ROOT) -> float | None:
    """The smallest limit on CPU time of the control groups, in CPUs; None where no limit can be seen.

    Source: cpu.max in https://www.kernel.org/doc/html/latest/admin-guide/cgroup-v2.html, and
    https://www.kernel.org/doc/html/latest/scheduler/sched-bwc.html for version 1.
    """
    found = []
    for group in _groups("cpu", root):
        quota, _, period = text(group / "cpu.max").partition(" ")
        pairs = [(quota, period), (text(group / "cpu.cfs_quota_us"), text(group / "cpu.cfs_period_us"))]
        found += [int(most) / int(of) for most, of in pairs if most.isdecimal() and of.isdecimal() and int(of)]
    return min(found, default=None)


def memory_limit(root: Path = ROOT) -> int | None:
    """The smallest limit on memory of the control groups, in bytes; None where no limit can be seen."""
    limits = [_number(group / name) for group in _groups("memory", root) for name in ("memory.max", "memory.limit_in_bytes")]
    return min((limit for limit in limits if limit is not None and limit < _UNLIMITED_BYTES), default=None)


def memory_left(root: Path = ROOT) -> int | None:
    """The bytes that this process may still take before the kernel ends a process for it; None where that is not told.

    This is what the machine has available, or less where a control group of this process has less left. A control group has
    left its limit less what is in use; file pages that the kernel could drop do not count as in use. Source: memory.current and
    memory.stat in https://www.kernel.org/doc/html/latest/admin-guide/cgroup-v2.html, and for version 1
    https://www.kernel.org/doc/html/latest/admin-guide/cgroup-v1/memory.html.
    """
    left = [available] if (available := memory(root).get("MemAvailable")) is not None else []
    for group in _groups("memory", root):
        for limit_name, used_name in (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")):
            limit, used = _number(group / limit_name), _number(group / used_name)
            if limit is not None and used is not None and limit < _UNLIMITED_BYTES:
                left.append(max(0, limit - max(0, used - _droppable(group))))
    return min(left, default=None)


def _droppable(group: Path) -> int:
    """The bytes of file pages that a control group has not touched for a while; version 1 counts the groups below it, too."""
    told = dict(pair for line in text(group / "memory.stat").splitlines() if len(pair := line.split()) == 2)
    found = told.get("total_inactive_file", told.get("inactive_file", "0"))
    return int(found) if found.isdecimal() else 0


# Memory, load, kernel -----------------------------------------------------------------------------------------------------


def memory(root: Path = ROOT) -> dict[str, int]:
    """Bytes by the names of /proc/meminfo: MemTotal, MemAvailable, SwapTotal, SwapFree and the rest."""
    pairs = (line.split() for line in text(root / "proc/meminfo").splitlines())
    return {pair[0].rstrip(":"): int(pair[1]) * 1024 for pair in pairs if len(pair) == 3 and pair[1].isdecimal()}


def load(root: Path = ROOT) -> tuple[float, float, float] | None:
    """The load averages over 1, 5 and 15 minutes."""
    told = text(root / "proc/loadavg").split()
    try:
        one, five, fifteen = map(float, told[:3])
    except ValueError:
        return None
    return None if told[3:4] == ["0/0"] else (one, five, fifteen)  # gVisor: it counts no thread at all, not even this one


def huge_pages(root: Path = ROOT) -> str:
    """The mode of transparent huge pages: always, madvise or never."""
    return text(root / "sys/kernel/mm/transparent_hugepage/enabled").partition("[")[2].partition("]")[0]


def randomized(root: Path = ROOT) -> bool | None:
    """Whether the kernel randomizes addresses."""
    told = _number(root / "proc/sys/kernel/randomize_va_space")
    return None if told is None else told > 0


def container(root: Path = ROOT) -> str:
    """What shows that processes of this machine are hidden, as in a container; empty where nothing does."""
    try:
        space = (root / "proc/self/ns/pid").readlink()
    except OSError:
        return ""
    return "" if str(space) == _FIRST_PIDS else f"the process ids are a namespace of their own ({space})"


def unseen(root: Path = ROOT) -> str:
    """What of the work of others this process cannot see, and why; empty where it sees all of this machine."""
    if told := witness.unseen(root / "proc"):
        return told
    sign = container(root)
    return f"processes outside of this container: {sign}" if sign else ""


def virtual(root: Path = ROOT) -> str:
    """What shows that this is a virtual machine; empty where nothing does."""
    if told := text(root / "sys/hypervisor/type"):
        return f"/sys/hypervisor/type says {told}"
    flags = (line for line in text(root / "proc/cpuinfo").splitlines() if line.startswith("flags"))
    return "the CPU's flags name a hypervisor" if "hypervisor" in next(flags, "").split() else ""


def clock_source(root: Path = ROOT) -> str:
    """The name of the device that the kernel reads the time from."""
    return text(root / "sys/devices/system/clocksource/clocksource0/current_clocksource")


def nvidia_on_bus(root: Path = ROOT) -> int:
    """How many display or compute devices of NVIDIA sit on the PCI bus, with a driver or without."""
    return _on_bus(root)[_NVIDIA]


def other_accelerators(root: Path = ROOT) -> dict[str, int]:
    """How many devices of other vendors there are that a framework may compute on, by whose they are."""
    found = _on_bus(root)
    there = {whose: found[vendor] for vendor, whose in _OTHERS.items() if found[vendor]}
    tpus = len(list((root / "dev").glob("accel[0-9]*")))
    return there | ({"Google's TPUs": tpus} if tpus else {})


def _on_bus(root: Path) -> Counter[str]:
    """How many display and compute devices sit on the PCI bus, by the number of their vendor."""
    devices = (root / "sys/bus/pci/devices").glob("*")
    return Counter(text(each / "vendor") for each in devices if text(each / "class").startswith((_DISPLAYS, _ACCELERATORS)))


def wsl(root: Path = ROOT) -> str:
    """The release of the kernel where it is that of the Windows Subsystem for Linux; empty on any other."""
    release = text(root / "proc/sys/kernel/osrelease")
    return release if "microsoft" in release.lower() else ""


# Counters that rise -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Counters:
    """Counters since boot. The difference of two readings is what happened between them. None or empty: not told.

    `ran_ns` is the time run of each thread, by its folder in /proc; it is empty where `unseen` says why not all threads are
    shown. `throttles` is how often heat held down the clock of each CPU. `busy_ns` is how long this process's CPUs were busy
    with anything but this process.
    """

    at_ns: int
    ran_ns: Mapping[Path, int]
    steal_ns: int | None
    swapped_pages: int | None
    throttles: Mapping[int, int]
    busy_ns: int | None = None
    unseen: str = ""


def counters(root: Path = ROOT, own: int | None = None) -> Counters:
    """All counters now. The threads of this process, or of process `own`, are left out."""
    unseen, stat = witness.unseen(root / "proc"), root / "proc/stat"
    busy = witness.busy_ns(os.sched_getaffinity(0), stat)
    return Counters(
        at_ns=time.monotonic_ns(),
        ran_ns={} if unseen else dict(witness.ran_ns(root / "proc", own)),
        steal_ns=steal_ns(stat),
        swapped_pages=_swapped(root),
        throttles=throttles(root),
        busy_ns=None if busy is None else busy - time.process_time_ns(),
        unseen=unseen,
    )


def throttles(root: Path = ROOT) -> dict[int, int]:
    """How often heat has held down the clock of each CPU since boot; CPUs that do not tell are left out."""
    names = ("core_throttle_count", "package_throttle_count")
    told = {cpu: [_number(root / f"{_CPUS}/cpu{cpu}/thermal_throttle/{name}") for name in names] for cpu in online(root)}
    return {cpu: sum(filter(None, counts)) for cpu, counts in told.items() if set(counts) != {None}}


def _swapped(root: Path) -> int | None:
    pairs = (line.split() for line in text(root / "proc/vmstat").splitlines())
    pages = [int(pair[1]) for pair in pairs if pair[0] in ("pswpin", "pswpout")]
    return sum(pages) if pages else None


def process_name(process: Path) -> str:
    """The name of a process by its folder in /proc. What cannot be printed is a `?`, since a process may have any name."""
    name = text(process / "comm") or "ended"
    return "".join(letter if letter.isprintable() else "?" for letter in name)
