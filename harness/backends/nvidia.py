"""What the adapters share about NVIDIA's GPUs, the only ones that are measured.

Their formats, how their kernels are chosen, and why another vendor's are refused.
"""

import os
import re
from collections.abc import Callable
from importlib import metadata

from harness.axes import Autotune, Precision
from harness.backends.base import Build
from harness.spec import Cell

# The tensor cores multiply TF32 and bf16 from this compute capability on. Before it a switch for TF32 can be set and read back,
# and fp32 is what runs. Source: https://docs.nvidia.com/cuda/cuda-c-programming-guide, Features and Technical Specifications.
_TF32_AND_BF16_FROM = (8, 0)
_NEWER_FORMATS = (Precision.TF32, Precision.BF16)

# The distributions that bring JAX another vendor's devices begin with these.
_OTHER_PLUG_INS = {
    "jax-rocm": "AMD's GPUs (ROCm)", "intel-extension-for-openxla": "Intel's GPUs", "jax-oneapi": "Intel's GPUs",
    "jax-metal": "Apple's GPUs (Metal)", "libtpu": "Google's TPUs",
}  # fmt: skip
_CUDA_PLUG_IN = re.compile(r"jax-cuda(\d+)-plugin")

Capability = tuple[int, int]


def lacks(cell: Cell, capability: Callable[[], Capability | None]) -> str | None:
    """Why the GPU has no arithmetic for the cell's precision; None where it has, on the CPU, and where it is not known.

    `capability` asks the framework for the compute capability of the GPU; it is called only where the answer matters.
    """
    if cell.device.kind == "cpu" or cell.precision not in _NEWER_FORMATS:
        return None
    found = capability()
    if found is None or found >= _TF32_AND_BF16_FROM:
        return None
    needed, has = (".".join(map(str, version)) for version in (_TF32_AND_BF16_FROM, found))
    return f"{cell.precision} needs an NVIDIA GPU of compute capability {needed}; this one has {has}"


def not_measured(framework: str, build: str) -> RuntimeError:
    """The refusal of a build of a framework for another vendor's devices."""
    return RuntimeError(f"not measured: this {framework} is built for {build}, and convbench measures GPUs of NVIDIA alone")


def plug_in() -> Build:
    """What the plug-ins of JAX that are installed here are for; where one is for CUDA, no other counts."""
    names = [str(found.metadata["Name"] or "").lower().replace("_", "-") for found in metadata.distributions()]
    if cudas := [int(found[1]) for name in names if (found := _CUDA_PLUG_IN.fullmatch(name))]:
        return Build(cuda=str(max(cudas)))
    others = (whose for start, whose in _OTHER_PLUG_INS.items() if any(name.startswith(start) for name in names))
    return Build(other=next(others, ""))


_LEVEL = "--xla_gpu_autotune_level"  # 0: no kernel is tried; 4, the default: they are, with results compared (xla.proto)


def xla_flags(choice: Autotune) -> dict[str, str]:
    """XLA_FLAGS with the level of autotuning behind what stands there; of several the last counts."""
    level = f"{_LEVEL}={4 if choice is Autotune.ON else 0}"
    return {"XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {level}".strip()}


def xla_level() -> str:
    """XLA's level of autotuning as it was set for this process; XLA itself does not tell."""
    found = re.findall(rf"{_LEVEL}=(\d+)", os.environ.get("XLA_FLAGS", ""))
    return found[-1] if found else "default"


def autotuned(tried: bool) -> dict[str, str]:
    """The setting by which every adapter says on a GPU whether kernels were chosen by trying them."""
    return {"autotuned": str(tried)}
