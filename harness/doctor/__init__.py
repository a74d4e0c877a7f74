"""What makes this machine a bad place to measure: what was found, why it matters, and the remedy.

Here belongs judgement. Facts come from `measure.machine` and `measure.gpus`; only `cli` prints. Nothing is changed, and
nothing heavy is imported: frameworks are looked for, and asked in processes of their own where there is a GPU.
"""

import os
import time
from collections.abc import Callable
from pathlib import Path

from harness.doctor import cpu, gpu, system
from harness.doctor.finding import Finding, Found, Severity
from harness.doctor.gpu import unseen_gpu
from harness.measure import machine
from harness.measure.machine import ROOT

__all__ = ["Finding", "Severity", "busy", "examine", "unseen_gpu", "urgent"]


LOOK_S = 1.0
LONG_LOOK_S = 5.0  # what works by fits and starts would slip through a shorter one


def examine(
    out: Path = Path("results"), root: Path = ROOT, pause: Callable[[], None] = lambda: time.sleep(LOOK_S)
) -> tuple[Finding, ...]:
    """Every finding, the worst first; `out` is where results would go.

    Takes as long as the pause, over which it looks at who else runs, and with a GPU as long as asking the frameworks.
    """
    cpus = tuple(sorted(os.sched_getaffinity(0)))
    before = machine.counters(root)
    pause()
    after = machine.counters(root)
    return _sorted([
        *cpu.quota(cpus, root), *cpu.affinity(cpus, root), *cpu.hyperthreads(cpus, root), *cpu.memory_nodes(cpus, root),
        *cpu.governor(cpus, root),
        *cpu.boost(root), *cpu.heat(before, after), *cpu.unseen(cpus, root), *cpu.load(root),
        *cpu.others(before, after, len(cpus)), *cpu.steal(before, after, len(machine.online(root))),
        *system.memory(root), *system.memory_limit(root), *system.swap(before, after, root), *system.huge_pages(root),
        *system.addresses(root), *system.enclosure(root), *system.time_source(root), *system.counters(root),
        *system.disk(out), *system.frameworks(), *system.compiler(), *gpu.gpus(root),
    ])  # fmt: skip


def urgent(out: Path = Path("results"), root: Path = ROOT, threads: int | None = None) -> tuple[Finding, ...]:
    """What blocks a run on that many threads (None, 0: all), or hides others from it, and can be told within milliseconds."""
    cpus = tuple(sorted(os.sched_getaffinity(0)))[: threads or None]
    findings = (*cpu.quota(cpus, root), *system.memory(root), *system.disk(out))
    return _sorted([*(finding for finding in findings if finding.severity is Severity.BLOCKING), *cpu.hidden(root)])


def busy(root: Path = ROOT, pause: Callable[[], None] = lambda: time.sleep(LONG_LOOK_S)) -> Finding | None:
    """What of this machine's work would pass if one waited: other processes, or time that the hypervisor takes; None: nothing.

    The load average is asked only where nothing else tells of other processes: it forgets slowly, and counts what we did.
    """
    cpus = len(os.sched_getaffinity(0))
    before = machine.counters(root)
    pause()
    after = machine.counters(root)
    findings = [*cpu.others(before, after, cpus), *cpu.steal(before, after, len(machine.online(root)))]
    passing = [finding for finding in findings if finding.severity is Severity.BLOCKING]
    if not after.ran_ns and after.busy_ns is None:
        passing += [finding for finding in cpu.load(root) if finding.severity is Severity.WARNING]
    return passing[0] if passing else None


def _sorted(findings: Found) -> tuple[Finding, ...]:
    order = list(Severity)
    return tuple(sorted(findings, key=lambda finding: order.index(finding.severity)))
