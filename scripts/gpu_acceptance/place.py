"""Where the checks work: the frameworks that see the GPU, processes of theirs, runs of convbench, and the time that is left."""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness import codec
from harness.axes import Device, Mode
from harness.isolate import interpreter, launcher
from harness.measure.gpu import Gpu
from harness.spec import Cell

ROOT = Path(__file__).resolve().parents[2]
LOOK_S = 0.05  # between two looks at the GPU while a process is waited for
GRACE_S = 5.0  # for a process to end by itself
HOLDS, BROKEN, NOT_MADE = "holds", "DOES NOT HOLD", "not made"


class LostError(Exception):
    """A process ended, or took too long and was ended, before it answered."""


class SaidError(Exception):
    """A process answered that what it was asked for failed, and why."""


@dataclass(frozen=True)
class Framework:
    """A framework of which the checks know more than its adapter tells.

    `target` is its adapter and `loop` its plain loop (see `loops`), each as `module:Class`. `mode` is that of its matrix
    products and copies, as in suites/ceilings.toml. `python` is the path of an interpreter of its own; None: this one.
    """

    name: str
    target: str
    loop: str
    mode: Mode = Mode.EAGER
    python: str | None = None


KNOWN = (
    Framework("torch", "harness.backends.torch:TorchBackend", "scripts.gpu_acceptance.loops:Torch"),
    Framework("jax", "harness.backends.jax:JaxBackend", "scripts.gpu_acceptance.loops:Jax", Mode.COMPILED),
    Framework("tensorflow", "harness.backends.tensorflow:TensorFlowBackend", "scripts.gpu_acceptance.loops:TensorFlow"),
)


@dataclass
class Told:
    """What one check has found: lines for people, figures for programs, and what does not hold."""

    number: int
    question: str
    lines: list[str] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)
    held: int = 0
    took_s: float = 0.0

    def say(self, text: str) -> None:
        """A line that is neither right nor wrong."""
        self.lines.append(text)

    def note(self, of: str, /, **figures: Any) -> None:
        """Figures of a framework, or of whatever else has that name."""
        self.figures.setdefault(of, {}).update(figures)

    def must(self, holds: bool, text: str) -> None:
        """A line that holds or does not."""
        self.say(text if holds else f"{BROKEN}: {text}")
        self.held += holds
        if not holds:
            self.broken.append(text)

    @contextlib.contextmanager
    def of(self, name: str) -> Iterator[None]:
        """Whatever is raised meanwhile becomes a line about `name` that does not hold, and costs nothing else."""
        try:
            yield
        except Exception as error:
            self.must(False, f"{name}: {one_line(error)}")

    @property
    def outcome(self) -> str:
        """In one word whether it holds. A check of which nothing was made does not."""
        return BROKEN if self.broken else HOLDS if self.held else NOT_MADE


def one_line(error: BaseException | str) -> str:
    """An error in one line of at most 300 characters."""
    told = str(error) if isinstance(error, str | LostError | SaidError) else f"{type(error).__name__}: {error}"
    return " ".join(told.split())[:300]


class Child:
    """A process that does what it is asked; see `inside`. What it prints goes to a log."""

    def __init__(self, python: str | None, log: Path, environ: Mapping[str, str]) -> None:
        self.log, self._buffer = log, b""
        self.hello: dict[str, Any] | None = None  # what it told of itself when it was started; None: it was not heard yet
        self._answers, theirs = os.pipe()
        try:
            with log.open("ab") as said:
                self._process = subprocess.Popen(
                    [python or sys.executable, "-P", "-m", "scripts.gpu_acceptance.inside", str(theirs)],
                    stdin=subprocess.PIPE, stdout=said, stderr=said, pass_fds=[theirs], start_new_session=True,
                    env={**interpreter.environ(python), "PYTHONPATH": _path(python), **environ},
                )  # fmt: skip
        finally:
            os.close(theirs)

    def ask(self, what: str, timeout_s: float, meanwhile: Callable[[], None] | None = None, **arguments: Any) -> Any:
        """What a method of `inside.Served` returns; `meanwhile` is called every LOOK_S while it is waited for.

        Raises SaidError where that fails, LostError where no answer comes; then the process has ended.
        """
        self.say(what, **arguments)
        return self.hear(what, timeout_s, meanwhile)

    def say(self, what: str, **arguments: Any) -> None:
        """Ask for something, without waiting for it. Raises LostError."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f"{json.dumps({'what': what, **arguments})}\n".encode())
            self._process.stdin.flush()
        except OSError:
            raise LostError(f"{what}: {self._cause()}") from None

    def hear(self, what: str, timeout_s: float, meanwhile: Callable[[], None] | None = None) -> Any:
        """The answer to what was asked for, as `ask` has it."""
        if self._answers < 0:
            raise LostError(f"{what}: its process has ended")
        deadline = time.monotonic() + timeout_s
        while (end := self._buffer.find(b"\n")) < 0:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                self.end()
                raise LostError(f"{what}: took longer than {timeout_s:.0f} s and was ended")
            ready, _, _ = select.select([self._answers], [], [], min(left_s, LOOK_S) if meanwhile else left_s)
            if meanwhile:
                meanwhile()
            if ready:
                chunk = os.read(self._answers, 1 << 16)
                if not chunk:
                    raise LostError(f"{what}: {self._cause()}")
                self._buffer += chunk
        answer = json.loads(self._buffer[:end])
        self._buffer = self._buffer[end + 1 :]
        if "error" in answer:
            raise SaidError(answer["error"])
        return answer["value"]

    def _cause(self) -> str:
        """How it ended, with the last line of its log. It has ended then."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(GRACE_S)
        self.end()
        lines = self.log.read_text(errors="replace").split("\n")
        last = next((line for line in reversed(lines) if line.strip()), "")
        code = self._process.returncode
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        return f"its process ended ({how}){': ' if last else ''}{last}"

    def end(self) -> None:
        """End it, and what it has started."""
        if self._process.stdin and not self._process.stdin.closed:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(0 if self._process.returncode is not None else GRACE_S)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        if self._answers >= 0:
            os.close(self._answers)
            self._answers = -1


def _path(python: str | None) -> str:
    """Where a process finds this checkout: before what the user names, which a foreign interpreter is not shown."""
    return os.pathsep.join([str(ROOT), *([] if python else filter(None, [os.environ.get("PYTHONPATH")]))])


class Place:
    """What the checks work with. `device` is the GPU, `out` the folder in which all that is made stays.

    `frameworks` are those that see the GPU. `lacking` says why no run of convbench can be made here; empty: it can.
    """

    def __init__(
        self, out: Path, device: Device, frameworks: Mapping[str, Framework], limit_s: float, lacking: str = ""
    ) -> None:
        self.out, self.device, self.frameworks, self.lacking = out, device, frameworks, lacking
        self.gpu = Gpu(device.index)
        self.used_bytes = self.gpu.used_bytes().value or 0  # before anything of ours is there
        self.cores = tuple(launcher.physical_cores_first())
        self._deadline = self._until = time.monotonic() + limit_s
        self._children: dict[tuple[str, str], Child] = {}
        (out / "logs").mkdir(parents=True, exist_ok=True)

    # Time -----------------------------------------------------------------------------------------------------------------

    def begin(self, reserved_s: float) -> float:
        """Let a check begin that must leave `reserved_s` seconds to later ones; how many it has."""
        self._until = self._deadline - reserved_s
        return self.left_s

    @property
    def left_s(self) -> float:
        """The seconds that the check has still."""
        return self._until - time.monotonic()

    # Processes ------------------------------------------------------------------------------------------------------------

    def ask(
        self, name: str, what: str, key: str = "main", meanwhile: Callable[[], None] | None = None, **arguments: Any
    ) -> Any:  # fmt: skip
        """What the process `key` of a framework answers, which is started where there is none; see `Child.ask`.

        An answer may take half of the time that the check has left, so that one who hangs leaves some to the others.
        """
        if self.left_s <= 0:
            raise LostError("no time is left")
        self.hello(name, key)
        told = {each: codec.encode(value) if isinstance(value, Cell) else value for each, value in arguments.items()}
        try:
            return self._children[name, key].ask(what, self.left_s / 2, meanwhile, **told)
        except LostError:
            self.end(name, key)
            raise

    def start(self, name: str, key: str = "main", **environ: str) -> None:
        """Start a process of a framework with these environment variables, where there is none, and wait for nothing."""
        if (name, key) in self._children:
            return
        framework = self.frameworks[name]
        device = "gpu:0" if "CUDA_VISIBLE_DEVICES" in environ else str(self.device)  # the only one that is shown then
        child = self._children[name, key] = Child(framework.python, self.out / "logs" / f"{name}.log", environ)
        with contextlib.suppress(LostError):  # it has ended already, which is told when it is heard
            child.say("start", target=framework.target, loop=framework.loop, device=device, cores=self.cores)

    def hello(self, name: str, key: str = "main") -> dict[str, Any]:
        """What a process of a framework tells of itself. Raises LostError, SaidError; then there is none."""
        self.start(name, key)
        child = self._children[name, key]
        try:
            child.hello = child.hello or child.hear("start", self.left_s / 2)
        except (LostError, SaidError):
            self.end(name, key)
            raise
        return child.hello

    def end(self, name: str, key: str = "main") -> None:
        """End a process of a framework, if there is one."""
        if child := self._children.pop((name, key), None):
            child.end()

    def close(self) -> None:
        """End all processes."""
        for name, key in list(self._children):
            self.end(name, key)
        self.gpu.close()

    # Runs -----------------------------------------------------------------------------------------------------------------

    def run(self, *arguments: str) -> Path:
        """The folder of a run of convbench on the GPU, with all frameworks; one that takes too long is interrupted.

        Raises SaidError where none came of it.
        """
        pythons = [f"--python={each.name}={each.python}" for each in self.frameworks.values() if each.python]
        runs = self.out / "results" / "runs"
        before = set(runs.glob("*"))
        command = [sys.executable, "-P", "-m", "harness", "run", *arguments, "--device", str(self.device), "--out",
                   str(self.out / "results"), "--reports", str(self.out / "reports"), "--no-ceilings", *pythons]  # fmt: skip
        log = self.out / "logs" / "runs.log"
        with log.open("ab") as said:
            process = subprocess.Popen(
                command, cwd=self.out, stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True,
                env={**os.environ, "PYTHONPATH": _path(None), "NO_COLOR": "1"},
            )  # fmt: skip
            try:
                process.wait(max(self.left_s - GRACE_S, 1.0))
            except subprocess.TimeoutExpired:
                process.terminate()  # what was measured stays, and is read as any run
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(2 * GRACE_S)
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        new = sorted(set(runs.glob("*")) - before)
        if not new:
            last = [line for line in log.read_text(errors="replace").splitlines() if line.strip()][-1:]
            raise SaidError(f"no run came of it, exit code {process.returncode}{''.join(f': {line}' for line in last)}")
        return new[-1]
