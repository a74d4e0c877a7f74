"""What may go of old runs: their samples, never their records. Nothing else in this package deletes what was measured."""

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from harness.analysis.history import FIGURES
from harness.errors import UserError
from harness.record import AA, Run
from harness.review import nights as history
from harness.store import acknowledgements, journal, nights, table


@dataclass(frozen=True)
class Old:
    """A run whose samples may go: their files, and the bytes that they take."""

    folder: Path
    files: tuple[Path, ...]
    nbytes: int


@dataclass(frozen=True)
class Plan:
    """What may go, oldest first, and how many runs of that age are kept, by reason."""

    old: tuple[Old, ...]
    kept: dict[str, int]


def plan(store: Path, before: datetime) -> Plan:
    """What may go of the runs that began before a date. Runs under `samples/` and links to elsewhere are not of the store."""
    acknowledged = {each.from_run for each in acknowledgements.read(store)}
    old, kept = [], Counter[str]()
    for folder, run in table.stored(store):
        # Its place, since the clock may have been set back; its date where one run of the future has placed all after it there.
        began = run.place[0] if run.place[0] <= datetime.now(UTC) else run.started_at
        if began >= before or folder.is_symlink():
            continue
        if why := _kept(run, acknowledged):
            kept[why] += 1
            continue
        # The journal holds every sample once more, as text: the larger part.
        files = tuple(path for path in (folder / table.SAMPLES, folder / journal.JOURNAL) if path.exists())
        if files:
            old.append(Old(folder, files, sum(path.stat().st_size for path in files)))
    return Plan(tuple(old), dict(kept))


def _kept(run: Run, acknowledged: set[str]) -> str:
    """Why the samples of a run are kept whatever its age; empty where they are not."""
    if any(run.id.startswith(each) for each in acknowledged):
        return "acknowledged as a new level"
    if AA in run.tags:
        return "A/A, which tell the noise of this machine"
    if run.finished_at is None:
        return "cut off, which can be resumed"
    return ""


def prune(old: Old) -> None:
    """Remove the samples of a run, once its records and its night stand in files of their own.

    Raises UserError for a damaged run, of which nothing is removed then: what a damaged line still says is nowhere else.
    """
    if (old.folder / journal.JOURNAL).exists():
        if damaged := journal.scan(old.folder).damaged:
            raise UserError(f"{old.folder / journal.JOURNAL}: {journal.lines_damaged(damaged)}: its samples are kept")
        table.seal(old.folder)
    nights.keep(table.Stored(old.folder, journal.read_run(old.folder)), history.read, FIGURES)
    for path in old.files:
        path.unlink(missing_ok=True)
