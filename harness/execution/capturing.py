"""A model's convolutions seen: in a process of its own, under the Python that has its packages, or in the caller's program."""

import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from harness import codec
from harness.ask.captured import Captured, collect
from harness.calls import Seen
from harness.captures import worker
from harness.captures.base import BEYOND, Input, Request
from harness.errors import CaptureError
from harness.isolate import interpreter, offspring
from harness.isolate.log import Log
from harness.plain import plain

WORKER = "harness.captures.worker"
MOST_BYTES = 2**28  # of an answer


def capture(model: Any, *inputs: Any, name: str = "", gradients: bool = True, framework: str = "") -> Captured:
    """The convolutions of a step of a model, which is traced in this process; it and its inputs stay as they are.

    `inputs` are the framework's own arrays, or shapes as tuples of whole numbers. Without `gradients` it is the forward pass
    alone. `framework` says which one a plain function is of. The result's `write("suites/mine.toml")` makes a suite of it.
    Raises CaptureError where no convolution can be seen, and where no suite can have any of those that are.
    """
    given = tuple(map(_input, inputs))
    seen = worker.of_model(model, given, Request(framework=framework, gradients=gradients, in_program=True))
    return collect(name or getattr(model, "__name__", type(model).__name__), seen)


def _input(given: Any) -> Any:
    """The Input of a shape; what is no shape stays as it is. Raises CaptureError for sizes out of bounds."""
    if not isinstance(given, tuple | list) or not given or not all(type(size) is int for size in given):
        return given
    if not all(0 <= size < BEYOND for size in given):
        raise CaptureError(f"inputs: found {tuple(given)}; allowed: sizes from 0 to below 10^9")
    return Input(tuple(given))


def in_process(request: Request, python: str | None = None, timeout_s: float = 600.0) -> Seen:
    """What is seen of a model that a process of its own makes. Raises CaptureError, one line, for all that can go wrong."""
    mark, running = offspring.new_mark(), None
    ours, theirs = socket.socketpair()
    with tempfile.TemporaryDirectory(prefix="convbench-") as folder, ours:
        log = Log(Path(folder) / "output.txt")
        try:
            with theirs:
                running = subprocess.Popen(
                    [*interpreter.command(python, WORKER), str(theirs.fileno())],
                    pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, stdout=log.fileno(), stderr=log.fileno(),
                    start_new_session=True, env={**interpreter.environ(python), offspring.MARK: mark},
                )  # fmt: skip
            text = _asked(ours, request, timeout_s)
            if text.endswith(b"\n"):
                answer: worker.Answer = codec.loads(worker.Answer, text)
            else:
                answer = worker.Answer(error=f"{request.target}: {_end_of(running, log)}")
        except OSError as error:  # no such interpreter, no process left
            raise CaptureError(f"--python: {python or 'this Python'}: {error.strerror or error}") from None
        except ValueError as error:
            raise CaptureError(f"its process gave an answer that cannot be read: {error}") from None
        finally:
            if running is not None:
                offspring.end(mark, running.pid if running.poll() is None else None)
                running.wait()
            log.close()
    if answer.seen is None:
        raise CaptureError(plain(answer.error))
    return answer.seen


def _asked(connection: socket.socket, request: Request, timeout_s: float) -> bytes:
    """The line that answers a request, or what came of it before its process ended. Raises CaptureError where it is late."""
    deadline, text = time.monotonic() + timeout_s, bytearray()
    late = CaptureError(f"{request.target}: took longer than {timeout_s:g} s and was ended; --timeout gives it more time")
    try:
        connection.settimeout(timeout_s)
        connection.sendall(codec.dumps(request).encode() + b"\n")
        while not text.endswith(b"\n"):
            if (left := deadline - time.monotonic()) <= 0:
                raise late
            connection.settimeout(left)
            more = connection.recv(2**16)
            text += more
            if not more or len(text) > MOST_BYTES:
                break
    except TimeoutError:
        raise late from None
    except (BrokenPipeError, ConnectionResetError):
        pass
    return bytes(text)


def _end_of(running: subprocess.Popen[bytes], log: Log) -> str:
    """Why the process ended without an answer, with the last line that it printed."""
    try:
        code = running.wait(2.0)
    except subprocess.TimeoutExpired:
        return "its process stopped talking"
    how = f"exit code {code}" if code >= 0 else f"killed by signal {-code}"
    if -code in set(signal.Signals):
        how = f"killed by {signal.Signals(-code).name}"
    line = log.last_line()
    return f"its process ended: {how}" + (f"; last output: {line}" if line else "")
