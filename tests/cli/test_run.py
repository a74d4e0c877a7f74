"""`run`: what is asked before the host's lock, who holds it for how long, and who waits for it."""

import functools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from harness import doctor
from harness.cli import app
from harness.cli import run as run_room
from harness.errors import BusyError, UserError
from harness.execution import host
from harness.isolate import launcher
from harness.plan import Plan
from harness.record import Environment, Record
from harness.store import journal, table
from tests import builders
from tests.execution.test_execute import NO_CEILINGS, SUITE


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with two suites, a lock of its own, and cells that take no time."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "suites").mkdir()
    for name in ("one", "two"):
        (tmp_path / "suites" / f"{name}.toml").write_text(SUITE.replace("tiny", name))
    (tmp_path / "suites" / "ceilings.toml").write_text(NO_CEILINGS)
    monkeypatch.setenv(host.VARIABLE, str(tmp_path / "lock"))
    monkeypatch.setattr(doctor, "urgent", lambda out, threads=None: ())

    def cells(of: launcher.Launcher, plan: Plan, visits: object) -> Iterator[Record | Environment]:
        yield builders.environment()
        for step in plan:
            yield builders.record(trial=step.trial, order=step.order, of=step.cell, run_id=of.run_id)

    monkeypatch.setattr(launcher.Launcher, "execute", cells)
    return tmp_path


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["run", *arguments, "--no-report"])


@pytest.mark.fault(
    "a mistake is typed while another run measures",
    "it is told at once",
)
@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["on"], "one"),
        (["one", "tow"], "two"),
        (["one", "--backend", "nunpy"], "numpy"),
        (["one", "-k", "nothing_like_it"], "fits none"),
        (["one", "-a", "direction=fporp"], "fprop"),
        (["one", "--wait", "soon"], "--wait: found 'soon'"),
        (["--conv", "n1 c1 k1"], "--conv: "),
        (["--resume", "latest"], "holds no runs"),
    ],
)
def test_a_mistake_is_told_at_once_while_another_run_measures(place: Path, arguments: list[str], word: str) -> None:
    with host.alone():
        said = run(*arguments)
    assert isinstance(said.exception, UserError)
    assert not isinstance(said.exception, BusyError)
    assert word in str(said.exception)


def test_a_shape_is_measured_without_a_file(place: Path) -> None:
    lines = ("--conv", "n1 c2 k3 8x8 f3 p1", "--conv", "mb1ic2ih8oc3kh1")
    said = run(*lines, "--backend", "numpy", "--direction", "wgrad", "--trials", "1")
    assert said.exit_code == 0, said.output
    folder = table.find("results", "latest")
    assert folder.name.split("-")[1] == "conv"
    found = {record.cell.workload: str(record.cell.spec) for record in journal.read(folder)[0]}
    assert found == {name.replace(" ", "_"): name for name in ("n1 c2 k3 8x8 f3x3 p1x1", "n1 c2 k3 8x8 f1x1")}


def test_a_shape_joins_the_suites_that_are_named_and_no_run_that_is_resumed(place: Path) -> None:
    said = run("one", "--conv", "n1 c2 k3 8x8 f3 p1", "--backend", "numpy", "--dry-run")
    assert [line.split("/")[0] for line in said.stdout.splitlines()][-1] == "n1_c2_k3_8x8_f3x3_p1x1"
    assert "plain/fprop/numpy" in said.stdout
    refused = run("--resume", "latest", "--conv", "n1 c2 k3 8x8 f3 p1")
    assert "--resume goes on with a run as it was planned" in str(refused.exception)


def test_a_second_run_is_refused_and_told_by_whom(place: Path) -> None:
    with host.alone() as lock:
        lock.tell("the-first")
        said = run("one")
    assert isinstance(said.exception, BusyError)
    assert f"run the-first, pid {os.getpid()} of " in str(said.exception)
    assert not (place / "results").exists()


@pytest.mark.fault(
    "another run wants to begin between two suites of a run",
    "it waits for all of it",
)
def test_several_suites_are_measured_and_reported_under_one_hold_of_the_lock(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else another run could begin between two of them, or while a page is made."""
    really, holders = run_room._finish, []

    def finish(folder: Path, *rest: Any) -> bool:
        lock = host.Lock()
        assert not lock.take()
        holders.append((folder.name, lock.holder()))
        return really(folder, *rest)

    monkeypatch.setattr(run_room, "_finish", finish)
    assert run("one", "two", "--trials", "1").exit_code == 0
    assert [name.split("-")[1] for name, _ in holders] == ["one", "two"]
    assert [f"run {name}," in said for name, said in holders] == [True, True]
    with host.alone():  # nobody holds it any more
        pass


@pytest.mark.fault(
    "the host is busy with another run",
    "`--wait` waits, and says for whom",
)
def test_a_run_may_wait_for_another_and_says_on_whom(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with host.locked() as other:
        assert other.take()
        monkeypatch.setattr(host, "Patience", functools.partial(host.Patience, sleep=lambda seconds: other.release()))
        said = run("one", "--trials", "1", "--wait", "30m")
    assert said.exit_code == 0, said.output
    assert f"waiting: another run is measuring on this host (it holds {place}/lock): pid {os.getpid()}" in said.stderr


def test_a_run_that_waited_long_enough_is_refused(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock: Callable[[], float] = iter(range(0, 10_000, 1000)).__next__
    patient = functools.partial(host.Patience, sleep=lambda seconds: None, clock=clock)
    with host.alone():
        monkeypatch.setattr(host, "Patience", patient)
        assert isinstance(run("one", "--wait", "1h").exception, BusyError)


def test_a_whole_run_is_reported_when_it_is_gone_on_with(place: Path) -> None:
    assert run("one", "--trials", "1").exit_code == 0
    folder = table.find("results", "latest")
    (folder / "records.parquet").unlink()
    said = CliRunner().invoke(app, ["run", "--resume", "latest"])
    assert said.exit_code == 0, said.output
    assert (folder / "records.parquet").is_file()
    assert (place / "reports" / folder.name / "report.html").is_file()
    assert len(journal.read(folder)[0]) == 6
