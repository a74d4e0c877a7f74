"""Compare within a run along one axis: each cell beside the one that is alike in every other axis."""

from collections import Counter
from collections.abc import Iterable, Iterator

import numpy as np
import pandas as pd

from harness.analysis.inference import moderated
from harness.analysis.pairs import log_ratios, pools
from harness.analysis.ranking import UNRANKED, autotuned
from harness.analysis.rows import typed
from harness.analysis.visits import Turns, turns
from harness.axes import OPTIONS, Layout
from harness.columns import ALONG_COLUMNS, of_convolutions
from harness.outcome import ENOUGH_PAIRS, EQUIVALENT
from harness.record import AA, Status

AXES = ("workload", "direction", "precision", "layout", "cache", "backend", "mode", "device", "threads", *OPTIONS)
SETTINGS = ("mode", "precision", "layout", "cache", "threads", *OPTIONS)  # of which a page shows what each value is worth
BESIDE = ("backend", "direction", "device")  # along which cells may be compared beside that, the first one first
# What an axis is held against where nobody says; of threads it is the fewest.
USUAL = {
    "mode": "eager", "precision": "fp32", "layout": "NCHW", "direction": "fprop", "cache": "hot", "device": "cpu",
    **{axis: str(option.default) for axis, option in OPTIONS.items()},
}  # fmt: skip
_LAYOUTS = {layout.text(ndim) for layout in Layout for ndim in (1, 2, 3)}


def along(
    summary: pd.DataFrame, visited: pd.DataFrame, axis: str, base: str | None = None, ended: bool = True
) -> pd.DataFrame:  # fmt: skip
    """One row with ALONG_COLUMNS per cell that has a figure and a partner: the cell that is alike but has `base` on that axis.

    Two cells are compared by their pairs of processes, as `pairs` says, and their variance is shared with the other
    comparisons of the same two backends; `visited` is the frame of `visits.visits`. Where they were never visited in the same
    turn, a pair is the ratio of their figures in a trial. Each interval holds for itself: of 20 comparisons of equals one is
    expected to be called slower or faster. `base` is a value of the column, as text; NCHW and NHWC stand for their forms of
    other dimensions, too; None: that of `usual_base`. Of a run that has not `ended` nothing is decided. The frame's `attrs` are
    `base`, the base that was taken, `ended`, and `tuning_differs`, whether kernels of some but one of the two cells of a row
    were chosen by trying them. Raises ValueError for another axis than AXES, and for a base that no cell with a figure has.
    """
    if axis not in AXES:
        raise ValueError(f"{axis!r:.60} is no axis to compare along; choose from {', '.join(AXES)}")
    cells = summary[(summary["status"] == str(Status.OK)) & summary["median_ns"].notna()].reset_index(drop=True)
    cells = cells.assign(**{name: cells[name].replace("", str(option.default)) for name, option in OPTIONS.items()})
    base = usual_base(cells, axis) if base is None else base
    key = pd.DataFrame({name: _alike(cells[name]) for name in AXES}, index=cells.index)
    at_base = key[axis] == (_alike(pd.Series([base], name=axis)).iloc[0] if axis != "layout" or base in _LAYOUTS else "")
    if not at_base.any() and len(cells):
        found = ", ".join(sorted(cells[axis].astype(str).unique()))
        raise ValueError(f"no cell with a figure has {axis} {base!r:.60}; there is: {found}")
    others = [name for name in AXES if name != axis]
    key = key[others].assign(run_id=cells["run_id"], optimizer=cells["optimizer"] if axis != "direction" else "")
    names = list(key.columns)
    partners = key[at_base].assign(right=np.flatnonzero(at_base)).drop_duplicates(names)
    pairs = key[~at_base].assign(left=np.flatnonzero(~at_base)).merge(partners, on=names)[["left", "right"]].sort_values("left")
    left, right = pairs["left"].to_numpy(), pairs["right"].to_numpy()
    compared = _compared(cells, left, right, turns(visited))
    if not ended:
        compared["difference"] = np.full(len(left), "undecided")
    frame = typed(cells.iloc[left].reset_index(drop=True).assign(**compared)[list(ALONG_COLUMNS)])
    differs = axis != "autotune" and _tuning_differs(cells, left, right)
    frame.attrs |= {"base": base, "ended": ended, "tuning_differs": differs}
    return frame


def varied(
    summary: pd.DataFrame, visited: pd.DataFrame, axes: Iterable[str], ended: bool = True
) -> Iterator[tuple[str, pd.DataFrame]]:  # fmt: skip
    """Each of these axes in which convolutions differ that can be compared, with their rows of `along` by its usual base."""
    figures = summary[summary["median_ns"].notna() & of_convolutions(summary)]
    for axis in axes:
        if figures[axis].nunique() > 1:
            found = along(summary, visited, axis, ended=ended)
            kept = found[of_convolutions(found) & found["factor"].notna()]
            if len(kept):
                kept.attrs |= found.attrs
                yield axis, kept


def _tuning_differs(cells: pd.DataFrame, left: np.ndarray, right: np.ndarray) -> bool:
    """Whether any row compares kernels that were chosen by trying them with others that were not."""
    told = autotuned(cells).to_numpy(dtype=object, na_value="")
    return bool(((told[left] != told[right]) & (told[left] != "") & (told[right] != "")).any())


def usual_base(cells: pd.DataFrame, axis: str) -> str:
    """What the cells with a figure are held against along an axis where nobody says: that of USUAL, or the fewest threads.

    Of workloads and backends, and where no cell has the usual value, it is the one with most cells, the first by name of
    several; a reference and a control only where there is nothing else. Empty: there is no cell.
    """
    values = cells[axis].astype(str)
    if axis == "threads":  # 0 stands for all cores
        return min(values, key=lambda value: (value == "0", int(value)), default="")
    usual = values[_alike(values) == _alike(pd.Series([USUAL.get(axis, "")], name=axis)).iloc[0]]
    if axis in USUAL and len(usual):
        return USUAL[axis] if axis == "layout" else str(usual.iloc[0])
    counts = Counter(values)

    def rank(value: str) -> tuple[bool, int, str]:
        aside = axis == "backend" and (value in UNRANKED or value.endswith(f"@{AA}"))
        return aside, -counts[value], value

    return min(counts, key=rank, default="")


def _alike(column: pd.Series) -> pd.Series:
    """The values of an axis as text; of a layout only whether the channels come first, whatever the dimensions."""
    text = column.astype(str)
    return text.str.slice(1, 2).eq("C").map({True: "first", False: "last"}) if column.name == "layout" else text


def _compared(cells: pd.DataFrame, left: np.ndarray, right: np.ndarray, by_run: dict[str, Turns]) -> dict[str, np.ndarray]:
    """The columns of ALONG_COLUMNS that are new, for the comparisons of these rows."""
    mean, half = np.full(len(left), np.nan), np.full(len(left), np.nan)
    count, paired = np.zeros(len(left), dtype=np.int64), np.full(len(left), "", dtype=object)
    backends, run = cells["backend"].to_numpy(dtype=str), cells["run_id"].to_numpy(dtype=str)[left]
    for run_id, table in by_run.items():
        here = np.flatnonzero(run == run_id)
        places = table.places(cells["cell"])
        one, other = places[left[here]], places[right[here]]
        ratios = log_ratios(table, one, other)
        figures = np.vstack([table.by_trial(table.of_one_process()), np.full((1, len(table.trials)), np.nan)])  # -1 has none
        met = ~np.isnan(ratios).all(axis=1)
        ratios = np.where(met[:, None], ratios, figures[one] - figures[other])
        by_visits = met & table.turned
        found = moderated(ratios, 2 * pools(backends[left[here]], backends[right[here]]) + by_visits)
        mean[here], half[here], count[here] = found.mean, found.half(), found.count
        paired[here] = np.where(by_visits, "visits", np.where(found.count > 0, "trials", ""))
    barred = (cells["barred_by"] != "").to_numpy(dtype=bool)
    known = (count >= ENOUGH_PAIRS) & ~barred[left] & ~barred[right]
    low, high, limit = mean - half, mean + half, np.log(EQUIVALENT)
    kinds = {"equivalent": (low >= -limit) & (high <= limit), "slower": low > 0, "faster": high < 0}
    difference = np.select([known & kind for kind in kinds.values()], list(kinds), "undecided")
    factors = {"factor": np.exp(mean), "factor_low": np.exp(low), "factor_high": np.exp(high)}
    beside = {"base_cell": cells["cell"].to_numpy()[right], "process_pairs": count, "paired": paired}
    return {**beside, **factors, "difference": difference}
