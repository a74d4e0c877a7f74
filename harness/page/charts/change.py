"""Every case against the baseline on one strip: one look shows how many moved, how far, and whether all to one side."""

import numpy as np
import pandas as pd

from harness import units
from harness.outcome import Judgement, Outcome
from harness.page.canvas import Canvas, Drawn, draw, fitted, label_width, log_axis
from harness.page.charts.layout import FOOT, points, thinned
from harness.page.palette import sentinel
from harness.page.view import View

_BAND = 1.02
_LEAST, _MOST = 1.25, 4.0  # of the axis, in either direction
_PITCH = 26.0
# Outcome -> marker, size, hollow: shape and place say it too, not the colour alone.
LOOKS = {
    Outcome.NO_CHANGE: ("o", 12, False),
    Outcome.UNCERTAIN: ("D", 18, True),
    Outcome.FASTER: ("v", 40, False),
    Outcome.SLOWER: ("^", 40, False),
}


def strip(view: View, judged: Judgement, name: str = "change") -> Drawn:
    """Time now over the baseline of every case with a ratio, a row per backend and device; `judged` has them."""
    rows = _rows(view, judged.cases)
    shown = thinned(rows, rows["verdict"] != Outcome.NO_CHANGE)
    kinds = [outcome for outcome in LOOKS if outcome in set(shown["verdict"])]
    legend = ", ".join(f"{kind.icon} {kind.words}" for kind in reversed(kinds))
    note = f"{legend}. Grey: within 2 % of the baseline. Dotted: no change."
    if (rows["clipped"] != 0).any():
        note += " An arrow at the edge stands for a case beyond it."
    if len(shown) < len(rows):
        note += f" {len(shown)} of {len(rows)} drawn: all that moved, and of the others a sample by lot."
    desc = (
        "A row per backend and device, a mark per case at its time over that of the baseline; left is faster, right is slower."
    )
    return draw(name, "Every case against the baseline", desc, lambda: _strip(view, shown), note=note)


def _rows(view: View, cases: pd.DataFrame) -> pd.DataFrame:
    known = cases[cases["verdict"].isin(list(LOOKS)) & (cases["ratio"] > 0)][["cell", "ratio", "verdict"]]
    columns = ["cell", "i", "backend", "device", "order_in_group"]
    rows = view.cells[columns].merge(known.astype({"cell": object}), on="cell")
    edge = edge_of(rows["ratio"])
    return rows.assign(
        shown=rows["ratio"].clip(1 / edge, edge),
        clipped=np.sign(np.log(rows["ratio"])) * (rows["ratio"].map(np.log).abs() > np.log(edge)),
    )


def edge_of(ratios: pd.Series) -> float:
    """The factor to which the axis reaches on either side: that of nearly all ratios, at least 1.25, at most 4."""
    ratios = ratios[(ratios > 0) & np.isfinite(ratios)]
    if ratios.empty:
        return _LEAST
    return float(np.clip(np.exp(np.log(ratios).abs().quantile(0.99)) * 1.03, _LEAST, _MOST))


def _strip(view: View, rows: pd.DataFrame) -> Canvas:
    pairs = list(
        rows.sort_values(["device", "order_in_group"])[["backend", "device"]]
        .drop_duplicates()
        .itertuples(index=False, name=None)
    )
    several = len(view.devices) > 1
    labels = {pair: view.looks[pair[0]].words + (f" · {pair[1]}" if several else "") for pair in pairs}
    left, top, height = label_width(labels.values()), 26.0, max(1, len(pairs)) * _PITCH
    canvas = Canvas(top + height + FOOT)
    axes = canvas.axes(left, top, canvas.width - left - 20, height)
    edge = edge_of(rows["ratio"])
    log_axis(axes, 1 / edge, edge, 9, lambda value: f"{value:.3g}×")
    known = (0.25, 0.33, 0.5, 0.67, 0.8, 0.9, 0.95, 1, 1.05, 1.1, 1.25, 1.5, 2, 3, 4)
    ticks = [tick for tick in known if 1 / edge * 0.99 <= tick <= edge * 1.01]
    if edge > 1.6:  # near ticks would touch
        ticks = [tick for tick in ticks if not 0.85 < tick < 1.2 or tick == 1]
    axes.set_xticks(ticks, [f"{tick:.3g}×" for tick in ticks])
    axes.minorticks_off()
    axes.set_ylim(height, 0)
    axes.set_yticks([])
    axes.axvspan(1 / _BAND, _BAND, color=sentinel("grid"), lw=0, zorder=0)
    axes.axvline(1, color=sentinel("soft"), lw=1, ls=":")
    lots = np.random.default_rng(0)
    middle = {pair: (place + 0.5) * _PITCH for place, pair in enumerate(pairs)}
    for pair, y in middle.items():
        canvas.text(left - 10, top + y, fitted(labels[pair], left), ha="right")
    at = [middle[pair] for pair in zip(rows["backend"], rows["device"], strict=True)]
    rows = rows.assign(y=np.array(at) + lots.uniform(-0.3, 0.3, len(rows)) * _PITCH)
    for outcome, (marker, size, hollow) in LOOKS.items():
        for side in (-1, 0, 1):
            same = rows[(rows["verdict"] == outcome) & (rows["clipped"] == side)]
            if len(same):
                points(
                    canvas, axes, same["shown"].to_list(), same["y"].to_list(), same["i"].to_list(), key=outcome.tone,
                    marker={-1: "<", 0: marker, 1: ">"}[side], size=size if side == 0 else 60, hollow=hollow,
                )  # fmt: skip
    axes.set(xlabel="time now ÷ baseline, log", ylabel="")
    canvas.text(left, top / 2 - 2, "◀ faster", color=sentinel("fast"), fontweight="bold")
    canvas.text(canvas.width - 20, top / 2 - 2, "slower ▶", color=sentinel("slow"), fontweight="bold", ha="right")
    faster, slower = (int((rows["verdict"] == outcome).sum()) for outcome in (Outcome.FASTER, Outcome.SLOWER))
    told = f"{faster} faster, {slower} slower, median {units.ratio(rows['ratio'].median(), 4)}"
    canvas.text((left + canvas.width - 20) / 2, top / 2 - 2, told, color=sentinel("mut"), ha="center")
    return canvas
