"""Runs on disk as DataFrames: sealing a finished run to Parquet, loading one run or a whole store, finding a run by name.

A store is a folder with `runs/<run-id>/` in it. The journal of a run is the evidence and Parquet a faster copy of it:
where the copy is missing, damaged, older than the journal, or of another schema, the journal is read instead.
"""

import contextlib
import os
import re
import warnings
from collections.abc import Callable, Sequence, Set
from dataclasses import replace
from datetime import UTC, timedelta
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from harness import codec, drafts, units
from harness.columns import COLUMNS, KERNEL_COLUMNS, PROFILED_COLUMNS, RECORD_COLUMNS, SAMPLE_COLUMNS
from harness.errors import RunNotFoundError, UserError
from harness.plain import plain
from harness.profile import Profile
from harness.record import Environment, Record, Run, Status
from harness.store import frames, journal, parquet
from harness.store.latest import latest, latest_profiles

T = TypeVar("T")


class Stored(NamedTuple):
    """A run, and the folder in which it was found: a path is never made of what a run says of itself."""

    folder: Path
    run: Run


class _Table(NamedTuple):
    """One of the tables of a run: its file, its columns, and how it is made from what the journal holds."""

    file: str
    columns: tuple[str, ...]
    make: Callable[["_Content"], pd.DataFrame]


SAMPLES = "samples.parquet"
_RECORDS = _Table(
    "records.parquet", RECORD_COLUMNS, lambda of: frames.records_frame(of.records, of.environments, of.run.suite)
)  # fmt: skip
_SAMPLES = _Table(SAMPLES, SAMPLE_COLUMNS, lambda of: frames.samples_frame(of.records))
_KERNELS = _Table("kernels.parquet", KERNEL_COLUMNS, lambda of: frames.kernels_frame(of.profiles))
_PROFILES = _Table("profiles.parquet", PROFILED_COLUMNS, lambda of: frames.profiles_frame(of.profiles))
_OF_PROFILES = (_KERNELS, _PROFILES)  # which most runs do not have

# The size of the journal that a Parquet file was made from; a journal only grows, so another size means a stale copy.
_SEALED_FROM = b"convbench.journal_bytes"


def seal(folder: str | Path) -> None:
    """Write records.parquet and samples.parquet, and what there is of profiles, from the journal of a run; may be repeated.

    What a damaged line of the journal held is kept where the tables that are there hold it. Raises RunNotFoundError where there
    is no journal, UserError where it cannot be read.
    """
    folder = Path(folder)
    size = _journal_size(folder)
    if size is None:
        raise RunNotFoundError(f"{folder} has no {journal.JOURNAL} to seal")
    content = _Content(Stored(folder, journal.read_run(folder)))
    # That of the records comes last, since it says whether all of them are there.
    for kind, frame in [(kind, content.frame(kind)) for kind in (*_OF_PROFILES, _SAMPLES, _RECORDS)]:
        if kind in _OF_PROFILES and frame.empty and not (folder / kind.file).exists():
            continue
        table = pa.Table.from_pandas(frame, preserve_index=False)
        parquet.write(folder / kind.file, table, {_SEALED_FROM: str(size).encode()})
    drafts.sweep(folder)


def load(path: str | Path = "results") -> pd.DataFrame:
    """The records of every run of a store, or of one run folder: one row per run, trial and cell.

    By run, the oldest first, then by order. The columns are RECORD_COLUMNS; `attrs["store"]` holds the path. A run of the store
    that is damaged is left out with a warning that names it; a run folder that is damaged raises UserError. A store that is not
    there has no rows.
    """
    return _joined(each_run(path, partial(_of_run, kind=_RECORDS)), path, _RECORDS)


def samples(path: str | Path = "results") -> pd.DataFrame:
    """The samples of every run of a store, or of one run folder: one row per block; all else as `load` does."""
    return _joined(each_run(path, partial(_of_run, kind=_SAMPLES)), path, _SAMPLES)


def kernels(path: str | Path = "results") -> pd.DataFrame:
    """What ran inside the calls of every run of a store, or of one run folder: a row per cell and kernel, as `load` does."""
    return _joined(each_run(path, kernels_of), path, _KERNELS)


def records_of(of: Stored) -> pd.DataFrame:
    """The records of a run whose run.json was read, as `load` has them. Raises UserError where it is damaged."""
    return _joined([_of_run(of, _RECORDS)], of.folder, _RECORDS)


def samples_of(of: Stored) -> pd.DataFrame:
    """The samples of a run whose run.json was read, as `samples` has them. Raises UserError where it is damaged."""
    return _joined([_of_run(of, _SAMPLES)], of.folder, _SAMPLES)


def kernels_of(of: Stored) -> pd.DataFrame:
    """What ran inside the calls of a run whose run.json was read, with KERNEL_COLUMNS. Raises UserError where it is damaged."""
    return _joined([_of_run(of, _KERNELS)], of.folder, _KERNELS)


def profiles_of(of: Stored) -> pd.DataFrame:
    """How that was seen, with PROFILED_COLUMNS: all that is stored of the profiles of a run. Raises UserError as above."""
    return _joined([_of_run(of, _PROFILES)], of.folder, _PROFILES)


def runs(path: str | Path = "results") -> list[Run]:
    """The runs of a store, oldest first, each with its environments, or the one of a run folder; damaged ones as in `load`."""
    return [run for _, run in stored(path)]


def stored(path: str | Path = "results", known: Stored | None = None) -> list[Stored]:
    """The runs of a store with their folders, oldest first, or the one of a run folder.

    What cannot be read, is damaged, or stands in a folder of another name than its id, as a copy does, is left out with a
    warning that names it. `known` is a run whose run.json was read before, and is not read again.
    """
    found, left_out = _listing(Path(path), known)
    for why in left_out:
        journal.warn(f"left out: {why}")
    return found


def placed(store: str | Path, run: Run) -> Run:
    """A new run with its place behind all that the store holds, whatever the clock says."""
    places = [each.run.place for each in _listing(Path(store))[0]]
    if not places or run.place > max(places):
        return run
    newest, _ = max(places)
    return replace(run, placed_at=min(newest.astimezone(UTC) + timedelta(microseconds=1), codec.LATEST))


def _listing(path: Path, known: Stored | None = None) -> tuple[list[Stored], list[Exception]]:
    """The runs as `stored` has them, and why others are left out."""
    if _is_run(path):
        return [Stored(path, journal.read_run(path))], []
    found: list[Stored] = []
    left_out: list[Exception] = []
    for folder in _folders(path):
        try:
            again = known is not None and folder.name == known.folder.name and folder.samefile(known.folder)
            found.append(Stored(folder, _named_alike(folder, known.run if known and again else None)))
        except (UserError, OSError) as error:
            left_out.append(error)
    return sorted(found, key=lambda each: each.run.place), left_out


def _named_alike(folder: Path, run: Run | None = None) -> Run:
    """The run in a folder of a store, read where it is not known. Raises UserError for a copy.

    A copy would count as more trials, or be taken for the other.
    """
    run = run or journal.read_run(folder)
    if run.id != folder.name:
        raise UserError(f"{folder} holds run {run.id}: a copy, or under another name")
    return run


def find(path: str | Path, which: str) -> Path:
    """The folder of one run of a store.

    `which` is `latest`, `latest~1` (the one before), `tag:WORD` (the latest with that tag), an id, the unambiguous start of an
    id, or the path of a run folder. Raises RunNotFoundError, which lists what there is, UserError for a run that is damaged.
    """
    path = Path(path)
    back = re.fullmatch(r"latest(?:~(\d{1,9}))?", which)
    if not back and not which.startswith("tag:") and which in [folder.name for folder in _folders(path)]:
        _named_alike(path / "runs" / which)
        return path / "runs" / which
    if not back and which and _is_run(Path(which)):
        return Path(which)
    found, left_out = _listing(path)
    for why in left_out:  # it may be the one that is meant
        journal.warn(f"left out: {why}")
    ids = [run.id for _, run in found]
    if back:
        steps = int(back[1] or 0)
        if steps < len(found):
            return found[-1 - steps].folder
    elif which.startswith("tag:"):
        return _tagged(path, found, which.removeprefix("tag:"))
    matches = [each for each in found if which and each.run.id.startswith(which)]
    if len(matches) == 1 and not back:
        return matches[0].folder
    if matches and not back:
        raise RunNotFoundError(f"{which!r} is the start of {len(matches)} runs: {_listed([run.id for _, run in matches])}")
    raise RunNotFoundError(f"no run {which!r}: {path} holds {_listed(ids) if ids else 'no runs'}")


def _tagged(path: Path, found: Sequence[Stored], tag: str) -> Path:
    """The folder of the latest run with that tag. Raises RunNotFoundError, which names the tags that there are."""
    known: dict[str, None] = {}
    for folder, run in reversed(found):
        if tag in run.tags:
            return folder
        known.update(dict.fromkeys(run.tags))
    there_is = f"{path} holds runs with {plain(', '.join(known))}" if known else f"no run in {path} has a tag"
    raise RunNotFoundError(f"no run with tag {tag!r}: {there_is}")


def _listed(ids: Sequence[str]) -> str:
    """The newest ids, newest first: those are the ones that people mean."""
    shown = ", ".join(reversed(ids[-5:]))
    return f"{shown} and {len(ids) - 5} older" if len(ids) > 5 else shown


def _is_run(path: Path) -> bool:
    """Whether a path is a run folder, as far as this user may see."""
    try:
        return (path / journal.RUN).exists()
    except (OSError, ValueError):  # a name that is too long, or none at all
        return False


def _folders(path: Path) -> list[Path]:
    """What stands under `runs`; what is hidden is no run yet."""
    found = path / "runs"
    return sorted(entry for entry in found.iterdir() if entry.is_dir() and entry.name[0] != ".") if found.is_dir() else []


def each_run(path: str | Path, reader: Callable[[Stored], T]) -> list[T]:
    """What `reader` returns for every run of a store, or for the run folder at `path`."""
    path = Path(path)
    if _is_run(path):
        return [reader(Stored(path, journal.read_run(path)))]
    results = []
    for each in stored(path):
        try:
            results.append(reader(each))
        except (UserError, OSError) as error:
            journal.warn(f"left out: {error}")
    return results


def _joined(parts: Sequence[pd.DataFrame], path: str | Path, kind: _Table) -> pd.DataFrame:
    filled = [part for part in parts if len(part)]
    # One is taken as it is: a copy of a long run's samples is 50 MB.
    frame = filled[0] if len(filled) == 1 else pd.concat(filled, ignore_index=True) if filled else frames.empty(kind.columns)
    frame.attrs["store"] = os.fspath(path)
    return frame


def _of_run(of: Stored, kind: _Table) -> pd.DataFrame:
    """The table of one run, from Parquet where that is a true copy of the journal. Raises UserError where neither is whole."""
    path = of.folder / kind.file
    if kind in _OF_PROFILES and not path.exists() and (_sealed_last(of.folder) or sealed(of.folder)):
        return frames.empty(kind.columns)
    try:
        found = _sealed(of, kind)
    except parquet.DamagedError as error:
        if _journal_size(of.folder) is None:
            raise UserError(f"{path} is damaged, and there is no journal: {error}") from None
        frame = _Content(of).frame(kind)
        journal.warn(f"{path} is damaged, and {journal.JOURNAL} read instead: {error}")
        with contextlib.suppress(OSError, UserError), warnings.catch_warnings():  # a store that is only read
            warnings.simplefilter("ignore")  # of the journal, the same was said above
            if not of.folder.is_symlink():
                seal(of.folder)
        return frame
    return _Content(of).frame(kind) if found is None else found


def _sealed(of: Stored, kind: _Table) -> pd.DataFrame | None:
    """The table that stands in a Parquet file; None where the journal has to be read instead. Raises parquet.DamagedError."""
    size = _journal_size(of.folder)
    with parquet.reading(of.folder / kind.file) as file:
        if file is None or (size is not None and _made_from(file) != str(size)):
            return None
        if size is not None and not set(kind.columns) <= set(file.schema_arrow.names):
            return None  # the journal may tell what the older schema had no column for
        return _frame(file, of.run, kind)


def _made_from(file: pq.ParquetFile) -> str:
    """The size of the journal that it was made from, as text."""
    found: bytes = (file.schema_arrow.metadata or {}).get(_SEALED_FROM, b"")
    return found.decode()


def _frame(file: pq.ParquetFile, run: Run, kind: _Table) -> pd.DataFrame:
    """The frame in a Parquet file. Raises ValueError, or what its content makes impossible, where it is no copy of that run."""
    # By threads, and kept beside the frame, a long run's samples stand in memory twice.
    content = file.read(use_threads=False)
    for name in content.column_names:
        if name in COLUMNS and COLUMNS[name].dtype == "string" and content[name].null_count:
            raise ValueError(f"{name}: found a row without one")
    frame = content.to_pandas(split_blocks=True, self_destruct=True, use_threads=False)
    del content
    frame = frames.conform(frames.complete(frame, kind.columns), kind.columns)
    frames.check(frame, run.id)
    return frame


def unfinished(visits: int) -> str:
    """Why a cell that was visited so often has no figure in a run that was cut off, or goes on."""
    return f"not finished: {units.many(visits, 'visit')} so far" if visits else "the run has not come to this cell"


class _Content:
    """What the journal of a run holds, by order of measuring, to make its tables from. Raises UserError for another run's."""

    run: Run
    records: list[Record]
    environments: list[Environment]
    profiles: list[Profile]

    def __init__(self, of: Stored) -> None:
        self.folder, self.run = of
        found = journal.scan(self.folder)
        self.profiles = latest_profiles(found.profiles)
        named = {record.run_id for record in found.records} | {profile.run_id for profile in found.profiles}
        if others := named - {self.run.id}:
            path = self.folder / journal.JOURNAL
            raise UserError(f"{path} is of run {min(others)!r:.60}, and {journal.RUN} of {self.run.id}")
        self.environments, self.damaged = list(found.environments), found.damaged
        if self.run.planned_on:  # the machine of what no worker answered: such a record names no environment
            self.environments.append(replace(self.run.planned_on, id=""))
        self.read, self.visits = latest(found.records), found.visits
        self.records = sorted([*self.read, *self._unmade()], key=lambda record: record.order)

    def frame(self, kind: _Table) -> pd.DataFrame:
        """That table, with its columns and dtypes. Raises UserError where the records contradict themselves."""
        try:
            made = kind.make(self)
            frames.check(made, self.run.id)
        except (ValueError, ArithmeticError) as error:
            raise UserError(f"{self.folder / journal.JOURNAL} is damaged: {error}") from None
        return self._with_kept(made, kind) if self.damaged else made

    def _unmade(self) -> list[Record]:
        """A row for each step that has no record, as far as a plan tells: its line is damaged, or the run was killed before.

        What has a figure, and what was not run, comes in the order of the plan, while what failed comes before its neighbours.
        So in a run that was cut off, what lies behind the last record of those two kinds was never finished.
        """
        if not self.damaged and self.run.finished_at is not None:
            return []
        try:
            plan = journal.read_plan(self.folder)
        except (OSError, ValueError):
            return []
        there = {record.order for record in self.read}
        ended = self.run.finished_at is not None
        in_turn = [record.order for record in self.read if record.status in (Status.OK, Status.NOT_RUN)]
        last = len(plan) if ended else max(in_turn, default=-1) if self.damaged else -1
        lost = f"lost: {journal.JOURNAL}, {journal.lines_damaged(self.damaged)}; convbench run --resume measures it anew"
        return [
            Record(
                self.run.id, step.trial, step.order, step.cell, Status.NOT_RUN, self.run.started_at,
                lost if step.order < last else unfinished(len(self.visits.get(step.order, ()))),
            )
            for step in plan.steps
            if step.order not in there
        ]  # fmt: skip

    def _with_kept(self, made: pd.DataFrame, kind: _Table) -> pd.DataFrame:
        """The table with the rows of damaged lines that the one on disk was made from when they were whole."""
        try:
            with parquet.reading(self.folder / kind.file) as file:
                if file is None:
                    return made
                old, stale = _frame(file, self.run, kind), _made_from(file) != str(_journal_size(self.folder))
        except parquet.DamagedError:
            return made
        if not stale:
            return old
        read = {(record.trial, str(record.cell)) for record in self.read}
        read |= {(_NO_TRIAL, str(profile.cell)) for profile in self.profiles}
        old = _without(old, read)
        kept = set(_keys(old))
        place = {(record.trial, str(record.cell)): record.order for record in self.records}
        whole = pd.concat([_without(made, kept), old], ignore_index=True)
        order = pd.Series([place.get(key, len(place)) for key in _keys(whole)], index=whole.index, dtype="int64")
        return whole.loc[order.sort_values(kind="stable").index].reset_index(drop=True)


_NO_TRIAL = -1  # of what a run has once, as a profile


def _keys(frame: pd.DataFrame) -> list[tuple[int, str]]:
    """Trial and cell of each row, as far as there are trials."""
    return list(zip(frame["trial"] if "trial" in frame else [_NO_TRIAL] * len(frame), frame["cell"], strict=True))


def _without(frame: pd.DataFrame, keys: Set[tuple[int, str]]) -> pd.DataFrame:
    """The rows of other trials and cells."""
    return frame[np.array([key not in keys for key in _keys(frame)], dtype=bool)]  # a list of none would choose no columns


def sealed(folder: str | Path) -> bool:
    """Whether the tables of a run are a true copy of its journal: nothing was appended since they were made."""
    size, known = _journal_size(Path(folder)), parquet.metadata(Path(folder) / _RECORDS.file)
    return known is not None and (size is None or known.get(_SEALED_FROM, b"") == str(size).encode())


def _sealed_last(folder: Path) -> bool:
    """Whether nothing was written to the journal of a run since its tables, by the times of the files: without reading them."""
    path = folder / journal.JOURNAL
    with contextlib.suppress(OSError):
        return not path.exists() or path.stat().st_mtime_ns < (folder / _RECORDS.file).stat().st_mtime_ns
    return False


def pruned(folder: str | Path) -> bool:
    """Whether the samples of a run are not in the store, nor the journal that they could be made of again."""
    return not (Path(folder) / SAMPLES).exists() and _journal_size(Path(folder)) is None


def _journal_size(folder: Path) -> int | None:
    """Bytes of the journal; None where there is none, as in a run that was trimmed to its tables."""
    path = folder / journal.JOURNAL
    return path.stat().st_size if path.exists() else None
