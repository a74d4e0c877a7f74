"""Backends that worker processes load: the reference, with moods that depend on the workload's name."""

import contextlib
import gc
import gzip
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from itertools import count
from typing import Any, ClassVar

from harness.axes import Device
from harness.backends.base import Build, Operands, Results
from harness.backends.numpy import NumpyBackend, NumpyConvolution
from harness.isolate import wire
from harness.profile import Event, Kind, Level
from harness.spec import Cell


class Plain(NumpyBackend):
    """The reference; its rows tell the process that made them."""

    name: ClassVar[str] = "plain"

    def prepare(self, cell: Cell, operands: Operands) -> NumpyConvolution:
        prepared = super().prepare(cell, operands)
        prepared.settings = {"pid": str(os.getpid())}
        return prepared


class Paged(Plain):
    """Its rows tell whether NumPy asks the kernel for huge pages."""

    def prepare(self, cell: Cell, operands: Operands) -> NumpyConvolution:
        from numpy._core import _multiarray_umath

        prepared = super().prepare(cell, operands)
        prepared.settings = {"numpy asks for huge pages": str(_multiarray_umath._get_madvise_hugepage())}
        return prepared


class Moody(Plain):
    """Does what the workload is called: to crash, hang, fail or be wrong at a place that `_at` knows, or one of those below."""

    name: ClassVar[str] = "moody"

    def __init__(self, device: Device, threads: int) -> None:
        super().__init__(device, threads)
        self.times = Counter[str]()  # that a workload was prepared in this process

    def prepare(self, cell: Cell, operands: Operands) -> NumpyConvolution:
        getattr(self, f"_{cell.workload}", lambda: None)()
        prepared = super().prepare(cell, operands)
        self.times[cell.workload] += 1
        what, at, where = cell.workload.partition("_at_")
        if at:
            self._at(prepared, what, where, again=self.times[cell.workload] > 1)
        match cell.workload:
            case "strange":
                prepared.settings = {"benchmark": False}
            case "endless":
                prepared.settings = {"benchmark": "x" * 2**21}
            case "wrong":
                fetch = prepared.fetch
                prepared.fetch = lambda handle: replace(fetch(handle), y=fetch(handle).y + 1)
            case "crash_in_check":
                prepared.fetch = lambda handle: self._crash()
            case "crash_in_sampling":
                launch = prepared.launch
                prepared.launch = lambda: launch() if gc.isenabled() else self._crash()
            case "crash_in_memory":
                prepared.flops = self._crash
            case "compile_ever":
                prepared.compilations = count().__next__
            case "crash_in_close":
                prepared.close = self._crash
            case "hang_in_close":
                prepared.close = signal.pause
        return prepared

    def _crash(self) -> None:
        os.write(2, b"about to fall over\n")
        os.kill(os.getpid(), signal.SIGSEGV)

    def _at(self, prepared: NumpyConvolution, what: str, where: str, *, again: bool) -> None:
        """Do it the first or the second time that a cell is prepared, in the third visit to it, or when it is finished."""
        launch, fetch, asked = prepared.launch, prepared.fetch, 0

        def due() -> bool:
            finishing = asked > 0 and gc.isenabled()  # which it is not during a visit
            return {"alone": not again, "prepare": again, "visit": asked == 5, "finish": finishing}[where]

        def launched() -> Results:
            if due() and what == "fail":
                raise ValueError("cannot do this one")
            if due() and what == "break":
                self._breaks()
            if due() and what == "crash":
                self._crash()
            if due() and what == "hang":
                signal.pause()
            return launch()

        def fetched(handle: Results) -> Results:
            found = fetch(handle)
            return replace(found, y=found.y + 1) if due() and what == "wrong" else found

        def compilations() -> int:
            """Asked for when a visit begins and when it ends."""
            nonlocal asked
            asked += 1
            return int(what == "compile" and asked >= 6)

        prepared.launch, prepared.fetch, prepared.compilations = launched, fetched, compilations

    def _asked_to_end(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            os.kill(os.getpid(), number)

    def _killed(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def _exits(self) -> None:
        os._exit(3)

    def _hang(self) -> None:
        child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
        os.write(1, f"{child.pid}\n".encode())
        signal.pause()

    def _fork(self) -> None:
        """A child that does nothing but hold the conversation open, then the end."""
        if os.fork():
            os._exit(3)
        signal.pause()

    def _daemon(self) -> None:
        """A grandchild whose parent has ended, with a session and no output of its own."""
        if child := os.fork():
            os.waitpid(child, 0)
            return
        os.setsid()
        if grandchild := os.fork():
            os.write(1, f"{grandchild}\n".encode())
            os._exit(0)
        signal.pause()

    def _daemon_crash(self) -> None:
        self._daemon()
        self._crash()

    def _daemon_hang(self) -> None:
        """Tells who hangs through a pipe with a name, so that somebody can wait for it."""
        self._daemon()
        with open(os.environ["HANGING"], "w") as told:
            told.write(str(os.getpid()))
        signal.pause()

    def _babble(self) -> None:
        """Talks of a step that nobody asked for, without end."""
        gc.unfreeze()
        (channel,) = (found for found in gc.get_objects() if isinstance(found, wire.Channel))
        while True:
            channel.send(wire.Working(0, "check"))

    def _talk(self) -> None:
        print('{"kind": "Done", "body": {}}', flush=True)
        print("a warning", file=sys.stderr, flush=True)
        os.write(1, b"printed past Python\n")

    def _breaks(self) -> None:
        """As CUDA does: the error stays, and every cell after it has the same one."""
        self.prepare = self._broken  # type: ignore[method-assign]
        self._broken()

    def _broken(self, *anything: Any) -> NumpyConvolution:
        raise RuntimeError("CUDA error: an illegal memory access was encountered\nand advice")

    def _fail(self) -> None:
        raise ValueError("cannot do this one\nat line 7")


class Framed(Plain):
    """Imports a framework of its own; its rows tell what that framework found."""

    name: ClassVar[str] = "framed"

    @staticmethod
    def environ(device: Device, threads: int, cache: str = "") -> dict[str, str]:
        return {"SCRIPTED_FRAMEWORK": f"{threads} threads on {device}"}

    def __init__(self, device: Device, threads: int) -> None:
        from tests.isolate import framework

        self.seen = framework.SEEN
        super().__init__(device, threads)

    def devices(self) -> tuple[Device, ...]:
        return (Device("cpu"), Device("gpu", 1)) if not self.seen["own"] else (Device("cpu"),)

    def build(self) -> Build:
        return Build(cuda="13.0")

    def prepare(self, cell: Cell, operands: Operands) -> NumpyConvolution:
        prepared = super().prepare(cell, operands)
        prepared.settings = dict(self.seen)
        return prepared


class Stuttering(Plain):
    """Answers twice, and late, as a process does that forked in the middle of a cell."""

    name: ClassVar[str] = "stuttering"

    def __init__(self, device: Device, threads: int) -> None:
        send, said = wire.Channel.send, []

        def twice(channel: wire.Channel, message: wire.Message) -> None:
            send(channel, message)
            if isinstance(message, wire.Done):
                said[:] = [message]
            if isinstance(message, wire.Closed):
                for again in (*said, message):
                    send(channel, again)
            if isinstance(message, wire.Ready | wire.Visited):
                send(channel, message)

        wire.Channel.send = twice  # type: ignore[method-assign]
        super().__init__(device, threads)


class Confused(Plain):
    """Answers for another cell than it was asked for."""

    name: ClassVar[str] = "confused"

    def __init__(self, device: Device, threads: int) -> None:
        send = wire.Channel.send

        def other(channel: wire.Channel, message: wire.Message) -> None:
            if isinstance(message, wire.Done) and message.record.cell.workload == "mistaken":
                cell = replace(message.record.cell, workload="taken")
                message = replace(message, record=replace(message.record, cell=cell))
            if isinstance(message, wire.Visited) and message.visit.order == 7:
                message = replace(message, visit=replace(message.visit, order=8))
            send(channel, message)

        wire.Channel.send = other  # type: ignore[method-assign]
        super().__init__(device, threads)


class Refusing(Plain):
    """Raises when it is made."""

    def __init__(self, device: Device, threads: int) -> None:
        raise RuntimeError("built for another CPU\nand more")


class Foreign:
    """Knows nothing of the base class, and so not what is asked of a backend."""

    distributions: ClassVar[tuple[str, ...]] = ("numpy",)


class Leaving(Plain):
    """Ends the process when it is made, as some libraries do."""

    def __init__(self, device: Device, threads: int) -> None:
        os.write(2, b"this CPU is too old\n")
        sys.exit(7)


class Stuck(Plain):
    """Never gets ready."""

    def __init__(self, device: Device, threads: int) -> None:
        signal.pause()


class Absent(Plain):
    """Needs a package that nobody has."""

    distributions: ClassVar[tuple[str, ...]] = ("no_such_package_anywhere",)

    def __init__(self, *anything: Any) -> None:
        raise AssertionError("must not be made")


class Watched(Plain):
    """Tells of its calls as a profiler would, and does in the watched ones what the workload is called."""

    name: ClassVar[str] = "watched"

    @staticmethod
    def profile_environ(device: Device, threads: int) -> dict[str, str]:
        return {"ONEDNN_SCRIPTED": f"{threads} threads on {device}"}

    def __init__(self, device: Device, threads: int) -> None:
        super().__init__(device, threads)
        from harness.measure import profiling

        profiling.contended = lambda *anything: False  # type: ignore[assignment]  # whoever else runs beside these tests

    def prepare(self, cell: Cell, operands: Operands) -> NumpyConvolution:
        prepared = super().prepare(cell, operands)
        prepared.settings = {
            "pid": str(os.getpid()), "variable": os.environ.get("ONEDNN_SCRIPTED", "not set"),
            "output": os.readlink("/proc/self/fd/1"),
        }  # fmt: skip
        prepared.sources = ("scripted 1.0",)
        prepared.watched = partial(self._watched, prepared, cell.workload)
        if cell.workload == "torn":  # killed while it writes its trace
            gzip.compress = lambda *anything, **more: self._killed()  # type: ignore[assignment]
        return prepared

    def _killed(self) -> bytes:
        os.kill(os.getpid(), signal.SIGKILL)
        return b""

    @contextlib.contextmanager
    def _watched(self, prepared: NumpyConvolution, workload: str) -> Iterator[Callable[[], Iterable[Event]]]:
        launch, told = prepared.launch, list[Event]()
        os.write(1, b"printed past Python\n")

        def launched() -> Results:
            match workload:
                case "crash":
                    os.write(2, b"about to fall over\n")
                    os.kill(os.getpid(), signal.SIGSEGV)
                case "hang":
                    signal.pause()
                case "killed":
                    self._killed()
                case "breaks":
                    raise RuntimeError("CUDA error: an illegal memory access was encountered")
            begun = time.time_ns()
            found = launch()
            told.append(Event(begun, time.time_ns(), "main", Level.OPERATOR, "conv", Kind.CONVOLUTION, "scripted"))
            return found

        prepared.launch = launched
        try:
            yield lambda: [replace(event, detail=detail) for event in told]
        finally:
            prepared.launch = launch
        with open("/proc/self/fd/1") as output:
            detail = f"{os.getpid()}; {os.environ['ONEDNN_SCRIPTED']}; {output.read()}"
