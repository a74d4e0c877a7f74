"""What a process of JAX is set to, what JAX has no call for, how it chooses a GPU's kernels, and what it tells of the GPU."""

from __future__ import annotations

import os
from typing import Any

from harness.axes import Api, Mode, Optimizer, Precision, Switch
from harness.backends import nvidia
from harness.spec import Cell

# Of openxla/xla, xla/debug_options_flags.cc. A process whose XLA does not know one ends, and its cells say so.
FLAGS = {
    Switch.YNN_OFF: "--xla_cpu_experimental_ynn_fusion_type=", Switch.ISA_AVX2: "--xla_cpu_max_isa=AVX2",
    Switch.ISA_AVX512: "--xla_cpu_max_isa=AVX512",
}  # fmt: skip


def lacks(cell: Cell) -> str | None:
    """Why JAX has no call for a cell, on whatever machine; None where it has one. It takes no JAX."""
    if cell.mode not in (Mode.EAGER, Mode.COMPILED):
        return f"JAX has no mode {cell.mode}"
    if cell.api is Api.LAYER:
        return "JAX itself has no layer objects: those of flax call lax.conv_general_dilated, as api=default does"
    if cell.optimizer is Optimizer.ADAM and cell.precision in (Precision.BF16, Precision.FP16):
        return f"JAX computes Adam's constants in {cell.precision}, where 0.999 is 1 or 1e-8 is 0: no step comes of it"
    return None


def switching(choice: Switch) -> dict[str, str]:
    """XLA_FLAGS with the flag of a switch behind what stands there; of several the last counts."""
    return {"XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {FLAGS[choice]}".strip()}


def tuning() -> dict[str, str]:
    """How kernels are chosen in this process."""
    level = nvidia.xla_level()
    return {"xla_gpu_autotune_level": level, **nvidia.autotuned(level != "0")}


def gpus(jax: Any) -> list[Any]:
    """The GPUs that the plug-in for CUDA shows. Raises RuntimeError where there is none, or only another vendor's plug-in."""
    try:
        return list(jax.devices("cuda"))
    except RuntimeError as error:
        if other := nvidia.plug_in().other:
            raise nvidia.not_measured("JAX", other) from error
        raise


def capability(device: Any) -> nvidia.Capability | None:
    """The compute capability of a GPU, which is told as `8.0`; None where it is not told."""
    major, _, minor = str(getattr(device, "compute_capability", "")).partition(".")
    return (int(major), int(minor)) if major.isdecimal() and minor.isdecimal() else None


def idle_bytes(device: Any) -> int:
    """What XLA's pool has beyond what arrays hold: as it never shrinks, it is at least what the peak was."""
    stats = device.memory_stats() or {}
    pool = max(stats.get("pool_bytes", 0), stats.get("peak_bytes_in_use", 0))
    return int(pool) - int(stats.get("bytes_in_use", 0))
