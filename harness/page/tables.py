"""Frame to table: factors to the fastest, failures, memory, flags, and every number. Text and classes; `html` writes them."""

import math
import re
from dataclasses import dataclass
from typing import Any

import pandas as pd

from harness import units
from harness.page.palette import HEAT_STEPS, fill_of
from harness.page.svg import clean
from harness.page.view import AXES, View, direction_words, flag_words, flags_of, who
from harness.record import Flag, Status
from harness.spec import Direction

MOST_HEAT_ROWS = 60
LARGEST = 10
MESSAGE_LENGTH = 300
SHORT = {
    Status.INCORRECT: "WRONG", Status.CRASHED: "CRASH", Status.ERROR: "ERR", Status.OOM: "OOM", Status.TIMEOUT: "T/O",
    Status.NOT_RUN: "n/r", Status.UNSUPPORTED: "n/s", Status.SKIPPED: units.MISSING,
}  # fmt: skip
_SERIOUS = (Status.INCORRECT, Status.CRASHED, Status.ERROR, Status.OOM, Status.TIMEOUT, Status.NOT_RUN, Status.UNSUPPORTED)
_NUMBERS = re.compile(r"0x[0-9a-fA-F]+|\d+(?:[.,]\d+)*(?:[eE][+-]?\d+)?")


@dataclass(frozen=True)
class Cell:
    """A cell of a table: its text, what it sorts by if not by that, its class, and the icon of a backend and mode."""

    text: str
    sort: float | None = None
    kind: str = ""
    icon: str = ""
    title: str = ""


@dataclass(frozen=True)
class Networks:
    """The time of all convolutions of a network: `heads` of the times, `rows` (network, backend, mode, layers, times)."""

    heads: list[str]
    rows: list[tuple[str, str, str, str, list[str]]]


@dataclass(frozen=True)
class Heat:
    """Factors to the fastest on one device: `heads` are (direction, backends), `rows` (workload, [(mode, cells)])."""

    device: str
    heads: list[tuple[str, list[str]]]
    rows: list[tuple[str, list[tuple[str, list[Cell]]]]]
    total: int
    legend: list[tuple[str, str]]  # backend and mode, the mode left open


def icon(view: View, backend: str, mode: str) -> str:
    """The id of the symbol that stands for a backend in a mode."""
    return f"k-{view.looks[backend].key}-{fill_of(mode)}"


def networks(view: View, rolled: pd.DataFrame | None) -> Networks:
    """The roll-ups whose backend the page shows; no row where there is none."""
    if rolled is None or rolled.empty:
        return Networks([], [])
    known = [str(direction) for direction in Direction if str(direction) in rolled]
    varying = [name for name in ("optimizer", "device", *AXES) if rolled[name].nunique() > 1]
    rows = []
    for row in rolled[rolled["backend"].isin(list(view.looks))].to_dict("records"):
        setting = filter(None, (row["network"], row["scaled"], *(str(row[name]) for name in varying)))
        times = [units.MISSING if pd.isna(row[name]) else units.duration(row[name]) for name in (*known, "passes")]
        name = " · ".join(clean(str(part)) for part in setting)
        rows.append((name, row["backend"], row["mode"], f"{row['layers']} in {row['shapes']} shapes", times))
    return Networks([*map(direction_words, known), "three passes"], sorted(rows, key=lambda row: row[:3]))


def heat(view: View, device: str) -> Heat:
    """Time over the fastest of the same workload and direction, a row per workload and mode."""
    here = view.cells[view.cells["device"] == device]
    heads = []
    for direction in view.directions:
        present = set(here.loc[here["words"] == direction, "backend"])
        if present:
            heads.append((direction, [name for name in view.looks if name in present]))
    worst = here.groupby("key", sort=False)["vs_best"].max()
    keys = list(worst.index)
    if len(keys) > MOST_HEAT_ROWS:
        keys = list(worst.sort_values(ascending=False, kind="stable").index[:MOST_HEAT_ROWS])
    at = {(row.key, row.mode, row.words, row.backend): row for row in here.itertuples()}
    of_key = dict(iter(here.groupby("key", sort=False)))
    rows = []
    for key in keys:
        modes = [mode for mode in view.modes if mode in set(of_key[key]["mode"])]
        lines = [
            (mode, [_heat_cell(at.get((key, mode, direction, name))) for direction, names in heads for name in names])
            for mode in modes
        ]
        rows.append((of_key[key]["row"].iloc[0], lines))
    return Heat(device, heads, rows, len(worst), [(name, "") for name in view.looks if name in set(here["backend"])])


def _heat_cell(row: Any) -> Cell:
    if row is None:
        return Cell(units.MISSING, kind="none", title="not asked for")
    status = Status(row.status)
    if status is not Status.OK:
        return Cell(
            SHORT[status], kind="none" if status is Status.SKIPPED else "failed", title=first_line(row.reason) or status
        )
    time, doubt = units.duration(row.median_ns), " !" if row.barred_by else ""
    if row.best:
        return Cell(f"●{doubt}", kind="best", title=f"fastest: {time}")
    if row.tie:
        return Cell(f"○{doubt}", kind=f"h{_step(row.vs_best)}", title=f"tie: {time}, {units.ratio(row.vs_best)}")
    if pd.isna(row.vs_best):
        return Cell(time, kind="unranked", title="not ranked")
    factor = f"{row.vs_best:.2f}" if row.vs_best < 99.5 else f"{row.vs_best:.0f}"
    return Cell(f"{factor}{doubt}", kind=f"h{_step(row.vs_best)}", title=time)


def _step(factor: float) -> int:
    """The step of the heat colour: none at 1, the strongest from 4 on, logarithmic between."""
    octaves = math.log2(min(max(factor, 1.0), 4.0))
    return round(octaves / 2 * HEAT_STEPS)


def bars(flag: str) -> bool:
    """Whether a flag is of the kind that says that a figure must not be called faster or slower than another."""
    return flag in set(Flag) and Flag(flag).bars_verdict


def first_line(message: str) -> str:
    """The first line of a message, without control characters, not too long."""
    line = clean(next((line for line in message.splitlines() if line.strip()), ""))
    return line if len(line) <= MESSAGE_LENGTH else line[: MESSAGE_LENGTH - 1] + "…"


# --- failures ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Failures:
    """Cells that came to one end for one reason, whatever the numbers in it; `message` is that of the first."""

    status: str
    backend: str
    device: str
    message: str
    cases: list[str]


def matrix(view: View) -> tuple[list[tuple[str, str]], list[tuple[str, list[int]]]]:
    """Counts of cells by status (rows) and backend and device (columns); only statuses that occur."""
    columns = [(name, device) for name in view.looks for device in view.devices]
    counts = view.cells.groupby(["status", "backend", "device"]).size()
    columns = [column for column in columns if any((str(status), *column) in counts.index for status in Status)]
    statuses = [status for status in (Status.OK, *_SERIOUS, Status.SKIPPED) if view.count(status)]
    return columns, [(str(status), [int(counts.get((str(status), *column), 0)) for column in columns]) for status in statuses]


def failures(view: View) -> list[Failures]:
    """What is not ok, by status, backend, device and reason; the most serious first, then by number of cells."""
    groups: dict[tuple[str, ...], list[Any]] = {}
    for row in view.cells[view.cells["status"] != str(Status.OK)].itertuples():
        reason = _NUMBERS.sub("#", first_line(row.reason))
        groups.setdefault((row.status, row.backend, row.device, reason), []).append(row)
    found = [
        Failures(status, backend, device, first_line(rows[0].reason), [row.case for row in rows])
        for (status, backend, device, _), rows in groups.items()
    ]
    order = [*map(str, _SERIOUS), str(Status.SKIPPED)]
    return sorted(found, key=lambda group: (order.index(group.status), -len(group.cases)))


# --- flags and memory --------------------------------------------------------------------------------------------------


def flags(view: View) -> list[tuple[str, str, bool, list[str]]]:
    """Each flag that occurs: its name, what raised it, whether it bars a verdict, and the cases under it."""
    under: dict[str, list[str]] = {}
    for row in view.ok.itertuples():
        for flag in flags_of(row.flags):
            under.setdefault(flag, []).append(row.case)
    order = {str(flag): place for place, flag in enumerate(Flag)}
    names = sorted(under, key=lambda name: (order.get(name, len(order)), name))
    return [(name, flag_words(name) or "A flag that this page does not know.", bars(name), under[name]) for name in names]


def largest_memory(view: View) -> list[list[Cell]]:
    """The cells that needed the most workspace: case, tensors, workspace, their ratio, and the peak of the process."""
    rows = view.ok[view.ok["workspace_bytes"].notna()].sort_values("workspace_bytes", ascending=False, kind="stable")
    return [
        [
            Cell(row.case, icon=icon(view, row.backend, row.mode)),
            _number(units.mebibytes(row.bytes_min), row.bytes_min),
            _number(units.mebibytes(row.workspace_bytes), row.workspace_bytes),
            _number(units.ratio(row.workspace_bytes / row.bytes_min if row.bytes_min else None), None),
            _number(units.mebibytes(_peak(row)), _peak(row)),
        ]
        for row in rows.iloc[:LARGEST].itertuples()
    ]


def _peak(row: Any) -> float:
    return row.host_peak_bytes if row.device == "cpu" else row.device_peak_bytes


def memory_methods(view: View) -> list[tuple[str, str, int, int]]:
    """How memory was read, or why not: device, words, cells with a figure, cells without."""
    counted = view.ok.assign(known=view.ok["workspace_bytes"].notna()).groupby(["device", "memory_method"], sort=True)["known"]
    return [(device, how or "no reason given", int(known.sum()), int((~known).sum())) for (device, how), known in counted]


# --- every number ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Head:
    """The head of a column: its key in links, its label, its unit, whether it holds numbers."""

    key: str
    label: str
    unit: str = ""
    numeric: bool = False


@dataclass(frozen=True)
class Row:
    """A row of the table: its cells, the first of which heads it, and what it is found by beside their text."""

    cells: list[Cell]
    words: str


def results(view: View) -> tuple[list[Head], list[Row]]:
    """Every cell with every number."""
    heads = [
        Head("workload", "Workload"), Head("direction", "Direction"), Head("backend", "Backend"), Head("mode", "Mode"),
        Head("device", "Device"), *(Head(axis, axis.capitalize(), "", axis == "threads") for axis in view.axes),
        Head("status", "Status"), Head("median", "Median", "ms", True), Head("interval", "95 % interval", "", True),
        Head("factor", "÷ fastest", "", True), Head("rate", "Rate", "TFLOP/s", True), Head("ceiling", "Of ceiling", "", True),
        Head("workspace", "Workspace", "MiB", True), Head("cores", "Cores used", "", True),
        Head("first", "First call", "ms", True), Head("check", "Checked by"),
        Head("error", "Largest error", "", True), Head("flags", "Flags"), Head("call", "Call, or why there is no figure"),
    ]  # fmt: skip
    # Together what is compared; workloads in the order of the suite.
    first = {key: place for place, key in enumerate(view.cells["key"].drop_duplicates())}
    place = view.cells["key"].map(first), view.cells["words"].map(view.directions.index)
    ordered = view.cells.assign(at=place[0], pass_at=place[1]).sort_values(
        ["device", "at", "pass_at", "order_in_group"], kind="stable"
    )
    return heads, [Row(_result(view, row), clean(row["cell"])) for row in ordered.to_dict("records")]


def _result(view: View, row: dict[str, Any]) -> list[Cell]:
    ok = row["status"] == str(Status.OK)
    median, low, high = row["median_ns"], row["ci_low_ns"], row["ci_high_ns"]
    half = 50 * (high - low) / median if median else math.nan
    mark = "● " if row["best"] else "○ " if row["tie"] else ""
    call = first_line(row["op"]) if ok else first_line(row["reason"])
    return [
        Cell(row["name"]),
        Cell(row["words"]),
        Cell(who(view.looks, row["backend"]), icon=icon(view, row["backend"], row["mode"])),
        Cell(clean(row["mode"])),
        Cell(clean(row["device"])),
        *(Cell(clean(str(row[axis])), sort=float(row[axis]) if axis == "threads" else None) for axis in view.axes),
        Cell(row["status"], kind=f"tag {row['status']}"),
        _number(units.milliseconds(median), median),
        _number(units.interval(median, low, high), half),
        _number(mark + units.ratio(row["vs_best"]), row["vs_best"]),
        _number(units.teraflops(row["flop_per_s"]), row["flop_per_s"]),
        _number(units.percent(row["ceiling_share"]), row["ceiling_share"]),
        _number(units.mebibytes(row["workspace_bytes"]), row["workspace_bytes"]),
        _number(_plain(row["effective_cores"]), row["effective_cores"]),
        _number(units.milliseconds(row["first_call_ns"]), row["first_call_ns"]),
        Cell(first_line(row["check_method"]) or units.MISSING),
        _number(
            units.MISSING if pd.isna(row["max_rel_err"]) else f"{row['max_rel_err']:.1e}".replace("-", "−"), row["max_rel_err"]
        ),
        Cell(clean(row["flags"].replace(",", ", ").replace("_", " ")) or units.MISSING),
        Cell(call or units.MISSING, kind="mono"),
    ]


def _plain(value: float) -> str:
    return units.MISSING if pd.isna(value) else f"{value:.2f}"


def _number(text: str, value: float | None) -> Cell:
    known = value is not None and not pd.isna(value) and math.isfinite(value)
    return Cell(text, sort=float(value) if known else None, kind="r")
