"""Against a fake of pynvml: nothing here needs or proves a GPU."""

import builtins
import re
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from harness.measure import gpu
from harness.measure.gpu import Gpu, State
from tests.nvml import Nvml, NVMLError, card

Install = Callable[..., Nvml]


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Install:
    def make(*gpus: dict[str, Any], mig: dict[str, int] | None = None) -> Nvml:
        nvml = Nvml(*gpus, mig=mig)
        monkeypatch.setitem(sys.modules, "pynvml", nvml)
        return nvml

    return make


def opened(index: int = 0, **environ: str) -> Gpu:
    return Gpu(index, environ)


# Which GPU is meant -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("visible", "index", "number"),
    [
        (None, 0, 0), (None, 2, 2), ("2,0", 0, 2), ("2,0", 1, 0), (" 1 , 2", 1, 2), ("GPU-1a1b-cdef", 0, 1),
        ("GPU-2a,GPU-0", 1, 0), ("1,-1,2", 0, 1),
    ],
)  # fmt: skip
def test_an_index_is_looked_up_as_cuda_does(install: Install, visible: str | None, index: int, number: int) -> None:
    install(card(0), card(1), card(2))
    found = opened(index, **({} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}))
    assert (found.reason, found.uuid) == ("", f"GPU-{number}a{number}b-cdef")


@pytest.mark.parametrize(
    ("visible", "index", "reason"),
    [
        (None, 3, "NVML sees 3 GPUs, so there is no gpu:3"),
        ("0", 1, "CUDA_VISIBLE_DEVICES=0 shows 1 GPUs, so there is no gpu:1"),
        ("", 0, "CUDA_VISIBLE_DEVICES= shows 0 GPUs, so there is no gpu:0"),
        ("1,-1,2", 1, "CUDA_VISIBLE_DEVICES=1,-1,2 shows 1 GPUs, so there is no gpu:1"),
        ("GPU-", 0, "CUDA_VISIBLE_DEVICES names 'GPU-', which fits 3 GPUs that NVML sees"),
        ("GPU-9", 0, "CUDA_VISIBLE_DEVICES names 'GPU-9', which fits 0 GPUs that NVML sees"),
        ("MIG-9", 0, "NVML does not find gpu:0: NVMLError: Not Found"),
    ],
)
def test_an_index_that_names_no_gpu_is_a_reason(install: Install, visible: str | None, index: int, reason: str) -> None:
    nvml = install(card(0), card(1), card(2))
    found = opened(index, **({} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}))
    assert found.reason == reason
    assert found.energy_mj() == (None, reason)
    assert nvml.open == 0


def test_among_gpus_of_several_kinds_a_number_is_no_name_unless_cuda_counts_like_nvml(install: Install) -> None:
    install(card(0, "Small"), card(1, "Large"))
    by_speed = opened(0, CUDA_DEVICE_ORDER="FASTEST_FIRST")
    assert by_speed.reason == "which of Large, Small gpu:0 is cannot be known: set CUDA_DEVICE_ORDER=PCI_BUS_ID"
    assert opened(0).uuid == opened(0, CUDA_DEVICE_ORDER="PCI_BUS_ID").uuid == "GPU-0a0b-cdef"
    assert opened(0, CUDA_VISIBLE_DEVICES="GPU-1").uuid == "GPU-1a1b-cdef"


def test_a_slice_has_the_clock_of_its_gpu_memory_of_its_own_and_no_energy(install: Install) -> None:
    install(card(0), card(1, nvmlDeviceGetClockInfo=1500), mig={"MIG-77": 1})
    found = opened(0, CUDA_VISIBLE_DEVICES="MIG-77")
    assert (found.mig, found.uuid, found.read().clock_mhz) == (True, "GPU-1a1b-cdef", 1500)
    assert found.used_bytes().value == 7
    assert found.energy_mj() == (None, "a MIG slice has no energy counter of its own")


class Slices(Nvml):
    """Every GPU is cut into slices, the first of which has the second place."""

    made: tuple[int, ...] = (1, 2)

    def nvmlDeviceGetMaxMigDeviceCount(self, handle: dict[str, Any]) -> int:
        return 7

    def nvmlDeviceGetMigDeviceHandleByIndex(self, handle: dict[str, Any], index: int) -> dict[str, Any]:
        if index not in self.made:
            raise NVMLError("Not Found")
        return {"nvmlDeviceGetMemoryInfo": SimpleNamespace(used=0, free=17 + index)}


def test_a_number_on_a_gpu_in_slices_is_the_first_slice_with_its_own_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    slices = Slices(card(0, nvmlDeviceGetMigMode=[1, 1]))
    monkeypatch.setitem(sys.modules, "pynvml", slices)
    found = opened(0)
    assert (found.mig, found.reason, found.free_bytes().value) == (True, "", 18)
    slices.made = ()
    assert opened(0).reason == "MIG is on, and no slice was made: nothing can be measured on this GPU"


def test_cuda_shows_no_second_slice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", Slices(*(card(number, nvmlDeviceGetMigMode=[1, 1]) for number in (0, 1))))
    assert opened(1).reason == "the GPU is cut into slices (MIG), of which CUDA shows one: there is no gpu:1"


# One look -----------------------------------------------------------------------------------------------------------------


def test_a_look_tells_clock_reasons_and_temperature(install: Install) -> None:
    install(card(nvmlDeviceGetCurrentClocksEventReasons=0x4 | 0x20 | 0x400))
    state = opened().read()
    assert state == State(1900, 1980, ("SwPowerCap", "SwThermalSlowdown", "0x400"), 60)
    assert str(state) == "1900 of 1980 MHz, SwPowerCap, SwThermalSlowdown, 0x400, 60 degC"


def test_old_and_new_names_of_a_function_are_tried(install: Install) -> None:
    """Drivers that lack the new name have the old one, and the default clock gives way to the highest."""
    gone = NVMLError("Function Not Found")
    install(
        card(
            nvmlDeviceGetCurrentClocksEventReasons=gone, nvmlDeviceGetCurrentClocksThrottleReasons=0x8,
            nvmlDeviceGetDefaultApplicationsClock=NVMLError("Not Supported"), nvmlDeviceGetTemperatureV=gone,
            nvmlDeviceGetTemperature=71,
        )
    )  # fmt: skip
    assert opened().read() == State(1900, 2100, ("HwSlowdown",), 71)


def test_what_is_not_told_is_none_and_says_why(install: Install) -> None:
    install({"nvmlDeviceGetUUID": b"GPU-1", "nvmlDeviceGetName": b"Some GPU", "nvmlDeviceGetClockInfo": 1300})
    found = opened()
    state = found.read()
    assert (state.clock_mhz, state.default_clock_mhz, state.reasons, state.temperature_c) == (1300, None, None, None)
    assert state.untold == (
        "default clock: nvmlDeviceGetMaxClockInfo: NVMLError: Not Supported",
        "reasons: nvmlDeviceGetCurrentClocksThrottleReasons: NVMLError: Not Supported",
        "temperature: nvmlDeviceGetTemperature: NVMLError: Not Supported",
    )
    assert state.valid
    for told in (found.energy_mj(), found.used_bytes(), found.free_bytes(), found.process_bytes()):
        assert told.value is None
        assert "Not Supported" in told.reason


def test_without_the_library_everything_is_none_with_that_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *more: Any) -> Any:
        if name == "pynvml":
            raise ImportError("No module named 'pynvml'")
        return real(name, *more)

    monkeypatch.setattr(builtins, "__import__", without)
    found, reason = opened(), "NVML is not available: ImportError: No module named 'pynvml'"
    assert found.reason == found.locked().how == found.energy_mj().reason == reason
    assert found.read().valid
    assert (found.used_bytes().value, found.process_bytes().value, found.default_clock().value) == (None, None, None)


def test_without_a_driver_everything_is_none_with_that_reason(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = install(card())
    monkeypatch.setattr(nvml, "nvmlInit", lambda: (_ for _ in ()).throw(NVMLError("Driver Not Loaded")))
    assert opened().reason == "NVML is not available: NVMLError: Driver Not Loaded"


def test_closed_it_tells_nothing_and_lets_go_once(install: Install) -> None:
    nvml = install(card())
    found = opened()
    found.close()
    found.close()
    assert nvml.open == 0
    assert found.energy_mj() == (None, "closed")


@pytest.mark.parametrize(
    ("state", "valid"),
    [
        (State(1900, 1980, (), 60), True),
        (State(1900, 1980, ("SwPowerCap", "SyncBoost", "ApplicationsClocksSetting", "DisplayClockSetting"), 60), True),
        (State(1485, 1980, (), 60), True),  # 75 % to the megahertz
        (State(1484, 1980, (), 60), False),
        (State(1300, 1980, ("SwPowerCap",)), True),  # a board that runs at its power limit for good
        (State(1300, 1980, ("SwPowerCap", "SwThermalSlowdown")), False),
        (State(1980, 1980, ("HwSlowdown",)), False),
        (State(1980, 1980, ("SwThermalSlowdown",)), False),
        (State(1980, 1980, ("HwThermalSlowdown",)), False),
        (State(1980, 1980, ("HwPowerBrakeSlowdown",)), False),
        (State(100, None, None), True),
        (State(), True),
    ],
)
def test_heat_power_and_a_low_clock_make_invalid_and_a_power_cap_does_not(state: State, valid: bool) -> None:
    assert state.valid is valid


def test_the_names_that_make_invalid_are_the_bits_of_the_method() -> None:
    assert gpu.INVALIDATING == 0xE8
    assert gpu.names(0xE8) == ("HwSlowdown", "SwThermalSlowdown", "HwThermalSlowdown", "HwPowerBrakeSlowdown")
    assert gpu.names(0) == ()


def test_the_bits_are_those_of_the_library() -> None:
    nvml = pytest.importorskip("pynvml")
    for bit, name in gpu._REASONS.items():
        assert getattr(nvml, f"nvmlClocksEventReason{name}") == bit


def test_every_function_that_is_asked_for_is_one_of_the_library_s(monkeypatch: pytest.MonkeyPatch) -> None:
    """A misspelt one would give None for ever, with a reason that reads like a driver's."""
    nvml = pytest.importorskip("pynvml")
    with open(gpu.__file__) as file:
        asked = set(re.findall(r"\bnvml(?:Device|System|Init|Shutdown)\w*", file.read()))
    assert len(asked) > 15
    assert [name for name in sorted(asked) if not hasattr(nvml, name)] == []


# Locked clocks, memory ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("answers", "value", "how"),
    [
        ({"nvmlDeviceGetClock": 1980}, None, "unknown: NVML does not tell"),
        ({"nvmlDeviceGetClock": 1200}, True, "application clock set to 1200 MHz, 1980 MHz by default"),
        ({"nvmlDeviceGetApplicationsClock": 1200}, True, "application clock set to 1200 MHz"),
        ({"nvmlDeviceGetCurrentClocksEventReasons": 0x2}, True, "ApplicationsClocksSetting"),
        ({}, None, "unknown"),
    ],
)
def test_locked_clocks_are_found_where_nvml_shows_them_and_else_unknown(
    install: Install, answers: dict[str, Any], value: bool | None, how: str
) -> None:
    install(card(**answers))
    locked = opened().locked()
    assert locked.value is value
    assert how in locked.how


def test_memory_in_use_leaves_out_the_driver_s_where_that_is_told(install: Install) -> None:
    versions = {("nvmlDeviceGetMemoryInfo", 2): SimpleNamespace(used=200, free=600)}
    install({**card(), **versions})
    assert (opened().used_bytes().value, opened().free_bytes().value) == (200, 600)
    install({**card(), ("nvmlDeviceGetMemoryInfo", 2): NVMLError("Argument Version Mismatch")})
    assert (opened().used_bytes().value, opened().free_bytes().value) == (300, 700)


def test_memory_of_a_process_is_that_of_its_id(install: Install) -> None:
    others = [SimpleNamespace(pid=1, usedGpuMemory=50), SimpleNamespace(pid=42, usedGpuMemory=70)]
    install(card(nvmlDeviceGetComputeRunningProcesses=others))
    assert opened().process_bytes(42).value == 70
    hidden = opened().process_bytes(43)
    assert hidden.value is None
    assert "process 43 is not listed; containers hide the ids" in hidden.reason


def test_the_processes_on_a_gpu_are_those_that_nvml_lists(install: Install) -> None:
    listed = [SimpleNamespace(pid=1, usedGpuMemory=None), SimpleNamespace(pid=42, usedGpuMemory=70)]
    install(card(nvmlDeviceGetComputeRunningProcesses=listed))
    found = opened()
    assert found.processes() == {1, 42}
    found.close()
    assert found.processes() == set()
    install(card())
    assert opened().processes() == set()
