"""Backends over all workloads: geometric means with their intervals, and how often each is within a factor of the lowest."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from harness import stats, units
from harness.axes import Mode
from harness.outcome import Judgement
from harness.page.canvas import Canvas, Drawn, draw, fitted, label_width, log_axis, ratio_axis
from harness.page.charts.layout import FOOT, HEAD
from harness.page.palette import Look, sentinel
from harness.page.standings import FEWEST_FOR_INTERVAL, Standing
from harness.page.view import View, who
from harness.record import Status

_PITCH, _GAP = 17.0, 13.0
_VALUE = 58.0  # px for the number beside a mark
_COLUMNS = 2
_NEVER = 1e6  # where a failure stands in the profile: right of any axis


@dataclass(frozen=True)
class Line:
    """A row of a forest: a backend's value and its interval, None where there are too few cases for one; words for its mark."""

    backend: str
    value: float
    interval: stats.Interval | None
    words: str


@dataclass(frozen=True)
class Block:
    """Rows of a forest under one label."""

    label: str
    lines: Sequence[Line]


def forest(view: View, found: Sequence[Standing], name: str = "forest") -> Drawn:
    """Geometric mean of time over the lowest, a panel per device, a block per direction."""
    panels: dict[str, list[Block]] = {}
    for standing in found:
        lines = [
            Line(mean.backend, mean.value, mean.interval, _told(view, mean.backend, mean.value, mean.interval, standing.common))
            for mean in sorted(standing.means, key=lambda mean: list(view.looks).index(mean.backend))
        ]
        if lines:
            panels.setdefault(standing.device, []).append(Block(standing.direction, lines))
    common = "; ".join(
        f"{device}: " + ", ".join(f"{one.direction} {one.common} of {one.total}" for one in found if one.device == device)
        for device in dict.fromkeys(one.device for one in found)
    )
    known = any(line.interval for blocks in panels.values() for block in blocks for line in block.lines)
    line = f"Line: 95 % bootstrap interval over workloads, from {FEWEST_FOR_INTERVAL} workloads on. " if known else ""
    note = (
        f"Further left is faster; 1× would be the lowest time in every workload. {line}Only workloads count in which all "
        f"backends of the row have a time, and no flag bars a verdict on it: {common}. {view.swept}"
    ).strip()
    caption = f"Geometric mean of time ÷ lowest{', with 95 % intervals over workloads' if known else ''}"
    desc = "A panel per device, a block per direction, a row per backend at its geometric mean of time over the lowest."
    backends = dict.fromkeys(line.backend for blocks in panels.values() for block in blocks for line in block.lines)
    legend = tuple((backend, "") for backend in view.looks if backend in backends)
    return draw(
        name, caption, desc, lambda: _forest(view, panels, "geometric mean of time ÷ lowest", 1.0), note=note, legend=legend
    )


def speedup(view: View, judged: Judgement, name: str = "speedup") -> Drawn | None:
    """Geometric mean of time now over the baseline per backend, as a forest; None where none has five cases to compare."""
    cases = judged.cases[judged.cases["ratio"] > 0]
    rows = view.cells[["cell", "backend", "device", "words"]].merge(
        cases[["cell", "ratio"]].astype({"cell": object}), on="cell"
    )
    panels: dict[str, list[Block]] = {}
    for device in view.devices:
        for direction in view.directions:
            here = rows[(rows["device"] == device) & (rows["words"] == direction)]
            lines = []
            for backend in view.looks:
                ratios = here.loc[here["backend"] == backend, "ratio"].to_list()
                if len(ratios) >= FEWEST_FOR_INTERVAL:
                    value, interval = stats.geometric_mean(ratios), stats.bootstrap_interval(ratios)
                    lines.append(Line(backend, value, interval, _told(view, backend, value, interval, len(ratios))))
            if lines:
                panels.setdefault(device, []).append(Block(direction, lines))
    if not panels:
        return None
    backends = {line.backend for blocks in panels.values() for block in blocks for line in block.lines}
    note = f"Left of 1× is faster. Line: 95 % bootstrap interval over cases, from {FEWEST_FOR_INTERVAL} cases on."
    caption = "Geometric mean of time now ÷ baseline, with 95 % intervals over cases"
    desc = "A panel per device, a block per direction, a row per backend at its geometric mean of time now over the baseline."
    legend = tuple((backend, "") for backend in view.looks if backend in backends)
    return draw(name, caption, desc, lambda: _forest(view, panels, "time now ÷ baseline", None), note=note, legend=legend)


def _told(view: View, backend: str, value: float, interval: stats.Interval | None, count: int) -> str:
    bounds = interval or (None, None)
    return f"{who(view.looks, backend)}: {units.ratio_interval(value, *bounds)}, n = {count}"


def _forest(view: View, panels: Mapping[str, Sequence[Block]], label: str, least: float | None) -> Canvas:
    left = label_width([block.label for blocks in panels.values() for block in blocks], 170)
    columns = min(_COLUMNS, len(panels))
    width = (Canvas(1).width - columns * (left + _VALUE + 16)) / columns
    names = list(panels)
    rows = [names[start : start + columns] for start in range(0, len(names), columns)]
    heights = [max(sum(len(block.lines) * _PITCH + _GAP for block in panels[name]) for name in row) for row in rows]
    canvas = Canvas(sum(HEAD + height + FOOT for height in heights))
    ends = [
        end
        for blocks in panels.values()
        for block in blocks
        for line in block.lines
        for end in (line.value, *(line.interval or ()))
    ]
    low, high = min([*ends, 1.0]), max([*ends, 1.05])
    room = (high / low) ** 0.06
    top = 0.0
    for row, height in zip(rows, heights, strict=True):
        for place, device in enumerate(row):
            x = left + place * (left + width + _VALUE + 16)
            canvas.text(x, top + HEAD / 2, device, fontweight="bold")
            axes = canvas.axes(x, top + HEAD, width, height)
            axes.set_ylim(height, 0)
            axes.set_yticks([])
            ratio_axis(axes, low / room, high * room, max(3, int(width / 60)), lambda value: f"{value:.4g}×")
            axes.axvline(1, color=sentinel("soft"), lw=1)
            _blocks(canvas, axes, panels[device], view.looks, (x, top + HEAD, width))
            axes.set(xlabel=f"{label}, log", ylabel="")
        top += HEAD + height + FOOT
    return canvas


def _blocks(
    canvas: Canvas, axes: Axes, blocks: Sequence[Block], looks: Mapping[str, Look], place: tuple[float, float, float]
) -> None:
    left, top, width = place
    y = _GAP / 2
    for block in blocks:
        canvas.text(left - 10, top + y + len(block.lines) * _PITCH / 2, fitted(block.label, 170), ha="right")
        for line in block.lines:
            at, look = y + _PITCH / 2, looks[line.backend]
            if line.interval:
                axes.plot(list(line.interval), [at, at], color=look.sentinel(), lw=2, zorder=3)
            canvas.dots(axes, look, str(Mode.EAGER), [line.value], [at], [line.words])
            canvas.text(left + width + 10, top + at, units.ratio(line.value), color=sentinel("mut"))
            y += _PITCH
        y += _GAP


# --- performance profile -------------------------------------------------------------------------------------------------


def profiles(view: View) -> pd.DataFrame:
    """Columns device, backend, factor: each backend's time over the lowest, in its fastest mode; infinite where it failed.

    What was not asked of a backend, or is not supported, is left out.
    """
    left_out = [str(Status.SKIPPED), str(Status.UNSUPPORTED)]
    ranked = set(view.cells.loc[view.cells["vs_best"].notna(), "backend"])
    rows = view.cells[view.cells["backend"].isin(ranked) & ~view.cells["status"].isin(left_out) & view.cells["counted"]]
    rows = rows.assign(factor=rows["vs_best"].where(rows["status"] == str(Status.OK)).fillna(np.inf))
    return rows.groupby(["device", "backend", "work", "words"], sort=False)["factor"].min().reset_index()


def profile(view: View, name: str = "profile") -> Drawn:
    """The share of cases in which a backend is within a factor of the lowest time, a panel per device."""
    rows = profiles(view)
    failed = int(np.isinf(rows["factor"]).sum())
    note = (
        "Read it as how often a backend is within a factor of the lowest time: at 1× how often it has that time itself. It is "
        "no ranking among the others: with three or more, two of them can swap when another joins. "
        f"Failures count as never ({failed} here); what is not supported is left out. {view.swept}"
    ).strip()
    caption = "Share of cases within a factor of the lowest time"
    desc = "A panel per device, a rising line per backend: the share of its cases within a factor of the lowest time."
    backends = [backend for backend in view.looks if backend in set(rows["backend"])]
    return draw(name, caption, desc, lambda: _profile(view, rows), note=note, legend=tuple((one, "") for one in backends))


def _profile(view: View, rows: pd.DataFrame) -> Canvas:
    devices = [device for device in view.devices if device in set(rows["device"])]
    columns = min(_COLUMNS, len(devices))
    left, gap, height, right = 52.0, 60.0, 220.0, 24.0
    width = (Canvas(1).width - left - right - gap * (columns - 1)) / columns
    lines = [devices[start : start + columns] for start in range(0, len(devices), columns)]
    canvas = Canvas(len(lines) * (HEAD + height + FOOT))
    finite = rows.loc[np.isfinite(rows["factor"]), "factor"]
    edge = max(4.0, float(finite.quantile(0.95))) if len(finite) else 4.0
    for row, names in enumerate(lines):
        for column, device in enumerate(names):
            x, top = left + column * (width + gap), row * (HEAD + height + FOOT)
            canvas.text(x, top + HEAD / 2, device, fontweight="bold")
            axes = canvas.axes(x, top + HEAD, width, height)
            log_axis(axes, 1, edge, 8, lambda value: f"{value:.4g}×")
            for backend, look in view.looks.items():
                factors = rows.loc[(rows["device"] == device) & (rows["backend"] == backend), "factor"]
                if len(factors):
                    _ecdf(canvas, axes, factors, look, edge)
            axes.set_ylim(0, 1.02)
            axes.grid(visible=True, axis="y")
            axes.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0 %", "25 %", "50 %", "75 %", "100 %"])
            axes.set(xlabel="factor to the lowest time, log", ylabel="")
    return canvas


def _ecdf(canvas: Canvas, axes: Axes, factors: pd.Series, look: Look, edge: float) -> None:
    shown = factors.replace(np.inf, _NEVER).to_numpy()
    sns.ecdfplot(x=shown, ax=axes, color=look.sentinel(), lw=2, ls=look.dash, zorder=3)
    last = float(factors[factors <= edge].max()) if (factors <= edge).any() else 1.0
    level = float((factors <= edge).mean())
    axes.plot(
        [last, edge], [level, level], color=look.sentinel(), lw=2, ls=look.dash, zorder=3
    )  # the curve ends at its last case
    at = [factor for factor in (1.0, 1.5, 2.0, 3.0, edge) if factor <= edge]
    share = [float((factors <= factor * (1 + 1e-9)).mean()) for factor in at]
    words = [
        f"{look.words}: {units.percent(each)} of {units.many(len(factors), 'case')} within {factor:.3g}×"
        for factor, each in zip(at, share, strict=True)
    ]
    canvas.dots(axes, look, str(Mode.EAGER), at, share, words)
