"""Nights and runs of two machines in one store: each has its own history, and what is printed first says that they differ."""

import re
from pathlib import Path

import pytest

from harness.outcome import Level
from harness.page import index
from harness.record import Status
from harness.review import nights as nights_of
from harness.review import pages
from harness.review.reading import Reading
from harness.store import digests, journal, table
from tests import builders, stored
from tests.command import convbench

ALPHA, BETA = "id-of-alpha", "id-of-beta"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """12 nights of alpha, and from its third on as many of beta, at noon, which takes twice as long."""
    found = tmp_path / "results"
    for day in range(12):
        night(found, day, "alpha")
        if day >= 2:
            night(found, day, "beta")
    return found


def night(store: Path, day: int, machine: str, slower: float = 1.0, **more: object) -> Path:
    """A night of a machine, on which the cell that tests make slower takes so many times as long."""
    factors = dict.fromkeys(stored.CELLS, 2.0 if machine == "beta" else 1.0)
    factors[stored.SLOW] *= slower
    return stored.night(store, 2 * day + (machine == "beta"), factors, machine=machine, **more)


@pytest.mark.fault("two machines have nights in one store", "each is judged by its own")
def test_the_gate_judges_each_machine_by_its_own_nights(store: Path) -> None:
    for machine, id in (("alpha", ALPHA), ("beta", BETA)):
        folder = night(store, 12, machine)
        judgement, digest = stored.judged(folder)
        assert judgement.level is Level.QUIET
        assert set(judgement.cases["machine_id"]) == {id}
        assert judgement.cases["change"].abs().max() < 0.03
        assert (digest.machine_id, digest.machine) == (id, f"{machine}: Some CPU, 2 cores")
        assert [ratio.ratio for ratio in digest.over_first] == pytest.approx([1, 1], abs=0.02)
        assert digest.baseline_id.endswith(f"-small-{22 + (machine == 'beta'):04x}")


def test_a_slower_night_of_one_machine_is_held_against_that_machine(store: Path) -> None:
    judgement = Reading(night(store, 12, "beta", 1.2)).judgement
    assert judgement.level is Level.SUSPECT
    (held,) = judgement.cases[judgement.cases["state"] == "suspect"].itertuples()
    assert (held.cell, held.machine_id) == (stored.SLOW, BETA)
    assert stored.judged(night(store, 13, "alpha"))[0].level is Level.QUIET


@pytest.mark.fault("a night could not be measured", "it carries its machine")
def test_a_night_that_was_not_measured_carries_its_machine(store: Path) -> None:
    folder = night(store, 12, "beta", refusal="the machine was busy")
    assert set(table.load(folder)["machine_id"]) == {BETA}
    judgement, digest = stored.judged(folder)
    assert judgement.level is Level.INVALID
    assert set(judgement.cases["machine_id"]) == {BETA}
    assert (digest.machine_id, digest.machine) == (BETA, "beta: Some CPU, 2 cores")
    assert Reading(folder).night.before.id.endswith("-small-0017")  # beta's, though alpha's is as old
    assert stored.judged(night(store, 13, "beta"))[1].changes == ()  # what it was measured with is that of the night before


@pytest.mark.fault("a machine's first night could not be measured", "it is not another machine's")
def test_a_first_night_that_was_not_measured_is_not_one_of_another_machine(tmp_path: Path) -> None:
    store = tmp_path / "results"
    for day in range(12):
        night(store, day, "alpha")
    judgement, digest = stored.judged(night(store, 12, "beta", refusal="the machine was busy"))
    assert (digest.machine_id, digest.baseline_id) == (BETA, "")
    assert judgement.cases.empty


def test_the_index_has_a_trend_for_each_machine(store: Path, tmp_path: Path) -> None:
    for folder in sorted((store / "runs").iterdir())[-4:]:
        digests.write(tmp_path / "reports", stored.judged(folder)[1])
    text = index.render(digests.read(tmp_path / "reports"), []).text
    assert f"small on {ALPHA}" in text
    assert f"small on {BETA}" in text


@pytest.mark.fault("a history is of two machines", "it says so first and names both")
def test_history_says_first_that_machines_differ_and_has_the_nights_of_both(store: Path) -> None:
    said = convbench(store.parent, "history", stored.SLOW)
    assert said.returncode == 0, said.stderr
    first, *now = said.stderr.splitlines()
    assert first == (
        f"2 machines: alpha: Some CPU, 2 cores ({ALPHA}); beta: Some CPU, 2 cores ({BETA}): each is judged by its own nights"
    )
    assert sorted(line.rpartition("(")[2] for line in now) == [f"machine {ALPHA})", f"machine {BETA})"]
    assert said.stdout.count(ALPHA) == 12
    assert said.stdout.count(BETA) == 10


@pytest.mark.fault("a terminal has too few columns for the list of runs", "no id is folded, so that it can be copied")
@pytest.mark.parametrize("width", ["60", "80", "200"])
def test_the_list_of_runs_names_machines_and_never_folds_an_id(store: Path, width: str) -> None:
    said = convbench(store.parent, "list", "runs", COLUMNS=width, FORCE_COLOR="1").stdout
    said = re.sub(r"\x1b\[[\d;]*m", "", said)
    text = " ".join(said.split())
    for of in table.stored(store):
        assert of.run.id in said
        for machine, words in of.run.machines.items():
            assert f"{words} ({machine})" in text
    assert max(map(len, said.splitlines())) <= int(width)


@pytest.mark.fault("the newest machine lacks a cell", "its history is shown")
def test_the_history_of_a_cell_that_the_newest_machine_lacks(store: Path) -> None:
    run = builders.run("20990101T000000-small-ffff", tags=("nightly",), environments=(builders.environment(machine_id="c"),))
    folder = journal.create(store, run)
    with journal.Journal(folder) as book:
        book.append(builders.record(run_id=run.id, of=builders.cell(workload="other")))
    table.seal(folder)
    found = nights_of.of_cell(store, stored.SLOW)
    assert set(found["machine_id"]) == {ALPHA, BETA}
    assert len(found.attrs["now"]) == 2


def two_runs(store: Path, **other: object) -> None:
    """The same cell, in a run on each of two machines."""
    for id, environment in (("20260301-a", builders.environment()), ("20260302-b", builders.environment(**other))):
        folder = journal.create(store, builders.run(id, environments=(environment,), finished_at=builders.START))
        with journal.Journal(folder) as book:
            for trial in range(5):
                book.append(builders.record([1000 + trial] * 30, run_id=id, trial=trial, order=trial))
            book.append(environment)
        table.seal(folder)


@pytest.mark.fault("two runs of two machines are compared", "it says so first and names both")
def test_compare_says_first_that_machines_differ(tmp_path: Path) -> None:
    two_runs(tmp_path / "results", machine_id="machine-2", cpu="Intel Xeon", cores=8)
    said = convbench(tmp_path, "compare", "20260301-a", "20260302-b")
    differ = "the baseline was measured on Some CPU, 2 cores, this run on Intel Xeon, 8 cores"
    assert said.stderr.splitlines()[0] == f"{differ}: times of two machines tell of no change"


def test_compare_of_one_machine_says_nothing_of_machines(tmp_path: Path) -> None:
    two_runs(tmp_path / "results")
    assert "measured on" not in convbench(tmp_path, "compare", "20260301-a", "20260302-b").stderr


@pytest.mark.fault(
    "the baseline is of another machine",
    'the page says "not comparable", calls nothing slower and the run not invalid',
)
def test_a_page_beside_a_baseline_of_another_machine_calls_nothing_slower_and_the_run_not_invalid(tmp_path: Path) -> None:
    two_runs(tmp_path / "results", machine_id="machine-2", cpu="Intel Xeon", cores=8)
    base, new = ((tmp_path / "results" / "runs" / id) for id in ("20260301-a", "20260302-b"))
    made = pages.publish(Reading(new), tmp_path / "reports", Reading(base))
    text = made.path.read_text()
    words = "Not comparable: the baseline was measured on Some CPU, 2 cores, this run on Intel Xeon, 8 cores."
    assert made.broken == ()
    assert words in text
    assert "not comparable" in text
    assert "run is invalid" not in text
    digest = digests.read(tmp_path / "reports")[new.name]
    assert (digest.sentence, digest.code, digest.verdicts) == (words, 4, {"uncertain": 1})


@pytest.mark.fault("a run is of two machines", "showing it says so first")
def test_show_of_a_run_that_two_machines_made_says_so_first(tmp_path: Path) -> None:
    both = builders.environment(), builders.environment(id="env-2", machine_id="machine-2", cpu="Intel \x1b[31mXeon")
    folder = journal.create(tmp_path / "results", builders.run("20260301-a", environments=both, finished_at=builders.START))
    with journal.Journal(folder) as book:
        book.append(builders.record(run_id="20260301-a"))
    said = convbench(tmp_path, "show")
    assert said.stderr.splitlines()[0].startswith(
        "2 machines: Some CPU, 2 cores (machine-1); Intel Xeon, 2 cores (machine-2): "
    )


def test_a_record_that_names_no_environment_is_of_the_machine_that_the_run_was_planned_on(tmp_path: Path) -> None:
    run = builders.run("20260301-a", planned_on=builders.environment(machine_id="here"))
    folder = journal.create(tmp_path, run)
    with journal.Journal(folder) as book:
        book.append(builders.failed(Status.ERROR, "could not be set up", run_id=run.id, environment_id=""))
        book.append(builders.record(run_id=run.id, order=1, trial=1))
        book.append(builders.environment())
    assert table.load(tmp_path)["machine_id"].tolist() == ["here", "machine-1"]
