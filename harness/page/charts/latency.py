"""Median latencies with their intervals: the groups of cells in which backends differ most."""

from collections.abc import Mapping

import pandas as pd
from matplotlib.axes import Axes

from harness import units
from harness.page.canvas import Canvas, Drawn, draw, fitted, label_width, linear_axis, log_axis
from harness.page.charts.layout import Group, dots, legend, stack
from harness.page.palette import Look, sentinel
from harness.page.view import Case, View
from harness.rows import rows_of

MOST_GROUPS = 24
_LOWEST = 200.0  # px for the words on the lowest, at the right
_LOG_FROM = 5.0  # a span of this factor needs a log axis


def widest(rows: pd.DataFrame, most: int = MOST_GROUPS) -> tuple[pd.DataFrame, int]:
    """The rows of the groups (workload and direction) with the largest spread of medians, and how many groups there are."""
    medians = rows.groupby(["key", "words"], sort=False)["median_ns"]
    spread = (medians.max() / medians.min()).sort_values(ascending=False, kind="stable")
    kept = set(spread.index[:most])
    return rows[[pair in kept for pair in zip(rows["key"], rows["words"], strict=True)]], len(spread)


def latency(view: View, device: str, name: str) -> Drawn:
    """Median latency with its 95 % interval, a panel per direction, a row per backend and mode."""
    drawn, total = widest(view.drawn[view.drawn["device"] == device])
    shown = drawn.groupby(["key", "words"]).ngroups
    known = (drawn["ci_low_ns"] < drawn["ci_high_ns"]).any()
    note = "Further left is faster. The band spans a group from its fastest to its slowest"
    note += ", the line through a marker is its 95 % interval." if known else "."
    if shown < total:
        note = f"The {shown} of {total} groups in which backends differ most; all are in the table of results. " + note
    note += "".join(f" {told}" for told in (view.undrawn.strip(), view.tuning) if told)
    caption = f"Median latency{' with 95 % intervals' if known else ''}, {device}"
    desc = "A panel per direction, a group of rows per workload, a marker per backend and mode at its median."
    return draw(name, caption, desc, lambda: _latency(view, drawn), note=note, legend=legend(drawn))


def _latency(view: View, rows: pd.DataFrame) -> Canvas:
    panels = []
    for direction in view.directions:
        here = rows[rows["words"] == direction]
        by_time = here.groupby("key", sort=False)["median_ns"].min().sort_values(ascending=False, kind="stable").index
        if len(here):
            panels.append(
                (direction, *stack([(same["row"].iloc[0], same) for same in (here[here["key"] == key] for key in by_time)]))
            )
    left, right, head, foot = label_width(rows["row"]), _LOWEST + 14, 26.0, 26.0
    canvas = Canvas(sum(height + head + foot for *_, height in panels) + 22)
    low = rows[["median_ns", "ci_low_ns"]].min().min()
    high = rows[["median_ns", "ci_high_ns"]].max().max()
    top = 0.0
    for direction, groups, height in panels:
        canvas.text(left, top + head / 2, direction, fontweight="bold")
        if top == 0:
            canvas.text(canvas.width - _LOWEST, top + head / 2, "lowest", color=sentinel("mut"))
        axes = canvas.axes(left, top + head, canvas.width - left - right, height)
        axes.set_ylim(height, 0)
        axes.set_yticks([])
        logarithmic = _time_axis(axes, low, high)
        for group in groups:
            _latency_group(canvas, axes, group, view.looks, (left, top + head))
        dots(canvas, axes, groups, view.looks, "median_ns")
        top += head + height + foot
    scale = "log scale" if logarithmic else "linear scale, not from zero"
    canvas.text((left + canvas.width - right) / 2, top + 8, f"median latency ({scale})", color=sentinel("mut"), ha="center")
    return canvas


def _time_axis(axes: Axes, low: float, high: float) -> bool:
    """Whether the axis is logarithmic."""
    if high / low >= _LOG_FROM:
        log_axis(axes, low / 1.15, high * 1.15, 9, lambda ns: units.duration(ns, 1))
        return True
    room = (high - low) * 0.05 or high * 0.1
    linear_axis(axes, low - room, high + room, 8, lambda ns: units.duration(ns, 3))
    return False


def _latency_group(canvas: Canvas, axes: Axes, group: Group, looks: Mapping[str, Look], place: tuple[float, float]) -> None:
    """The band, the intervals and the words of a group; `place` is the left edge of the axes and their top."""
    rows, (left, top) = group.rows, place
    middle = top + (group.top + group.bottom) / 2
    ends = rows["median_ns"].min(), rows["median_ns"].max()
    axes.fill_betweenx([group.top, group.bottom], *ends, color=sentinel("grid"), lw=0)
    for case, y in zip(rows_of(rows, Case), group.y, strict=True):
        if case.ci_low_ns < case.ci_high_ns:
            axes.plot([case.ci_low_ns, case.ci_high_ns], [y, y], color=looks[case.backend].sentinel(), lw=1.8, zorder=3)
    canvas.text(left - 10, middle, fitted(group.label, left), ha="right")
    first = rows.iloc[int(rows["median_ns"].argmin())]
    canvas.text(canvas.width - _LOWEST, middle, units.duration(first["median_ns"], 3))
    canvas.text(canvas.width - _LOWEST + 62, middle, fitted(first["who"], _LOWEST - 50), color=sentinel("mut"))
