"""`convbench show --follow`: a run told as its journal grows, by one that reads it meanwhile."""

import dataclasses
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import typer

from harness import codec
from harness.axes import Mode
from harness.cli import follow
from harness.plan import Budget, Plan, Step
from harness.record import Record, Run, Status, Visit
from harness.store import journal
from tests import builders, settings
from tests.command import convbench

CELLS = settings.cells(backend=("jax", "torch"), mode=(Mode.EAGER, Mode.COMPILED))
BACKENDS = ["jax", "torch"]
RUN = builders.run("20260301-023000-small-aaaa", method_version=12)


def plan(trials: int) -> Plan:
    steps = [Step(trial, trial * len(CELLS) + place, cell) for trial in range(trials) for place, cell in enumerate(CELLS)]
    return Plan("small", tuple(steps), 7, Budget(trials=trials))


def begun(store: Path, trials: int) -> Path:
    return journal.create(store, RUN, plan(trials))


def ended(folder: Path) -> None:
    journal.finish(folder, dataclasses.replace(RUN, finished_at=RUN.started_at + timedelta(seconds=60), took_s=60.0))


def told(folder: Path, steps: Iterator[object], capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What is printed where at each pause the next of these steps is made."""
    follow.follow(folder, folder.parent.parent, lambda _: next(steps, None))
    which, *lines = capsys.readouterr().out.splitlines()
    assert which.startswith(RUN.id)
    return lines


def trial_by_trial(folder: Path, trials: int, end: Callable[[Path], None]) -> Iterator[None]:
    with journal.Journal(folder) as book:
        for trial in range(trials):
            settings.measured(book, RUN, CELLS, BACKENDS, trial, 3)
            yield
        yield
    end(folder)
    while True:
        yield


def test_each_turn_and_each_trial_is_told_and_the_table_in_the_end(tmp_path, capsys) -> None:
    folder = begun(tmp_path, 5)
    lines = told(folder, trial_by_trial(folder, 5, ended), capsys)
    assert lines[0] == "nothing is measured yet"
    assert lines[1:4] == [f"trial 1, window 1, turn {turn}: 4 visits" for turn in (1, 2, 3)]
    assert lines[4].startswith("after trial 1: 0 of 3 comparisons with the fastest decided (0 slower, 0 as good)")
    assert lines[4].endswith("nothing is decided under 4 trials")
    assert lines[16].startswith("after trial 4: 3 of 3 comparisons with the fastest decided (2 slower, 1 as good); half of the")
    assert lines[20].startswith("workload") or "jax" in lines[20]
    assert any(line.startswith("conv") and "● " in line for line in lines[20:])


def test_what_is_not_installed_is_a_line_for_each_backend(tmp_path) -> None:
    remedies = {"torch": "pip install 'convbench[torch]'", "torch@pinned": "pip install 'convbench[torch]'"}
    twin = dataclasses.replace(CELLS[-1], backend="torch@pinned")
    folder = journal.create(tmp_path, RUN, dataclasses.replace(plan(1), absent=remedies))
    news = follow.News(folder)
    assert CELLS[-1].backend == "torch"
    with journal.Journal(folder) as book:
        for order, of in enumerate((*CELLS, twin)):
            status = Status.SKIPPED if "torch" in of.backend else Status.ERROR
            book.append(builders.failed(status, "why", of=of, order=order, run_id=RUN.id))
    assert [line for line in news.lines() if "torch" in line] == ["  torch: not installed: pip install 'convbench[torch]'"]
    assert follow.News(folder).so_far() == ["nothing is measured yet"]


def test_a_record_that_is_not_ok_and_void_visits_are_told(tmp_path, capsys) -> None:
    folder = begun(tmp_path, 1)

    def steps() -> Iterator[None]:
        with journal.Journal(folder) as book:
            book.append(builders.visit(0, turn=0))
            book.append(builders.visit(1, turn=0, series=(), reason="the worker died"))
            book.append(builders.failed(Status.CRASHED, "signal 11", of=CELLS[1], order=1, run_id=RUN.id))
            yield
        ended(folder)
        yield

    lines = told(folder, steps(), capsys)
    assert lines[1:3] == [f"trial 1: {CELLS[1]} crashed: signal 11", "trial 1, window 1, turn 1: 2 visits, 1 void"]


def test_cells_of_another_window_are_told_apart(tmp_path, capsys) -> None:
    folder = begun(tmp_path, 1)

    def steps() -> Iterator[None]:
        with journal.Journal(folder) as book:
            for turn, order in enumerate((0, 0, 1, 1)):
                book.append(builders.visit(order, turn=turn))
            yield
        ended(folder)
        yield

    where = [line.partition(":")[0] for line in told(folder, steps(), capsys)[1:5]]
    assert where == [f"trial 1, window {window}, turn {turn}" for window in (1, 2) for turn in (1, 2)]


def test_a_plan_that_grows_by_a_trial_is_read_again(tmp_path, capsys) -> None:
    folder = begun(tmp_path, 1)

    def steps() -> Iterator[None]:
        with journal.Journal(folder) as book:
            settings.measured(book, RUN, CELLS, BACKENDS, 0, 1)
            yield
            journal.write_plan(folder, plan(2))
            settings.measured(book, RUN, CELLS, BACKENDS, 1, 1)
            yield
        ended(folder)
        yield

    lines = told(folder, steps(), capsys)
    assert [line.partition(":")[0] for line in lines[1:4]] == [
        "trial 1, window 1, turn 1", "after trial 1", "trial 2, window 1, turn 1",
    ]  # fmt: skip


def test_a_run_that_was_cut_off_ends_the_following_with_a_sentence(tmp_path, capsys) -> None:
    folder = begun(tmp_path, 5)
    with pytest.raises(typer.Exit) as left:
        told(folder, trial_by_trial(folder, 1, lambda _: None), capsys)
    lines = capsys.readouterr().out.splitlines()
    assert left.value.exit_code == 5
    assert lines[4] == "trial 1, window 1, turn 3: 4 visits"
    assert "--resume" in lines[-1]


def test_who_comes_late_is_told_how_far_it_is(tmp_path) -> None:
    folder = begun(tmp_path, 5)
    with journal.Journal(folder) as book:
        for trial in range(2):
            settings.measured(book, RUN, CELLS, BACKENDS, trial, 3)
        first, sure = follow.News(folder).so_far()
    assert first == "so far: trial 2, 24 visits"
    assert sure.startswith("after trial 1: ")


def test_ctrl_c_ends_the_following_and_leaves_the_run_alone(tmp_path, capsys) -> None:
    folder = begun(tmp_path, 1)
    with journal.Journal(folder) as book:
        settings.measured(book, RUN, CELLS, BACKENDS, 0, 1)

        def pressed(_: float) -> None:
            raise KeyboardInterrupt

        with pytest.raises(typer.Exit) as left:
            follow.follow(folder, tmp_path, pressed)
        assert left.value.exit_code == 130
        assert "the run goes on" in capsys.readouterr().err
        book.append(builders.environment())  # its journal is as it was


def test_no_sample_is_decoded_and_no_byte_read_twice_between_trials(tmp_path, monkeypatch) -> None:
    folder = begun(tmp_path, 2)
    decoded, decode = [], codec.decode
    monkeypatch.setattr(codec, "decode", lambda kind, data: decoded.append(kind) or decode(kind, data))
    news = follow.News(folder)
    decoded.clear()
    with journal.Journal(folder) as book:
        settings.measured(book, RUN, CELLS, BACKENDS, 0, 3)
        assert len(list(news.lines())) == 2
        assert Record in decoded
        size = (folder / journal.JOURNAL).stat().st_size
        read = []
        monkeypatch.setattr(journal, "visit_in", lambda line: read.append(line))
        assert (list(news.lines()), read) == ([], [])
        book.append(builders.visit(4, turn=3))
        list(news.lines())
    assert sum(len(line) + 1 for line in read) == (folder / journal.JOURNAL).stat().st_size - size
    assert Visit not in decoded


def test_half_a_line_waits_for_its_other_half(tmp_path) -> None:
    folder = begun(tmp_path, 1)
    with journal.Journal(folder) as book:
        book.append(builders.visit(0))
    path = folder / journal.JOURNAL
    whole = path.read_bytes()
    path.write_bytes(whole[:50])
    tail = journal.Tail(folder)
    assert list(tail.lines()) == []
    path.write_bytes(whole + b'{"visit"')
    assert list(tail.lines()) == [whole.rstrip(b"\n")]
    assert list(journal.Tail(tmp_path).lines()) == []  # there is none yet


def test_the_command_follows_a_run_that_has_ended_to_its_table(tmp_path) -> None:
    settings.run(tmp_path / "results", CELLS)
    said = convbench(tmp_path, "show", "latest", "--follow")
    assert said.returncode == 0, said.stderr
    assert "so far: trial 1, 48 visits" in said.stdout
    assert "● " in said.stdout
    assert convbench(tmp_path, "show", "--follow", "--by", "mode").returncode == 2


def test_the_follower_knows_a_run_by_its_run_json(tmp_path) -> None:
    folder = begun(tmp_path, 1)
    over = follow._Ended(folder)
    assert not over()
    ended(folder)
    assert over()
    assert isinstance(over._run, Run)
