"""Backends that worker processes load: the reference, with moods that depend on the workload's name."""

import os
import signal
import subprocess
import sys
from typing import Any, ClassVar

from harness.backends.base import Operands
from harness.backends.numpy import NumpyBackend, NumpyPrepared
from harness.spec import Cell, Device


class Plain(NumpyBackend):
    """The reference; its rows tell the process that made them."""

    name: ClassVar[str] = "plain"

    def prepare(self, cell: Cell, operands: Operands) -> NumpyPrepared:
        prepared = super().prepare(cell, operands)
        prepared.settings = {"pid": str(os.getpid())}
        return prepared


class Paged(Plain):
    """Its rows tell whether NumPy asks the kernel for huge pages."""

    def prepare(self, cell: Cell, operands: Operands) -> NumpyPrepared:
        from numpy._core import _multiarray_umath

        prepared = super().prepare(cell, operands)
        prepared.settings = {"numpy asks for huge pages": str(_multiarray_umath._get_madvise_hugepage())}
        return prepared


class Moody(Plain):
    """Does what the workload is called."""

    name: ClassVar[str] = "moody"

    def prepare(self, cell: Cell, operands: Operands) -> NumpyPrepared:
        getattr(self, f"_{cell.workload}", lambda: None)()
        prepared = super().prepare(cell, operands)
        if cell.workload == "strange":
            prepared.settings = {"benchmark": False}
        return prepared

    def _crash(self) -> None:
        os.write(2, b"about to fall over\n")
        os.kill(os.getpid(), signal.SIGSEGV)

    def _crash_later(self) -> None:
        """The second time it is asked for."""
        if getattr(self, "seen", False):
            self._crash()
        self.seen = True

    def _killed(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def _exits(self) -> None:
        os._exit(3)

    def _hang(self) -> None:
        child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])
        os.write(1, f"{child.pid}\n".encode())
        signal.pause()

    def _talk(self) -> None:
        print('{"kind": "Done", "body": {}}', flush=True)
        print("a warning", file=sys.stderr, flush=True)
        os.write(1, b"printed past Python\n")

    def _breaks(self) -> None:
        """As CUDA does: the error stays, and every cell after it has the same one."""
        self.prepare = self._broken  # type: ignore[method-assign]
        self._broken()

    def _broken(self, *anything: Any) -> NumpyPrepared:
        raise RuntimeError("CUDA error: an illegal memory access was encountered\nand advice")

    def _fail(self) -> None:
        raise ValueError("cannot do this one\nat line 7")


class Framed(Plain):
    """Imports a framework of its own; its rows tell what that framework found."""

    name: ClassVar[str] = "framed"

    @staticmethod
    def environ(device: Device, threads: int) -> dict[str, str]:
        return {"SCRIPTED_FRAMEWORK": f"{threads} threads on {device}"}

    def __init__(self, device: Device, threads: int) -> None:
        from tests.isolate import framework

        self.seen = framework.SEEN
        super().__init__(device, threads)

    def devices(self) -> tuple[Device, ...]:
        return (Device("cpu"), Device("gpu", 1)) if not self.seen["own"] else (Device("cpu"),)

    def prepare(self, cell: Cell, operands: Operands) -> NumpyPrepared:
        prepared = super().prepare(cell, operands)
        prepared.settings = dict(self.seen)
        return prepared


class Talkative(Plain):
    """Tells its progress after every block, however short the cell, and finds no block contended."""

    name: ClassVar[str] = "talkative"

    def __init__(self, device: Device, threads: int) -> None:
        from harness.measure import sampling, witness

        super().__init__(device, threads)
        sampling._PROGRESS_EVERY_NS = sampling._WORK_TO_READING = sampling._COOLED_BELOW_NS = 0
        witness.RunDelay.read = lambda delay: None


class Refusing(Plain):
    """Raises when it is made."""

    def __init__(self, device: Device, threads: int) -> None:
        raise RuntimeError("built for another CPU\nand more")


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
