"""All NVIDIA GPUs of the machine, as the driver tells of them before any worker runs. These are facts; `doctor` judges them.

`gpu.Gpu` is the one GPU that a worker measures on. It is asked here for each GPU, and what concerns the machine is added.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from harness.measure.gpu import Gpu, Locked, State, cuda_of_driver

_AS_NVML_COUNTS = {"CUDA_DEVICE_ORDER": "PCI_BUS_ID"}  # every GPU by its place on the bus, whichever CUDA may show


@dataclass(frozen=True)
class Overview:
    """One GPU. None, or an empty `cuda`: the driver does not tell.

    `cuda` is the newest version of CUDA that the driver runs, as `12.9`. `used_bytes` is the memory that processes hold,
    without what the driver keeps for itself where it tells the two apart. `processes` is the number of those that this
    container may know of.
    """

    index: int
    name: str
    driver: str
    state: State
    locked: Locked
    used_bytes: int | None
    processes: int | None
    busy_percent: int | None
    persistence: bool | None
    mig: bool
    ecc: bool | None
    cuda: str = ""


def read() -> tuple[Overview, ...] | str:
    """The GPUs, or why there are none."""
    try:
        import pynvml
    except ImportError:
        return "nvidia-ml-py is not installed"
    try:
        pynvml.nvmlInit()
    except Exception as error:  # no driver, no device: each version of the library raises its own
        return f"NVML: {error}"
    try:
        return tuple(_overview(pynvml, index) for index in range(pynvml.nvmlDeviceGetCount())) or "NVML: no device"
    except Exception as error:  # whatever a driver may answer
        return f"NVML: {error}"
    finally:
        pynvml.nvmlShutdown()


def _overview(nvml: Any, index: int) -> Overview:
    device = nvml.nvmlDeviceGetHandleByIndex(index)
    one = Gpu(index, _AS_NVML_COUNTS)
    try:
        return Overview(
            index=index,
            name=_text(nvml.nvmlDeviceGetName(device)),
            driver=_text(nvml.nvmlSystemGetDriverVersion()),
            state=one.read(),
            locked=one.locked(),
            used_bytes=one.used_bytes().value,
            processes=_told(lambda: len(nvml.nvmlDeviceGetComputeRunningProcesses(device))),
            busy_percent=_told(lambda: int(nvml.nvmlDeviceGetUtilizationRates(device).gpu)),
            persistence=_told(lambda: bool(nvml.nvmlDeviceGetPersistenceMode(device))),
            mig=one.mig,
            ecc=_told(lambda: bool(nvml.nvmlDeviceGetEccMode(device)[0])),
            cuda=cuda_of_driver(nvml),
        )
    finally:
        one.close()


def _told(ask: Callable[[], Any]) -> Any:
    try:
        return ask()
    except Exception:  # not supported by this GPU, or not by this nvidia-ml-py
        return None


def _text(told: str | bytes) -> str:
    return told.decode() if isinstance(told, bytes) else told
