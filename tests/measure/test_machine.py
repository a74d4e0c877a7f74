"""Facts of /proc and /sys, from a tree of our own making."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from harness.measure import machine
from tests import machines
from tests.tree import CPUS, Tree


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


def test_a_machine_that_tells_nothing_gives_nothing(tmp_path: Path) -> None:
    assert machine.online(tmp_path) == ()
    assert machine.siblings((0, 1), tmp_path) == set()
    assert machine.cpu_quota(tmp_path) is machine.memory_limit(tmp_path) is machine.load(tmp_path) is None
    assert machine.memory_left(tmp_path) is None
    assert machine.boost(tmp_path) is machine.randomized(tmp_path) is None
    assert (machine.memory(tmp_path), machine.throttles(tmp_path)) == ({}, {})
    assert (machine.container(tmp_path), machine.virtual(tmp_path), machine.clock_source(tmp_path)) == ("", "", "")
    assert machine.nvidia_on_bus(tmp_path) == 0
    told = machine.counters(tmp_path)
    assert (told.ran_ns, told.steal_ns, told.swapped_pages, told.throttles) == ({}, None, None, {})


@pytest.mark.fault("gVisor's /proc says only 0", "it is not taken as told")
def test_what_gvisor_says_is_not_told(tree: Tree) -> None:
    tree.say("proc/loadavg", "0.00 0.00 0.00 0/0 0")
    tree.say("proc/stat", "cpu  0 0 0 0 0 0 0 0 0 0\ncpu0 0 0 0 0 0 0 0 0 0 0")
    assert machine.load(tree.root) is None
    told = machine.counters(tree.root)
    assert (told.ran_ns, told.steal_ns, told.busy_ns) == ({}, None, None)
    assert told.unseen == machine.unseen(tree.root) == "this kernel does not tell how long a process ran"


def test_of_a_container_the_processes_outside_are_not_seen(tree: Tree) -> None:
    tree.ran(1, 5)
    space = tree.root / "proc/self/ns/pid"
    space.parent.mkdir(parents=True)
    space.symlink_to("pid:[4026531836]")
    assert machine.unseen(tree.root) == ""
    space.unlink()
    space.symlink_to("pid:[4026532001]")
    assert machine.unseen(tree.root).startswith("processes outside of this container: ")


def test_what_our_cpus_did_without_us(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {1})
    monkeypatch.setattr(machine.time, "process_time_ns", lambda: 70)
    tree.say("proc/stat", "cpu  9 9 9 9 9 9 9 9 0 0\ncpu0 9 9 9 9 9 9 9 9 0 0\ncpu1 1 0 2 9 9 0 0 9 0 0")
    assert machine.counters(tree.root).busy_ns == 3 * 1_000_000_000 // os.sysconf("SC_CLK_TCK") - 70


# The order in which threads take CPUs -------------------------------------------------------------------------------------


@pytest.mark.fault("a machine has several memory nodes", "threads fill one before the next")
@pytest.mark.parametrize(
    ("made", "cores", "nodes"),
    [(machines.graviton, 64, 1), (machines.grace, 72, 1), (machines.xeon, 16, 2), (machines.alternating, 4, 2),
     (machines.epyc, 16, 4)],
)  # fmt: skip
def test_threads_fill_the_cores_of_one_memory_node_before_the_next(
    tree: Tree, made: Callable[[Tree], None], cores: int, nodes: int
) -> None:
    made(tree)
    order = machine.in_turn(machine.online(tree.root), tree.root)
    assert sorted(order) == list(machine.online(tree.root))
    for count in range(1, cores * nodes + 1):
        taken = order[:count]
        assert len(set(machine.cores(taken, tree.root).values())) == count  # no two threads on a core while one is free
        assert machine.spanned(taken, tree.root) == tuple(range(-(-count // cores)))  # as few nodes as hold that many
    rest = order[cores * nodes :]
    turns = [machine.spanned([cpu], tree.root)[0] for cpu in rest]
    assert turns == sorted(turns)


def test_the_order_on_sockets_whose_cpus_take_turns(tree: Tree) -> None:
    machines.alternating(tree)
    assert machine.in_turn(range(16), tree.root) == [0, 2, 4, 6, 1, 3, 5, 7, 8, 10, 12, 14, 9, 11, 13, 15]


def test_the_node_that_has_most_of_an_affinity_comes_first(tree: Tree) -> None:
    machines.xeon(tree)
    ours = (0, 1, 32, 16, 17, 18, 48)
    assert machine.in_turn(ours, tree.root) == [16, 17, 18, 0, 1, 48, 32]
    assert machine.spanned(ours[:3], tree.root) == (0,)


@pytest.mark.fault("CPUs are offline, or the topology is told in part", "the order is right")
def test_cpus_that_are_offline_or_of_no_node_and_cores_that_are_told_in_part(tree: Tree) -> None:
    machines.topology(tree, [(0, 4), (1, 5)], {0: "0-1,4-5", 1: ""})
    (tree.root / f"{CPUS}/cpu4/topology/thread_siblings_list").unlink()  # the list of 0 tells of it all the same
    assert machine.in_turn((5, 4, 1, 0, 9), tree.root) == [0, 1, 9, 4, 5]
    assert machine.in_turn((1, 4, 5), tree.root) == [1, 4, 5]
    assert machine.spanned((0, 9), tree.root) == (0,)
    assert machine.nodes(tree.root) == {0: (0, 1, 4, 5)}


def test_a_kernel_without_nodes_or_topology(tree: Tree) -> None:
    assert machine.in_turn((3, 1, 2), tree.root) == [1, 2, 3]
    assert (machine.nodes(tree.root), machine.node_lists(tree.root), machine.spanned((1,), tree.root)) == ({}, {}, ())
    tree.say("sys/devices/system/node/node0/cpulist", "what is no list")
    tree.say("sys/devices/system/node/nodes/cpulist", "0-3")
    assert machine.nodes(tree.root) == {0: ()}
    assert machine.in_turn((3, 1), tree.root) == [1, 3]


def test_ranges_of_cpus(tree: Tree) -> None:
    tree.say(f"{CPUS}/online", "0-2,5,8-9")
    assert machine.online(tree.root) == (0, 1, 2, 5, 8, 9)


def test_the_smallest_quota_on_the_way_up_counts(tree: Tree) -> None:
    tree.say("proc/self/cgroup", "0::/slice/box")
    tree.say("sys/fs/cgroup/slice/box/cpu.max", "400000 100000")
    assert machine.cpu_quota(tree.root) == 4.0
    tree.say("sys/fs/cgroup/slice/cpu.max", "60000 40000")
    assert machine.cpu_quota(tree.root) == 1.5
    tree.say("sys/fs/cgroup/other/cpu.max", "1000 100000")
    assert machine.cpu_quota(tree.root) == 1.5


def test_a_container_that_sees_its_group_as_the_topmost(tree: Tree) -> None:
    tree.say("proc/self/cgroup", "4:cpu,cpuacct:/docker/0123\n0::/docker/0123")
    tree.say("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", 250_000)
    tree.say("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us", 100_000)
    assert machine.cpu_quota(tree.root) == 2.5
    tree.say("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", -1)
    assert machine.cpu_quota(tree.root) is None


def test_a_group_outside_of_what_the_namespace_shows(tree: Tree) -> None:
    tree.say("proc/self/cgroup", "0::/../../elsewhere")
    tree.say("sys/fs/cgroup/cpu.max", "100000 100000")
    tree.say("sys/elsewhere/cpu.max", "1 100000")
    assert machine.cpu_quota(tree.root) == 1.0


def test_version_2_beside_version_1(tree: Tree) -> None:
    tree.say("proc/self/cgroup", "1:cpu:/\n0::/")
    tree.say("sys/fs/cgroup/unified/cpu.max", "50000 100000")
    assert machine.cpu_quota(tree.root) == 0.5


def test_what_cannot_be_a_quota_is_none(tree: Tree) -> None:
    tree.say("proc/self/cgroup", "0::/\nnonsense\n")
    for text in ("", "max", "max 100000", "100000", "100000 0", "a b"):
        tree.say("sys/fs/cgroup/cpu.max", text)
        assert machine.cpu_quota(tree.root) is None, text


def test_memory_left_is_the_least_that_the_machine_or_a_group_has(tree: Tree) -> None:
    tree.memory(MemTotal=9_000, MemAvailable=5_000)
    assert machine.memory_left(tree.root) == 5_000 * 1024
    tree.say("proc/self/cgroup", "0::/slice/box")
    tree.say("sys/fs/cgroup/slice/memory.max", 3_000_000)
    assert machine.memory_left(tree.root) == 5_000 * 1024  # how much of it is used is not told
    tree.say("sys/fs/cgroup/slice/memory.current", 2_500_000)
    assert machine.memory_left(tree.root) == 500_000
    tree.say("sys/fs/cgroup/slice/memory.stat", "anon 1500000\ninactive_file 900000\nactive_file 100000")
    assert machine.memory_left(tree.root) == 1_400_000  # pages that could be dropped are no loss
    tree.say("sys/fs/cgroup/slice/box/memory.max", 1_000_000)
    tree.say("sys/fs/cgroup/slice/box/memory.current", 1_000_001)
    assert machine.memory_left(tree.root) == 0
    tree.say("sys/fs/cgroup/slice/box/memory.max", "max")
    assert machine.memory_left(tree.root) == 1_400_000


def test_memory_left_by_version_1_of_the_groups(tree: Tree) -> None:
    tree.say("proc/self/cgroup", "4:memory:/box")
    tree.say("sys/fs/cgroup/memory/memory.limit_in_bytes", 2**63 - 4096)
    tree.say("sys/fs/cgroup/memory/memory.usage_in_bytes", 7)
    assert machine.memory_left(tree.root) is None
    tree.say("sys/fs/cgroup/memory/box/memory.limit_in_bytes", 5_000_000)
    tree.say("sys/fs/cgroup/memory/box/memory.usage_in_bytes", 4_000_000)
    tree.say("sys/fs/cgroup/memory/box/memory.stat", "inactive_file 1\ntotal_inactive_file 500000")
    assert machine.memory_left(tree.root) == 1_500_000


def test_counters_of_others(tree: Tree) -> None:
    tree.cpus(2)
    tree.ran(1, 5)
    tree.ran(40, 500)
    tree.ran(40, 700, thread=41)
    tree.ran(os.getpid(), 900)
    tree.say("proc/vmstat", "nr_free_pages 7\npswpin 30\npswpout 12")
    tree.say("proc/stat", "cpu  1 2 3 4 5 6 7 8 0 0")
    tree.say(f"{CPUS}/cpu0/thermal_throttle/core_throttle_count", 3)
    tree.say(f"{CPUS}/cpu0/thermal_throttle/package_throttle_count", 4)
    told = machine.counters(tree.root)
    tasks = tree.root / "proc" / "40" / "task"
    init = tree.root / "proc/1/task/1"
    assert told.ran_ns == {init: 5, tasks / "40": 500, tasks / "41": 700}
    assert told.swapped_pages == 42
    assert told.throttles == {0: 7}
    assert told.steal_ns == 8 * 1_000_000_000 // os.sysconf("SC_CLK_TCK")
    assert machine.counters(tree.root, own=40).ran_ns == {init: 5, tree.root / f"proc/{os.getpid()}/task/{os.getpid()}": 900}


def test_the_real_machine_is_read() -> None:
    assert set(os.sched_getaffinity(0)) <= set(machine.online())
    assert machine.memory()["MemAvailable"] <= machine.memory()["MemTotal"]
    assert 0 < machine.memory_left() <= machine.memory()["MemTotal"]
