"""What the gate says of a night, in words: of each case that has changed, and of the night as a whole."""

from collections.abc import Sequence

import pandas as pd

from harness import units
from harness.analysis import changes
from harness.analysis.replay import CORRECTED, ESTIMATORS, STANDARD
from harness.analysis.rows import Row, dicts_of
from harness.axes import Direction
from harness.outcome import Level, State


def name(row: Row) -> str:
    """A case as people call it: `conv3x3 backward filter, torch eager on cpu`."""
    return f"{row['workload']} {Direction(row['direction']).words}, {row['backend']} {row['mode']} on {row['device']}"


def reasons(cases: pd.DataFrame, machines: Sequence[tuple[Level, str]]) -> list[tuple[Level, str]]:
    """What bears on the level, each with the level that it makes; `machines` is what those add to the cases."""
    by_state = {State(str(state)): frame for state, frame in cases.groupby("state", sort=False)}
    found: list[tuple[Level, str]] = []
    for state, level in (
        (State.CONFIRMED, Level.REGRESSION), (State.OPEN, Level.REGRESSION), (State.SUSPECT, Level.SUSPECT),
        (State.IMPROVED, Level.IMPROVED),
    ):  # fmt: skip
        found += [(level, _changed(state, row)) for row in dicts_of(by_state.get(state, cases[:0]))]
    found += machines
    for state in (State.RESOLVED, State.IMPROVING):
        found += [(Level.QUIET, _changed(state, row)) for row in dicts_of(by_state.get(state, cases[:0]))]
    drifting = cases[cases["drift"].abs() > changes.LEAST]
    found += [
        (Level.QUIET, f"{name(row)} drifts: {units.percent(row['drift'])} over the last {changes.DRIFT_NIGHTS} nights")
        for row in dicts_of(drifting)
    ]
    short = by_state.get(State.INSUFFICIENT_HISTORY, cases[:0])
    if len(short):
        found.append((Level.QUIET, f"{units.many(len(short), 'case')} with too few nights to be judged"))
    return found


def _changed(state: State, row: Row) -> str:
    """A case that has changed, in one line."""
    where = row["dated"] or row["since"]
    cause = f", with {row['cause']}" if row["cause"] else ""
    if state is State.RESOLVED:
        return f"{name(row)} is back under its threshold"
    if pd.isna(row["change"]):
        return f"{name(row)} is {state}, since {where}{cause}; it has no figure tonight"
    faster = row["change"] < 0
    size = f"{units.percent(abs(row['change']))} {'faster' if faster else 'slower'}"
    times = f"{units.duration(row['baseline_ns'])} → {units.duration(row['night_ns'])}"
    if how := correction(row["estimator"]):
        size += f" {how}"
        times = f"measured: {times}, {units.change(row['night_ns'] / row['baseline_ns'])}"
    if pd.isna(row["baseline_ns"]):  # by another method all along
        times = f"measured: {units.duration(row['night_ns'])}"
    return f"{name(row)} is {size} ({times}) since {where}{cause}"


def correction(estimator: object) -> str:
    """What is to be said beside a change that is not the quotient of the two measured times; empty where it is."""
    return _CORRECTIONS.get(str(estimator), "")


_CORRECTIONS = {ESTIMATORS[CORRECTED]: "corrected by the yardstick", ESTIMATORS[STANDARD]: "against its standard"}


def sentence(level: Level, reasons: Sequence[str], cases: pd.DataFrame) -> str:
    """The night in one line."""
    more = f"; and {len(reasons) - 1} more" if len(reasons) > 1 else ""
    if level is Level.SUSPECT:
        more += ". The next night confirms it or not"
    if level is not Level.QUIET:
        words = {Level.MACHINE_EVENT: "The machine moved"}.get(level, str(level).capitalize())
        return f"{words}: {reasons[0]}{more}."
    judged = int(cases["change"].notna().sum())
    short = int((cases["state"] == str(State.INSUFFICIENT_HISTORY)).sum())
    told = f"Quiet: {units.many(judged, 'case')} as before"
    return f"{told}; {short} with too few nights to be judged." if short else f"{told}."
