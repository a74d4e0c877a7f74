"""What a setting is worth: a table per axis with the time of each cell over that of the cell that differs in it alone."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from harness import units
from harness.axes import OPTIONS, Direction
from harness.outcome import ENOUGH_PAIRS, EQUIVALENT, TUNING_DIFFERS, Outcome, tally
from harness.page.svg import clean
from harness.page.tables import Named, named
from harness.page.view import AXES, View, direction_words, said, short
from harness.rows import rows_of

MOST_ROWS = 24  # of one axis: those with the largest factors
_PASSES = [str(direction) for direction in Direction]
_ICONS = {"slower": Outcome.SLOWER.icon, "faster": Outcome.FASTER.icon, "equivalent": Outcome.NO_CHANGE.icon, "undecided": "~"}
_WORDS = {
    "slower": "slower", "faster": "faster", "equivalent": f"equivalent (within {100 * (EQUIVALENT - 1):.0f} %)",
    "undecided": f"not decided, as under {ENOUGH_PAIRS} pairs or a flag that bars a verdict",
}  # fmt: skip
_VISITS, _TRIALS = "the ratios of visits in the same turn, by pairs of processes", "the ratios of the figures of a trial"
# By what the column `paired` has.
_PAIRED = {
    frozenset({"visits"}): _VISITS,
    frozenset({"trials"}): f"{_TRIALS}, as the two were not visited in the same turn",
    frozenset({"visits", "trials"}): f"{_VISITS}, or, where two were never visited in the same turn, {_TRIALS}",
}


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
    """What the values of one axis are worth beside its base; `title` says which values over which.

    `heads` are the backends in a mode, each with the value of the axis where there are several; `rows` are (workload, shape,
    direction in words, a ratio or None for each head). `total` counts the rows there are, `paired` says how cells were paired.
    """

    axis: str
    title: str
    base: str
    sentence: str
    heads: list[tuple[Named, str]]
    rows: list[tuple[str, str, str, list[Ratio | None]]]
    total: int
    paired: frozenset[str]


def worth(view: View, compared: Mapping[str, pd.DataFrame]) -> list[Worth]:
    """The tables of these axes, by the frames of `analysis.along`; an axis without a pair of a backend on the page has none."""
    kept = {axis: frame[frame["backend"].isin(list(view.looks)) & frame["factor"].notna()] for axis, frame in compared.items()}
    return [_worth(view, axis, frame, compared[axis].attrs) for axis, frame in kept.items() if len(frame)]


def note(found: Sequence[Worth]) -> str:
    """How the factors of these tables were made, and what the marks mean that stand there."""
    ratios = [ratio for one in found for *_, of_row in one.rows for ratio in of_row if ratio]
    interval = ", with its 95 % interval" if any(ratio.interval for ratio in ratios) else ""
    how = _PAIRED[frozenset().union(*(one.paired for one in found))]
    marks = [f"{icon} {_WORDS[name]}" for name, icon in _ICONS.items() if any(ratio.text.startswith(icon) for ratio in ratios)]
    return f"Time of a case over that of the case that differs in this setting alone{interval}: {how}. {', '.join(marks)}."


def _worth(view: View, axis: str, frame: pd.DataFrame, told: Mapping[Any, Any]) -> Worth:
    base, values = _value(axis, told["base"]), list(dict.fromkeys(frame[axis].astype(str)))
    several = axis != "mode" and len(values) > 1  # the mode stands beside the backend
    varying = [name for name in ("device", *AXES) if name != axis and frame[name].nunique() > 1]
    found = rows_of(frame.assign(row=said(frame, varying), value=frame[axis].map(str) if several else ""), Beside)
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
    held = f"{axis} {base}" if axis in OPTIONS else base
    cases = f"Of {units.many(len(frame), 'case')} beside {held}: {tally(frame['difference'])}."
    cases += f" {TUNING_DIFFERS}" if told.get("tuning_differs") else ""
    return Worth(
        axis=axis,
        title=f"{axis.capitalize()}: {_value(axis, values[0]) if len(values) == 1 else 'others'} over {base}",
        base=held,
        sentence=cases,
        heads=[(named(view, backend, mode), _value(axis, value) if several else "") for backend, mode, value in heads],
        rows=[(*key, [_ratio(by_row[key].get(head)) for head in heads]) for key in keys],
        total=len(by_row),
        paired=frozenset(one.paired for one in found),
    )


def _value(axis: str, value: object) -> str:
    return units.threads(int(str(value))) if axis == "threads" else clean(str(value))


def _ratio(one: Beside | None) -> Ratio | None:
    if one is None:
        return None
    interval = units.bounds(one.factor_low, one.factor_high)
    title = f"{one.difference}, by {units.many(one.process_pairs, 'pair')} of processes, paired by {one.paired}"
    tone = one.difference if one.difference in ("slower", "faster") else ""
    return Ratio(f"{_ICONS[one.difference]} {units.ratio(one.factor)}", interval, tone, title)
