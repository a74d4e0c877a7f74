"""Frame to chart, as small multiples: a column per direction, a row per workload, a marker per backend and mode."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pandas as pd
from matplotlib.axes import Axes

from harness.page.canvas import Canvas, Drawn, draw, fitted, label_width, linear_axis, log_axis
from harness.page.charts import MOST_GROUPS, Group, dots, legend, stack
from harness.page.palette import sentinel
from harness.page.view import View

_TERA, _GIGA, _MIB = 1e12, 1e9, 2.0**20
_LOG_FROM = 40.0  # below this span an axis from zero still shows the small values apart
_LEAST_MIB = 0.1  # the memory axis is linear up to here, so that no workspace at all has a place


@dataclass(frozen=True)
class Axis:
    """What a small multiple shows: the column, the label under each axis, how to set up the axis, what lies behind."""

    column: str
    label: str
    scale: Callable[[Axes, int], None]
    behind: Callable[[Axes, Group], None]


def rates(view: View, device: str, name: str) -> Drawn:
    """Effective FLOP/s per workload and direction."""
    rows = view.drawn[(view.drawn["device"] == device) & (view.drawn["flop_per_s"] > 0)]
    tera = rows["flop_per_s"].max() >= _TERA
    unit, factor = ("TFLOP/s", _TERA) if tera else ("GFLOP/s", _GIGA)
    rows = rows.assign(value=rows["flop_per_s"] / factor)
    low, high = rows["value"].min(), rows["value"].max()
    logarithmic = high / low > _LOG_FROM

    def scale(axes: Axes, most: int) -> None:
        if logarithmic:
            log_axis(axes, low / 1.3, high * 1.3, most, lambda value: f"{value:.6g}")
        else:
            linear_axis(axes, 0, high * 1.06, most, lambda value: f"{value:.6g}")

    def stems(axes: Axes, group: Group) -> None:
        for value, y in zip(group.rows["value"], group.y, strict=True):
            axes.plot([axes.get_xlim()[0], value], [y, y], color=sentinel("grid"), lw=2.5, zorder=1, solid_capstyle="butt")

    rows, note = _largest(rows, "Further right is faster." + view.undrawn)
    axis = Axis("value", f"{unit}, log" if logarithmic else unit, scale, stems)
    caption = f"Effective rate in {unit}, {device}"
    desc = f"A column per direction, a row per workload, a marker per backend and mode at its rate in {unit}."
    return draw(name, caption, desc, lambda: _multiples(view, rows, axis), note=note, legend=legend(rows))


def memory(view: View, device: str, name: str) -> Drawn:
    """Workspace beside the least bytes of the tensors, per workload and direction."""
    rows = view.drawn[(view.drawn["device"] == device) & view.drawn["workspace_bytes"].notna()]
    rows = rows.assign(value=rows["workspace_bytes"] / _MIB, tensors=rows["bytes_min"] / _MIB)
    high = max(rows["value"].max(), rows["tensors"].max(), _LEAST_MIB * 10) * 1.3

    def scale(axes: Axes, most: int) -> None:
        # Ticks first, as on a logarithmic axis; symlog then gives zero its place at the left edge.
        log_axis(axes, _LEAST_MIB, high, most - 1, lambda value: f"{value:.6g}")
        ticks = [0.0, *axes.get_xticks()]
        axes.set_xscale("symlog", linthresh=_LEAST_MIB, linscale=0.4)
        axes.set_xlim(-_LEAST_MIB * 0.2, high)
        axes.set_xticks(ticks, [f"{tick:.6g}" for tick in ticks])
        axes.minorticks_off()

    def tensors(axes: Axes, group: Group) -> None:
        axes.fill_betweenx([group.top, group.bottom], 0, group.rows["tensors"].max(), color=sentinel("line"), lw=0)

    words = "Grey: the tensors themselves (each operand and result once). Markers: what a call needed on top."
    rows, note = _largest(rows, words + view.undrawn)
    axis = Axis("value", f"MiB, log from {_LEAST_MIB:g}", scale, tensors)
    caption = f"Workspace beside the tensors, {device}"
    desc = "A column per direction, a row per workload; a grey bar for the tensors, a marker per backend for its workspace."
    return draw(name, caption, desc, lambda: _multiples(view, rows, axis), note=note, legend=legend(rows))


def _largest(rows: pd.DataFrame, note: str) -> tuple[pd.DataFrame, str]:
    """The workloads with the largest spread of times, and the note that says so."""
    medians = rows.groupby(["key", "words"], sort=False)["median_ns"]
    spread = (medians.max() / medians.min()).groupby("key", sort=False).max()
    if len(spread) <= MOST_GROUPS:
        return rows, note
    kept = spread.sort_values(ascending=False, kind="stable").index[:MOST_GROUPS]
    chosen = f"The {MOST_GROUPS} of {len(spread)} workloads in which backends differ most; all are in the table of results. "
    return rows[rows["key"].isin(kept)], chosen + note


def _multiples(view: View, rows: pd.DataFrame, axis: Axis) -> Canvas:
    blocks = _blocks(view, rows)
    frames = [stack(_fullest(rows, keys, directions)) for directions, keys in blocks]
    left, gap, head, foot = label_width(rows["row"], 220), 22.0, 26.0, 46.0
    canvas = Canvas(sum(height + head + foot for _, height in frames) - 8)
    columns = max(len(directions) for directions, _ in blocks)
    width = (canvas.width - left - 12 - gap * (columns - 1)) / columns
    top = 0.0
    for (directions, keys), (frame, height) in zip(blocks, frames, strict=True):
        for place, direction in enumerate(directions):
            x = left + place * (width + gap)
            axes = canvas.axes(x, top + head, width, height)
            canvas.text(x, top + head / 2 - 2, fitted(direction, width + gap + 12), fontweight="bold")
            axes.set_ylim(height, 0)
            axes.set_yticks([])
            axis.scale(axes, max(3, int(width / 48)))
            here = _placed(rows[rows["words"] == direction], keys, frame)
            for group in here:
                axis.behind(axes, group)
            dots(canvas, axes, here, view.looks, axis.column)
            axes.set(xlabel=axis.label, ylabel="")
        for group in frame:
            canvas.text(left - 10, top + head + (group.top + group.bottom) / 2, fitted(group.label, left), ha="right")
        top += head + height + foot
    return canvas


def _blocks(view: View, rows: pd.DataFrame) -> list[tuple[list[str], list[str]]]:
    """Directions that were asked of the same workloads, and those workloads: each block is a row of columns of its own.

    What was asked of few workloads would otherwise leave most of its column empty.
    """
    blocks: dict[tuple[str, ...], list[str]] = {}
    for direction in view.directions:
        if (rows["words"] == direction).any():
            asked = set(view.cells.loc[view.cells["words"] == direction, "key"])
            keys = tuple(key for key in rows["key"].drop_duplicates() if key in asked)
            blocks.setdefault(keys, []).append(direction)
    return [(directions, list(keys)) for keys, directions in blocks.items()]


def _fullest(rows: pd.DataFrame, keys: Sequence[str], directions: Sequence[str]) -> list[tuple[str, pd.DataFrame]]:
    """For each workload the rows of the direction that has most: its row is as high in every column."""
    found = []
    for key in keys:
        of_key = rows[rows["key"] == key]
        parts = [of_key[of_key["words"] == direction] for direction in directions]
        found.append((of_key["row"].iloc[0], max(parts, key=len)))
    return found


def _placed(rows: pd.DataFrame, keys: Sequence[str], frame: Sequence[Group]) -> list[Group]:
    """The groups of one column, each centred in its workload's row."""
    placed = []
    for key, whole in zip(keys, frame, strict=True):
        same = rows[rows["key"] == key].sort_values("order_in_group", kind="stable")
        if len(same):
            (only, *_), _ = stack([(whole.label, same)])
            shift = (whole.top + whole.bottom) / 2 - (only.top + only.bottom) / 2
            y = [value + shift for value in only.y]
            placed.append(Group(whole.label, same, y, only.top + shift, only.bottom + shift))
    return placed
