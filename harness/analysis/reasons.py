"""What the gate says of a night, in words: of each case that has changed, and of the night as a whole."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from harness import units
from harness.analysis import changes
from harness.analysis.history import SURE, Grid
from harness.analysis.replay import CORRECTED, ESTIMATORS, STANDARD
from harness.analysis.rows import Row, dicts_of
from harness.axes import Direction
from harness.outcome import Level, State
from harness.record import VISITS_SINCE


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


def of_method(grid: Grid, enough: int) -> list[str]:
    """Where the method has changed, by what its nights are held against those before, until they are `enough` by themselves."""
    own, there = ~grid.is_twin, ~np.isnan(grid.raw)
    before = np.flatnonzero(grid.methods != grid.methods[-1])
    since = int(there[own][:, before[-1] + 1 :].sum(axis=1).max(initial=0)) if len(before) else 0
    if not len(before) or since > enough or not there[own, : before[-1] + 1].any():
        return []
    told = f"method {grid.methods[before[-1]]} → {grid.methods[-1]}"
    beside = ~np.isnan(grid.vs_standard)
    same = beside & (grid.standard == grid.standard[:, -1:])
    if held := int((own & same[:, -1] & same[:, before].any(axis=1)).sum()):
        return [f"{told}: compared by the ratios of {units.many(held, 'case')} to the standard {grid.runs[-1].standard}"]
    anew = f"the history begins anew, with {since} of the {enough} nights before cases are judged"
    carried = there & (grid.carry > 0) & (grid.method == grid.methods[-1])
    both = own & carried.any(axis=1)
    if both.any():
        factor, half = np.median([grid.factor[carried & own[:, None]], SURE * grid.carry[carried & own[:, None]]], axis=1)
        told += f": compared by {units.many(int(both.sum()), 'cell')} measured both ways (new over old: {units.ratio(factor)}"
        told += f" ± {100 * half:.1f} % for the median of them)"
        left = int((own & ~both & there[:, -1] & there[:, before].any(axis=1)).sum())
        return [f"{told}; of {units.many(left, 'other case')} {anew}" if left else told]
    if beside[own][:, before].any():
        why = "the standard is another one since"
    elif grid.runs[-1].standard:
        why = "no night before was measured beside a standard"
    elif grid.methods[before[-1]] != VISITS_SINCE - 1:
        why = f"nothing measures as method {grid.methods[before[-1]]} did any more"
    else:
        why = "no cell was measured both ways on the first night"
    return [f"{told}: nothing could be compared, since {why}; {anew}"]


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
