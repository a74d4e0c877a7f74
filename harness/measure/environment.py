"""The environment of a figure: the machine, the versions of packages, and the settings that bear on speed and precision.

It is read in the worker, so that it describes the interpreter that measured.
"""

import dataclasses
import hashlib
import json
import os
import platform
import re
import socket
from collections import Counter
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from harness import codec
from harness.axes import VARIABLES, Device
from harness.backends.packages import cuda_libraries, versions
from harness.errors import MachineError
from harness.measure import machine
from harness.measure.gpu import Gpu, another
from harness.measure.processors import processor
from harness.plain import plain
from harness.record import Environment

MACHINE = "CONVBENCH_MACHINE"  # the environment variable that names this machine

# Variables that change how fast or how precisely a framework computes. No other variable is stored. Nor is where compilers keep
# what they compiled, which is another folder in every run and would make another environment of it.
_PREFIXES = (
    "OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_", "DNNL_", "ONEDNN_", "XLA_", "JAX_", "CUDA_", "CUDNN_", "CUBLAS_",
    "NVIDIA_TF32_OVERRIDE", "TORCH", "PYTORCH_", "MALLOC_", "LD_PRELOAD", "NPROC", "GLIBC_TUNABLES", "NUMPY_",
    *VARIABLES.values(),
    # Those of TensorFlow one by one, since Terraform's begin with TF_, too, and its TF_VAR_ and TF_TOKEN_ hold secrets.
    "TF_AUTOTUNE_", "TF_CPP_", "TF_CPU_", "TF_CUBLAS_", "TF_CUDA_", "TF_CUDNN_", "TF_DETERMINISTIC_", "TF_DISABLE_",
    "TF_ENABLE_", "TF_FORCE_", "TF_GPU_", "TF_NUM_", "TF_ONEDNN_", "TF_OVERRIDE_", "TF_SYNC_", "TF_USE_", "TF_XLA_",
)  # fmt: skip


def _gpus() -> tuple[str, str]:
    """Names of the NVIDIA GPUs ("2 x NVIDIA H200") and the driver's version; empty where there is none."""
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception:  # no package, no driver, no device: each library version raises its own
        return "", ""
    try:
        names = [pynvml.nvmlDeviceGetName(pynvml.nvmlDeviceGetHandleByIndex(i)) for i in range(pynvml.nvmlDeviceGetCount())]
        driver = pynvml.nvmlSystemGetDriverVersion()
    except pynvml.NVMLError as error:
        return f"not readable ({error})", ""
    finally:
        pynvml.nvmlShutdown()
    texts = [name.decode() if isinstance(name, bytes) else str(name) for name in names]
    kinds = ", ".join(f"{count} x {text}" for text, count in Counter(texts).items())
    return kinds, driver.decode() if isinstance(driver, bytes) else str(driver)


def _memory_bytes() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _hash(data: object) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:12]


def machine_name(given: str | None = None) -> str:
    """The name of this machine: the given one, else that of the environment variable; empty for none.

    Raises MachineError for a name that is not allowed.
    """
    found, whence = (given, "--machine") if given is not None else (os.environ.get(MACHINE, ""), MACHINE)
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", found) and (found or given is not None):
        raise MachineError(f"{whence}: found {plain(repr(found))}; allowed: 1 to 64 of the letters A-Z a-z 0-9 . _ -")
    return found


def told_by_nvml(device: Device) -> dict[str, Any]:
    """What NVML tells this process of all GPUs, of the driver and of that device, by the names of these fields in `wire.Setup`.

    It is for a worker whose interpreter has no NVML. Where this process has none either, nothing is told.
    """
    gpu, driver = _gpus()
    found: dict[str, Any] = {"gpu": gpu, "driver": driver, "board": {}}
    if device.kind != "cpu":
        mine = Gpu(device.index)
        if not mine.reason:
            found["board"] = mine.facts()
            mine.close()
    return found


def board(mine: Gpu, told: Mapping[str, str], nvml: Mapping[str, str] = MappingProxyType({})) -> dict[str, str]:
    """The GPU that this process measures on: what NVML tells of it, and beside it what the framework tells, as `by framework`.

    `told` is from `Backend.board`. Where it names another board than NVML does, NVML is not asked from then on. `nvml` is what
    it tells another process, which counts where this one cannot ask; `NVML` then says why it cannot.
    """
    blind = bool(mine.reason)
    mine.compare(told)
    facts = mine.facts()
    if blind and nvml and not another(nvml.get("name", ""), nvml.get("uuid", ""), told, mig=nvml.get("MIG") == "1"):
        facts = {**nvml, **facts}
    return {**facts, **{f"{name} by framework": plain(value) for name, value in told.items()}}


def describe(
    backend: str, distributions: Iterable[str], name: str = "", instead: Mapping[str, str | None] = MappingProxyType({}),
    board: Mapping[str, str] = MappingProxyType({}), nvml: tuple[str, str] = ("", ""),
) -> Environment:  # fmt: skip
    """The environment of this process. `distributions` are the packages whose versions identify the framework.

    `name` is that of the machine. It is one of the facts by which machines are told apart. `instead` are variables that are
    told with another value, or not at all for None: those that say where compilers keep what they compiled. With a `board` the
    versions of CUDA's libraries are told, too. `nvml` are the names of the GPUs and the driver's version as another process
    tells them, for one that has no NVML.
    """
    told = {**os.environ, **instead}
    cpu, cores = processor()
    here = _gpus()
    gpu, driver = here if here[0] else nvml
    memory = _memory_bytes()
    affinity = tuple(sorted(os.sched_getaffinity(0)))
    facts = Environment(
        id="",
        # Memory counts in steps of 4 GiB, since each version of a kernel reserves a little more or less of it.
        machine_id=_hash([cpu, cores, round(memory / 2**32), gpu, platform.system(), *([name] if name else [])]),
        backend=backend,
        host=socket.gethostname(),
        os=platform.platform(),
        cpu=cpu,
        cores=cores,
        affinity=affinity,
        memory_bytes=memory,
        gpu=gpu,
        driver=driver,
        python=f"{platform.python_implementation()} {platform.python_version()}",
        packages=versions([*distributions, "numpy", *(cuda_libraries() if board else ())]),
        environ={
            name: value
            for name, value in sorted(told.items())
            if value is not None and name.startswith(_PREFIXES) and not name.endswith("_CACHE_DIR")
        },
        cpu_quota=machine.cpu_quota(),
        machine=name,
        nodes=machine.node_lists(),
        unseen=machine.unseen(),
        board=dict(board),
    )
    return dataclasses.replace(facts, id=_hash(codec.encode(facts)))
