"""Networks: the figures of their layers summed up to the time of all convolutions of one in a pass. Frame in, frame out.

A suite that has all convolutions of a network says so; each distinct one stands there once, with the `count` of the layers that
have its shape. What a network does between its convolutions is not in it.

Layers are summed up trial by trial, since those of a trial share processes and minutes: taken one by one, their errors would
seem to cancel. So the interval of a sum is over trials, and so is that of a ratio of two sums: layers of two windows are no
neighbours in time, and cannot be paired visit by visit.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import pandas as pd

from harness import axes, stats
from harness.analysis.rows import Row, framed
from harness.analysis.times import Figures
from harness.axes import OPTIONS
from harness.columns import SUM_COLUMNS, of_convolutions
from harness.record import Status

# What tells one sum of a network from another, besides the direction.
SETTING = ("backend", "mode", "optimizer", "device", "precision", "layout", "cache", "threads", *OPTIONS)
PASSES = tuple(map(str, axes.PASSES))
ALL = "passes"  # the direction of the sum of these three
_SUM = ("sum_ns", "sum_low_ns", "sum_high_ns")


def networks(summary: pd.DataFrame, figures: Mapping[str, Figures]) -> pd.DataFrame:
    """One row with SUM_COLUMNS per network, setting and direction, and one for the three passes together.

    `figures` are those of `times.figures`, by run id. Where a run has none of its cells, since its samples are not in
    the store, a sum is that of the medians, without an interval. What `-k` left out is not in the run and not in the sum.
    """
    rows = []
    for told, members in sums(summary[of_convolutions(summary)], SETTING):
        missing, count = int((members["status"] != str(Status.OK)).sum()), members["count"].to_numpy(dtype=float)
        found = Sum.of(figures.get(told["run_id"]), members["cell"], count)
        figure = found.interval() if found.trials else (count @ members["median_ns"].to_numpy(dtype=float), np.nan, np.nan)
        told |= {"missing": missing, "sum_trials": 0 if missing else found.trials}
        rows.append(told if missing else told | dict(zip(_SUM, figure, strict=True)))
    return framed(rows, SUM_COLUMNS)


def sums(layers: pd.DataFrame, setting: Sequence[str]) -> Iterator[tuple[Row, pd.DataFrame]]:
    """The rows of the layers of each sum, and what it is of: run, network, these columns, direction and size.

    Layouts of one to three dimensions count as one. `scaled` is what was changed in all of the shapes alike, or "differs by
    shape". The direction ALL has the rows of the three passes, where there are any of each.
    """
    layers = layers[layers["network"] != ""]
    layers = layers.assign(layout=["first" if text[1:2] == "C" else "last" for text in layers["layout"]])
    key = ["run_id", "network", *setting]
    for values, group in layers.groupby(key, sort=False, dropna=False):
        of = {str(direction): rows for direction, rows in group.groupby("direction", sort=False)}
        if set(PASSES) <= of.keys():
            of[ALL] = group[group["direction"].isin(PASSES)]
        for direction, rows in of.items():
            changes, layers_of = sorted(set(rows["scaled"])), rows.groupby("workload")["count"].max()
            told = dict(zip(key, values, strict=True)) | {
                "scaled": changes[0] if len(changes) == 1 else "differs by shape", "direction": direction,
                "shapes": len(layers_of), "layers": int(layers_of.sum()),
            }  # fmt: skip
            yield told, rows


@dataclass(frozen=True)
class Sum:
    """A sum of times of one run, or a ratio of two: its log by trial, (trials,), NaN for a trial that lacks one of the cells.

    `shares` (parts,) are the shares that the parts of the run have in it, `error` (parts,) the errors of their levels; for
    parts see `times.Figures`.
    """

    logs: np.ndarray
    shares: np.ndarray
    error: np.ndarray

    @classmethod
    def of(cls, figures: Figures | None, cells: Iterable[str], count: np.ndarray) -> Self:
        """The sum of `count` times the figures of these cells, in ns; of no trial where there are no figures."""
        if figures is None:
            return cls(np.empty(0), np.empty(0), np.empty(0))
        known = {cell: row for row, cell in enumerate(figures.cells)}
        places = [known.get(cell, -1) for cell in cells]  # the last row, which is added, is that of what has no visit
        log_ns = np.vstack([figures.log_ns, np.full((1, figures.log_ns.shape[1]), np.nan)])[places]
        part = np.append(figures.part, -1)[places]
        times = count[:, None] * np.exp(log_ns)
        logs = np.log(times.sum(axis=0))
        weights = times[:, ~np.isnan(logs)].sum(axis=1)
        shares = np.bincount(part[part >= 0], weights[part >= 0], len(figures.error))
        return cls(logs, shares / (weights.sum() or 1.0), figures.error)

    def over(self, other: Self) -> Self:
        """The ratio of this sum to another of the same run. A level that both share alike falls out of it."""
        return type(self)(self.logs - other.logs, self.shares - other.shares, self.error)

    def within(self, other: Self) -> Self:
        """The same in the trials of another alone."""
        return replace(self, logs=np.where(np.isnan(other.logs), np.nan, self.logs))

    @property
    def trials(self) -> int:
        """The trials that have all of the cells."""
        return int(np.count_nonzero(~np.isnan(self.logs)))

    def interval(self) -> tuple[float, float, float]:
        """The geometric mean over the trials and its 95 % t-interval, low and high; NaN for what is not known."""
        logs = self.logs[~np.isnan(self.logs)]
        if not len(logs):
            return np.nan, np.nan, np.nan
        half = np.nan
        if len(logs) > 1:
            error = np.hypot(logs.std(ddof=1) / np.sqrt(len(logs)), np.linalg.norm(self.shares * self.error))
            half = stats.t_quantile(0.975, len(logs) - 1) * error
        mean, low, high = np.exp(logs.mean() + np.array([0, -half, half]))
        return float(mean), float(low), float(high)


def by_pass(found: pd.DataFrame) -> pd.DataFrame:
    """The frame of `networks` with a row per network and setting, and of each direction that occurs the sum with its interval.

    Beside SETTING, `scaled`, `shapes` and `layers` it has DIRECTION_ns, DIRECTION_low_ns and DIRECTION_high_ns; ALL is one.
    """
    key = ["run_id", "network", *SETTING, "scaled"]
    # A first layer has no input gradient: what is told of the network is what the direction has that has most.
    most = found.groupby(key, dropna=False, sort=False)[["shapes", "layers"]].transform("max")
    index = [*key, "shapes", "layers"]
    indexed = found.assign(**most).set_index([*index, "direction"])
    wide = [indexed[name].unstack("direction", sort=False).add_suffix(name.removeprefix("sum")) for name in _SUM]
    return pd.concat(wide, axis=1).rename_axis(None, axis=1).reset_index()
