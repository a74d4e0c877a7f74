"""The summary frame made ready to be shown: missing text is "", names have words, and what several sections need is found once.

No figure is made here; best, tie and vs_best come with the frame or are missing.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from harness import units
from harness.axes import COMPETING, OPTIONS, Direction, Mode
from harness.columns import COLUMNS, RANK_COLUMNS, SUMMARY_COLUMNS, of_convolutions
from harness.flags import Flag
from harness.outcome import TUNING_DIFFERS
from harness.page import palette, sweeps
from harness.page.svg import clean
from harness.record import Status
from harness.rows import rows_of

# The axes beside workload, direction, backend, mode and device, in the order in which they are named where they vary.
AXES = ("precision", "layout", "cache", "threads", *OPTIONS)
MODES = [str(mode) for mode in Mode]
NAME_LENGTH = 80  # characters of a name in text and tables
KERNEL = "kernel"  # the column that a run has which was profiled

_DIGITS = re.compile(r"([0-9]{1,18})")


@dataclass(frozen=True)
class Case:
    """A row of `View.cells`, with the columns that are read row by row."""

    i: int
    cell: str
    key: str
    row: str
    words: str
    case: str
    slug: str
    backend: str
    mode: str
    device: str
    shape: str
    status: str
    reason: str
    flags: str
    barred_by: str
    median_ns: float
    ci_low_ns: float
    ci_high_ns: float
    flop_per_s: float
    vs_best: float
    vs_best_low: float
    vs_best_high: float
    best: bool
    tie: bool
    decided: bool
    alone: bool
    max_rel_err: float
    tolerance: float

    @property
    def named(self) -> str:
        """The workload and the direction in words."""
        return f"{self.row} · {self.words}"


@dataclass(frozen=True)
class View:
    """The convolutions of one run as the sections read them; matrix products and copies are in `provenance.ceilings`.

    `cells` is the summary, one row per cell, with these columns more: `key` (what a workload is known by, with the axes
    that vary), `work` (the same without the axes in which cells compete, so that they are in one group), `name` and `row` (the
    workload to be read, without and with the axes), `varies` (those axes alone), `words`
    (the direction), `who` (backend and mode in words), `case` (all of that), `order_in_group` (backends and modes in
    their fixed order), `counted` (whether it counts in means over workloads: see `sweeps`), `alone` (whether it is ranked
    without a competitor), `factor` (`vs_best`, missing for what is alone).
    """

    cells: pd.DataFrame
    looks: Mapping[str, palette.Look]
    axes: tuple[str, ...]
    directions: tuple[str, ...]
    devices: tuple[str, ...]
    modes: tuple[str, ...]
    ranked: bool

    @cached_property
    def ok(self) -> pd.DataFrame:
        """The cells that have a figure."""
        return self.cells[(self.cells["status"] == str(Status.OK)) & (self.cells["median_ns"] > 0)]

    @cached_property
    def drawn(self) -> pd.DataFrame:
        """The cells that charts show: those that are ranked; all that have a figure where none is."""
        ranked = self.ok["vs_best"].notna()
        return self.ok[ranked] if ranked.any() else self.ok

    @property
    def apart(self) -> list[str]:
        """The axes that vary for each value of which a workload counts once in means over workloads."""
        return [axis for axis in self.axes if axis != "threads" and axis not in COMPETING]

    @property
    def tuning(self) -> str:
        """A sentence where kernels that were chosen by trying them compete with others that were not; empty where none do."""
        return TUNING_DIFFERS if self.cells["tuning_differs"].any() else ""

    @property
    def swept(self) -> str:
        """A sentence on how sweeps count in means over workloads; empty where the run has no sweep."""
        return "" if self.cells["counted"].all() else sweeps.TOLD

    @cached_property
    def undrawn(self) -> str:
        """A sentence on which backends the charts leave out; empty where they show every figure."""
        left_out = self.ok.loc[~self.ok.index.isin(self.drawn.index), "backend"].unique()
        names = ", ".join(who(self.looks, name) for name in self.looks if name in left_out)
        return f" Only in the tables, because it is not ranked: {names}." if names else ""

    @cached_property
    def failed(self) -> pd.DataFrame:
        """The cells that count as failures of the run."""
        failures = [str(status) for status in Status if status.failed]
        return self.cells[self.cells["status"].isin(failures)]

    @property
    def of_cell(self) -> dict[str, Case]:
        """The case of each cell, by the cell's id."""
        return {case.cell: case for case in reversed(rows_of(self.cells, Case))}

    def count(self, *statuses: Status) -> int:
        """How many cells have one of these statuses."""
        return int(self.cells["status"].isin([str(status) for status in statuses]).sum())


def prepare(summary: pd.DataFrame) -> View:
    """The view of a frame with SUMMARY_COLUMNS; `best`, `tie`, `vs_best` and `kernel` as `analysis` adds them, where it did."""
    ranked = "vs_best" in summary.columns
    looks = palette.looks(_text(summary["backend"]))
    summary = summary[of_convolutions(summary)]
    # The frame is in the order of measuring, which is shuffled from run to run.
    place = summary["workload"].astype(object).map(_natural)
    cells = (
        summary.iloc[sorted(range(len(summary)), key=lambda at: place.iloc[at])]
        .reset_index(drop=True)
        .reindex(columns=[*SUMMARY_COLUMNS, *RANK_COLUMNS, KERNEL])
    )
    for column in (*SUMMARY_COLUMNS, KERNEL):
        if COLUMNS[column].dtype == "string":
            cells[column] = _text(cells[column])
        elif COLUMNS[column].dtype.startswith("float"):
            cells[column] = cells[column].astype("float64")
    for factor in ("vs_best", "vs_best_low", "vs_best_high"):
        cells[factor] = cells[factor].astype("float64")
    for mark in ("best", "tie", "decided", "tuning_differs"):
        cells[mark] = cells[mark].astype(object).eq(True)
    cells["alone"] = cells["vs_best"].notna() & cells["competitors"].eq(0)
    cells["factor"] = cells["vs_best"].mask(cells["alone"])

    for axis, option in OPTIONS.items():
        cells[axis] = cells[axis].where(cells[axis] != "", str(option.default))
    axes = tuple(axis for axis in AXES if _kinds(axis, cells[axis]) > 1)
    optimizers = cells["optimizer"][cells["optimizer"] != ""].nunique() > 1
    cells["name"] = [short(text) for text in cells["workload"]]
    cells["varies"] = said(cells, axes)
    cells["key"] = [" ".join(pair) for pair in zip(cells["workload"], cells["varies"], strict=True)]
    in_common = said(cells, [axis for axis in axes if axis not in COMPETING])
    cells["work"] = [" ".join(pair) for pair in zip(cells["workload"], in_common, strict=True)]
    cells["row"] = [" · ".join(filter(None, pair)) for pair in zip(cells["name"], cells["varies"], strict=True)]
    cells["words"] = [
        direction_words(direction) + (f" ({short(optimizer)})" if optimizers and optimizer else "")
        for direction, optimizer in zip(cells["direction"], cells["optimizer"], strict=True)
    ]
    cells["counted"] = sweeps.counted(cells)
    modes = tuple(sorted(set(cells["mode"]), key=lambda mode: (_place(MODES, mode), mode)))
    several = len(modes) > 1
    cells["who"] = [
        who(looks, backend, mode if several else "") for backend, mode in zip(cells["backend"], cells["mode"], strict=True)
    ]
    device = cells["device"] if cells["device"].nunique() > 1 else pd.Series("", index=cells.index)
    parts = zip(cells["row"], cells["words"], cells["who"], device, strict=True)
    cells["case"] = [" · ".join(filter(None, part)) for part in parts]
    names, directions = list(looks), _directions(cells)
    cells["order_in_group"] = [
        names.index(backend) * 10 + modes.index(mode) for backend, mode in zip(cells["backend"], cells["mode"], strict=True)
    ]
    cells["i"] = _places(cells, directions)
    cells["slug"] = _slugs(cells)
    return View(cells, looks, axes, directions, tuple(sorted(set(cells["device"]))), modes, ranked)


def _places(cells: pd.DataFrame, directions: Sequence[str]) -> pd.Series:
    """Where each cell stands in the table of all results: by device, then workloads in their order, direction and backend."""
    first = {key: place for place, key in enumerate(cells["key"].drop_duplicates())}
    order = cells.assign(at=cells["key"].map(first), turn=cells["words"].map(list(directions).index)).sort_values(
        ["device", "at", "turn", "order_in_group"], kind="stable"
    )
    return pd.Series(range(len(cells)), index=order.index, dtype="int64").reindex(cells.index)


def told_apart_by(cells: pd.DataFrame) -> list[str]:
    """The axes beside workload, direction, backend and device that have several values; having no optimizer is no value."""
    return [axis for axis in ("mode", *AXES, "optimizer") if len(set(cells[axis]) - {""}) > 1]


def _slugs(cells: pd.DataFrame) -> list[str]:
    """What links call each cell: `workload/direction/backend/device` and every other axis that varies.

    A number at the end tells cells apart that would have the same name.
    """
    varying = told_apart_by(cells)
    found: dict[str, int] = {}
    slugs = []
    for row in cells.to_dict("records"):
        parts = (row["name"], row["direction"], row["backend"], row["device"], *(row[axis] for axis in varying))
        slug = "/".join(clean(str(part)) for part in parts if part != "")
        found[slug] = found.get(slug, 0) + 1
        slugs.append(slug if found[slug] == 1 else f"{slug}/{found[slug]}")
    return slugs


def direction_words(direction: str) -> str:
    """A direction in words, as `backward filter`; another text as it stands."""
    return Direction(direction).words if direction in set(Direction) else short(direction)


def who(looks: Mapping[str, palette.Look], backend: str, mode: str = "") -> str:
    """Backend, and mode if given, in words: `PyTorch compiled`."""
    return short(f"{looks[backend].words} {mode}".strip())


def flags_of(text: str) -> list[str]:
    """The flags of a cell, one by one."""
    return [flag for flag in text.split(",") if flag]


def flag_words(flag: str) -> str:
    """What raised a flag, in a sentence; empty for one that nobody knows."""
    return Flag(flag).words if flag in set(Flag) else ""


def _text(column: pd.Series) -> pd.Series:
    return column.astype(object).where(column.notna(), "").map(str)


def _natural(name: object) -> list[tuple[int, int, str]]:
    """A key that sorts names by the numbers in them: conv2 before conv10."""
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in _DIGITS.split(str(name)) if part]


def short(text: str) -> str:
    """A name on one line, cut to NAME_LENGTH."""
    text = clean(text)
    return text if len(text) <= NAME_LENGTH else text[: NAME_LENGTH - 1] + "…"


def _kinds(axis: str, values: pd.Series) -> int:
    """How many values an axis has. NCW, NCHW and NCDHW count as one layout."""
    if axis == "layout":
        return len({text[1:2] == "C" for text in values})
    return int(values.nunique())


def said(cells: pd.DataFrame, axes: Sequence[str]) -> list[str]:
    """The values of these axes in words, a text per cell; empty texts for no axis."""
    words = [[_axis(axis, value) for value in cells[axis]] for axis in axes]
    return [" · ".join(row) for row in zip(*words, strict=True)] if axes else [""] * len(cells)


def _axis(axis: str, value: object) -> str:
    if axis == "threads":
        return units.threads(int(str(value)))
    return short(f"{axis} {value}" if axis in OPTIONS else str(value))


def _place(known: list[str], value: str) -> int:
    return known.index(value) if value in known else len(known)


def _directions(cells: pd.DataFrame) -> tuple[str, ...]:
    """The directions that occur, in words, in the order of the enum."""
    known = [str(direction) for direction in Direction]
    pairs = set(zip(cells["direction"], cells["words"], strict=True))
    return tuple(words for _, words in sorted(pairs, key=lambda pair: (_place(known, pair[0]), *pair)))
