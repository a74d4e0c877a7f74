"""What is kept of a night for the nights to come, and many nights side by side.

Frame to frame and to matrices of cases by nights. Where the frames of a store come from is `store.nights`' business, what is
said of them `gate`'s.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd

from harness.analysis import roofline
from harness.analysis.environments import versions
from harness.analysis.standard import is_standard, vs_standard, vs_stay
from harness.columns import NIGHT_COLUMNS
from harness.record import AA, VISITS_SINCE, YARDSTICK_SINCE, Environment, Run, Status

# Raised by one whenever the formula of a figure that a night keeps changes: the nights of a store are then made anew.
FIGURES = 4

STATUSES = tuple(Status)
ABSENT = -1  # where a matrix of codes has no row
SURE = 1.96  # standard errors of a normal distribution make half of its 95 % interval

AXES = ("cell", "workload", "direction", "backend", "mode", "device", "threads")


def night(
    summary: pd.DataFrame, visited: pd.DataFrame | None = None, label: str = "", samples: pd.DataFrame | None = None
) -> pd.DataFrame:  # fmt: skip
    """What is kept of one run for its history, from its summary: one row per cell with NIGHT_COLUMNS.

    `visited` is the frame of `visits.visits`, and `label` that of the standard which the cells were visited beside, if any;
    `samples` are those of the run, in which there may be long stays.
    Ceilings that were measured beside convolutions are left out: they are there for the shares.
    """
    frame = roofline.asked_for(summary)
    beside = vs_standard(frame, visited, label) | vs_stay(frame, samples)
    memory = frame["bytes_min"] + frame["workspace_bytes"]
    reference = frame["corrected_ns"] / frame["yardstick_ratio"]
    frame = frame.assign(reference_ns=reference, memory_bytes=memory, **beside)
    return frame[list(NIGHT_COLUMNS)].reset_index(drop=True)


@dataclass(frozen=True)
class History:
    """Nights side by side, oldest first: `runs` as run.json has them, with their environments; no run twice.

    `cells` has one row per run and cell with NIGHT_COLUMNS; its text may be categorical. A run without a row is a night
    on which nothing was measured.
    """

    runs: tuple[Run, ...]
    cells: pd.DataFrame

    @cached_property
    def beside(self) -> np.ndarray:
        """Which rows of `cells` are twins by the standard of their run: they are no cases."""
        of_run = self.cells["run_id"].astype(object).map({run.id: run.standard for run in self.runs}).to_numpy(dtype=str)
        found = np.zeros(len(self.cells), dtype=bool)
        for label in {run.standard for run in self.runs} - {""}:
            found |= is_standard(self.cells["backend"], label) & (of_run == label)
        return found

    def until(self, run_id: str) -> "History":
        """The history as it was when that run was the newest. Raises KeyError where there is no such run."""
        ids = [run.id for run in self.runs]
        if run_id not in ids:
            raise KeyError(run_id)
        kept = self.runs[: ids.index(run_id) + 1]
        return History(kept, self.cells[self.cells["run_id"].isin([run.id for run in kept])])


@dataclass(frozen=True, eq=False)
class Grid:
    """The nights of one machine as matrices of C cases by N nights, oldest first.

    `raw` is the time of a call in ns, `ratio` the same in yardsticks, `vs_standard` over that of its twin by the standard; all
    are NaN where the status is not ok or a flag bars a verdict, `ratio` also where no yardstick was timed, `vs_standard` where
    there was no twin. `status` is a place in STATUSES, ABSENT where there is no row; `barred` says that a flag bars a verdict.
    `segment` numbers the versions a figure was measured with, `shape` the shapes, `yardstick` and `standard` what the ratios
    refer to: figures of different shapes must not be compared, nor ratios to different yardsticks or to standards of different
    versions. `methods` has the method version of each night: times by different ones must not be compared. `row` is the place
    in the frame that all this is from.

    `factor` carries `raw` and `ratio` over to the method of `method`, and `carry` is the standard error of its log: on the
    nights before a case was first measured by visits, where that night measured it by long stays as well. Elsewhere the factor
    is 1, the error 0, and `method` that of the night.

    The twins by the standard are no cases. `twin` holds for each case the place of its equal, measured under another name in
    the same run, ABSENT where there is none; `is_twin` marks those others. `references` has the time of each yardstick, by its
    number in `yardstick`, on each night, in ns; NaN where it was not timed.
    """

    machine_id: str
    runs: tuple[Run, ...]
    axes: pd.DataFrame
    raw: np.ndarray
    ratio: np.ndarray
    vs_standard: np.ndarray
    status: np.ndarray
    barred: np.ndarray
    segment: np.ndarray
    shape: np.ndarray
    yardstick: np.ndarray
    standard: np.ndarray
    row: np.ndarray
    twin: np.ndarray
    is_twin: np.ndarray
    references: np.ndarray
    vs_stay: np.ndarray
    vs_stay_error: np.ndarray
    started_s: np.ndarray = field(init=False)
    methods: np.ndarray = field(init=False)
    factor: np.ndarray = field(init=False)
    carry: np.ndarray = field(init=False)
    method: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        methods = np.array([run.method_version for run in self.runs])
        object.__setattr__(self, "started_s", np.array([run.place[0].timestamp() for run in self.runs]))
        object.__setattr__(self, "methods", methods)
        # Its first night by visits, and no later one: what is said of that night must not depend on a later one.
        first = ((methods >= VISITS_SINCE) & ~np.isnan(self.raw)).argmax(axis=1)
        at = np.arange(len(self.raw)), first
        known = (methods[first] >= VISITS_SINCE) & ~np.isnan(self.raw[at] * self.vs_stay[at] * self.vs_stay_error[at])
        carried = known[:, None] & (methods == VISITS_SINCE - 1) & (np.arange(len(methods)) < first[:, None])
        least = np.finfo(float).tiny  # an error of 0 would say that nothing was carried
        error = np.maximum(self.vs_stay_error[at] / SURE, least)
        object.__setattr__(self, "factor", np.where(carried, self.vs_stay[at][:, None], 1.0))
        object.__setattr__(self, "carry", np.where(carried, error[:, None], 0.0))
        object.__setattr__(self, "method", np.where(carried, methods[first][:, None], methods))


def grids(history: History, *, every: bool = False) -> list[Grid]:
    """The machines that the newest run is about, each with its nights: those that it was measured on, and those missing.

    With `every` those of all nights.

    A machine is missing where the run before had it beside one that reports. A run on which nothing was measured is about the
    machines of the run before. Each has the newest run as its last night, whether it reports there or not.
    """
    frame = history.cells
    place = {run.id: number for number, run in enumerate(history.runs)}
    night_of = _recoded(frame["run_id"], place)
    machine_of, machines = _machines(history, night_of)
    facts = _Facts(history)
    there = np.zeros((len(machines), len(history.runs)), dtype=bool)
    there[machine_of, night_of] = True
    return [
        _grid(history, machines[machine], np.flatnonzero((machine_of == machine) & ~history.beside), night_of, facts)
        for machine in (range(len(machines)) if every else _expected(there))
    ]


def _machines(history: History, night_of: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """The place of each row's machine among those that there are, and their ids.

    A cell whose worker never came up has no environment to tell it: it is of the machine that the rest of the run names, or
    the run before.
    """
    codes, names = _codes(history.cells["machine_id"])
    names = list(names)
    if "" not in names:
        return codes, names
    fallback, last = [], names.index("")
    for run in history.runs:
        told = next((machine_id for machine_id in run.machines if machine_id in names and machine_id), None)
        last = names.index(told) if told else last
        fallback.append(last)
    return np.where(codes == names.index(""), np.array(fallback)[night_of], codes), names


def _expected(there: np.ndarray) -> list[int]:
    """The machines, by their rows of [M, N], that the last night is about."""
    if not there.size:
        return []
    now = there[:, -1]
    earlier = there[:, :-1][:, (there[:, :-1] & (now[:, None] | ~now.any())).any(axis=0)]
    return np.flatnonzero(now | earlier[:, -1] if earlier.size else now).tolist()


def _grid(history: History, machine_id: str, rows: np.ndarray, night_of: np.ndarray, facts: "_Facts") -> Grid:
    mine = history.cells.iloc[rows]
    nights = np.unique(np.append(night_of[rows], len(history.runs) - 1))
    column = np.searchsorted(nights, night_of[rows])
    case, names = _codes(mine["cell"])
    first = np.zeros(len(names), dtype=np.int64)
    first[case[::-1]] = np.arange(len(rows))[::-1]
    axes = mine.iloc[first][list(AXES)].astype(dict.fromkeys(AXES[:-1], "string")).reset_index(drop=True)
    shape = (len(names), len(nights))

    def spread(values: np.ndarray, missing: float) -> np.ndarray:
        matrix = np.full(shape, missing, dtype=values.dtype)
        matrix[case, column] = values
        return matrix

    status = _recoded(mine["status"], {str(each): number for number, each in enumerate(STATUSES)})
    barred = _flags(mine["barred_by"])
    usable = (status == STATUSES.index(Status.OK)) & ~barred
    raw = np.where(usable, mine["median_ns"].to_numpy(dtype=float), np.nan)
    raw[~(raw > 0)] = np.nan  # a time of 0 has no ratio to anything
    ratio, vs_standard, *vs_stay = (
        np.where(np.isnan(raw), np.nan, mine[name].to_numpy(dtype=float))
        for name in ("yardstick_ratio", "vs_standard", "vs_stay", "vs_stay_error")
    )
    yardstick = np.unique(facts.yardstick[rows], return_inverse=True)[1]
    twin, is_twin = _twins(axes)
    return Grid(
        machine_id, tuple(history.runs[night] for night in nights), axes, spread(raw, np.nan), spread(ratio, np.nan),
        spread(vs_standard, np.nan), spread(status, ABSENT), spread(barred, False), spread(facts.segment[rows], ABSENT),
        spread(facts.shape[rows], ABSENT), spread(yardstick, ABSENT), spread(facts.standard[rows], ABSENT),
        spread(rows, ABSENT), twin, is_twin,
        _references(yardstick, column, mine["reference_ns"].to_numpy(dtype=float), len(nights)),
        *(spread(values, np.nan) for values in vs_stay),
    )  # fmt: skip


def _references(yardstick: np.ndarray, column: np.ndarray, values: np.ndarray, nights: int) -> np.ndarray:
    """One row per yardstick with its time on each night, [T, N]; cells of one run at one number of threads have the same."""
    found = np.full((int(yardstick.max(initial=-1)) + 1, nights), np.nan)
    known = ~np.isnan(values)
    found[yardstick[known], column[known]] = values[known]
    return found


def _twins(axes: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """The place of each cell's equal, ABSENT where it has none, and which cells are the equals of others."""
    names = {cell: number for number, cell in enumerate(axes["cell"])}
    twin = np.full(len(axes), ABSENT)
    is_twin = axes["backend"].str.endswith(f"@{AA}").to_numpy(dtype=bool)
    for number in np.flatnonzero(is_twin):
        backend = axes["backend"].iloc[number]
        original = names.get(axes["cell"].iloc[number].replace(f"/{backend}/", f"/{backend.removesuffix(f'@{AA}')}/", 1))
        if original is not None:
            twin[original] = number
    return twin, is_twin


class _Facts:
    """What each row of a history was measured with, as numbers: equal numbers stand for equal facts.

    Versions are looked up by run and environment, since that is where run.json has them.
    """

    def __init__(self, history: History) -> None:
        cells = history.cells
        place = {run.id: number for number, run in enumerate(history.runs)}
        run_of = _recoded(cells["run_id"], place)
        known, of_row = self._environments(history, run_of, "environment_id")
        self.segment = _numbered(versions(each) if each else {} for each in known)[of_row]
        standards, of_standard = self._environments(history, run_of, "standard_environment_id")
        self.standard = _numbered(versions(each) if each else {} for each in standards)[of_standard]
        numpys = _numbered(each.packages.get("numpy", "") if each else "" for each in known)[of_row]
        # Another kernel may time the same work otherwise: it starts a new series, as it does for every cell.
        systems = _numbered((each.os, each.driver) if each else () for each in known)[of_row]
        threads = cells["threads"].to_numpy(dtype=np.int64)
        works = _numbered(run.method_version >= YARDSTICK_SINCE for run in history.runs)[run_of]
        self.yardstick = _rows_numbered(threads, numpys, systems, works)
        self.shape = _codes(cells["shape"])[0]

    @staticmethod
    def _environments(history: History, run_of: np.ndarray, name: str) -> tuple[list[Environment | None], np.ndarray]:
        """The environments that the rows name in that column, each once, and the place of each row's among them."""
        of, names = _codes(history.cells[name])
        pair, of_row = np.unique(run_of * max(len(names), 1) + of, return_inverse=True)
        pairs = [(history.runs[code // max(len(names), 1)], names[code % max(len(names), 1)]) for code in pair]
        return [next((each for each in run.environments if each.id == id), None) for run, id in pairs], of_row


# Columns of text to numbers -----------------------------------------------------------------------------------------------


def _codes(column: pd.Series) -> tuple[np.ndarray, Sequence[str]]:
    """The place of each value among those that there are, and these."""
    if isinstance(column.dtype, pd.CategoricalDtype):
        used, codes = np.unique(column.cat.codes.to_numpy(), return_inverse=True)
        return codes, [str(column.cat.categories[code]) for code in used]
    codes, values = pd.factorize(column)
    return codes.astype(np.int64), [str(value) for value in values]


def _recoded(column: pd.Series, places: Mapping[str, int]) -> np.ndarray:
    codes, values = _codes(column)
    return np.take(np.array([places[value] for value in values], dtype=np.int64), codes)


def _flags(column: pd.Series) -> np.ndarray:
    codes, values = _codes(column)
    return np.take(np.array([bool(value) for value in values], dtype=bool), codes)


def _numbered(values: Iterable[object]) -> np.ndarray:
    """A number for each value, equal ones for equal values."""
    found: dict[str, int] = {}
    return np.array([found.setdefault(repr(value), len(found)) for value in values], dtype=np.int64)


def _rows_numbered(*columns: np.ndarray) -> np.ndarray:
    """A number for each row of several columns of small numbers, equal ones for equal rows."""
    total = np.zeros(len(columns[0]), dtype=np.int64)
    for column in columns:
        total = total * (int(column.max(initial=0)) + 1) + column
    return np.unique(total, return_inverse=True)[1]
