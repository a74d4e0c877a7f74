"""The progress of a run, as it is told and drawn."""

import io
from collections.abc import Sequence

from rich.console import Console

from harness.analysis.ranking import Sureness
from harness.cli import progress
from harness.plan import Budget, Plan, Step
from harness.record import Progress, Status
from tests.builders import cell, failed, record, visit

OF = (cell(), cell(backend="jax"))


def screen(*, trials: int = 1, visits: int = 2, terminal: bool = False) -> tuple[progress.Screen, io.StringIO]:
    """A screen that was told of a plan of two cells, and what is written to it from then on."""
    out = io.StringIO()
    watcher = progress.Screen(Console(file=out, width=220, force_terminal=terminal))
    steps = [Step(trial, trial * len(OF) + order, each) for trial in range(trials) for order, each in enumerate(OF)]
    watcher.planned(Plan("tests", tuple(steps), 7, Budget(trials=trials, visits=visits)), 60.0)
    out.truncate(0)
    out.seek(0)
    return watcher, out


def told(watcher: progress.Screen, news: Sequence[object]) -> None:
    for each in news:
        getattr(watcher, {"Progress": "progress", "Visit": "visited", "Record": "recorded"}[type(each).__name__])(each)


def test_without_a_terminal_each_turn_and_each_record_is_a_line():
    watcher, out = screen(trials=2)
    told(
        watcher,
        [
            visit(0), visit(1), Progress(1, 1, 1, 1, 2), visit(0, turn=1), visit(1, turn=1), Progress(1, 1, 1, 2, 2),
            record(of=OF[0]), failed(Status.CRASHED, "exit code 3", of=OF[1], order=1), Progress(2, 3, 4, 1, 2),
        ],
    )  # fmt: skip
    assert out.getvalue().splitlines() == [
        "trial 1 of 2, turn 1 of 2", "trial 1 of 2, turn 2 of 2", f"[1/4] {OF[0]} ok", f"[2/4] {OF[1]} crashed: exit code 3",
        "trial 2 of 2, window 3 of 4, turn 1 of 2",
    ]  # fmt: skip
    assert watcher.counts == {Status.OK: 1, Status.CRASHED: 1}


def test_one_trial_of_one_window_is_told_by_its_turns_alone():
    watcher, out = screen()
    told(watcher, [Progress(1, 1, 1, 1, 2)])
    assert out.getvalue() == "turn 1 of 2\n"


def test_a_terminal_shows_the_turn_and_the_cell_that_was_visited_last():
    watcher, out = screen(terminal=True)
    with watcher:
        told(watcher, [visit(0), visit(1), Progress(1, 1, 1, 1, 2), visit(1, turn=1)])
        drawn = out.getvalue()
    assert "turn 1 of 2" in drawn
    assert str(OF[0]) in drawn
    assert drawn.index(str(OF[0])) < drawn.rindex(str(OF[1]))


def test_the_share_that_is_done_grows_with_visits_and_records_and_ends_at_one():
    watcher, _ = screen()
    shares = [watcher.share]
    for news in (visit(0), visit(1), visit(0, turn=1), visit(1, turn=1), record(of=OF[0]), record(of=OF[1], order=1)):
        told(watcher, [news])
        shares.append(watcher.share)
    assert shares == sorted(set(shares))
    assert (shares[0], shares[-1]) == (0, 1)


def test_cells_that_fail_before_they_are_visited_count_as_done():
    watcher, _ = screen()
    told(watcher, [failed(Status.ERROR, "why", of=each, order=order) for order, each in enumerate(OF)])
    assert watcher.share == 1


def test_the_time_left_is_the_estimate_at_first_and_nothing_in_the_end(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    watcher, _ = screen()
    assert watcher.left_s() == 60
    now[0] += 30
    told(watcher, [visit(0), visit(1), visit(0, turn=1), visit(1, turn=1)])
    assert watcher.share == 0.5
    assert watcher.left_s() == 30  # by the pace, and by the estimate
    told(watcher, [record(of=each, order=order) for order, each in enumerate(OF)])
    assert watcher.left_s() == 0


def test_after_a_trial_it_is_told_how_sure_the_run_is():
    watcher, out = screen(trials=2)
    watcher.sure(1, Sureness(49, 0, None))
    watcher.sure(4, Sureness(49, 31, 0.07))
    watcher.sure(4, Sureness(0, 0, None))  # nothing is compared
    assert out.getvalue().splitlines() == [
        "after 1 trial: comparisons: 49, how well they are known takes 2 trials",
        "after 4 trials: comparisons known to ±7.0 % in the median, 31 of 49 decided",
    ]
