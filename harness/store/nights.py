"""The nights of a store: `night.parquet` in a run folder, the small table that a history is read from.

It is made from the summary of a run and can be made again, but for a run whose samples were pruned together with its journal:
there it is what is left of the figures, and is taken as it stands.
"""

import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from harness.errors import UserError
from harness.record import COLUMNS, NIGHT_COLUMNS, NIGHTLY, Run
from harness.store import journal

NIGHT = "night.parquet"

# What a table was made from: the version of the figures and the size of the journal, which only grows.
_MADE_FROM = b"convbench.night"
_TYPES = {"string": pa.dictionary(pa.int32(), pa.string()), "int64": pa.int64(), "float64": pa.float64()}
_SCHEMA = pa.schema([(name, _TYPES[COLUMNS[name].dtype]) for name in NIGHT_COLUMNS])


def write(folder: str | Path, frame: pd.DataFrame, figures: int) -> None:
    """Keep the night of a run, a frame with NIGHT_COLUMNS made by that version of the figures."""
    folder = Path(folder)
    table = _table(frame).replace_schema_metadata({_MADE_FROM: _made_from(folder, figures)})
    draft = folder / f"{NIGHT}.tmp"
    pq.write_table(table, draft, compression="zstd")
    draft.replace(folder / NIGHT)


def load(
    store: str | Path, suite: str, make: Callable[[Path], pd.DataFrame], figures: int
) -> tuple[tuple[Run, ...], pd.DataFrame]:
    """The nights of a suite, oldest first, and their cells in one frame with NIGHT_COLUMNS, text categorical.

    A run counts that is tagged NIGHTLY. Where its table is missing, older than its journal, or by another version of the
    figures, `make` is asked for it with the run folder, and it is kept where the store can be written. A damaged run is left
    out with a warning that names it.
    """
    runs: list[Run] = []
    tables: list[pa.Table] = []
    for folder in _folders(Path(store)):
        try:
            run = journal.read_run(folder)
            if run.suite != suite or NIGHTLY not in run.tags:
                continue
            tables.append(_read(folder, figures) or _made(folder, make, figures))
            runs.append(run)
        except UserError as error:
            warnings.warn(f"left out: {error}", stacklevel=2)
    return tuple(runs), _frame(tables)


def keep(folder: str | Path, make: Callable[[Path], pd.DataFrame], figures: int) -> None:
    """Have the night of a run on disk, up to date: for what is about to remove its samples."""
    if _read(Path(folder), figures) is None:
        write(folder, make(Path(folder)), figures)


def _folders(store: Path) -> list[Path]:
    found = store / "runs"
    return sorted(entry for entry in found.iterdir() if (entry / journal.RUN).is_file()) if found.is_dir() else []


def _made(folder: Path, make: Callable[[Path], pd.DataFrame], figures: int) -> pa.Table:
    frame = make(folder)
    if os.access(folder, os.W_OK):
        write(folder, frame, figures)
    return _table(frame)


def _read(folder: Path, figures: int) -> pa.Table | None:
    """The table as it is kept; None where it has to be made."""
    try:
        with pq.ParquetFile(folder / NIGHT) as file:
            schema = file.schema_arrow
            stands = (schema.metadata or {}).get(_MADE_FROM) == _made_from(folder, figures)
            if schema.names != _SCHEMA.names or not (stands or not (folder / journal.JOURNAL).exists()):
                return None
            return file.read().replace_schema_metadata(None)
    except (OSError, pa.ArrowException):
        return None


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
    return table.combine_chunks().to_pandas(self_destruct=True)
