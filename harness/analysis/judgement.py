"""What changed between a run and its baseline: an outcome per case, what the slower ones have in common, and the run's level.

Made once, here, from a comparison of two runs or from the gate's judgement of a night; page, index and exit code read it.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from harness.analysis import what_ran
from harness.analysis.gate import NightJudgement
from harness.analysis.rows import dicts_of
from harness.outcome import COMPARABLE, Group, Judgement, Level, Outcome, State
from harness.record import Status

# The least change that severity counts as one step: the floor of the gate's rule on what is suspect.
FLOOR = 0.03
FACETS = ("backend", "direction", "device", "family")
MOST_GROUPS = 3
FEWEST_IN_GROUP = 3
SHARE_OF_GROUP = 0.5  # of a group's comparable cases must be slower
ENOUGH_COVERED = 0.8  # of the slower cases: no further group is looked for

CASES = (
    "cell", "workload", "family", "direction", "backend", "mode", "device", "verdict", "word", "baseline_ns", "now_ns", "ratio",
    "ratio_low", "ratio_high", "estimator", "threshold", "severity", "why", "what_ran",
)  # fmt: skip
_NUMBERS = ("baseline_ns", "now_ns", "ratio", "ratio_low", "ratio_high", "threshold", "severity")


def against(comparison: pd.DataFrame, baseline: str, invalid: Sequence[str] = (), incomparable: str = "") -> Judgement:
    """The verdict on a frame with COMPARISON_COLUMNS; `invalid` names the blocking checks of `validity` that failed.

    Where the two are `incomparable`, and why, no case has a verdict.
    One comparison is one look: what is slower makes the run suspect, and another run must confirm it.
    """
    rows = [_compared(row) for row in dicts_of(comparison)]
    cases = _frame(rows)
    if incomparable:
        both = cases["verdict"].isin(COMPARABLE)
        cases.loc[both, ["verdict", "word", "why"]] = str(Outcome.UNCERTAIN), str(Outcome.UNCERTAIN), incomparable
        level, said = (Level.INVALID, _invalid(invalid)) if invalid else (Level.INCONCLUSIVE, [])
        told = " ".join([*said, f"Not comparable: {incomparable}."])
        return Judgement(level, told, baseline, cases, (), tuple(invalid), incomparable)
    counts = cases["verdict"].value_counts()
    found, notes = groups(cases), tuple(what_ran.notices(comparison))
    return Judgement(_level(counts, invalid), sentence(cases, invalid), baseline, cases, found, tuple(invalid), notes=notes)


def of_night(night: NightJudgement, baseline: str, networks: pd.Series | None = None) -> Judgement:
    """The gate's judgement of a night in the same form; its states stand in `word`.

    `baseline` says which nights it was held against, `networks` maps a cell to its network.
    """
    network = {} if networks is None else networks.to_dict()
    rows = []
    for row in dicts_of(night.cases):
        ratio: float = 1 + row["change"] if pd.notna(row["change"]) else math.nan
        threshold: float = row["threshold"] if pd.notna(row["threshold"]) else FLOOR
        rows.append(
            {name: row[name] for name in ("cell", "workload", "direction", "backend", "mode", "device")}
            | {
                "family": family(row["workload"], network.get(row["cell"], "")),
                "verdict": str(_of_state(row)),
                "word": State(row["state"]).words,
                "baseline_ns": row["baseline_ns"],
                "now_ns": row["night_ns"],
                "ratio": ratio,
                "estimator": row["estimator"],
                "threshold": threshold,
                "severity": severity(ratio, threshold),
                "why": row["note"] or row["cause"],
                "what_ran": row["what_ran"],
            }
        )
    cases = _frame(rows)
    costs = (step.words for step in night.costs if step.words not in night.sentence)
    notes = (*night.notes, *what_ran.notices(night.cases), *costs)
    return Judgement(night.level, night.sentence, baseline, cases, groups(cases), night.invalid, notes=notes)


def _of_state(row: Mapping[str, Any]) -> Outcome:
    state = State(row["state"])
    return Outcome.NOT_RUN if state is State.LOST and row["status"] == Status.NOT_RUN else state.outcome


def severity(ratio: float, threshold: float) -> float:
    """|ln ratio| over ln(1 + threshold): 1 is a change just above the threshold; NaN where there is no ratio."""
    if pd.isna(ratio) or ratio <= 0:
        return math.nan
    return abs(math.log(ratio)) / math.log1p(threshold)


def family(workload: str, network: str = "") -> str:
    """The network that a workload is from; else what stands before the first underscore of its name."""
    return network or workload.partition("_")[0]


def _compared(row: dict[str, Any]) -> dict[str, Any]:
    noise = row["aa_noise"]
    threshold = max(FLOOR, math.expm1(noise)) if pd.notna(noise) else FLOOR
    ratio = float(row["ratio"]) if pd.notna(row["ratio"]) else math.nan
    outcome = _outcome(row)
    return {name: row[name] for name in ("cell", "workload", "direction", "backend", "mode", "device", "why", "what_ran")} | {
        "family": family(row["workload"], row["network"]),
        "verdict": str(outcome),
        "word": outcome.words,
        "baseline_ns": row["base_ns"],
        "now_ns": row["new_ns"],
        "ratio": ratio,
        "ratio_low": row["ratio_low"],
        "ratio_high": row["ratio_high"],
        "estimator": row["estimator"],
        "threshold": threshold,
        "severity": severity(ratio, threshold),
    }


def _outcome(row: dict[str, Any]) -> Outcome:
    if row["verdict"] == Outcome.ONLY_NEW:
        return Outcome.NEW
    before, after = Status(row["base_status"]), Status(row["new_status"]) if row["new_status"] else None
    if after is Status.NOT_RUN:
        return Outcome.NOT_RUN
    if before is Status.NOT_RUN:
        return Outcome.NEW if after else Outcome.SKIPPED
    if after is None:
        return Outcome.LOST if before is Status.OK else Outcome.SKIPPED
    if after is Status.OK:
        return Outcome(row["verdict"]) if before is Status.OK else Outcome.FIXED if before.failed else Outcome.NEW
    if after.failed:
        return Outcome.STILL_FAILED if before.failed else Outcome.FAILED
    return Outcome.LOST if before is Status.OK else Outcome.SKIPPED


def _frame(rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    cases = pd.DataFrame(rows, columns=list(CASES))
    texts = [name for name in CASES if name not in _NUMBERS]
    cases[texts] = cases[texts].astype(object).where(cases[texts].notna(), "")
    return cases.astype(dict.fromkeys(_NUMBERS, "float64"))


def _level(counts: "pd.Series[int]", invalid: Sequence[str]) -> Level:
    """The first level of the gate's table that applies."""
    if invalid:
        return Level.INVALID
    if counts.get(Outcome.FAILED, 0) or counts.get(Outcome.LOST, 0):
        return Level.PARTIAL
    if counts.get(Outcome.SLOWER, 0):
        return Level.SUSPECT
    if counts.get(Outcome.FASTER, 0):
        return Level.IMPROVED
    if counts.get(Outcome.NO_CHANGE, 0):
        return Level.QUIET
    return Level.INCONCLUSIVE  # nothing at all was found, not even that nothing changed


def sentence(cases: pd.DataFrame, invalid: Sequence[str] = ()) -> str:
    """What changed, in sentences; parts that are zero are left out, and a run that is invalid says why first."""
    count = {outcome: int((cases["verdict"] == outcome).sum()) for outcome in Outcome}
    comparable = sum(count[outcome] for outcome in COMPARABLE)
    said = _invalid(invalid)
    failed, lost, slower, faster = (count[each] for each in (Outcome.FAILED, Outcome.LOST, Outcome.SLOWER, Outcome.FASTER))
    if failed:
        said.append(f"{failed} {'case fails' if failed == 1 else 'cases fail'} that did not fail before.")
    if lost:
        said.append(
            f"{lost} {'case that was measured before is' if lost == 1 else 'cases that were measured before are'} missing."
        )
    if not_run := count[Outcome.NOT_RUN]:
        said.append(f"{not_run} {'case was' if not_run == 1 else 'cases were'} not run.")
    compared = f"{comparable} comparable {'case' if comparable == 1 else 'cases'}"
    if slower:
        others = f", {faster} {'is' if faster == 1 else 'are'} faster" if faster else ""
        said.append(
            f"{slower} of {compared} {'is' if slower == 1 else 'are'} slower than the baseline beyond "
            f"{_their(slower)} own noise{others}{_doubt(count[Outcome.UNCERTAIN])}."
        )
    elif faster:
        verb, doubt = "is" if faster == 1 else "are", _doubt(count[Outcome.UNCERTAIN])
        said.append(f"{faster} of {compared} {verb} faster than the baseline, none is known to be slower{doubt}.")
    elif same := count[Outcome.NO_CHANGE]:
        verb = "has" if same == 1 else "have"
        said.append(f"{same} of {compared} {verb} not changed beyond {_their(same)} noise{_doubt(count[Outcome.UNCERTAIN])}.")
    elif comparable:
        said.append("The only comparable case cannot be judged." if comparable == 1 else f"None of {compared} can be judged.")
    else:
        said.append("No case can be compared with the baseline.")
    return " ".join(said)


def _invalid(invalid: Sequence[str]) -> list[str]:
    return [f"This run is invalid: {'; '.join(invalid)}."] if invalid else []


def _doubt(count: int) -> str:
    return f"; {count} cannot be judged" if count else ""


def _their(count: int) -> str:
    return "its" if count == 1 else "their"


def groups(cases: pd.DataFrame) -> tuple[Group, ...]:
    """Up to three groups that explain the slower cases, found greedily over all combinations of FACETS.

    Each next one has the most slower cases that none before it covers; of at least 3 in it, at least half of its comparable
    cases are slower. It ends at 80 % covered. Of groups that cover as many the one with the largest share of slower cases,
    then the one with the fewest facets, is taken.
    """
    known = cases[cases["verdict"].isin(COMPARABLE)]
    slower = (known["verdict"] == str(Outcome.SLOWER)).to_numpy()
    total, covered = int(slower.sum()), np.zeros(len(known), dtype=bool)
    found: list[Group] = []
    varying = [name for name in FACETS if known[name].nunique() > 1]  # what all cases share explains nothing
    candidates = [
        (facets, values if isinstance(values, tuple) else (values,), np.asarray(rows))
        for size in range(1, len(varying) + 1)
        for facets in itertools.combinations(varying, size)
        for values, rows in known.groupby(list(facets), sort=True).indices.items()
    ]
    while total and len(found) < MOST_GROUPS and (slower & covered).sum() < ENOUGH_COVERED * total:
        best, score = None, (FEWEST_IN_GROUP - 1, 0.0, 0)
        for facets, values, rows in candidates:
            new, share = int((slower[rows] & ~covered[rows]).sum()), float(slower[rows].mean())
            if share >= SHARE_OF_GROUP and new >= FEWEST_IN_GROUP and (new, share, -len(facets)) > score:
                best, score = (facets, values, rows), (new, share, -len(facets))
        if best is None:
            break
        facets, values, rows = best
        covered[rows] = True
        named = dict.fromkeys(FACETS, "") | dict(zip(facets, values, strict=True))
        ratios = known["ratio"].to_numpy(dtype=float)[rows[slower[rows]]]
        found.append(Group(**named, slower=len(ratios), cases=len(rows), ratio=float(np.median(ratios))))
    return tuple(found)
