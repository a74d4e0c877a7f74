"""What NVML tells of one GPU: its clock, what holds the clock down, temperature, memory and energy.

`pynvml` (nvidia-ml-py) is imported when a GPU is opened. Whatever it cannot tell is None with a reason, and never an exception:
drivers lack functions, containers hide processes, and MIG slices have few counters of their own.

Source of names and bits: https://docs.nvidia.com/deploy/nvml-api/group__nvmlClocksEventReasons.html.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

_REASONS = {
    0x1: "GpuIdle",
    0x2: "ApplicationsClocksSetting",
    0x4: "SwPowerCap",
    0x8: "HwSlowdown",
    0x10: "SyncBoost",
    0x20: "SwThermalSlowdown",
    0x40: "HwThermalSlowdown",
    0x80: "HwPowerBrakeSlowdown",
    0x100: "DisplayClockSetting",
}
# HwSlowdown, both thermal slowdowns and the power brake. A power cap belongs to the GPU as it is sold, and is only noted.
INVALIDATING = 0xE8
_THROTTLING = frozenset(name for bit, name in _REASONS.items() if bit & INVALIDATING)
ORDER, BY_ADDRESS = "CUDA_DEVICE_ORDER", "PCI_BUS_ID"  # set in every worker that may see a GPU, unless the user has set it
LEAST_CLOCK = 0.75  # of the default clock, as in https://github.com/NVIDIA/nvbench, --throttle-threshold


class Told(NamedTuple):
    """A number that NVML told, or None and the reason why it did not."""

    value: int | None
    reason: str = ""


@dataclass(frozen=True)
class State:
    """One look at the GPU. `reasons` are what holds the clock down. None: not told, and `untold` says why, by field."""

    clock_mhz: int | None = None
    default_clock_mhz: int | None = None
    reasons: tuple[str, ...] | None = None
    temperature_c: int | None = None
    untold: tuple[str, ...] = ()

    @property
    def throttled(self) -> bool:
        """Whether heat, a failing power supply or the board itself slows the GPU down."""
        return not _THROTTLING.isdisjoint(self.reasons or ())

    @property
    def slow(self) -> bool:
        """Whether the clock of the multiprocessors is under 75 % of the default, for another reason than the power limit.

        Some boards run dense matrix products at their power limit for good, far below that clock: it is the speed that they
        have, and what boosts after a rest is not.
        """
        if self.clock_mhz is None or self.default_clock_mhz is None or self.power_capped:
            return False
        return self.clock_mhz < LEAST_CLOCK * self.default_clock_mhz

    @property
    def power_capped(self) -> bool:
        """Whether the power limit holds the clock, which is noted and sets nothing aside."""
        return "SwPowerCap" in (self.reasons or ())

    @property
    def idle(self) -> bool:
        """Whether the GPU has nothing to do, which lowers its clock by itself."""
        return "GpuIdle" in (self.reasons or ())

    @property
    def valid(self) -> bool:
        """Whether a time that was taken in this state can be used: the GPU is neither throttled nor slow."""
        return not (self.throttled or self.slow)

    def __str__(self) -> str:
        """`1200 of 1980 MHz, SwThermalSlowdown, 88 degC`; what was not told is left out."""
        clock = "" if self.clock_mhz is None else f"{self.clock_mhz} of {self.default_clock_mhz or '?'} MHz"
        heat = "" if self.temperature_c is None else f"{self.temperature_c} degC"
        return ", ".join(filter(None, [clock, *(self.reasons or ()), heat])) or "nothing told"


class Locked(NamedTuple):
    """Whether a setting holds the GPU's clock, and how that was found out; None: it cannot be known."""

    value: bool | None
    how: str


class Gpu:
    """One NVIDIA GPU, by the index under which a framework in this process sees it.

    `reason` says why the GPU could not be opened, and is empty where it could; with a reason every answer is None with it.
    `mig` tells that the framework has only a slice of the GPU: then clock and temperature are those of the whole GPU.
    """

    def __init__(self, index: int, environ: Mapping[str, str] = os.environ) -> None:
        self.reason, self.uuid, self.mig = "", "", False
        self._nvml: Any = None
        self._handle: Any = None
        self._memory: Any = None  # the handle whose memory is meant: that of the slice where there is one
        self._default: Told | None = None
        try:
            import pynvml

            pynvml.nvmlInit()
        except Exception as error:  # no package, no driver, no device: each version of the library raises its own
            self.reason = f"NVML is not available: {_text(error)}"
            return
        self._nvml = pynvml
        try:
            self._open(index, environ)
        except _NotFoundError as error:
            self.reason = str(error)
        except Exception as error:  # whatever a driver may answer
            self.reason = f"NVML does not find gpu:{index}: {_text(error)}"
        if self.reason:
            self.close()

    def _open(self, index: int, environ: Mapping[str, str]) -> None:
        nvml = self._nvml
        handles = [nvml.nvmlDeviceGetHandleByIndex(i) for i in range(nvml.nvmlDeviceGetCount())]
        token = _token(index, environ.get("CUDA_VISIBLE_DEVICES"))
        if token.startswith("MIG-"):
            self.mig, self._memory = True, nvml.nvmlDeviceGetHandleByUUID(token)
            self._handle = nvml.nvmlDeviceGetDeviceHandleFromMigDeviceHandle(self._memory)
        else:
            self._handle = self._memory = _by_index(nvml, handles, int(token), environ) if token.isdecimal() else None
            if self._handle is None:  # as CUDA does, take the beginning of a UUID, if it is unique
                fitting = [handle for handle in handles if _string(nvml.nvmlDeviceGetUUID(handle)).startswith(token)]
                if len(fitting) != 1:
                    raise _NotFoundError(f"CUDA_VISIBLE_DEVICES names {token!r}, which fits {len(fitting)} GPUs that NVML sees")
                self._handle = self._memory = fitting[0]
            mode = self._ask(self._handle, "nvmlDeviceGetMigMode", pick=lambda modes: modes[0])
            self.mig = mode.value == 1
            if self.mig:
                self._memory = self._first_slice(index)
        self.uuid = _string(nvml.nvmlDeviceGetUUID(self._handle))

    def compare(self, told: Mapping[str, str]) -> None:
        """Close this, with a reason, where the framework measures on another board, by what `Backend.board` tells of it."""
        if self.reason:
            return
        name = _string(self._nvml.nvmlDeviceGetName(self._handle))
        if another(name, self.uuid, told, mig=self.mig):
            its = f"{told.get('name', '')} {told.get('uuid', '')}".strip()
            self.reason = f"NVML tells of {name} {self.uuid}, and the framework measures on {its}"
            self.close()

    def facts(self) -> dict[str, str]:
        """What of the board decides its speed and seldom changes, by name; what is not told is left out, and why it all is."""
        if self.reason:
            return {"NVML": self.reason}
        nvml, handle, sm = self._nvml, self._handle, (getattr(self._nvml, "NVML_CLOCK_SM", 1),)
        numbers = {
            "power limit mW": self._ask(handle, "nvmlDeviceGetPowerManagementLimit"),
            "ECC": self._ask(handle, "nvmlDeviceGetEccMode", pick=lambda modes: modes[0]),
            "persistence mode": self._ask(handle, "nvmlDeviceGetPersistenceMode"),
            "application clock MHz": self._ask(handle, "nvmlDeviceGetApplicationsClock", arguments=sm),
            "default clock MHz": self.default_clock(),
        }
        found = {name: str(told.value) for name, told in numbers.items() if told.value is not None}
        if cuda := cuda_of_driver(nvml):
            found["CUDA of the driver"] = cuda
        return {"name": _string(nvml.nvmlDeviceGetName(handle)), "uuid": self.uuid, "MIG": str(int(self.mig)), **found}

    def _first_slice(self, index: int) -> Any:
        """The slice that CUDA shows of a GPU that is cut into slices, none of which was named: the first, and no other.

        Source: https://docs.nvidia.com/datacenter/tesla/mig-user-guide, CUDA Device Enumeration.
        """
        if index:
            raise _NotFoundError(f"the GPU is cut into slices (MIG), of which CUDA shows one: there is no gpu:{index}")
        for place in range(int(self._nvml.nvmlDeviceGetMaxMigDeviceCount(self._handle))):
            try:
                return self._nvml.nvmlDeviceGetMigDeviceHandleByIndex(self._handle, place)
            except Exception:  # a place without a slice
                continue
        raise _NotFoundError("MIG is on, and no slice was made: nothing can be measured on this GPU")

    def close(self) -> None:
        """Let go of NVML. Afterwards every answer is None."""
        nvml, self._nvml = self._nvml, None
        self.reason = self.reason or "closed"
        try:
            if nvml is not None:
                nvml.nvmlShutdown()
        except Exception:  # nothing depends on it
            return

    def _ask(self, handle: Any, *names: str, arguments: tuple[Any, ...] = (), pick: Any = int) -> Told:
        """What the first of these functions that works tells: newer drivers drop old names, and older drivers lack new ones."""
        if self.reason:
            return Told(None, self.reason)
        reason = ""
        for name in names:
            try:
                return Told(int(pick(getattr(self._nvml, name)(handle, *arguments))))
            except Exception as error:  # NVMLError, a function that is not there, a structure of another version
                reason = f"{name}: {_text(error)}"
        return Told(None, reason)

    # One look ---------------------------------------------------------------------------------------------------------

    def read(self) -> State:
        """The state now. Reading it takes tens of microseconds, so it must not be read while a block is timed."""
        sm = getattr(self._nvml, "NVML_CLOCK_SM", 1)
        clock = self._ask(self._handle, "nvmlDeviceGetClockInfo", arguments=(sm,))
        default = self.default_clock()
        mask = self._ask(self._handle, "nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons")
        temperature = self._ask(self._handle, "nvmlDeviceGetTemperatureV", "nvmlDeviceGetTemperature", arguments=(0,))
        told = {"clock": clock, "default clock": default, "reasons": mask, "temperature": temperature}
        return State(
            clock.value, default.value, None if mask.value is None else names(mask.value), temperature.value,
            tuple(f"{name}: {value.reason}" for name, value in told.items() if value.value is None),
        )  # fmt: skip

    def default_clock(self) -> Told:
        """The clock in MHz that the multiprocessors are made for: the default application clock, else the highest clock."""
        if self._default is None or self.reason:
            sm = (getattr(self._nvml, "NVML_CLOCK_SM", 1),)
            self._default = self._ask(
                self._handle, "nvmlDeviceGetDefaultApplicationsClock", "nvmlDeviceGetMaxClockInfo", arguments=sm
            )
        return self._default

    def locked(self) -> Locked:
        """Whether a setting holds the clocks. That no setting does cannot be known, since NVML has no query for locks."""
        if self.reason:
            return Locked(None, self.reason)
        sm, target_id = getattr(self._nvml, "NVML_CLOCK_SM", 1), getattr(self._nvml, "NVML_CLOCK_ID_APP_CLOCK_TARGET", 1)
        target = self._ask(self._handle, "nvmlDeviceGetClock", arguments=(sm, target_id))
        if target.value is None:
            target = self._ask(self._handle, "nvmlDeviceGetApplicationsClock", arguments=(sm,))
        default = self._ask(self._handle, "nvmlDeviceGetDefaultApplicationsClock", arguments=(sm,))
        if target.value and default.value and target.value != default.value:
            return Locked(True, f"application clock set to {target.value} MHz, {default.value} MHz by default")
        if "ApplicationsClocksSetting" in (self.read().reasons or ()):
            return Locked(True, "NVML gives ApplicationsClocksSetting as what holds the clock")
        return Locked(None, "unknown: NVML does not tell clocks that were locked with nvidia-smi --lock-gpu-clocks")

    # Counters ---------------------------------------------------------------------------------------------------------

    def used_bytes(self) -> Told:
        """The bytes that all processes hold on the GPU. Before the first worker starts, these are what others hold."""
        return self._ask_memory(_used)

    def free_bytes(self) -> Told:
        """The bytes that nobody holds. What a framework of this process keeps for its next call counts as held."""
        return self._ask_memory(_free)

    def _ask_memory(self, pick: Callable[[Any], int]) -> Told:
        version = getattr(self._nvml, "nvmlMemory_v2", None)
        # The second version leaves out what the driver keeps for itself. Older drivers only have the first.
        newer = self._ask(self._memory, "nvmlDeviceGetMemoryInfo", arguments=(version,), pick=pick) if version else None
        if newer and newer.value is not None:
            return newer
        return self._ask(self._memory, "nvmlDeviceGetMemoryInfo", pick=pick)

    def process_bytes(self, pid: int | None = None) -> Told:
        """The bytes that this process, or process `pid`, holds on the GPU, the CUDA context included."""
        wanted = os.getpid() if pid is None else pid

        def own(processes: Any) -> int:
            for process in processes:
                if process.pid == wanted and process.usedGpuMemory is not None:
                    return int(process.usedGpuMemory)
            raise LookupError(f"process {wanted} is not listed; containers hide the ids of processes")

        return self._ask(self._memory, "nvmlDeviceGetComputeRunningProcesses", pick=own)

    def processes(self) -> frozenset[int]:
        """The numbers of the processes that compute on the GPU, as NVML lists them; none where it does not tell."""
        if self.reason:
            return frozenset()
        try:
            listed = self._nvml.nvmlDeviceGetComputeRunningProcesses(self._memory)
            return frozenset(int(process.pid) for process in listed)
        except Exception:  # a driver that does not tell, a structure of another version
            return frozenset()

    def energy_mj(self) -> Told:
        """The energy of the whole board in millijoules since the driver was loaded."""
        if self.mig and not self.reason:
            return Told(None, "a MIG slice has no energy counter of its own")
        return self._ask(self._handle, "nvmlDeviceGetTotalEnergyConsumption")


def names(mask: int) -> tuple[str, ...]:
    """NVML's names of the bits of a mask; a bit without a name is given as `0x200`."""
    bits = [1 << place for place in range(mask.bit_length()) if mask >> place & 1]
    return tuple(_REASONS.get(bit, hex(bit)) for bit in bits)


def cuda_of_driver(nvml: Any) -> str:
    """The newest CUDA that the driver runs, as `12.9`; empty where it does not tell."""
    try:
        cuda = int(nvml.nvmlSystemGetCudaDriverVersion())
    except Exception:  # each version of the library raises its own
        return ""
    return f"{cuda // 1000}.{cuda % 1000 // 10}"


def another(name: str, uuid: str, told: Mapping[str, str], *, mig: bool) -> bool:
    """Whether a framework, by what `Backend.board` tells, measures on another board than the one of this name and UUID.

    It may call a slice (`mig`) by a UUID and a longer name of its own.
    """
    its = told.get("uuid", "").removeprefix("GPU-").lower()
    if its and not mig and its != uuid.removeprefix("GPU-").lower():
        return True
    its_name = told.get("name", "")
    return bool(its_name) and not its_name.startswith(name)


class _NotFoundError(Exception):
    """The index names no GPU, or it cannot be known which one."""


def _token(index: int, visible: str | None) -> str:
    """What CUDA_VISIBLE_DEVICES says for an index: a number or a UUID. Raises _NotFoundError.

    As CUDA does, it stops at the first entry that is neither: https://docs.nvidia.com/cuda/cuda-c-programming-guide, CUDA
    environment variables.
    """
    if visible is None:
        return str(index)
    tokens: list[str] = []
    for token in (part.strip() for part in visible.split(",")):
        if not (token.isdecimal() or token.startswith(("GPU-", "MIG-"))):
            break
        tokens.append(token)
    if index >= len(tokens):
        raise _NotFoundError(f"CUDA_VISIBLE_DEVICES={visible} shows {len(tokens)} GPUs, so there is no gpu:{index}")
    return tokens[index]


def _by_index(nvml: Any, handles: list[Any], index: int, environ: Mapping[str, str]) -> Any:
    """The GPU that CUDA counts as `index`. NVML counts by PCI address, and so does CUDA in a worker, unless told otherwise."""
    if index >= len(handles):
        raise _NotFoundError(f"NVML sees {len(handles)} GPUs, so there is no gpu:{index}")
    kinds = {_string(nvml.nvmlDeviceGetName(handle)) for handle in handles}
    if len(kinds) > 1 and environ.get(ORDER, BY_ADDRESS) != BY_ADDRESS:
        raise _NotFoundError(f"which of {', '.join(sorted(kinds))} gpu:{index} is cannot be known: set {ORDER}={BY_ADDRESS}")
    return handles[index]


def _used(info: Any) -> int:
    return int(info.used)


def _free(info: Any) -> int:
    return int(info.free)


def _string(text: Any) -> str:
    return text.decode() if isinstance(text, bytes) else str(text)


def _text(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
