"""The nights of a store: `night.parquet` in a run folder, the small table that a history is read from.

It is made from the summary of a run and can be made again, but for a run whose samples were pruned together with its journal:
there it is what is left of the figures, and is taken as it stands.
"""

import contextlib
import os
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa

from harness.columns import COLUMNS, NIGHT_COLUMNS
from harness.errors import UserError
from harness.record import NIGHTLY, Run, Status
from harness.store import journal, parquet
from harness.store.table import Stored

NIGHT = "night.parquet"

# What a table was made from: the version of the figures and the size of the journal, which only grows.
_MADE_FROM = b"convbench.night"
_TYPES = {"string": pa.dictionary(pa.int32(), pa.string()), "int64": pa.int64(), "float64": pa.float64()}
_SCHEMA = pa.schema([(name, _TYPES[COLUMNS[name].dtype]) for name in NIGHT_COLUMNS])


def write(folder: str | Path, frame: pd.DataFrame, figures: int) -> None:
    """Keep the night of a run, a frame with NIGHT_COLUMNS made by that version of the figures."""
    folder = Path(folder)
    parquet.write(folder / NIGHT, _table(frame), {_MADE_FROM: _made_from(folder, figures)})


def load(
    found: Iterable[Stored], suite: str, make: Callable[[Stored], pd.DataFrame], figures: int
) -> tuple[tuple[Run, ...], pd.DataFrame]:
    """The nights of a suite, oldest first, and their cells in one frame with NIGHT_COLUMNS, text categorical.

    A run counts that is tagged NIGHTLY. Where its table is missing, older than its journal, or by another version of the
    figures, `make` is asked for it, and it is kept where the store can be written. A damaged run is left out with a warning
    that names it. `found` are the runs of the store, oldest first, of any suite.
    """
    runs: list[Run] = []
    tables: list[pa.Table] = []
    for of in found:
        if of.run.suite != suite or NIGHTLY not in of.run.tags:
            continue
        try:
            tables.append(_kept_or_made(of, make, figures))
            runs.append(of.run)
        except (UserError, OSError) as error:
            journal.warn(f"left out: {error}")
    return tuple(runs), _frame(tables)


def keep(of: Stored, make: Callable[[Stored], pd.DataFrame], figures: int) -> None:
    """Have the night of a run on disk, up to date: for what is about to remove its samples.

    Raises UserError where it is damaged and cannot be made again.
    """
    if _read(of, figures) is None:
        write(of.folder, make(of), figures)


def kept(of: Stored) -> pd.DataFrame | None:
    """What is left of the figures of a run whose samples are not in the store, with NIGHT_COLUMNS; None where nothing is."""
    if (of.folder / journal.JOURNAL).exists():
        return None
    table = _read(of, 0)
    return None if table is None else _frame([table])


def _kept_or_made(of: Stored, make: Callable[[Stored], pd.DataFrame], figures: int) -> pa.Table:
    try:
        kept = _read(of, figures)
    except UserError as error:  # made again below, and not kept: what it held may be nowhere else
        journal.warn(str(error))
        return _table(make(of))
    if kept is not None:
        return kept
    frame = make(of)
    if os.access(of.folder, os.W_OK) and not of.folder.is_symlink():
        with contextlib.suppress(OSError):  # a full disk, or another who wrote it meanwhile
            write(of.folder, frame, figures)
    return _table(frame)


def _read(of: Stored, figures: int) -> pa.Table | None:
    """The table as it is kept; None where it has to be made. Raises UserError where it is damaged and cannot be."""
    folder, run = of
    path, pruned = folder / NIGHT, not (folder / journal.JOURNAL).exists()
    try:
        with parquet.reading(path) as file:
            if file is None:
                return None
            schema = file.schema_arrow
            stands = (schema.metadata or {}).get(_MADE_FROM) == _made_from(folder, figures)
            if schema.names != _SCHEMA.names[: len(schema.names)] or not (stands or pruned):
                return None
            table = _whole(file.read(use_threads=False)).replace_schema_metadata(None).cast(_SCHEMA)
            _check(table, run)
            return table
    except parquet.DamagedError as error:
        if pruned:
            raise UserError(f"{path} is damaged, and the samples are pruned: {error}") from None
        return None


def _whole(table: pa.Table) -> pa.Table:
    """The table of a night with all columns: one that was made before some of them were kept says nothing there."""
    for field in list(_SCHEMA)[len(table.schema.names) :]:
        told = (
            pa.nulls(len(table), field.type) if pa.types.is_floating(field.type) else pa.array([""] * len(table), pa.string())
        )
        table = table.append_column(field.name, told)
    return table


def _check(table: pa.Table, run: Run) -> None:
    """Raise ValueError where a table is not of that run or says what no night can say."""
    for name, words in (("run_id", {run.id}), ("status", {*map(str, Status)})):
        if others := set(table[name].unique().to_pylist()) - words:
            raise ValueError(f"{name}: found {str(others.pop())!r:.60}")
    if any(table[field.name].null_count for field in _SCHEMA if not pa.types.is_floating(field.type)):
        raise ValueError("found a row without a cell")


def _made_from(folder: Path, figures: int) -> bytes:
    path = folder / journal.JOURNAL
    return f"{figures} {path.stat().st_size if path.exists() else 0}".encode()


def _table(frame: pd.DataFrame) -> pa.Table:
    arrays = []
    for field in _SCHEMA:
        values = frame[field.name]
        if pa.types.is_dictionary(field.type):
            arrays.append(pa.array(values.astype(object), pa.string()).dictionary_encode())
        else:
            arrays.append(pa.array(values.to_numpy(), field.type, from_pandas=True))
    return pa.Table.from_arrays(arrays, schema=_SCHEMA)


def _frame(tables: Sequence[pa.Table]) -> pd.DataFrame:
    table = pa.concat_tables([_SCHEMA.empty_table(), *tables]).unify_dictionaries()
    frame: pd.DataFrame = table.combine_chunks().to_pandas(self_destruct=True, use_threads=False)
    return frame
