"""Nights side by side: how each backend moved as a whole, with what changed on the machine in between."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.dates import date2num

from harness import units
from harness.axes import Mode
from harness.page.canvas import Canvas, Drawn, draw, fitted, label_width, night_axis, nightly_ratios
from harness.page.charts.layout import FOOT, HEAD
from harness.page.palette import Look, sentinel
from harness.page.view import View

_LEAST = 0.02  # the axis shows at least this much to either side, so that noise does not fill the panel
_LONGEST_GAP_S = 36 * 3600.0  # further apart, nights are not joined by a line


def means(nights: pd.DataFrame) -> pd.DataFrame:
    """Columns device, backend, started_at, run_id, value, cells: geometric mean of a night's times over the first's.

    Only cells that every night has count, so that a cell that joins or leaves moves nothing. `nights` is as
    `analysis.history.nights` makes it.
    """
    known = nights[nights["night_ns"] > 0]
    found = []
    for (device, backend), rows in known.groupby(["device", "backend"], sort=True, observed=True):
        wide = rows.pivot_table(index=["started_at", "run_id"], columns="cell", values="night_ns", observed=True).sort_index()
        wide = wide.dropna(axis=1)
        if len(wide) > 1 and wide.shape[1]:
            value = np.exp(np.log(wide / wide.iloc[0]).mean(axis=1))
            made = value.rename("value").reset_index()
            found.append(made.assign(device=str(device), backend=str(backend), cells=wide.shape[1]))
    columns = ["device", "backend", "started_at", "run_id", "value", "cells"]
    return pd.concat(found)[columns].reset_index(drop=True) if found else pd.DataFrame(columns=columns)


def history(view: View, nights: pd.DataFrame, breaks: Sequence[tuple[str, str]], name: str = "history") -> Drawn | None:
    """The geometric means over nights, a panel per device; None for under 2 nights. `breaks` are run ids and what changed."""
    rows = means(nights)
    if rows.empty:
        return None
    counts = rows.drop_duplicates(["device", "backend"])
    each = zip(counts["backend"], counts["cells"], counts["device"], strict=True)
    over = ", ".join(f"{backend} {cells} on {device}" for backend, cells, device in each)
    note = (
        f"1× is the first night shown; lower is faster. Over the cells that every night has ({over}). A missing night is a gap."
    )
    if breaks:
        note += " Dashed: something changed on the machine or in the software."
    desc = "A panel per device, a line per backend: geometric mean of the times of a night over those of the first."
    looks = [backend for backend in view.looks if backend in set(rows["backend"])]
    return draw(
        name, f"Geometric mean over {rows['run_id'].nunique()} nights", desc, lambda: _history(view, rows, dict(breaks)),
        note=note,
        legend=tuple((backend, "") for backend in looks),
    )  # fmt: skip


def _history(view: View, rows: pd.DataFrame, breaks: Mapping[str, str]) -> Canvas:
    devices = list(dict.fromkeys(rows["device"]))
    left, right, height = 64.0, label_width((look.words for look in view.looks.values()), 120) + 50, 170.0
    labels = HEAD + 14.0 * min(3, len(breaks))
    canvas = Canvas(len(devices) * (labels + height + FOOT))
    width = canvas.width - left - right
    days = date2num(rows["started_at"])
    rows = rows.assign(day=days)
    narrow = rows["value"].max() - rows["value"].min() < 0.1

    def label(value: float) -> str:
        return f"{value:.3f}×" if narrow else f"{value:.2f}×"

    for place, device in enumerate(devices):
        top = place * (labels + height + FOOT)
        canvas.text(left, top + HEAD / 2, device, fontweight="bold")
        axes = canvas.axes(left, top + labels, width, height)
        here = rows[rows["device"] == device]
        night_axis(axes, days.min(), days.max())
        nightly_ratios(axes, rows["value"], _LEAST, label)
        axes.grid(visible=True, axis="y")
        axes.axhline(1, color=sentinel("soft"), lw=1)
        ends = []
        for backend, look in view.looks.items():
            line = here[here["backend"] == backend].sort_values("day")
            if line.empty:
                continue
            _segments(axes, line, look)
            marks = [
                f"{look.words}, {night:%Y-%m-%d}: {units.ratio(value, 4)} of the first night"
                for night, value in zip(line["started_at"], line["value"], strict=True)
            ]
            canvas.dots(axes, look, str(Mode.EAGER), line["day"].to_list(), line["value"].to_list(), marks)
            ends.append((line["value"].iloc[-1], look.words))
        for number, (run_id, words) in enumerate((one, text) for one, text in breaks.items() if one in set(rows["run_id"])):
            day = rows.loc[rows["run_id"] == run_id, "day"].iloc[0]
            axes.axvline(day, color=sentinel("mut"), lw=1, ls="--", zorder=1)
            x = left + width * (day - axes.get_xlim()[0]) / (axes.get_xlim()[1] - axes.get_xlim()[0])
            side = {"ha": "left"} if x < left + width * 0.6 else {"ha": "right"}
            canvas.text(x, top + HEAD + 14.0 * (number % 3), fitted(words, 380), color=sentinel("mut"), fontsize=11, **side)
        _end_labels(canvas, ends, (left + width + 12, top + labels, height), axes.get_ylim())
        axes.set(xlabel="night, UTC", ylabel="time ÷ first night, log")
    return canvas


def _segments(axes: Axes, line: pd.DataFrame, look: Look) -> None:
    """The line, interrupted where a night is missing."""
    apart = line["started_at"].diff().dt.total_seconds() > _LONGEST_GAP_S
    for _, part in line.groupby(apart.cumsum()):
        axes.plot(part["day"], part["value"], color=look.sentinel(), lw=1.8, ls=look.dash, zorder=3)


def _end_labels(
    canvas: Canvas, ends: list[tuple[float, str]], place: tuple[float, float, float], limits: tuple[float, float]
) -> None:
    """The last values beside the lines, moved apart where they would touch."""
    x, top, height = place
    taken = -100.0
    for value, words in sorted(ends, reverse=True):
        y = max(top + height * np.log(limits[1] / value) / np.log(limits[1] / limits[0]), taken + 14)
        canvas.text(x, y, f"{words} {units.ratio(value, 4)}", color=sentinel("ink"), fontsize=11)
        taken = y
