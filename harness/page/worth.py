"""What a setting is worth: a table per axis with the time of each cell over that of the cell that differs in it alone."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from harness import units
from harness.axes import Direction
from harness.outcome import TUNING_DIFFERS, Outcome, tally
from harness.page.svg import clean
from harness.page.tables import Named, named
from harness.page.view import AXES, View, direction_words, short
from harness.rows import rows_of

MOST_ROWS = 24  # of one axis: those with the largest factors
_PASSES = [str(direction) for direction in Direction]
_ICONS = {"slower": Outcome.SLOWER.icon, "faster": Outcome.FASTER.icon, "equivalent": Outcome.NO_CHANGE.icon}


@dataclass(frozen=True)
class Beside:
    """A row of the frame along an axis, with the columns that are read here."""

    workload: str
    shape: str
    direction: str
    optimizer: str
    backend: str
    mode: str
    factor: float
    factor_low: float
    factor_high: float
    process_pairs: int
    paired: str
    difference: str
    row: str
    value: str


@dataclass(frozen=True)
class Ratio:
    """A time over that at the base: the factor with its mark, the ends of its interval, its colour, and how it was paired."""

    text: str
    interval: str
    tone: str
    title: str


@dataclass(frozen=True)
class Worth:
    """What the values of one axis are worth beside its base.

    `heads` are the backends in a mode, each with the value of the axis where there are several; `rows` are (workload, shape,
    direction in words, a ratio or None for each head). `total` counts the rows there are.
    """

    axis: str
    base: str
    sentence: str
    heads: list[tuple[Named, str]]
    rows: list[tuple[str, str, str, list[Ratio | None]]]
    total: int


def worth(view: View, compared: Mapping[str, pd.DataFrame]) -> list[Worth]:
    """The tables of these axes, by the frames of `analysis.along`; an axis without a pair of a backend on the page has none."""
    kept = {axis: frame[frame["backend"].isin(list(view.looks)) & frame["factor"].notna()] for axis, frame in compared.items()}
    return [_worth(view, axis, frame, compared[axis].attrs) for axis, frame in kept.items() if len(frame)]


def _worth(view: View, axis: str, frame: pd.DataFrame, told: Mapping[Any, Any]) -> Worth:
    base, values = str(told["base"]), list(dict.fromkeys(frame[axis].astype(str)))
    varying = [name for name in ("device", *AXES) if name != axis and frame[name].nunique() > 1]
    places = frame[varying].astype(str).agg(" · ".join, axis=1) if varying else ""
    found = rows_of(frame.assign(row=places, value=frame[axis].map(str) if axis != "mode" and len(values) > 1 else ""), Beside)
    heads = sorted(
        {(one.backend, one.mode, one.value) for one in found}, key=lambda head: (list(view.looks).index(head[0]), head)
    )
    by_row: dict[tuple[str, str, str], dict[tuple[str, str, str], Beside]] = {}
    place = {name: at for at, name in enumerate(view.cells["workload"].unique())}
    for one in sorted(found, key=lambda one: (place[one.workload], _PASSES.index(one.direction), one.optimizer, one.row)):
        name = " · ".join(filter(None, (short(one.workload), clean(one.row))))
        words = direction_words(one.direction) + (f" ({short(one.optimizer)})" if one.optimizer else "")
        by_row.setdefault((name, clean(one.shape), words), {})[one.backend, one.mode, one.value] = one
    keys = list(by_row)
    if len(keys) > MOST_ROWS:
        largest = sorted(keys, key=lambda key: max(abs(math.log(one.factor)) for one in by_row[key].values()))[-MOST_ROWS:]
        keys = [key for key in keys if key in set(largest)]
    rows = [(*key, [_ratio(by_row[key].get(head)) for head in heads]) for key in keys]
    held = (
        units.many(int(base), "thread")
        if axis == "threads" and base != "0"
        else "all cores"
        if axis == "threads"
        else clean(base)
    )
    cases = f"Of {units.many(len(frame), 'case')} beside {held}: {tally(frame['difference'])}."
    cases += f" {TUNING_DIFFERS}" if told.get("tuning_differs") else ""
    shown = [(named(view, backend, mode), clean(value)) for backend, mode, value in heads]
    return Worth(axis, held, cases, shown, rows, len(by_row))


def _ratio(one: Beside | None) -> Ratio | None:
    if one is None:
        return None
    low, high = units.ratio(one.factor_low), units.ratio(one.factor_high)
    interval = "" if units.MISSING in (low, high) else f"{low.rstrip('×')} to {high.rstrip('×')}"
    title = f"{one.difference}, by {units.many(one.process_pairs, 'pair')} of processes, paired by {one.paired}"
    tone = one.difference if one.difference in ("slower", "faster") else ""
    return Ratio(f"{_ICONS.get(one.difference, '~')} {units.ratio(one.factor)}", interval, tone, title)
