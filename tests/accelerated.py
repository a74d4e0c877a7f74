"""A GPU that is none, for processes of their own: a fake of NVML, a framework that says it computes on it, and its plain loop.

`plant` writes what makes workers and commands find them: `pynvml`, and entry points by which they stand for real frameworks.
"""

import mmap
import os
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np

from harness.axes import Device, Mode, Precision
from harness.backends.base import Build, Operands, Prepared, Results
from harness.backends.numpy import NumpyBackend, NumpyCeiling, NumpyConvolution
from harness.spec import Cell
from tests.nvml import Nvml, NVMLError, card

NAME, UUID = "Some GPU", "GPU-0a0b-cdef"
USED, FREE, WATTS = 2**31, 14 * 2**30, 200
CUDNN = "ACCELERATED_CUDNN"  # the variable that names a file, which the framework loads as its cuDNN
ADAPTER, LOOP = "tests.accelerated:Accelerated", "tests.accelerated:Loop"
_BITS = {Precision.TF32: 10, Precision.FP16: 10, Precision.BF16: 7}  # of the significand that are stored
_PYNVML = "import sys\nfrom tests.accelerated import nvml\nsys.modules[__name__] = nvml()\n"
_faults: list[str] = []


class Board(Nvml):
    """NVML of one GPU at work, whose energy counter moves every 20 ms."""

    NVMLError = NVMLError

    def nvmlSystemGetDriverVersion(self) -> str:
        return "570.1"

    def nvmlSystemGetCudaDriverVersion(self) -> int:
        return 12090

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: Any) -> int:
        return int(time.monotonic() * 50) * 20 * WATTS


def nvml() -> Board:
    memory = SimpleNamespace(used=USED, free=FREE)
    return Board(card(0, NAME, nvmlDeviceGetMemoryInfo=memory, nvmlDeviceGetPowerManagementLimit=300_000))


def plant(folder: Path, *names: str) -> None:
    """Write the fake of NVML into a folder of the path, and these frameworks."""
    (folder / "pynvml.py").write_text(_PYNVML)
    (folder / "libcudnn.so.9").write_bytes(bytes(mmap.PAGESIZE))
    info = folder / "accelerated-0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: accelerated\nVersion: 0\n")
    points = "".join(f"{name} = {ADAPTER}\n" for name in names)
    (info / "entry_points.txt").write_text(f"[harness.backends]\n{points}")


def rounded(array: Any, precision: Precision) -> Any:
    """Float32 values with as many bits as a precision keeps."""
    if precision not in _BITS:
        return array
    dropped = 23 - _BITS[precision]
    bits = np.ascontiguousarray(array, np.float32).view(np.uint32)
    return ((bits + np.uint32(1 << (dropped - 1))) & np.uint32(0xFFFFFFFF << dropped & 0xFFFFFFFF)).view(np.float32)


class _OnGpu(Prepared):
    """What each call of it has in common."""

    device_clock = "scripted clock, with the gaps between kernels"
    precision: Precision

    def launch(self) -> Any:
        if _faults:
            raise RuntimeError(_faults[0])
        return super().launch()

    def fetch(self, handle: Any) -> Results:
        found = super().fetch(handle)  # type: ignore[safe-super]
        if self.precision is Precision.TF32:
            return found
        return Results(**{name: rounded(value, self.precision).astype(np.float64) for name, value in found.items().items()})

    def device_time(self, calls: int) -> float:
        begun = time.perf_counter_ns()
        for _ in range(calls):
            self.launch()
        return float(time.perf_counter_ns() - begun)

    def device_memory(self) -> tuple[int, int, str]:
        return 1000, 2000, "scripted counter"

    def evict(self, nbytes: int) -> None:
        return


class _Convolution(_OnGpu, NumpyConvolution):
    """A convolution."""


class _Ceiling(_OnGpu, NumpyCeiling):
    """A matrix product or a copy."""


class Accelerated(NumpyBackend):
    """The reference on a GPU, in every mode and precision, with one cuDNN."""

    modes: ClassVar[frozenset[Mode]] = frozenset(Mode)

    def __init__(self, device: Device, threads: int) -> None:
        super().__init__(device, threads)
        self._device = device
        if device.kind == "gpu":
            with open(os.environ[CUDNN], "rb") as file:
                self._cudnn = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def devices(self) -> tuple[Device, ...]:
        return Device("cpu"), Device("gpu", 0)

    def board(self) -> dict[str, str]:
        return {"name": NAME, "uuid": UUID.removeprefix("GPU-")} if self._device.kind == "gpu" else {}

    def build(self) -> Build:
        return Build(cuda="12.9")

    def supports(self, cell: Cell) -> str | None:
        return None

    def prepare(self, cell: Cell, operands: Operands) -> Prepared:
        arrays = {name: array for name, array in vars(operands).items() if array is not None}
        given = Operands(**{name: rounded(array, cell.precision) for name, array in arrays.items()})
        kind = _Convolution if cell.is_convolution else _Ceiling
        prepared = kind(self._np, replace(cell, precision=Precision.FP32), given)
        prepared.precision = cell.precision
        return prepared


class Loop:
    """Its plain loop."""

    def __init__(self, index: int) -> None:
        self.index = index

    def gemm(self, size: int, dtype: str) -> Any:
        a, b, y = (np.ones((size, size), np.float32) for _ in range(3))
        return lambda: np.matmul(a, b, out=y), lambda handle: None

    def copy(self, nbytes: int) -> Any:
        x, y = (np.ones(nbytes // 4, np.float32) for _ in range(2))
        return lambda: np.copyto(y, x), lambda handle: None

    def kernels_ns(self, launch: Any, wait: Any, calls: int) -> float | None:
        return None

    def hold(self, nbytes: int) -> None:
        if nbytes > FREE:
            raise RuntimeError("CUDA out of memory. Tried to allocate")

    def let_go(self) -> None:
        return

    def fault(self) -> None:
        _faults.append("CUDA error: unspecified launch failure\nand advice")
