"""Frame to chart: latencies with their intervals, and the samples of the least stable cells."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

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
_FASTEST = 200.0  # px for the words on the fastest, at the right
_LOG_FROM = 5.0  # a span of this factor needs a log axis


@dataclass(frozen=True)
class Group:
    """Rows of one workload in one panel: `rows` of the frame, the y of each, and the extent of the band behind."""

    label: str
    rows: pd.DataFrame
    y: list[float]
    top: float
    bottom: float


def stack(groups: Sequence[tuple[str, pd.DataFrame]]) -> tuple[list[Group], float]:
    """The groups from top to bottom, in px, and the height that they take."""
    stacked, top = [], _GAP / 2
    for label, rows in groups:
        rows = rows.sort_values("order_in_group", kind="stable")
        y = [top + _PITCH * (place + 0.5) for place in range(len(rows))]
        stacked.append(Group(label, rows, y, top, top + _PITCH * len(rows)))
        top += _PITCH * len(rows) + _GAP
    return stacked, top - _GAP / 2


def dots(canvas: Canvas, axes: Axes, groups: Sequence[Group], looks: Mapping[str, Look], column: str) -> None:
    """The marks of all groups, one layer per backend and mode, in their fixed order."""
    rows = pd.concat([group.rows.assign(y=group.y) for group in groups])
    for (_, backend, mode), same in rows.groupby(["order_in_group", "backend", "mode"], sort=True):
        canvas.dots(axes, looks[backend], mode, same[column].to_list(), same["y"].to_list(), same["i"].to_list())


def legend(rows: pd.DataFrame) -> tuple[tuple[str, str], ...]:
    """The backends and modes of the rows, in their fixed order."""
    pairs = rows.sort_values("order_in_group", kind="stable")[["backend", "mode"]].drop_duplicates()
    return tuple(pairs.itertuples(index=False, name=None))


# --- latency -----------------------------------------------------------------------------------------------------------


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
    note = (
        "Further left is faster. The band spans a group from its fastest to its slowest, "
        "the line through a marker is its 95 % interval."
    )
    if shown < total:
        note = f"The {shown} of {total} groups in which backends differ most; all are in the table of results. " + note
    note += view.undrawn
    caption = f"Median latency with 95 % intervals, {device}"
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
    left, right, head, foot = label_width(rows["row"]), _FASTEST + 14, 26.0, 26.0
    canvas = Canvas(sum(height + head + foot for *_, height in panels) + 22)
    low = rows[["median_ns", "ci_low_ns"]].min().min()
    high = rows[["median_ns", "ci_high_ns"]].max().max()
    top = 0.0
    for direction, groups, height in panels:
        canvas.text(left, top + head / 2, direction, fontweight="bold")
        if top == 0:
            canvas.text(canvas.width - _FASTEST, top + head / 2, "fastest", color=sentinel("mut"))
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
        log_axis(axes, low / 1.15, high * 1.15, 12, lambda ns: units.duration(ns, 1))
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
    for row, y in zip(rows.itertuples(), group.y, strict=True):
        if row.ci_low_ns < row.ci_high_ns:
            axes.plot([row.ci_low_ns, row.ci_high_ns], [y, y], color=looks[row.backend].sentinel(), lw=1.8, zorder=3)
    canvas.text(left - 10, middle, fitted(group.label, left), ha="right")
    first = rows.loc[rows["median_ns"].idxmin()]
    canvas.text(canvas.width - _FASTEST, middle, units.duration(first["median_ns"], 3))
    canvas.text(canvas.width - _FASTEST + 62, middle, fitted(first["who"], _FASTEST - 50), color=sentinel("mut"))


# --- stability ---------------------------------------------------------------------------------------------------------


def unsteady(view: View, samples: pd.DataFrame, most: int = WORST) -> pd.DataFrame:
    """Clean samples per call over their cell's median, of the cells with the largest (p95 - p5) / median, widest first.

    Columns `cell`, `ratio` and `spread`.
    """
    ok = view.ok.set_index("cell")["median_ns"]
    samples = samples[samples["cell"].isin(ok.index) & ~samples["contended"].astype(bool)]
    per_call = samples["block_ns"].astype("float64") / samples["iterations"].astype("float64")
    ratios = pd.DataFrame({"cell": samples["cell"], "ratio": per_call / samples["cell"].map(ok).astype("float64")})
    quantiles = ratios.groupby("cell", sort=False)["ratio"].quantile([0.05, 0.95]).unstack()
    if quantiles.empty:
        return ratios.assign(spread=0.0)
    spread = (quantiles[0.95] - quantiles[0.05]).sort_values(ascending=False, kind="stable").iloc[:most]
    kept = ratios[ratios["cell"].isin(spread.index)]
    return kept.assign(spread=kept["cell"].map(spread)).sort_values(["spread", "cell"], ascending=[False, True], kind="stable")


def stability(view: View, worst: pd.DataFrame, seed: int) -> Drawn:
    """A box and its samples for each of the least stable cells."""
    cells = view.cells.set_index("cell").loc[worst["cell"].drop_duplicates()]
    caption = "The cell with the widest samples" if len(cells) == 1 else f"The {len(cells)} cells with the widest samples"
    note = (
        f"Box: quartiles and median; whiskers: 5th to 95th percentile; dots: at most {MOST_SAMPLES} clean samples of a cell, "
        "drawn by lot. Samples of all trials, each over the median of its cell."
    )
    desc = "Horizontal boxes with the samples behind them; 1 is the cell's median."
    return draw("dist", caption, desc, lambda: _stability(view, cells, worst, seed), note=note)


def _stability(view: View, cells: pd.DataFrame, worst: pd.DataFrame, seed: int) -> Canvas:
    pitch, left, right = 30.0, label_width(cells["case"], 380), 70.0
    top = 26.0
    canvas = Canvas(top + pitch * len(cells) + 42)
    axes = canvas.axes(left, top, canvas.width - left - right, pitch * len(cells))
    order = list(cells.index)
    few = _thinned(worst, seed)
    low, high = np.quantile(worst["ratio"], [0.002, 0.998])
    low, high = min(low, 0.97), max(high, 1.03)
    within = few[few["ratio"].between(low, high)]
    colours = {cell: view.looks[backend].sentinel() for cell, backend in cells["backend"].items()}
    jitter = np.random.default_rng(seed)
    axes.axvline(1, color=sentinel("soft"), lw=1)
    sns.boxplot(
        worst, x="ratio", y="cell", order=order, orient="h", ax=axes, whis=(5, 95), showfliers=False, width=0.62,
        color=sentinel("grid"), saturation=1, linecolor=sentinel("mut"), linewidth=1.1,
    )  # fmt: skip
    # Jittered here: stripplot draws its jitter from numpy's global generator.
    for place, cell in enumerate(order):
        ratio = within.loc[within["cell"] == cell, "ratio"]
        y = place + jitter.uniform(-0.28, 0.28, len(ratio))
        sns.scatterplot(x=ratio, y=y, color=colours[cell], s=9, linewidth=0, ax=axes, zorder=3)
        axes.collections[-1].set_clip_on(False)
    axes.set(ylabel="", xlabel="time of one call over the cell's median")
    axes.set_yticks([])
    axes.set_ylim(len(order) - 0.5, -0.5)
    linear_axis(axes, low - 0.01, high + 0.01, 9, lambda value: f"{value:.4g}×")
    canvas.text(canvas.width - right + 14, top / 2, "p95 − p5", color=sentinel("mut"))
    widths = worst.drop_duplicates("cell").set_index("cell")["spread"]
    for place, cell in enumerate(order):
        y = top + pitch * (place + 0.5)
        canvas.text(left - 10, y, fitted(cells["case"][cell], left), ha="right")
        canvas.text(canvas.width - right + 14, y, units.percent(widths[cell]), color=sentinel("mut"))
    return canvas


def _thinned(samples: pd.DataFrame, seed: int) -> pd.DataFrame:
    """At most MOST_SAMPLES of each cell, drawn without replacement by the run's seed."""
    draw_lots = np.random.default_rng(seed)
    kept = []
    for _, same in samples.groupby("cell", sort=False):
        chosen = np.sort(draw_lots.permutation(len(same))[:MOST_SAMPLES])
        kept.append(same.iloc[chosen])
    return pd.concat(kept)
