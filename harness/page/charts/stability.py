"""A chart of the samples of the least stable cells."""

import numpy as np
import pandas as pd
import seaborn as sns

from harness import units
from harness.page.canvas import Canvas, Drawn, draw, fitted, label_width, ratio_axis
from harness.page.palette import sentinel
from harness.page.view import View
from harness.record import SeriesKind

WORST = 12
MOST_SAMPLES = 200  # drawn per case


def unsteady(view: View, samples: pd.DataFrame, most: int = WORST) -> pd.DataFrame:
    """Samples per call over their cell's median, of the cells with the largest (p95 - p5) / median, widest first.

    Columns `cell`, `ratio` and `spread`.
    """
    ok = view.ok.set_index("cell")["median_ns"]
    samples = samples[samples["cell"].isin(ok.index) & (samples["series"] == str(SeriesKind.LATENCY))]
    per_call = samples["block_ns"].astype("float64") / samples["iterations"].astype("float64")
    ratios = pd.DataFrame({"cell": samples["cell"], "ratio": per_call / samples["cell"].map(ok).astype("float64")})
    if ratios.empty:
        return ratios.assign(spread=0.0)
    of_cell = ratios.groupby("cell")["ratio"]
    spread = (of_cell.quantile(0.95) - of_cell.quantile(0.05)).sort_values(ascending=False, kind="stable").iloc[:most]
    kept = ratios[ratios["cell"].isin(spread.index)]
    return kept.assign(spread=kept["cell"].map(spread)).sort_values(["spread", "cell"], ascending=[False, True], kind="stable")


def stability(view: View, worst: pd.DataFrame, seed: int) -> Drawn:
    """A box and its samples for each of the least stable cells."""
    cells = view.cells.set_index("cell").loc[worst["cell"].drop_duplicates()]
    caption = "The cell with the widest samples" if len(cells) == 1 else f"The {len(cells)} cells with the widest samples"
    note = (
        f"Box: quartiles and median; whiskers: 5th to 95th percentile; dots: at most {MOST_SAMPLES} samples of a cell, "
        "drawn by lot. Samples of all trials, each over the median of its cell: what the machine did meanwhile is in them."
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
        axes.scatter(ratio, y, color=colours[cell], s=9, linewidth=0, zorder=3, clip_on=False)
    axes.set(ylabel="", xlabel="time of one call over the cell's median, log")
    axes.set_yticks([])
    axes.set_ylim(len(order) - 0.5, -0.5)
    ratio_axis(axes, low / 1.01, high * 1.01, 9, lambda value: f"{value:.4g}×")
    canvas.text(canvas.width - right + 14, top / 2, "p95 − p5", color=sentinel("mut"))
    widths = worst.drop_duplicates("cell").set_index("cell")["spread"]
    for place, cell in enumerate(order):
        middle = top + pitch * (place + 0.5)
        canvas.text(left - 10, middle, fitted(cells["case"][cell], left), ha="right")
        canvas.text(canvas.width - right + 14, middle, units.percent(widths[cell]), color=sentinel("mut"))
    return canvas


def _thinned(samples: pd.DataFrame, seed: int) -> pd.DataFrame:
    """At most MOST_SAMPLES of each cell, drawn without replacement by the run's seed."""
    draw_lots = np.random.default_rng(seed)
    kept = []
    for _, same in samples.groupby("cell", sort=False):
        chosen = np.sort(draw_lots.permutation(len(same))[:MOST_SAMPLES])
        kept.append(same.iloc[chosen])
    return pd.concat(kept)
