"""Rates over arithmetic intensity, under the ceilings that were measured in the same run and no others."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from harness import units
from harness.page.canvas import Canvas, Drawn, decades, draw, log_axis
from harness.page.charts.layout import FOOT, HEAD, by_look, legend
from harness.page.palette import sentinel
from harness.page.view import View

_COLUMNS = 3
_TERA = 1e12


@dataclass(frozen=True)
class Roof:
    """Ceilings of one precision and number of threads: FLOP/s of a matrix product, bytes/s of a copy; None: not measured."""

    label: str
    flop_per_s: float | None
    bytes_per_s: float | None

    def at(self, intensity: np.ndarray) -> np.ndarray:
        """The roof over each intensity in FLOP/byte; infinite where neither is known."""
        flat = self.flop_per_s or np.inf
        return np.minimum(flat, intensity * self.bytes_per_s) if self.bytes_per_s else np.full(len(intensity), flat)


def roofs(view: View, ceilings: pd.DataFrame | None, device: str) -> dict[tuple[str, int], Roof]:
    """The ceilings on a device for each precision and number of threads of its cells; `ceilings` is `analysis.roofline`'s."""
    cells = view.drawn[view.drawn["device"] == device]
    pairs = sorted(set(zip(cells["precision"], cells["threads"].astype(int), strict=True)))
    several = len({threads for _, threads in pairs}) > 1
    found = {}
    for precision, threads in pairs:
        here = (
            ceilings[(ceilings["device"] == device) & (ceilings["threads"] == threads)]
            if ceilings is not None
            else pd.DataFrame()
        )
        if here.empty:
            continue
        flat = here.loc[here["precision"] == precision, "flop_per_s"].dropna()
        slope = here["bytes_per_s"].dropna()
        label = precision + (f", {units.threads(threads)}" if several else "")
        if len(flat) or len(slope):
            found[precision, threads] = Roof(
                label, float(flat.max()) if len(flat) else None, float(slope.max()) if len(slope) else None
            )
    return found


def above(rows: pd.DataFrame, known: dict[tuple[str, int], Roof]) -> pd.Series:
    """Which rows lie above the roof of their precision and threads; False where no roof is known."""
    roof = [
        float(known[key].at(np.array([intensity]))[0]) if (key := (precision, int(threads))) in known else np.inf
        for precision, threads, intensity in zip(
            rows["precision"], rows["threads"], rows["intensity_flop_per_byte"], strict=True
        )
    ]
    return rows["flop_per_s"] > pd.Series(roof, index=rows.index)


def roofline(view: View, device: str, ceilings: pd.DataFrame | None, name: str) -> Drawn:
    """Effective rate over arithmetic intensity on one device, a panel per direction."""
    drawn = view.drawn
    rows = drawn[(drawn["device"] == device) & (drawn["flop_per_s"] > 0) & (drawn["intensity_flop_per_byte"] > 0)]
    known = roofs(view, ceilings, device)
    over = int(above(rows, known).sum())
    flat, slope = any(roof.flop_per_s for roof in known.values()), any(roof.bytes_per_s for roof in known.values())
    missing = [what for what, there in (("matrix product", flat), ("copy", slope)) if not there]
    note = (
        f"Above the roof (shaded): {over} of {units.many(len(rows), 'cell')}. Rates are effective ones, since fast "
        "algorithms do fewer FLOP than are counted: such a cell is a reason to look, not a record. " if known else ""
    )  # fmt: skip
    note += "Left of the bend the memory limits, right of it the arithmetic. " if flat and slope else ""
    note += f"Not measured in this run: {' and '.join(missing)}, so there is no such line. " if missing else ""
    note += f"FLOP are those of direct convolution; bytes the least there can be: input, filter and output once.{view.undrawn}"
    caption = f"Effective rate over arithmetic intensity, {device}"
    desc = (
        "A panel per direction, a mark per cell at its FLOP per byte and its rate; lines are the ceilings measured in this run."
    )
    return draw(name, caption, desc, lambda: _roofline(view, rows, list(known.values())), note=note, legend=legend(rows))


def _roofline(view: View, rows: pd.DataFrame, known: Sequence[Roof]) -> Canvas:
    directions = [words for words in view.directions if words in set(rows["words"])]
    columns = min(_COLUMNS, len(directions))
    lines = [directions[start : start + columns] for start in range(0, len(directions), columns)]
    left, gap, right, height = 58.0, 30.0, 16.0, 236.0
    canvas = Canvas(len(lines) * (HEAD + height + FOOT))
    width = (canvas.width - left - right - gap * (columns - 1)) / columns
    tops = [roof.flop_per_s for roof in known if roof.flop_per_s]
    tera = max([rows["flop_per_s"].max(), *tops]) >= _TERA
    unit, factor = ("TFLOP/s", _TERA) if tera else ("GFLOP/s", _TERA / 1000)
    x = rows["intensity_flop_per_byte"].min() / 1.6, rows["intensity_flop_per_byte"].max() * 1.6
    # The bend is shown too, or nobody would see on which side of it the cells lie.
    x = min([x[0], *(roof.flop_per_s / roof.bytes_per_s / 2 for roof in known if roof.flop_per_s and roof.bytes_per_s)]), x[1]
    ends = [*rows["flop_per_s"], *tops, *(float(roof.at(np.array([x[0]]))[0]) for roof in known if roof.bytes_per_s)]
    y = max(min(ends), rows["flop_per_s"].min() / 30) / 1.6 / factor, max(ends) * 2.0 / factor
    for row, names in enumerate(lines):
        for column, direction in enumerate(names):
            place = left + column * (width + gap), row * (HEAD + height + FOOT)
            canvas.text(place[0], place[1] + HEAD / 2, direction, fontweight="bold")
            axes = canvas.axes(place[0], place[1] + HEAD, width, height)
            log_axis(axes, *x, max(3, int(width / 56)), lambda value: f"{value:.4g}")
            _rate_axis(axes, y)
            _roofs(axes, known, x, y, factor)
            same = rows[rows["words"] == direction]
            for backend, mode, of in by_look(same):
                at = (of["flop_per_s"] / factor).to_list()
                canvas.dots(axes, view.looks[backend], mode, of["intensity_flop_per_byte"].to_list(), at, of["i"].to_list())
            axes.set(xlabel="FLOP per byte, log", ylabel=f"{unit}, log" if column == 0 else "")
    return canvas


def _rate_axis(axes: Axes, y: tuple[float, float]) -> None:
    axes.set_yscale("log")
    axes.set_ylim(*y)
    ticks = next((found for steps in ((1, 2, 5), (1, 3), (1,)) if len(found := decades(*y, steps)) <= 7), decades(*y, (1,)))
    axes.set_yticks(ticks, [f"{tick:.4g}" for tick in ticks])
    axes.minorticks_off()
    axes.grid(visible=True, axis="y")


def _roofs(axes: Axes, known: Sequence[Roof], x: tuple[float, float], y: tuple[float, float], factor: float) -> None:
    """The lines with their values, and the region above the highest of them shaded."""
    at = np.geomspace(*x, 400)
    if known:
        highest = np.max([roof.at(at) for roof in known], axis=0) / factor
        axes.fill_between(at, np.minimum(highest, y[1]), y[1], color=sentinel("grid"), lw=0, zorder=0)
    bandwidths = set()
    for place, roof in enumerate(sorted(known, key=lambda roof: roof.flop_per_s or 0)):
        axes.plot(
            at, np.clip(roof.at(at) / factor, *y), color=sentinel("soft"), lw=1.6, ls="-" if place == 0 else "--", zorder=2
        )
        if roof.flop_per_s:
            words = f"{units.flop_rate(roof.flop_per_s)} {roof.label}"
            axes.text(x[1], roof.flop_per_s / factor * 1.07, words, ha="right", va="bottom", fontsize=11, color=sentinel("mut"))
        if roof.bytes_per_s and roof.bytes_per_s not in bandwidths:
            bandwidths.add(roof.bytes_per_s)
            start = max(x[0], y[0] * factor / roof.bytes_per_s) * 1.12
            level = start * roof.bytes_per_s / factor * 0.82
            axes.text(start, level, units.byte_rate(roof.bytes_per_s), va="top", fontsize=11, color=sentinel("mut"))
