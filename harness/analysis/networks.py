"""Networks: the figures of their layers rolled up to the time of all convolutions of one in a pass. Frame in, frame out.

A suite that has all convolutions of a network says so; each distinct one stands there once, with the `count` of the layers that
have its shape. What a network does between its convolutions is not in it.
"""

import pandas as pd

from harness.axes import Direction
from harness.columns import of_convolutions
from harness.record import Status

# What tells one roll-up of a network from another, besides the direction.
SETTING = ("run_id", "network", "backend", "mode", "optimizer", "device", "precision", "layout", "cache", "threads")
PASSES = (str(Direction.FPROP), str(Direction.DGRAD), str(Direction.WGRAD))


def networks(summary: pd.DataFrame) -> pd.DataFrame:
    """One row per network, setting and direction: `shapes` and `layers` in the run, `time_ns` and `flop` of all layers once.

    `missing` counts the shapes without a figure; where there are any, `time_ns` is missing too, since the sum of the others
    is no time of the network. Layouts of one to three dimensions count as one. `scaled` is what was changed in all of the
    shapes alike, or "differs by shape". What `-k` left out is not in the run and not in the sum:
    `layers` says how many are.
    """
    cells = summary[(summary["network"] != "") & of_convolutions(summary)]
    cells = cells.assign(layout=["first" if text[1:2] == "C" else "last" for text in cells["layout"]])
    rows = []
    for key, group in cells.groupby([*SETTING, "direction"], sort=False, dropna=False):
        count, missing = group["count"], int((group["status"] != str(Status.OK)).sum())
        changes = sorted(set(group["scaled"]))
        rows.append({
            **dict(zip([*SETTING, "direction"], key, strict=True)),
            "scaled": changes[0] if len(changes) == 1 else "differs by shape",
            "shapes": len(group), "layers": int(count.sum()), "missing": missing,
            "time_ns": float("nan") if missing else float((count * group["median_ns"]).sum()),
            "flop": float((count * group["flop_nominal"]).sum()),
        })  # fmt: skip
    columns = [*SETTING, "direction", "scaled", "shapes", "layers", "missing", "time_ns", "flop"]
    return pd.DataFrame(rows, columns=columns)


def by_pass(rolled: pd.DataFrame) -> pd.DataFrame:
    """One row per network and setting, a column of times in ns per direction, and `passes`, the sum of the three passes alone.

    `passes` is missing where the run lacks one of the three.
    """
    index = [*SETTING, "scaled", "shapes", "layers"]
    wide = rolled.set_index([*index, "direction"])["time_ns"].unstack("direction", sort=False).reset_index()
    wide.columns.name = None
    for direction in PASSES:
        if direction not in wide:
            wide[direction] = float("nan")
    return wide.assign(passes=wide[list(PASSES)].sum(axis=1, min_count=len(PASSES)))
