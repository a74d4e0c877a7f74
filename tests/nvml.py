"""A fake of NVML's library, `pynvml`: whoever puts it into `sys.modules` has GPUs of their own making."""

from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any


class NVMLError(Exception):
    """As the library's: one exception for everything."""


class Nvml(ModuleType):
    """A fake of the library with GPUs of which each answer is an entry of a dict: a value, or an exception to raise."""

    NVML_CLOCK_SM = 1
    NVML_CLOCK_ID_APP_CLOCK_TARGET = 1
    nvmlMemory_v2 = 2

    def __init__(self, *gpus: dict[str, Any], mig: dict[str, int] | None = None) -> None:
        super().__init__("pynvml")
        self.gpus, self.mig, self.open = gpus, mig or {}, 0

    def nvmlInit(self) -> None:
        self.open += 1

    def nvmlShutdown(self) -> None:
        self.open -= 1

    def nvmlDeviceGetCount(self) -> int:
        return len(self.gpus)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> dict[str, Any]:
        return self.gpus[index]

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> dict[str, Any]:
        if uuid not in self.mig:
            raise NVMLError("Not Found")
        return {"slice of": self.gpus[self.mig[uuid]], "nvmlDeviceGetMemoryInfo": SimpleNamespace(used=7)}

    def nvmlDeviceGetDeviceHandleFromMigDeviceHandle(self, handle: dict[str, Any]) -> Any:
        return handle["slice of"]

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if not name.startswith("nvml"):
            raise AttributeError(name)

        def ask(handle: dict[str, Any], *arguments: Any) -> Any:
            value = handle.get((name, *arguments), handle.get(name, NVMLError("Not Supported")))
            if isinstance(value, Exception):
                raise value
            return value

        return ask


def card(number: int = 0, name: str = "Some GPU", **answers: Any) -> dict[str, Any]:
    return {
        "nvmlDeviceGetUUID": f"GPU-{number}a{number}b-cdef", "nvmlDeviceGetName": name, "nvmlDeviceGetClockInfo": 1900,
        "nvmlDeviceGetDefaultApplicationsClock": 1980, "nvmlDeviceGetMaxClockInfo": 2100,
        "nvmlDeviceGetCurrentClocksEventReasons": 0, "nvmlDeviceGetTemperatureV": 60,
        "nvmlDeviceGetMigMode": [0, 0], "nvmlDeviceGetTotalEnergyConsumption": 5000,
        "nvmlDeviceGetMemoryInfo": SimpleNamespace(used=300, free=700), **answers,
    }  # fmt: skip
