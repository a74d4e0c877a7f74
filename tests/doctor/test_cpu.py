"""Every finding about CPU time, and its absence."""

from dataclasses import replace
from pathlib import Path

import pytest

from harness.doctor import cpu
from harness.measure import machine
from harness.measure.machine import Counters
from tests import machines
from tests.doctor.conftest import only
from tests.tree import CPUS, Tree

S = 1_000_000_000
V1 = "sys/fs/cgroup/cpu,cpuacct"
START = Counters(at_ns=5 * S, ran_ns={}, steal_ns=None, swapped_pages=None, throttles={})
END = replace(START, at_ns=6 * S)


# What may be used ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "path"),
    [
        ({"sys/fs/cgroup/box/cpu.max": "150000 100000"}, "0::/box"),
        ({f"{V1}/box/cpu.cfs_quota_us": 150_000, f"{V1}/box/cpu.cfs_period_us": 100_000}, "4:cpu,cpuacct:/box"),
    ],
)  # fmt: skip
def test_a_quota_below_the_cpus_blocks_and_names_the_threads_that_fit(tree: Tree, files: dict[str, object], path: str) -> None:
    tree.say("proc/self/cgroup", path)
    for file, text in files.items():
        tree.say(file, text)
    one = only(cpu.quota(range(8), tree.root))
    assert one.severity == "blocking"
    assert one.found == "1.5 CPUs' worth of time, for 8 CPUs that may be run on"
    assert "on more than 1 thread long calls take up to 5.3 times as long" in one.why
    assert one.remedy.startswith("--threads 1, or")


def test_a_quota_under_one_cpu_leaves_no_number_of_threads(tree: Tree) -> None:
    tree.say("proc/self/cgroup", "0::/")
    tree.say("sys/fs/cgroup/cpu.max", "50000 100000")
    one = only(cpu.quota(range(1), tree.root))
    assert one.severity == "blocking"
    assert "--threads" not in one.remedy


@pytest.mark.parametrize(
    ("text", "found"), [("max 100000", "no limit"), ("200000 100000", "2 CPUs' worth of time, for 2 CPUs")]
)
def test_a_quota_that_suffices_is_fine(tree: Tree, text: str, found: str) -> None:
    tree.say("proc/self/cgroup", "0::/")
    tree.say("sys/fs/cgroup/cpu.max", text)
    one = only(cpu.quota(range(2), tree.root))
    assert (one.severity, one.found.startswith(found)) == ("fine", True)


def test_an_affinity_smaller_than_the_machine_is_noted(tree: Tree) -> None:
    tree.cpus(8)
    one = only(cpu.affinity((0, 1), tree.root))
    assert (one.severity, one.found) == ("note", "2 of 8 CPUs")
    assert only(cpu.affinity(range(8), tree.root)).severity == "fine"


def test_two_threads_of_a_core_are_warned_of_with_the_number_of_cores(tree: Tree) -> None:
    tree.cpus(8, cores=4)
    one = only(cpu.hyperthreads(range(8), tree.root))
    assert (one.severity, one.found) == ("warning", "8 CPUs are 4 cores")
    assert one.remedy.startswith("--threads 4 ")


def test_the_other_thread_of_a_core_may_be_someone_elses(tree: Tree) -> None:
    tree.cpus(8, cores=4)
    one = only(cpu.hyperthreads((0, 1), tree.root))
    assert (one.severity, one.found) == ("note", "2 cores with a second thread outside of this process's CPUs")


def test_cores_of_one_thread_are_fine(tree: Tree) -> None:
    tree.cpus(2)
    assert only(cpu.hyperthreads((0, 1), tree.root)).severity == "fine"


# The clock ----------------------------------------------------------------------------------------------------------------


def test_a_governor_that_follows_the_load_is_warned_of(tree: Tree) -> None:
    for number, name in enumerate(["powersave", "performance", "schedutil"]):
        tree.say(f"{CPUS}/cpu{number}/cpufreq/scaling_governor", name)
    one = only(cpu.governor(range(3), tree.root))
    assert (one.severity, one.found) == ("warning", "powersave, schedutil on 2 of 3 CPUs")
    assert only(cpu.governor((1,), tree.root)).severity == "fine"
    assert list(cpu.governor((7,), tree.root)) == []


@pytest.mark.parametrize(
    ("file", "on", "off", "command"),
    [
        ("intel_pstate/no_turbo", 0, 1, "echo 1 | sudo tee /sys/devices/system/cpu/intel_pstate/no_turbo"),
        ("cpufreq/boost", 1, 0, "echo 0 | sudo tee /sys/devices/system/cpu/cpufreq/boost"),
    ],
)
def test_turbo_is_warned_of_with_the_command_that_ends_it(tree: Tree, file: str, on: int, off: int, command: str) -> None:
    assert list(cpu.boost(tree.root)) == []
    tree.say(f"{CPUS}/{file}", on)
    one = only(cpu.boost(tree.root))
    assert one.severity == "warning"
    assert one.remedy.startswith(command)
    tree.say(f"{CPUS}/{file}", off)
    assert only(cpu.boost(tree.root)).severity == "fine"


def test_what_decides_the_clock_and_cannot_be_seen_is_noted(tree: Tree) -> None:
    tree.cpus(1)
    assert only(cpu.unseen((0,), tree.root)).found == "cannot be seen: governor, turbo, throttling"
    tree.say(f"{CPUS}/cpu0/cpufreq/scaling_governor", "performance")
    tree.say(f"{CPUS}/cpufreq/boost", 0)
    assert only(cpu.unseen((0,), tree.root)).found == "cannot be seen: throttling"
    tree.say(f"{CPUS}/cpu0/thermal_throttle/core_throttle_count", 0)
    assert list(cpu.unseen((0,), tree.root)) == []


@pytest.mark.parametrize(
    ("before", "after", "severity", "found"),
    [
        ({0: 3, 1: 0}, {0: 5, 1: 0}, "blocking", "1 CPU throttled during the look"),
        ({0: 3, 1: 0}, {0: 3, 1: 0}, "note", "throttled up to 3 times a CPU since boot, not during the look"),
        ({0: 0, 1: 0}, {0: 0, 1: 0}, "fine", "never throttled since boot"),
    ],
)
def test_heat(before: dict[int, int], after: dict[int, int], severity: str, found: str) -> None:
    one = only(cpu.heat(replace(START, throttles=before), replace(END, throttles=after)))
    assert (one.severity, one.found) == (severity, found)
    assert list(cpu.heat(START, END)) == []


# Who else ran -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "severity"), [("1.00 0.50 0.20 2/99 7", "warning"), ("0.99 7.00 7.00 1/99 7", "fine")])
def test_the_load_of_the_last_minute(tree: Tree, text: str, severity: str) -> None:
    tree.cpus(2)
    tree.say("proc/loadavg", text)
    one = only(cpu.load(tree.root))
    assert one.severity == severity
    assert one.found == f"{', '.join(text.split()[:3])} over 1, 5, 15 minutes on 2 CPUs"


def look(tree: Tree, **ran: float) -> tuple[Counters, Counters]:
    """A look of one second in which each of these processes, of two threads, ran for a share of a CPU."""
    before, after = {}, {}
    for pid, (name, share) in enumerate(ran.items(), start=40):
        tree.ran(pid, 0, name=name)
        for thread in (pid, 1000 + pid):
            task = tree.root / "proc" / str(pid) / "task" / str(thread)
            before[task], after[task] = 7 * S, 7 * S + int(share / 2 * S)
    return replace(START, ran_ns=before), replace(END, ran_ns=after)


def test_the_processes_that_ran_most_are_named_with_their_share(tree: Tree) -> None:
    before, after = look(tree, idle=0.0, make=0.3, chrome=1.25, little=0.012)
    one = only(cpu.others(before, after, 4))
    assert one.severity == "blocking"
    assert one.found == (
        "156.2 % of one CPU in a look of 1.0 s: chrome (pid 42) 125.0 %, make (pid 41) 30.0 %, little (pid 43) 1.2 %"
    )
    assert one.remedy == "end them; or leave them a core: --threads 2"


def test_on_one_cpu_there_is_no_core_to_leave_to_others(tree: Tree) -> None:
    assert only(cpu.others(*look(tree, make=0.9), 1)).remedy == "end them"


@pytest.mark.parametrize(("share", "severity"), [(0.5, "blocking"), (0.48, "warning"), (0.05, "warning"), (0.04, "fine")])
def test_how_much_of_others_is_too_much(tree: Tree, share: float, severity: str) -> None:
    assert only(cpu.others(*look(tree, other=share), 2)).severity == severity


def test_a_process_that_was_born_during_the_look_counts(tree: Tree) -> None:
    _, after = look(tree, other=0.5)
    born = {task: ran - 7 * S for task, ran in after.ran_ns.items()}
    assert only(cpu.others(START, replace(after, ran_ns=born), 2)).severity == "blocking"


def test_a_process_may_not_paint_the_terminal(tree: Tree) -> None:
    before, after = look(tree, other=1.0)
    (tree.root / "proc" / "40" / "comm").write_text("\x1b[31mred\n")
    assert "?[31mred (pid 40)" in only(cpu.others(before, after, 2)).found


def test_what_ended_or_runs_outside_of_a_container_is_told_by_the_cpus(tree: Tree) -> None:
    before, after = look(tree, make=0.02)
    loud, quiet = (replace(after, busy_ns=7 * S + share * S // 100) for share in (62, 6))
    before = replace(before, busy_ns=7 * S)
    one = only(cpu.others(before, loud, 4))
    assert one.severity == "warning"  # who it is cannot be told, so that no night waits for it
    assert one.found.endswith("make (pid 40) 2.0 %, beside them 60.0 % by what has ended since or cannot be seen")
    assert only(cpu.others(before, quiet, 4)).severity == "fine"


@pytest.mark.fault("the CPUs are on several memory nodes", "doctor names the remedy")
def test_cpus_on_several_memory_nodes_have_a_remedy(tree: Tree) -> None:
    machines.xeon(tree)
    one = only(cpu.memory_nodes(machine.online(tree.root), tree.root))
    assert (one.severity, one.found) == ("warning", "node 0 with 16 cores, node 1 with 16 cores")
    assert one.remedy.startswith(
        "--threads 16 (threads fill one node before the next), or numactl --cpunodebind=0 --membind=0 "
    )
    other = only(cpu.memory_nodes((0, 1, 32, 16, 17, 18), tree.root))
    assert other.found == "node 0 with 2 cores, node 1 with 3 cores"
    assert other.remedy.startswith(
        "--threads 3 (threads fill one node before the next), or numactl --cpunodebind=1 --membind=1 "
    )


def test_cpus_on_one_memory_node_are_fine(tree: Tree) -> None:
    assert list(cpu.memory_nodes((0, 1), tree.root)) == []  # of nodes nothing is told
    machines.grace(tree)
    one = only(cpu.memory_nodes(machine.online(tree.root), tree.root))
    assert (one.severity, one.found) == ("fine", "node 0 with 72 cores")


def test_where_nobody_can_be_seen_that_is_said(tmp_path: Path) -> None:
    assert only(cpu.others(START, END, 2)).found.startswith("not measured")


@pytest.mark.parametrize(("stolen_ms", "severity"), [(200, "blocking"), (100, "warning"), (20, "fine"), (0, "fine")])
def test_stolen_time_is_a_share_of_all_cpus(stolen_ms: int, severity: str) -> None:
    one = only(cpu.steal(replace(START, steal_ns=9 * S), replace(END, steal_ns=9 * S + stolen_ms * 1_000_000), 2))
    assert (one.severity, one.found) == (severity, f"{stolen_ms / 20:.1f} % of the CPUs' time")
    assert list(cpu.steal(START, END, 2)) == []
