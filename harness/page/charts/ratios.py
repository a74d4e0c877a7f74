"""What a call costs: its peak memory over its tensors, and its energy per FLOP, with a mark for each cell."""

from collections.abc import Callable

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes

from harness import units
from harness.page.canvas import Canvas, Drawn, draw, fitted, label_width, linear_axis, log_axis, ratio_axis
from harness.page.charts.layout import FOOT, legend, points, strips, strips_height
from harness.page.palette import sentinel
from harness.page.view import View

LARGEST = 10
_MIB, _GIB = 2.0**20, 2.0**30
_MJ_PER_GFLOP = 1e12  # J per FLOP to mJ per GFLOP


def with_memory(view: View) -> pd.DataFrame:
    """The cells whose memory is known, with `memory_factor`: peak of the call over its tensors, which are bytes_min."""
    rows = view.drawn[view.drawn["workspace_bytes"].notna() & (view.drawn["bytes_min"] > 0)]
    return rows.assign(memory_factor=1 + rows["workspace_bytes"] / rows["bytes_min"])


def memory(view: View, device: str, name: str) -> Drawn:
    """Peak memory over the tensors, a row per direction and backend."""
    rows = with_memory(view)
    rows = rows[rows["device"] == device]
    high = rows["memory_factor"].max()

    def scale(axes: Axes) -> None:
        ratio_axis(axes, 0.9, max(high * 1.15, 1.5), 10, lambda value: f"{value:.4g}×")
        axes.axvline(1, color=sentinel("soft"), lw=1)

    note = "1×: no memory beside the tensors themselves. Black bar: median." + view.undrawn
    caption = f"Peak memory of a call ÷ its tensors, {device}"
    desc = "A row per direction and backend, a mark per cell at its peak memory over that of its tensors, a bar at the median."
    label = "peak ÷ tensors, log"
    return draw(name, caption, desc, lambda: _strips(view, rows, "memory_factor", scale, label), note=note, legend=legend(rows))


def largest(view: View, device: str, name: str) -> Drawn:
    """The largest peaks as stacked bars: tensors, and the workspace on top."""
    rows = with_memory(view)
    rows = rows[rows["device"] == device]
    rows = (
        rows.assign(peak=rows["bytes_min"] + rows["workspace_bytes"])
        .sort_values("peak", ascending=False, kind="stable")
        .iloc[:LARGEST]
    )
    caption = f"The {len(rows)} largest peaks, {device}" if len(rows) > 1 else f"The largest peak, {device}"
    note = "Grey: the tensors. Coloured: workspace. What the process or framework held besides is not in it."
    desc = "A stacked bar per cell: the bytes of its tensors and of its workspace."
    return draw(name, caption, desc, lambda: _largest(view, rows), note=note)


def _largest(view: View, rows: pd.DataFrame) -> Canvas:
    pitch, left, right, top = 22.0, label_width(rows["case"], 400), 110.0, 6.0
    canvas = Canvas(top + pitch * len(rows) + FOOT)
    axes = canvas.axes(left, top, canvas.width - left - right, pitch * len(rows))
    unit, factor = ("GiB", _GIB) if rows["peak"].max() >= _GIB else ("MiB", _MIB)
    places = list(range(len(rows)))
    tensors, peak = (rows[name] / factor for name in ("bytes_min", "peak"))
    sns.barplot(x=peak.to_list(), y=places, orient="h", ax=axes, color=sentinel("soft"), saturation=1, width=0.66)
    for patch, backend in zip(axes.patches, rows["backend"], strict=True):
        patch.set_facecolor(view.looks[backend].sentinel())
    axes.barh(places, tensors.to_list(), height=0.7, color=sentinel("line"), lw=0)
    # A mark at the end of each bar opens its case.
    points(canvas, axes, peak.to_list(), places, rows["i"].to_list(), key="ink")
    linear_axis(axes, 0, float(peak.max()) * 1.04 or 1.0, 8, lambda value: f"{value:.4g}")
    axes.set(xlabel=unit, ylabel="")
    axes.set_yticks([])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    for place, (case, size) in enumerate(zip(rows["case"], rows["peak"], strict=True)):
        y = top + pitch * (place + 0.5)
        canvas.text(left - 10, y, fitted(case, left), ha="right")
        canvas.text(canvas.width - right + 14, y, units.size(size), color=sentinel("mut"))
    return canvas


def with_energy(view: View) -> pd.DataFrame:
    """The cells whose energy was read, with `mj_per_gflop`."""
    rows = view.drawn[(view.drawn["energy_per_call_j"] > 0) & (view.drawn["flop_nominal"] > 0)]
    return rows.assign(mj_per_gflop=rows["energy_per_call_j"] / rows["flop_nominal"] * _MJ_PER_GFLOP)


def energy(view: View, device: str, name: str) -> Drawn:
    """Energy per GFLOP, a row per direction and backend."""
    rows = with_energy(view)
    rows = rows[rows["device"] == device]
    low, high = rows["mj_per_gflop"].min(), rows["mj_per_gflop"].max()
    methods = ", ".join(dict.fromkeys(text for text in rows["energy_method"] if text))

    def scale(axes: Axes) -> None:
        log_axis(axes, low / 1.4, high * 1.4, 10, lambda value: f"{value:.4g}")

    note = (
        f"Further left is less. Black bar: median. Counter: {methods}. It counts a whole package or board, idle parts included."
        + view.undrawn
    )
    caption = f"Energy per unit of work, {device}"
    desc = "A row per direction and backend, a mark per cell at its energy per GFLOP, a bar at the median."
    label = "mJ per GFLOP (= pJ per FLOP), log"
    return draw(name, caption, desc, lambda: _strips(view, rows, "mj_per_gflop", scale, label), note=note, legend=legend(rows))


def _strips(view: View, rows: pd.DataFrame, column: str, scale: Callable[[Axes], None], label: str) -> Canvas:
    left, top = label_width(rows["words"], 200), 4.0
    canvas = Canvas(top + strips_height(view, rows) + FOOT)

    def axes_of(at: float, height: float) -> Axes:
        axes = canvas.axes(left, at, canvas.width - left - 20, height)
        scale(axes)
        return axes

    axes = strips(canvas, axes_of, view, rows, column, (left, top))
    axes.set(xlabel=label, ylabel="")
    return canvas


def not_known(view: View, column: str, method: str) -> list[tuple[str, str, int]]:
    """Devices with cells that lack a figure: device, the reason that most of them give, how many."""
    found = []
    for device, rows in view.ok[view.ok[column].isna()].groupby("device", sort=True):
        reasons = rows[method][rows[method] != ""].value_counts()
        text = str(reasons.index[0]) if len(reasons) else "no reason given"
        found.append((str(device), _reason(text), len(rows)))
    return found


def _reason(text: str) -> str:
    text = text.removeprefix("not measured").strip(" :")
    return text[1:-1] if text.startswith("(") and text.endswith(")") else text
