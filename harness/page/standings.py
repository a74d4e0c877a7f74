"""Who is fastest over all workloads: geometric means of time over the lowest, per device and direction."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pandas as pd

from harness import stats
from harness.page.view import View

FEWEST_FOR_INTERVAL = 5
FEWEST_FOR_VERDICT = 3  # workloads; of fewer nobody is called fastest
FEWEST_TRIALS = 2  # behind each time; of fewer nobody is called fastest


@dataclass(frozen=True)
class Mean:
    """A backend over the workloads that are compared: the geometric mean of its time over the lowest, and the mean's interval.

    `leads` says that it has the lowest mean, or cannot be told from the backend that has it: the interval of the ratio of the
    two over these workloads holds 1.
    """

    backend: str
    value: float
    interval: stats.Interval | None
    leads: bool


@dataclass(frozen=True)
class Standing:
    """The backends in one direction on one device, the lowest mean first, each in its fastest mode per workload.

    `common` of the `total` workloads are compared: in these each backend has a time, and no flag bars a verdict on one of
    them. `barred` workloads are left out because of such a flag. `backends` counts those that have a time in some workload;
    `without` names those that have none at all. `trials` is the smallest number of trials behind a time.
    """

    device: str
    direction: str
    means: tuple[Mean, ...]
    common: int
    barred: int
    total: int
    backends: int
    trials: int
    without: tuple[str, ...]

    @property
    def decidable(self) -> bool:
        """Whether one may be called the fastest: enough workloads are compared, each timed in enough trials."""
        return len(self.means) > 1 and self.common >= FEWEST_FOR_VERDICT and self.trials >= FEWEST_TRIALS


def standings(view: View) -> list[Standing]:
    """The standing of the backends for each device and direction; empty where the frame ranks nothing."""
    ranked = view.cells[view.cells["vs_best"].notna()]
    found = []
    for device in view.devices:
        here = view.cells[(view.cells["device"] == device) & view.cells["counted"]]
        compared = set(ranked.loc[ranked["device"] == device, "backend"])
        for direction in view.directions:
            asked = here[(here["words"] == direction) & here["backend"].isin(compared)]
            if not asked.empty:
                found.append(
                    _standing(device, direction, asked, [name for name in view.looks if name in set(asked["backend"])])
                )
    return found


def _standing(device: str, direction: str, asked: pd.DataFrame, backends: Iterable[str]) -> Standing:
    # Modes and tunings compete, so a backend stands here in its fastest one; vs_best is relative to the lowest of all.
    asked = asked.assign(barred=asked["barred_by"] != "").sort_values("vs_best", kind="stable")
    fastest = asked.groupby(["work", "backend"], sort=False)[["vs_best", "barred"]].first()
    times, barred = fastest["vs_best"].unstack(), fastest["barred"].unstack()
    present = [name for name in backends if times[name].notna().any()]
    without = tuple(name for name in backends if name not in present)
    everywhere = times[present].dropna() if present else times.iloc[:0]
    in_doubt = barred.loc[everywhere.index, present].eq(True).any(axis=1)
    common = everywhere[~in_doubt]
    trials = asked.loc[asked["vs_best"].notna(), "trials"].min()
    counts = len(common), int(in_doubt.sum()), len(times), len(present), int(trials) if trials > 0 else 0
    return Standing(device, direction, _means(common), *counts, without)


def _means(common: pd.DataFrame) -> tuple[Mean, ...]:
    """The backends in the order of their geometric means over the workloads of a frame with a column for each."""
    if common.empty:
        return ()
    value = {str(name): stats.geometric_mean(common[name].to_list()) for name in common}
    order = sorted(value, key=value.__getitem__)
    found = []
    for name in order:
        interval = stats.bootstrap_interval(common[name].to_list()) if len(common) >= FEWEST_FOR_INTERVAL else None
        ratios = (common[name] / common[order[0]]).to_list()
        low, high = stats.log_t_interval(ratios) if len(ratios) > 1 else (1.0, 1.0)
        found.append(Mean(name, value[name], interval, leads=low <= 1 <= high))
    return tuple(found)


def notes(found: Sequence[Standing]) -> list[str]:
    """What the marks and intervals of these means are, and why some have none, in sentences: of those that occur."""
    decided = [one for one in found if one.decidable]
    told = []
    if any(one.barred for one in found):
        told.append("Workloads in which a flag bars a verdict on one of the times are left out.")
    if decided:
        told.append("● lowest mean.")
    if any(sum(mean.leads for mean in one.means) > 1 for one in decided):
        told.append("○ cannot be told from it: the 95 % t-interval of the ratio of the two over these workloads holds 1.")
    if any(len(one.means) > 1 and not one.decidable for one in found):
        told.append(f"Under {FEWEST_FOR_VERDICT} workloads, or {FEWEST_TRIALS} trials behind a time, there is no mark.")
    if any(mean.interval is None for one in found for mean in one.means):
        told.append(f"Under {FEWEST_FOR_INTERVAL} workloads there is no interval beside a mean.")
    return told
