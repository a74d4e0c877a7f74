"""What parent and worker say to each other: one JSON object a line, on a socket that the worker inherits.

Not on standard output: frameworks print there. The worker's side imports the standard library only.
"""

import json
import socket
import time
from dataclasses import dataclass
from typing import Any

from harness import codec
from harness.record import Environment, Progress, Record
from harness.spec import Budget, Device, Step


@dataclass(frozen=True)
class Setup:
    """The first message to a worker: what it is to measure with. `cores` become its affinity before anything is imported.

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


@dataclass(frozen=True)
class Hello:
    """The worker is ready."""

    environment: Environment
    devices: tuple[Device, ...]


@dataclass(frozen=True)
class Refused:
    """The backend could not be set up, and why; the worker ends."""

    reason: str


@dataclass(frozen=True)
class Measure:
    """Measure this step now."""

    step: Step


@dataclass(frozen=True)
class Working:
    """How far a step is. The worker waits for `GoOn`, so that the parent draws while no clock runs."""

    progress: Progress


@dataclass(frozen=True)
class GoOn:
    """The answer to `Working`."""


@dataclass(frozen=True)
class Done:
    """A step's record. `leaving`: the worker ends after it, since its device is broken for the rest of the process."""

    record: Record
    leaving: bool = False


@dataclass(frozen=True)
class Stop:
    """Nothing more to do."""


Message = Setup | Hello | Refused | Measure | Working | GoOn | Done | Stop
_KINDS: dict[str, Any] = {kind.__name__: kind for kind in (Setup, Hello, Refused, Measure, Working, GoOn, Done, Stop)}


class ClosedError(Exception):
    """The other side is gone."""


class SilentError(Exception):
    """Nothing was said until the deadline."""


class GarbledError(Exception):
    """What was said is no message: an adapter put something into its answer that the record has no place for."""


class Channel:
    """One end of the conversation."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._buffer = bytearray()

    def send(self, message: Message) -> None:
        """Say it. Raises ClosedError where nobody listens any more."""
        line = json.dumps({"kind": type(message).__name__, "body": codec.encode(message)}) + "\n"
        try:
            self._connection.settimeout(None)
            self._connection.sendall(line.encode())
        except OSError as error:
            raise ClosedError(str(error)) from None

    def receive(self, deadline: float | None = None) -> Message:
        """The next message; blocks without polling.

        Raises SilentError at the deadline (of time.monotonic), ClosedError where the other side hung up, GarbledError for
        what is no message.
        """
        while (end := self._buffer.find(b"\n")) < 0:
            remaining = None if deadline is None else deadline - time.monotonic()
            if remaining is not None and remaining <= 0:
                raise SilentError
            try:
                self._connection.settimeout(remaining)
                chunk = self._connection.recv(1 << 16)
            except TimeoutError:
                raise SilentError from None
            except OSError as error:
                raise ClosedError(str(error)) from None
            if not chunk:
                raise ClosedError("end of conversation")
            self._buffer += chunk
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        try:
            data = codec.parse(line)
            return codec.decode(_KINDS[data["kind"]], data["body"])
        except (KeyError, TypeError, ValueError) as error:
            raise GarbledError(f"{type(error).__name__}: {error}"[:500]) from None

    def close(self) -> None:
        """Hang up."""
        self._connection.close()
