"""A run that is looked at after each trial: which cells are sure by now, which go on, and how often a process visits a cell.

Looking again and again at equals finds a difference sooner or later: after each of 3 to 12 pairs of processes in 18 of 100
cases, at the 5 % of one look. So what may go wrong is spent over the looks, little at first.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from harness.analysis.inference import moderated, typical_variance
from harness.analysis.pairs import paired_visits
from harness.analysis.ranking import LEVEL, SAME, UNRANKED, comparisons, competing, competitors, rank
from harness.analysis.visits import median_of_rows, turns
from harness.axes import LABEL
from harness.outcome import ENOUGH_PAIRS

FEWEST_VISITS, MOST_VISITS = 3, 40  # of a process to a cell
SIGMA_PER_MAD = 1.4826  # of a normal distribution
MEDIAN_OVER_MEAN = np.pi / 2  # the variance of the median of many normal values over that of their mean


@dataclass(frozen=True)
class Looks:
    """A run of at most `most` trials, looked at after each from the fourth on; `last` is how many it had, once it has ended.

    What ends a run may be its time, but not what its comparisons show.
    """

    most: int
    last: int | None = None

    def level(self, pairs: np.ndarray) -> np.ndarray:
        """The probability of calling equals different that a look at so many pairs of processes may take.

        Each look takes what the spending function of Lan and DeMets (1983, Biometrika 70) for the bounds of O'Brien and Fleming
        has released since the one before, and the last one all that is left, so that they add up to LEVEL. Nothing is
        gained from looks being alike: among equals 2 to 3 % are called different over 9 looks.
        """
        before = np.where(pairs > ENOUGH_PAIRS, self._spent(pairs - 1), 0.0)
        done = pairs >= (self.last or self.most)
        found: np.ndarray = np.where(done, LEVEL, self._spent(np.maximum(pairs, ENOUGH_PAIRS))) - before
        return found

    def _spent(self, pairs: np.ndarray) -> np.ndarray:
        """What the looks up to so many pairs may take together."""
        from scipy.special import ndtr, ndtri

        share = np.clip(pairs / self.most, 1e-9, 1.0)
        found: np.ndarray = 2 * ndtr(ndtri(LEVEL / 2) / np.sqrt(share))
        return found


def look(
    summary: pd.DataFrame, visited: pd.DataFrame, looks: Looks, until: float | None = None, same: Sequence[str] = SAME,
    unranked: frozenset[str] = UNRANKED,
) -> pd.DataFrame:  # fmt: skip
    """The ranked summary of a run so far with `state` and `goes_on`, whether a cell is to be visited in further trials.

    `visited` is the frame of `visits.visits`, `until` the half-width, as 0.03 for 3 %, at which an interval is narrow enough;
    cells that are alike in the columns of `same` compete, but for the backends in `unranked`.
    The states of what is ranked are `slower`, `equivalent` (to the fastest), `within`, where the interval is at most as wide as
    from 1 / (1 + until) to 1 + until, `fastest`, where all others of its group are one of these, `alone` without any other, and
    `undecided`; of what is not ranked "". A cell that is undecided goes on, and so does the fastest of its group as long as any
    does: nobody is ever visited without a partner. A cell alone goes on for four trials, and further where `until` is given
    until its own interval is so narrow.

    Two labels of one framework, `torch` and `torch@old`, go on by the same rule until they are decided between themselves, also
    where both are surely slower than another framework: whoever names two wants to know how they differ.
    """
    looked = _look(summary, visited, looks, until, same, unranked)
    if "backend" in same:  # then backends are not compared at all
        return looked
    named = summary.assign(adapter=summary["backend"].str.split(LABEL).str[0])
    siblings = list(dict.fromkeys((*same, "adapter", "mode")))
    labels = named[competing(summary, unranked)].groupby(siblings, sort=False, dropna=False)["backend"].transform("nunique")
    several = named.loc[labels.index[labels > 1]]
    if several.empty:
        return looked
    among = _look(several, visited, looks, until, siblings, unranked)["goes_on"]
    return looked.assign(goes_on=looked["goes_on"] | among.reindex(looked.index, fill_value=False))


def _look(
    summary: pd.DataFrame, visited: pd.DataFrame, looks: Looks, until: float | None, same: Sequence[str],
    unranked: frozenset[str],
) -> pd.DataFrame:  # fmt: skip
    """As `look`, each cell beside those alone that are alike in `same`."""
    ranked = rank(summary, visited, unranked, looks.level, same)
    known, enough = ranked["vs_best"].notna(), ranked["trials"] >= ENOUGH_PAIRS
    limit = np.inf if until is None else 2 * np.log1p(until)
    wide = _wide(ranked["vs_best_low"], ranked["vs_best_high"]), _wide(ranked["ci_low_ns"], ranked["ci_high_ns"])
    within = (wide[0] <= limit) & (until is not None) & enough & (ranked["barred_by"] == "")
    fastest = known & (ranked["vs_best"] == 1) & (ranked["vs_best_pairs"] == 0)  # compared with none, be it barred
    by = [ranked[name] for name in same]
    alone = known & (known.groupby(by, sort=False, dropna=False).transform("sum") == 1)

    state = pd.Series("undecided", index=ranked.index, dtype="string").mask(within, "within")
    state = state.mask(ranked["decided"], "slower").mask(ranked["tie"], "equivalent").mask(fastest, "fastest")
    waiting = (known & (state == "undecided")).groupby(by, sort=False, dropna=False).transform("any")
    state = state.mask(fastest & waiting, "undecided").mask(alone, "alone").where(known, "")
    goes_on = (state == "undecided") | (alone & ~(enough & (wide[1] <= limit)))
    return ranked.assign(state=state, goes_on=goes_on.astype(bool))


def told(summary: pd.DataFrame, visited: pd.DataFrame, looks: Looks | None = None, same: Sequence[str] = SAME) -> str:
    """How sure a run is so far of who is the fastest, in a sentence; `looks` where it is looked at after each trial.

    Counted are the comparisons of the others with the fastest of their group; the width is that of the median interval.
    """
    ranked = rank(summary, visited, level=looks.level if looks else None, same=same)
    beside = ranked[ranked["vs_best_pairs"] > 0]
    if beside.empty:
        return "nothing to compare yet"
    equal = int(beside["tie"].sum())
    slower = int(beside["decided"].sum()) - equal
    known = f"{slower + equal} of {len(beside)} comparisons with the fastest decided ({slower} slower, {equal} as good)"
    half = np.expm1(_wide(beside["vs_best_low"], beside["vs_best_high"]) / 2)
    width = float(np.median(half))
    wide = f"; half of the intervals within ±{100 * width:.1f} %" if np.isfinite(width) else ""
    few = int(beside["vs_best_pairs"].max()) < ENOUGH_PAIRS
    return f"{known}{wide}{f'; nothing is decided under {ENOUGH_PAIRS} trials' if few else ''}"


def _wide(low: pd.Series, high: pd.Series) -> np.ndarray:
    """The logs of the widths of intervals; infinite for one that is not known."""
    found: np.ndarray = np.log((high / low).to_numpy(dtype=float))
    return np.where(np.isnan(found), np.inf, found)


def visits_per_process(
    summary: pd.DataFrame, visited: pd.DataFrame, *, visit_s: float, process_s: float, same: Sequence[str] = SAME
) -> int | None:
    """How many visits of a process to a cell tell most for the time that they take, by a run so far; None before two trials.

    The more the dearer a process is beside a visit, and the more visits vary beside processes: sqrt(process_s / visit_s x
    variance between visits / variance between pairs of processes), from FEWEST_VISITS to MOST_VISITS (Kalibera and Jones
    2013, International Symposium on Memory Management, section 6). `process_s` is what a process costs per cell: its start, and
    first call, check and warm-up of the cell.

    The variances are those of the comparisons of `ranking`. That between visits is from their median deviation, since the
    median of a pair leaves bursts out; that between pairs is what is left of the variance of these medians.
    """
    cells = summary[competing(summary)].reset_index(drop=True)
    left, right = comparisons(competitors(cells, np.arange(len(cells)), same))
    table = turns(visited)
    if len(table) != 1 or not len(left):
        return None
    (of_run,) = table.values()
    places = of_run.places(cells["cell"])
    ratios = list(paired_visits(of_run, places[left], places[right]))
    medians = np.stack([median_of_rows(each) for each in ratios], axis=1)
    found = moderated(medians, np.arange(len(medians)))  # a pool each: every comparison has its own variance
    repeated = found.df > 0
    if not repeated.any():
        return None
    deviations = [median_of_rows(np.abs(each - median[:, None])) for each, median in zip(ratios, medians.T, strict=True)]
    within = MEDIAN_OVER_MEAN * (SIGMA_PER_MAD * float(np.nanmedian(deviations))) ** 2
    if not within > 0:
        return FEWEST_VISITS
    met = np.concatenate([np.count_nonzero(~np.isnan(each), axis=1) for each in ratios])
    variance = typical_variance((found.error**2 * found.count)[repeated], found.df[repeated])
    between = variance - within / float(met[met > 0].mean())
    wanted = np.sqrt(process_s / visit_s * within / between) if between > 0 else MOST_VISITS
    return int(np.clip(np.rint(wanted), FEWEST_VISITS, MOST_VISITS))
