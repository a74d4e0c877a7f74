"""Profiles of a run: after its last trial, later, and by themselves; by a scripted launcher, and once by a real one."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

import harness
from harness.ask import suite as suites
from harness.ask.selection import Selection
from harness.axes import Device
from harness.errors import SelectionError
from harness.execution import afterwards, execute, host
from harness.execution.watcher import Watcher
from harness.isolate import launcher
from harness.plan import Plan
from harness.profile import Profile
from harness.record import Environment, Record, Run, Status
from harness.spec import Cell
from harness.store import journal, table
from tests import builders
from tests.execution.test_execute import NO_CEILINGS, SUITE

CELLS = 6  # of the suite: three directions of two workloads


class Children:
    """A launcher that times nothing and profiles every cell; `lost` are workloads of which it has no profile."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []
        self.lost: dict[str, str] = {}
        self.failed: set[str] = set()  # workloads that fail when they are timed
        self.until: int | None = None  # after so many profiles somebody presses Ctrl-C

    def execute(self, of: launcher.Launcher, plan: Plan, visits: object = None) -> Iterator[Record | Environment]:
        yield builders.environment()
        for step in plan:
            where: dict[str, Any] = {"trial": step.trial, "order": step.order, "of": step.cell, "run_id": of.run_id}
            bad = step.cell.workload in self.failed
            yield builders.failed(Status.OOM, "no memory", **where) if bad else builders.record(**where)

    def profile(
        self, of: launcher.Launcher, plan: Plan, cells: Sequence[Cell], folder: Path | None = None
    ) -> Iterator[Profile | Environment]:  # fmt: skip
        self.asked.append([str(cell) for cell in cells])
        yield builders.environment(id="env-2")
        for number, cell in enumerate(cells):
            if number == self.until:
                raise KeyboardInterrupt
            made = {"of": cell, "run_id": of.run_id}
            problem = self.lost.get(cell.workload)
            yield builders.unprofiled(problem, **made) if problem else builders.profile(builders.kernel(), **made)


@pytest.fixture
def children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Children:
    """In a working directory with one suite and a lock of its own."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "suites").mkdir()
    (tmp_path / "suites" / "tiny.toml").write_text(SUITE)
    (tmp_path / "suites" / "ceilings.toml").write_text(NO_CEILINGS)
    monkeypatch.setenv(host.VARIABLE, str(tmp_path / "lock"))
    found = Children()
    monkeypatch.setattr(launcher.Launcher, "execute", lambda of, *asked: found.execute(of, *asked))
    monkeypatch.setattr(launcher.Launcher, "profile", lambda of, *asked: found.profile(of, *asked))
    return found


def run(**more: Any) -> Run:
    return harness.run("tiny", trials=2, **more)


def folder(of: Run) -> Path:
    return Path("results/runs") / of.id


def profiled(of: Run) -> set[str]:
    return set(harness.profiles(folder(of))["cell"])


def test_a_run_is_not_profiled_unless_asked(children: Children) -> None:
    assert profiled(run()) == set()
    assert children.asked == []


def test_every_convolution_is_profiled_once_after_the_last_trial(children: Children) -> None:
    done = run(profile=True)
    records = harness.load()
    assert done.finished_at is not None
    assert len(records) == 2 * CELLS
    assert [sorted(asked) for asked in children.asked] == [sorted(set(records["cell"]))]
    profiles = harness.profiles(folder(done))
    assert set(profiles["cell"]) == set(records["cell"])
    assert set(profiles["timed_ns"]) == {1000.0}
    assert len(harness.kernels(folder(done))) == 2 * CELLS
    lines = (folder(done) / journal.JOURNAL).read_text().splitlines()
    assert [line.split('"')[1] for line in lines].index("profile") > 2 * CELLS


def test_an_expression_chooses_what_is_profiled(children: Children) -> None:
    done = run(profile="line and not train")
    assert {cell.split("/")[1] for cell in profiled(done)} == {"fprop", "wgrad"}
    assert {cell.split("/")[0] for cell in profiled(done)} == {"line"}


def test_a_mistake_in_the_expression_is_told_before_anything_is_measured(children: Children) -> None:
    with pytest.raises(SelectionError, match="--profile: "):
        run(profile="line and")
    assert not Path("results").exists()


def test_what_failed_is_not_profiled_and_equals_are_not_profiled_twice(children: Children) -> None:
    children.failed = {"line"}
    assert {cell.split("/")[0] for cell in profiled(run(profile=True))} == {"plain"}
    children.failed = set()
    assert {cell.split("/")[2] for cell in profiled(run(profile=True, aa=True))} == {"numpy"}


@pytest.mark.fault(
    "a child that profiles hangs, dies or is refused", "the run ends as it would have, and its exit code is the same"
)
def test_a_profile_that_comes_to_nothing_costs_the_run_nothing(children: Children) -> None:
    children.lost = {"line": "timeout: took longer than 6 s"}
    done = run(profile=True)
    assert done.finished_at is not None
    assert set(harness.load()["status"]) == {"ok"}
    profiles = harness.profiles(folder(done))
    assert profiles.groupby("workload")["problem"].first().to_dict() == {"line": "timeout: took longer than 6 s", "plain": ""}
    assert len(harness.kernels(folder(done))) == CELLS  # two each of three cells


@pytest.mark.fault("a run is interrupted while it is profiled", "what it has is kept, and `--resume` profiles the rest alone")
def test_a_run_that_is_interrupted_while_it_is_profiled_is_whole_and_can_be_resumed(children: Children) -> None:
    children.until = 2
    with pytest.raises(execute.Interrupted, match="--resume"):
        run(profile=True)
    (one,) = table.runs()
    assert one.finished_at is not None
    assert len(profiled(one)) == 2
    before = harness.load()
    children.until = None
    execute.resume(folder(one))
    assert len(children.asked[1]) == CELLS - 2
    assert len(profiled(one)) == CELLS
    assert len(harness.load()) == len(before) == 2 * CELLS


def test_a_resumed_run_that_has_its_profiles_is_not_profiled_again(children: Children) -> None:
    done = run(profile=True)
    execute.resume(folder(done))
    assert len(children.asked) == 1


def test_a_resumed_run_profiles_again_what_came_to_nothing(children: Children) -> None:
    children.lost = {"line": "crashed: why"}
    done = run(profile=True)
    children.lost = {}
    execute.resume(folder(done))
    assert {cell.split("/")[0] for cell in children.asked[1]} == {"line"}
    assert set(harness.profiles(folder(done))["problem"]) == {""}


def test_whoever_watches_is_told_of_each_profile(children: Children) -> None:
    heard: list[object] = []

    class Noting(Watcher):
        def profiling(self, cells: int) -> None:
            heard.append(cells)

        def profiled(self, profile: Profile) -> None:
            heard.append(str(profile.cell))

    execute.execute(suites.load("tiny"), execute.select({"trials": 1}), watcher=Noting(), ceilings=False, profile="fprop")
    assert heard[0] == 2
    assert set(heard[1:]) == {cell for cell in harness.load()["cell"] if "fprop" in cell}


# Without timing ----------------------------------------------------------------------------------------------------------


def afterwards_of(**more: Any) -> afterwards.Profiled:
    return afterwards.profile(suites.load("tiny"), execute.select(more))


def test_profiles_join_the_latest_run_that_timed_the_cells(children: Children) -> None:
    older, newer = run(), run()
    records = table.records_of(table.Stored(folder(newer), newer))
    done = afterwards_of(keyword="line and wgrad")
    assert done.folder == folder(newer)
    assert profiled(newer) == set(done.cells)
    assert len(done.cells) == 1
    assert profiled(older) == set()
    assert table.records_of(table.Stored(folder(newer), newer)).equals(records)
    assert journal.read_run(folder(newer)) == newer
    assert table.sealed(folder(newer))


def test_a_run_that_lacks_a_cell_or_was_measured_otherwise_is_not_joined(children: Children) -> None:
    whole = run()
    run(keyword="fprop")
    children.failed = {"line"}
    run()
    children.failed = set()
    unfinished = run()
    journal.finish(folder(unfinished), dataclasses.replace(unfinished, finished_at=None))
    elsewhere = run()
    assert elsewhere.planned_on is not None
    other = dataclasses.replace(elsewhere.planned_on, machine_id="another")
    journal.finish(folder(elsewhere), dataclasses.replace(elsewhere, planned_on=other))
    by_another_method = run()
    journal.finish(folder(by_another_method), dataclasses.replace(by_another_method, method_version=11))
    trimmed = run()
    (folder(trimmed) / journal.JOURNAL).unlink()
    assert afterwards_of().folder == folder(whole)


def test_a_shape_that_was_scaled_is_another_cell(children: Children) -> None:
    timed = run()
    done = afterwards_of(set={"n": 3})
    assert done.folder != folder(timed)


def test_without_such_a_run_the_profiles_stand_in_one_of_their_own(children: Children) -> None:
    done = afterwards_of(keyword="line")
    (one,) = table.runs()
    assert (one.tags, one.suite, done.folder) == ((afterwards.PROFILE,), "tiny", folder(one))
    assert one.finished_at is not None
    assert [each.id for each in one.environments] == ["env-2"]
    assert profiled(one) == set(done.cells)
    assert harness.profiles(folder(one))["timed_ns"].isna().all()
    assert len(harness.load()) == 0


def test_an_interruption_keeps_what_was_profiled(children: Children) -> None:
    children.until = 1
    with pytest.raises(KeyboardInterrupt):
        afterwards_of()
    (one,) = table.runs()
    assert one.finished_at is not None
    assert len(profiled(one)) == 1


def test_a_real_child_says_that_nothing_watches_the_reference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.toml").write_text(SUITE)
    monkeypatch.setenv(host.VARIABLE, str(tmp_path / "lock"))
    done = afterwards.profile(suites.load(tmp_path / "tiny.toml"), Selection(keyword="line and fprop"))
    (row,) = harness.profiles(done.folder).to_dict("records")
    assert row["problem"] == "nothing watches this backend"
    assert row["effective_cores"] > 0


def test_what_is_not_installed_is_said_and_not_profiled(children: Children, monkeypatch: pytest.MonkeyPatch) -> None:
    class Told(Watcher):
        absent: dict[str, str] | None = None

        def lacking(self, absent: Mapping[str, str]) -> None:
            self.absent = dict(absent)

    monkeypatch.setattr(execute.discovery, "discover", lambda *_: {"numpy": (Device("cpu"),)})
    monkeypatch.setattr(execute.discovery, "absent", lambda *_: {"torch": "pip install torch"})
    told = Told()
    done = afterwards.profile(suites.load("tiny"), Selection(axes={"backend": ["numpy", "torch"]}), watcher=told)
    assert told.absent == {"torch": "pip install torch"}
    assert {cell.split("/")[2] for cell in children.asked[-1]} == {cell.split("/")[2] for cell in done.cells} == {"numpy"}
