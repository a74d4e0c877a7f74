"""Two runs, cell by cell: the ratio of their times, its interval, and a verdict.

Pure: a run comes as a Side, the noise of the machine as the frame that `noise` makes.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from harness import stats, units
from harness.analysis.rows import dicts_of, framed
from harness.analysis.trials import Estimator, Key, Trial
from harness.columns import COLUMNS, COMPARISON_COLUMNS, SUMMARY_COLUMNS
from harness.outcome import ENOUGH_TRIALS, UNCHANGED, Outcome
from harness.record import Run, Status

REMEDY = "convbench run SUITE --aa"

_AXES = tuple(name for name in COMPARISON_COLUMNS if name in SUMMARY_COLUMNS)


@dataclass(frozen=True)
class Side:
    """One run: its summary, the trials that its samples make, and what run.json says."""

    summary: pd.DataFrame
    trials: Mapping[Key, Trial]
    run: Run

    def cells(self) -> dict[str, "CellSide"]:
        """What a comparison looks at of each cell, by its id, in the order of the summary."""
        estimates: dict[str, dict[int, Mapping[Estimator, float]]] = {}
        for (run_id, trial, cell), found in self.trials.items():
            if run_id == self.run.id:
                estimates.setdefault(cell, {})[trial] = found.estimates
        numpys = {each.id: each.packages.get("numpy", "") for each in self.run.environments}
        return {
            row["cell"]: CellSide(row, estimates.get(row["cell"], {}), numpys.get(row["environment_id"], ""))
            for row in dicts_of(self.summary)
        }


@dataclass(frozen=True)
class CellSide:
    """A cell in one run: its row of the summary, what each trial estimates, and the numpy that the yardstick ran on."""

    row: Mapping[str, Any]
    estimates: Mapping[int, Mapping[Estimator, float]]
    numpy: str

    @property
    def ok(self) -> bool:
        """Whether it has a figure."""
        return bool(self.row["status"] == Status.OK and self.estimates)

    @property
    def pruned(self) -> bool:
        """Whether its median is all that is left of its samples."""
        return bool(self.row["status"] == Status.OK and not self.estimates and self.row["median_ns"] > 0)

    @property
    def barred(self) -> list[str]:
        """Its flags that bar a verdict."""
        return [flag for flag in self.row["barred_by"].split(",") if flag]


def compare(base: Side, new: Side, noise: pd.DataFrame | None = None) -> pd.DataFrame:
    """One row per cell of either run with COMPARISON_COLUMNS: those of base in its order, then those that only new has.

    `noise` is the frame of `noise.Noise`, of any machine: it counts for the cells that both runs measured on that one.
    """
    befores, afters = base.cells(), new.cells()
    method = _methods(base.run, new.run)
    known = _Noise(noise)
    rows = []
    for cell, either in (befores | {name: side for name, side in afters.items() if name not in befores}).items():
        before, after = befores.get(cell), afters.get(cell)
        row = _facts("base", base.run.id, before) | _facts("new", new.run.id, after)
        row |= {name: either.row[name] for name in _AXES}
        if before is None or after is None:
            verdict, lacking = (Outcome.ONLY_NEW, "base") if before is None else (Outcome.ONLY_BASE, "new")
            row |= {"verdict": verdict, "why": f"{lacking} lacks it", "pairs": 0}
        else:
            row |= _compared(before, after, known, method)
        rows.append(row)
    return framed(({name: _text(name, row.get(name)) for name in COMPARISON_COLUMNS} for row in rows), COMPARISON_COLUMNS)


def _text(name: str, value: Any) -> Any:
    return "" if value is None and COLUMNS[name].dtype == "string" else value


def _facts(side: str, run_id: str, cell: CellSide | None) -> dict[str, Any]:
    names = ("median_ns", "status", "flags")
    time = {f"{side}_ns": cell.row["median_ns"]} if cell else {}
    return {f"{side}_run_id": run_id, **time, **{f"{side}_{name}": cell.row[name] for name in names if cell}}


def _methods(base: Run, new: Run) -> str:
    """Why the ways in which two runs were measured bar every verdict; empty where both are the same."""
    if not (base.ours and new.ours):
        return "measured by another program, by rules of its own"
    return "" if base.method_version == new.method_version else "measured by different versions of the method"


def _compared(before: CellSide, after: CellSide, known: "_Noise", method: str) -> dict[str, Any]:
    """Ratio, interval and verdict of a cell that both runs have; `method` is what bars it beforehand."""
    same_machine = before.row["machine_id"] == after.row["machine_id"]
    comparable = same_machine and before.numpy == after.numpy
    trials = sorted(before.estimates.keys() & after.estimates.keys()) if before.ok and after.ok else []
    pairs = [(before.estimates[trial], after.estimates[trial]) for trial in trials]
    noises = known.of(before.row["machine_id"], before.row["cell"]) if same_machine else {}
    estimator, noise = quietest(noises, usable(pairs, corrected=comparable))
    pairs = [(one, other) for one, other in pairs if one[estimator] > 0 and other[estimator] > 0]
    ratios = [other[estimator] / one[estimator] for one, other in pairs]
    row = {"pairs": len(ratios), "estimator": str(estimator) if ratios else "", "aa_noise": noise, **_ratio(ratios)}
    if ratios:
        row["base_ns"] = stats.geometric_mean([one[estimator.raw] for one, _ in pairs])
        row["new_ns"] = stats.geometric_mean([other[estimator.raw] for _, other in pairs])
    elif (before.pruned or after.pruned) and before.row["median_ns"] > 0 and after.row["median_ns"] > 0:
        row |= {"ratio": after.row["median_ns"] / before.row["median_ns"], "estimator": str(Estimator.MEDIAN)}
    verdict, why = judge(ratios, noise, unknown=known.lacks(before.row["machine_id"] if same_machine else None))
    if shortcoming := method or _shortcoming(before, after):
        verdict, why = Outcome.UNCERTAIN, shortcoming
    return row | {"verdict": verdict, "why": why}


def _ratio(ratios: Sequence[float]) -> dict[str, float | None]:
    if not ratios:
        return {}
    low, high = stats.log_t_interval(ratios) if len(ratios) > 1 else (None, None)
    return {"ratio": stats.geometric_mean(ratios), "ratio_low": low, "ratio_high": high}


def _shortcoming(before: CellSide, after: CellSide) -> str:
    """Why two cells must not be told apart, however far apart they are; empty where nothing is the matter."""
    if before.row["shape"] != after.row["shape"]:
        return f"another shape: {before.row['shape']} in base, {after.row['shape']} in new"
    sides = {"base": before, "new": after}
    if gone := [name for name, side in sides.items() if side.pruned]:
        return f"samples of {' and '.join(gone)} not in the store: no interval is kept, the ratio is that of the medians"
    missing = {name: side.row for name, side in sides.items() if not side.ok}
    if missing:
        return "; ".join(
            f"{row['status'].replace('_', ' ')} in {name}: {row['reason'] or 'no samples'}" for name, row in missing.items()
        )
    flagged = [f"{', '.join(side.barred)} in {name}" for name, side in sides.items() if side.barred]
    return f"flagged {'; '.join(flagged)}" if flagged else ""


def judge(ratios: Sequence[float], noise: float | None, unknown: str = "") -> tuple[Outcome, str]:
    """The verdict on the ratios of the trials, new over base, and why it is uncertain where it is.

    `noise` is that of one trial's log-ratio between equals, None where it is not known; `unknown` says why that is so.
    """
    if len(ratios) < 2:
        return Outcome.UNCERTAIN, "under 2 trials in common: how much processes differ is not known"
    low, high = stats.log_t_interval(ratios)
    difference = math.log(stats.geometric_mean(ratios))
    small = low >= 1 / UNCHANGED and high <= UNCHANGED
    if low <= 1 <= high:
        if small:
            return Outcome.NO_CHANGE, ""
        change = f"{units.percent(low - 1)} to {units.percent(high - 1)}"
        return Outcome.UNCERTAIN, f"{change} is possible: more trials narrow that"
    if noise is None and len(ratios) < ENOUGH_TRIALS:
        return Outcome.UNCERTAIN, f"under {ENOUGH_TRIALS} trials, and {unknown}"
    if noise is not None and abs(difference) <= noise:
        if small:
            return Outcome.NO_CHANGE, ""
        told = f"{units.percent(math.expm1(difference))} is within the A/A noise of {units.percent(math.expm1(noise))}"
        return Outcome.UNCERTAIN, told
    return (Outcome.SLOWER if difference > 0 else Outcome.FASTER), ""


def usable(pairs: Iterable[tuple[Mapping[Estimator, float], Mapping[Estimator, float]]], *, corrected: bool) -> list[Estimator]:
    """The estimators that every trial of both has; the corrected ones only where they mean the same on both sides."""
    trials = [trial for pair in pairs for trial in pair]
    return [each for each in Estimator if (corrected or not each.corrected) and all(each in trial for trial in trials)]


def quietest(noises: Mapping[Estimator, float], among: Iterable[Estimator]) -> tuple[Estimator, float | None]:
    """The estimator with the smallest A/A noise, and that; the median where no noise is known."""
    known = {each: noises[each] for each in among if each in noises}
    if not known:
        return Estimator.MEDIAN, None
    # Of equals the simpler: the median is the headline, and the first of the enumeration.
    best = min(known, key=lambda each: (known[each], list(Estimator).index(each)))
    return best, known[best]


def noise_column(estimator: Estimator) -> str:
    """The column of the noise frame that holds what counts for this estimator: the cell's own, or at least the machine's."""
    return f"noise_{estimator}"


class _Noise:
    """A noise frame, to be asked by machine and cell."""

    def __init__(self, frame: pd.DataFrame | None) -> None:
        rows = [] if frame is None else dicts_of(frame)
        self.by_cell = {(row["machine_id"], row["cell"]): row for row in rows}
        self.machines = {row["machine_id"] for row in rows}

    def of(self, machine_id: str, cell: str) -> dict[Estimator, float]:
        """The noise of a cell by estimator; empty where it is not known."""
        row = self.by_cell.get((machine_id, cell), {})
        found = {each: row.get(noise_column(each), math.nan) for each in Estimator}
        return {each: value for each, value in found.items() if not math.isnan(value)}

    def lacks(self, machine_id: str | None) -> str:
        """Why the noise of a cell is not known; None stands for two machines."""
        if machine_id is None:
            return "the runs come from different machines, so no A/A noise holds for both"
        what = "cell" if machine_id in self.machines else "machine"
        return f"no A/A noise is known for this {what}: {REMEDY}"
