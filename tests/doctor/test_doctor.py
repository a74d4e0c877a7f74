"""All checks together, and the few that a run begins with."""

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from harness import doctor
from harness.doctor import Severity, gpu
from harness.measure import machine
from tests.doctor.conftest import whole
from tests.tree import Tree

ROOT = Path(__file__).parents[2]
HEAVY = ("numpy", "pandas", "torch", "tensorflow", "jax", "harness.execution.execute")


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "read", lambda: "no driver")
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {0, 1, 2, 3})


def test_the_worst_comes_first_and_what_happens_in_the_pause_is_seen(tree: Tree) -> None:
    tree.cpus(4)
    tree.ran(77, 0)

    def pause() -> None:
        tree.ran(77, 10**15)  # more than any pause of this test may last

    found = doctor.examine(tree.root / "results", tree.root, pause)
    for one in found:
        whole(one)
    places = [list(Severity).index(one.severity) for one in found]
    assert places == sorted(places)
    assert set(places) == {0, 1, 2, 3}
    assert (found[0].name, found[0].severity) == ("other processes", "blocking")
    assert "burner (pid 77)" in found[0].found
    assert len({one.name for one in found}) == len(found)


def test_a_machine_of_which_nothing_is_known_is_examined_all_the_same(tmp_path: Path) -> None:
    found = doctor.examine(tmp_path, tmp_path / "nowhere", lambda: None)
    assert {one.name for one in found} >= {"other processes", "run delay", "memory pass", "disk", "frameworks"}


def quota(tree: Tree, cpus: float) -> None:
    tree.say("proc/self/cgroup", "0::/")
    tree.say("sys/fs/cgroup/cpu.max", f"{cpus * 100_000:.0f} 100000")


def test_what_is_urgent_is_what_blocks_only(tree: Tree) -> None:
    assert doctor.urgent(tree.root, tree.root) == ()
    tree.memory(MemTotal=2**24, MemAvailable=2**21)  # 2 GiB: a warning
    assert doctor.urgent(tree.root, tree.root) == ()
    quota(tree, 2.5)
    assert [one.name for one in doctor.urgent(tree.root, tree.root)] == ["CPU quota"]


def test_a_quota_does_not_block_a_run_on_as_many_threads_as_it_allows(tree: Tree) -> None:
    quota(tree, 2.5)
    assert [len(doctor.urgent(tree.root, tree.root, threads)) for threads in (0, 1, 2, 3, None)] == [1, 0, 0, 1, 1]


def test_what_a_run_begins_with_loads_nothing_heavy() -> None:
    code = f"import sys; from harness import doctor; doctor.urgent(); print([name for name in {HEAVY} if name in sys.modules])"
    said = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "[]"


def names_in(path: Path) -> set[str]:
    """The names of the findings that a file makes; in f-strings `GPU N` and `NAME` stand for what is filled in."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "Finding":
            name = eval(ast.unparse(node.args[0]), {"name": "GPU N" if path.stem == "gpu" else "NAME"})
            found.add(name)
    return found


def test_the_page_names_every_finding_and_no_other() -> None:
    made = set().union(*(names_in(path) for path in (ROOT / "harness" / "doctor").glob("*.py")))
    rows = re.findall(r"^\| `([^`]+)` \|", (ROOT / "docs" / "doctor.md").read_text(), re.MULTILINE)
    assert len(made) > 30
    assert set(rows) == made
    assert len(rows) == len(made)


def test_a_machine_is_busy_while_somebody_else_runs(tree: Tree) -> None:
    tree.cpus(4)
    tree.ran(77, 0)
    tree.say("proc/loadavg", "7.00 1.00 1.00 1/1 1")  # it forgets slowly, and what ran may have been ours
    assert doctor.busy(tree.root, lambda: None) is None
    found = doctor.busy(tree.root, lambda: tree.ran(77, 10**15))
    assert found is not None
    assert "burner (pid 77)" in found.found


def ticks(tree: Tree, user: int) -> None:
    tree.say("proc/stat", "\n".join(f"{cpu} {user} 0 0 900 0 0 0 0 0 0" for cpu in ("cpu", "cpu0", "cpu1", "cpu2", "cpu3")))


def hide(tree: Tree) -> None:
    """What hidepid leaves of /proc: the processes of this user."""
    shutil.rmtree(tree.root / "proc" / "1")
    tree.say("proc/self/schedstat", "5 0 1")
    tree.say("proc/self/mounts", "proc /proc proc rw,hidepid=2,gid=99999 0 0")
    tree.ran(50, 0, name="shell")


@pytest.mark.fault("processes are hidden when a run starts", "doctor and the run say so, with the remedy")
def test_hidden_processes_are_said_and_not_taken_for_none(tree: Tree) -> None:
    tree.cpus(4)
    hide(tree)
    found = {one.name: one for one in doctor.examine(tree.root / "results", tree.root, lambda: None)}
    others = found["other processes"]
    whole(others)
    assert others.severity == "warning"
    assert others.found == "not measured: /proc hides the processes of other users (mounted with hidepid=2)"
    assert "mount -o remount,hidepid=0 /proc" in others.remedy
    assert doctor.urgent(tree.root, tree.root) == (others,)  # a run begins with it


@pytest.mark.fault("hidden processes hold the CPUs at night", "the night waits")
def test_what_hidden_processes_took_together_keeps_a_night_waiting(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    hide(tree)
    monkeypatch.setattr(machine.time, "monotonic_ns", iter(range(0, 100 * 10**9, 10**9)).__next__)
    monkeypatch.setattr(machine.time, "process_time_ns", lambda: 0)
    a_second = os.sysconf("SC_CLK_TCK")
    tree.say("proc/loadavg", "7.00 1.00 1.00 1/1 1")  # it forgets slowly, and is not needed
    ticks(tree, 1000)
    assert doctor.busy(tree.root, lambda: None) is None
    found = doctor.busy(tree.root, lambda: ticks(tree, 1000 + a_second // 2))
    assert found is not None
    assert found.found.endswith("; all together 200.0 % of one CPU in a look of 1.0 s")


def test_where_nobody_can_be_seen_the_load_average_tells(tree: Tree) -> None:
    tree.cpus(4)
    hide(tree)
    tree.say("proc/loadavg", "0.50 7.00 7.00 1/1 1")
    assert doctor.busy(tree.root, lambda: None) is None
    tree.say("proc/loadavg", "1.50 0.00 0.00 1/1 1")
    found = doctor.busy(tree.root, lambda: None)
    assert found is not None
    assert found.name == "load average"
    assert doctor.busy(tree.root / "nowhere", lambda: None) is None
