"""All GPUs of a machine, against the fake of pynvml."""

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from harness.measure import gpus
from harness.measure.gpu import Locked, State
from tests.nvml import Nvml, NVMLError, card


class Machine(Nvml):
    """The fake, with a driver; NVML calls by name that a GPU does not answer raise, as there."""

    def nvmlSystemGetDriverVersion(self) -> bytes:
        return b"570.1"


def read(monkeypatch: pytest.MonkeyPatch, module: ModuleType | None) -> Any:
    monkeypatch.setitem(sys.modules, "pynvml", module)
    return gpus.read()


def test_every_gpu_as_the_driver_tells_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")  # which says what CUDA shows, not what the machine has
    told = {
        "nvmlDeviceGetClockInfo": 345, "nvmlDeviceGetCurrentClocksEventReasons": 0x41, "nvmlDeviceGetPersistenceMode": 1,
        "nvmlDeviceGetComputeRunningProcesses": [SimpleNamespace(pid=7)], "nvmlDeviceGetEccMode": [1, 0],
        "nvmlDeviceGetUtilizationRates": SimpleNamespace(gpu=3),
    }  # fmt: skip
    nvml = Machine(card(0, "First", **told), card(1, "Second", nvmlDeviceGetMigMode=[1, 1], nvmlDeviceGetPersistenceMode=0))
    first, second = read(monkeypatch, nvml)
    assert first == gpus.Overview(
        index=0, name="First", driver="570.1", state=State(345, 1980, ("GpuIdle", "HwThermalSlowdown"), 60),
        locked=first.locked, used_bytes=300, processes=1, busy_percent=3, persistence=True, mig=False, ecc=True,
    )  # fmt: skip
    assert first.locked.value is None
    assert (second.index, second.name, second.mig, second.persistence) == (1, "Second", True, False)
    assert (second.processes, second.busy_percent, second.ecc) == (None, None, None)
    assert nvml.open == 0


def test_what_a_driver_does_not_tell_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    mute = dict.fromkeys([name for name in card() if not name.endswith(("UUID", "Name"))], NVMLError("Not Supported"))
    (one,) = read(monkeypatch, Machine(card(**mute)))
    assert (one.state.clock_mhz, one.state.reasons, one.used_bytes, one.persistence) == (None, None, None, None)


def test_an_application_clock_is_a_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    (one,) = read(monkeypatch, Machine(card(nvmlDeviceGetApplicationsClock=1500)))
    assert one.locked == Locked(True, "application clock set to 1500 MHz, 1980 MHz by default")


class Broken(Machine):
    """A library without a driver."""

    def nvmlInit(self) -> None:
        raise NVMLError("Driver Not Loaded")


def test_why_there_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    assert read(monkeypatch, None) == "nvidia-ml-py is not installed"
    assert read(monkeypatch, Broken()) == "NVML: Driver Not Loaded"
    assert read(monkeypatch, Machine()) == "NVML: no device"
    lost = Machine(card(nvmlDeviceGetName=NVMLError("GPU is lost")))
    assert read(monkeypatch, lost) == "NVML: GPU is lost"
    assert lost.open == 0
