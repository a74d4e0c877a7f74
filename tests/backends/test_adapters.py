"""What an adapter does around its call: real frameworks in processes of their own, GPU code against fakes of the API."""

import json
import subprocess
import sys
from functools import cache
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from harness.backends import registry
from harness.backends.jax import JaxBackend, JaxPrepared
from harness.backends.tensorflow import TensorFlowBackend, TensorFlowPrepared
from harness.backends.torch import TorchBackend, TorchPrepared
from harness.spec import Device, Direction, GemmSpec, Layout, Mode, Optimizer, Precision
from tests.builders import cell

CPU, GPU = Device("cpu"), Device("gpu", 1)

# What is timed, with the real framework: one process for each answers all that is asked of it ---------------------------

ANY = """
import json, sys
import numpy as np
from harness.backends import registry
from harness.backends.base import Operands
from harness.spec import Cell, ConvSpec, CopySpec, Device, Direction, Layout, Mode, Optimizer

NAME = sys.argv[1]
PURE = (Direction.FPROP, Direction.DGRAD, Direction.WGRAD)
kind = registry.resolve(registry.find(NAME))
backend = kind(Device("cpu"), 1)

def prepared(text, direction, backend=backend, **axes):
    spec, rng = ConvSpec.parse(text), np.random.default_rng(0)
    arrays = (rng.standard_normal(shape).astype("float32") for shape in (spec.x_shape, spec.w_shape, spec.y_shape))
    return backend.prepare(Cell("a", spec, direction, NAME, **axes), Operands(*arrays))

def train(optimizer, mode=Mode.EAGER):
    return prepared("n2 c3 k4 6x6 f3x3", Direction.TRAIN, mode=mode, optimizer=optimizer)

def resets(call):
    steps = lambda: [call.fetch(call.launch()).w for _ in range(3)]
    first, further = steps(), steps()
    call.reset()
    again = steps()
    moved = not any(map(np.array_equal, first, further))
    return moved and all(map(np.array_equal, first, again))

def own(call):
    # Whether what a copy left is what was loaded last, and stays so while the operand changes.
    x = np.arange(4096, dtype="float32")
    call.load(Operands(x, x[:0], x[:0]))
    handle = call.launch()
    call.wait(handle)
    before = call.fetch(handle).y
    aliased = overwrite(call, handle)
    return bool(np.array_equal(before, x) and not aliased)

def copies(mode):
    x = np.zeros(4096, "float32")
    spec = CopySpec(4096 * 4)
    return own(backend.prepare(Cell("c", spec, Direction.NONE, NAME, mode=mode), Operands(x, x[:0], x[:0])))

def refuses(device):
    try:
        prepared("n1 c1 k1 3x3 f3x3", Direction.FPROP, kind(device, 1), device=device)
    except Exception:
        return True
    return False

answers = {"resets": {optimizer: resets(train(optimizer)) for optimizer in Optimizer}}
"""
OF_ONE = {
    "torch": """
def strides_last(call):
    spec = call.cell.spec
    channels = ((call.x, spec.c), (call.w, spec.c // spec.groups), (call.dy, spec.k))
    return all(tensor.stride(1) == 1 and tensor.stride(3) == many for tensor, many in channels)

shapes = ("n2 c1 k4 6x6 f3x3", "n2 c4 k8 6x6 f3x3 g4", "n2 c3 k4 6x6 f1x1", "n2 c3 k1 3x3 f3x3", "n2 c1 k4 6x6 f3x3 p0-1x0")
answers["channels last"] = {shape: [strides_last(prepared(shape, direction)) for direction in PURE] for shape in shapes}
answers["gradients"] = [prepared(shapes[0], direction).launch().requires_grad for direction in PURE]
answers["refuses"] = refuses(Device("gpu", 99))

def overwrite(call, handle):
    call.x.zero_()
    return not handle.any()

answers["copies"] = {mode: copies(mode) for mode in (Mode.EAGER,)}
""",
    "jax": """
import jax
calls = [prepared("n2 c4 k4 6x6 f3x3 p1x1", direction, mode=Mode.COMPILED) for direction in PURE]
answers["convolutions"] = [call.lowered().as_text().count("stablehlo.convolution") for call in calls]
answers["results"] = {one: len(jax.tree.leaves(train(one, Mode.COMPILED).launch())) for one in Optimizer}

def overwrite(call, handle):  # nobody can write to an array of JAX's, so it is asked where they are
    return handle.unsafe_buffer_pointer() == call.x.unsafe_buffer_pointer()

answers["copies"] = {mode: copies(mode) for mode in (Mode.EAGER, Mode.COMPILED)}
x = np.zeros(4096, "float32")
call = backend.prepare(Cell("c", CopySpec(4096 * 4), Direction.NONE, NAME, mode=Mode.COMPILED), Operands(x, x[:0], x[:0]))
places = {call.launch().unsafe_buffer_pointer() for _ in range(5)}
call.fetch(call.launch())  # what the host has seen is donated all the same
answers["places of a copy"] = len(places | {call.launch().unsafe_buffer_pointer()})
""",
    "tensorflow": """

def overwrite(call, handle):
    backend.tf.raw_ops.InplaceUpdate(x=call.x, i=[0], v=[-1.0])
    changed = call.fetch(handle).y[0] == -1
    assert call.x.numpy()[0] == -1
    return bool(changed)

answers["copies"] = {mode: copies(mode) for mode in Mode}
answers["variable"] = [train(Optimizer.SGD, mode).launch()[-1].__class__.__name__ for mode in Mode]
answers["refuses"] = refuses(Device("gpu", 99))
""",
}


@cache
def answers(name: str) -> dict[str, Any]:
    """What the adapter of a framework answers; skips where that is not installed."""
    if not registry.installed(name):
        pytest.skip(f"{name} is not installed")
    code = f"{ANY}\n{OF_ONE[name]}\nprint(json.dumps(answers))"
    result = subprocess.run(
        [sys.executable, "-P", "-W", "ignore", "-c", code, name], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr[-2000:]
    return json.loads(result.stdout.splitlines()[-1])


def test_torch_is_given_channels_last_also_where_a_size_of_1_leaves_it_open():
    """A tensor of one channel is contiguous in both formats; as `contiguous` leaves it, the call runs channels first."""
    found = answers("torch")["channels last"]
    assert found == dict.fromkeys(found, [True] * 3)


def test_torch_keeps_no_books_on_gradients_in_the_pure_passes():
    assert answers("torch")["gradients"] == [False] * 3


def test_jax_compiles_each_pass_to_one_convolution():
    assert answers("jax")["convolutions"] == [1] * 3


def test_jax_returns_the_new_filter_once():
    """y, loss, dx, dw and the optimizer's state, of which the filter is a part; returned twice, XLA would copy it."""
    assert answers("jax")["results"] == {"sgd": 5, "adam": 7}


def test_tensorflow_keeps_no_copy_of_the_filter_that_the_next_step_would_have_to_preserve():
    assert answers("tensorflow")["variable"] == ["ResourceVariable"] * len(Mode)


@pytest.mark.parametrize("name", OF_ONE)
def test_a_copy_moves_its_bytes_to_a_place_of_their_own(name: str):
    """A framework may hand on the buffer itself, as tf.identity does; that would be measured as a memory without end."""
    found = answers(name)["copies"]
    assert found == dict.fromkeys(found, True)


def test_jax_copies_to_where_the_last_copy_was():
    """The result is donated to the next call: a fresh one would have its pages touched for the first time in every call."""
    assert answers("jax")["places of a copy"] == 1


@pytest.mark.parametrize("name", OF_ONE)
def test_reset_takes_back_what_training_did(name: str):
    """The steps after it are those after the beginning, to the last bit: filter and slots are as they were."""
    assert answers(name)["resets"] == {"sgd": True, "adam": True}


@pytest.mark.parametrize("name", ["torch", "tensorflow"])
def test_a_gpu_that_is_not_there_is_refused_and_not_replaced_by_the_cpu(name: str):
    assert answers(name)["refuses"]


# What is set before the framework is imported ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("backend", "device", "expected"),
    [
        (TorchBackend, CPU, {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "3"}),
        (TensorFlowBackend, CPU, {"CUDA_VISIBLE_DEVICES": "-1"}),
        (TensorFlowBackend, GPU, {"TF_FORCE_GPU_ALLOW_GROWTH": "true"}),
        (JaxBackend, CPU, {"JAX_PLATFORMS": "cpu"}),
        (JaxBackend, GPU, {"JAX_PLATFORMS": "cuda", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}),
    ],
)
def test_a_cpu_worker_sees_no_gpu_and_a_gpu_worker_leaves_memory_to_others(
    backend: Any, device: Device, expected: dict[str, str]
):
    assert expected.items() <= backend.environ(device, 3).items()


@pytest.mark.parametrize("backend", [TorchBackend, TensorFlowBackend])
def test_a_gpu_worker_hides_none(backend: Any):
    assert "CUDA_VISIBLE_DEVICES" not in backend.environ(GPU, 1)


# What is not asked for, without a framework --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("backend", "changes", "reason"),
    [
        (TorchBackend, {"mode": Mode.XLA}, "PyTorch has no mode xla"),
        (JaxBackend, {"mode": Mode.XLA}, "JAX has no mode xla"),
        (TorchBackend, {"precision": Precision.TF32}, "TF32 is a format of NVIDIA GPUs; the CPU has none"),
        (JaxBackend, {"precision": Precision.TF32}, "TF32 is a format of NVIDIA GPUs; the CPU has none"),
        (TensorFlowBackend, {"precision": Precision.TF32}, "TF32 is a format of NVIDIA GPUs; the CPU has none"),
        (TorchBackend, {"precision": Precision.TF32, "device": GPU}, None),
        (JaxBackend, {"precision": Precision.TF32, "device": GPU}, None),
        (TensorFlowBackend, {"precision": Precision.TF32, "device": GPU, "layout": Layout.CHANNELS_FIRST}, None),
    ],
)
def test_what_no_build_of_a_framework_has_is_told(backend: Any, changes: dict[str, Any], reason: str | None):
    assert object.__new__(backend).supports(cell(**changes)) == reason


@pytest.mark.parametrize(
    ("backend", "precision", "possible"),
    [
        (TorchBackend, Precision.FP16, False), (TorchBackend, Precision.BF16, True),
        (JaxBackend, Precision.FP16, False), (JaxBackend, Precision.BF16, False), (JaxBackend, Precision.FP32, True),
        (TensorFlowBackend, Precision.FP16, False), (TensorFlowBackend, Precision.BF16, False),
    ],
)  # fmt: skip
def test_adam_whose_constants_vanish_in_the_precision_is_not_asked_for(backend: Any, precision: Precision, possible: bool):
    asked = cell(direction=Direction.TRAIN, optimizer=Optimizer.ADAM, precision=precision)
    reason = object.__new__(backend).supports(asked)
    assert (reason is None) == possible
    assert possible or "Adam" in str(reason)


def test_torch_without_a_compiler_has_no_compiled_mode_on_the_cpu(monkeypatch: pytest.MonkeyPatch, tmp_path: Any):
    monkeypatch.setenv("PATH", str(tmp_path))
    backend = object.__new__(TorchBackend)
    assert "needs a C++ compiler" in str(backend.supports(cell(mode=Mode.COMPILED)))
    assert backend.supports(cell(mode=Mode.COMPILED, device=GPU)) is None


# GPU code against fakes --------------------------------------------------------------------------------------------------


class Calls(list[str]):
    """A fake of any API: notes each call by its name, with the device it was given, and returns what was arranged."""

    def api(self, **results: Any) -> SimpleNamespace:
        def note(name: str, result: Any) -> Any:
            def call(*arguments: Any) -> Any:
                self.append(" ".join([name, *map(str, arguments)]))
                return result

            return call

        return SimpleNamespace(**{name: note(name, result) for name, result in results.items()})


@pytest.fixture
def calls() -> Calls:
    return Calls()


def prepared_on_gpu(kind: Any, calls: Calls, **attributes: Any) -> Any:
    one = object.__new__(kind)
    vars(one).update({"cell": cell(device=GPU), "launch": lambda: calls.append("launch"), **attributes})
    return one


class Cuda:
    """A fake of torch.device."""

    type = "cuda"

    def __str__(self) -> str:
        return "cuda:1"


def fake_torch(calls: Calls) -> SimpleNamespace:
    cuda = calls.api(
        synchronize=None, reset_peak_memory_stats=None, memory_allocated=100, max_memory_allocated=175, empty_cache=None,
        is_available=True, device_count=2,
    )  # fmt: skip
    cuda.current_stream = lambda device: calls.api(synchronize=None)
    conv, matmul = SimpleNamespace(fp32_precision="none"), SimpleNamespace(fp32_precision="none")
    backends = SimpleNamespace(
        cudnn=SimpleNamespace(conv=conv, benchmark=False, deterministic=False), cuda=SimpleNamespace(matmul=matmul), mkldnn=None
    )
    return SimpleNamespace(cuda=cuda, backends=backends)


def test_torch_s_peak_is_that_of_one_call(calls: Calls):
    """With a fake torch.cuda: the counter is reset after what ran before has ended, and read after the call has."""
    one = prepared_on_gpu(TorchPrepared, calls, torch=fake_torch(calls), device=Cuda())
    assert one.device_memory() == (100, 175, "torch.cuda.max_memory_allocated")
    assert calls == [
        "synchronize cuda:1", "reset_peak_memory_stats cuda:1", "memory_allocated cuda:1", "launch", "synchronize",
        "max_memory_allocated cuda:1",
    ]  # fmt: skip


@pytest.mark.parametrize(("kind", "waited"), [("cuda", ["synchronize"]), ("cpu", [])])
def test_torch_waits_for_the_stream_on_a_gpu_only(calls: Calls, kind: str, waited: list[str]):
    """With a fake torch.cuda."""
    one = prepared_on_gpu(TorchPrepared, calls, torch=fake_torch(calls), device=SimpleNamespace(type=kind))
    one.wait(None)
    assert calls == waited


@pytest.mark.parametrize(("precision", "value"), [(Precision.FP32, "ieee"), (Precision.TF32, "tf32"), (Precision.BF16, "ieee")])
def test_torch_sets_cudnn_s_precision_and_reads_it_back(calls: Calls, precision: Precision, value: str):
    """With a fake torch.backends."""
    backend = object.__new__(TorchBackend)
    backend.torch = fake_torch(calls)
    assert backend._settings(cell(device=GPU, precision=precision)) == {
        "fp32_precision": value, "cudnn.benchmark": "False", "cudnn.deterministic": "False",
    }  # fmt: skip


@pytest.mark.parametrize(("precision", "value"), [(Precision.FP32, "ieee"), (Precision.TF32, "tf32"), (Precision.BF16, "ieee")])
def test_torch_sets_the_precision_of_matrix_products_apart(calls: Calls, precision: Precision, value: str):
    """With a fake torch.backends: convolutions and matrix products each have a switch of their own."""
    backend = object.__new__(TorchBackend)
    backend.torch = fake_torch(calls)
    asked = cell(device=GPU, precision=precision, spec=GemmSpec(2, 3, 4), direction=Direction.NONE)
    assert backend._settings(asked) == {"fp32_precision": value}
    assert backend.torch.backends.cuda.matmul.fp32_precision == value
    assert backend.torch.backends.cudnn.conv.fp32_precision == "none"


def test_torch_lists_the_gpus_that_cuda_shows(calls: Calls):
    """With a fake torch.cuda."""
    backend = object.__new__(TorchBackend)
    backend.torch = fake_torch(calls)
    assert list(map(str, backend.devices())) == ["cpu", "gpu:0", "gpu:1"]


def fake_tensorflow(calls: Calls, gpus: int) -> ModuleType:
    tf = ModuleType("tensorflow")
    memory = iter([{"current": 100, "peak": 100}, {"current": 120, "peak": 175}])
    stats = calls.api(reset_memory_stats=None)
    stats.get_memory_info = lambda name: (calls.append(f"get_memory_info {name}"), next(memory))[1]
    config = calls.api(set_visible_devices=None, list_physical_devices=[f"physical {index}" for index in range(gpus)])
    config.threading = SimpleNamespace(
        set_intra_op_parallelism_threads=lambda n: None, set_inter_op_parallelism_threads=lambda n: None
    )
    config.experimental = stats
    tf.config, tf.test = config, SimpleNamespace(experimental=calls.api(sync_devices=None))  # type: ignore[attr-defined]
    return tf


def test_tensorflow_is_shown_the_one_gpu_that_it_is_to_use(calls: Calls, monkeypatch: pytest.MonkeyPatch):
    """With a fake tensorflow of two GPUs: eager ops run on the first that is visible, wherever their operands are."""
    monkeypatch.setitem(sys.modules, "tensorflow", fake_tensorflow(calls, 2))
    backend = TensorFlowBackend(GPU, 1)
    assert backend.device == "/GPU:0"
    assert "set_visible_devices physical 1 GPU" in calls
    assert list(map(str, backend.devices())) == ["cpu", "gpu:0", "gpu:1"]


def test_tensorflow_refuses_a_gpu_that_it_does_not_see(calls: Calls, monkeypatch: pytest.MonkeyPatch):
    """With a fake tensorflow of one GPU."""
    monkeypatch.setitem(sys.modules, "tensorflow", fake_tensorflow(calls, 1))
    with pytest.raises(RuntimeError, match="TensorFlow sees 1 GPUs here, so there is no gpu:1"):
        TensorFlowBackend(GPU, 1)


def test_tensorflow_s_peak_is_that_of_one_call(calls: Calls):
    """With fakes of tf.config.experimental and tf.test.experimental."""
    one = prepared_on_gpu(TensorFlowPrepared, calls, tf=fake_tensorflow(calls, 1), device="/GPU:0")
    assert one.device_memory() == (100, 175, "tf.config.experimental.get_memory_info")
    assert calls == [
        "sync_devices", "reset_memory_stats GPU:0", "get_memory_info GPU:0", "launch", "sync_devices", "get_memory_info GPU:0",
    ]  # fmt: skip


@pytest.mark.parametrize(("device", "waited"), [("/GPU:0", ["sync_devices"]), ("/CPU:0", [])])
def test_tensorflow_waits_on_a_gpu_only(calls: Calls, device: str, waited: list[str]):
    """With a fake tf.test.experimental."""
    prepared_on_gpu(TensorFlowPrepared, calls, tf=fake_tensorflow(calls, 1), device=device).wait(None)
    assert calls == waited


def test_jax_s_memory_is_what_xla_planned():
    """With a fake of a lowered program."""
    plan = SimpleNamespace(argument_size_in_bytes=100, output_size_in_bytes=60, alias_size_in_bytes=10, temp_size_in_bytes=25)
    compiled = SimpleNamespace(memory_analysis=lambda: plan)
    one = prepared_on_gpu(JaxPrepared, Calls(), lowered=lambda: SimpleNamespace(compile=lambda: compiled))
    assert one.device_memory() == (100, 175, "jax compiled.memory_analysis")
    one.lowered = None
    assert one.device_memory() is None


@pytest.mark.parametrize("kind", [TorchPrepared, TensorFlowPrepared, JaxPrepared])
def test_a_cpu_cell_has_no_device_memory(calls: Calls, kind: Any):
    device: Any = "/CPU:0" if kind is TensorFlowPrepared else SimpleNamespace(type="cpu")
    assert prepared_on_gpu(kind, calls, cell=cell(), device=device, lowered=None).device_memory() is None
    assert calls == []


@pytest.mark.parametrize(("platforms", "expected"), [({"cuda": [0, 1]}, ["cpu", "gpu:0", "gpu:1"]), ({}, ["cpu"])])
def test_jax_lists_the_gpus_of_its_plug_in(platforms: dict[str, list[int]], expected: list[str]):
    """With a fake jax.devices, which raises RuntimeError for a platform that is not there."""

    def devices(name: str) -> list[int]:
        if name not in platforms:
            raise RuntimeError(f"Unknown backend {name}")
        return platforms[name]

    backend = object.__new__(JaxBackend)
    backend.jax = SimpleNamespace(devices=devices)
    assert list(map(str, backend.devices())) == expected
