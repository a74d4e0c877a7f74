"""Every finding about memory, kernel, clock, disk and software, and its absence."""

import itertools
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import pytest

from harness.backends import packages
from harness.doctor import system
from harness.execution import discovery
from harness.isolate.wire import Adapter
from harness.measure.machine import Counters
from tests.doctor.conftest import only, whole
from tests.tree import Tree

GIB = 2**20  # in the kB of /proc/meminfo
START = Counters(at_ns=0, ran_ns={}, steal_ns=None, swapped_pages=100, throttles={})
CLOCK = "sys/devices/system/clocksource/clocksource0/current_clocksource"


def ticking(step: int):
    """A clock whose every reading costs `step` ns."""
    return itertools.count(0, step).__next__


# Memory and kernel --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("free", "severity"), [(0.9, "blocking"), (1.0, "warning"), (3.9, "warning"), (4.0, "fine")])
def test_available_memory(tree: Tree, free: float, severity: str) -> None:
    tree.memory(MemTotal=16 * GIB, MemAvailable=int(free * GIB))
    one = only(system.memory(tree.root))
    assert one.severity == severity
    assert one.found.endswith("available of 16.0 GiB")


@pytest.mark.parametrize(("limit", "severity"), [(2**31, "warning"), (2**33, "note")])
@pytest.mark.parametrize(
    ("path", "file"), [("0::/", "sys/fs/cgroup/memory.max"), ("3:memory:/", "sys/fs/cgroup/memory/memory.limit_in_bytes")]
)
def test_a_memory_limit_below_the_machine(tree: Tree, path: str, file: str, limit: int, severity: str) -> None:
    tree.memory(MemTotal=16 * GIB)
    tree.say("proc/self/cgroup", path)
    tree.say(file, limit)
    one = only(system.memory_limit(tree.root))
    assert (one.severity, one.found) == (severity, f"{limit / 2**30:.2f} GiB of 16.0 GiB")
    for none in (2**63 - 4096, 2**35, "max"):
        tree.say(file, none)
        assert list(system.memory_limit(tree.root)) == []


def test_swap(tree: Tree) -> None:
    tree.memory(MemTotal=GIB, SwapTotal=2 * GIB, SwapFree=GIB)
    one = only(system.swap(START, replace(START, swapped_pages=107), tree.root))
    assert (one.severity, one.found) == ("blocking", "7 pages moved during the look, 1.00 GiB in use")
    one = only(system.swap(START, START, tree.root))
    assert (one.severity, one.found) == ("note", "1.00 GiB in use, none moved during the look")
    tree.memory(MemTotal=GIB, SwapTotal=2 * GIB, SwapFree=2 * GIB)
    assert only(system.swap(START, START, tree.root)).severity == "fine"
    tree.memory(MemTotal=GIB, SwapTotal=0, SwapFree=0)
    assert only(system.swap(START, START, tree.root)).found == "there is none"


def test_the_mode_of_huge_pages_is_noted(tree: Tree) -> None:
    assert list(system.huge_pages(tree.root)) == []
    tree.say("sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never")
    assert only(system.huge_pages(tree.root)).found == "madvise"


def test_address_randomisation_is_noted_only_where_it_is_off(tree: Tree) -> None:
    assert list(system.addresses(tree.root)) == []
    tree.say("proc/sys/kernel/randomize_va_space", 2)
    assert list(system.addresses(tree.root)) == []
    tree.say("proc/sys/kernel/randomize_va_space", 0)
    assert only(system.addresses(tree.root)).severity == "note"


def test_a_container_is_one_whose_process_ids_are_its_own(tree: Tree) -> None:
    (tree.root / "proc/self/ns").mkdir(parents=True)
    link = tree.root / "proc/self/ns/pid"
    link.symlink_to("pid:[4026531836]")
    assert list(system.enclosure(tree.root)) == []
    link.unlink()
    link.symlink_to("pid:[4026532999]")
    one = only(system.enclosure(tree.root))
    assert (one.name, one.severity) == ("container", "note")
    assert "4026532999" in one.found


@pytest.mark.parametrize(
    ("file", "text"), [("sys/hypervisor/type", "xen"), ("proc/cpuinfo", "processor : 0\nflags\t\t: fpu hypervisor avx2")]
)
def test_a_virtual_machine(tree: Tree, file: str, text: str) -> None:
    tree.say("proc/cpuinfo", "flags\t\t: fpu avx2")
    assert list(system.enclosure(tree.root)) == []
    tree.say(file, text)
    assert only(system.enclosure(tree.root)).name == "virtual machine"


# Clock and counters -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "cost", "severity", "words"),
    [
        ("tsc", 50, "fine", ""),
        ("kvm-clock", 100, "fine", ""),
        ("kvm-clock", 200, "note", "shorter than 100 µs instead of 50 µs"),
        ("hpet", 1500, "warning", "shorter than 750 µs share a block"),
        ("acpi_pm", 50, "warning", "shorter than 50 µs share a block"),
    ],
)
def test_the_clock_source_and_what_a_reading_costs(tree: Tree, source: str, cost: int, severity: str, words: str) -> None:
    tree.say(CLOCK, source)
    one = only(system.time_source(tree.root, ticking(cost)))
    assert one.severity == severity
    assert one.found.startswith(f"{source}, ")
    assert words in one.why


def named(tree: Tree) -> dict[str, object]:
    found = {one.name: one for one in system.counters(tree.root)}
    for one in found.values():
        whole(one)
    return found


def test_missing_counters_say_what_stays_not_measured(tree: Tree) -> None:
    found = named(tree)
    assert {name: str(one.severity) for name, one in found.items()} == {
        "run delay": "warning", "memory pass": "note", "CPU energy": "note",
    }  # fmt: skip
    assert "not measured" in found["memory pass"].why
    assert "No such file" in found["memory pass"].found


def rapl(tree: Tree) -> Path:
    folder = "sys/class/powercap/intel-rapl:0"
    for file, text in {"name": "package-0", "max_energy_range_uj": 99, "energy_uj": 12}.items():
        tree.say(f"{folder}/{file}", text)
    return tree.root / folder / "energy_uj"


def test_counters_that_are_there_are_fine(tree: Tree) -> None:
    tree.say("proc/self/schedstat", "5 7 1")
    tree.say("proc/self/clear_refs", "")
    rapl(tree)
    assert {str(one.severity) for one in named(tree).values()} == {"fine"}
    assert (tree.root / "proc/self/clear_refs").read_text() == "5"


def test_a_schedstat_that_is_switched_off_says_nothing_but_0(tree: Tree) -> None:
    tree.say("proc/self/schedstat", "0 0 0")
    one = named(tree)["run delay"]
    assert (str(one.severity), one.remedy) == ("warning", "sudo sysctl kernel.task_delayacct=1")


def test_energy_counters_that_may_not_be_read(tree: Tree) -> None:
    counter = rapl(tree)
    counter.unlink()
    counter.mkdir()  # which root cannot read either
    one = named(tree)["CPU energy"]
    assert (str(one.severity), one.found) == ("note", f"{counter}: Is a directory")
    assert "chmod" in one.remedy


# Disk and software --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("free", "severity"), [(99 * 2**20, "blocking"), (100 * 2**20, "warning"), (2**30, "fine")])
def test_room_for_the_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, severity: str) -> None:
    asked = []
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(system.shutil, "disk_usage", lambda folder: asked.append(folder) or usage(free))
    assert only(system.disk(tmp_path / "not" / "yet")).severity == severity
    assert asked == [tmp_path]


def test_a_folder_that_cannot_be_written_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system.os, "access", lambda folder, mode: False)
    one = only(system.disk(tmp_path))
    assert (one.severity, one.found) == ("blocking", f"{tmp_path} cannot be written")


def test_frameworks_are_listed_and_those_that_are_missing_come_with_their_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packages, "present", lambda name: name == "numpy")
    found = {one.name: one for one in system.frameworks()}
    assert found["frameworks"].found.startswith("numpy ")
    assert found["framework torch"].remedy == "pip install 'convbench[torch]'"
    assert {one.severity for name, one in found.items() if name != "frameworks"} == {"note"}


@pytest.mark.fault("a plug-in crashes while the machine is looked at", "it is a finding")
def test_a_framework_whose_adapter_cannot_be_asked_is_a_finding_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    told = {"early": Adapter("early", {"early": "1.0"}), "late": "exit code 3"}
    monkeypatch.setattr(discovery, "adapters", lambda names: told)
    broken, listed = system.frameworks()
    whole(broken)
    assert (broken.name, broken.severity, broken.found) == ("framework late", "warning", "exit code 3")
    assert (listed.severity, listed.found) == ("fine", "early 1.0")


@pytest.mark.parametrize(
    ("there", "environ", "severity", "words"),
    [
        ({"g++"}, {}, "fine", ""),
        ({"clang++"}, {}, "warning", "export CXX=clang++"),
        ({"clang++"}, {"CXX": "clang++"}, "fine", ""),
        ({"g++"}, {"CXX": "icpx"}, "warning", "install g++"),
        (set(), {}, "warning", "install g++"),
    ],
)
def test_a_compiler_for_compiled_cells(there: set[str], environ: dict[str, str], severity: str, words: str) -> None:
    one = only(system.compiler(lambda name: f"/usr/bin/{name}" if name in there else None, environ))
    assert one.severity == severity
    assert words in one.remedy
