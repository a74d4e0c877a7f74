"""What an adapter does around its call: real frameworks in processes of their own, GPU code against fakes of the API."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from harness.axes import Device, Direction, Layout, Mode, Optimizer, Precision
from harness.backends import nvidia, registry
from harness.backends.base import unsupported
from harness.backends.jax import JaxBackend, JaxConvolution
from harness.backends.tensorflow import TensorFlowBackend, TensorFlowConvolution, TensorFlowPrepared
from harness.backends.tensorflow import waiting as waiting_in_tensorflow
from harness.backends.torch import TorchBackend, TorchConvolution
from harness.backends.torch import waiting as waiting_in_torch
from harness.backends.torch_settings import read_settings, set_precision
from harness.spec import ConvSpec, GemmSpec
from tests.builders import cell

CPU, GPU = Device("cpu"), Device("gpu", 1)

# What is timed, with the real framework: one process for each answers all that is asked of it ---------------------------

ANY = """
import contextvars, json, sys
import numpy as np
from harness.backends import nvidia, registry
from harness.backends.base import ALREADY_DONE, Operands
from harness.axes import Device, Direction, Layout, Mode, Optimizer, Precision
from harness.spec import Cell, ConvSpec, CopySpec

NAME = sys.argv[1]
ASKED = {direction: Optimizer.SGD if direction is Direction.TRAIN else None for direction in Direction if direction != "none"}
PADDED = ("n2 c3 k4 6x6 f3x3 p1x1", "n2 c3 k4 6x6 f3x3 p0-1x0", "n1 c2 k2 4x4x4 f3x3x3 s2x2x2 p1x1x1")
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

def small(direction=Direction.FPROP, text="n2 c3 k4 6x6 f3x3", **axes):
    return prepared(text, direction, **axes)

def evicted(call, owner, name):
    sizes, real = [], getattr(owner, name)
    def noted(*arguments, **more):
        sizes.append(np.asarray(made := real(*arguments, **more)).nbytes)
        return made
    setattr(owner, name, noted)
    call.evict(1_000_001)
    setattr(owner, name, real)
    return sizes

def compilations(call, change):
    counts = [call.compilations()]
    launch = lambda: call.launch()
    for step in (launch, launch, launch, change, launch, launch):
        step()
        counts.append(call.compilations())
    return [later - earlier for earlier, later in zip(counts, counts[1:])]

def asked_how_to_wait():
    # What a convolution and a copy pass on to the function that chooses how their device is waited for.
    module, x = sys.modules[type(cpu).__module__], np.zeros(1024, "float32")
    real, module.waiting = module.waiting, lambda framework, *device, **more: [[str(each) for each in device], more]
    copy = backend.prepare(Cell("c", CopySpec(4096), Direction.NONE, NAME), Operands(x, x[:0], x[:0]))
    asked = [small().wait, small(Direction.BPROP).wait, copy.wait]
    module.waiting = real
    return asked

other = ConvSpec.parse("n2 c3 k4 7x7 f3x3")
wider = Operands(*(np.ones(shape, np.float32) for shape in (other.x_shape, other.w_shape, other.y_shape)))

answers = {"resets": {optimizer: resets(train(optimizer)) for optimizer in Optimizer}}
cpu = small()
answers["device"] = [cpu.device_time(3), cpu.device_clock]
answers["asked how to wait"] = asked_how_to_wait()
on_cpus = [precision for precision in Precision if precision is not Precision.TF32]
answers["settings"] = {precision: dict(small(precision=precision).settings) for precision in on_cpus}
answers["composite"] = {
    text: [direction for direction, optimizer in ASKED.items() if small(direction, text, optimizer=optimizer).composite]
    for text in PADDED
}
"""
OF_ONE = {
    "torch": """
def strides_last(call):
    spec = call._cell.spec
    channels = ((call._x, spec.c), (call._parameters[0], spec.c // spec.groups), (call._dy, spec.k))
    return all(tensor.stride(1) == 1 and tensor.stride(3) == many for tensor, many in channels)

shapes = ("n2 c1 k4 6x6 f3x3", "n2 c4 k8 6x6 f3x3 g4", "n2 c3 k4 6x6 f1x1", "n2 c3 k1 3x3 f3x3", "n2 c1 k4 6x6 f3x3 p0-1x0")
answers["channels last"] = {shape: [strides_last(prepared(shape, direction)) for direction in PURE] for shape in shapes}
pure = [prepared(shapes[0], direction).launch() for direction in PURE]
answers["gradients"] = [tensor.requires_grad for tensor in (pure[0], pure[1][0], pure[2][1])]
answers["others"] = [pure[1][1:], (pure[2][0], pure[2][2])]
answers["called"] = [str(small(direction).launch.func) for direction in PURE]
answers["waits"] = cpu.wait is not ALREADY_DONE
answers["refuses"] = refuses(Device("gpu", 99))
answers["evicted"] = evicted(cpu, backend._torch, "zeros")

answers["eager"] = compilations(cpu, lambda: None)
compiled = small(mode=Mode.COMPILED)
if backend.supports(compiled._cell) is None:
    wider = compiled._torch.ones(2, 3, 7, 7).to(memory_format=compiled._format)
    answers["compilations"] = compilations(compiled, lambda: setattr(compiled._x, "data", wider))
    compiled.close()
    answers["after the cell"] = compiled.compilations() > 0

def overwrite(call, handle):
    call._x.zero_()
    return not handle.any()

answers["copies"] = {mode: copies(mode) for mode in (Mode.EAGER,)}
""",
    "jax": """
import jax
from harness.backends import jax_profile, traces

answers["eager"] = compilations(cpu, lambda: None)
compiled = small(mode=Mode.COMPILED)
answers["compilations"] = compilations(compiled, lambda: compiled.load(wider))
answers["called"] = [type(small(direction, mode=Mode.COMPILED).launch.func).__name__ for direction in PURE]
answers["waits"] = type(cpu.wait).__name__
answers["evicted"] = evicted(cpu, jax.numpy, "zeros")

data = jax.profiler.ProfileData
space = data.from_serialized_xspace(data.text_proto_to_serialized_xspace(TRACE))
marks = [mark for plane in traces.of_data(space) if plane.name == traces.plane_name(0) for mark in plane.marks]
answers["trace"] = [[mark.line, mark.start_ns, mark.duration_ns, sorted(mark.stats)] for mark in marks]
with jax_profile.traced(jax, 2) as planes:
    cpu.wait(cpu.launch())
answers["own trace"] = sum(len(plane.marks) for plane in planes if plane.name == "/host:CPU")
calls = [prepared("n2 c4 k4 6x6 f3x3 p1x1", direction, mode=Mode.COMPILED) for direction in PURE]
answers["convolutions"] = [call._lowered().as_text().count("stablehlo.convolution") for call in calls]
answers["results"] = {one: len(jax.tree.leaves(train(one, Mode.COMPILED).launch())) for one in Optimizer}

def counted(mode):
    # Whether a training step counts on its device, and how far it has come: after a reset, and after three calls of it.
    call = train(Optimizer.ADAM, mode)
    call.launch()
    call.reset()
    before = [isinstance(call._steps, jax.Array), int(call._steps)]
    with jax.transfer_guard_host_to_device("disallow" if mode is Mode.COMPILED else "allow"):
        [call.launch() for _ in range(3)]
    return [*before, isinstance(call._steps, jax.Array), int(call._steps)]

answers["counted"] = {mode: counted(mode) for mode in (Mode.EAGER, Mode.COMPILED)}

def overwrite(call, handle):  # nobody can write to an array of JAX's, so it is asked where they are
    return handle.unsafe_buffer_pointer() == call._x.unsafe_buffer_pointer()

answers["copies"] = {mode: copies(mode) for mode in (Mode.EAGER, Mode.COMPILED)}
x = np.zeros(4096, "float32")
call = backend.prepare(Cell("c", CopySpec(4096 * 4), Direction.NONE, NAME, mode=Mode.COMPILED), Operands(x, x[:0], x[:0]))
places = {call.launch().unsafe_buffer_pointer() for _ in range(5)}
call.fetch(call.launch())  # what the host has seen is donated all the same
answers["places of a copy"] = len(places | {call.launch().unsafe_buffer_pointer()})
""",
    "tensorflow": """

def overwrite(call, handle):
    backend._tf.raw_ops.InplaceUpdate(x=call._x, i=[0], v=[-1.0])
    changed = call.fetch(handle).y[0] == -1
    assert call._x.numpy()[0] == -1
    return bool(changed)


def above():
    frame, names = sys._getframe().f_back, []
    while frame:
        names.append(frame.f_code.co_name)
        frame = frame.f_back
    return names


setting = contextvars.ContextVar("setting", default="lost")
setting.set("kept")
answers["above"] = small().on_own_stack(above)
answers["context"] = small().on_own_stack(setting.get)
from harness.backends import tensorflow_settings
tensorflow_settings.STACK["stack"] = "deeper"  # as without greenlet
answers["above without"] = small().on_own_stack(above)
answers["settings without"] = dict(small().settings)
tensorflow_settings.STACK.clear()
answers["ours"] = [small(direction).launch.func.__module__.split(".")[0] for direction in PURE]
tf = backend._tf
depthwise = tf.nn.depthwise_conv2d(tf.ones([1, 10, 10, 2]), tf.ones([3, 3, 2, 1]), [1, 2, 2, 1], "VALID", dilations=[2, 2])
answers["strided and dilated"] = list(depthwise.shape)
answers["waits"] = cpu.wait is not ALREADY_DONE
answers["copies"] = {mode: copies(mode) for mode in Mode}
answers["variable"] = [train(Optimizer.SGD, mode).launch()[-1].__class__.__name__ for mode in Mode]
answers["refuses"] = refuses(Device("gpu", 99))
answers["evicted"] = evicted(cpu, backend._tf, "fill")

answers["eager"] = compilations(cpu, lambda: None)
for mode, key in ((Mode.COMPILED, "compilations"), (Mode.XLA, "xla")):
    compiled = small(mode=mode)
    answers[key] = compilations(compiled, lambda: compiled.load(wider))

from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from google.protobuf import text_format
from tensorflow.tsl.profiler.protobuf import xplane_pb2
from harness.backends import tensorflow_profile, traces

@contextmanager
def profile(folder, options):
    yield
    space = text_format.Parse(TRACE, xplane_pb2.XSpace())
    (Path(folder) / "a.xplane.pb").write_bytes(space.SerializeToString())

real, steps = backend._tf.profiler.experimental, []
scripted = SimpleNamespace(Profile=profile, ProfilerOptions=real.ProfilerOptions)
cpu._device, cpu._tf = "/GPU:0", SimpleNamespace(profiler=SimpleNamespace(experimental=scripted))
cpu.wait, launch = lambda handle: steps.append("wait"), cpu.launch
cpu.launch = lambda: steps.append("launch")
answers["device time"] = [cpu.device_time(2), steps]
marks = list(traces.of_gpus(traces.of_space(text_format.Parse(TRACE, xplane_pb2.XSpace()))))
answers["trace"] = [[mark.line, mark.start_ns, mark.duration_ns, sorted(mark.stats)] for mark in marks]
with tensorflow_profile.traced(backend._tf, 2, 0) as planes:
    launch()
answers["own trace"] = sum(len(plane.marks) for plane in planes if plane.name.startswith("/host:CPU"))

from harness.backends.tensorflow import MisplacedError
answers["misplaced"] = {}
for mode in Mode:
    stray = small(mode=mode)
    handle = stray.launch()
    stray._device = "/GPU:0"
    try:
        stray.fetch(handle)
    except MisplacedError as error:
        answers["misplaced"][mode] = str(error)
backend._device = "/GPU:0"
answers["probe"] = backend._try(prepared("n1 c1 k1 3x3 f3x3", Direction.FPROP, kind(Device("cpu"), 1))._cell)
""",
}
# Two calls of a kernel and a copy, an allocation, and another device; times as the format has them, in picoseconds.
TRACE = """
planes { name: "/device:GPU:0"
  lines { name: "Stream #7(Kernel,MemcpyD2D)" timestamp_ns: 100
    events { metadata_id: 1 offset_ps: 0 duration_ps: 5000000 stats { metadata_id: 3 str_value: "x" } }
    events { metadata_id: 1 offset_ps: 8000000 duration_ps: 1000000 stats { metadata_id: 4 str_value: "x" } }
    events { metadata_id: 1 offset_ps: 20000000 duration_ps: 5000000 stats { metadata_id: 3 str_value: "x" } }
    events { metadata_id: 1 offset_ps: 28000000 duration_ps: 1000000 stats { metadata_id: 4 str_value: "x" } }
    events { metadata_id: 1 offset_ps: 40000000 duration_ps: 9000000 stats { metadata_id: 5 str_value: "x" } } }
  event_metadata { key: 1 value { id: 1 name: "k" } }
  stat_metadata { key: 3 value { id: 3 name: "kernel_details" } }
  stat_metadata { key: 4 value { id: 4 name: "memcpy_details" } }
  stat_metadata { key: 5 value { id: 5 name: "memalloc_details" } } }
planes { name: "/host:CPU" lines { name: "python" } }
"""


@cache
def answers(name: str) -> dict[str, Any]:
    """What the adapter of a framework answers; skips where that is not installed."""
    if not registry.installed(name):
        pytest.skip(f"{name} is not installed")
    code = f"TRACE = {TRACE!r}\n{ANY}\n{OF_ONE[name]}\nprint(json.dumps(answers))"
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


def test_torch_s_mask_leaves_the_other_gradients_out():
    assert answers("torch")["others"] == [[None, None], [None, None]]


def test_nothing_of_ours_stands_around_an_eager_op_of_torch():
    found = answers("torch")
    assert "built-in method conv2d" in found["called"][0]
    assert found["called"][1:] == ["aten.convolution_backward"] * 2
    assert not found["waits"]


def test_jax_compiles_each_pass_to_one_convolution():
    assert answers("jax")["convolutions"] == [1] * 3


def test_jax_returns_the_new_filter_once():
    """y, loss, dx, dw and the optimizer's state, of which the filter is a part; returned twice, XLA would copy it."""
    assert answers("jax")["results"] == {"sgd": 5, "adam": 7}


def test_a_compiled_training_step_of_jax_counts_on_its_device():
    """A number of Python would be copied there in every timed call; eager Adam takes it as it is."""
    assert answers("jax")["counted"] == {"eager": [False, 0, False, 3], "compiled": [True, 0, True, 3]}


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


# What the adapters tell beside the results -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OF_ONE)
def test_a_compilation_is_told_and_a_repeated_call_is_none(name: str):
    """Three equal calls, then two with an operand of another size."""
    found = answers(name)
    if "compilations" not in found:
        pytest.skip(f"{name} compiles nothing on this machine")
    first, *repeated, change, again, last = found["compilations"]
    assert first > 0
    assert repeated == [0, 0]
    assert change == 0
    assert again > 0
    assert last == 0


def test_nothing_of_ours_stands_around_an_eager_op_of_tensorflow():
    """After a convolution a function costs ten times what it does by itself."""
    found = answers("tensorflow")
    assert found["ours"] == ["tensorflow"] * 3
    assert not found["waits"]


def test_an_op_of_tensorflow_can_be_called_with_no_frame_above_it():
    """An eager one notes 30 of them: with those of convbench itself it took 2 to 6 us more."""
    found = answers("tensorflow")
    assert found["above"] == []
    assert found["context"] == "kept"
    assert "<module>" in found["above without"]
    assert found["settings without"]["stack"] == "deeper"


def test_the_depthwise_op_of_tensorflow_is_wrong_where_it_is_said_to_be():
    """Where this fails TensorFlow has mended it: then the op can serve there, and `lacks_depthwise` says what is not so."""
    right = ConvSpec.parse("n1 c2 k2 10x10 f3x3 s2x2 d2x2 g2")
    assert answers("tensorflow")["strided and dilated"] != [right.n, *right.out_spatial, right.k]


def test_nothing_of_ours_stands_around_a_compiled_pass_of_jax():
    """What is called is XLA's own function, and what waits is the array's own method."""
    found = answers("jax")
    assert found["called"] == ["PjitFunction"] * 3
    assert found["waits"] == "methodcaller"


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        ("torch", [[["cpu"], {}]] * 3),
        ("tensorflow", [[["/CPU:0"], {}]] * 3),
        ("jax", [[[], {"single": True}], [[], {"single": False}], [[], {"single": True}]]),
    ],
)
def test_how_a_call_is_waited_for_is_chosen_by_its_device(name: str, asked: list[Any]):
    """A GPU that is waited for as the CPU is would have its launches timed, and nothing else would show it."""
    assert answers(name)["asked how to wait"] == asked


def test_xla_in_tensorflow_is_traced_and_compiled_again_for_another_size():
    assert answers("tensorflow")["xla"] == [1, 0, 0, 0, 1, 0]


@pytest.mark.parametrize(("name", "first"), [("torch", 0), ("tensorflow", 0), ("jax", 1)])
def test_eager_calls_compile_nothing_but_for_jax_the_first_time(name: str, first: int):
    assert answers(name)["eager"] in ([first, 0, 0, 0, 0, 0], [0] * 6)


def test_torch_s_count_outlives_the_cell():
    assert answers("torch").get("after the cell", True)


@pytest.mark.parametrize("name", OF_ONE)
def test_the_settings_show_the_numbers_that_were_computed_with(name: str):
    expected = {"fp64": "float64", "fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
    assert {precision: settings["dtype"] for precision, settings in answers(name)["settings"].items()} == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "torch",
            {
                "fp32_precision": "ieee", "matmul.fp32_precision": "ieee", "mkldnn": "True", "mkldnn.deterministic": "False",
                "deterministic_algorithms": "False",
            },
        ),
        ("jax", {"matmul_precision": "None", "x64": "False", "precision": "HIGHEST"}),
        ("tensorflow", {"tf32": "False", "op_determinism": "False", "TF_ENABLE_ONEDNN_OPTS": "default"}),
    ],
)  # fmt: skip
def test_what_bears_on_speed_and_precision_is_read_back(name: str, expected: dict[str, str]):
    assert expected.items() <= answers(name)["settings"]["fp32"].items()


@pytest.mark.parametrize(
    ("name", "padded"),
    [("torch", "n2 c3 k4 6x6 f3x3 p0-1x0"), ("tensorflow", "n1 c2 k2 4x4x4 f3x3x3 s2x2x2 p1x1x1"), ("jax", "")],
)
def test_a_call_is_composite_where_it_computes_the_gradient_of_more_than_x(name: str, padded: str):
    found = answers(name)["composite"]
    assert len(found) == 3
    assert {text: directions for text, directions in found.items() if directions} == (
        {padded: ["dgrad", "bprop", "train"]} if padded else {}
    )


@pytest.mark.parametrize("name", OF_ONE)
def test_eviction_overwrites_at_least_as_many_bytes_as_asked_for(name: str):
    assert answers(name)["evicted"] == [1_000_004]


@pytest.mark.parametrize("name", OF_ONE)
def test_a_cpu_has_no_device_clock(name: str):
    assert answers(name)["device"] == [None, ""]


@pytest.mark.parametrize("name", ["jax", "tensorflow"])
def test_a_trace_is_read_with_what_the_framework_brings_along(name: str):
    """A trace as XLA's profiler writes it of a GPU, and one of this CPU that the framework's own profiler wrote."""
    kernel, copy, *_, allocation = answers(name)["trace"]
    line = "Stream #7(Kernel,MemcpyD2D)"
    assert kernel == [line, 100, 5000, ["kernel_details"]]
    assert copy == [line, 8100, 1000, ["memcpy_details"]]
    assert allocation[-1] == ["memalloc_details"]
    assert answers(name)["own trace"] > 0


def test_tensorflow_traces_as_many_calls_as_asked_for_and_nothing_before_them():
    assert answers("tensorflow")["device time"] == [12_000, ["wait", "launch", "launch", "wait"]]


def test_tensorflow_does_not_compute_elsewhere_unnoticed():
    sentence = "TensorFlow computed y on CPU:0, not on GPU:0: it has no kernel there"
    assert answers("tensorflow")["misplaced"] == dict.fromkeys(Mode, sentence)
    assert answers("tensorflow")["probe"] == sentence


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
    ],
)
def test_what_no_build_of_a_framework_has_is_told(backend: Any, changes: dict[str, Any], reason: str):
    assert unsupported(object.__new__(backend), cell(**changes)) == reason


@pytest.mark.parametrize(
    ("shape", "lacks"),
    [
        ("n1 c4 k4 9x9 f3x3 g2", "grouped convolutions: "),
        ("n1 c4 k4 9x9 f3x3 p1-0x1 g2", "grouped convolutions with explicit padding: "),
        ("n1 c4 k4 9x9 f3x3 p2x2 d2x2 g2", "grouped convolutions and dilated convolutions: "),
        ("n1 c4 k4 9x9 f3x3 p1x1 d2x2", "dilated convolutions with explicit padding: "),
        ("n1 c4 k4 9x9x9 f3x3x3 p1-0x1x1 g2", "grouped convolutions: "),  # there x is padded beforehand
    ],
)
def test_tensorflow_names_the_padding_that_its_faster_kernels_do_not_take(
    monkeypatch: pytest.MonkeyPatch, shape: str, lacks: str
):
    monkeypatch.setattr(TensorFlowBackend, "_try", lambda backend, asked: "no kernel")
    asked = cell(spec=ConvSpec.parse(shape), direction=Direction.WGRAD, layout=Layout.CHANNELS_LAST)
    told = f"TensorFlow has no CPU kernel here for gradients of {lacks}no kernel"
    assert object.__new__(TensorFlowBackend).supports(asked) == told


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
    monkeypatch.delenv("CXX", raising=False)
    backend = object.__new__(TorchBackend)
    assert "needs g++, which is not on the PATH" in str(backend.supports(cell(mode=Mode.COMPILED)))
    (tmp_path / "clang++").touch(mode=0o755)
    assert "needs g++" in str(backend.supports(cell(mode=Mode.COMPILED)))  # inductor does not look for it by itself
    monkeypatch.setenv("CXX", "clang++")
    assert backend.supports(cell(mode=Mode.COMPILED)) is None


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
    vars(one).update({"_cell": cell(device=GPU), "launch": lambda: calls.append("launch"), **attributes})
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
    cudnn = SimpleNamespace(conv=conv, rnn=SimpleNamespace(fp32_precision="none"), benchmark=False, deterministic=False)
    backends = SimpleNamespace(cudnn=cudnn, cuda=SimpleNamespace(matmul=matmul), mkldnn=None)
    return SimpleNamespace(
        cuda=cuda, backends=backends, are_deterministic_algorithms_enabled=lambda: False,
        set_float32_matmul_precision=lambda word: None, version=SimpleNamespace(cuda="13.0", hip=None),
    )  # fmt: skip


def test_torch_s_peak_is_that_of_one_call(calls: Calls):
    """With a fake torch.cuda: the counter is reset after what ran before has ended, and read after the call has."""
    torch = fake_torch(calls)
    one = prepared_on_gpu(TorchConvolution, calls, _torch=torch, _device=Cuda(), wait=waiting_in_torch(torch, Cuda()))
    assert one.device_memory() == (100, 175, "torch.cuda.max_memory_allocated")
    assert calls == [
        "synchronize cuda:1", "reset_peak_memory_stats cuda:1", "memory_allocated cuda:1", "launch", "synchronize",
        "max_memory_allocated cuda:1",
    ]  # fmt: skip


def test_torch_gives_a_gpu_s_memory_back_when_the_last_of_its_cells_is_closed(calls: Calls):
    """With a fake torch.cuda: the blocks between the calls of the others would have to be asked for again."""
    first, last = (prepared_on_gpu(TorchConvolution, calls, _torch=fake_torch(calls), _device=Cuda()) for _ in range(2))
    first._open.update((first, last))
    first.close()
    assert calls == []
    last.close()
    assert calls == ["empty_cache"]


@pytest.mark.parametrize(("kind", "waited"), [("cuda", ["synchronize"]), ("cpu", [])])
def test_torch_waits_for_the_stream_on_a_gpu_only(calls: Calls, kind: str, waited: list[str]):
    """With a fake torch.cuda."""
    waiting_in_torch(fake_torch(calls), SimpleNamespace(type=kind))(None)
    assert calls == waited


@pytest.mark.parametrize(("precision", "value"), [(Precision.FP32, "ieee"), (Precision.TF32, "tf32"), (Precision.BF16, "ieee")])
def test_torch_sets_cudnn_s_precision_and_reads_it_back(calls: Calls, precision: Precision, value: str):
    """With a fake torch.backends."""
    torch, asked = fake_torch(calls), cell(device=GPU, precision=precision)
    set_precision(torch, asked)
    assert read_settings(torch, asked) == {
        "fp32_precision": value, "matmul.fp32_precision": value, "cudnn.benchmark": "False", "cudnn.deterministic": "False",
        "autotuned": "False",
        "deterministic_algorithms": "False",
    }  # fmt: skip


class Stream:
    """A fake of a CUDA device: work takes time on it, the host goes on; events are reached when it has come so far."""

    def __init__(self, calls: Calls, launch_ms: float, call_ms: float, cycles_per_ms: float = 1e6) -> None:
        self.calls, self.launch_ms, self.call_ms, self.cycles_per_ms = calls, launch_ms, call_ms, cycles_per_ms
        self.host = self.device = 0.0

    def launch(self) -> None:
        self.calls.append("launch")
        self.host += self.launch_ms
        self.device = max(self.device, self.host) + self.call_ms

    def sleep(self, cycles: int) -> None:
        self.calls.append("sleep")
        self.device = max(self.device, self.host) + cycles / self.cycles_per_ms

    def torch(self, calls: Calls, sleeps: bool = True) -> SimpleNamespace:
        stream = self

        class Event:
            def __init__(self, enable_timing: bool) -> None:
                assert enable_timing

            def record(self, on: Any) -> None:
                self.at = max(stream.device, stream.host)

            def query(self) -> bool:
                return self.at <= stream.host

            def synchronize(self) -> None:
                stream.host = max(stream.host, self.at)

            def elapsed_time(self, later: "Event") -> float:
                return later.at - self.at

        torch = fake_torch(calls)
        torch.cuda.Event, torch.cuda.device = Event, lambda device: nullcontext()
        if sleeps:
            torch.cuda._sleep = self.sleep
        return torch


def on_stream(calls: Calls, stream: Stream, **more: Any) -> Any:
    attributes = {"_device": Cuda(), "launch": stream.launch, "_wait_cycles": 1 << 20, "device_clock": "CUDA events"}
    torch = stream.torch(calls)
    attributes |= {"_torch": torch, "wait": waiting_in_torch(torch, Cuda())}
    return prepared_on_gpu(TorchConvolution, calls, **{**attributes, **more})


def test_torch_s_device_time_is_that_of_the_device_also_where_the_host_is_slower(calls: Calls):
    """With a fake stream: launching takes ten times as long as the call, and yet no gap is counted."""
    one = on_stream(calls, Stream(calls, launch_ms=0.5, call_ms=0.05))
    assert one.device_time(20) == pytest.approx(20 * 0.05e6)
    assert one.device_clock == "CUDA events"
    assert calls.count("sleep") == 3  # the wait grows by 4 from about 1 ms until it holds the 10 ms of launching
    calls.clear()
    one.device_time(20)
    assert calls.count("sleep") == 1


def test_torch_queues_so_few_calls_behind_a_wait_that_the_queue_holds_them(calls: Calls):
    """With a fake stream."""
    one = on_stream(calls, Stream(calls, launch_ms=0.01, call_ms=0.05))
    assert one.device_time(70) == pytest.approx(70 * 0.05e6)
    assert " ".join(calls).split("sleep") == ["", *([" launch" * 32 + " "] * 2), " launch" * 6]


@pytest.mark.parametrize("sleeps", [True, False])
def test_torch_says_so_where_no_wait_was_long_enough(calls: Calls, sleeps: bool):
    """With a fake stream, on which waiting takes no time or is not to be had: then it is the host that is timed."""
    stream = Stream(calls, launch_ms=0.5, call_ms=0.05, cycles_per_ms=1e12)
    one = on_stream(calls, stream, _torch=stream.torch(calls, sleeps))
    assert one.device_time(4) == pytest.approx(4 * 0.55e6, rel=0.1)
    assert (
        one.device_clock
        == "CUDA events around queued calls, with the gaps between kernels; the host's gaps between launches may be in it"
    )


def test_torch_is_not_asked_about_compilations_before_it_has_any(monkeypatch: pytest.MonkeyPatch):
    """With a fake of torch._dynamo: loading it takes seconds, and eager cells do without."""
    one = object.__new__(TorchConvolution)
    monkeypatch.delitem(sys.modules, "torch._dynamo.utils", raising=False)
    assert one.compilations() == 0
    monkeypatch.setitem(sys.modules, "torch._dynamo.utils", SimpleNamespace(counters={"stats": {"unique_graphs": 3}}))
    assert one.compilations() == 3


def test_jax_s_device_time_is_that_of_its_own_device(calls: Calls):
    """With a fake of jax.profiler: the trace begins before the first launch and ends after the wait for the last."""
    stats = [("kernel_details", "x")]
    event = SimpleNamespace(name="k", start_ns=5.0, duration_ns=40.0, stats=stats)
    later = SimpleNamespace(name="k", start_ns=100.0, duration_ns=40.0, stats=stats)
    line = SimpleNamespace(name="Stream #7(Kernel)", events=[event, later])
    planes = [SimpleNamespace(name=name, stats=(), lines=[line]) for name in ("/device:GPU:0", "/device:GPU:1", "/host:CPU")]

    @contextmanager
    def trace(folder: str, profiler_options: Any) -> Iterator[None]:
        options = profiler_options
        told = f"trace host {options.host_tracer_level} python {options.python_tracer_level}"
        calls.append(f"{told} raises {options.raise_error_on_start_failure}")
        yield
        (Path(folder) / "host.xplane.pb").touch()
        calls.append("end")

    profiler = SimpleNamespace(
        trace=trace, ProfileOptions=SimpleNamespace,
        ProfileData=SimpleNamespace(from_file=lambda path: SimpleNamespace(planes=planes)),
    )  # fmt: skip
    jax = SimpleNamespace(profiler=profiler, **vars(calls.api(block_until_ready=None)))
    one = prepared_on_gpu(
        JaxConvolution, calls, _jax=jax, _device=SimpleNamespace(local_hardware_id=1), wait=jax.block_until_ready
    )
    assert one.device_time(2) == 80
    assert calls == ["trace host 0 python 0 raises True", "launch", "launch", "block_until_ready None", "end"]


def test_each_clock_of_a_gpu_says_what_it_counts():
    """With fakes. Two quantities: between two events of CUDA stand the gaps between kernels, in a trace of XLA they do not."""
    asked, made = cell(device=GPU), []
    jax = SimpleNamespace(
        numpy=SimpleNamespace(float32="f4"), lax=SimpleNamespace(Precision=SimpleNamespace(HIGHEST=1, DEFAULT=2)),
        block_until_ready=None, __version__="1",
    )  # fmt: skip
    for kind, arguments in (
        (TorchConvolution, (SimpleNamespace(float32="f4", __version__="1"), Cuda(), asked)),
        (JaxConvolution, (jax, None, None, asked, None)),
        (TensorFlowConvolution, (SimpleNamespace(float32="f4", __version__="1"), "/GPU:0", asked)),
    ):
        one = object.__new__(kind)
        kind.__mro__[1].__init__(one, *arguments)  # what it has in common with a ceiling
        made.append(one)
    torch, of_jax, of_tensorflow = (one.device_clock for one in made)
    assert "with the gaps between kernels" in torch
    assert of_jax == of_tensorflow
    assert "without the gaps between" in of_jax
    assert "no command buffers" in of_jax  # which a call has where it is not traced


@pytest.mark.parametrize(
    ("flags", "level"),
    [(None, "default"), ("--xla_dump_to=/x", "default"), ("--xla_gpu_autotune_level=4 --xla_gpu_autotune_level=0", "0")],
)
def test_jax_s_autotuning_is_what_was_asked_of_xla(monkeypatch: pytest.MonkeyPatch, flags: str | None, level: str):
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    if flags:
        monkeypatch.setenv("XLA_FLAGS", flags)
    assert nvidia.xla_level() == level


@pytest.mark.parametrize(("precision", "value"), [(Precision.FP32, "ieee"), (Precision.TF32, "tf32"), (Precision.BF16, "ieee")])
def test_torch_sets_the_precision_of_matrix_products_apart(calls: Calls, precision: Precision, value: str):
    """With a fake torch.backends: convolutions and matrix products each have a switch of their own."""
    torch, asked = fake_torch(calls), cell(device=GPU, precision=precision, spec=GemmSpec(2, 3, 4), direction=Direction.NONE)
    set_precision(torch, asked)
    assert read_settings(torch, asked)["matmul.fp32_precision"] == value
    assert torch.backends.cuda.matmul.fp32_precision == value


def test_torch_lists_the_gpus_that_cuda_shows(calls: Calls):
    """With a fake torch.cuda."""
    backend = object.__new__(TorchBackend)
    backend._torch = fake_torch(calls)
    assert list(map(str, backend.devices())) == ["cpu", "gpu:0", "gpu:1"]


def fake_tensorflow(calls: Calls, gpus: int) -> ModuleType:
    tf = ModuleType("tensorflow")
    memory = iter([{"current": 90, "peak": 500}, {"current": 100, "peak": 100}, {"current": 120, "peak": 175}])
    stats = calls.api(reset_memory_stats=None)
    stats.get_memory_info = lambda name: (calls.append(f"get_memory_info {name}"), next(memory))[1]
    config = calls.api(
        set_visible_devices=None,
        set_soft_device_placement=None,
    )
    config.list_physical_devices = lambda kind: [f"physical {index}" for index in range(gpus)] if kind == "GPU" else []
    config.threading = SimpleNamespace(
        set_intra_op_parallelism_threads=lambda n: None, set_inter_op_parallelism_threads=lambda n: None
    )
    config.experimental = stats
    built = {"is_built_with_cuda": lambda: True, "is_built_with_rocm": lambda: False}
    tf.config = config  # type: ignore[attr-defined]
    tf.test = SimpleNamespace(experimental=calls.api(sync_devices=None), **built)  # type: ignore[attr-defined]
    return tf


def test_tensorflow_is_shown_the_one_gpu_that_it_is_to_use(calls: Calls, monkeypatch: pytest.MonkeyPatch):
    """With a fake tensorflow of two GPUs: eager ops run on the first that is visible, wherever their operands are."""
    monkeypatch.setitem(sys.modules, "tensorflow", fake_tensorflow(calls, 2))
    backend = TensorFlowBackend(GPU, 1)
    assert backend._device == "/GPU:0"
    assert "set_visible_devices physical 1 GPU" in calls
    assert "set_soft_device_placement False" in calls
    assert list(map(str, backend.devices())) == ["cpu", "gpu:0", "gpu:1"]


def test_tensorflow_refuses_a_gpu_that_it_does_not_see(calls: Calls, monkeypatch: pytest.MonkeyPatch):
    """With a fake tensorflow of one GPU."""
    monkeypatch.setitem(sys.modules, "tensorflow", fake_tensorflow(calls, 1))
    with pytest.raises(RuntimeError, match="TensorFlow sees 1 GPUs here, so there is no gpu:1"):
        TensorFlowBackend(GPU, 1)


def test_tensorflow_s_peak_is_that_of_one_call(calls: Calls):
    """With fakes of tf.config.experimental and tf.test.experimental."""
    tf = fake_tensorflow(calls, 1)
    one = prepared_on_gpu(TensorFlowConvolution, calls, _tf=tf, _device="/GPU:0", wait=waiting_in_tensorflow(tf, "/GPU:0"))
    assert one.device_memory() == (100, 175, "tf.config.experimental.get_memory_info")
    assert calls == [
        "sync_devices", "get_memory_info GPU:0", "reset_memory_stats GPU:0", "get_memory_info GPU:0", "launch", "sync_devices",
        "get_memory_info GPU:0",
    ]  # fmt: skip


@pytest.mark.parametrize(("device", "waited"), [("/GPU:0", ["sync_devices"]), ("/CPU:0", [])])
def test_tensorflow_waits_on_a_gpu_only(calls: Calls, device: str, waited: list[str]):
    """With a fake tf.test.experimental."""
    waiting_in_tensorflow(fake_tensorflow(calls, 1), device)(None)
    assert calls == waited


def test_jax_s_memory_is_what_xla_planned():
    """With a fake of a lowered program."""
    plan = SimpleNamespace(argument_size_in_bytes=100, output_size_in_bytes=60, alias_size_in_bytes=10, temp_size_in_bytes=25)
    compiled = SimpleNamespace(memory_analysis=lambda: plan)
    one = prepared_on_gpu(JaxConvolution, Calls(), _lowered=lambda: SimpleNamespace(compile=lambda: compiled))
    assert one.device_memory() == (100, 175, "jax compiled.memory_analysis")
    one._lowered = None
    assert one.device_memory() is None


@pytest.mark.parametrize("kind", [TorchConvolution, TensorFlowConvolution, JaxConvolution])
def test_a_cpu_cell_has_no_device_memory(calls: Calls, kind: Any):
    device: Any = "/CPU:0" if kind is TensorFlowConvolution else SimpleNamespace(type="cpu")
    assert prepared_on_gpu(kind, calls, _cell=cell(), _device=device, _lowered=None).device_memory() is None
    assert calls == []


@pytest.mark.parametrize(("platforms", "expected"), [({"cuda": [0, 1]}, ["cpu", "gpu:0", "gpu:1"]), ({}, ["cpu"])])
def test_jax_lists_the_gpus_of_its_plug_in(platforms: dict[str, list[int]], expected: list[str]):
    """With a fake jax.devices, which raises RuntimeError for a platform that is not there."""

    def devices(name: str) -> list[int]:
        if name not in platforms:
            raise RuntimeError(f"Unknown backend {name}")
        return platforms[name]

    backend = object.__new__(JaxBackend)
    backend._jax = SimpleNamespace(devices=devices)
    assert list(map(str, backend.devices())) == expected


# What a framework keeps of a GPU's memory ---------------------------------------------------------------------------------


def test_what_a_framework_keeps_for_its_next_calls_is_told(calls: Calls, monkeypatch: pytest.MonkeyPatch):
    """With fakes of their counters: what the pool has less what arrays hold, by its highest peak where only that is told."""
    torch = object.__new__(TorchBackend)
    torch._device, torch._torch = Cuda(), SimpleNamespace(cuda=calls.api(memory_reserved=700, memory_allocated=100))
    assert torch.idle_bytes() == 600
    assert calls == ["memory_reserved cuda:1", "memory_allocated cuda:1"]
    jax = object.__new__(JaxBackend)
    for told, idle in (
        ({"pool_bytes": 800, "bytes_in_use": 100, "peak_bytes_in_use": 300}, 700),
        ({"bytes_in_use": 100, "peak_bytes_in_use": 300}, 200), (None, 0),
    ):  # fmt: skip
        jax._device = SimpleNamespace(memory_stats=lambda told=told: told)
        assert jax.idle_bytes() == idle


def test_tensorflow_s_pool_is_as_large_as_its_highest_peak_was(calls: Calls, monkeypatch: pytest.MonkeyPatch):
    """With a fake of its counter, whose peak is set back before each call that is looked at."""
    monkeypatch.setattr(TensorFlowPrepared, "_most_bytes", 0)
    tf = fake_tensorflow(calls, 1)
    one = prepared_on_gpu(TensorFlowConvolution, calls, _tf=tf, _device="/GPU:0", wait=waiting_in_tensorflow(tf, "/GPU:0"))
    one.device_memory()
    backend = object.__new__(TensorFlowBackend)
    backend._tf, backend._device = tf, "/GPU:0"
    tf.config.experimental.get_memory_info = lambda name: {"current": 120, "peak": 175}
    assert backend.idle_bytes() == 500 - 120


def test_a_compiled_cell_of_torch_says_whether_inductor_may_change_its_layout(calls: Calls, monkeypatch: pytest.MonkeyPatch):
    """With a fake of inductor's configuration: it may compute channels last, with the copies within the call."""
    name, compiled = "inductor.layout_optimization", cell(device=GPU, mode=Mode.COMPILED)
    for allowed in (True, False):
        config = SimpleNamespace(layout_optimization=allowed)
        monkeypatch.setitem(sys.modules, "torch._inductor", SimpleNamespace(config=config))
        assert read_settings(fake_torch(calls), compiled)[name] == str(allowed)
    assert name not in read_settings(fake_torch(calls), cell(device=GPU))
