"""Records and samples to the summary: one row per run and cell, with its figure, its interval and its flags.

Pure: frame in, frame out. A cell with a trial that is not ok has a status, a reason and no figure: a wrong number is
worse than none. A trial that was not run counts for nothing where another was.
"""

import functools
import statistics
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, get_args

import numpy as np
import pandas as pd

from harness import flops, stats
from harness.analysis import roofline
from harness.analysis.rows import Row, dicts_of, framed
from harness.analysis.times import times
from harness.analysis.trials import Estimator, Key, Trial, medians, trials
from harness.analysis.visits import visits
from harness.axes import OPTIONS, Direction, Optimizer, Precision
from harness.columns import COLUMNS, RECORD_COLUMNS, SUMMARY_COLUMNS, TIME_COLUMNS, OverTrials
from harness.flags import Flag
from harness.outcome import TRIALS_FOR_T_INTERVAL
from harness.record import SeriesKind, Status
from harness.spec import Cell, parse_workload

# The most serious first: a cell has the status of its worst trial.
SERIOUSNESS = (
    Status.INCORRECT,
    Status.CRASHED,
    Status.ERROR,
    Status.OOM,
    Status.TIMEOUT,
    Status.NOT_RUN,
    Status.UNSUPPORTED,
    Status.SKIPPED,
    Status.OK,
)
TRIALS_DISAGREE = 0.10
FLOP_DISAGREE = 0.01

_TIMES = tuple(name for name in TIME_COLUMNS if name in SUMMARY_COLUMNS and name not in RECORD_COLUMNS)
# Which columns of the records the summary has too, by how one value is made of those of the trials.
_OVER_TRIALS = {
    how: tuple(name for name in RECORD_COLUMNS if name in SUMMARY_COLUMNS and COLUMNS[name].over_trials == how)
    for how in get_args(OverTrials)
}


def summarize(records: pd.DataFrame, samples: pd.DataFrame) -> pd.DataFrame:
    """One row per run and cell with SUMMARY_COLUMNS, by run id and then by first measurement; dtypes as COLUMNS says.

    Takes the frames of `store.table.load` and `samples`, or any selection of their rows. What nothing measures is missing,
    and so is the share of a ceiling that is not among them. `corrected_ns` refers to the yardsticks of the cells that are in
    both, and so does the common part of a turn that is taken out of `time_ns`.
    """
    cells: dict[tuple[str, str], list[Row]] = {}
    for row in dicts_of(records.sort_values(["run_id", "order"], kind="stable")):
        cells.setdefault((row["run_id"], row["cell"]), []).append(row)
    found = _clocked(cells, samples)
    rows = [_summary_row(of_cell, found) for of_cell in cells.values()]
    summary = roofline.held_against(framed(rows, SUMMARY_COLUMNS))
    summary.attrs = dict(records.attrs)
    return summary


def with_kept(summary: pd.DataFrame, kept: pd.DataFrame) -> pd.DataFrame:
    """The summary with the figures of runs whose samples are not in the store, as `kept` has them, a frame with NIGHT_COLUMNS.

    Kept are the median, the yardstick beside it and the flags that bar a verdict; what follows from them is made anew. The
    interval, the spread and the other flags of the samples are not known, and so is their number.
    """
    known = {(row["run_id"], row["cell"]): row for row in dicts_of(kept.astype(object))}
    rows = []
    for row in dicts_of(summary):
        night = known.get((row["run_id"], row["cell"]))
        if night is not None and row["status"] == Status.OK:
            row |= _of_night(row, night)
        rows.append(row)
    filled = roofline.held_against(framed(rows, SUMMARY_COLUMNS))
    filled.attrs = dict(summary.attrs)
    return filled


def _of_night(row: Row, night: Row) -> Row:
    """What a cell has its figure from where its samples are gone."""
    median, ratio = (float(night[name]) for name in ("median_ns", "yardstick_ratio"))
    stored = {*_names([row["flags"]])} - {str(Flag.FEW_SAMPLES)}  # raised for want of the samples that were removed
    return {
        "median_ns": median, "yardstick_ratio": ratio, "corrected_ns": ratio * float(night["reference_ns"]), "samples": None,
        "barred_by": night["barred_by"], "flags": _joined({*stored, *_names([night["barred_by"]])}),
        "flop_per_s": row["flop_nominal"] / median * 1e9 if median and row["flop_nominal"] else None,
        "bytes_per_s": row["bytes_min"] / median * 1e9 if median else None,
    }  # fmt: skip


class _Clocked(NamedTuple):
    """What the samples say: of calls by run, trial and cell, of the yardstick by run and number of threads.

    `times` has a row with TIME_COLUMNS by run and cell.
    """

    trials: dict[Key, Trial]
    times: dict[tuple[str, str], Row]
    throughput_ns: dict[Key, float]
    device_ns: dict[Key, float]
    references_ns: dict[tuple[str, int], float]


def _clocked(cells: dict[tuple[str, str], list[Row]], samples: pd.DataFrame) -> _Clocked:
    found = trials(samples)
    readings: dict[tuple[str, int], list[np.ndarray]] = {}
    for rows in cells.values():
        keys = [_key(row) for row in rows if row["device"] == "cpu"]
        of_cell = [found[key].yardstick_ns for key in keys if key in found and len(found[key].yardstick_ns)]
        if of_cell:
            readings.setdefault((rows[0]["run_id"], rows[0]["threads"]), []).extend(of_cell)
    references = {key: float(np.quantile(np.concatenate(arrays), 0.25)) for key, arrays in readings.items()}
    backends = {row["cell"]: row["backend"] for rows in cells.values() for row in rows}
    visited = visits(samples)
    timed = times(visited[visited["cell"].isin(backends)], backends)
    by_cell = {(row["run_id"], row["cell"]): row for row in dicts_of(timed)}
    return _Clocked(found, by_cell, medians(samples, SeriesKind.THROUGHPUT), medians(samples, SeriesKind.DEVICE), references)


def _key(row: Row) -> Key:
    return row["run_id"], row["trial"], row["cell"]


def _summary_row(rows: Sequence[Row], found: _Clocked) -> Row:
    """The summary of one cell from its records, in the order of measuring; a column that it does not name is missing."""
    worst = _worst(rows)
    clocked = [row for row in rows if row["status"] == Status.OK]
    timed = [found.trials[key] for key in map(_key, clocked) if key in found.trials]
    summary = {
        **{name: _first_known(row[name] for row in rows) for name in _OVER_TRIALS["first"]},
        **{name: worst[name] for name in _OVER_TRIALS["worst"]},
        **{name: max(_known(row[name] for row in rows), default=None) for name in _OVER_TRIALS["largest"]},
        **{name: ",".join(_names(row[name] for row in rows)) for name in _OVER_TRIALS["joined"]},
        **{name: "; ".join(dict.fromkeys(_known(row[name] for row in rows))) for name in _OVER_TRIALS["listed"]},
        "trials": len(clocked),
        "samples": sum(len(trial.call_ns) for trial in timed),
        "ci_method": "",
        "processes": 0,
    }
    options = tuple((name, summary[name]) for name in OPTIONS if summary[name])
    shape = _of_shape(summary["shape"], summary["direction"], summary["precision"], summary["optimizer"], options)
    summary |= shape._asdict()
    flags = set(_names([summary["flags"]]))
    if worst["status"] == Status.OK:
        summary |= _measured(clocked, shape.result_bytes) | _figure(timed, shape)
        of_visits = found.times.get((summary["run_id"], summary["cell"]), {})
        summary |= {name: value for name, value in of_visits.items() if name in _TIMES}
        summary |= _corrected(timed, found.references_ns.get((summary["run_id"], summary["threads"])))
        summary["throughput_ns"] = _median(found.throughput_ns.get(key) for key in map(_key, clocked))
        summary["device_ns"] = _median(found.device_ns.get(key) for key in map(_key, clocked))
        flags |= _derived_flags(timed, len(clocked), of_visits)
        flags |= _flop_flags(summary["flop_framework"], summary["direction"], shape)
    barring = _barring([set(_names([row["flags"]])) | _of_trial(found.trials.get(_key(row))) for row in clocked])
    return summary | {"flags": _joined(flags), "barred_by": _joined(barring & flags)}


def _worst(rows: Sequence[Row]) -> Row:
    """The record that a cell has its status from. A trial that was not run says nothing where another has a result."""
    reached = [row for row in rows if row["status"] != Status.NOT_RUN]
    return min(reached or rows, key=lambda row: SERIOUSNESS.index(row["status"]))


def _of_trial(trial: Trial | None) -> set[str]:
    """What the samples of one trial raise; an ok trial without any has too few."""
    return {str(flag) for flag in (trial.flags if trial else {Flag.FEW_SAMPLES})}


def _barring(by_trial: Sequence[set[str]]) -> set[str]:
    """The flags that bar a verdict where more than half of the trials raise any of them; none otherwise.

    What happens in one trial of several, the interval over the trials knows.
    """
    kinds = {str(flag) for flag in Flag if flag.bars_verdict}
    raised = [flags & kinds for flags in by_trial]
    return set().union(*raised) if 2 * sum(map(bool, raised)) > len(raised) else set()


def _joined(flags: Iterable[str]) -> str:
    return ",".join(flag for flag in Flag if flag in flags)


def _known(values: Iterable[Any]) -> list[Any]:
    """The values that are neither missing nor empty text."""
    return [value for value in values if value is not None and value == value and value != ""]  # NaN is unequal to itself


def _names(texts: Iterable[str]) -> list[str]:
    """The names that stand in any of the texts, which join them by commas; each once."""
    return list(dict.fromkeys(name for text in texts for name in text.split(",") if name))


def _first_known(values: Iterable[Any]) -> Any:
    """The first value that says something, else the first: None, NaN or empty text."""
    values = list(values)
    return next(iter(_known(values)), values[0])


class _Shape(NamedTuple):
    """What follows from the shape and the options of a call alone; the names are those of the columns.

    `result_bytes` and `flop_beside` have no column.
    """

    flop_nominal: float
    flop_exact: float
    bytes_min: float
    intensity_flop_per_byte: float
    result_bytes: float
    flop_beside: tuple[int, ...]


@functools.lru_cache(maxsize=4096)
def _of_shape(shape: str, direction: str, precision: str, optimizer: str, options: tuple[tuple[str, str], ...]) -> _Shape:
    # Any backend will do: FLOP and bytes are a matter of the shape, not of who computes it.
    chosen: dict[str, Any] = {name: type(OPTIONS[name].default)(value) for name, value in options}
    cell = Cell(
        workload="",
        spec=parse_workload(shape),
        direction=Direction(direction),
        backend="",
        precision=Precision(precision),
        optimizer=Optimizer(optimizer) if optimizer else None,
        **chosen,
    )
    passes = cell.direction.passes
    nominal, least = passes * flops.nominal(cell.spec), flops.least_bytes(cell)
    exact, results, beside = passes * flops.exact(cell.spec), flops.result_bytes(cell), flops.beside(cell)
    return _Shape(nominal, exact, least, nominal / least, results, beside)


def _measured(rows: Sequence[Row], result_bytes: float) -> Row:
    """What the records of the ok trials hold beside the samples: times in ns, bytes, joules and more, over the trials."""
    measured = {name: _median(row[name] for row in rows) for name in _OVER_TRIALS["median"]}
    measured |= {name: _sum(row[name] for row in rows) for name in _OVER_TRIALS["sum"]}
    side = "host" if rows[0]["device"] == "cpu" else "device"
    base, peak = measured[f"{side}_base_bytes"], measured[f"{side}_peak_bytes"]
    wall_ns = sum(_known(row["wall_ns"] for row in rows))
    powered = [row for row in rows if len(_known([row["energy_j"], row["energy_calls"]])) == 2 and row["energy_calls"]]
    return measured | {
        "workspace_bytes": max(peak - base - result_bytes, 0.0) if base is not None and peak is not None else None,
        "effective_cores": sum(_known(row["cpu_ns"] for row in rows)) / wall_ns if wall_ns else None,
        "energy_per_call_j": _median(row["energy_j"] / row["energy_calls"] for row in powered),
    }


def _sum(values: Iterable[Any]) -> float | None:
    known = _known(values)
    return sum(known) if known else None


def _median(values: Iterable[Any]) -> float | None:
    known = _known(values)
    return statistics.median(known) if known else None


def _figure(timed: Sequence[Trial], shape: _Shape) -> Row:
    """The time of a call and what follows from it; nothing where no trial has a sample."""
    if not timed:
        return {}
    calls = np.concatenate([trial.call_ns for trial in timed])
    median = statistics.median(trial.median_ns for trial in timed)
    interval, method = _interval(timed, median)
    contended = sum(trial.contended for trial in timed)
    return {
        "median_ns": median,
        "ci_low_ns": interval.low if interval else None,
        "ci_high_ns": interval.high if interval else None,
        "ci_method": method,
        "min_ns": float(calls.min()),
        # A block of several calls hides how each of them varied.
        "p95_ns": float(np.quantile(calls, 0.95)) if all(trial.iterations == 1 for trial in timed) else None,
        "flop_per_s": shape.flop_nominal / median * 1e9 if median and shape.flop_nominal else None,  # a copy has no such rate
        "bytes_per_s": shape.bytes_min / median * 1e9 if median else None,
        "contended_share": contended / (contended + sum(trial.clean for trial in timed))
        if any(trial.measured for trial in timed)
        else None,
    }


def _corrected(timed: Sequence[Trial], reference_ns: float | None) -> Row:
    """The time of a call over the yardstick beside it, and that in ns; nothing where a trial has no yardstick."""
    ratios = [trial.estimates.get(Estimator.CORRECTED_MEDIAN) for trial in timed]
    if reference_ns is None or not ratios or None in ratios:
        return {}
    ratio = _median(ratios)
    return {"yardstick_ratio": ratio, "corrected_ns": ratio * reference_ns if ratio is not None else None}


def _interval(timed: Sequence[Trial], median: float) -> tuple[stats.Interval | None, str]:
    """The 95 % interval of the median of trials in ns, and how it was made; None where there are too few samples for any."""
    medians = [trial.median_ns for trial in timed]
    if len(medians) >= TRIALS_FOR_T_INTERVAL and min(medians) > 0:
        low, high = stats.log_t_interval(medians)
        # Its centre is the geometric mean, and one far trial among many pulls that away from the median, or rounding
        # does: an interval that left out its own figure would be read as a mistake.
        return stats.Interval(min(low, median), max(high, median)), "trials"
    within = [trial.interval for trial in timed]
    if None in within:
        return None, ""
    widest = stats.Interval(min(each.low for each in within if each), max(each.high for each in within if each))
    return widest, "visits" if all(trial.visits for trial in timed) else "within"


def _derived_flags(timed: Sequence[Trial], trials_ok: int, of_visits: Row) -> set[Flag]:
    """The flags that the samples raise: what one trial raises counts for its cell. `of_visits` has TIME_COLUMNS."""
    flags = set().union(*(trial.flags for trial in timed))
    if len(timed) < trials_ok:
        flags.add(Flag.FEW_SAMPLES)  # an ok trial without any sample has no entry
    if Flag.VERY_NOISY in flags:
        flags.discard(Flag.NOISY)
    if of_visits and all(trial.visits for trial in timed):
        raised = {Flag.TRIALS_DISAGREE: of_visits["process_range"] > TRIALS_DISAGREE, Flag.TWO_KINDS: of_visits["two_kinds"]}
        return flags | {flag for flag, is_raised in raised.items() if is_raised}
    medians = [trial.median_ns for trial in timed]
    if medians and max(medians) - min(medians) > TRIALS_DISAGREE * statistics.median(medians):
        flags.add(Flag.TRIALS_DISAGREE)
    return flags


def _flop_flags(flop_framework: Any, direction: str, shape: _Shape) -> set[Flag]:
    """Whether the framework counts otherwise than both of our formulas; one that counts nothing disagrees with nobody.

    It may count a bias and an epilogue, which we do not. Single passes only: beside three passes a framework counts the loss
    and the optimizer too.
    """
    if not _known([flop_framework]) or Direction(direction).passes > 1:
        return set()
    counts = [ours + beside for ours in (shape.flop_nominal, shape.flop_exact) for beside in shape.flop_beside]
    return {Flag.FLOP_DISAGREE} if all(abs(flop_framework - ours) > FLOP_DISAGREE * ours for ours in counts) else set()
