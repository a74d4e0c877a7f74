"""One child process with one backend: started, talked with, ended with all that it started; and of what it died, if it did."""

import contextlib
import os
import select
import signal
import socket
import subprocess
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from harness.columns import SPENT
from harness.isolate import interpreter, offspring
from harness.isolate.log import Log
from harness.isolate.wire import (
    Adapter,
    Alone,
    Answered,
    Asked,
    Call,
    Channel,
    Closed,
    ClosedError,
    Done,
    Finish,
    GarbledError,
    GoOn,
    Hello,
    Look,
    Prepare,
    Ready,
    Refused,
    Seen,
    Setup,
    SilentError,
    Stop,
    Visited,
    Watch,
    Working,
)
from harness.plain import plain
from harness.plan import Step
from harness.profile import Profile
from harness.record import Record, Status, Visit

START_TIMEOUT_S = 180.0  # importing a framework from a cold disk
_GRACE_S = 2.0
_KILL_S = 30.0  # a process that waits in a driver ends when that returns, and may never

Answer = TypeVar("Answer", Ready, Visit, Record)
Found = TypeVar("Found")

# Where a cell was, in words, by the name of what the engine had begun.
WHERE = {
    "operands": "while its operands were made", "first_call": "in the first call", "check": "in the check",
    "witness": "before the warm-up", "warmup": "in the warm-up", "sampling": "in sampling", "memory": "in the memory pass",
    "energy": "in the energy window", "plain": "in the calls that nothing watches", "watched": "in the watched calls",
}  # fmt: skip
_CLOSING = "while its call was let go of"


@dataclass(frozen=True)
class Refusal:
    """Why a worker cannot serve. `hung`: it did not say so itself, but was waited for in vain."""

    reason: str
    status: Status = Status.ERROR
    hung: bool = False


class LostError(Exception):
    """A step was begun and no record came of it: status, reason, and what the time went to."""

    def __init__(self, status: Status, reason: str, spent_ns: dict[str, int]) -> None:
        super().__init__(reason)
        self.status, self.reason, self.spent_ns = status, reason, spent_ns


class _Course:
    """Where a step is, and what each part of it took, as the worker told: all that is known of one that does not come back."""

    def __init__(self, at: str) -> None:
        self.at = at
        self.done = False  # whether the record has come
        self._ns: dict[str, int] = defaultdict(int)
        self.begun = self._since = time.perf_counter_ns()

    def enter(self, name: str) -> None:
        """The part of that name begins."""
        now = time.perf_counter_ns()
        self._ns[self.at] += now - self._since
        self.at, self._since = name if name in SPENT or name in WHERE else "wire", now

    def spent_ns(self) -> dict[str, int]:
        """What each part took until now."""
        self.enter(self.at)
        return dict(self._ns)


class Worker:
    """A child process with one backend, and the conversation with it."""

    def __init__(self, first: Setup | Look, log: Path, python: str | None = None) -> None:
        """Start it, under a foreign interpreter where `python` is the path of one.

        Raises OSError where that cannot be done: no interpreter, no process or file left, no log.
        """
        self._python = python
        first = replace(first, foreign=python is not None)
        self.log = Log(log)
        self.leaving = self.killed = False
        self._mark = offspring.new_mark()
        self._handle = -1
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                self.process = subprocess.Popen(
                    [*interpreter.command(python), str(theirs.fileno()), str(os.getpid())],
                    pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, stdout=self.log.fileno(), stderr=self.log.fileno(),
                    start_new_session=True, env={**interpreter.environ(python), offspring.MARK: self._mark},
                )  # fmt: skip
        except BaseException:
            ours.close()
            self.log.close()
            raise
        with contextlib.suppress(OSError):  # an old kernel: there a fork of the worker can make its crash look like silence
            self._handle = os.pidfd_open(self.process.pid)
        self.channel = Channel(ours, None if self._handle < 0 else self._handle)
        self._asked = 0
        self._started = time.monotonic()
        with contextlib.suppress(ClosedError):  # it has ended already: whoever asks for its first words is told why
            self.channel.send(first)

    def hello(self) -> Hello | Refusal:
        """The worker's first words, or the reason why it cannot serve; then it has ended."""
        answer = self._first_words(START_TIMEOUT_S)
        if isinstance(answer, Adapter):
            self.kill()
            return Refusal(f"unexpected answer {answer}")
        return answer

    def adapter(self, timeout_s: float) -> Adapter | Refusal:
        """What an adapter says without its framework, or why it says nothing; the worker has ended."""
        answer = self._first_words(timeout_s)
        self.stop()
        return Refusal(f"unexpected answer {answer}") if isinstance(answer, Hello) else answer

    def _first_words(self, timeout_s: float) -> Hello | Adapter | Refusal:
        try:
            answer = self.channel.receive(self._started + timeout_s)
        except SilentError:
            self.kill()
            return Refusal(f"the worker was not ready within {timeout_s:g} s", hung=True)
        except ClosedError:
            whose = "its interpreter ended: " if self._python else ""
            return Refusal(whose + self.cause_of_death())
        except GarbledError as error:
            self.kill()
            return Refusal(f"the worker said what cannot be read: {error}")
        self.log.cut()
        if isinstance(answer, Hello | Adapter):
            return answer
        self.stop()
        if isinstance(answer, Refused):
            return Refusal(self._hidden(plain(answer.reason)), Status.SKIPPED if answer.absent else Status.ERROR)
        return Refusal(f"unexpected answer {type(answer).__name__}")

    # One step ---------------------------------------------------------------------------------------------------------------
    # Each of these raises LostError where nothing came of what was asked; then the worker has ended. A record that was there
    # when the worker died or fell silent, letting go of the call, is kept: its setting `close` says so.

    def alone(self, step: Step, timeout_s: float) -> Record:
        """The record of a step that was called once while no other was prepared: with its memory, without samples."""
        return self._ask(Alone(step, self._number()), Record, step, timeout_s)

    def prepare(self, step: Step, timeout_s: float) -> Record | Ready:
        """Make a step ready to be visited; its record where that came to nothing."""
        return self._ask(Prepare(step, self._number()), Ready, step, timeout_s)

    def visit(self, step: Step, timeout_s: float) -> Record | Visit:
        """What a visit to a prepared step brought; its record where that failed."""
        return self._ask(Call(step.order, self._number()), Visit, step, timeout_s, at="sampling")

    def finish(self, step: Step, timeout_s: float) -> Record:
        """The record of a prepared step, without the samples of its visits."""
        return self._ask(Finish(step.order, self._number()), Record, step, timeout_s)

    def watch(self, step: Step, trace: str, timeout_s: float) -> Profile:
        """What runs inside the calls of a step, by a worker that was set up for that; `trace` is the path of its trace."""
        course, deadline = _Course("wire"), time.monotonic() + timeout_s
        seen = self._heard(Watch(step, self._number(), trace), course, deadline, timeout_s, lambda answer: _seen(answer, step))
        self.leaving = seen.leaving
        return replace(seen.profile, problem=self._hidden(seen.profile.problem))

    def _number(self) -> int:
        self._asked += 1
        return self._asked

    def _ask(
        self, message: Asked, kind: type[Answer], step: Step, timeout_s: float, at: str = "wire"
    ) -> Answer | Record:  # fmt: skip
        """What the worker answers, of that kind or a record, with what the parent waited for in its `spent_ns`."""
        course, deadline = _Course(at), time.monotonic() + timeout_s
        found: Answer | Record = self._heard(message, course, deadline, timeout_s, lambda answer: _of_step(answer, kind, step))
        if isinstance(found, Record):
            found = self._closed(found, course, max(deadline, time.monotonic() + _GRACE_S), timeout_s)
        if self._python and isinstance(found, Record):
            settings = {name: self._hidden(value) for name, value in (found.settings or {}).items()}
            found = replace(found, reason=self._hidden(found.reason), settings=settings)
        told = found.spent_ns or {}
        rest_ns = time.perf_counter_ns() - course.begun - sum(told.values()) + told.get("wire", 0)
        return replace(found, spent_ns={**told, "wire": rest_ns})

    def _heard(
        self, message: Asked, course: _Course, deadline: float, timeout_s: float, read: Callable[[Answered], Found]
    ) -> Found:  # fmt: skip
        """What `read` makes of the worker's answer. Raises LostError where there is none, or `read` raises GarbledError."""
        kills = _out_of_memory_kills()
        self.log.mark()
        try:
            self.channel.send(message, deadline)
            return read(self._listen(course, deadline))
        except (SilentError, ClosedError, GarbledError) as error:
            status, reason = self._lost(error, timeout_s, WHERE.get(course.at, ""))
            if "SIGKILL" in reason and _out_of_memory_kills() > kills:
                status = Status.OOM
            raise LostError(status, reason, course.spent_ns()) from None

    def _closed(self, record: Record, course: _Course, deadline: float, timeout_s: float) -> Record:
        """The record with what letting go of its call adds to it."""
        done_ns = time.perf_counter_ns()
        try:
            closed = self._listen(course, deadline)
            if not isinstance(closed, Closed):
                raise GarbledError(f"unexpected answer {type(closed).__name__}")
        except (SilentError, ClosedError, GarbledError) as error:
            _, reason = self._lost(error, timeout_s, _CLOSING)
            told = record.spent_ns or {}
            operands_ns = told.get("operands", 0) + time.perf_counter_ns() - done_ns
            self.leaving = True
            settings = {**(record.settings or {}), "close": reason}
            return replace(record, settings=settings, spent_ns={**told, "operands": operands_ns})
        self.leaving = closed.leaving
        return replace(record, settings=closed.settings, spent_ns=closed.spent_ns)

    def _listen(self, course: _Course, deadline: float) -> Answered:
        """The answer to what was asked last. What answers an earlier question came late or twice, and is dropped."""
        while True:
            message = self.channel.receive(deadline)
            self.log.cut()
            if not isinstance(message, Working | Ready | Visited | Done | Closed | Seen):
                raise GarbledError(f"unexpected answer {type(message).__name__}")
            if message.number == self._asked and not isinstance(message, Working):
                if isinstance(message, Done) and course.done:
                    continue
                course.done = isinstance(message, Done)
                return message
            if message.number == self._asked and isinstance(message, Working):
                course.enter(message.at)
                self.channel.send(GoOn(), deadline)
            if time.monotonic() > deadline:  # or one who talks without end would never be late
                raise SilentError

    def _lost(self, error: Exception, timeout_s: float, where: str) -> tuple[Status, str]:
        """What became of a worker that gives no answer, which has ended then."""
        if isinstance(error, ClosedError):
            return Status.CRASHED, self.cause_of_death(where)
        self.kill()
        if isinstance(error, SilentError):
            return Status.TIMEOUT, f"took longer than {timeout_s:g} s and was ended {where}".strip()
        return Status.ERROR, f"the record cannot be read: {error}"

    def _hidden(self, text: str) -> str:
        """The text without the path of its interpreter."""
        return interpreter.hidden(text, self._python)

    # The end ----------------------------------------------------------------------------------------------------------------

    def ended(self, within_s: float = 0.0) -> bool:
        """Whether it has ended, or does within that time. It stays a zombie, so that its number is nobody else's yet."""
        if self.process.returncode is not None:
            return True
        if self._handle < 0:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(within_s)
            return self.process.returncode is not None
        waiting = select.poll()
        waiting.register(self._handle, select.POLLIN)
        return bool(waiting.poll(within_s * 1000))

    def cause_of_death(self, where: str = "") -> str:
        """What ended the process, with the last line that it printed since it was asked. Hangs up."""
        if not self.ended(_GRACE_S):
            self.kill()
            return f"the worker stopped talking {where}".strip()
        line = self._hidden(self.log.last_line())
        self.kill()
        cause = f"{_exit(self.process.returncode)} {where}".strip()
        return f"{cause}; last output: {line}" if line else cause

    def stop(self) -> None:
        """Ask it to end, wait for that, and end what it has left."""
        with contextlib.suppress(ClosedError, SilentError):
            self.channel.send(Stop(), time.monotonic() + _GRACE_S)
        self.channel.close()
        self.ended(_GRACE_S)
        self.kill()

    def kill(self) -> None:
        """End it and whatever it started, now."""
        if self.killed:
            return
        running = self.process.returncode is None
        offspring.end(self._mark, self.process.pid if running else None)
        if running:  # what took the mark off is still in its group
            with contextlib.suppress(OSError):
                os.killpg(self.process.pid, signal.SIGKILL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(_KILL_S)
        self.channel.close()
        self.log.hide(self._hidden)
        self.log.close()
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1
        self.killed = True


def _of_step(answer: Answered, kind: type[Answer], step: Step) -> Answer | Record:
    """What an answer says of a step, of that kind or a record. Raises GarbledError where it says anything else."""
    found: object = answer
    if isinstance(answer, Done | Visited):
        found = answer.record if isinstance(answer, Done) else answer.visit
    if isinstance(found, Record) and (found.trial, found.order, found.cell) != (step.trial, step.order, step.cell):
        raise GarbledError(plain(f"it is of another cell, {found.cell}"))
    if isinstance(found, Visit) and found.order != step.order:
        raise GarbledError(f"it is of step {found.order}")
    if isinstance(found, Record | kind):
        return found
    raise GarbledError(f"unexpected answer {type(answer).__name__}")


def _seen(answer: Answered, step: Step) -> Seen:
    """An answer that tells what ran inside the calls of a step. Raises GarbledError where it tells anything else."""
    if not isinstance(answer, Seen):
        raise GarbledError(f"unexpected answer {type(answer).__name__}")
    if answer.profile.cell != step.cell:
        raise GarbledError(plain(f"it is of another cell, {answer.profile.cell}"))
    return answer


def _exit(code: int | None) -> str:
    """How a process ended."""
    if code is None:
        return "cannot be ended"
    if code >= 0:
        return f"exit code {code}"
    with contextlib.suppress(ValueError):  # a number without a name
        return f"killed by {signal.Signals(-code).name}"
    return f"killed by signal {-code}"


def _out_of_memory_kills() -> int:
    """How many processes this kernel has killed for memory; 0 where it does not say."""
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/vmstat").read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0
