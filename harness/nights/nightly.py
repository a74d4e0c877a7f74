"""One night, unattended: wait for a quiet machine, measure, profile what is due, judge, write page, digest and index.

Telling people is `notify`'s. The look at the machine and what makes profiles are arguments, so that a test can script a night.
"""

import contextlib
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness import doctor, units
from harness.analysis import due
from harness.analysis.due import Profiled, Why
from harness.analysis.gate import NightJudgement
from harness.digest import Digest
from harness.execution import host
from harness.profile import Profile
from harness.record import Run
from harness.review import comparing, pages
from harness.review import digests as digesting
from harness.review.reading import Reading
from harness.spec import Cell
from harness.store import digests, journal, table


@dataclass(frozen=True)
class Night:
    """What a night left behind, its run in `folder`. `page` is None where none was asked for or it could not be made.

    `broken` names the parts of page and index that are missing, `error` is what kept the page from being made at all.
    """

    folder: Path
    judgement: NightJudgement
    digest: Digest
    page: Path | None
    index: Path
    broken: tuple[str, ...] = ()
    error: Exception | None = None

    @property
    def code(self) -> int:
        """The exit code: that of the level, and 1 where page or index are not whole."""
        return 1 if self.broken or self.error else self.judgement.code


def measure(run: Callable[[str], Run], patience: host.Patience) -> Run:
    """The run of the night, by `run("")`; or by `run(why)`, which keeps a night that was not measured, where patience ended."""
    why = patience.wait()
    return run(f"the machine was busy for {units.wall(patience.limit_s)}: {why}" if why else "")


def look(lock: host.Lock) -> str:
    """What keeps this machine busy: another run, other processes, the hypervisor; "" for nothing, and the lock is held then."""
    if not lock.take():
        return lock.holder()
    busy = doctor.busy()
    if not busy:
        return ""
    lock.release()  # whoever measures anyway must not wait for a night that waits itself
    return f"{busy.name}: {busy.found}"


def profile(
    folder: Path, make: Callable[[Path, Sequence[Cell]], Generator[Profile]], clock: Callable[[], float] = time.monotonic
) -> Profiled | None:  # fmt: skip
    """Profile what is due tonight, for a tenth of the time that measuring took at the most; None where not all was measured.

    `make` profiles cells of the run in that folder one after the other, keeps each profile there and yields it.
    """
    reading = Reading(folder)
    night_s = reading.run.took_s
    if reading.run.finished_at is None or not night_s:
        return None
    cells = {str(cell): cell for cell in journal.read_plan(folder).profilable}
    candidates = due.candidates(reading.judgement.cases, reading.night.history, cells, lambda run: _spent_s(reading.other(run)))
    budget_s, began_s = due.SHARE * night_s, clock()
    chosen = due.due(candidates, budget_s, _start_s(reading))
    made: dict[str, Why] = {}
    for why in Why:  # what makes them may take those of one backend together
        left = [cells[cell] for cell, of in chosen.items() if of is why]
        if not left or clock() - began_s >= budget_s:
            continue
        with contextlib.closing(make(folder, left)) as profiled:
            for each in profiled:
                made[str(each.cell)] = why
                if clock() - began_s >= budget_s:
                    break
    return Profiled(made, sum(map(len, due.waiting(candidates).values())), clock() - began_s, night_s)


def _start_s(reading: Reading) -> float:
    """What the workers of a round took to start tonight; the slowest round counts, and 0 where no record tells."""
    return float(reading.records["spent_start_ns"].fillna(0.0).max()) / 1e9


def _spent_s(reading: Reading) -> dict[str, float]:
    """Which cells of a run were profiled, whatever came of it, and the seconds that each took."""
    stored = table.profiles_of(reading.of)
    return dict(zip(stored["cell"], stored["spent_ns"] / 1e9, strict=True))


def conclude(folder: Path, reports: Path, page: bool = True) -> Night:
    """Judge the run of a night, and write its digest, its page and the index anew.

    A page that cannot be made costs neither the digest nor the index: the night says what broke.
    """
    reading = Reading(folder)
    judgement = reading.judgement
    digest = digesting.of_run(reading, comparing.standing(reading))
    digests.write(reports, digest)
    written, error = None, None
    if page:
        try:
            written = pages.publish(reading, reports)
        except Exception as caught:  # whatever it is, people must still be told what was measured
            error = caught
    broken = written.broken if written else pages.write_index(reports).broken
    digest = digests.read(reports).get(digest.run_id) or digest
    return Night(folder, judgement, digest, written.path if written else None, reports / pages.INDEX, broken, error)
