"""Every finding about GPUs, and its absence; the driver is a made-up one."""

from dataclasses import replace
from pathlib import Path

import pytest

from harness.axes import Device
from harness.backends import packages
from harness.backends.base import Build
from harness.doctor import gpu
from harness.execution import discovery
from harness.isolate.wire import Hello
from harness.measure.gpu import Locked, State
from harness.measure.gpus import Overview
from tests import builders
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
    assert gpu.unseen_gpu({"torch": (CPU, GPU), "numpy": (CPU,), "numpy@old": (CPU,)}) is None
    some = gpu.unseen_gpu({"torch": (CPU, GPU), "jax": (CPU,), "tensorflow": (CPU,)})
    assert some is not None
    whole(some)
    assert (str(some.severity), some.found) == ("warning", "jax, tensorflow see none of the GPUs that torch sees")
    assert asked == []
    unseen = gpu.unseen_gpu({"torch": (CPU,)})
    assert unseen is not None
    assert "seen by none of torch" in unseen.found
    monkeypatch.setattr(gpu, "read", lambda: "NVML: Driver Not Loaded")
    assert gpu.unseen_gpu({"torch": (CPU,)}) is None


def test_every_gpu_is_looked_at_and_the_frameworks_are_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(gpu, "read", lambda: (GOOD, replace(GOOD, index=1, persistence=False)))
    monkeypatch.setattr(discovery, "answers", lambda names: dict.fromkeys(names, "ImportError: libx.so"))
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


CUDNN = ("nvidia-cublas", "nvidia-cudnn-cu13")


def hello(build: Build | None, libraries: tuple[str, ...] = CUDNN, devices: tuple[Device, ...] = (CPU,)) -> Hello:
    return Hello(builders.environment(), devices, build, libraries)


@pytest.mark.parametrize(
    ("answer", "driver", "visible", "reason"),
    [
        (hello(Build()), "12.9", None, "it is a build for the CPU"),
        (hello(Build(cuda="13.0")), "12.9", None, "it is built for CUDA 13.0, and the driver runs 12.9 at the most"),
        (hello(Build(cuda="13")), "12.9", None, "it is built for CUDA 13, and the driver runs 12.9 at the most"),
        (hello(Build(cuda="13.0")), "12.9", "", "it is built for CUDA 13.0, and the driver runs 12.9 at the most"),
        (hello(Build(cuda="12.9")), "12.4", "", "CUDA_VISIBLE_DEVICES= hides it"),
        (hello(Build(cuda="12.9")), "12.9", "-1", "CUDA_VISIBLE_DEVICES=-1 hides it"),
        (hello(Build(cuda="12.9")), "", "0", "it is built for CUDA 12.9, which the driver runs: what it prints"),
        (hello(Build(cuda="12.5"), ()), "13.0", None, "it is built for CUDA 12.5, whose libraries are not in its environment"),
        (hello(Build(other="AMD's GPUs (ROCm 7.0)")), "12.9", None, "not measured: it is built for AMD's GPUs (ROCm 7.0)"),
        (hello(None), "12.9", None, ""),
        ("ImportError: libcudart.so.13", "12.9", None, "ImportError: libcudart.so.13"),
    ],
)
def test_why_a_framework_sees_no_gpu(answer: Hello | str, driver: str, visible: str | None, reason: str) -> None:
    told = gpu.blindness(answer, driver, {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible})
    assert told.startswith(reason)
    assert bool(told) == bool(reason)


def test_every_framework_without_the_gpu_is_named_with_its_reason(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    told = {
        "jax": hello(Build()), "numpy": hello(None), "tensorflow": hello(Build(cuda="13.0")),
        "torch": hello(Build(cuda="12.6"), devices=(CPU, GPU)),
    }  # fmt: skip
    monkeypatch.setattr(gpu, "read", lambda: (replace(GOOD, cuda="12.9"),))
    monkeypatch.setattr(discovery, "answers", lambda names: told)
    monkeypatch.setattr(discovery, "interpreters", lambda names: {})
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    found = {one.name: one for one in gpu.gpus(tmp_path)}
    assert found["GPU and frameworks"].found == "NVIDIA H100 (driver 570.1), seen by torch"
    blind = found["frameworks without the GPU"]
    whole(blind)
    assert str(blind.severity) == "warning"
    assert blind.found == (
        "jax, tensorflow see none of NVIDIA H100 (driver 570.1); jax: it is a build for the CPU; "
        "tensorflow: it is built for CUDA 13.0, and the driver runs 12.9 at the most"
    )
    del told["torch"]
    none = {one.name: one for one in gpu.gpus(tmp_path)}["GPU and frameworks"]
    assert str(none.severity) == "blocking"
    assert "; jax: it is a build for the CPU; tensorflow: it is built for CUDA 13.0" in none.found


def test_two_cudnns_in_one_environment_block() -> None:
    assert list(gpu.two_cudnns({"one environment": CUDNN, "another": ["nvidia-cudnn-cu12"]})) == []
    both = ["nvidia-cudnn-cu12", "nvidia-cudnn-cu13"]
    one = only(gpu.two_cudnns({"one environment": both}))
    assert (str(one.severity), one.found) == ("blocking", "nvidia-cudnn-cu12 and nvidia-cudnn-cu13 in one environment")
    one = only(gpu.two_cudnns({"one environment": CUDNN, "the environment of tensorflow": both}))
    assert one.found == "nvidia-cudnn-cu12 and nvidia-cudnn-cu13 in the environment of tensorflow"


def test_the_environments_of_backends_of_their_own_are_looked_at_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    both = ("nvidia-cudnn-cu12", "nvidia-cudnn-cu13")
    told = {"tensorflow": hello(Build(), both), "torch": hello(Build(cuda="13.0"), both, (CPU, GPU))}
    monkeypatch.setattr(gpu, "read", lambda: (GOOD,))
    monkeypatch.setattr(discovery, "answers", lambda names: told)
    monkeypatch.setattr(discovery, "interpreters", lambda names: {"tensorflow": "/there/bin/python"})
    monkeypatch.setattr(packages, "cuda_libraries", lambda: ())
    found = {one.name: one for one in gpu.gpus(tmp_path)}
    assert found["cuDNN"].found.endswith(" in the environment of tensorflow")
    lacking = found["nvidia-ml-py"]
    whole(lacking)
    assert (str(lacking.severity), lacking.found) == ("warning", "not in the environment of tensorflow")
    told["tensorflow"] = hello(Build(), (*CUDNN, packages.NVML))
    assert not {"cuDNN", "nvidia-ml-py"} & {one.name for one in gpu.gpus(tmp_path)}


def test_under_wsl_a_gpu_is_warned_of(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    """What does not fit into its memory is slow there, and not out of memory."""
    monkeypatch.setattr(gpu, "read", lambda: (GOOD,))
    monkeypatch.setattr(discovery, "answers", lambda names: {})
    for release, warned in (("6.8.0-45-generic", False), ("5.15.153.1-microsoft-standard-WSL2", True)):
        tree.say("proc/sys/kernel/osrelease", release)
        found = {one.name: one for one in gpu.gpus(tree.root)}
        assert ("WSL" in found) is warned
    whole(found["WSL"])
    assert (str(found["WSL"].severity), found["WSL"].found) == ("warning", "5.15.153.1-microsoft-standard-WSL2")
    assert "is slow, and not oom" in found["WSL"].why


# Other vendors' -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("vendor", "kind", "words"),
    [
        ("0x1002", "0x038000", "AMD's GPUs (1)"),
        ("0x1002", "0x120000", "AMD's GPUs (1)"),
        ("0x8086", "0x030000", "Intel's GPUs (1)"),
    ],
)
def test_another_vendors_gpu_is_said_to_be_not_measured_and_who_is_built_for_it(
    tree: Tree, monkeypatch: pytest.MonkeyPatch, vendor: str, kind: str, words: str
) -> None:
    monkeypatch.setattr(gpu, "read", lambda: "NVML: Driver Not Loaded")
    asked = []
    told = {"torch": hello(Build(other="AMD's GPUs (ROCm 7.0)")), "jax": hello(Build()), "tensorflow": "no such library"}
    monkeypatch.setattr(discovery, "answers", lambda names: asked.append(1) or told)
    tree.say("sys/bus/pci/devices/0000:00:01.0/vendor", vendor)
    tree.say("sys/bus/pci/devices/0000:00:01.0/class", "0x020000")  # its network card
    only(gpu.gpus(tree.root))
    assert asked == []
    tree.say("sys/bus/pci/devices/0000:00:02.0/vendor", vendor)
    tree.say("sys/bus/pci/devices/0000:00:02.0/class", kind)
    none, other = gpu.gpus(tree.root)
    assert none.found == "none (NVML: Driver Not Loaded)"
    whole(other)
    assert (other.name, str(other.severity)) == ("other devices", "note")
    assert other.found == f"not measured: {words}; torch is built for AMD's GPUs (ROCm 7.0)"


def test_a_tpu_is_said_to_be_not_measured(tree: Tree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu, "read", lambda: "NVML: Driver Not Loaded")
    monkeypatch.setattr(discovery, "answers", lambda names: {"jax": hello(Build(other="Google's TPUs"))})
    for number in range(4):
        tree.say(f"dev/accel{number}", "")
    _, other = gpu.gpus(tree.root)
    assert other.found == "not measured: Google's TPUs (4); jax is built for Google's TPUs"
