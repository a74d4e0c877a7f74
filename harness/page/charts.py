"""Frame to chart: latencies with their intervals, rates and memory as small multiples, samples of the least stable cells."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from harness import units
from harness.page.canvas import Canvas, Drawn, draw, fitted, label_width, linear_axis, log_axis
from harness.page.palette import Look, sentinel
from harness.page.view import View

MOST_GROUPS = 24
WORST = 12
MOST_SAMPLES = 200  # drawn per case
_PITCH = 12.0  # px from one backend's row to the next
_GAP = 12.0  # px between two groups
_LOG_FROM = 5.0  # a span of this factor needs a log axis


@dataclass(frozen=True)
class Group:
    """Rows of one workload in one panel: `rows` of the frame, the y of each, and the extent of the band behind."""

    label: str
    rows: pd.DataFrame
    y: list[float]
    top: float
    bottom: float


def _stack(groups: Sequence[tuple[str, pd.DataFrame]]) -> tuple[list[Group], float]:
    """The groups from top to bottom, in px, and the height that they take."""
    stacked, top = [], _GAP / 2
    for label, rows in groups:
        rows = rows.sort_values("order_in_group", kind="stable")
        y = [top + _PITCH * (place + 0.5) for place in range(len(rows))]
        stacked.append(Group(label, rows, y, top, top + _PITCH * len(rows)))
        top += _PITCH * len(rows) + _GAP
    return stacked, top - _GAP / 2


def _dots(canvas: Canvas, axes: Axes, groups: Sequence[Group], looks: Mapping[str, Look], column: str) -> None:
    """The marks of all groups, one layer per backend and mode, in their fixed order."""
    rows = pd.concat([group.rows.assign(y=group.y) for group in groups])
    for (_, backend, mode), same in rows.groupby(["order_in_group", "backend", "mode"], sort=True):
        canvas.dots(axes, looks[backend], mode, same[column].to_list(), same["y"].to_list(), same["mark"].to_list())


def _legend(rows: pd.DataFrame) -> tuple[tuple[str, str], ...]:
    pairs = rows.sort_values("order_in_group", kind="stable")[["backend", "mode"]].drop_duplicates()
    return tuple(pairs.itertuples(index=False, name=None))


def _with_marks(rows: pd.DataFrame, words: Callable[..., str]) -> pd.DataFrame:
    return rows.assign(mark=[f"{row.case}: {words(row)}" for row in rows.itertuples()])


# --- latency -----------------------------------------------------------------------------------------------------------


def widest(rows: pd.DataFrame, most: int = MOST_GROUPS) -> tuple[pd.DataFrame, int]:
    """The rows of the groups (workload and direction) with the largest spread of medians, and how many groups there are."""
    medians = rows.groupby(["key", "words"], sort=False)["median_ns"]
    spread = (medians.max() / medians.min()).sort_values(ascending=False, kind="stable")
    kept = set(spread.index[:most])
    return rows[[pair in kept for pair in zip(rows["key"], rows["words"], strict=True)]], len(spread)


def latency(view: View, device: str, name: str) -> Drawn:
    """Median latency with its 95 % interval, a panel per direction, a row per backend and mode."""
    drawn, total = widest(view.ok[view.ok["device"] == device])
    shown = drawn.groupby(["key", "words"]).ngroups
    note = "Further left is faster. The band spans a group from its fastest to its slowest, the line through a marker is its 95 % interval."
    if shown < total:
        note = f"The {shown} of {total} groups in which backends differ most; all are in the table of results. " + note
    drawn = _with_marks(
        drawn,
        lambda row: f"{units.duration(row.median_ns)} {units.interval(row.median_ns, row.ci_low_ns, row.ci_high_ns)}",
    )
    caption = f"Median latency with 95 % intervals, {device}"
    desc = "A panel per direction, a group of rows per workload, a marker per backend and mode at its median."
    return draw(name, caption, desc, lambda: _latency(view, drawn), note=note, legend=_legend(drawn))


def _latency(view: View, rows: pd.DataFrame) -> Canvas:
    panels = []
    for direction in view.directions:
        here = rows[rows["words"] == direction]
        by_time = here.groupby("key", sort=False)["median_ns"].min().sort_values(ascending=False, kind="stable").index
        if len(here):
            panels.append((direction, *_stack([(same["row"].iloc[0], same) for same in (here[here["key"] == key] for key in by_time)])))
    left, right, head, foot = label_width(rows["row"]), 172.0, 26.0, 26.0
    canvas = Canvas(sum(height + head + foot for *_, height in panels) + 22)
    low = rows[["median_ns", "ci_low_ns"]].min().min()
    high = rows[["median_ns", "ci_high_ns"]].max().max()
    top = 0.0
    for direction, groups, height in panels:
        canvas.text(left, top + head / 2, direction, fontweight="bold")
        if top == 0:
            canvas.text(canvas.width - right + 14, top + head / 2, "fastest", color=sentinel("mut"))
        axes = canvas.axes(left, top + head, canvas.width - left - right, height)
        axes.set_ylim(height, 0)
        axes.set_yticks([])
        logarithmic = _time_axis(axes, low, high)
        for group in groups:
            _latency_group(canvas, axes, group, left, top + head)
        _dots(canvas, axes, groups, view.looks, "median_ns")
        top += head + height + foot
    scale = "log scale" if logarithmic else "linear scale, not from zero"
    canvas.text((left + canvas.width - right) / 2, top + 8, f"median latency ({scale})", color=sentinel("mut"), ha="center")
    return canvas


def _time_axis(axes: Axes, low: float, high: float) -> bool:
    """Whether the axis is logarithmic."""
    if high / low >= _LOG_FROM:
        log_axis(axes, low / 1.15, high * 1.15, 12, lambda ns: units.duration(ns, 1))
        return True
    room = (high - low) * 0.05 or high * 0.1
    linear_axis(axes, low - room, high + room, 8, lambda ns: units.duration(ns, 3))
    return False


def _latency_group(canvas: Canvas, axes: Axes, group: Group, left: float, top: float) -> None:
    rows, middle = group.rows, (group.top + group.bottom) / 2
    axes.fill_betweenx([group.top, group.bottom], rows["median_ns"].min(), rows["median_ns"].max(), color=sentinel("grid"), lw=0)
    for row, y in zip(rows.itertuples(), group.y, strict=True):
        if row.ci_low_ns < row.ci_high_ns:
            axes.plot([row.ci_low_ns, row.ci_high_ns], [y, y], color=sentinel(_key(row.backend, canvas, axes)), lw=1.8, zorder=3)
    canvas.text(left - 10, top + middle, fitted(group.label, left), ha="right")
    first = rows.loc[rows["median_ns"].idxmin()]
    canvas.text(canvas.width - 158, top + middle, fitted(f"{units.duration(first['median_ns'], 3)}  {first['who']}", 170))
