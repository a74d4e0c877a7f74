"""What a machine makes of equals: a run in which every cell was measured twice, under two names.

Pure: the run comes as a Side. How the noise bears on verdicts is `compare`'s business.
"""

import functools
import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import pandas as pd

from harness.analysis.compare import CellSide, Side, judge, noise_column, quietest, usable
from harness.analysis.trials import Estimator
from harness.outcome import CHANGED, ENOUGH_TRIALS, Outcome
from harness.record import AA
from harness.stats import log_t_interval, t_quantile

# A normal standard deviation is 1.4826 median absolute deviations. They are taken from 0, the log-ratio of equals, not from
# the median of the ratios: of 3 normal values that would give half of the true figure (simulated: 0.54, from 0: 1.00).
SIGMA_PER_MAD = 1.4826
FOUND = 0.9  # the probability with which the smallest effect is found
# A correction by the yardstick is used on a machine where it has less noise than the raw time in so many of the pairs: in 42 of
# 63, which chance alone gives once in 180 times. Where calls differ by less than the yardstick itself it only adds to them.
QUIETER = Fraction(2, 3)


@dataclass(frozen=True)
class Noise:
    """The noise of a machine by an A/A run, as log-ratios of one trial; what is not known is missing from a dict, or None.

    `cells` has one row per pair with a figure: `cell`, `machine_id`, `trials`, `barred` (whether a flag on either side bars
    a verdict), `ratio` (of the medians), per estimator `own_E` (the cell's own noise) and, where it may be used, `noise_E`
    (that, and at least the machine's), `estimator` and `noise` (the quietest of them), `verdict`, and `smallest_effect`.

    `machine` is, by estimator, the median over the pairs; `quietest` in how many of them each one that may be used is: the raw
    ones, and the corrected ones that by `corrections` have less noise than what they correct in QUIETER of the pairs.

    Of the pairs that no flag bars the rule judged `judged`, and called `differences` slower or faster; `flagged` and
    `flagged_differences` are the same of those that a flag bars, were it not for the flag. Flagged pairs make the noise too: on
    a machine that raises flags everywhere it is still known, and rather too large than too small.

    `smallest_effect` is the slowdown (0.1 for 10 %) that is found in 9 of 10 comparisons of `trials` trials each in which no
    flag bars a verdict; of the machine, and of each cell at least that.
    """

    cells: pd.DataFrame
    machine: dict[Estimator, float]
    quietest: dict[Estimator, int]
    corrections: "dict[Estimator, Correction]"
    judged: int
    differences: int
    flagged: int
    flagged_differences: int
    trials: int
    smallest_effect: float | None


@dataclass(frozen=True)
class Correction:
    """Of `pairs` pairs that have both, those in which the corrected estimator has less noise than the raw one."""

    quieter: int
    pairs: int

    @property
    def used(self) -> bool:
        """Whether it is worth its own noise on this machine."""
        return self.pairs > 0 and self.quieter >= QUIETER * self.pairs


def measure(run: Side) -> Noise:
    """The noise by a run whose cells also stand there as `<backend>@aa`; empty where none does."""
    rows = [_row(cell, twin) for cell, twin in _pairs(run.cells())]
    corrections = {each: _correction(rows, each) for each in Estimator if each.corrected}
    used = [each for each in Estimator if not each.corrected or corrections[each].used]
    machine = _medians(rows, Estimator)
    of_used = {each: noise for each, noise in machine.items() if each in used}
    for row in rows:
        noises = {each: max(row[f"own_{each}"], noise) for each, noise in of_used.items() if f"own_{each}" in row}
        row |= {noise_column(each): value for each, value in noises.items()}
        row["estimator"], row["noise"] = quietest(noises, noises)
        row["verdict"] = _verdict(row, _medians([other for other in rows if other is not row], used))
    judged, flagged = (
        [row["verdict"] in CHANGED for row in rows if row["barred"] is barred and row["verdict"] is not None]
        for barred in (False, True)
    )
    seen = _seen(rows, of_used)
    for row in rows:
        row["smallest_effect"] = smallest_effect(row["noise"], row["trials"], seen)
    trials = int(statistics.median_low([row["trials"] for row in rows])) if rows else 0
    least = quietest(of_used, of_used)[1]
    return Noise(
        cells=_frame(rows),
        machine=machine,
        quietest={each: sum(row["estimator"] == each for row in rows) for each in of_used},
        corrections={each: found for each, found in corrections.items() if found.pairs},
        judged=len(judged),
        differences=sum(judged),
        flagged=len(flagged),
        flagged_differences=sum(flagged),
        trials=trials,
        smallest_effect=smallest_effect(least, trials, seen),
    )


def _pairs(cells: dict[str, CellSide]) -> list[tuple[CellSide, CellSide]]:
    """Every cell that ran, with its twin that ran too."""
    twins = {cell: cell.replace(f"/{side.row['backend']}/", f"/{side.row['backend']}@{AA}/", 1) for cell, side in cells.items()}
    return [(cells[cell], cells[twin]) for cell, twin in twins.items() if twin in cells and cells[cell].ok and cells[twin].ok]


def _row(cell: CellSide, twin: CellSide) -> dict[str, Any]:
    """The ratios of a pair by estimator, and the cell's own noise by each; a time of 0 gives none."""
    trials = sorted(cell.estimates.keys() & twin.estimates.keys())
    pairs = [(cell.estimates[trial], twin.estimates[trial]) for trial in trials]
    timed = [each for each in usable(pairs, corrected=True) if all(one[each] > 0 and other[each] > 0 for one, other in pairs)]
    ratios = {each: [other[each] / one[each] for one, other in pairs] for each in timed if pairs}
    return {
        "cell": cell.row["cell"],
        "machine_id": cell.row["machine_id"],
        "trials": len(pairs),
        "barred": bool(cell.barred or twin.barred),
        "ratio": twin.row["median_ns"] / cell.row["median_ns"] if cell.row["median_ns"] else math.nan,
        "ratios": ratios,
        **{f"own_{each}": SIGMA_PER_MAD * statistics.median(map(abs, np.log(found))) for each, found in ratios.items()},
    }


def _correction(rows: Sequence[dict[str, Any]], corrected: Estimator) -> Correction:
    names = f"own_{corrected}", f"own_{corrected.raw}"
    both = [tuple(row[name] for name in names) for row in rows if row.keys() >= set(names)]
    return Correction(sum(bool(one < other) for one, other in both), len(both))


def _medians(rows: Sequence[dict[str, Any]], estimators: Iterable[Estimator]) -> dict[Estimator, float]:
    """The median over pairs of their own noise, by estimator."""
    found = {each: [row[f"own_{each}"] for row in rows if f"own_{each}" in row] for each in estimators}
    return {each: float(statistics.median(values)) for each, values in found.items() if values}


def _verdict(row: dict[str, Any], others: dict[Estimator, float]) -> Outcome | None:
    """What the rule says of a pair, None where it can say nothing.

    The rule picks an estimator and asks for a difference beyond the noise. With the pair's own noise both would be picked
    by the very ratios that they judge, and nothing would ever differ; so the noise here is that of the other pairs. The rule
    itself asks for at least that much, so it errs at most as often. (Which corrections are used is decided by all pairs.)
    """
    estimator, noise = quietest(others, row["ratios"])
    ratios = row["ratios"].get(estimator, [])
    if len(ratios) < 2 or (noise is None and len(ratios) < ENOUGH_TRIALS):
        return None
    return judge(ratios, noise)[0]


def _frame(rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    estimates = [f"{prefix}_{each}" for each in Estimator for prefix in ("own", "noise")]
    names = ["cell", "machine_id", "trials", "barred", "ratio", *estimates, "estimator", "noise", "verdict", "smallest_effect"]
    return pd.DataFrame([{name: row.get(name) for name in names} for row in rows], columns=names).astype(
        dict.fromkeys(["ratio", *estimates, "noise", "smallest_effect"], "float64")
    )


# The smallest effect ------------------------------------------------------------------------------------------------------


def smallest_effect(noise: float | None, trials: int, seen: float = 0.0) -> float | None:
    """The slowdown (0.1 for 10 %) that the rule finds with probability FOUND where the log-ratio of one trial has this noise.

    It is what normal noise asks for, and at least `seen`, a log-ratio. None where the noise is not known, or there is no
    verdict because there is one trial.
    """
    if noise is None or math.isnan(noise) or trials < 2:
        return None
    return math.expm1(max(_noises_needed(trials) * noise, seen))


def _seen(rows: Sequence[dict[str, Any]], machine: dict[Estimator, float]) -> float:
    """The log of the slowdown that the rule finds in FOUND of these pairs; 0 where none can say.

    On a shared machine single trials lie far outside what is normal, and the median deviation is blind to them. So the rule is
    asked: laid on the log-ratios of a pair of equals, it finds what lifts their mean above the half-width of their interval
    and above the noise. Either twin may be the slower one. The noise is the machine's: what a noisier cell asks for beyond
    it is in that cell's own figure.
    """
    estimator, noise = quietest(machine, machine)
    needed = []
    for row in rows:
        ratios = row["ratios"].get(estimator, [])
        if noise is not None and not row["barred"] and len(ratios) > 1:
            low, high = map(math.log, log_t_interval(ratios))
            needed += [max((high - low) / 2, noise) + sign * (low + high) / 2 for sign in (1, -1)]
    return float(np.quantile(needed, FOUND)) if needed else 0.0


@functools.cache
def _noises_needed(trials: int) -> float:
    """The log of the smallest effect, in standard deviations of the log-ratio of one trial."""
    from scipy.optimize import brentq

    return float(brentq(lambda effect: found(effect, trials) - FOUND, 0.0, 200.0))


def found(effect: float, trials: int, grid: int = 4000) -> float:
    """The probability of the verdict slower where the log of the ratio is `effect` standard deviations s of one trial's.

    The mean of n normal log-ratios has the deviation s / sqrt(n), and, independent of it, the square of their own deviation
    is s^2 / (n - 1) times a chi-square of n - 1 degrees of freedom (Cochran's theorem). The verdict needs the mean above
    both t times their deviation / sqrt(n), the half-width of the interval, and s, the noise. Without the second condition
    this is the power of the t-test, a noncentral t.
    """
    from scipy.special import ndtr
    from scipy.stats import chi2

    at = (np.arange(grid) + 0.5) / grid
    deviation = np.sqrt(chi2.ppf(at, trials - 1) / (trials - 1))
    needed = np.maximum(1.0, t_quantile(0.975, trials - 1) * deviation / math.sqrt(trials))
    return float(np.mean(ndtr((effect - needed) * math.sqrt(trials))))
