"""One night, unattended: wait for a quiet machine, measure, judge, write page, digest and index. Telling people is `notify`'s.

Clock, sleep and the look at the machine come in as arguments, so that a test can script a night.
"""

import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness import doctor, execute, review, units
from harness.analysis.gate import Judgement
from harness.digest import Digest
from harness.errors import BusyError
from harness.record import Run
from harness.store import digests

LOCK = "convbench-nightly.lock"  # in the folder for temporary files; a night holds it from its first look to its end
LOOK_EVERY_S = 30.0


@dataclass(frozen=True)
class Night:
    """What a night left behind, its run in `folder`. `page` is None where none was asked for or it could not be made.

    `broken` names the parts of page and index that are missing, `error` is what kept the page from being made at all.
    """

    folder: Path
    judgement: Judgement
    digest: Digest
    page: Path | None
    index: Path
    broken: tuple[str, ...] = ()
    error: Exception | None = None

    @property
    def code(self) -> int:
        """The exit code: that of the level, and 1 where page or index are not whole."""
        return 1 if self.broken or self.error else self.judgement.code


@dataclass(frozen=True)
class Patience:
    """How long a busy machine is waited for, and by what that is known.

    `look` says what keeps the machine busy, "" for nothing; `told` hears of it whenever that has changed. `clock` and `sleep`
    are in seconds.
    """

    limit_s: float
    look: Callable[[], str]
    told: Callable[[str], None] = lambda text: None
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    def wait(self) -> Iterator[str]:
        """Yields "" whenever the machine is quiet, for a try; in the end why it never was, and no more."""
        began, said = self.clock(), ""
        while True:
            why = self.look()
            if not why:
                yield ""
                why = "another run began"  # whoever comes back here was refused
            left = self.limit_s - (self.clock() - began)
            if left <= 0:
                yield why
                return
            if why != said:
                self.told(why)
            said = why
            self.sleep(min(LOOK_EVERY_S, left))


def measure(run: Callable[[str], Run], patience: Patience) -> Run:
    """The run of the night, by `run("")`; or by `run(why)`, which keeps a night that was not measured, where patience ended.

    `run` may raise BusyError where another run was quicker: the machine is waited for again.
    """
    for why in patience.wait():
        refusal = f"the machine was busy for {units.wall(patience.limit_s)}: {why}" if why else ""
        try:
            return run(refusal)
        except BusyError:
            if why:
                raise
    raise AssertionError("patience ends with a reason")


def look(lock: "Lock") -> str:
    """What keeps this machine busy: another night, a run, other processes, the hypervisor; "" for nothing."""
    if not lock.take():
        return "another night is going on"
    if execute.measuring():
        return "another run is measuring"
    found = doctor.busy()
    return f"{found.name}: {found.found}" if found else ""


class Lock:
    """The host's lock of nights, taken when it can be had."""

    def __init__(self) -> None:
        from filelock import FileLock

        self._lock = FileLock(Path(tempfile.gettempdir()) / LOCK, mode=0o666)

    def take(self) -> bool:
        """Whether this process holds it now."""
        from filelock import Timeout

        if not self._lock.is_locked:
            try:
                self._lock.acquire(timeout=0)
            except Timeout:
                return False
        return True

    def release(self) -> None:
        """Let the next night begin."""
        self._lock.release()


@contextmanager
def locked() -> Iterator[Lock]:
    """A Lock, not yet taken, that is released in the end."""
    lock = Lock()
    try:
        yield lock
    finally:
        lock.release()


def conclude(folder: Path, reports: Path, page: bool = True) -> Night:
    """Judge the run of a night, and write its digest, its page and the index anew.

    A page that cannot be made costs neither the digest nor the index: the night says what broke.
    """
    judgement, digest = review.judge(folder)
    digests.write(reports, digest)
    made, error = None, None
    if page:
        try:
            made = review.publish(folder, reports, judgement=judgement)
        except Exception as caught:  # whatever it is, people must still be told what was measured
            error = caught
    index = review.write_index(reports)
    broken = made.broken if made else index.broken
    digest = digests.read(reports).get(digest.run_id) or digest
    return Night(folder, judgement, digest, made.path if made else None, index.path, broken, error)
