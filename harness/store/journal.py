"""What is written while a run goes on: `run.json`, `plan.json`, and the journal of visits, records, profiles, environments.

Here belongs writing and reading these files. Frames belong to `table`, which also finds the runs of a store.
"""

import contextlib
import dataclasses
import errno
import fcntl
import json
import os
import re
import shutil
import sys
import time
import warnings
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from harness import codec, drafts
from harness.errors import BusyError, RunNotFoundError, StoreError, UserError
from harness.plain import plain
from harness.plan import Budget, Plan
from harness.profile import Profile
from harness.record import Environment, Record, Run, SeriesKind, Visit, joined

RUN = "run.json"
JOURNAL = "journal.jsonl"
PLAN = "plan.json"  # beside run.json: every measurement that was to be made

_HALF = ".new-"  # before the name of a folder that is not yet a run; hidden, so that nobody takes it for one
_HALF_FOR_S = 3600.0

# A run's id becomes the name of folders: of its own, of its report's, and a part of links.
_ID = re.compile(r"[A-Za-z0-9._-]{1,200}")

# A line is an object of one field, whose name says what it holds, and of the checksum of what stands before it.
Entry = Record | Environment | Visit | Profile
_KINDS: dict[str, type[Entry]] = {"record": Record, "environment": Environment, "visit": Visit, "profile": Profile}
_TAGS = {kind: tag for tag, kind in _KINDS.items()}
_VISIT_HEAD = re.compile(rb'\{"visit":\{"order":(\d+),"process":\d+,"turn":(\d+),')
_PIECE = 2**20  # bytes of a journal that are read at once
_CHECKED, _LENGTH = re.compile(rb',"crc32":"([0-9a-f]{8})"}'), 20


def create(root: str | Path, run: Run, plan: Plan | None = None) -> Path:
    """The new folder `root/runs/<run.id>`, holding run.json and the plan; it appears with both.

    Raises FileExistsError where that run is there already, UserError where what is asked for could not be read again.
    """
    try:
        _fit(codec.loads(Run, codec.dumps(run)))
    except ValueError as error:
        raise UserError(f"the run cannot be kept: {error}") from None
    folder = Path(root) / "runs" / run.id
    if folder.exists():
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(folder))
    draft = folder.with_name(f"{_HALF}{run.id}")
    draft.mkdir(parents=True)
    try:
        if plan:
            write_plan(draft, plan)
        _write_run(draft, run)
        draft.rename(folder)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    _sweep(folder.parent)
    return folder


def _sweep(runs: Path) -> None:
    """Remove what processes left that were killed in `create`, once nobody can be writing there any more."""
    for draft in runs.glob(f"{_HALF}*"):
        with contextlib.suppress(OSError):
            if time.time() - draft.lstat().st_mtime > _HALF_FOR_S:
                shutil.rmtree(draft, ignore_errors=True)


def finish(folder: str | Path, run: Run) -> None:
    """Rewrite run.json, now with `finished_at` and the environments; the old one or the new one is there at any moment."""
    _write_run(Path(folder), run)


def _write_run(folder: Path, run: Run) -> None:
    drafts.write(folder / RUN, json.dumps(codec.encode(run), indent=1) + "\n", sync=True)


def read_run(folder: str | Path) -> Run:
    """The Run that run.json holds; the environments of one that never finished come from its journal.

    Raises RunNotFoundError where there is no run.json, UserError where it is broken or cannot be read.
    """
    folder = Path(folder)
    try:
        run = _fit(codec.decode(Run, codec.parse(codec.read(folder / RUN), finite=True)))
    except (FileNotFoundError, NotADirectoryError):
        raise RunNotFoundError(f"{folder} is no run: it holds no {RUN}") from None
    except OSError as error:
        raise UserError(f"{folder / RUN} cannot be read: {error.strerror or error}") from None
    except (ValueError, TypeError) as error:
        raise UserError(f"{folder / RUN} is damaged: {error}") from None
    if run.finished_at is None and not run.environments:
        return dataclasses.replace(run, environments=tuple(scan(folder, records=False).environments))
    return run


def _fit(run: Run) -> Run:
    """The run. Raises ValueError where its id cannot name a folder."""
    if not _ID.fullmatch(run.id) or run.id in (".", ".."):
        raise ValueError(f"id: found {run.id!r:.60}; allowed: up to 200 letters, digits and . _ -, but not . or .. alone")
    return run


def write_plan(folder: str | Path, plan: Plan) -> None:
    """Keep what the run is to measure: a run that was cut off goes on with it."""
    drafts.write(Path(folder) / PLAN, codec.dumps(plan))


def read_plan(folder: str | Path) -> Plan:
    """What the run is to measure, without keys of its budget that only older versions knew.

    Raises OSError where no plan.json can be read, ValueError where it is broken.
    """
    data = codec.parse(codec.read(Path(folder) / PLAN), finite=True)
    if isinstance(data, dict) and isinstance(budget := data.get("budget"), dict):
        known = {each.name for each in dataclasses.fields(Budget)}
        data["budget"] = {name: value for name, value in budget.items() if name in known}
    return codec.decode(Plan, data)


def open_elsewhere(folder: Path) -> bool:
    """Whether a process has the journal of a run open for appending, on whatever host that shares locks with this one."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder / JOURNAL, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
    return False


class Journal:
    """The journal of one run, open for appending; a context manager. Raises BusyError where another process has it open.

    Each line is flushed, so it is the kernel's once `append` returns and survives the death of this process, however
    sudden. It is not synced: only a power cut could take it then, and waiting for a disk after every cell would put
    disk traffic beside the next one. Closing syncs once.
    """

    def __init__(self, folder: str | Path) -> None:
        self._path = Path(folder) / JOURNAL
        self._file = drafts.appending(self._path).detach()  # unbuffered: what is written is the kernel's
        self._status = os.fstat(self._file.fileno())
        try:
            fcntl.flock(self._file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise BusyError(f"{folder} is being measured by another process") from None
        except OSError:  # a file system without locks
            pass
        self._mend()

    def _mend(self) -> None:
        """Make the file end at the end of a line: a resumed run must not write on behind half a line."""
        self._file.seek(0)
        lines = self._file.read().split(b"\n")
        if tail := lines[-1]:
            try:
                _entry(tail)
                self._file.write(b"\n")
            except ValueError:
                self._file.truncate(self._file.tell() - len(tail))

    def append(self, event: Entry) -> None:
        """Write one line and hand it to the kernel, whole or not at all. Samples that visits hold are not written again.

        Raises StoreError where that cannot be, and where the file is no longer where readers will look for it.
        """
        if isinstance(event, Record):
            event = _bare(event)
        line = json.dumps({_TAGS[type(event)]: codec.encode(event)}, separators=(",", ":")).encode()[:-1]
        line = b'%s,"crc32":"%08x"}\n' % (line, zlib.crc32(line))
        end = os.fstat(self._file.fileno()).st_size
        try:
            while line:  # a disk that fills up takes a part
                line = line[self._file.write(line) :]
        except OSError as error:
            with contextlib.suppress(OSError):
                self._file.truncate(end)
            raise StoreError(f"{self._path} cannot be written: {error.strerror}") from error
        if self.stands_at() != self._path.parent.absolute():
            raise StoreError(f"{self._path} was moved or removed")

    def stands_at(self) -> Path | None:
        """The folder in which the file stands by now, wherever it was moved; None where it was removed."""
        for path in (self._path.absolute(), _name_of(self._file.fileno())):
            with contextlib.suppress(OSError):
                if os.path.samestat(path.stat(), self._status):
                    return path.parent
        return None

    def content(self) -> bytes:
        """All lines so far, also of a file that was removed."""
        self._file.seek(0)
        return self._file.readall()

    def sync(self) -> None:
        """Have what was appended on the disk."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Sync to disk and close."""
        if not self._file.closed:
            try:
                self.sync()
            finally:
                self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with contextlib.suppress(*([OSError] if error else [])):  # what went wrong before says more
            self.close()


def _name_of(descriptor: int) -> Path:
    """The path of an open file, as far as the kernel tells."""
    with contextlib.suppress(OSError):
        return Path(os.readlink(f"/proc/self/fd/{descriptor}"))
    return Path()


def _bare(record: Record) -> Record:
    """The record without the samples that its visits hold."""
    if record.samples is None:
        return record
    rest = tuple(series for series in record.samples.series if not series.visits)
    return dataclasses.replace(record, samples=dataclasses.replace(record.samples, series=rest))


@dataclass(frozen=True)
class Content:
    """What a journal holds, in the order in which it came, and the numbers of its damaged lines.

    A record of which there are visits has their samples. `visits` are those of all steps, by the order of the step.
    """

    records: list[Record]
    environments: list[Environment]
    damaged: tuple[int, ...] = ()
    visits: dict[int, list[Visit]] = dataclasses.field(default_factory=dict)
    profiles: list[Profile] = dataclasses.field(default_factory=list)


def read(folder: str | Path) -> tuple[list[Record], list[Environment]]:
    """The records and the environments of a run in the order in which they came; none where there is no journal.

    A last line that was cut off in writing is left out, and any other that is broken too, with a warning that names it. Raises
    UserError where there is a journal that cannot be read.
    """
    found = scan(folder)
    return found.records, found.environments


def scan(folder: str | Path, *, records: bool = True) -> Content:
    """What the journal of a run holds, as `read` does; without `records` the work of decoding them is spared."""
    path = Path(folder) / JOURNAL
    found: list[Record] = []
    environments: dict[str, Environment] = {}
    visits: dict[int, list[Visit]] = {}
    profiles: list[Profile] = []
    damaged: dict[int, Exception] = {}
    for number, line in _lines(path):
        try:
            tag, data = _entry(line)
            if tag == "environment":  # every worker sends its own, most of them alike
                environment = codec.decode(Environment, data)
                environments.setdefault(environment.id, environment)
            elif tag == "visit" and records:
                visit = codec.decode(Visit, data)
                visits.setdefault(visit.order, []).append(visit)
            elif tag == "profile" and records:
                profiles.append(codec.decode(Profile, data))
            elif records:
                found.append(codec.decode(Record, data))
        except (ValueError, TypeError) as error:
            damaged[number] = error
    if damaged and records:
        warn(f"{path}: {lines_damaged(damaged)}, and left out: {next(iter(damaged.values()))}")
    whole = [_with_samples(record, visits.get(record.order, [])) for record in found]
    if damaged:  # whose visits are all among those lines has no figure left
        stays = {SeriesKind.STAY}
        whole = [record for record in whole if record.samples is None or {each.kind for each in record.samples.series} - stays]
    return Content(whole, list(environments.values()), tuple(damaged), visits, profiles)


class Tail:
    """The lines that a journal gains, read on from where the last look ended."""

    def __init__(self, folder: str | Path) -> None:
        self._path, self._at = Path(folder) / JOURNAL, 0

    def lines(self) -> Iterator[bytes]:
        """The whole lines that are new, piece by piece; none where there is no journal, or it cannot be read."""
        with contextlib.suppress(OSError):
            descriptor = os.open(self._path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            with open(descriptor, "rb", buffering=0) as file:
                rest = b""
                file.seek(self._at)
                while piece := file.read(_PIECE):
                    *whole, rest = (rest + piece).split(b"\n")
                    for line in whole:
                        self._at += len(line) + 1
                        yield line


def visit_in(line: bytes) -> tuple[int, int, bool] | None:
    """The order of the step, the turn, and whether it is void, of a line that holds a visit, whose samples are not decoded."""
    told = _VISIT_HEAD.match(line)
    return (int(told[1]), int(told[2]), b'"reason":""' not in line) if told else None


def record_in(line: bytes) -> Record | None:
    """The record that a line holds, without its samples; None where it holds something else, or is damaged."""
    with contextlib.suppress(ValueError, TypeError):
        tag, data = _entry(line)
        return codec.decode(Record, data) if tag == "record" else None
    return None


def _with_samples(record: Record, visits: list[Visit]) -> Record:
    """The record with the samples of its visits."""
    if record.samples is None or not visits:
        return record
    return dataclasses.replace(record, samples=joined(record.samples, visits))


def warn(text: str) -> None:
    """Warn of what was left out of a store, at the place outside of this package that asked for it."""
    frame, level = sys._getframe(1), 2
    while frame.f_back and frame.f_globals.get("__name__", "").startswith("harness."):
        frame, level = frame.f_back, level + 1
    warnings.warn(plain(text), stacklevel=level)


def lines_damaged(numbers: Iterable[int]) -> str:
    """`line 2 is damaged`, `lines 2 and 7 are damaged`, or `... and 3 more` of many."""
    names = [str(number) for number in numbers]
    if len(names) == 1:
        return f"line {names[0]} is damaged"
    shown = ", ".join(names[:4])
    return f"lines {shown} and {len(names) - 4} more are damaged" if len(names) > 4 else f"lines {shown} are damaged"


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """The lines of a journal, numbered from 1; none where it is not there. Raises UserError where it cannot be read."""
    try:
        lines = codec.read(path).split(b"\n")
    except FileNotFoundError:
        return
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from None
    except ValueError as error:
        raise UserError(f"{path} is damaged: {error}") from None
    tail = lines.pop()  # empty, unless the writer died in the middle of a line
    yield from enumerate(lines, start=1)
    if tail:
        try:
            _entry(tail)
        except ValueError:
            return
        yield len(lines) + 1, tail


def _entry(line: bytes) -> tuple[str, Any]:
    """The kind and the data of one line. Raises ValueError where it is not whole, or not what was written."""
    told = _CHECKED.fullmatch(line[-_LENGTH:])
    if told and zlib.crc32(line[:-_LENGTH]) != int(told[1], 16):
        raise ValueError("it is not what its checksum was made of")
    data = codec.parse(line)
    if isinstance(data, dict) and told:
        del data["crc32"]
    if not isinstance(data, dict) or len(data) != 1 or next(iter(data)) not in _KINDS:
        raise ValueError(f"no JSON object of one field named {' or '.join(_KINDS)}")
    return next(iter(data.items()))
