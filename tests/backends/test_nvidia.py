"""Which GPUs an adapter measures, and in which precisions: against fakes of builds and boards, none of which is here."""

import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy
import pytest

from harness.axes import Autotune, Device, Mode, Precision
from harness.backends import nvidia
from harness.backends.base import Build, unsupported
from harness.backends.jax import JaxBackend, JaxConvolution
from harness.backends.jax_settings import tuning
from harness.backends.numpy import NumpyBackend
from harness.backends.tensorflow import TensorFlowBackend
from harness.backends.tensorflow_settings import read_settings as read_of_tensorflow
from harness.backends.torch import TorchBackend
from harness.backends.torch_settings import set_autotuning
from tests.builders import cell

GPU = Device("gpu", 1)
T4, A100, H200 = (7, 5), (8, 0), (9, 0)
Capability = tuple[int, int]


def torch_on(capability: Capability, archs: tuple[str, ...] = ()) -> TorchBackend:
    backend = object.__new__(TorchBackend)
    cuda = SimpleNamespace(get_device_capability=lambda device: capability, get_arch_list=lambda: list(archs))
    backend._torch, backend._device = SimpleNamespace(cuda=cuda), None
    return backend


def jax_on(capability: Capability) -> JaxBackend:
    backend = object.__new__(JaxBackend)
    backend._device = SimpleNamespace(compute_capability="{}.{}".format(*capability))
    return backend


def tensorflow_on(capability: Capability) -> TensorFlowBackend:
    backend = object.__new__(TensorFlowBackend)
    experimental = SimpleNamespace(get_device_details=lambda gpu: {"compute_capability": capability})
    backend._tf, backend._gpu = SimpleNamespace(config=SimpleNamespace(experimental=experimental)), "GPU:1"
    return backend


@pytest.mark.parametrize("backend_on", [torch_on, jax_on, tensorflow_on])
@pytest.mark.parametrize(
    ("precision", "capability", "measured"),
    [
        (Precision.TF32, T4, False), (Precision.BF16, T4, False), (Precision.FP16, T4, True), (Precision.FP32, T4, True),
        (Precision.TF32, A100, True), (Precision.BF16, A100, True), (Precision.TF32, H200, True),
    ],
)  # fmt: skip
def test_what_a_gpu_has_no_arithmetic_for_is_unsupported(
    backend_on: Callable[[Capability], Any], precision: Precision, capability: Capability, measured: bool
):
    """A switch for TF32 is set and read back on a T4 as well, and fp32 is what runs."""
    reason = backend_on(capability).supports(cell(precision=precision, device=GPU))
    told = f"{precision} needs an NVIDIA GPU of compute capability 8.0; this one has 7.5"
    assert reason == (None if measured else told)


@pytest.mark.parametrize(
    ("archs", "capability", "runs"),
    [
        ("sm_75 sm_80 sm_86 sm_90", T4, True), ("sm_75 sm_80 sm_86 sm_90", (8, 9), True), ("sm_75 sm_80 sm_90", (7, 0), False),
        ("sm_75 sm_80 sm_90", (10, 0), False), ("sm_75 sm_90 compute_90", (10, 0), True), ("sm_90a", (9, 0), True),
        ("sm_90a", (9, 1), False), ("sm_75 compute_120", (12, 1), True), ("", T4, True), ("sm_new", T4, True),
    ],
)  # fmt: skip
def test_a_card_that_the_build_has_no_program_for_is_unsupported(archs: str, capability: Capability, runs: bool):
    reason = torch_on(capability, tuple(archs.split())).supports(cell(device=GPU))
    named = f"this PyTorch has no program for a GPU of compute capability {capability[0]}.{capability[1]}, only for sm_"
    assert reason is None if runs else str(reason).startswith(named)


def test_torch_compiles_for_a_gpu_with_a_c_compiler_only(monkeypatch: pytest.MonkeyPatch, tmp_path: Any):
    """Triton builds its launcher with one."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    backend, compiled = torch_on(H200), cell(mode=Mode.COMPILED, device=GPU)
    assert "torch.compile on a GPU needs gcc or clang, which is not on the PATH" in str(backend.supports(compiled))
    assert backend.supports(cell(device=GPU)) is None
    (tmp_path / "clang").touch(mode=0o755)
    assert backend.supports(compiled) is None
    monkeypatch.setenv("CC", "icx")
    assert "needs icx" in str(backend.supports(compiled))


# Not NVIDIA's -----------------------------------------------------------------------------------------------------------


def fake_torch(hip: str | None = None, cuda: str | None = None, xpu: bool = False, mps: bool = False) -> ModuleType:
    torch = ModuleType("torch")
    vars(torch).update(
        version=SimpleNamespace(hip=hip, cuda=cuda), xpu=SimpleNamespace(is_available=lambda: xpu),
        backends=SimpleNamespace(mps=SimpleNamespace(is_available=lambda: mps)), set_num_threads=lambda threads: None,
        cuda=SimpleNamespace(is_available=lambda: bool(hip or cuda), device_count=lambda: 2),
        device=lambda *of: of,
    )  # fmt: skip
    return torch


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (
            {"hip": "7.0"},
            "not measured: this PyTorch is built for AMD's GPUs (ROCm 7.0), and convbench measures GPUs of NVIDIA",
        ),
        ({"xpu": True}, "not measured: this PyTorch is built for Intel's GPUs (XPU), and convbench measures GPUs of NVIDIA"),
        ({"mps": True}, "not measured: this PyTorch is built for Apple's GPUs (MPS), and convbench measures GPUs of NVIDIA"),
        ({}, "this PyTorch is a build for the CPU: it has no CUDA"),
    ],
)
def test_torch_of_another_vendor_is_refused(monkeypatch: pytest.MonkeyPatch, build: dict[str, Any], reason: str):
    monkeypatch.setitem(sys.modules, "torch", fake_torch(**build))
    with pytest.raises(RuntimeError) as error:
        TorchBackend(GPU, 1)
    assert str(error.value).startswith(reason)
    assert list(map(str, TorchBackend(Device("cpu"), 1).devices())) == ["cpu"]


def fake_tensorflow(rocm: bool = False, cuda: bool = False, **devices: int) -> ModuleType:
    tf = ModuleType("tensorflow")

    def listed(kind: str) -> list[SimpleNamespace]:
        return [SimpleNamespace(name=f"/physical_device:{kind}:{index}") for index in range(devices.get(kind, 0))]

    threading = SimpleNamespace(
        set_intra_op_parallelism_threads=lambda n: None, set_inter_op_parallelism_threads=lambda n: None
    )  # fmt: skip
    config = SimpleNamespace(threading=threading, list_physical_devices=listed)
    test = SimpleNamespace(is_built_with_rocm=lambda: rocm, is_built_with_cuda=lambda: cuda)
    vars(tf).update(config=config, test=test)
    return tf


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        ({"rocm": True, "GPU": 2}, "not measured: this TensorFlow is built for AMD's GPUs (ROCm)"),
        ({"GPU": 1}, "not measured: this TensorFlow is built for /physical_device:GPU:0 of a plug-in"),
        ({"XPU": 1}, "not measured: this TensorFlow is built for /physical_device:XPU:0 of a plug-in"),
        ({"TPU": 8}, "not measured: this TensorFlow is built for /physical_device:TPU:0 of a plug-in"),
        ({}, "TensorFlow sees 0 GPUs here, so there is no gpu:1"),
    ],
)
def test_tensorflow_of_another_vendor_is_refused(monkeypatch: pytest.MonkeyPatch, build: dict[str, Any], reason: str):
    monkeypatch.setitem(sys.modules, "tensorflow", fake_tensorflow(**build))
    with pytest.raises(RuntimeError) as error:
        TensorFlowBackend(GPU, 1)
    assert str(error.value).startswith(reason)
    assert list(map(str, TensorFlowBackend(Device("cpu"), 1).devices())) == ["cpu"]


@pytest.mark.parametrize(
    ("installed", "reason"),
    [
        ("jax_rocm7_plugin", "not measured: this JAX is built for AMD's GPUs (ROCm)"),
        ("jax-metal", "not measured: this JAX is built for Apple's GPUs (Metal)"),
        ("intel_extension_for_openxla", "not measured: this JAX is built for Intel's GPUs"),
        ("libtpu", "not measured: this JAX is built for Google's TPUs"),
        ("numpy", "Unknown backend cuda"),
    ],
)
def test_jax_with_another_vendors_plug_in_is_refused(monkeypatch: pytest.MonkeyPatch, installed: str, reason: str):
    def devices(platform: str) -> list[Any]:
        raise RuntimeError(f"Unknown backend {platform}")

    jax = ModuleType("jax")
    events = SimpleNamespace(register_event_duration_secs_listener=lambda listener: None)
    vars(jax).update(devices=devices, monitoring=events, numpy=None)
    monkeypatch.setitem(sys.modules, "jax", jax)
    monkeypatch.setitem(sys.modules, "jax.numpy", ModuleType("jax.numpy"))
    monkeypatch.setattr(metadata, "distributions", lambda: [SimpleNamespace(metadata={"Name": installed})])
    with pytest.raises(RuntimeError) as error:
        JaxBackend(GPU, 1)
    assert str(error.value).startswith(reason)


def test_a_plug_in_for_cuda_is_no_other_vendors(monkeypatch: pytest.MonkeyPatch):
    names = ({"Name": "jax-cuda12-plugin"}, {"Name": "jax_cuda13_plugin"}, {"Name": "jax-rocm7-plugin"}, {"Name": None})
    monkeypatch.setattr(metadata, "distributions", lambda: [SimpleNamespace(metadata=name) for name in names])
    assert nvidia.plug_in() == Build(cuda="13")


@pytest.mark.parametrize(
    ("build", "told"),
    [
        ({"cuda": "13.0"}, Build(cuda="13.0")), ({"hip": "7.0", "cuda": None}, Build(other="AMD's GPUs (ROCm 7.0)")),
        ({"xpu": True}, Build(other="Intel's GPUs (XPU)")), ({"mps": True}, Build(other="Apple's GPUs (MPS)")), ({}, Build()),
    ],
)  # fmt: skip
def test_torch_tells_what_it_was_built_for(monkeypatch: pytest.MonkeyPatch, build: dict[str, Any], told: Build):
    monkeypatch.setitem(sys.modules, "torch", fake_torch(**build))
    assert TorchBackend(Device("cpu"), 1).build() == told


@pytest.mark.parametrize(
    ("build", "info", "told"),
    [
        ({"cuda": True}, {"cuda_version": "12.5.1"}, Build(cuda="12.5.1")),
        ({"cuda": True}, {}, Build(cuda="of a version that it does not tell")),
        ({"rocm": True, "GPU": 2}, {}, Build(other="AMD's GPUs (ROCm)")),
        ({"XPU": 1}, {}, Build(other="/physical_device:XPU:0 of a plug-in, which is no GPU of CUDA")),
        ({}, {}, Build()),
    ],
)
def test_tensorflow_tells_what_it_was_built_for(
    monkeypatch: pytest.MonkeyPatch, build: dict[str, Any], info: dict[str, str], told: Build
):
    tf = fake_tensorflow(**build)
    tf.sysconfig = SimpleNamespace(get_build_info=lambda: info)
    monkeypatch.setitem(sys.modules, "tensorflow", tf)
    assert TensorFlowBackend(Device("cpu"), 1).build() == told


def test_jax_tells_what_its_plug_ins_are_for(monkeypatch: pytest.MonkeyPatch):
    for installed, told in {
        "libtpu": Build(other="Google's TPUs"),
        "jaxlib": Build(),
        "jax-cuda12-plugin": Build("12"),
    }.items():
        monkeypatch.setattr(metadata, "distributions", lambda name=installed: [SimpleNamespace(metadata={"Name": name})])
        assert object.__new__(JaxBackend).build() == told


# What a framework tells of the board -------------------------------------------------------------------------------------


def test_each_framework_tells_name_and_libraries_of_its_gpu():
    properties = SimpleNamespace(name="Some GPU", uuid="0a0b-cdef")
    nccl = SimpleNamespace(version=lambda: (2, 29, 7))
    torch = object.__new__(TorchBackend)
    torch._device = SimpleNamespace(type="cuda")
    torch._torch = SimpleNamespace(
        cuda=SimpleNamespace(get_device_properties=lambda device: properties, nccl=nccl),
        backends=SimpleNamespace(cudnn=SimpleNamespace(version=lambda: 92000)), version=SimpleNamespace(cuda="13.0"),
        distributed=SimpleNamespace(is_available=lambda: True, is_nccl_available=lambda: True),
    )  # fmt: skip
    told = {"name": "Some GPU", "uuid": "0a0b-cdef", "CUDA": "13.0", "cuDNN": "92000", "NCCL": "2.29.7"}
    assert torch.board() == told
    jax = object.__new__(JaxBackend)
    jax._device = SimpleNamespace(platform="gpu", device_kind="Some GPU")
    assert jax.board() == {"name": "Some GPU"}
    tensorflow = tensorflow_on(H200)
    tensorflow._tf.config.experimental.get_device_details = lambda gpu: {"device_name": "Some GPU"}
    built = {"cuda_version": "12.5.1", "cudnn_version": "9"}
    tensorflow._tf.sysconfig = SimpleNamespace(get_build_info=lambda: built)
    assert tensorflow.board() == {"name": "Some GPU", "CUDA": "12.5.1", "cuDNN": "9"}


# Names of PyTorch that others read --------------------------------------------------------------------------------------

LEGACY = """
import torch
from harness.axes import Device, Precision
from harness.backends.torch_settings import set_precision
from tests.builders import cell

for precision in (Precision.FP32, Precision.TF32, Precision.BF16, Precision.FP32):
    set_precision(torch, cell(precision=precision, device=Device("gpu", 0)))
    cudnn, products = torch.backends.cudnn, torch.backends.cuda.matmul
    print(torch.get_float32_matmul_precision(), products.allow_tf32, cudnn.allow_tf32, cudnn.conv.fp32_precision)
"""


def test_torchs_older_names_of_the_precision_can_be_read_and_say_the_same():
    """Inductor and dynamo read them, and one that is at odds with the newer names raises."""
    found = subprocess.run([sys.executable, "-c", LEGACY], capture_output=True, text=True, check=True).stdout.splitlines()
    ieee, tf32 = "highest False False ieee", "high True True tf32"
    assert found == [ieee, tf32, ieee, ieee]


def test_jax_brings_an_operand_to_its_gpu_straight_from_the_host():
    """An array made by jax.numpy would lie on the first GPU before, and take its memory."""
    one = object.__new__(JaxConvolution)
    one._np, one._dtype, one._device = numpy, numpy.float16, "gpu 1"
    one._jax = SimpleNamespace(device_put=lambda array, device: (type(array), array.dtype, device))
    assert one._placed(numpy.ones(3, numpy.float32)) == (numpy.ndarray, numpy.float16, "gpu 1")


def test_jax_may_take_nearly_all_of_a_gpus_memory_unless_the_user_says_how_much(monkeypatch: pytest.MonkeyPatch):
    for name in ("XLA_CLIENT_MEM_FRACTION", "XLA_PYTHON_CLIENT_MEM_FRACTION"):
        monkeypatch.delenv(name, raising=False)
    assert JaxBackend.environ(GPU, 1)["XLA_CLIENT_MEM_FRACTION"] == "0.95"
    assert "XLA_CLIENT_MEM_FRACTION" not in JaxBackend.environ(Device("cpu"), 1)
    monkeypatch.setenv("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.5")  # JAX refuses both at once
    assert "XLA_CLIENT_MEM_FRACTION" not in JaxBackend.environ(GPU, 1)


# How kernels are chosen ---------------------------------------------------------------------------------------------------

OTHERS = [Autotune.ON, Autotune.OFF]


def test_each_framework_is_told_by_its_own_switch_before_it_is_imported(monkeypatch: pytest.MonkeyPatch):
    """PyTorch's is set when a cell is prepared; XLA's level stands behind what the user asks of it, since the last counts."""
    monkeypatch.setenv("XLA_FLAGS", "--xla_dump_to=/x --xla_gpu_autotune_level=2")
    flags = "--xla_dump_to=/x --xla_gpu_autotune_level=2 --xla_gpu_autotune_level="
    assert [JaxBackend.autotuning(choice) for choice in OTHERS] == [{"XLA_FLAGS": f"{flags}{level}"} for level in (4, 0)]
    assert [TensorFlowBackend.autotuning(choice) for choice in OTHERS] == [
        {"TF_CUDNN_USE_AUTOTUNE": own, "XLA_FLAGS": f"{flags}{level}"} for own, level in (("1", 4), ("0", 0))
    ]  # fmt: skip
    assert [TorchBackend.autotuning(choice) for choice in OTHERS] == [{}, {}]
    monkeypatch.delenv("XLA_FLAGS")
    assert JaxBackend.autotuning(Autotune.OFF) == {"XLA_FLAGS": "--xla_gpu_autotune_level=0"}


@pytest.mark.parametrize("found", [True, False])
@pytest.mark.parametrize(("choice", "expected"), [(Autotune.ON, True), (Autotune.OFF, False), (Autotune.DEFAULT, None)])
def test_torch_s_switch_is_set_for_a_cell_and_left_alone_by_default(found: bool, choice: Autotune, expected: bool | None):
    torch = SimpleNamespace(backends=SimpleNamespace(cudnn=SimpleNamespace(benchmark=found)))
    set_autotuning(torch, cell(device=GPU, autotune=choice))
    assert torch.backends.cudnn.benchmark is (found if expected is None else expected)


@pytest.mark.parametrize("backend_on", [torch_on, jax_on, tensorflow_on])
@pytest.mark.parametrize("choice", OTHERS)
def test_kernels_are_chosen_on_a_gpu_only(backend_on: Callable[[Capability], Any], choice: Autotune):
    backend = backend_on(H200)
    assert unsupported(backend, cell(device=GPU, autotune=choice)) is None
    assert unsupported(backend, cell(autotune=choice)) == (
        "cuDNN and XLA try kernels on GPUs only; on the CPU there is nothing to choose but autotune=default"
    )
    assert unsupported(backend, cell(device=GPU)) is None


def test_an_adapter_that_does_not_know_the_axis_measures_its_default_alone():
    """Whatever it would have chosen would stand under another name."""

    class Foreign(NumpyBackend):
        def supports(self, cell: Any) -> None:
            return None

    foreign = object.__new__(Foreign)
    assert unsupported(foreign, cell(device=GPU)) is None
    assert "numpy does not say how its kernels are chosen" in str(unsupported(foreign, cell(device=GPU, autotune=Autotune.ON)))


@pytest.mark.parametrize(
    ("mode", "environ", "tried"),
    [
        (Mode.EAGER, {}, "True"), (Mode.EAGER, {"TF_CUDNN_USE_AUTOTUNE": "0"}, "False"),
        (Mode.COMPILED, {"TF_CUDNN_USE_AUTOTUNE": "False"}, "False"), (Mode.XLA, {"TF_CUDNN_USE_AUTOTUNE": "0"}, "True"),
        (Mode.XLA, {"XLA_FLAGS": "--xla_gpu_autotune_level=0"}, "False"),
        (Mode.EAGER, {"XLA_FLAGS": "--xla_gpu_autotune_level=0"}, "True"),
    ],
)  # fmt: skip
def test_tensorflow_says_whether_the_kernels_of_its_mode_were_tried(
    monkeypatch: pytest.MonkeyPatch, mode: Mode, environ: dict[str, str], tried: str
):
    monkeypatch.setitem(sys.modules, "tensorflow", None)  # which is not asked
    for name in ("TF_CUDNN_USE_AUTOTUNE", "XLA_FLAGS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    tf = SimpleNamespace(config=SimpleNamespace(experimental=SimpleNamespace(tensor_float_32_execution_enabled=lambda: False)))
    told = read_of_tensorflow(tf, cell(device=GPU, mode=mode))
    assert told["autotuned"] == tried
    assert "autotuned" not in read_of_tensorflow(tf, cell(mode=mode))


@pytest.mark.parametrize(("flags", "told"), [("", "True"), ("--xla_gpu_autotune_level=0", "False")])
def test_jax_says_whether_kernels_were_tried(monkeypatch: pytest.MonkeyPatch, flags: str, told: str):
    monkeypatch.setenv("XLA_FLAGS", flags)
    assert tuning()["autotuned"] == told
