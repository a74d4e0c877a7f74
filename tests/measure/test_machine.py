"""Facts of /proc and /sys, from a tree of our own making."""

import os
from pathlib import Path

import pytest

from harness.measure import machine
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
    tree.ran(40, 500)
    tree.ran(40, 700, thread=41)
    tree.ran(os.getpid(), 900)
    tree.say("proc/vmstat", "nr_free_pages 7\npswpin 30\npswpout 12")
    tree.say("proc/stat", "cpu  1 2 3 4 5 6 7 8 0 0")
    tree.say(f"{CPUS}/cpu0/thermal_throttle/core_throttle_count", 3)
    tree.say(f"{CPUS}/cpu0/thermal_throttle/package_throttle_count", 4)
    told = machine.counters(tree.root)
    tasks = tree.root / "proc" / "40" / "task"
    assert told.ran_ns == {tasks / "40": 500, tasks / "41": 700}
    assert told.swapped_pages == 42
    assert told.throttles == {0: 7}
    assert told.steal_ns == 8 * 1_000_000_000 // os.sysconf("SC_CLK_TCK")
    assert machine.counters(tree.root, own=40).ran_ns == {tree.root / f"proc/{os.getpid()}/task/{os.getpid()}": 900}


def test_the_real_machine_is_read() -> None:
    assert set(os.sched_getaffinity(0)) <= set(machine.online())
    assert machine.memory()["MemAvailable"] <= machine.memory()["MemTotal"]
    assert 0 < machine.memory_left() <= machine.memory()["MemTotal"]
