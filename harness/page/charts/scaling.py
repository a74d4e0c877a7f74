"""How the rate of images grows with the batch or falls with the size, and where a backend stops."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
from matplotlib.axes import Axes

from harness import units
from harness.page.canvas import Canvas, Drawn, decades, draw, fitted
from harness.page.charts.layout import FOOT, HEAD, by_look, legend, points
from harness.page.palette import sentinel
from harness.page.sweeps import FEWEST, SHAPES, shapes
from harness.page.view import View
from harness.record import Status
from harness.spec import parse_workload

MOST = 8  # facets of a figure
_COLUMNS = 3
_LEFT_OUT = (str(Status.SKIPPED), str(Status.UNSUPPORTED))


@dataclass(frozen=True)
class Sweep:
    """Cells that differ in one thing: `axis` is batch or size, `rows` are those of the view with `at`, its value."""

    label: str
    axis: str
    rows: pd.DataFrame


def sweeps(view: View) -> list[Sweep]:
    """The sweeps of a run: shapes that differ in the batch alone, or in the size alone, with three values or more."""
    cells = view.cells[~view.cells["status"].isin(_LEFT_OUT)]
    same_shape, found = ["rest", "words", "device", "varies"], []
    for axis in SHAPES:
        rows = cells.join(shapes(cells, axis))
        rows = rows[rows.groupby(same_shape)["at"].transform("nunique") >= FEWEST]
        for _, same in rows.groupby(same_shape, sort=False):
            same = same.drop_duplicates(["at", "backend", "mode"])
            label = " · ".join(filter(None, (_stem(same["name"].to_list()), same["words"].iloc[0], same["varies"].iloc[0])))
            found.append(Sweep(label, axis, same))
    return found


def _stem(names: Sequence[str]) -> str:
    """The beginning that all names of a sweep share, without the digits and separators at its end."""
    stem = names[0]
    for name in names[1:]:
        while not name.startswith(stem):
            stem = stem[:-1]
    stem = stem.rstrip("0123456789")
    return stem.removesuffix("_n").removesuffix("_s").rstrip("_-. ") or names[0]


def scaling(view: View, found: Sequence[Sweep], name: str) -> Drawn:
    """Images per second over batch or size, a facet per sweep; `found` are of one axis and device."""
    axis, shown = found[0].axis, found[:MOST]
    rows = pd.concat([sweep.rows for sweep in shown])
    device = rows["device"].iloc[0]
    failed = sorted(set(rows.loc[rows["status"] != str(Status.OK), "status"]))
    known = (rows["ci_low_ns"] < rows["ci_high_ns"]).any()
    note = f"Higher is faster. {'Upright line: 95 % interval. ' if known else ''}Dotted: " + (
        "proportional to the smallest batch; where a line bends away from it, the device is full."
        if axis == "batch"
        else "as many pixels per second as at the smallest size."
    )
    if failed:
        words = ", ".join(text.replace("_", " ") for text in failed)
        note += f" ✕: the first value that failed ({words}); the line ends before it."
    if len(found) > MOST:
        note += f" {MOST} of {len(found)} sweeps; all are in the table of results."
    caption = f"Images per second over the {'batch' if axis == 'batch' else 'size of the input'}, {device}"
    desc = f"A facet per sweep, a line per backend and mode: images per second over the {axis}."
    return draw(name, caption, desc, lambda: _scaling(view, shown, axis), note=note, legend=legend(rows))


def _scaling(view: View, found: Sequence[Sweep], axis: str) -> Canvas:
    columns = min(_COLUMNS, len(found))
    lines = -(-len(found) // columns)
    left, gap, right, height = 58.0, 58.0, 16.0, 190.0
    canvas = Canvas(lines * (HEAD + height + FOOT))
    width = (canvas.width - left - right - gap * (columns - 1)) / columns
    for place, sweep in enumerate(found):
        x, top = left + place % columns * (width + gap), place // columns * (HEAD + height + FOOT)
        canvas.text(x - 30, top + HEAD / 2, fitted(sweep.label, width + 40), fontweight="bold")
        axes = canvas.axes(x, top + HEAD, width, height)
        _facet(canvas, axes, view, sweep)
        axes.set(
            xlabel=f"{'batch' if axis == 'batch' else 'height of the input, px'}, log",
            ylabel="images/s, log" if place % columns == 0 else "",
        )
    return canvas


def _facet(canvas: Canvas, axes: Axes, view: View, sweep: Sweep) -> None:
    values = sorted(set(sweep.rows["at"]))
    images = sweep.rows["shape"].map(lambda shape: parse_workload(shape).images)
    rows = sweep.rows.assign(
        rate=images * 1e9 / sweep.rows["median_ns"],
        low=images * 1e9 / sweep.rows["ci_high_ns"],
        high=images * 1e9 / sweep.rows["ci_low_ns"],
    )
    ok = rows[(rows["status"] == str(Status.OK)) & (rows["median_ns"] > 0)]
    axes.set_xscale("log")
    axes.set_xlim(values[0] / 1.2, values[-1] * 1.2)
    step = -(-len(values) // 8)
    axes.set_xticks(values[::step], [str(value) for value in values[::step]])
    axes.minorticks_off()
    axes.grid(visible=True, axis="y")
    if ok.empty:
        axes.set_yticks([])
        return
    low, high = ok["rate"].min() / 1.4, ok["rate"].max() * 1.6
    axes.set_yscale("log")
    axes.set_ylim(low, high)
    steps = next((s for s in ((1, 2, 5), (1, 3), (1,)) if len(decades(low, high, s)) <= 6), (1,))
    ticks = decades(low, high, steps)
    axes.set_yticks(ticks, [units.count(tick) for tick in ticks])
    axes.minorticks_off()
    _proportional(axes, ok, sweep.axis, values)
    for backend, mode, same in by_look(rows):
        same = same.sort_values("at", kind="stable")
        bad = same[same["status"] != str(Status.OK)]
        # A line ends before the first value that failed: it never bridges a gap.
        line = same[same["at"] < bad["at"].iloc[0]] if len(bad) else same
        line = line[line["median_ns"] > 0]
        look = view.looks[backend]
        if len(line):
            axes.vlines(line["at"], line["low"], line["high"], color=look.sentinel(), lw=2, zorder=3)
            axes.plot(line["at"], line["rate"], color=look.sentinel(), lw=1.8, ls=look.dash, zorder=3)
            canvas.dots(axes, look, mode, line["at"].to_list(), line["rate"].to_list(), line["i"].to_list())
        if len(bad):
            first = bad.iloc[0]
            y = line["rate"].iloc[-1] if len(line) else low * 1.1
            points(canvas, axes, [first["at"]], [y], [int(first["i"])], key=look.key, marker="X", size=90)


def _proportional(axes: Axes, ok: pd.DataFrame, axis: str, values: Sequence[int]) -> None:
    """Draw ideal scaling from the highest rate at the smallest value: as the batch grows, or as the pixels shrink."""
    start = ok[ok["at"] == ok["at"].min()]
    best, first = start["rate"].max(), float(start["at"].iloc[0])
    power = 1 if axis == "batch" else -parse_workload(start["shape"].iloc[0]).ndim
    ends = [first, float(values[-1])]
    axes.plot(ends, [best * (end / first) ** power for end in ends], color=sentinel("soft"), lw=1.2, ls=":", zorder=2)
