"""CPU time: who may use how much of it, at which clock, and who else ran during the look."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from harness import units
from harness.doctor.finding import BLOCKING, FINE, NOTE, WARNING, Finding, Found, count
from harness.measure import machine, witness
from harness.measure.machine import Counters

# Of one CPU's time, over the look: below the first others are what every system does, from the second on a thread of ours
# waits half of the time. A block counts as contended from 1 % on, but only if it was one of our cores.
OTHERS_SHARE, OTHERS_BLOCKING = 0.05, 0.5
STEAL_SHARE, STEAL_BLOCKING = 0.01, 0.1  # of the time of all CPUs
NAMED = 5  # processes that a finding names


def quota(cpus: Sequence[int], root: Path) -> Found:
    """Whether the control group allows less time than the CPUs that this process may run on."""
    allowed = machine.cpu_quota(root)
    if allowed is None:
        yield Finding("CPU quota", FINE, "no limit that can be seen")
    elif allowed >= len(cpus):
        yield Finding("CPU quota", FINE, f"{allowed:.3g} CPUs' worth of time, for {count(len(cpus), 'CPU')}")
    else:
        fitting, times = int(allowed), f"{len(cpus) / allowed:.2g} times"
        mend = "give the container no CPU limit (docker: no --cpus; Kubernetes: no limits.cpu), or pin it to whole CPUs instead"
        yield Finding(
            "CPU quota", BLOCKING, f"{allowed:.3g} CPUs' worth of time, for {count(len(cpus), 'CPU')} that may be run on",
            "once it is used up all threads stop for the rest of a period (mostly 0.1 s): on more than "
            f"{count(fitting, 'thread')} long calls take up to {times} as long, short ones get outliers; no flag tells why",
            f"--threads {fitting}, or {mend}" if fitting else mend,
        )  # fmt: skip


def affinity(cpus: Sequence[int], root: Path) -> Found:
    """Whether this process may run on every CPU of the machine."""
    every = machine.online(root)
    if not every:
        return
    if len(cpus) >= len(every):
        yield Finding("affinity", FINE, f"all {count(len(every), 'CPU')}")
    else:
        yield Finding(
            "affinity", NOTE, f"{len(cpus)} of {len(every)} CPUs",
            "\"all cores\" (threads 0) means these; work on the others still takes its share of caches and memory bandwidth",
            "none needed if meant so; else taskset, docker --cpuset-cpus or the batch system gives more",
        )  # fmt: skip


def governor(cpus: Sequence[int], root: Path) -> Found:
    """Whether the clock frequency follows the load."""
    of_cpu = machine.governors(cpus, root)
    bad = {cpu: name for cpu, name in of_cpu.items() if name != "performance"}
    if bad:
        yield Finding(
            "frequency governor", WARNING, f"{', '.join(sorted(set(bad.values())))} on {len(bad)} of {count(len(cpus), 'CPU')}",
            "the clock may follow the load: what comes after a pause is then timed at a lower one",
            "sudo cpupower frequency-set -g performance",
        )  # fmt: skip
    elif of_cpu:
        yield Finding("frequency governor", FINE, "performance")


def boost(root: Path) -> Found:
    """Whether the clock may rise above its base."""
    told = machine.boost(root)
    if told is None:
        return
    on, command = told
    if on:
        yield Finding(
            "turbo", WARNING, "on",
            "the clock depends on temperature and on how many cores are busy: figures move with the room and with neighbours",
            f"{command} (times then hold for the base clock)",
        )  # fmt: skip
    else:
        yield Finding("turbo", FINE, "off")


def hyperthreads(cpus: Sequence[int], root: Path) -> Found:
    """Whether two threads share a core."""
    cores = machine.siblings(cpus, root)
    ours, shared = set(cpus), [core for core in cores if len(core) > 1]
    if not cores:
        return
    if any(len(ours & set(core)) > 1 for core in shared):
        yield Finding(
            "SMT", WARNING, f"{count(len(cpus), 'CPU')} are {count(len(cores), 'core')}",
            "with threads 0 two threads share the arithmetic units of a core, and each holds up the other",
            f"--threads {len(cores)} (one thread of each core is taken first), or switch SMT off",
        )  # fmt: skip
    elif shared:
        yield Finding(
            "SMT", NOTE, f"{count(len(shared), 'core')} with a second thread outside of this process's CPUs",
            "what runs there takes half a core from a call without anyone waiting, so that no block is marked contended",
            "keep those CPUs idle, or echo off | sudo tee /sys/devices/system/cpu/smt/control",
        )  # fmt: skip
    else:
        yield Finding("SMT", FINE, "every CPU is a core of its own, by the kernel's topology")


def memory_nodes(cpus: Sequence[int], root: Path) -> Found:
    """Whether the CPUs lie on several memory nodes."""
    nodes = machine.nodes(root)
    cores = {node: set(machine.cores(set(members) & set(cpus), root).values()) for node, members in nodes.items()}
    held = {node: len(numbers) for node, numbers in cores.items() if numbers}
    if not held:
        return
    words = ", ".join(f"node {node} with {count(number, 'core')}" for node, number in held.items())
    if len(held) == 1:
        yield Finding("memory nodes", FINE, words)
        return
    best = max(held, key=lambda node: held[node])
    yield Finding(
        "memory nodes", WARNING, words,
        "with threads 0 the threads of a call read memory of another node too, which takes longer, and what lies where differs "
        "from process to process; the settings of such a cell name the nodes",
        f"--threads {held[best]} (threads fill one node before the next), or numactl --cpunodebind={best} --membind={best} "
        "before convbench run",
    )  # fmt: skip


def unseen(cpus: Sequence[int], root: Path) -> Found:
    """What decides the CPU's clock and cannot be seen."""
    seen = {
        "governor": machine.governors(cpus, root), "turbo": machine.boost(root), "throttling": machine.throttles(root)
    }  # fmt: skip
    if missing := [name for name, told in seen.items() if not told]:
        yield Finding(
            "CPU clock", NOTE, f"cannot be seen: {', '.join(missing)}",
            "a clock that moves during a run is in its times; the ratios of neighbours do not have it, and no flag tells",
            "look on the host, if this is a virtual machine; throttling is told by Intel's processors only",
        )  # fmt: skip


def load(root: Path) -> Found:
    """Whether something ran in the last minute."""
    told = machine.load(root)
    if told is None:
        return
    words = f"{told[0]:.2f}, {told[1]:.2f}, {told[2]:.2f} over 1, 5, 15 minutes on {count(len(machine.online(root)), 'CPU')}"
    if told[0] >= 1:
        yield Finding(
            "load average", WARNING, words, "one thread or more ran or waited all through the last minute, and may come back",
            "wait until it has fallen under 1, or stop what is named under \"other processes\"",
        )  # fmt: skip
    else:
        yield Finding("load average", FINE, words)


def others(before: Counters, after: Counters, cpus: int) -> Found:
    """Who else ran during the look."""
    took_ns = after.at_ns - before.at_ns
    look = f"of one CPU in a look of {units.duration(took_ns, 2)}"
    busy = None
    if before.busy_ns is not None and after.busy_ns is not None:
        busy = max(0.0, (after.busy_ns - before.busy_ns) / took_ns)
    if after.unseen or not after.ran_ns:
        yield _not_told(after.unseen or "no other process can be seen", busy, look)
        return
    shares: dict[Path, float] = defaultdict(float)
    for task, ran in after.ran_ns.items():
        shares[task.parents[1]] += (ran - before.ran_ns.get(task, 0)) / took_ns
    total = sum(shares.values())
    words = f"{units.percent(total)} {look}"
    more = max(0.0, (busy or 0.0) - total)  # of processes that have ended, or that a container does not show
    if max(total, more) < OTHERS_SHARE:
        yield Finding("other processes", FINE, words)
        return
    top = sorted(shares, key=lambda process: -shares[process])[:NAMED]
    named = [f"{machine.process_name(process)} (pid {process.name}) {units.percent(shares[process])}"
             for process in top if shares[process] >= OTHERS_SHARE / NAMED]  # fmt: skip
    if more >= OTHERS_SHARE:
        named.append(f"beside them {units.percent(more)} by what has ended since or cannot be seen")
    left = max(0, cpus - max(1, round(total + more)))
    leave = f"; or leave them a core: --threads {left}" if left else ""
    yield Finding(
        "other processes", BLOCKING if total >= OTHERS_BLOCKING else WARNING, f"{words}: {', '.join(named)}",
        "a call on all cores waits for the thread that has to share its core: on 2 cores beside one busy process over twice as "
        "long, where it is not set aside as contended", f"end them{leave}",
    )  # fmt: skip


def _not_told(why: str, busy: float | None, look: str) -> Finding:
    """That others cannot be seen one by one; `busy` is the share of one CPU that all took together, where it is told."""
    words = "" if busy is None else f"; all together {units.percent(busy)} {look}"
    return Finding(
        "other processes", BLOCKING if busy is not None and busy >= OTHERS_BLOCKING else WARNING,
        f"not measured: {why}{words}",
        "whether someone else holds the cores is not told: no block is marked contended, however long it waited",
        "where /proc hides them: sudo mount -o remount,hidepid=0 /proc, or gid= a group of yours; else see with top, on the "
        "machine itself, that it is idle",
    )  # fmt: skip


def hidden(root: Path) -> Found:
    """That others cannot be seen, without a look at how much they run."""
    if why := witness.unseen(root / "proc"):
        yield _not_told(why, None, "")


def steal(before: Counters, after: Counters, cpus: int) -> Found:
    """What the hypervisor took during the look."""
    if before.steal_ns is None or after.steal_ns is None or not cpus:
        return
    share = (after.steal_ns - before.steal_ns) / (after.at_ns - before.at_ns) / cpus
    words = f"{units.percent(share)} of the CPUs' time"
    if share <= STEAL_SHARE:
        yield Finding("stolen time", FINE, words)
    else:
        yield Finding(
            "stolen time", BLOCKING if share >= STEAL_BLOCKING else WARNING, words,
            "the hypervisor gave CPUs of this machine to others: a call that is hit takes that much longer, with no flag",
            "a dedicated host, another time of day, or more trials",
        )  # fmt: skip


def heat(before: Counters, after: Counters) -> Found:
    """Whether heat held a CPU's clock down."""
    if not after.throttles:
        return
    now = [cpu for cpu, times in after.throttles.items() if times > before.throttles.get(cpu, times)]
    most = max(after.throttles.values())
    if now:
        yield Finding(
            "CPU temperature", BLOCKING, f"{count(len(now), 'CPU')} throttled during the look",
            "times are those of a clock that heat holds down", "let it cool, mend the cooling, or switch turbo off",
        )  # fmt: skip
    elif most:
        yield Finding(
            "CPU temperature", NOTE, f"throttled up to {count(most, 'time')} a CPU since boot, not during the look",
            "under a long load it may happen again", "look again right after a run; better cooling, or turbo off",
        )  # fmt: skip
    else:
        yield Finding("CPU temperature", FINE, "never throttled since boot")
