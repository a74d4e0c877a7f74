"""The GPUs: whether a framework sees them, what holds their clocks down, and who else is on them."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from harness import units
from harness.ask.axes import REFERENCE
from harness.axes import Device
from harness.doctor.finding import BLOCKING, FINE, NOTE, WARNING, Finding, Found, count
from harness.measure import machine
from harness.measure.gpus import Overview, read

FOREIGN_BYTES = 64 * 2**20  # more than a display manager without windows holds


def gpus(root: Path) -> Found:
    """All about the GPUs, or that there is none."""
    gpus = read()
    if isinstance(gpus, str):
        on_bus = machine.nvidia_on_bus(root)
        if on_bus or machine.text(root / "proc/driver/nvidia/version"):
            yield Finding(
                "GPU", WARNING, f"{on_bus or 'an'} NVIDIA GPU on the PCI bus, which cannot be asked ({gpus})",
                "neither clocks nor throttling, memory or energy are seen, and without a driver nothing runs on it",
                "install NVIDIA's driver (in a container: its toolkit, docker --gpus all) and pip install nvidia-ml-py",
            )  # fmt: skip
        else:
            yield Finding("GPU", NOTE, f"none ({gpus})", "nothing can be measured on a GPU", "none needed without one")
        return
    from harness.backends import packages, registry
    from harness.execution import discovery

    for one in gpus:
        yield from state(one)
    yield from seen(gpus, discovery.discover(registry.names()))
    yield from two_cudnns(packages.cuda_libraries())


def seen(gpus: Sequence[Overview], devices: Mapping[str, Sequence[Device]]) -> Found:
    """Whether a framework sees a GPU that the driver shows."""
    names = ", ".join(f"{one.name} (driver {one.driver})" for one in gpus)
    seeing = [name for name, kinds in devices.items() if any(device.kind == "gpu" for device in kinds)]
    if seeing:
        yield Finding("GPU and frameworks", FINE, f"{names}, seen by {', '.join(seeing)}")
        blind = [name for name in devices if name not in seeing and name != REFERENCE]
        if gpus and blind:
            yield Finding(
                "frameworks without the GPU", WARNING, f"{', '.join(blind)} see{'s' * (len(blind) == 1)} none of {names}",
                "measured on the CPU alone: builds for the CPU or another vendor, or of a newer CUDA than the driver's",
                "install their builds for CUDA, or a newer driver; `convbench list backends` shows what each sees",
            )  # fmt: skip
    elif gpus:
        yield Finding(
            "GPU and frameworks", BLOCKING, f"{names}, seen by none of {', '.join(devices) or 'no framework'}",
            "nothing can be measured on the GPU: the frameworks are builds for the CPU, or of another CUDA than the driver's",
            "pip install 'convbench[cuda]'",
        )  # fmt: skip


def two_cudnns(libraries: Sequence[str]) -> Found:
    """Whether cuDNN for two versions of CUDA stands in this environment, by the distributions that are installed."""
    both = [name for name in libraries if name.startswith("nvidia-cudnn-cu")]
    if len(both) > 1:
        yield Finding(
            "cuDNN", BLOCKING, f"{' and '.join(both)} in one environment",
            "both write into one folder, and the one that was installed last breaks what was built for the other",
            "an environment of its own for TensorFlow, beside that of PyTorch and JAX",
        )  # fmt: skip


def unseen_gpu(devices: Mapping[str, Sequence[Device]]) -> Finding | None:
    """That a GPU is here which none of the backends of a run sees; None where one does, or there is no GPU."""
    if any(device.kind == "gpu" for kinds in devices.values() for device in kinds):
        return None  # which saves asking the driver
    gpus = read()
    return None if isinstance(gpus, str) else next(iter(seen(gpus, devices)), None)


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
