"""The best setting of each workload, direction and backend, and what it gains over the default. Frame in, frame out."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from harness.analysis.fastest import Level
from harness.analysis.networks import Sum, sums
from harness.analysis.ranking import rank, same_but
from harness.analysis.rows import Row, dicts_of, framed
from harness.analysis.times import Figures
from harness.axes import OPTIONS
from harness.columns import TUNED_COLUMNS, of_convolutions
from harness.plan import setting
from harness.record import Status

AMONG_BACKENDS = ["best", "tie", "vs_best", "vs_best_low", "vs_best_high"]


def tuned(
    summary: pd.DataFrame, visited: pd.DataFrame, over: Mapping[str, str], level: Level | None = None, ended: bool = True
) -> pd.DataFrame:
    """One row with TUNED_COLUMNS per workload, direction, backend and what else is not tuned, in the order of the summary.

    `over` are the axes that were tuned, each with its value in the default setting; `visited` is the frame of `visits.visits`.
    Only settings that are ok in every trial are candidates. The one with the least time is chosen and the others are held
    against it as by `ranking.rank`, whose intervals hold for all settings of a row at once. The columns AMONG_BACKENDS say the
    same of what is chosen beside what is chosen for the other backends, and `attrs["tuning_differs"]` whether the kernels of
    some of these alone were chosen by trying them. Of a run that has not `ended` nothing is decided.
    """
    same = same_but(tuple(over))
    ranked = rank(summary[of_convolutions(summary)], visited, frozenset(), level, same)
    settings = [setting({axis: row[axis] for axis in over}) for row in dicts_of(ranked)]
    ranked = ranked.assign(setting=settings, default=_at_default(ranked, over))
    rows = [_row(group, ended) for _, group in ranked.groupby(same, sort=False, dropna=False)]
    chosen = summary[summary["cell"].isin([row["cell"] for row in rows])]
    beside = rank(chosen, visited, level=level, same=[name for name in same if name != "backend"]).set_index("cell")
    for row in rows:
        if row["cell"] in beside.index:
            row.update({name: beside.at[row["cell"], name] for name in AMONG_BACKENDS})
            row.update(best=row["best"] and ended, tie=row["tie"] and ended)
    found = framed(rows, TUNED_COLUMNS)
    found.attrs["tuning_differs"] = bool(beside["tuning_differs"].any())
    return found


def _at_default(cells: pd.DataFrame, over: Mapping[str, str]) -> np.ndarray:
    """Which cells have the default setting; NCHW stands for the forms of other dimensions, too."""
    found = np.ones(len(cells), dtype=bool)
    for axis, value in over.items():
        texts = cells[axis].astype(str)
        found &= (texts.str[1:2].eq("C") == (value[1:2] == "C") if axis == "layout" else texts == value).to_numpy(dtype=bool)
    return found


def _row(group: pd.DataFrame, ended: bool) -> Row:
    """The row of the settings of one workload, direction and backend."""
    every = dicts_of(group)
    default = next((row for row in every if row["default"]), None)
    candidates = [row for row in every if row["vs_best"] == row["vs_best"]]
    # The fastest is compared with none; several of equal medians may be, where no two of them were visited in one turn.
    least = next((row for row in candidates if row["vs_best"] == 1 and row["vs_best_pairs"] == 0), None)
    found = {
        **(least or default or every[0]), "best": False, "tie": False, "vs_best": np.nan, "vs_best_low": np.nan,
        "vs_best_high": np.nan, "default_cell": default["cell"] if default else "",
        "default_ns": default["median_ns"] if default else np.nan, "gain": np.nan, "gain_low": np.nan, "gain_high": np.nan,
        "gain_pairs": 0, "choice": "none", "equal_to": "", "open": "", "dropped": "",
        "failed": "; ".join(f"{row['setting']}: {row['status']}" for row in every if row["status"] != str(Status.OK)),
    }  # fmt: skip
    if least is None:
        return found | {"cell": "", "setting": "", "median_ns": np.nan}
    if default in candidates:
        found |= {name.replace("vs_best", "gain"): default[name] for name in default if name.startswith("vs_best")}
    others = [row for row in candidates if row is not least]
    undecided = [row for row in others if not (row["decided"] and ended)]
    equal = [row for row in others if row["tie"] and ended]
    most = max(row["trials"] for row in candidates)
    dropped = [row for row in others if row["trials"] < most]
    choice = "alone" if not others else "undecided" if undecided else "equal" if equal else "best"
    return found | {
        "choice": choice, "equal_to": _settings(equal), "open": _settings(undecided),
        "dropped": "; ".join(f"{row['setting']}: {row['trials']} trials" for row in dropped),
    }  # fmt: skip


def _settings(rows: list[Row]) -> str:
    return "; ".join(row["setting"] for row in rows)


# Networks -----------------------------------------------------------------------------------------------------------------

NETWORK_COLUMNS = [
    "network", "scaled", "backend", "direction", "setting", "layers", "shapes", "default_ns", "default_low_ns",
    "default_high_ns", "best_ns", "best_low_ns", "best_high_ns", "gain", "gain_low", "gain_high", "trials",
]  # fmt: skip


def networks(found: pd.DataFrame, figures: Mapping[str, Figures], over: Mapping[str, str]) -> pd.DataFrame:
    """One row with NETWORK_COLUMNS per network, backend, direction and what else is not tuned, by the frame of `tuned`.

    `default_ns` and `best_ns` are the time of the convolutions of all layers, each in the default setting or in its own best
    one, and `gain` is the ratio of the two: geometric means over the `trials` in which all of them were measured, with 95 %
    t-intervals over these: see `networks.Sum`. `setting` says what else tells rows apart, such as the precision. Missing where
    a layer has no figure. The direction `passes` is the sum of the three passes alone, where the run has all of them. `figures`
    are those of `times.figures`, by run id.
    """
    others = ("optimizer", "device", "precision", "layout", "mode", "cache", "threads", *OPTIONS)
    apart = [name for name in others if name not in over]
    rows = []
    for told, members in sums(found, ["backend", *apart]):
        of_run, count = figures.get(told["run_id"]), members["count"].to_numpy(dtype=float)
        default, best = (Sum.of(of_run, members[name], count) for name in ("default_cell", "cell"))
        gain = default.over(best)
        for name, unit, each in (("default", "_ns", default), ("best", "_ns", best), ("gain", "", gain)):
            names = f"{name}{unit}", f"{name}_low{unit}", f"{name}_high{unit}"
            told |= dict(zip(names, each.within(gain).interval(), strict=True))
        rows.append(told | {"trials": gain.trials})
    frame = pd.DataFrame(rows, columns=[*apart, *(name for name in NETWORK_COLUMNS if name != "setting")])
    varying = [name for name in apart if frame[name].nunique() > 1]
    settings = [setting({name: row[name] for name in varying if row[name] != ""}) for row in dicts_of(frame)]
    return frame.assign(setting=settings)[NETWORK_COLUMNS]
