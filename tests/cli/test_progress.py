"""The progress of a run, as it is drawn."""

import io
from dataclasses import replace

from rich.console import Console

from harness.cli import progress
from harness.plan import Budget, Plan, Step
from harness.record import Flag, Status
from tests.builders import cell, failed, record


def test_a_cell_that_is_measured_once_more_is_told_so_and_counted_once():
    out = io.StringIO()
    watcher = progress.Screen(Console(file=out, width=220))
    of = (cell(), cell(backend="jax"))
    watcher.planned(Plan("tests", tuple(Step(0, order, each) for order, each in enumerate(of)), 7, Budget()), 2.0)
    first, other = (record(of=each, order=order) for order, each in enumerate(of))
    lost = failed(Status.CRASHED, "exit code 3", of=of[1], order=1)
    for each in (
        first,
        other,
        replace(first, repeated_for=(Flag.DRIFT, Flag.BIMODAL)),
        replace(lost, repeated_for=(Flag.DRIFT,)),
    ):
        watcher.recorded(each)
    assert out.getvalue().splitlines()[1:] == [
        f"[1/2] {of[0]} ok", f"[2/2] {of[1]} ok", f"[2/2] {of[0]} once more for drift, bimodal ok",
        f"[2/2] {of[1]} once more for drift crashed: exit code 3",
    ]  # fmt: skip
    assert watcher.counts == {Status.OK: 2}
