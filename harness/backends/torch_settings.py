"""What a process of PyTorch is set to for a cell, what is read back of it, and what its build and its machine cannot do."""

from __future__ import annotations

import os
import shutil
from typing import Any

from harness.axes import VARIABLES, Autotune, Layout, Mode, Optimizer, Precision, Switch
from harness.backends import nvidia
from harness.backends.base import Build
from harness.spec import Cell


def fp32_precision(cell: Cell) -> str:
    """What the switches of the process are set to for a cell."""
    return "tf32" if cell.precision is Precision.TF32 else "ieee"


def _switches(torch: Any, cell: Cell) -> tuple[Any, Any]:
    """What holds the precision of convolutions and that of matrix products."""
    backends = torch.backends
    if cell.device.kind == "cpu":
        return backends.mkldnn.conv, backends.mkldnn.matmul
    return backends.cudnn.conv, backends.cuda.matmul


def set_precision(torch: Any, cell: Cell) -> None:
    """Set the switches of the process for a cell. Those of products too: some convolutions are computed by one."""
    wanted = fp32_precision(cell)
    if cell.device.kind != "cpu":
        # The legacy names first: they change the new ones, and one that is at odds with them raises when it is read, which
        # dynamo and inductor do.
        torch.set_float32_matmul_precision("high" if wanted == "tf32" else "highest")
        torch.backends.cudnn.allow_tf32 = wanted == "tf32"
        torch.backends.cudnn.rnn.fp32_precision = wanted
    for switch in _switches(torch, cell):
        switch.fp32_precision = wanted


def set_autotuning(torch: Any, cell: Cell) -> None:
    """Have cuDNN's algorithms tried or not, where a cell asks for it by name. Such cells have a process of their own."""
    if cell.autotune is not Autotune.DEFAULT:
        torch.backends.cudnn.benchmark = cell.autotune is Autotune.ON


SWITCHES = frozenset({Switch.ONEDNN_OFF, Switch.ISA_AVX2, Switch.ISA_AVX512, Switch.FLUSH_DENORMALS})


def set_switch(torch: Any) -> None:
    """Set the switch that this process is for, where it is one of PyTorch's own.

    Threads inherit how the processor takes denormal numbers, so that this comes before there are any.
    """
    choice = os.environ.get(VARIABLES["switch"])
    if choice == Switch.ONEDNN_OFF:
        torch.backends.mkldnn.enabled = False
    if choice == Switch.FLUSH_DENORMALS and not torch.set_flush_denormal(True):
        raise RuntimeError("this processor has no switch that takes denormal numbers for 0")


def read_settings(torch: Any, cell: Cell) -> dict[str, str]:
    """The settings of the process that bear on speed and precision, as they are now."""
    convolutions, products = _switches(torch, cell)
    read = {"fp32_precision": str(convolutions.fp32_precision), "matmul.fp32_precision": str(products.fp32_precision)}
    if cell.device.kind == "cpu":
        mkldnn = torch.backends.mkldnn
        read["mkldnn"] = str(mkldnn.is_available() and mkldnn.enabled)
        read["mkldnn.deterministic"] = str(mkldnn.deterministic)
        if cell.switch is Switch.FLUSH_DENORMALS:
            smallest = torch.finfo(torch.float32).tiny
            read["flush_denormal"] = str(bool((torch.tensor([smallest]) / 2 == 0).item()))
    else:
        cudnn = torch.backends.cudnn
        read["cudnn.benchmark"], read["cudnn.deterministic"] = str(cudnn.benchmark), str(cudnn.deterministic)
        read |= nvidia.autotuned(bool(cudnn.benchmark))
    if cell.mode is Mode.COMPILED:  # inductor may then compute channels last with the copies within the call
        from torch._inductor import config

        read["inductor.layout_optimization"] = str(config.layout_optimization)
    return {**read, "deterministic_algorithms": str(torch.are_deterministic_algorithms_enabled())}


def build(torch: Any) -> Build:
    """What this PyTorch was built for, as in `Backend.build`. ROCm's GPUs have the same name in it as CUDA's."""
    if torch.version.hip:
        return Build(other=f"AMD's GPUs (ROCm {torch.version.hip})")
    if torch.version.cuda:
        return Build(cuda=str(torch.version.cuda))
    others = {"Intel's GPUs (XPU)": torch.xpu, "Apple's GPUs (MPS)": torch.backends.mps}
    return Build(other=next((name for name, other in others.items() if other.is_available()), ""))


def must_be_for_nvidia(torch: Any) -> None:
    """Raise RuntimeError where this build computes on another vendor's GPUs, which would be measured under cuDNN's name."""
    found = build(torch)
    if found.other:
        raise nvidia.not_measured("PyTorch", found.other)
    if not found.cuda:
        raise RuntimeError("this PyTorch is a build for the CPU: it has no CUDA")


def board(torch: Any, device: Any) -> dict[str, str]:
    """What PyTorch tells of a GPU and of its libraries, as in `Backend.board`."""
    properties, cudnn = torch.cuda.get_device_properties(device), torch.backends.cudnn.version()
    uuid = str(getattr(properties, "uuid", ""))
    told = {"name": str(properties.name), "uuid": uuid, "CUDA": str(torch.version.cuda or ""), "cuDNN": str(cudnn or "")}
    if torch.distributed.is_available() and torch.distributed.is_nccl_available():
        told["NCCL"] = ".".join(map(str, torch.cuda.nccl.version()))
    return {name: value for name, value in told.items() if value}


def lacks(cell: Cell) -> str | None:
    """Why PyTorch has no call for a cell, on whatever machine; None where it has one. It takes no PyTorch."""
    if cell.mode not in (Mode.EAGER, Mode.COMPILED):
        return f"PyTorch has no mode {cell.mode}"
    if cell.is_convolution and cell.layout is Layout.CHANNELS_LAST and cell.conv.ndim == 1:
        return "PyTorch has no channels-last memory format for 1-D convolutions; they are measured with -a layout=NCW"
    if cell.spec.transposed and not cell.spec.pads_evenly:
        return "PyTorch's transposed convolutions take the same padding on both sides of a dimension only"
    if cell.optimizer is Optimizer.ADAM and cell.precision is Precision.FP16:
        return "Adam's epsilon of 1e-8 is 0 in fp16: no step comes of it"
    return None


def no_compiler(cell: Cell) -> str | None:
    """Why torch.compile cannot compile here, for want of the compiler that inductor or Triton calls; None where it can."""
    if cell.mode is not Mode.COMPILED:
        return None
    if cell.device.kind == "cpu":
        compiler = os.environ.get("CXX", "g++")  # as torch._inductor.config has it
        if not shutil.which(compiler):
            return f"torch.compile on the CPU needs {compiler}, which is not on the PATH; CXX names another compiler"
        return None
    named = os.environ.get("CC")  # as triton.runtime.build has it
    if any(map(shutil.which, [named] if named else ["gcc", "clang"])):
        return None
    return f"torch.compile on a GPU needs {named or 'gcc or clang'}, which is not on the PATH; CC names another compiler"


def no_kernels(torch: Any, device: Any) -> str | None:
    """Why this build has no program for the GPU; None where it has one.

    A program for sm_80 runs on every later minor version of 8, and compute_90 is compiled for whatever is newer when it is
    loaded: https://docs.nvidia.com/cuda/cuda-c-programming-guide, Binary Compatibility.
    """
    major, minor = torch.cuda.get_device_capability(device)
    built = torch.cuda.get_arch_list()
    for name in built:
        kind, _, number = name.partition("_")
        digits = number.rstrip("af")  # sm_90a and sm_120f are for that version, or its family, alone
        if not digits.isdecimal():
            return None
        version = divmod(int(digits), 10)
        same = version[0] == major and version[1] <= minor if digits == number else version == (major, minor)
        if same if kind == "sm" else version <= (major, minor):
            return None
    if not built:
        return None
    return f"this PyTorch has no program for a GPU of compute capability {major}.{minor}, only for {', '.join(built)}"
