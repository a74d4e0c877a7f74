"""What a process of TensorFlow is set to, what is read back of it, and which GPU it may use."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextvars import copy_context
from importlib.util import find_spec
from typing import Any

from harness.axes import Autotune, Mode
from harness.backends import nvidia
from harness.backends.base import Build, T
from harness.spec import Cell

_OWN = "TF_CUDNN_USE_AUTOTUNE"  # whether TensorFlow's own kernels of cuDNN are tried; it does by default
# What a user is told where an eager call has the worker's own frames above it: see `on_own_stack`.
STACK = {} if find_spec("greenlet") else {"stack": "deeper, since greenlet is not installed"}


def on_own_stack(run: Callable[..., T], *arguments: Any) -> T:
    """What `run(*arguments)` returns, with no Python frame above it.

    An eager op notes the innermost 30 frames of its caller (StackTrace::kStackTraceInitialSize, set by pywrap_tfe_src.cc), each
    of which is up to 0.3 us of a call. Without greenlet they stay there, and the settings say so.
    """
    if STACK:
        return run(*arguments)
    from greenlet import greenlet

    fresh = greenlet(run)
    fresh.gr_context = copy_context()  # otherwise it would begin with nothing of what was set
    returned: T = fresh.switch(*arguments)
    return returned


def read_settings(tf: Any, cell: Cell) -> dict[str, str]:
    """The settings of the process that bear on speed and precision, as they are now."""
    try:  # public names can set op determinism, only this one reads it
        from tensorflow.python.framework import config

        deterministic = str(config.is_op_determinism_enabled())
    except (ImportError, AttributeError):
        deterministic = "not told"
    told = {"tf32": str(tf.config.experimental.tensor_float_32_execution_enabled()), "op_determinism": deterministic, **STACK}
    # TensorFlow reads these when it is loaded, and offers nothing that tells what it made of them.
    if cell.device.kind == "cpu":
        return {**told, "TF_ENABLE_ONEDNN_OPTS": os.environ.get("TF_ENABLE_ONEDNN_OPTS", "default")}
    own = os.environ.get(_OWN, "default")
    tried = nvidia.xla_level() != "0" if cell.mode is Mode.XLA else own.lower() not in ("0", "false")
    return {**told, _OWN: own, **nvidia.autotuned(tried)}


def autotuning(choice: Autotune) -> dict[str, str]:
    """The variables by which TensorFlow's own kernels and XLA's are chosen by trying them, or not."""
    return {_OWN: "1" if choice is Autotune.ON else "0", **nvidia.xla_flags(choice)}


def gpus(tf: Any) -> list[Any]:
    """NVIDIA's GPUs that TensorFlow loaded a driver for; those of ROCm or of a plug-in have the same name and are none."""
    return list(tf.config.list_physical_devices("GPU")) if tf.test.is_built_with_cuda() else []


def _others(tf: Any) -> str:
    """Whose devices this TensorFlow computes on, where they are not NVIDIA's; empty for none."""
    if tf.test.is_built_with_rocm():
        return "AMD's GPUs (ROCm)"
    if tf.test.is_built_with_cuda():
        return ""
    found = [device for kind in ("GPU", "XPU", "TPU") for device in tf.config.list_physical_devices(kind)]
    return f"{found[0].name} of a plug-in, which is no GPU of CUDA" if found else ""


def build(tf: Any) -> Build:
    """What this TensorFlow was built for, as in `Backend.build`."""
    if others := _others(tf):
        return Build(other=others)
    if not tf.test.is_built_with_cuda():
        return Build()
    return Build(cuda=str(tf.sysconfig.get_build_info().get("cuda_version") or "of a version that it does not tell"))


def only(tf: Any, index: int) -> Any:
    """The GPU of an index, made the only one. Eager ops run on the first that TensorFlow sees, wherever their operands are.

    Raises RuntimeError where there is none, or where the build is for another vendor's.
    """
    if others := _others(tf):
        raise nvidia.not_measured("TensorFlow", others)
    found = gpus(tf)
    if index >= len(found):  # TensorFlow itself would quietly compute on the CPU
        raise RuntimeError(f"TensorFlow sees {len(found)} GPUs here, so there is no gpu:{index}")
    tf.config.set_visible_devices(found[index], "GPU")
    # What is put on the GPU and has no kernel there must fail, not move to the CPU.
    tf.config.set_soft_device_placement(False)
    return found[index]


def capability(tf: Any, gpu: Any) -> nvidia.Capability | None:
    """The compute capability of a GPU; None where TensorFlow does not tell."""
    found: nvidia.Capability | None = tf.config.experimental.get_device_details(gpu).get("compute_capability")
    return found


def board(tf: Any, gpu: Any) -> dict[str, str]:
    """What TensorFlow tells of a GPU and of the libraries that it was built for, as in `Backend.board`."""
    details, build = tf.config.experimental.get_device_details(gpu), tf.sysconfig.get_build_info()
    told = {"name": details.get("device_name"), "CUDA": build.get("cuda_version"), "cuDNN": build.get("cudnn_version")}
    return {name: str(value) for name, value in told.items() if value}
