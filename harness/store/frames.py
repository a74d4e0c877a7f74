"""Records to the two frames that stand on disk: one row per record, one row per sample.

Here belongs what a column is made from. Where the records come from, and where the frames go, is `table`'s business.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from harness.axes import Cache, Device, Direction, Mode, Optimizer, Precision
from harness.columns import COLUMNS, RECORD_COLUMNS, SAMPLE_COLUMNS, SPENT
from harness.record import Check, Environment, Flag, Memory, Power, Record, Samples, Series, SeriesKind, Status, contended
from harness.spec import Cell, parse_workload

_NOTHING = {"string": "", "Int64": None, "float64": None}  # by dtype, what stands where nothing was measured


def complete(frame: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """The frame with the columns that were added to the schema since it was stored, each without a value.

    Raises KeyError for one that is never missing: such a frame is no copy of any run.
    """
    absent = [name for name in columns if name not in frame]
    if never := [name for name in absent if COLUMNS[name].dtype not in _NOTHING]:
        raise KeyError(f"no column {never[0]}")
    return frame.assign(**{name: pd.Series(_NOTHING[COLUMNS[name].dtype], index=frame.index) for name in absent})


def conform(frame: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """The frame with exactly these columns, in this order and with the dtypes of COLUMNS. Raises KeyError if one is missing."""
    return frame[list(columns)].astype({name: COLUMNS[name].dtype for name in columns})


def check(frame: pd.DataFrame, run_id: str) -> None:
    """Raise ValueError, which names the column, where a frame is not of that run or says what no record can say."""
    for name, kinds in _WORDS.items():
        if name in frame and (others := set(frame[name].unique()) - {*map(str, kinds)}):
            raise ValueError(f"{name}: found {min(others)!r:.60}")
    if others := set(frame["run_id"].unique()) - {run_id}:
        raise ValueError(f"run_id: found {min(others)!r:.60} in run {run_id}")
    if "flags" in frame:
        for name in ("flags", "repeated_for"):
            if others := {word for words in frame[name].unique() for word in filter(None, words.split(","))} - {*Flag}:
                raise ValueError(f"{name}: found {min(others)!r:.60}")
        for shape, direction, optimizer, device in (
            frame[["shape", "direction", "optimizer", "device"]].drop_duplicates().values
        ):
            Cell(
                "", parse_workload(shape), Direction(direction), "", device=Device.parse(device),
                optimizer=Optimizer(optimizer) if optimizer else None,
            )  # fmt: skip


_WORDS: dict[str, Iterable[str]] = {
    "status": Status, "direction": Direction, "precision": Precision, "cache": Cache, "mode": Mode, "series": SeriesKind,
    "optimizer": ("", *Optimizer),
}  # fmt: skip


def empty(columns: Sequence[str]) -> pd.DataFrame:
    """A frame of these columns without rows."""
    return pd.DataFrame({name: pd.Series(dtype=COLUMNS[name].dtype) for name in columns})


def records_frame(records: Iterable[Record], environments: Iterable[Environment], suite: str) -> pd.DataFrame:
    """One row per record with RECORD_COLUMNS; the suite's name and the machine's id come from what stands beside them."""
    machines = {environment.id: environment.machine_id for environment in environments}
    rows = [_row(record, suite, machines.get(record.environment_id, "")) for record in records]
    if not rows:
        return empty(RECORD_COLUMNS)
    frame = pd.DataFrame({name: pd.Series([row[name] for row in rows], dtype=object) for name in RECORD_COLUMNS})
    frame["started_at"] = pd.to_datetime(frame["started_at"], utc=True)
    return conform(frame, RECORD_COLUMNS)


def _row(record: Record, suite: str, machine_id: str) -> dict[str, Any]:
    # One literal with the columns in the order of the schema: the place to look up where a column comes from.
    samples, memory, check = record.samples, record.memory, record.check
    first = samples.series[0] if samples and samples.series else None
    device = [series for series in samples.series if series.kind is SeriesKind.DEVICE] if samples else []
    return {
        "run_id": record.run_id,
        "suite": suite,
        "trial": record.trial,
        "order": record.order,
        **_axes(record.cell),
        "status": str(record.status),
        "reason": record.reason,
        "flags": ",".join(record.flags),
        "repeated_for": ",".join(record.repeated_for),
        "op": record.op,
        "settings": ", ".join(f"{key}={value}" for key, value in sorted((record.settings or {}).items())),
        "threads_used": record.threads_used,
        **_checked(check),
        **_timed(samples),
        "iterations": first.iterations if first else None,
        "stopped_by": first.stopped_by if first else "",
        "device_method": device[0].method if device else "",
        "flop_framework": record.flop_framework,
        **_remembered(memory),
        **_powered(record.power),
        **{f"spent_{step}_ns": (record.spent_ns or {}).get(step) for step in SPENT},
        "started_at": record.started_at,
        "environment_id": record.environment_id,
        "machine_id": machine_id,
    }


def _axes(cell: Cell) -> dict[str, Any]:
    return {
        "workload": cell.workload,
        "shape": str(cell.spec),
        "direction": str(cell.direction),
        "precision": str(cell.precision),
        "layout": cell.layout_text,
        "cache": str(cell.cache),
        "backend": cell.backend,
        "mode": str(cell.mode),
        "optimizer": str(cell.optimizer or ""),
        "device": str(cell.device),
        "threads": cell.threads,
        "count": cell.count,
        "network": cell.network,
        "scaled": cell.scaled,
        "cell": str(cell),
    }


def _checked(check: Check | None) -> dict[str, Any]:
    return {
        "check_method": check.method if check else "",
        "max_rel_err": check.max_rel_err if check else None,
        "tolerance": check.tolerance if check else None,
        "results_vary": check.results_vary if check else None,
        "compared_calls": ",".join(map(str, check.compared_calls)) if check else "",
    }


def _timed(samples: Samples | None) -> dict[str, Any]:
    names = ("first_call_ns", "warmup_ns", "wall_ns", "cpu_ns", "steal_ns")
    return {name: getattr(samples, name) if samples else None for name in names}


def _remembered(memory: Memory | None) -> dict[str, Any]:
    names = ("host_base_bytes", "host_peak_bytes", "device_base_bytes", "device_peak_bytes")
    return {
        **{name: getattr(memory, name) if memory else None for name in names},
        "memory_method": memory.method if memory else "",
    }


def _powered(power: Power | None) -> dict[str, Any]:
    return {
        "energy_j": power.energy_j if power else None,
        "energy_calls": power.calls if power else None,
        "energy_window_ns": power.window_ns if power else None,
        "energy_method": power.source if power else "",
        "gpu_clock_mhz": power.clock_mhz if power else None,
        "gpu_temperature_c": power.temperature_c if power else None,
        "gpu_throttle_reasons": ",".join(power.throttle_reasons) if power else "",
    }


def samples_frame(records: Iterable[Record]) -> pd.DataFrame:
    """One row per sample with SAMPLE_COLUMNS: by record, then by series, then in the order of measuring."""
    found = [(record, series) for record in records if record.samples for series in record.samples.series if series.block_ns]
    if not found:
        return empty(SAMPLE_COLUMNS)
    lengths = [len(series.block_ns) for _, series in found]

    def spread(values: Iterable[Any], dtype: Any) -> Any:
        """One value per series, repeated for each of its samples."""
        return np.repeat(np.array(list(values), dtype=dtype), lengths)

    block_ns = np.concatenate([np.array(series.block_ns, dtype=np.int64) for _, series in found])
    delay_ns = np.concatenate([_witnessed(series, series.run_delay_ns) for _, series in found])
    others_ns = np.concatenate([_witnessed(series, series.others_ns) for _, series in found])
    yardstick_ns = np.concatenate([_witnessed(series, series.yardstick_ns) for _, series in found])
    frame = pd.DataFrame(
        {
            "run_id": spread((record.run_id for record, _ in found), object),
            "trial": spread((record.trial for record, _ in found), np.int64),
            "cell": spread((str(record.cell) for record, _ in found), object),
            "iterations": spread((series.iterations for _, series in found), np.int64),
            "series": spread((str(series.kind) for _, series in found), object),
            "index": np.concatenate([np.arange(length) for length in lengths]),
            "block_ns": block_ns,
            "run_delay_ns": _whole(delay_ns),
            "others_ns": _whole(others_ns),
            "yardstick_ns": _whole(yardstick_ns),
            "contended": contended(block_ns, delay_ns, others_ns),
        }
    )
    return conform(frame, SAMPLE_COLUMNS)


def _witnessed(series: Series, values: tuple[int, ...]) -> np.ndarray:
    """One number of ns per block, NaN where it was not measured: a series has it for every block or for none."""
    count = len(series.block_ns)
    if not values:
        return np.full(count, np.nan)
    if len(values) != count:
        raise ValueError(f"{len(values)} readings of the witness for {count} blocks")
    return np.array(values, dtype=float)


def _whole(values: np.ndarray) -> pd.api.extensions.ExtensionArray:
    """Whole numbers, NaN as missing."""
    return pd.array(values, dtype="Float64").astype("Int64")
