"""The first night of a new method, with the numpy backend: it measures both ways once, however often it is cut off."""

import dataclasses
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness.analysis import gate
from harness.analysis.history import History
from harness.cli import app
from harness.execution import execute, host
from harness.nights import nightly, notify
from harness.record import METHOD_VERSION, VISITS_SINCE
from harness.review import nights
from harness.review.reading import Reading
from harness.store import journal, table
from tests.nights.test_standard import SUITE

STORE, CELLS, TRIALS = Path("results"), 2, 2


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working directory with the suite `tiny`, on a quiet machine; a long stay takes a moment."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "suites").mkdir()
    (tmp_path / "suites" / "tiny.toml").write_text(SUITE.replace('standard = "pinned"\n', ""))
    for name in (notify.URL, notify.FORMAT, notify.TOKEN, notify.JOB_SUMMARY):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(host.VARIABLE, str(tmp_path / "lock"))
    monkeypatch.setattr(nightly, "look", lambda lock: "")
    monkeypatch.setattr("harness.cli.nights.STAY_S", 0.02)


def night(*options):
    """What `convbench nightly` says of one more night, and the folder of its run; whoever else runs may bar its verdicts."""
    said = CliRunner().invoke(app, ["nightly", "tiny", "--no-report", "--no-ceilings", *options])
    assert said.exit_code not in (1, 2), said.output
    return said, table.find(STORE, said.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory):
    """Where the one earlier night of these tests is kept, so that it is measured once."""
    return tmp_path_factory.mktemp("kept")


@pytest.fixture
def before(place, kept):
    """The folder of an earlier night, by the method that long stays sample like."""
    if not any(kept.iterdir()):
        night()
        shutil.copytree(STORE, kept / STORE)
    shutil.copytree(kept / STORE, STORE, dirs_exist_ok=True)
    (folder,) = (STORE / "runs").iterdir()
    assert stays(folder) == 0
    by_method(folder, VISITS_SINCE - 1)
    return folder


def by_method(folder, version):
    """Have a night measured by that version of the method."""
    journal.finish(folder, dataclasses.replace(journal.read_run(folder), method_version=version))


def stays(folder):
    """In how many cells and trials a run made a long stay."""
    samples = Reading(folder).samples
    return len(samples[samples["series"] == "stay"].drop_duplicates(["cell", "trial"]))


def told():
    """What the gate says of the method on the newest night, whatever flags bar."""
    known = nights.history(STORE, "tiny")
    judged = gate.judge(History(known.runs, known.cells.assign(barred_by="")))
    return [reason for reason in judged.reasons if "method" in reason]


def test_the_first_night_of_a_new_method_measures_both_ways_and_the_second_does_not(before):
    said, first = night()
    assert stays(first) == CELLS * TRIALS
    assert "tiny: 2 cells x 2 trials, about" in said.stderr
    assert "of it to measure each cell as earlier nights did, too" in said.stderr
    (line,) = told()
    assert line.startswith(f"method 11 → {METHOD_VERSION}: compared by 2 cells measured both ways (new over old: ")
    kept = nights.history(STORE, "tiny").cells
    assert kept["vs_stay"].isna().tolist() == [True] * CELLS + [False] * CELLS
    assert kept["vs_stay"][CELLS:].between(0.2, 5).all()
    assert (kept["vs_stay_error"][CELLS:] > 0).all()
    said, second = night()
    assert stays(second) == 0
    assert "of it to measure" not in said.stderr
    assert told() == [line]


def test_a_dry_run_says_what_measuring_both_ways_costs(before, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("harness.cli.nights.STAY_S", 1.0)
    asked = ["nightly", "tiny", "--no-ceilings", "--dry-run"]
    assert "4 s of it to measure each cell as earlier nights did, too" in CliRunner().invoke(app, asked).stderr
    by_method(before, METHOD_VERSION)
    assert "of it to measure" not in CliRunner().invoke(app, asked).stderr


@pytest.mark.parametrize("lines", [2, 9])
def test_a_first_night_that_was_killed_and_is_resumed_measures_both_ways_too(before, lines):
    _, first = night()
    for path in first.glob("*.parquet"):
        path.unlink()
    whole = (first / journal.JOURNAL).read_bytes().splitlines(keepends=True)
    (first / journal.JOURNAL).write_bytes(b"".join(whole[:lines]))
    journal.finish(first, dataclasses.replace(journal.read_run(first), finished_at=None, environments=()))
    execute.resume(first)
    assert stays(first) == CELLS * TRIALS


def test_a_night_that_was_cut_off_or_not_measured_is_no_first_night(before, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(nightly, "look", lambda lock: "other processes: 97 % of one CPU")
    refused, _ = night("--wait", "0")
    assert refused.exit_code == 5
    monkeypatch.setattr(nightly, "look", lambda lock: "")
    _, cut = night()
    assert stays(cut) == CELLS * TRIALS
    journal.finish(cut, dataclasses.replace(journal.read_run(cut), finished_at=None))
    _, first = night()
    assert stays(first) == CELLS * TRIALS
    _, second = night()
    assert stays(second) == 0


def test_beside_a_standard_and_after_still_older_methods_nothing_is_measured_twice(before):
    by_method(before, VISITS_SINCE - 2)
    _, first = night()
    assert stays(first) == 0
    (line,) = told()
    assert "nothing could be compared, since nothing measures as method 10 did any more" in line
    by_method(before, VISITS_SINCE - 1)
    by_method(first, VISITS_SINCE - 1)
    Path("suites/tiny.toml").write_text(SUITE)
    _, beside = night()
    assert (journal.read_run(beside).standard, stays(beside)) == ("pinned", 0)


def test_each_machine_has_a_first_night_of_its_own():
    _, before = night("--machine", "one")
    by_method(before, VISITS_SINCE - 1)
    _, elsewhere = night("--machine", "two")
    _, here = night("--machine", "one")
    assert (stays(elsewhere), stays(here)) == (0, CELLS * TRIALS)
