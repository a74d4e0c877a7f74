"""What parent and worker say to each other: one JSON object a line, on a socket that the worker inherits.

Not on standard output: frameworks print there. The worker's side imports the standard library only.
"""

import json
import math
import select
import socket
import time
from dataclasses import dataclass, field
from typing import Any, get_args

from harness import codec
from harness.axes import Device, Mode
from harness.backends.base import Build
from harness.plain import plain
from harness.plan import Budget, Step
from harness.profile import Profile
from harness.record import Environment, Record, Visit

# The longest line that is read. A record of a million samples, four figures each, takes half of it.
MAX_MESSAGE_BYTES = 128 * 2**20


@dataclass(frozen=True)
class Setup:
    """The first message to a worker that measures: with what. `cores` become its affinity before anything is imported.

    A probe sets none of the backend's environment variables, so that the framework shows every device that it sees.
    """

    target: str  # module:Class
    backend: str  # the name under which its rows appear
    device: Device
    cores: tuple[int, ...]
    budget: Budget
    seed: int
    run_id: str
    probe: bool = False
    machine: str = ""  # its name, where it was given one
    foreign: bool = False  # whether its interpreter is another one than the parent's
    cache: str = ""  # the folder in which compilers find and leave what they compiled; empty: they compile anew
    # What NVML tells the parent, for an interpreter without it: the names of all GPUs, the driver, facts of this device.
    gpu: str = ""
    driver: str = ""
    board: dict[str, str] = field(default_factory=dict)
    profile: bool = False  # whether what runs inside calls is looked at; nothing is timed in such a process
    options: dict[str, str] = field(default_factory=dict)  # those of `Cell.of_process`


@dataclass(frozen=True)
class Look:
    """The first message to a worker that only looks at an adapter and says what that tells without its framework."""

    backend: str
    target: str  # module:Class
    foreign: bool = False  # whether its interpreter is another one than the parent's


@dataclass(frozen=True)
class Adapter:
    """The answer to `Look`: the package that must be there, how to install it where it is not, and the versions that are.

    `modes` are those that the backend has, where its class says so.
    """

    package: str
    packages: dict[str, str]
    remedy: str = ""
    modes: tuple[Mode, ...] = ()

    @property
    def installed(self) -> bool:
        """Whether the package is there without which the backend cannot take part."""
        return not self.remedy


@dataclass(frozen=True)
class Hello:
    """The worker is ready.

    A probe also tells what the framework was built for, where that is known, and which distributions its interpreter has that
    concern a GPU: those of CUDA's libraries, and `nvidia-ml-py`.
    """

    environment: Environment
    devices: tuple[Device, ...]
    build: Build | None = None
    libraries: tuple[str, ...] = ()


@dataclass(frozen=True)
class Refused:
    """The backend could not be set up, and why; the worker ends. `absent`: its package is not installed."""

    reason: str
    absent: bool = False


@dataclass(frozen=True)
class Alone:
    """Make this step's first call, and read memory and energy while no other cell is prepared. `Done` and `Closed` follow.

    `number` counts what this worker was asked; every answer bears it.
    """

    step: Step
    number: int


@dataclass(frozen=True)
class Prepare:
    """Make this step ready to be visited, beside those that are.

    `Ready` follows, or `Done` and `Closed` where it failed.
    """

    step: Step
    number: int


@dataclass(frozen=True)
class Ready:
    """The step is ready to be visited; where the time went.

    With `apart` it is not: it needs settings of the whole process, told as one word, that those which are prepared do not have.
    """

    number: int
    spent_ns: dict[str, int]
    apart: str = ""


@dataclass(frozen=True)
class Call:
    """Visit the prepared step of that order. `Visited` follows, or `Done` and `Closed` where that failed."""

    order: int
    number: int


@dataclass(frozen=True)
class Visited:
    """What a visit brought: `turn`, `place` and `process` are the parent's to know."""

    number: int
    visit: Visit


@dataclass(frozen=True)
class Finish:
    """Check the last result of the prepared step of that order, and let go of it. `Done` and `Closed` follow."""

    order: int
    number: int


@dataclass(frozen=True)
class Watch:
    """Say what runs inside the calls of this step, in a process that was set up for that. `Seen` follows.

    `trace` is the path at which a trace of a few calls is written; empty: none is.
    """

    step: Step
    number: int
    trace: str = ""


@dataclass(frozen=True)
class Seen:
    """What runs inside the calls of a step. `leaving`: the device is broken for this worker, and no use to the next step."""

    number: int
    profile: Profile
    leaving: bool = False


@dataclass(frozen=True)
class Working:
    """What of the engine begins, a name of `columns.SPENT`. The worker waits for `GoOn`.

    So the parent notes the time while no clock runs.
    """

    number: int
    at: str


@dataclass(frozen=True)
class GoOn:
    """The answer to `Working`."""


@dataclass(frozen=True)
class Done:
    """A step's record, before its call is let go of: whatever that does to the process, the record is there."""

    number: int
    record: Record


@dataclass(frozen=True)
class Closed:
    """The call is let go of: what that adds to the record. `leaving`: the worker ends, since its device is broken for it."""

    number: int
    settings: dict[str, str] | None
    spent_ns: dict[str, int] | None
    leaving: bool = False


@dataclass(frozen=True)
class Stop:
    """Nothing more to do."""


Asked = Alone | Prepare | Call | Finish | Watch
Answered = Ready | Visited | Done | Closed | Seen
Message = Setup | Look | Adapter | Hello | Refused | Asked | Answered | Working | GoOn | Stop
_KINDS: dict[str, Any] = {kind.__name__: kind for kind in get_args(Message)}


class ClosedError(Exception):
    """The other side is gone."""


class SilentError(Exception):
    """Nothing was said until the deadline."""


class GarbledError(Exception):
    """What was said is no message, or too long: an adapter put into its answer what the record has no place for."""


def _within(deadline: float) -> float:
    """The seconds until then, at most what the kernel takes: 24 days."""
    return min(max(deadline - time.monotonic(), 0.0), 2e6)


class Channel:
    """One end of the conversation. `process` is a pidfd of the other side: a fork of it may hold the socket open."""

    def __init__(self, connection: socket.socket, process: int | None = None) -> None:
        self._connection = connection
        self._buffer = bytearray()
        self._ended = process
        self._poll = select.poll()
        for descriptor in (connection.fileno(), *(() if process is None else (process,))):
            self._poll.register(descriptor, select.POLLIN)

    def send(self, message: Message, deadline: float | None = None) -> None:
        """Say it. Raises ClosedError where nobody listens any more, SilentError where it was not taken until the deadline."""
        line = json.dumps({"kind": type(message).__name__, "body": codec.encode(message)}) + "\n"
        try:
            self._connection.settimeout(None if deadline is None else max(_within(deadline), 0.001))
            self._connection.sendall(line.encode())
        except TimeoutError:
            raise SilentError from None
        except OSError as error:
            raise ClosedError(str(error)) from None

    def receive(self, deadline: float | None = None) -> Message:
        """The next message; blocks without polling.

        Raises SilentError at the deadline (of time.monotonic), ClosedError where the other side hung up or ended, GarbledError
        for what is no message.
        """
        seen = 0
        while (end := self._buffer.find(b"\n", seen)) < 0:
            seen = len(self._buffer)
            if seen > MAX_MESSAGE_BYTES:
                self._buffer.clear()
                raise GarbledError(f"a message of more than {MAX_MESSAGE_BYTES >> 20} MiB")
            self._buffer += self._chunk(deadline)
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        try:
            data = codec.parse(line)
            return codec.decode(_KINDS[data["kind"]], data["body"])
        except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
            raise GarbledError(plain(f"{type(error).__name__}: {error}"[:500])) from None

    def _chunk(self, deadline: float | None) -> bytes:
        """Whatever comes next."""
        timeout_ms = None if deadline is None else math.ceil(_within(deadline) * 1000)
        if self._connection.fileno() < 0:
            raise ClosedError("this side has hung up")
        try:
            ready = [descriptor for descriptor, _ in self._poll.poll(timeout_ms)]
            if ready == [self._ended]:  # what it said just before it ended may have come since
                ready = [descriptor for descriptor, _ in self._poll.poll(0)]
            if not ready:
                raise SilentError
            chunk = b"" if ready == [self._ended] else self._connection.recv(1 << 16)
        except OSError as error:
            raise ClosedError(str(error)) from None
        if not chunk:
            raise ClosedError("end of conversation")
        return chunk

    def close(self) -> None:
        """Hang up."""
        self._connection.close()
