"""The host's lock: one run measures at a time, whoever starts it, since two at once would measure each other.

The kernel's lock on one file decides. What the file says only tells those who are refused whom they wait for, and a text that
its writer left when it was killed is not believed. The file stands in /tmp whatever TMPDIR says, because every user reaches
that one; a container has a /tmp of its own, and with it a lock of its own.
"""

import contextlib
import errno
import fcntl
import json
import os
import pwd
import shlex
import stat
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from harness.errors import BusyError, UserError
from harness.plain import plain

VARIABLE = "CONVBENCH_LOCK"  # the path of another file: for containers that share a host, and for tests
LOOK_EVERY_S = 30.0

_PATH = "/tmp/convbench.lock"
# A link there is not followed, and a pipe does not block: whoever can write to /tmp can put either in this place.
_FLAGS = os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_TEXT_BYTES = 16_384


class Lock:
    """The host's lock, not yet taken."""

    def __init__(self) -> None:
        self.path = Path(os.environ.get(VARIABLE) or _PATH)
        self._descriptor = -1
        self._since = datetime.now().astimezone()

    def take(self) -> bool:
        """Whether this process holds it now. Raises UserError where what stands there cannot be a lock."""
        while self._descriptor < 0:
            descriptor = _opened(self.path)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                current = _same(self.path, descriptor)
            except BlockingIOError:
                os.close(descriptor)
                return False
            if not current:  # removed since it was opened: whoever comes next would lock another file
                os.close(descriptor)
                continue
            self._descriptor, self._since = descriptor, datetime.now().astimezone()
            self.tell()
        return True

    def tell(self, run_id: str = "") -> None:
        """Write down who holds it and, where it has begun, which run is measured."""
        program = Path(sys.argv[0])
        name = program.parent.name if program.name == "__main__.py" else program.name  # python -m harness
        words = shlex.join([name, *sys.argv[1:]])
        text = {"pid": os.getpid(), "born": _born(os.getpid()), "user": _user(), "command": words[:1000],
                "since": f"{self._since:%Y-%m-%d %H:%M}", "run": run_id}  # fmt: skip
        self._write(json.dumps(text).encode())

    def holder(self) -> str:
        """Who holds it, in words, as far as that can be known."""
        said, told = f"another run is measuring on this host (it holds {self.path})", self._told()
        if not told:
            return said
        run = f"run {told['run']}, " if told["run"] else ""
        return f"{said}: {run}pid {told['pid']} of {told['user']} since {told['since']}: {told['command']}"

    def measured(self) -> str:
        """The id of the run that is measured under it; "" where there is none, or that cannot be known."""
        told = self._told()
        return told["run"] if told else ""

    def _told(self) -> dict[str, str] | None:
        """What its holder wrote; None where nobody did who still lives."""
        try:
            descriptor = os.open(self.path, os.O_RDONLY | _FLAGS)
            try:
                told = json.loads(os.read(descriptor, _TEXT_BYTES))
            finally:
                os.close(descriptor)
            told = {name: plain(str(told[name]))[:300] for name in ("pid", "born", "user", "command", "since", "run")}
            return told if _lives(int(told["pid"]), told["born"]) else None
        except (OSError, ValueError, TypeError, KeyError, RecursionError):  # empty, or written by something else
            return None

    def release(self) -> None:
        """Let the next one begin."""
        if self._descriptor >= 0:
            self._write(b"")
            # Closing is not enough: a child that was forked meanwhile would go on holding it.
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)
            os.close(self._descriptor)
            self._descriptor = -1

    def _write(self, text: bytes) -> None:
        """Replace the text; a file that may only be read, or has another name elsewhere, keeps what it says."""
        with contextlib.suppress(OSError):
            if os.fstat(self._descriptor).st_nlink == 1:  # else somebody linked a file of ours to this place
                os.ftruncate(self._descriptor, 0)
                os.pwrite(self._descriptor, text, 0)


def _opened(path: Path) -> int:
    """A descriptor of the lock's file, which is made where it is not there; for reading alone where no more is allowed."""
    try:
        descriptor = _open_or_make(path)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise _unfit(path, "it is a link") from None
        if error.errno == errno.EISDIR:
            raise _unfit(path, "it is a folder") from None
        raise _unfit(path, f"it cannot be opened ({error.strerror})") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise _unfit(path, "it is no plain file")
    return descriptor


def _open_or_make(path: Path) -> int:
    """Never O_CREAT alone: in /tmp the kernel may refuse that for the file of another user (fs.protected_regular)."""
    while True:
        with contextlib.suppress(FileNotFoundError):
            try:
                return os.open(path, os.O_RDWR | _FLAGS)
            except OSError as error:
                if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                    raise
                return os.open(path, os.O_RDONLY | _FLAGS)  # enough to lock it
        with contextlib.suppress(FileExistsError):  # another was quicker
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | _FLAGS, 0o666)
            os.fchmod(descriptor, 0o666)  # whatever the umask: it is everybody's
            return descriptor


def _unfit(path: Path, why: str) -> UserError:
    return UserError(f"{path}: {why}, and the host's lock must be a file that everybody may use; remove it, or name another "
                     f"place by {VARIABLE}")  # fmt: skip


def _same(path: Path, descriptor: int) -> bool:
    """Whether that path still leads to the file that is open."""
    try:
        return os.path.samestat(os.stat(path, follow_symlinks=False), os.fstat(descriptor))
    except OSError:
        return False


def _born(pid: int) -> str:
    """When a process began, in ticks since the host did, which tells it from a later one of the same number; "" if unknown."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]  # proc(5): field 22
    except (OSError, IndexError, ValueError):
        return ""


def _lives(pid: int, born: str) -> bool:
    """Whether the process that wrote a text is still there."""
    if pid <= 0:
        return False
    if seen := _born(pid):
        return seen == born
    try:
        os.kill(pid, 0)  # /proc may hide the processes of others
    except PermissionError:
        return True
    except (OSError, OverflowError):
        return False
    return True


def _user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a container's user without a name
        return f"user {os.getuid()}"


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

    def wait(self) -> str:
        """Nothing, "", once the machine is quiet; why it is not, where patience ends before."""
        began, said = self.clock(), ""
        while why := self.look():
            left = self.limit_s - (self.clock() - began)
            if left <= 0:
                break
            if why != said:
                self.told(why)
            said = why
            self.sleep(min(LOOK_EVERY_S, left))
        return why


@contextlib.contextmanager
def locked() -> Iterator[Lock]:
    """The lock, not yet taken, that is released in the end."""
    lock = Lock()
    try:
        yield lock
    finally:
        lock.release()


@contextlib.contextmanager
def alone(limit_s: float = 0.0, told: Callable[[str], None] = lambda text: None) -> Iterator[Lock]:
    """The lock, held until the block ends, and waited for so long. Raises BusyError, which names who holds it."""
    with locked() as lock:
        if why := Patience(limit_s, lambda: "" if lock.take() else lock.holder(), told).wait():
            raise BusyError(f"{why}; `convbench run --wait 30m` waits for it to end")
        yield lock
