"""Records and profiles to the frames that stand on disk: a row per record, per sample, per profile and per kernel.

Here belongs what a column is made from. Where the records come from, and where the frames go, is `table`'s business.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from harness.axes import OPTIONS, Cache, Device, Direction, Mode, Optimizer, Precision
from harness.columns import COLUMNS, KERNEL_COLUMNS, PROFILED_COLUMNS, RECORD_COLUMNS, SAMPLE_COLUMNS
from harness.flags import Flag
from harness.profile import TRACE_NAME, Kind, Profile, Role
from harness.record import CONTENDED_SHARE, CONTENDED_VISIT, Environment, Record, Series, SeriesKind, Status, contended
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
    kept, wanted = frame[list(columns)], {name: COLUMNS[name].dtype for name in columns}
    found = zip(wanted.items(), kept.dtypes, strict=True)
    others = {name: dtype for (name, dtype), present in found if str(present) != dtype}
    return kept.astype(others) if others else kept  # to convert a frame costs even where it is right already


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
    if "trace" in frame and (others := {name for name in frame["trace"].unique() if name and not TRACE_NAME.fullmatch(name)}):
        raise ValueError(f"trace: found {min(others)!r:.60}")  # it becomes a path
    if "shape" in frame:
        for shape, direction, optimizer, device in (
            frame[["shape", "direction", "optimizer", "device"]].drop_duplicates().values
        ):
            Cell(
                "", parse_workload(shape), Direction(direction), "", device=Device.parse(device),
                optimizer=Optimizer(optimizer) if optimizer else None,
            )  # fmt: skip


_WORDS: dict[str, Iterable[str]] = {
    "status": Status, "direction": Direction, "precision": Precision, "cache": Cache, "mode": Mode, "series": SeriesKind,
    "optimizer": ("", *Optimizer), "kind": Kind, "role": Role,
    **{axis: ("", *type(option.default)) for axis, option in OPTIONS.items()},
}  # fmt: skip


def empty(columns: Sequence[str]) -> pd.DataFrame:
    """A frame of these columns without rows."""
    return pd.DataFrame({name: pd.Series(dtype=COLUMNS[name].dtype) for name in columns})


def records_frame(records: Iterable[Record], environments: Iterable[Environment], suite: str) -> pd.DataFrame:
    """One row per record with RECORD_COLUMNS; the suite's name and the machine's id come from what stands beside them."""
    machines = {environment.id: environment.machine_id for environment in environments}
    return _framed([_row(record, suite, machines.get(record.environment_id, "")) for record in records], RECORD_COLUMNS)


def _framed(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> pd.DataFrame:
    """A frame of these columns, a row each."""
    if not rows:
        return empty(columns)
    frame = pd.DataFrame({name: pd.Series([row[name] for row in rows], dtype=object) for name in columns})
    for name in columns:
        if COLUMNS[name].dtype.startswith("datetime64"):
            frame[name] = pd.to_datetime(frame[name], utc=True)
    return conform(frame, columns)


def _row(record: Record, suite: str, machine_id: str) -> dict[str, Any]:
    beside = {"suite": suite, "machine_id": machine_id}
    return {name: beside[name] if name in beside else _stored(record, path, dtype) for name, path, dtype in _PATHS}


def _paths(columns: Sequence[str]) -> list[tuple[str, list[str], str]]:
    """Of each column its name, the attributes that lead to it, and its dtype."""
    return [(name, (COLUMNS[name].of or name).split("."), COLUMNS[name].dtype) for name in columns]


_PATHS = _paths(RECORD_COLUMNS)


def _stored(record: Record | Profile, path: Sequence[str], dtype: str) -> Any:
    """What a record has at the end of a path of attributes and keys, as a frame stores it."""
    value: Any = record
    for name in path:
        if value is None:
            break
        value = value.get(name) if isinstance(value, dict) else getattr(value, name)
    if dtype != "string":
        return value
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    if isinstance(value, dict):
        return ", ".join(f"{key}={each}" for key, each in sorted(value.items()))
    return "" if value is None else str(value)


def profiles_frame(profiles: Iterable[Profile]) -> pd.DataFrame:
    """One row per profile with PROFILED_COLUMNS."""
    return _framed([_profiled(profile) for profile in profiles], PROFILED_COLUMNS)


def _profiled(profile: Profile) -> dict[str, Any]:
    return {**{name: _stored(profile, path, dtype) for name, path, dtype in _PROFILED}, "sources": "; ".join(profile.sources)}


def kernels_frame(profiles: Iterable[Profile]) -> pd.DataFrame:
    """One row per kernel with KERNEL_COLUMNS: by profile, the one that took most time first."""
    return _framed([row for profile in profiles for row in _kernels(profile)], KERNEL_COLUMNS)


def _kernels(profile: Profile) -> Iterator[dict[str, Any]]:
    axes = {name: _stored(profile, path, dtype) for name, path, dtype in _PROFILED}
    for rank, kernel in enumerate(sorted(profile.kernels, key=lambda each: -each.kernel_ns), start=1):
        told = {**vars(kernel), "kind": str(kernel.kind), "role": str(kernel.role), "kernel_threads": kernel.threads}
        share = kernel.kernel_ns / profile.watched_ns if profile.watched_ns else math.nan
        yield {**told, **axes, "rank": rank, "share": share}


_PROFILED = _paths(PROFILED_COLUMNS)


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
    visits = np.concatenate([_visited(record, series) for record, series in found])
    share = np.where(np.isnan(visits[:, 0]), CONTENDED_SHARE, CONTENDED_VISIT)
    frame = pd.DataFrame(
        {
            "run_id": spread((record.run_id for record, _ in found), object),
            "trial": spread((record.trial for record, _ in found), np.int64),
            "cell": spread((str(record.cell) for record, _ in found), object),
            "iterations": spread((series.iterations for _, series in found), np.int64),
            "series": spread((str(series.kind) for _, series in found), object),
            **{name: _whole(visits[:, place]) for place, name in enumerate(_VISIT)},
            "index": np.concatenate(_places(found)),
            "block_ns": block_ns,
            "run_delay_ns": _whole(delay_ns),
            "others_ns": _whole(others_ns),
            "yardstick_ns": _whole(yardstick_ns),
            "contended": contended(block_ns, delay_ns, others_ns, share),
        }
    )
    return conform(frame, SAMPLE_COLUMNS)


def _places(found: Sequence[tuple[Record, Series]]) -> list[np.ndarray]:
    """The place of each block among those of its kind in its record, in which another process may have begun a new series."""
    places, ends = [], dict[tuple[int, SeriesKind], int]()
    for record, series in found:
        key, count = (id(record), series.kind), len(series.block_ns)
        begin = ends.get(key, 0)
        places.append(np.arange(begin, begin + count))
        ends[key] = begin + count
    return places


_VISIT = ("process", "turn", "place", "visit")


def _visited(record: Record, series: Series) -> np.ndarray:
    """The columns _VISIT of a series, one row per block; NaN where its record knows no visits."""
    count = len(series.block_ns)
    if not series.visits:
        return np.full((count, len(_VISIT)), np.nan)
    if (told := sum(each.blocks for each in series.visits)) != count:
        raise ValueError(f"{told} blocks in the visits of a series of {count}")
    assert record.samples is not None
    turns = sorted({each.turn for part in record.samples.series for each in part.visits})
    rows = [(each.process, each.turn, each.place, turns.index(each.turn)) for each in series.visits]
    return np.repeat(np.array(rows, dtype=float), [each.blocks for each in series.visits], axis=0)


def _witnessed(series: Series, values: tuple[int, ...]) -> np.ndarray:
    """One number of ns per block, NaN where it was not measured: a series has it for every block or for none."""
    count = len(series.block_ns)
    if not values:
        return np.full(count, np.nan)
    if len(values) != count:
        raise ValueError(f"{len(values)} readings of the witness for {count} blocks")
    return np.array(values, dtype=float)


def _whole(values: np.ndarray) -> "pd.api.extensions.ExtensionArray | np.ndarray":
    """Whole numbers, NaN as missing."""
    return pd.array(values, dtype="Float64").astype("Int64")
