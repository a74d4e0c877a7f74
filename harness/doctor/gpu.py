"""The GPUs: whether the frameworks see them, what holds their clocks down, and who else is on them."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from harness import units
from harness.ask.axes import REFERENCE
from harness.axes import LABEL, Device
from harness.doctor.finding import BLOCKING, FINE, NOTE, WARNING, Finding, Found, count
from harness.measure import machine
from harness.measure.gpus import Overview, read

if TYPE_CHECKING:
    from harness.isolate.wire import Hello

FOREIGN_BYTES = 64 * 2**20  # more than a display manager without windows holds
_HIDING = ("", "-1")  # what CUDA_VISIBLE_DEVICES says where it shows none
_NOTHING: Mapping[str, str] = MappingProxyType({})


def gpus(root: Path) -> Found:
    """All about the GPUs, or that there is none."""
    gpus = read()
    if isinstance(gpus, str):
        yield from _none(gpus, root)
        return
    from harness.backends import packages, registry
    from harness.execution import discovery

    for one in gpus:
        yield from state(one)
    names = registry.names()
    told, own = discovery.answers(names), discovery.interpreters(names)
    devices = {name: (Device("cpu"),) if isinstance(answer, str) else answer.devices for name, answer in told.items()}
    yield from seen(gpus, devices, {name: blindness(answer, gpus[0].cuda) for name, answer in told.items()})
    elsewhere = {name: answer.libraries for name, answer in told.items() if name in own and not isinstance(answer, str)}
    places = {"one environment": packages.cuda_libraries()}
    yield from two_cudnns(places | {f"the environment of {name}": libraries for name, libraries in elsewhere.items()})
    yield from without_nvml([name for name, libraries in elsewhere.items() if packages.NVML not in libraries])
    yield from _wsl(root)


def _none(why: str, root: Path) -> Found:
    """That no GPU can be asked, and which devices there are that are not measured."""
    on_bus = machine.nvidia_on_bus(root)
    if on_bus or machine.text(root / "proc/driver/nvidia/version"):
        yield Finding(
            "GPU", WARNING, f"{on_bus or 'an'} NVIDIA GPU on the PCI bus, which cannot be asked ({why})",
            "neither clocks nor throttling, memory or energy are seen, and without a driver nothing runs on it",
            "install NVIDIA's driver (in a container: its toolkit, docker --gpus all) and pip install nvidia-ml-py",
        )  # fmt: skip
    else:
        yield Finding("GPU", NOTE, f"none ({why})", "nothing can be measured on a GPU", "none needed without one")
    if others := machine.other_accelerators(root):
        from harness.backends import registry
        from harness.execution import discovery

        yield from not_measured(others, discovery.answers(registry.names()))


def not_measured(others: Mapping[str, int], told: "Mapping[str, Hello | str]") -> Found:
    """The devices of other vendors, by whose they are, and the frameworks that are built for them."""
    words = ", ".join(f"{whose} ({number})" for whose, number in others.items())
    built = [
        f"{name} is built for {answer.build.other}"
        for name, answer in told.items()
        if not isinstance(answer, str) and answer.build and answer.build.other
    ]
    yield Finding(
        "other devices", NOTE, "; ".join([f"not measured: {words}", *built]),
        "convbench measures GPUs of NVIDIA alone, and these frameworks on the CPU", "a machine with an NVIDIA GPU",
    )  # fmt: skip


def blindness(answer: "Hello | str", driver_cuda: str, environ: Mapping[str, str] = os.environ) -> str:
    """Why a framework sees no GPU, by what it tells of itself and the driver's newest CUDA; empty where neither says it."""
    if isinstance(answer, str):
        return answer
    build = answer.build
    if build is None:
        return ""
    if build.other:
        return f"not measured: it is built for {build.other}"
    if not build.cuda:
        return "it is a build for the CPU"
    needed, there = (version.partition(".")[0] for version in (build.cuda, driver_cuda))
    if needed.isdecimal() and there.isdecimal() and int(needed) > int(there):
        return f"it is built for CUDA {build.cuda}, and the driver runs {driver_cuda} at the most"
    if environ.get("CUDA_VISIBLE_DEVICES") in _HIDING:
        return f"CUDA_VISIBLE_DEVICES={environ['CUDA_VISIBLE_DEVICES']} hides it"
    if not any(name.startswith("nvidia-cudnn") for name in answer.libraries):
        return f"it is built for CUDA {build.cuda}, whose libraries are not in its environment"
    return f"it is built for CUDA {build.cuda}, which the driver runs: what it prints when it is imported may say why"


def seen(gpus: Sequence[Overview], devices: Mapping[str, Sequence[Device]], why: Mapping[str, str] = _NOTHING) -> Found:
    """Which frameworks see a GPU that the driver shows, and which do not; `why` has reasons for the latter."""
    names = ", ".join(f"{one.name} (driver {one.driver})" for one in gpus)
    seeing, blind = _sorted_out(devices)
    reasons = "".join(f"; {name}: {why[name]}" for name in blind if why.get(name))
    if seeing:
        yield Finding("GPU and frameworks", FINE, f"{names}, seen by {', '.join(seeing)}")
        if gpus and blind:
            yield _without(blind, names, reasons)
    elif gpus:
        yield Finding(
            "GPU and frameworks", BLOCKING, f"{names}, seen by none of {', '.join(devices) or 'no framework'}{reasons}",
            "nothing can be measured on the GPU: the frameworks are builds for the CPU, or of another CUDA than the driver's",
            "pip install 'convbench[cuda]'",
        )  # fmt: skip


def _sorted_out(devices: Mapping[str, Sequence[Device]]) -> tuple[list[str], list[str]]:
    """The backends that see a GPU, and those that do not; the reference never does."""
    seeing = [name for name, kinds in devices.items() if any(device.kind == "gpu" for device in kinds)]
    return seeing, [name for name in devices if name not in seeing and name.partition(LABEL)[0] != REFERENCE]


def _without(blind: Sequence[str], names: str, reasons: str) -> Finding:
    """That these frameworks see none of the GPUs, which others do."""
    return Finding(
        "frameworks without the GPU", WARNING, f"{', '.join(blind)} see{'s' * (len(blind) == 1)} none of {names}{reasons}",
        "measured on the CPU alone, beside others on the GPU",
        "install their builds for CUDA (scripts/setup cuda), or a newer driver",
    )  # fmt: skip


def unseen_gpu(devices: Mapping[str, Sequence[Device]]) -> Finding | None:
    """That a GPU is here which not all of the backends of a run see, or none; None where all do, or there is no GPU.

    The driver is asked only where no backend sees one.
    """
    seeing, blind = _sorted_out(devices)
    if seeing:
        return _without(blind, f"the GPUs that {', '.join(seeing)} see{'s' * (len(seeing) == 1)}", "") if blind else None
    gpus = read()
    return None if isinstance(gpus, str) else next(iter(seen(gpus, devices)), None)


def two_cudnns(environments: Mapping[str, Sequence[str]]) -> Found:
    """Whether cuDNN for two versions of CUDA stands in one environment, by the distributions that are installed in each."""
    found = []
    for environment, libraries in environments.items():
        both = [name for name in libraries if name.startswith("nvidia-cudnn-cu")]
        found += [f"{' and '.join(both)} in {environment}"] if len(both) > 1 else []
    if found:
        yield Finding(
            "cuDNN", BLOCKING, "; ".join(found),
            "both write into one folder, and the one that was installed last breaks what was built for the other",
            "an environment of its own for TensorFlow, beside that of PyTorch and JAX",
        )  # fmt: skip


def without_nvml(names: Sequence[str]) -> Found:
    """That the interpreters of these backends cannot ask NVML."""
    if names:
        yield Finding(
            "nvidia-ml-py", WARNING, f"not in the environment of {', '.join(names)}",
            "their workers are told which GPU it is, and see neither its clock nor throttling, memory or energy: no flag tells",
            "pip install nvidia-ml-py there",
        )  # fmt: skip


def _wsl(root: Path) -> Found:
    if release := machine.wsl(root):
        yield Finding(
            "WSL", WARNING, release,
            "what does not fit into the board's memory goes to the system's: such a cell is slow, and not oom; energy and "
            "other processes are not told",
            "Linux without Windows beneath it, or cells that fit (`convbench show` has their memory)",
        )  # fmt: skip


def state(one: Overview) -> Found:
    """What state one GPU is in."""
    name, reasons = f"GPU {one.index}", one.state.reasons
    if one.state.throttled:
        yield Finding(
            f"{name} throttling", BLOCKING, f"right now: {one.state}",
            "figures are those of a clock that is held down, flagged throttled where that is seen",
            "let it cool; check cooling, power supply and power limit",
        )  # fmt: skip
    elif one.state.power_capped:
        yield Finding(
            f"{name} throttling", WARNING, f"right now: {one.state}", "the power limit decides the clock",
            "sudo nvidia-smi -pl WATTS, up to the board's limit, or lock a lower clock",
        )  # fmt: skip
    elif reasons is not None:
        yield Finding(f"{name} throttling", FINE, f"none ({one.state})")
    yield from _clock(name, one)
    yield from _company(name, one)
    if one.persistence is False:
        yield Finding(
            f"{name} persistence mode", WARNING, "off",
            "the driver lets go of the GPU between processes: every trial pays its start, and locked clocks are lost",
            f"sudo nvidia-smi -i {one.index} -pm 1",
        )  # fmt: skip
    elif one.persistence:
        yield Finding(f"{name} persistence mode", FINE, "on")
    if one.mig:
        yield Finding(
            f"{name} MIG", WARNING, "on", "a slice is measured, and what runs in the others shares memory bandwidth and power",
            f"sudo nvidia-smi -i {one.index} -mig 0, or keep the other slices empty",
        )  # fmt: skip
    if one.ecc is not None:
        yield Finding(
            f"{name} ECC", NOTE, "on" if one.ecc else "off", "it may cost memory bandwidth",
            "keep it the same between machines that are compared",
        )  # fmt: skip
    persistence = () if one.persistence is not None else ("persistence mode",)
    memory = () if one.used_bytes is not None else ("memory in use",)
    if untold := (*one.state.untold, *persistence, *memory):
        yield Finding(
            f"{name} readings", NOTE, f"not told by the driver: {'; '.join(untold)}", "what is not told is not checked",
            "a newer driver, if the board can tell at all",
        )  # fmt: skip


def _clock(name: str, one: Overview) -> Found:
    if one.state.clock_mhz is None:
        return
    if one.locked.value:
        yield Finding(f"{name} clock", FINE, one.locked.how)
    elif one.state.slow and one.state.idle:
        yield Finding(
            f"{name} clock", WARNING, f"{one.state}: it fell while idle, so it is not locked",
            "the clock ramps up under load and moves with temperature and power, and the figures with it",
            f"sudo nvidia-smi -i {one.index} -lgc MHZ,MHZ (nvidia-smi -q -d SUPPORTED_CLOCKS lists them; -rgc undoes it)",
        )  # fmt: skip
    else:
        yield Finding(
            f"{name} clock", NOTE, str(one.state),
            "the driver does not tell whether it is locked; if not, it moves with the load",
            f"if nobody has locked it: sudo nvidia-smi -i {one.index} -lgc MHZ,MHZ",
        )  # fmt: skip


def _company(name: str, one: Overview) -> Found:
    """Who else is on it."""
    held, busy = one.used_bytes or 0, one.busy_percent or 0
    words = f"{units.size(held)} in use, {count(one.processes or 0, 'process', 'processes')} named, busy for {busy} %"
    if held < FOREIGN_BYTES and not busy:
        if one.used_bytes is not None:
            yield Finding(f"{name} company", FINE, f"nobody: {words}")
        return
    yield Finding(
        f"{name} company", BLOCKING if busy else WARNING, words,
        "someone else's work on the GPU takes turns with ours, and its memory is missing for large cells",
        "end it (nvidia-smi names the processes; a container does not see those of others)",
    )  # fmt: skip
