"""What a setting is worth, as a person reads it in a terminal: the frame of `analysis.along` as a table and in sentences."""

import pandas as pd
from rich.table import Table
from rich.text import Text

from harness import units
from harness.axes import OPTIONS
from harness.outcome import ENOUGH_PAIRS, TUNING_DIFFERS, tally
from harness.rows import rows


def title(compared: pd.DataFrame, axis: str, base: str) -> str:
    """What the rows of `table` are: which values of the axis over which, and in what all of them are alike."""
    values = compared[axis].astype(str).unique()
    one = {name: str(compared[name].iloc[0]) for name in _SETTING if name != axis and compared[name].nunique() == 1}
    alike = [value for name, value in one.items() if name not in OPTIONS]
    alike += [f"{name} {one[name]}" for name, option in OPTIONS.items() if one.get(name, option.default) != option.default]
    threads = compared["threads"].unique()
    alike += [units.threads(threads[0])] if axis != "threads" and len(threads) == 1 else []
    return f"{axis}: {values[0] if len(values) == 1 else 'others'} over {base}; {', '.join(alike)}"


_SETTING = ("backend", "mode", "device", "precision", "layout", "cache", *OPTIONS)


def table(compared: pd.DataFrame, axis: str) -> Table:
    """The frame of `analysis.along`: a line per cell, its time over its partner's, whether that is decided, and the pairs."""
    fixed = [name for name in ("workload", "direction") if name != axis]
    varying = [name for name in (*_SETTING, "threads") if name != axis and compared[name].nunique() > 1]
    own = [axis] if compared[axis].nunique() > 1 else []
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))  # a line between columns would not leave 80 of them
    for name in (*fixed, *varying, *own):
        made.add_column(_SHORT.get(name, name), overflow="fold")
    for head in ("time over it", "difference", "pairs"):
        made.add_column(head, no_wrap=True)
    for row in rows(compared):
        named = [f"{row.direction} {row.optimizer}".strip() if name == "direction" else str(getattr(row, name))
                 for name in (*fixed, *varying, *own)]  # fmt: skip
        made.add_row(
            *map(Text, named), units.ratio_interval(row.factor, row.factor_low, row.factor_high),
            Text(row.difference, _DIFFERENCES.get(row.difference, "")),
            units.many(row.process_pairs, row.paired.removesuffix("s")) if row.paired else units.MISSING,
        )  # fmt: skip
    return made


_SHORT = {"direction": "pass"}
_DIFFERENCES = {"slower": "bold red", "faster": "bold green", "undecided": "yellow"}
_PAIRED = {
    "visits": "visits: ratios of visits in the same turn, by pairs of processes",
    "trials": "trials: ratios of the figures of a trial, since the two were not visited in the same turn",
}


def lines(compared: pd.DataFrame, axis: str, base: str) -> list[str]:
    """What the lines of `table` come to, and how they were made, in sentences."""
    if compared.empty:
        return [
            f"Nothing to compare: no cell with a figure has a partner with {axis} {base or 'of any value'} and alike otherwise"
        ]
    told = [f"of {units.many(len(compared), 'cell')} beside {base}: {tally(compared['difference'])}"]
    told += [how for paired, how in _PAIRED.items() if (compared["paired"] == paired).any()]
    if compared.attrs.get("tuning_differs"):
        told.append(TUNING_DIFFERS)
    if not compared.attrs.get("ended", True):
        told.append("the run has not ended: nothing of it is decided")
    elif (compared["process_pairs"] < ENOUGH_PAIRS).any():
        told.append(f"nothing is decided under {ENOUGH_PAIRS} pairs of processes")
    return told
