"""The tables of the page as text and CSS classes: factors to the lowest time, networks, failures, steps, flags, memory."""

import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd
from markupsafe import Markup

from harness import units
from harness.axes import Direction
from harness.flags import Flag
from harness.outcome import ENOUGH_PAIRS, EQUIVALENT
from harness.page import spark
from harness.page.palette import HEAT_STEPS, fill_of
from harness.page.svg import clean
from harness.page.view import AXES, Case, View, direction_words, flag_words, flags_of, who
from harness.record import Status
from harness.rows import rows_of

MOST_HEAT_ROWS = 60
MESSAGE_LENGTH = 300
MOST_STEPS = 20
SHORT = {
    Status.INCORRECT: "WRONG", Status.CRASHED: "CRASH", Status.ERROR: "ERR", Status.OOM: "OOM", Status.TIMEOUT: "T/O",
    Status.NOT_RUN: "n/r", Status.UNSUPPORTED: "n/s", Status.SKIPPED: units.MISSING,
}  # fmt: skip
_SERIOUS = (Status.INCORRECT, Status.CRASHED, Status.ERROR, Status.OOM, Status.TIMEOUT, Status.NOT_RUN, Status.UNSUPPORTED)
_NOT_ASKED, _NOT_KEPT = "not asked for", "n/k"
MEDIAN = "median"  # the estimator whose change is that of the times shown
_NUMBERS = re.compile(r"0x[0-9a-fA-F]+|\d+(?:[.,]\d+)*(?:[eE][+-]?\d+)?")


@dataclass(frozen=True)
class Cell:
    """A cell of the heat table: its text, its CSS class, its tooltip, the case that it opens (its `i`), and an interval."""

    text: str
    kind: str
    title: str = ""
    i: int | None = None
    interval: str = ""


@dataclass(frozen=True)
class Named:
    """A backend in words, with the id of its icon; no icon for a backend that this run does not have."""

    text: str
    icon: str = ""


@dataclass(frozen=True)
class Networks:
    """The time of all convolutions of a network: `heads` of the times, `rows` (network, backend, mode, layers, times)."""

    heads: list[str]
    rows: list[tuple[str, str, str, str, list[str]]]

    @property
    def gaps(self) -> bool:
        """Whether any time is missing."""
        return any(units.MISSING in times for *_, times in self.rows)


@dataclass(frozen=True)
class Heat:
    """Factors to the lowest time on one device: `heads` are (direction, backends), `rows` (workload, [(mode, cells)]).

    Where each backend has one mode only, `mode_of` names it, and a workload is one row without a mode.
    """

    device: str
    heads: list[tuple[str, list[str]]]
    rows: list[tuple[str, list[tuple[str, list[Cell]]]]]
    total: int
    legend: list[tuple[str, str]]  # backend and mode; the mode is left open where there are several
    shapes: list[str]  # of each row
    mode_of: Mapping[str, str]

    @property
    def factors(self) -> bool:
        """Whether any cell shows a factor, or is the lowest of several."""
        kinds = {cell.kind for _, lines in self.rows for _, cells in lines for cell in cells}
        return any(kind == "best" or kind.startswith("h") for kind in kinds)


def icon(view: View, backend: str, mode: str) -> str:
    """The id of the symbol that stands for a backend in a mode."""
    return f"k-{view.looks[backend].key}-{fill_of(mode)}"


def named(view: View, backend: str, mode: str) -> Named:
    """A backend as tables name it: with its mode where the run has several, and as it stands where the run does not have it."""
    if backend not in view.looks:
        return Named(clean(backend))
    return Named(who(view.looks, backend, mode if len(view.modes) > 1 else ""), icon(view, backend, mode))


def networks(view: View, rolled: pd.DataFrame | None) -> Networks:
    """The table of whole networks, for the backends on the page; `rolled` is the frame of `analysis.networks.by_pass`."""
    if rolled is None or rolled.empty:
        return Networks([], [])
    known = [name for name in (*map(str, Direction), "passes") if f"{name}_ns" in rolled]
    varying = [name for name in ("optimizer", "device", *AXES) if rolled[name].nunique() > 1]
    rows = []
    for row in rolled[rolled["backend"].isin(list(view.looks))].to_dict("records"):
        setting = filter(None, (row["network"], row["scaled"], *(str(row[name]) for name in varying)))
        times = [units.timed(*(row[f"{name}{end}"] for end in ("_ns", "_low_ns", "_high_ns"))) for name in known]
        name = " · ".join(clean(str(part)) for part in setting)
        rows.append((name, row["backend"], row["mode"], f"{row['layers']} in {units.many(row['shapes'], 'shape')}", times))
    heads = ["three passes" if name == "passes" else direction_words(name) for name in known]
    return Networks(heads, sorted(rows, key=lambda row: row[:3]))


def heat(view: View, device: str) -> Heat:
    """Time over the lowest of the same workload and direction, a row per workload and, where a backend has several, mode."""
    here = view.cells[view.cells["device"] == device]
    known = {str(name): sorted(set(modes)) for name, modes in here.groupby("backend", sort=False)["mode"]}
    mode_of = {name: modes[0] for name, modes in known.items()} if all(len(modes) == 1 for modes in known.values()) else {}
    heads = []
    for direction in view.directions:
        present = set(here.loc[here["words"] == direction, "backend"])
        if present:
            heads.append((direction, [name for name in view.looks if name in present]))
    worst = here.groupby("key", sort=False)["vs_best"].max()
    keys = list(worst.index)
    if len(keys) > MOST_HEAT_ROWS:
        keys = list(worst.sort_values(ascending=False, kind="stable").index[:MOST_HEAT_ROWS])
    at = {(case.key, case.mode, case.words, case.backend): case for case in rows_of(here, Case)}
    of_key = dict(iter(here.groupby("key", sort=False)))
    rows = []
    for key in keys:
        modes = [""] if mode_of else [mode for mode in view.modes if mode in set(of_key[key]["mode"])]
        lines = [
            (
                mode,
                [
                    _of_case(at.get((key, mode or mode_of[name], direction, name)))
                    for direction, names in heads
                    for name in names
                ],
            )
            for mode in modes
        ]
        rows.append((of_key[key]["row"].iloc[0], lines))
    legend = [(name, mode_of.get(name, "")) for name in view.looks if name in known]
    shapes = [clean(of_key[key]["shape"].iloc[0]) for key in keys]
    return Heat(device, heads, rows, len(worst), legend, shapes, mode_of)


def heat_notes(view: View, heats: Sequence[Heat], short: Sequence[tuple[str, str]], *, visited: bool, whole: bool) -> list[str]:
    """What the marks of these tables mean, in sentences: of those that stand there alone.

    `short` are the words of what stands for a status. `visited`: the trials of the run were cut into visits. `whole`: it has
    ended, before which nothing is decided.
    """
    cells = [cell for heat in heats for _, lines in heat.rows for _, of_row in lines for cell in of_row]
    texts = {cell.text for cell in cells if cell.title != _NOT_ASKED}
    factors = [cell for cell in cells if cell.kind.startswith("h")]
    where = f"Within a workload and direction{', over all backends and modes' if len(view.modes) > 1 else ''}:"
    told = [] if view.ranked else ["This run was not ranked: times instead of factors."]
    if "●" in texts:
        by = "visit by visit in the same turn" if visited else "trial by trial"
        known = any(cell.interval for cell in factors)
        how = f", {by}, under it the interval that holds for all of them at once" if known else ""
        others = f", the other cells show their factor to it{how}"
        told.append(f"{where} ● is the lowest{others if factors else ''}.")
    elif factors:
        told.append(f"{where} the factor to the lowest time.")
    if any(text.startswith("○") for text in texts):
        told.append(f"○ is as good: the interval of its time over the lowest ends under {EQUIVALENT:.2f}.")
    if any(text.startswith("~") for text in texts):
        few = f"its interval holds 1 and more than {EQUIVALENT:.2f}, or there are under {ENOUGH_PAIRS} pairs of processes"
        few += ", or a flag bars it" if any(text.endswith("!") for text in texts) else ""
        told.append(f"“~” stands by a factor that is not decided: {few if whole else 'nothing is, before the run has ended'}.")
    if any(cell.kind != "h0" for cell in factors):
        told.append("A stronger colour is slower; it is full at 4×.")
    plain = {cell.title for cell in cells if cell.kind == "unranked"} if view.ranked else set()
    why = {STANDINGS["alone"]: "has no competitor", STANDINGS[""]: "is not ranked"}
    if words_of := [words for title, words in why.items() if title in plain]:
        told.append(f"A time in italics {' or '.join(words_of)}.")
    told += [f"{word} {words}." for word, words in short if word in texts]
    told += [f"{units.MISSING} {_NOT_ASKED}."] if any(cell.title == _NOT_ASKED for cell in cells) else []
    return told + ([f"{_NOT_KEPT} its figure is not kept."] if _NOT_KEPT in texts else [])


def _of_case(case: Case | None) -> Cell:
    """The cell of a case in the heat table, which opens the case."""
    return Cell(units.MISSING, kind="none", title=_NOT_ASKED) if case is None else replace(_heat_cell(case), i=case.i)


def _heat_cell(row: Case) -> Cell:
    status = Status(row.status)
    if status is not Status.OK:
        return Cell(
            SHORT[status], kind="none" if status is Status.SKIPPED else "failed", title=first_line(row.reason) or status
        )
    if pd.isna(row.median_ns):
        return Cell(_NOT_KEPT, kind="none", title="its figure is not kept")
    time, doubt = units.duration(row.median_ns), " !" if row.barred_by else ""
    if pd.isna(row.vs_best) or row.alone:
        return Cell(f"{time}{doubt}", kind="unranked", title=STANDINGS[_standing(row)])
    if row.best:
        return Cell("●", kind="best", title=f"lowest: {time}")
    factor = f"{row.vs_best:.2f}" if row.vs_best < 99.5 else f"{row.vs_best:.0f}"
    mark = "○ " if row.tie else "" if row.decided else "~"
    interval = units.bounds(row.vs_best_low, row.vs_best_high)
    title = ", ".join(filter(None, (time, STANDINGS[_standing(row)], interval)))
    return Cell(f"{mark}{factor}{doubt}", kind=f"h{_step(row.vs_best)}", title=title, interval=interval)


# How a ranked cell stands beside the lowest time of its comparison.
STANDINGS = {
    "best": "the lowest", "longer": "takes longer than the lowest", "tie": "as good as the lowest",
    "undecided": "beside the lowest not decided", "alone": "without a competitor", "": "not ranked",
}  # fmt: skip


def _standing(row: Case) -> str:
    """The key of STANDINGS for a cell of the view."""
    if pd.isna(row.vs_best):
        return ""
    if row.alone:
        return "alone"
    return "best" if row.best else "tie" if row.tie else "longer" if row.decided else "undecided"


def standing(cells: pd.DataFrame) -> list[str]:
    """How each of these cells of a view stands beside the lowest time of its comparison: a key of STANDINGS."""
    return [_standing(case) for case in rows_of(cells, Case)]


def _step(factor: float) -> int:
    """The step of the heat colour: none at 1, the strongest from 4 on, logarithmic between."""
    octaves = math.log2(min(max(factor, 1.0), 4.0))
    return round(octaves / 2 * HEAT_STEPS)


def first_line(message: str) -> str:
    """The first line of a message, without control characters, not too long."""
    line = clean(next((line for line in message.splitlines() if line.strip()), ""))
    return line if len(line) <= MESSAGE_LENGTH else line[: MESSAGE_LENGTH - 1] + "…"


# --- failures ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Failures:
    """Cells with the same status, backend, device and reason, numbers in it aside; `message` is the reason of the first.

    `cases` are (case, slug, shape). `new` says that none of them failed in the baseline. `since` is the first night on which
    one of them has failed without a break until now, "" where that is not known.
    """

    status: str
    backend: str
    device: str
    message: str
    cases: list[tuple[str, str, str]]
    new: bool = False
    since: str = ""


def matrix(view: View) -> tuple[list[tuple[str, str]], list[tuple[str, list[int]]]]:
    """Counts of cells by status (rows) and backend and device (columns); only statuses that occur."""
    columns = [(name, device) for name in view.looks for device in view.devices]
    counts = view.cells.groupby(["status", "backend", "device"]).size()
    columns = [column for column in columns if any((str(status), *column) in counts.index for status in Status)]
    statuses = [status for status in (Status.OK, *_SERIOUS, Status.SKIPPED) if view.count(status)]
    return columns, [(str(status), [int(counts.get((str(status), *column), 0)) for column in columns]) for status in statuses]


def failures(view: View, new: Collection[str] = (), since: Mapping[str, str] | None = None) -> list[Failures]:
    """What is not ok, by status, backend, device and reason; new ones first, then the most serious, then by number of cells.

    `new` are the cells that did not fail in the baseline, `since` maps a cell to the first night that it fails on.
    """
    since = since or {}
    groups: dict[tuple[bool, str, str, str, str], list[Case]] = {}
    for row in rows_of(view.cells[view.cells["status"] != str(Status.OK)], Case):
        reason = _NUMBERS.sub("#", first_line(row.reason))
        groups.setdefault((row.cell in new, row.status, row.backend, row.device, reason), []).append(row)
    found = [
        Failures(
            status, backend, device, _message(rows[0]), [(row.case, row.slug, clean(row.shape)) for row in rows], is_new,
            min((since[row.cell] for row in rows if row.cell in since), default=""),
        )
        for (is_new, status, backend, device, _), rows in groups.items()
    ]  # fmt: skip
    order = [*map(str, _SERIOUS), str(Status.SKIPPED)]
    return sorted(found, key=lambda group: (not group.new, order.index(group.status), -len(group.cases)))


def _message(row: Case) -> str:
    """The first line of the reason; of a wrong result also its largest error and what was allowed, where they are known."""
    message = first_line(row.reason)
    told = "largest relative error" in message
    if not told and row.status == str(Status.INCORRECT) and math.isfinite(row.max_rel_err) and math.isfinite(row.tolerance):
        message += f" (largest error {row.max_rel_err:.1e}, allowed {row.tolerance:.1e})".replace("e-", "e−")
    return message


def failing_since(nights: pd.DataFrame | None) -> dict[str, str]:
    """For each cell that is not ok on the last night: the first night of the stretch on which it was not, as YYYY-MM-DD."""
    if nights is None or nights.empty:
        return {}
    found = {}
    ordered = nights.sort_values("started_at", kind="stable")
    last = ordered["run_id"].iloc[-1]
    for cell, rows in ordered.groupby("cell", sort=False, observed=True):
        bad = rows["status"].astype(str) != str(Status.OK)
        if bad.iloc[-1] and rows["run_id"].iloc[-1] == last:
            stretch = rows[~(~bad)[::-1].cummax()[::-1]]
            found[str(cell)] = f"{stretch['started_at'].iloc[0]:%Y-%m-%d}"
    return found


# --- change points -------------------------------------------------------------------------------------------------------


def by_estimator(estimator: str) -> str:
    """The words beside a change that is not the quotient of the medians shown: `by the corrected median`; "" where it is."""
    return "" if estimator in ("", MEDIAN) else f"by the {estimator_words(estimator)}"


def estimator_words(estimator: str) -> str:
    """An estimator as people read it: `corrected median`."""
    return "ratio to its standard" if estimator == "vs_standard" else estimator.replace("_", " ")


@dataclass(frozen=True)
class Dated:
    """A row of the gate's cases that has a change point: `dated` is the id of the first run after it."""

    cell: str
    workload: str
    direction: str
    backend: str
    mode: str
    device: str
    dated: str
    cause: str
    change: float
    baseline_ns: float
    night_ns: float
    estimator: str


@dataclass(frozen=True)
class Step:
    """A change point of a case: when it began, what changed then, and from what to what; `by` as of `opening.Change`."""

    case: str
    shape: str
    slug: str
    backend: Named
    device: str
    since: str
    cause: str
    before: str
    after: str
    change: str
    by: str
    tone: str
    nights: Markup


def steps(view: View, found: pd.DataFrame | None, nights: pd.DataFrame, lines: Mapping[str, list[float]]) -> list[Step]:
    """The largest change points that the gate dated, at most MOST_STEPS; `lines` are each cell's figures over the nights."""
    if found is None or found.empty:
        return []
    dated = found[(found["dated"].fillna("") != "") & found["change"].notna()]
    dated = dated.assign(size=dated["change"].map(lambda change: abs(math.log1p(change)) if change > -1 else math.inf))
    known = view.of_cell
    began = {
        str(run_id): f"{start:%Y-%m-%d}"
        for run_id, start in nights.groupby("run_id", observed=True)["started_at"].first().items()
    }
    made = []
    largest = dated.sort_values("size", ascending=False, kind="stable").iloc[:MOST_STEPS]
    for row in rows_of(largest.assign(cause=largest["cause"].fillna("")), Dated):
        here = known.get(row.cell)
        tone = "slow" if row.change > 0 else "fast"
        made.append(
            Step(
                case=here.named if here else clean(f"{row.workload} · {direction_words(row.direction)}"),
                shape=clean(here.shape) if here else "",
                slug=here.slug if here else "",
                backend=named(view, row.backend, row.mode),
                device=clean(row.device),
                since=began.get(str(row.dated), clean(row.dated)),
                cause=first_line(row.cause) or units.MISSING,
                before=units.milliseconds(row.baseline_ns),
                after=units.milliseconds(row.night_ns),
                change=units.change(1 + row.change),
                by=by_estimator(row.estimator),
                tone=tone,
                nights=spark.sparkline(lines.get(row.cell, []), tone=tone),
            )
        )
    return made


# --- flags and memory --------------------------------------------------------------------------------------------------


def flags(view: View) -> list[tuple[str, str, int, list[tuple[str, str, str]]]]:
    """Each flag that occurs: its name, what raised it, how many cases it bars, and the (case, slug, shape) under it."""
    under: dict[str, list[Case]] = {}
    for row in rows_of(view.ok, Case):
        for flag in flags_of(row.flags):
            under.setdefault(flag, []).append(row)
    order = {str(flag): place for place, flag in enumerate(Flag)}
    found = []
    for name in sorted(under, key=lambda name: (order.get(name, len(order)), name)):
        barred = sum(name in flags_of(row.barred_by) for row in under[name])
        cases = [(row.case, row.slug, clean(row.shape)) for row in under[name]]
        found.append((name, flag_words(name) or "A flag that this page does not know.", barred, cases))
    return found


def memory_methods(view: View) -> list[tuple[str, str, int, int]]:
    """How memory was read, or why not: device, words, cells with a figure, cells without."""
    known = view.ok.assign(known=view.ok["workspace_bytes"].notna(), cells=1)
    counted = known.groupby(["device", "memory_method"], sort=True)[["known", "cells"]].sum().reset_index()
    return [
        (device, how or "no reason given", int(with_figure), int(cells - with_figure))
        for device, how, with_figure, cells in zip(*(counted[name] for name in counted), strict=True)
    ]
