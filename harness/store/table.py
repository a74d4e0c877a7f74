"""Runs on disk as DataFrames: sealing a finished run to Parquet, loading one run or a whole store, finding a run by name.

A store is a folder with `runs/<run-id>/` in it. The journal of a run is the evidence and Parquet a faster copy of it:
where the copy is missing, older than the journal, or of another schema, the journal is read instead.
"""

import contextlib
import os
import re
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from harness.errors import RunNotFoundError, UserError
from harness.record import RECORD_COLUMNS, SAMPLE_COLUMNS, Environment, Record, Run, Status
from harness.store import frames, journal

T = TypeVar("T")


class _Table(NamedTuple):
    """One of the two tables of a run: its file, its columns, and how it is made from records, environments and the suite."""

    file: str
    columns: tuple[str, ...]
    make: Callable[[Sequence[Record], Sequence[Environment], str], pd.DataFrame]


SAMPLES = "samples.parquet"
_RECORDS = _Table("records.parquet", RECORD_COLUMNS, frames.records_frame)
_SAMPLES = _Table(SAMPLES, SAMPLE_COLUMNS, lambda records, *_: frames.samples_frame(records))

# The size of the journal that a Parquet file was made from; a journal only grows, so another size means a stale copy.
_SEALED_FROM = b"convbench.journal_bytes"


def seal(folder: str | Path) -> None:
    """Write records.parquet and samples.parquet from the journal of a run; may be repeated.

    Raises RunNotFoundError where there is no journal, UserError where it is damaged.
    """
    folder = Path(folder)
    size = _journal_size(folder)
    if size is None:
        raise RunNotFoundError(f"{folder} has no {journal.JOURNAL} to seal")
    content = _Content(folder)
    for kind in (_RECORDS, _SAMPLES):
        table = pa.Table.from_pandas(content.frame(kind), preserve_index=False)
        table = table.replace_schema_metadata({**(table.schema.metadata or {}), _SEALED_FROM: str(size).encode()})
        draft = folder / f"{kind.file}.tmp"
        pq.write_table(table, draft, compression="zstd")
        draft.replace(folder / kind.file)


def load(path: str | Path = "results") -> pd.DataFrame:
    """The records of every run of a store, or of one run folder: one row per run, trial and cell, by run id, then order.

    The columns are RECORD_COLUMNS; `attrs["store"]` holds the path. A run of the store that is damaged is left out with
    a warning that names it; a run folder that is damaged raises UserError. A store that is not there has no rows.
    """
    return _joined(_each(path, partial(_of_run, kind=_RECORDS)), path, _RECORDS)


def samples(path: str | Path = "results") -> pd.DataFrame:
    """The samples of every run of a store, or of one run folder: one row per block; all else as `load` does."""
    return _joined(_each(path, partial(_of_run, kind=_SAMPLES)), path, _SAMPLES)


def runs(path: str | Path = "results") -> list[Run]:
    """The runs of a store, oldest first, each with its environments, or the one of a run folder; damaged ones as in `load`."""
    return _each(path, journal.read_run)


def find(path: str | Path, which: str) -> Path:
    """The folder of one run of a store.

    `which` is `latest`, `latest~1` (the one before), `tag:WORD` (the latest with that tag), an id, the unambiguous start of an
    id, or the path of a run folder. Raises RunNotFoundError, which lists what there is.
    """
    ids = [folder.name for folder in _folders(Path(path)) if (folder / journal.RUN).is_file()]
    if back := re.fullmatch(r"latest(?:~(\d+))?", which):
        steps = int(back[1] or 0)
        if steps < len(ids):
            return Path(path) / "runs" / ids[-1 - steps]
        raise RunNotFoundError(f"no run {which!r}: {_there_is(path, ids)}")
    if which.startswith("tag:"):
        return _tagged(Path(path), which.removeprefix("tag:"))
    if which in ids:
        return Path(path) / "runs" / which
    if (Path(which) / journal.RUN).is_file():
        return Path(which)
    matches = [name for name in ids if which and name.startswith(which)]
    if len(matches) == 1:
        return Path(path) / "runs" / matches[0]
    if matches:
        raise RunNotFoundError(f"{which!r} is the start of {len(matches)} runs: {_listed(matches)}")
    raise RunNotFoundError(f"no run {which!r}: {_there_is(path, ids)}")


def _tagged(path: Path, tag: str) -> Path:
    """The folder of the latest run with that tag. Raises RunNotFoundError, which names the tags that there are."""
    known: dict[str, None] = {}
    for folder in reversed(_folders(path)):
        with contextlib.suppress(UserError):  # no run, or a damaged one
            tags = journal.read_run(folder).tags
            if tag in tags:
                return folder
            known.update(dict.fromkeys(tags))
    there_is = f"{path} holds runs with {', '.join(known)}" if known else f"no run in {path} has a tag"
    raise RunNotFoundError(f"no run with tag {tag!r}: {there_is}")


def _there_is(path: str | Path, ids: Sequence[str]) -> str:
    return f"{path} holds {_listed(ids)}" if ids else f"{path} holds no runs"


def _listed(ids: Sequence[str]) -> str:
    """The newest ids, newest first: those are the ones that people mean."""
    shown = ", ".join(reversed(ids[-5:]))
    return f"{shown} and {len(ids) - 5} older" if len(ids) > 5 else shown


def _folders(path: Path) -> list[Path]:
    """What stands under `runs`, by name, and so by time."""
    found = path / "runs"
    return sorted(entry for entry in found.iterdir() if entry.is_dir()) if found.is_dir() else []


def _each(path: str | Path, reader: Callable[[Path], T]) -> list[T]:
    """What `reader` returns for every run of a store, or for the run folder at `path`."""
    path = Path(path)
    if (path / journal.RUN).exists():
        return [reader(path)]
    results = []
    for folder in _folders(path):
        try:
            results.append(reader(folder))
        except UserError as error:
            warnings.warn(f"left out: {error}", stacklevel=3)
    return results


def _joined(parts: Sequence[pd.DataFrame], path: str | Path, kind: _Table) -> pd.DataFrame:
    filled = [part for part in parts if len(part)]
    # One is taken as it is: a copy of a long run's samples is 50 MB.
    frame = filled[0] if len(filled) == 1 else pd.concat(filled, ignore_index=True) if filled else frames.empty(kind.columns)
    frame.attrs["store"] = os.fspath(path)
    return frame


def _of_run(folder: Path, kind: _Table) -> pd.DataFrame:
    """The table of one run, from Parquet where that is a true copy of the journal."""
    journal.read_run(folder)  # raises for a folder that is no run, or a damaged one
    sealed = _sealed(folder, kind)
    return _Content(folder).frame(kind) if sealed is None else sealed


def _sealed(folder: Path, kind: _Table) -> pd.DataFrame | None:
    """The table that stands in a Parquet file; None where the journal has to be read instead."""
    size = _journal_size(folder)
    try:
        with pq.ParquetFile(folder / kind.file) as file:
            made_from = (file.schema_arrow.metadata or {}).get(_SEALED_FROM, b"")
            if size is not None and made_from != str(size).encode():
                return None
            # By threads, and kept beside the frame, a long run's samples stand in memory twice.
            frame = file.read(use_threads=False).to_pandas(split_blocks=True, self_destruct=True)
            if size is None:  # with a journal, that is read instead: it may tell what the older schema had no column for
                frame = frames.complete(frame, kind.columns)
            return frames.conform(frame, kind.columns)
    except FileNotFoundError:
        return None
    except (pa.ArrowException, KeyError, TypeError, ValueError) as error:  # no Parquet, or that of an older schema
        if size is None:
            raise UserError(f"{folder / kind.file} is damaged, and there is no journal: {error}") from None
        return None


def latest(records: Iterable[Record]) -> list[Record]:
    """Of each cell and trial the record that counts, the last; it says how long those took that do not.

    There are several where a flag barred the first, and where a run that was gone on with measured what was missing. A second
    measurement that came to nothing does not count, since it would cost the figure that is there; a wrong result does.
    """
    found: dict[tuple[int, str], Record] = {}
    for record in records:
        key = record.trial, str(record.cell)
        counts, other = record, found.get(key)
        if other and record.repeated_for and record.status not in (Status.OK, Status.INCORRECT):
            counts, other = other, record
        if other and other.spent_ns:
            counts = replace(counts, spent_ns=_with(counts.spent_ns or {}, other.spent_ns))
        found[key] = counts
    return list(found.values())


def _with(spent_ns: Mapping[str, int], aside_ns: Mapping[str, int]) -> dict[str, int]:
    """Where the time went, that of a record which does not count with it; its workers started for all of the round."""
    start = aside_ns.get("start", 0)
    more = {"start": start + spent_ns.get("start", 0), "set_aside": sum(aside_ns.values()) - start}
    return {**spent_ns, **more}


class _Content:
    """What the journal of a run holds, by order of measuring, to make its tables from."""

    def __init__(self, folder: Path) -> None:
        self.suite = journal.read_run(folder).suite
        records, self.environments = journal.read(folder)
        self.records = sorted(latest(records), key=lambda record: record.order)

    def frame(self, kind: _Table) -> pd.DataFrame:
        """That table, with its columns and dtypes."""
        return kind.make(self.records, self.environments, self.suite)


def _journal_size(folder: Path) -> int | None:
    """Bytes of the journal; None where there is none, as in a run that was trimmed to its tables."""
    path = folder / journal.JOURNAL
    return path.stat().st_size if path.exists() else None
