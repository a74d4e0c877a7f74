"""Memory, kernel, clock, disk and software: what a run needs, and what stays "not measured" without it."""

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from harness import units
from harness.doctor.finding import BLOCKING, FINE, NOTE, WARNING, Finding, Found, count
from harness.measure import clock, machine
from harness.measure.machine import Counters
from harness.measure.power import POWERCAP, Rapl
from harness.plan import Budget

# A worker with its framework and small operands takes 0.2 GB (torch, jax) to 0.8 GB (tensorflow), and three stand side by side.
LOW_MEMORY, NO_MEMORY = 4 * 2**30, 2**30
# Every sample is kept: at most some 20 KB a record of ten visits, so a thousand records (resnet50 in three frameworks) 20 MB.
LOW_DISK, NO_DISK = 2**30, 100 * 2**20
SLOW_SOURCES = ("hpet", "acpi_pm", "jiffies", "refined-jiffies", "pit")  # read through the kernel, by slow buses or coarse


def memory(root: Path) -> Found:
    """Whether the workers find room."""
    told = machine.memory(root)
    if "MemAvailable" not in told:
        return
    free = told["MemAvailable"]
    words = f"{units.size(free)} available of {units.size(told.get('MemTotal'))}"
    if free >= LOW_MEMORY:
        yield Finding("memory", FINE, words)
    else:
        yield Finding(
            "memory", BLOCKING if free < NO_MEMORY else WARNING, words,
            "three frameworks stand side by side: cells end as oom, or are timed while the system swaps",
            "end what holds the memory, or measure one --backend at a time",
        )  # fmt: skip


def memory_limit(root: Path) -> Found:
    """Whether the control group allows less memory than the machine has."""
    limit, total = machine.memory_limit(root), machine.memory(root).get("MemTotal")
    if limit is not None and (total is None or limit < total):
        yield Finding(
            "memory limit", WARNING if limit < LOW_MEMORY else NOTE, f"{units.size(limit)} of {units.size(total)}",
            "a cell that goes over it is killed and ends as oom, however much memory the machine has",
            "start the container with more (docker: --memory; Kubernetes: limits.memory), or without a limit",
        )  # fmt: skip


def swap(before: Counters, after: Counters, root: Path) -> Found:
    """Whether memory is on disk."""
    told = machine.memory(root)
    used = told.get("SwapTotal", 0) - told.get("SwapFree", 0)
    moved = (after.swapped_pages or 0) - (before.swapped_pages or 0)
    if moved:
        yield Finding(
            "swap", BLOCKING, f"{count(moved, 'page')} moved during the look, {units.size(used)} in use",
            "a call whose pages are on disk is timed with the disk", "end what holds the memory, then sudo swapoff -a",
        )  # fmt: skip
    elif used:
        moves = "whether any moved is not told" if after.swapped_pages is None else "none moved during the look"
        yield Finding(
            "swap", NOTE, f"{units.size(used)} in use, {moves}",
            "a library's page that is on disk makes the first call slower", "sudo swapoff -a, if the memory suffices",
        )  # fmt: skip
    elif told:
        yield Finding("swap", FINE, "none in use" if told.get("SwapTotal") else "there is none")


def huge_pages(root: Path) -> Found:
    """The mode of transparent huge pages."""
    mode = machine.huge_pages(root)
    if mode:
        yield Finding(
            "transparent huge pages", NOTE, mode,
            "whether large buffers lie on huge pages changes memory-bound calls; with always it also depends on how "
            "fragmented memory is", "keep the mode the same between runs that are compared",
        )  # fmt: skip


def addresses(root: Path) -> Found:
    """Whether address-space randomisation is off."""
    if machine.randomized(root) is False:
        yield Finding(
            "address randomisation", NOTE, "off",
            "every trial gets the same layout of addresses, so the interval over trials misses what the layout is worth",
            "sudo sysctl kernel.randomize_va_space=2",
        )  # fmt: skip


def enclosure(root: Path) -> Found:
    """What a container or a virtual machine hides."""
    if sign := machine.container(root):
        yield Finding(
            "container", NOTE, sign,
            "processes outside of it are not seen: where one of them held a core, no block is marked contended",
            "see that the host is idle, or let it see them (docker: --pid=host)",
        )  # fmt: skip
    if sign := machine.virtual(root):
        yield Finding(
            "virtual machine", NOTE, sign,
            "neighbours on the same host change caches, memory bandwidth and clock; only stolen time is seen, if at all",
            "a dedicated host or bare metal; else more trials, and compare only within one run",
        )  # fmt: skip


def time_source(root: Path, read: clock.Clock = clock.system) -> Found:
    """What a reading of the clock costs, and where it comes from."""
    source, cost_ns = machine.clock_source(root) or "source not told", clock.cost_ns(read)
    block_ns, longest_ns = Budget().block_s * 1e9, cost_ns * clock.READS_PER_BLOCK
    words = f"{source}, {units.duration(cost_ns, 2)} a reading"
    if source in SLOW_SOURCES:
        yield Finding(
            "clock", WARNING, words,
            f"calls shorter than {units.duration(max(longest_ns, block_ns), 2)} share a block, without a 95th percentile",
            "echo tsc | sudo tee /sys/devices/system/clocksource/clocksource0/current_clocksource, if available_clocksource "
            "beside it names tsc",
        )  # fmt: skip
    elif longest_ns > block_ns:
        yield Finding(
            "clock", NOTE, words,
            f"calls shorter than {units.duration(longest_ns, 2)} instead of {units.duration(block_ns, 2)} share a block",
            "none needed: blocks are sized by what a reading costs",
        )  # fmt: skip
    else:
        yield Finding("clock", FINE, words)


# What stays "not measured" ------------------------------------------------------------------------------------------------


def counters(root: Path) -> Found:
    """Which counters are missing, and what is not measured without them."""
    told = machine.text(root / "proc/self/schedstat")
    if set(told.split()) - {"0"}:
        yield Finding("run delay", FINE, "/proc/self/schedstat tells it")
    else:
        yield Finding(
            "run delay", WARNING, f"/proc/self/schedstat {'says nothing but 0' if told else 'cannot be read'}",
            "who waited for a core is not told: blocks that other work disturbed are not found, nor flagged",
            "sudo sysctl kernel.task_delayacct=1" if told else "a Linux kernel with CONFIG_SCHED_INFO; gVisor has none",
        )  # fmt: skip
    try:
        (root / "proc/self/clear_refs").write_text("5")  # resets the high-water mark of this process, and nothing else
    except OSError as error:
        yield Finding(
            "memory pass", NOTE, f"/proc/self/clear_refs cannot be written ({error.strerror})",
            "peak memory on the host stays \"not measured\"", "a kernel with CONFIG_PROC_PAGE_MONITOR, outside of a sandbox",
        )  # fmt: skip
    else:
        yield Finding("memory pass", FINE, "/proc/self/clear_refs can be written")
    rapl = Rapl(root / POWERCAP.relative_to("/"))
    if rapl.missing:
        yield Finding(
            "CPU energy", NOTE, rapl.missing, "energy on the CPU stays \"not measured\"",
            "where it may not be read: sudo chmod a+r /sys/class/powercap/*/energy_uj (until reboot); where there is none, on "
            "bare metal: sudo modprobe intel_rapl_msr (AMD too)",
        )  # fmt: skip
    else:
        yield Finding("CPU energy", FINE, rapl.source)


def disk(out: Path) -> Found:
    """Whether the results find room."""
    there = next(folder for folder in (out.absolute(), *out.absolute().parents) if folder.exists())
    if not os.access(there, os.W_OK):
        yield Finding("disk", BLOCKING, f"{there} cannot be written", "a run cannot keep its results", "--out another folder")
        return
    free = shutil.disk_usage(there).free
    words = f"{units.size(free)} free for {out}"
    if free >= LOW_DISK:
        yield Finding("disk", FINE, words)
    else:
        yield Finding(
            "disk", BLOCKING if free < NO_DISK else WARNING, words,
            "every sample is kept, some 20 KB a cell and trial: a run that fills the disk is cut off", "--out on another disk",
        )  # fmt: skip


# Frameworks ----------------------------------------------------------------------------------------------------------------


def frameworks() -> Found:
    """Which are installed, in which version."""
    from harness.backends import registry
    from harness.execution import discovery

    told = []
    for name, answer in discovery.adapters(registry.names()).items():
        if isinstance(answer, str):
            yield Finding(
                f"framework {name}", WARNING, answer, "its cells become rows that say \"error\"",
                "mend or uninstall the package that registers this backend",
            )  # fmt: skip
        elif answer.installed:
            told += [f"{package} {version}" for package, version in answer.packages.items()]
        else:
            yield Finding(
                f"framework {name}", NOTE, "not installed", "its cells become rows that say \"skipped\"",
                answer.remedy,
            )  # fmt: skip
    yield Finding("frameworks", FINE, ", ".join(told) or "none")


def compiler(which: Callable[[str], str | None] = shutil.which, environ: Mapping[str, str] = os.environ) -> Found:
    """Whether torch.compile finds a compiler on the CPU: it looks for g++, or for what CXX names."""
    wanted = environ.get("CXX", "g++")
    if path := which(wanted):
        yield Finding("C++ compiler", FINE, path)
    else:
        yield Finding(
            "C++ compiler", WARNING, f"no {wanted} on the PATH",
            "torch.compile on the CPU looks for it alone: compiled cells of PyTorch come to nothing without",
            "export CXX=clang++, which is there" if which("clang++") else "install g++ (Debian, Ubuntu: sudo apt install g++)",
        )  # fmt: skip
