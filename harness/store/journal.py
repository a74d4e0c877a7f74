"""What is written while a run goes on: `run.json`, and the journal, one JSON line per record or environment.

Here belongs writing and reading those two files. Frames belong to `table`, which also finds the runs of a store.
"""

import dataclasses
import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from harness import codec
from harness.errors import RunNotFoundError, UserError
from harness.record import Environment, Record, Run

RUN = "run.json"
JOURNAL = "journal.jsonl"

# A line is an object of one field, whose name says what it holds.
_KINDS: dict[str, type[Record | Environment]] = {"record": Record, "environment": Environment}
_TAGS = {kind: tag for tag, kind in _KINDS.items()}


def create(root: str | Path, run: Run) -> Path:
    """The new folder `root/runs/<run.id>`, holding run.json. Raises FileExistsError where that run is there already."""
    folder = Path(root) / "runs" / run.id
    folder.mkdir(parents=True)
    _write_run(folder, run)
    return folder


def finish(folder: str | Path, run: Run) -> None:
    """Rewrite run.json, now with `finished_at` and the environments; the old one or the new one is there at any moment."""
    _write_run(Path(folder), run)


def _write_run(folder: Path, run: Run) -> None:
    draft = folder / f"{RUN}.tmp"
    with draft.open("w", encoding="utf-8") as file:
        file.write(json.dumps(codec.encode(run), indent=1) + "\n")
        file.flush()
        os.fsync(file.fileno())  # else a power cut may leave the new name on an empty file
    draft.replace(folder / RUN)


def read_run(folder: str | Path) -> Run:
    """The Run that run.json holds; the environments of one that never finished come from its journal.

    Raises RunNotFoundError where there is no run.json, UserError where it is broken.
    """
    folder = Path(folder)
    try:
        text = (folder / RUN).read_bytes()
    except OSError:
        raise RunNotFoundError(f"{folder} is no run: it holds no {RUN}") from None
    try:
        run = codec.decode(Run, json.loads(text))
    except (ValueError, TypeError) as error:
        raise UserError(f"{folder / RUN} is damaged: {error}") from None
    if run.finished_at is None and not run.environments:
        return dataclasses.replace(run, environments=_environments(folder))
    return run


class Journal:
    """The journal of one run, open for appending; a context manager.

    Each line is flushed, so it is the kernel's once `append` returns and survives the death of this process, however
    sudden. It is not synced: only a power cut could take it then, and waiting for a disk after every cell would put
    disk traffic beside the next one. Closing syncs once.
    """

    def __init__(self, folder: str | Path) -> None:
        path = Path(folder) / JOURNAL
        self._file = path.open("a+b")
        self._mend()

    def _mend(self) -> None:
        """Make the file end at the end of a line: a resumed run must not write on behind half a line."""
        self._file.seek(0)
        lines = self._file.read().split(b"\n")
        if tail := lines[-1]:
            if _entry(tail) is None:
                self._file.truncate(self._file.tell() - len(tail))
            else:
                self._file.write(b"\n")
            self._file.flush()

    def append(self, event: Record | Environment) -> None:
        """Write one line and hand it to the kernel."""
        line = json.dumps({_TAGS[type(event)]: codec.encode(event)}, separators=(",", ":"))
        self._file.write(line.encode() + b"\n")
        self._file.flush()

    def close(self) -> None:
        """Sync to disk and close."""
        if not self._file.closed:
            os.fsync(self._file.fileno())
            self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def read(folder: str | Path) -> tuple[list[Record], list[Environment]]:
    """The records and the environments of a run in the order in which they came; none where there is no journal.

    A last line that was cut off in writing is left out. Raises UserError, naming the line, for any other that is broken.
    """
    records: list[Record] = []
    environments: list[Environment] = []
    for place, tag, data in _entries(Path(folder) / JOURNAL):
        try:
            event = codec.decode(_KINDS[tag], data)
        except (ValueError, TypeError) as error:
            raise UserError(f"{place} is damaged: {error}") from None
        if isinstance(event, Record):
            records.append(event)
        elif event not in environments:  # every worker sends its own, most of them alike
            environments.append(event)
    return records, environments


def _environments(folder: Path) -> tuple[Environment, ...]:
    """The environments of a journal, without the work of decoding its records."""
    try:
        found = [codec.decode(Environment, data) for _, tag, data in _entries(folder / JOURNAL) if tag == "environment"]
    except (ValueError, TypeError) as error:
        raise UserError(f"{folder / JOURNAL} is damaged: {error}") from None
    return tuple({environment.id: environment for environment in found}.values())


def _entries(path: Path) -> Iterator[tuple[str, str, Any]]:
    """The place, the kind and the data of each line."""
    lines = path.read_bytes().split(b"\n") if path.exists() else [b""]
    tail = lines.pop()  # empty, unless the writer died in the middle of a line
    for number, line in enumerate(lines, start=1):
        place = f"{path}, line {number},"
        entry = _entry(line)
        if entry is None:
            raise UserError(f"{place} is damaged: no JSON object of one field named {' or '.join(_KINDS)}")
        yield place, *entry
    entry = _entry(tail)
    if entry is not None:
        yield f"{path}, the last line,", *entry


def _entry(line: bytes) -> tuple[str, Any] | None:
    """The kind and the data of one line, or None where it is not whole."""
    try:
        data = json.loads(line)
    except ValueError:  # undecodable bytes too
        return None
    if not isinstance(data, dict) or len(data) != 1 or next(iter(data)) not in _KINDS:
        return None
    return next(iter(data.items()))
