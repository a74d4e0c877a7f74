"""Every finding about GPUs, and its absence; the driver is a made-up one."""

from dataclasses import replace
from pathlib import Path

import pytest

from harness.axes import Device
from harness.doctor import gpu
from harness.execution import discovery
from harness.measure.gpu import Locked, State
from harness.measure.gpus import Overview
from tests.doctor.conftest import only, whole
from tests.tree import Tree

GOOD = Overview(
    index=0, name="NVIDIA H100", driver="570.1", state=State(1980, 1980, ("GpuIdle",), 40), locked=Locked(None, "unknown"),
    used_bytes=0, processes=0, busy_percent=0, persistence=True, mig=False, ecc=None,
)  # fmt: skip
CPU, GPU = Device("cpu"), Device("gpu", 0)


def state(**differs: object) -> dict[str, tuple[str, str]]:
    """Severity and figures of what is found on a GPU that is good but for this."""
    found = list(gpu.state(replace(GOOD, **differs)))
    for one in found:
        whole(one)
    return {one.name.removeprefix("GPU 0 "): (str(one.severity), one.found) for one in found}


def held_by(*reasons: str) -> State:
    return State(1200, 1980, reasons, 88)


def test_a_gpu_in_a_good_state_has_nothing_but_its_clock_to_note() -> None:
    assert {name: severity for name, (severity, _) in state().items()} == {
        "throttling": "fine", "clock": "note", "company": "fine", "persistence mode": "fine",
    }  # fmt: skip


@pytest.mark.parametrize("reason", ["HwSlowdown", "SwThermalSlowdown", "HwThermalSlowdown", "HwPowerBrakeSlowdown"])
def test_throttling_blocks(reason: str) -> None:
    assert state(state=held_by(reason))["throttling"] == ("blocking", f"right now: 1200 of 1980 MHz, {reason}, 88 degC")


def test_a_power_cap_is_warned_of() -> None:
    assert state(state=held_by("SwPowerCap"))["throttling"][0] == "warning"


def test_a_clock_that_fell_while_idle_is_not_locked() -> None:
    severity, found = state(state=State(345, 1980, ("GpuIdle",)))["clock"]
    assert severity == "warning"
    assert found == "345 of 1980 MHz, GpuIdle: it fell while idle, so it is not locked"
    assert state(state=State(345, 1980, ()))["clock"][0] == "note"  # at work: nothing can be said
    assert state(locked=Locked(True, "set to 1500 MHz"))["clock"] == ("fine", "set to 1500 MHz")


def test_company() -> None:
    assert state(used_bytes=3 * 2**30, processes=1)["company"] == (
        "warning", "3.00 GiB in use, 1 process named, busy for 0 %",
    )  # fmt: skip
    assert state(used_bytes=3 * 2**30, busy_percent=40)["company"][0] == "blocking"
    assert state(used_bytes=63 * 2**20)["company"][0] == "fine"


def test_modes() -> None:
    assert state(persistence=False)["persistence mode"] == ("warning", "off")
    assert state(mig=True)["MIG"] == ("warning", "on")
    assert "MIG" not in state()
    assert state(ecc=True)["ECC"] == ("note", "on")
    assert state(ecc=False)["ECC"] == ("note", "off")


def test_what_the_driver_does_not_tell_is_said() -> None:
    mute = State(untold=("clock: Not Supported", "reasons: Not Supported"))
    ((name, (severity, found)),) = state(
        state=mute, persistence=None, used_bytes=None, processes=None, busy_percent=None
    ).items()
    assert (name, severity) == ("readings", "note")
    assert found.endswith(": clock: Not Supported; reasons: Not Supported; persistence mode; memory in use")


# Who sees it --------------------------------------------------------------------------------------------------------------


def test_a_gpu_that_no_framework_sees_blocks_and_names_the_extra() -> None:
    one = only(gpu.seen([GOOD], {"jax": (CPU,), "torch": (CPU,)}))
    assert (one.severity, one.found) == ("blocking", "NVIDIA H100 (driver 570.1), seen by none of jax, torch")
    assert one.remedy == "pip install 'convbench[cuda]'"
    one = only(gpu.seen([GOOD], {"numpy": (CPU,), "torch": (CPU, GPU)}))
    assert (one.severity, one.found) == ("fine", "NVIDIA H100 (driver 570.1), seen by torch")


def test_at_the_start_of_a_run_the_driver_is_asked_only_where_no_backend_sees_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(gpu, "read", lambda: asked.append(1) or (GOOD,))
    assert gpu.unseen_gpu({"torch": (CPU, GPU), "jax": (CPU,)}) is None
    assert asked == []
    unseen = gpu.unseen_gpu({"torch": (CPU,)})
    assert unseen is not None
    assert "seen by none of torch" in unseen.found
    monkeypatch.setattr(gpu, "read", lambda: "NVML: Driver Not Loaded")
    assert gpu.unseen_gpu({"torch": (CPU,)}) is None


def test_every_gpu_is_looked_at_and_the_frameworks_are_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(gpu, "read", lambda: (GOOD, replace(GOOD, index=1, persistence=False)))
    monkeypatch.setattr(discovery, "discover", lambda names: dict.fromkeys(names, (CPU,)))
    found = {one.name: str(one.severity) for one in gpu.gpus(tmp_path)}
    assert (found["GPU 0 persistence mode"], found["GPU 1 persistence mode"]) == ("fine", "warning")
    assert found["GPU and frameworks"] == "blocking"


def test_no_gpu_is_one_note_and_one_without_a_driver_a_warning(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "read", lambda: "NVML: Driver Not Loaded")
    tree.say("sys/bus/pci/devices/0000:00:01.0/vendor", "0x10de")
    tree.say("sys/bus/pci/devices/0000:00:01.0/class", "0x0c0330")  # the USB controller of a graphics card
    one = only(gpu.gpus(tree.root))
    assert (one.severity, one.found) == ("note", "none (NVML: Driver Not Loaded)")
    tree.say("sys/bus/pci/devices/0000:00:02.0/vendor", "0x10de")
    tree.say("sys/bus/pci/devices/0000:00:02.0/class", "0x030200")
    one = only(gpu.gpus(tree.root))
    assert one.severity == "warning"
    assert one.found.startswith("1 NVIDIA GPU on the PCI bus")


def test_frameworks_that_do_not_see_the_gpu_beside_one_that_does_are_named() -> None:
    fine, blind = gpu.seen([GOOD], {"numpy": (CPU,), "jax": (CPU,), "tensorflow": (CPU,), "torch": (CPU, GPU)})
    whole(blind)
    assert (str(fine.severity), str(blind.severity)) == ("fine", "warning")
    assert blind.found == "jax, tensorflow see none of NVIDIA H100 (driver 570.1)"


def test_two_cudnns_in_one_environment_block() -> None:
    assert list(gpu.two_cudnns(["nvidia-cublas", "nvidia-cudnn-cu13"])) == []
    one = only(gpu.two_cudnns(["nvidia-cudnn-cu12", "nvidia-cudnn-cu13"]))
    assert (str(one.severity), one.found) == ("blocking", "nvidia-cudnn-cu12 and nvidia-cudnn-cu13 in one environment")
