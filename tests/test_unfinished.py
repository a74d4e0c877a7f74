"""A run that was killed or still goes on says so on every face, names no winner, and calls nothing failed that was not run."""

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner

from harness import codec
from harness.analysis import judgement
from harness.axes import Direction, Mode
from harness.cli import app
from harness.execution import host
from harness.nights import notify
from harness.outcome import Outcome
from harness.plan import Budget, Plan, Step
from harness.record import METHOD_VERSION, NIGHTLY, Status
from harness.review import comparing, pages
from harness.review import nights as nights_of
from harness.review.reading import Reading, overview
from harness.store import journal, table
from harness.store.table import Stored
from tests import builders, settings, stored

RUN = "20260301T023000-small-0000"
WORKLOADS = ("one", "two", "three")
CELLS = tuple(builders.cell(workload=name, backend=backend) for name in WORKLOADS for backend in ("torch", "jax", "tensorflow"))


def of(folder: Path) -> Stored:
    return Stored(folder, journal.read_run(folder))


def killed(store: Path, made: int, trials: int = 1, *, run: str = RUN, plan: bool = True, cells: Sequence = CELLS) -> Path:
    """A run of nine cells as kill -9 leaves it after so many measurements: run.json, plan.json and the journal."""
    said = builders.run(run, method_version=METHOD_VERSION)
    folder = journal.create(store, said)
    steps = tuple(Step(trial, trial * len(cells) + place, each) for trial in range(trials) for place, each in enumerate(cells))
    if plan:
        (folder / journal.PLAN).write_text(codec.dumps(Plan("small", steps, 7, Budget())))
    with journal.Journal(folder) as book:
        for name in ("torch", "jax", "tensorflow"):
            book.append(builders.environment(id=f"env-{name}", backend=name))
        for step in steps[:made]:
            ns = 1_000_000 + 200_000 * ["torch", "jax", "tensorflow"].index(step.cell.backend) + 1000 * step.trial
            book.append(builders.record(
                [ns] * 30, of=step.cell, trial=step.trial, order=step.order, run_id=run,
                environment_id=f"env-{step.cell.backend}",
            ))  # fmt: skip
    return folder


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The host's lock in a folder of its own, so that no other run on this machine matters."""
    monkeypatch.setenv(host.VARIABLE, str(tmp_path / "lock"))
    return tmp_path / "lock"


def said(*arguments: str) -> tuple[int, str]:
    """The exit code of a command and what it printed."""
    done = CliRunner().invoke(app, list(arguments))
    return done.exit_code, done.output


@pytest.mark.fault("a run was killed", "the total comes from its plan, with the command that resumes it")
def test_the_total_comes_from_the_plan(tmp_path: Path) -> None:
    extent = Reading(killed(tmp_path, 5)).extent
    assert extent.words == "cut off: 5 of 9 cells"
    assert extent.sentence() == f"cut off: 5 of 9 cells, resume with `convbench run --resume {RUN}`"
    assert extent.sentence("my runs") == f"cut off: 5 of 9 cells, resume with `convbench run --resume {RUN} --out 'my runs'`"


@pytest.mark.fault("a run was killed amid its trials", "measurements are counted")
def test_trials_that_are_missing_count_too(tmp_path: Path) -> None:
    extent = Reading(killed(tmp_path, 14, trials=3)).extent
    assert extent.words == "cut off: 14 of 27 measurements of 9 cells"


@pytest.mark.fault("cells leave a run before its last trial", "what is missing of it is counted by what its plan has")
def test_cells_that_leave_early_are_counted_as_they_were_planned(tmp_path: Path) -> None:
    folder = killed(tmp_path, 9, trials=1)
    steps = [*journal.read_plan(folder).steps, Step(1, 9, CELLS[0]), Step(1, 10, CELLS[1]), Step(2, 11, CELLS[0])]
    journal.write_plan(folder, Plan("small", tuple(steps), 7, Budget()))
    assert Reading(folder).extent.words == "cut off: 9 of 12 measurements of 9 cells"


@pytest.mark.fault("a run was killed amid its ceilings", "they are counted apart")
def test_ceilings_that_are_missing_are_told_apart(tmp_path: Path) -> None:
    from harness.spec import GemmSpec

    product = builders.cell(workload="product", spec=GemmSpec(8, 8, 8), direction=Direction.NONE)
    extent = Reading(killed(tmp_path, 9, cells=(*CELLS, product))).extent
    assert extent.words == "cut off: 9 of 9 cells, 0 of 1 ceiling"


@pytest.mark.fault("the plan of a run that was cut off is gone", "what is known is said, and no more")
def test_without_a_plan_what_is_known_is_said_and_no_more(tmp_path: Path) -> None:
    extent = Reading(killed(tmp_path, 5, plan=False)).extent
    assert extent.sentence() == "cut off: 5 measurements, of how many is not known"


@pytest.mark.fault("a run is being measured, or another one is", 'only it is "not finished", the other is "cut off"')
def test_a_run_that_is_still_measured_is_not_called_cut_off(tmp_path: Path) -> None:
    folder = killed(tmp_path, 5)
    with host.alone() as lock:
        lock.tell("another")
        assert Reading(folder).extent.tag == "cut off"
        lock.tell(RUN)
        assert Reading(folder).extent.sentence() == "not finished: 5 of 9 cells so far"
        table.seal(folder)  # as an interrupted run does in the end: nobody writes to it any more
        assert Reading(folder).extent.tag == "cut off"


def test_a_run_that_ended_has_no_extent(tmp_path: Path) -> None:
    assert Reading(stored.night(tmp_path, 0)).extent is None


def test_a_killed_run_has_a_row_for_each_measurement_that_is_missing(tmp_path: Path) -> None:
    records = table.load(killed(tmp_path, 14, trials=3))
    assert records["status"].value_counts().to_dict() == {"ok": 14, "not_run": 13}
    assert records["order"].tolist() == list(range(27))


@pytest.mark.fault("a run was killed amid its visits", "what was visited has no figure yet, and its row says how often it was")
def test_what_was_visited_and_not_finished_has_no_figure_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = killed(tmp_path / "results", 3)
    with journal.Journal(folder) as book:
        for turn, order in enumerate((3, 4, 3)):
            book.append(builders.visit(order, turn=turn))
    records = table.load(folder)
    assert records["status"].tolist() == ["ok"] * 3 + ["not_run"] * 6
    assert records["reason"].tolist()[3:6] == [
        "not finished: 2 visits so far", "not finished: 1 visit so far", "the run has not come to this cell"
    ]  # fmt: skip
    assert set(table.samples(folder)["cell"]) == set(map(str, CELLS[:3]))
    assert Reading(folder).extent.words == "cut off: 3 of 9 cells"
    monkeypatch.chdir(tmp_path)
    code, printed = said("show", RUN)
    assert code == 5
    assert "cut off: 3 of 9 cells" in printed
    code, printed = said("list", "runs")
    assert (code, "cut off: 3 of 9 cells" in printed) == (0, True)


@pytest.mark.fault("a cell lacks a trial", "it has the figure of those that were made")
def test_a_cell_has_the_figure_of_the_trials_that_were_run(tmp_path: Path) -> None:
    summary = Reading(killed(tmp_path, 14, trials=3)).ranking
    assert set(summary["status"]) == {"ok"}
    assert sorted(summary["trials"]) == [1, 1, 1, 1, 2, 2, 2, 2, 2]


def test_no_cell_of_it_is_the_best_and_a_factor_needs_all_that_compete(tmp_path: Path) -> None:
    summary = Reading(killed(tmp_path, 5)).ranking
    assert not summary["best"].any()
    assert not summary["tie"].any()
    known = summary.loc[summary["vs_best"].notna(), "workload"]
    assert known.tolist() == ["one"] * 3


@pytest.mark.fault("a page is made of a run that was cut off", "it has no green and no winner")
def test_its_page_has_no_green_no_winner_and_says_how_to_go_on(tmp_path: Path) -> None:
    text = pages.page(Reading(killed(tmp_path, 5))).text
    head = text[text.index('<section id="verdict"') : text.index('<section id="validity"')]
    assert '<div class="verdict warn">' in head
    assert "! cut off</span> 5 of 9 cells have a checked figure; 4 were not run." in head
    assert f"Cut off: 5 of 9 cells, resume with <code>convbench run --resume {RUN}</code>." in head
    assert "fast" not in re.findall(r'class="tile ([a-z]*)"', head)
    assert "is fastest" not in head
    assert "complete" not in head
    assert "0</b><span>failed" in head
    assert "4</b><span>not run" in head
    compared = text[text.index('<section id="compare"') : text.index('<section id="workloads"')]
    assert "Not compared: cut off: 5 of 9 cells" in compared
    assert "●" not in text[text.index('<section id="workloads"') : text.index('<section id="roofline"')]


@pytest.mark.fault("a run was cut off", "no setting of it is slower or faster, in the table, along an axis or on its page")
def test_a_run_that_was_cut_off_decides_nothing_on_any_face(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cells = settings.cells(workload=("one", "two"), mode=(Mode.EAGER, Mode.COMPILED))
    ended = Reading(settings.run(tmp_path / "ended", cells))
    cut = Reading(settings.run(tmp_path / "results", cells, finished=False))
    assert set(ended.along("mode")["difference"]) == {"faster"}
    assert set(cut.along("mode")["difference"]) == set(cut.worth["mode"]["difference"]) == {"undecided"}
    assert cut.along("mode")["factor"].tolist() == ended.along("mode")["factor"].tolist()
    assert not cut.ranking[["best", "tie", "decided"]].any(axis=None)
    assert ["beside eager: 2 faster." in pages.page(each).text for each in (ended, cut)] == [True, False]
    monkeypatch.chdir(tmp_path)
    code, printed = said("show", "latest", "--by", "mode")
    assert (code, "of 2 cells beside eager: 2 undecided\n" in printed) == (5, True)
    assert "the run has not ended: nothing of it is decided" in printed
    assert "under 4 pairs" not in printed


@pytest.mark.fault(
    "a run that was cut off stands beside a baseline",
    "no verdict is drawn; what was not run is neither failed nor lost",
)
def test_beside_a_baseline_no_verdict_is_drawn_from_it(tmp_path: Path) -> None:
    whole = killed(tmp_path, 9, run="20260301T013000-small-0000")
    journal.finish(whole, builders.run(whole.name, method_version=METHOD_VERSION, finished_at=builders.START))
    cut = killed(tmp_path, 5)
    given = comparing.standing(Reading(cut), Reading(whole))
    assert str(given.judged.level) == "invalid"
    assert given.judged.count(Outcome.NOT_RUN) == 4
    assert given.judged.count(Outcome.FAILED) == given.judged.count(Outcome.LOST) == 0
    assert "4 cases were not run." in given.judged.sentence
    head = pages.page(Reading(cut), Reading(whole)).text
    head = head[head.index('<section id="verdict"') : head.index('<section id="validity"')]
    assert "! cut off</span>" in head
    assert f"resume with <code>convbench run --resume {RUN}</code>." in head


@pytest.mark.fault("the baseline was cut off", "what it never ran is new, not fixed")
def test_what_the_baseline_never_ran_is_new_and_not_fixed(tmp_path: Path) -> None:
    cut, whole = killed(tmp_path, 5), killed(tmp_path, 9, run="20260301T033000-small-0000")
    found = judgement.against(comparing.compare(table.load(cut), table.load(whole)), cut.name)
    assert found.count(Outcome.NEW) == 4
    assert found.count(Outcome.FIXED) == 0


@pytest.mark.fault("a command shows a run that was cut off", "it says so first and ends with code 5")
@pytest.mark.parametrize(
    "command",
    [("show", RUN), ("show", RUN, "--by", "backend"), ("show", RUN, "--format", "csv"), ("report", RUN), ("compare", RUN, RUN)],
    ids=lambda command: " ".join(command[:1] + command[2:]),
)
def test_every_command_that_shows_it_says_so_first_and_ends_with_code_5(
    command: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    killed(Path("results"), 5)
    code, printed = said(*command)
    assert code == 5
    side = "base: " if command[0] == "compare" else ""
    assert printed.startswith(f"{side}cut off: 5 of 9 cells, resume with `convbench run --resume {RUN}`\n")


def test_the_store_is_named_where_the_command_would_not_look_there(tmp_path: Path) -> None:
    killed(tmp_path / "nights", 5)
    _, printed = said("show", RUN, "--out", str(tmp_path / "nights"))
    assert printed.startswith(f"cut off: 5 of 9 cells, resume with `convbench run --resume {RUN} --out {tmp_path}/nights`\n")


@pytest.mark.fault("a store holds runs that were cut off", "the list tells state, failed and not run apart")
def test_the_list_of_runs_tells_state_failed_and_not_run_apart(tmp_path: Path) -> None:
    killed(tmp_path, 5)
    stored.night(tmp_path, 3)
    code, printed = said("list", "runs", "--out", str(tmp_path))
    assert code == 0
    rows = {cells[0]: cells for line in printed.splitlines()[2:] if (cells := [part.strip() for part in line.split("│")])}
    assert rows[RUN][4:] == ["5", "0", "4", "–", "cut off: 5 of 9 cells"]
    assert next(row for name, row in rows.items() if name != RUN)[4:] == ["6", "0", "0", "1 min 00 s", "ended"]


def test_digest_and_index_say_so(tmp_path: Path) -> None:
    folder = killed(tmp_path / "results", 5)
    pages.publish(Reading(folder), tmp_path / "reports")
    digest = json.loads((tmp_path / "reports" / RUN / "summary.json").read_text())
    assert digest["code"] == 5
    assert digest["unfinished"] == "cut off: 5 of 9 cells"
    assert digest["sentence"].startswith("Cut off: 5 of 9 cells. 5 of 9 cells have a checked figure; 4 not run")
    assert digest["statuses"] == {"ok": 5, "not_run": 4}
    index = (tmp_path / "reports" / "index.html").read_text()
    assert '<div class="verdict warn">' in index
    assert index.count('<span class="tag warn">! cut off</span>') == 2
    assert "5 / 9" in index


@pytest.mark.fault("a night was cut off", "it is not green, and no cell fails that was not run")
def test_a_night_that_was_cut_off_is_no_green_night_and_its_junit_fails_no_cell_that_was_not_run(tmp_path: Path) -> None:
    stored.nights(tmp_path, 12)
    judgement, digest = stored.judged(stored.night(tmp_path, 12, cells=5))
    assert (str(judgement.level), digest.code) == ("invalid", 5)
    assert digest.unfinished.startswith("cut off: ")
    cases = {case.get("name"): case for case in ElementTree.fromstring(notify.junit_xml(judgement, digest)).iter("testcase")}
    lost = cases.pop(stored.CELLS[-1])
    assert lost.find("skipped").get("message").startswith("not run: ")
    assert [name for name, case in cases.items() if case.find("failure") is not None] == ["night"]
    assert NIGHTLY in overview(tmp_path)[0].run.tags


@pytest.mark.fault("a cell of a night lacks a trial", "it is part of no history")
def test_a_cell_that_lacks_a_trial_is_part_of_no_history(tmp_path: Path) -> None:
    kept = nights_of.read(of(killed(tmp_path, 14, trials=3))).astype(object)
    assert kept["barred_by"].tolist() == ["few_samples"] * 9
    whole = nights_of.read(of(killed(tmp_path, 9, run="20260301T013000-small-0000"))).astype(object)
    assert whole["barred_by"].tolist() == [""] * 9


def test_not_run_is_no_failure() -> None:
    assert [status for status in Status if status.failed] == ["incorrect", "oom", "timeout", "crashed", "error"]
