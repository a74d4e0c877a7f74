"""One contract for every registered backend, with its real framework, over the road that a run takes.

Each backend is measured by workers of its own, so frameworks never share a process. The engine's oracle holds every result
against the definition; here stands what must come of it. All backends are started together, since no time is looked at.
"""

import itertools
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache

import pytest

from harness.axes import Bias, Direction, Epilogue, Layout, Mode, Optimizer, Precision
from harness.backends import registry
from harness.isolate.launcher import Launcher
from harness.plan import Budget, Plan, Step
from harness.record import Environment, Record, Status
from harness.spec import Cell, CopySpec, GemmSpec, WorkloadSpec, parse_workload

BACKENDS = registry.names()
FIRST, LAST = Layout.CHANNELS_FIRST, Layout.CHANNELS_LAST
# One sample of one block after one warm-up call.
BUDGET = Budget(
    trials=1, visits=1, visit_s=1e-9, warmup_calls=1, warmup_cpu_s=0, warmup_max_s=1e-3, warmup_agreement=1e9, block_s=1e-9,
    timeout_s=300,
)  # fmt: skip
ASKED = (  # a direction with its optimizer
    *((direction, None) for direction in Direction if direction not in (Direction.TRAIN, Direction.NONE)),
    *((Direction.TRAIN, optimizer) for optimizer in Optimizer),
)
SINGLE = (Direction.FPROP, Direction.DGRAD, Direction.WGRAD)


def conv(text: str) -> WorkloadSpec:
    return parse_workload(text)


SPECS = {
    "plain": conv("n2 c3 k4 8x9 f3x3 p1x1"),
    "example": conv("n1 c3 k64 28x28 f5x5 p2x2"),
    "unpadded": conv("n2 c3 k4 8x9 f3x3"),
    "strided": conv("n2 c3 k4 9x9 f3x3 s2x2 p1x1"),
    "strided_even": conv("n2 c3 k4 8x8 f3x3 s2x2 p1x1"),  # TensorFlow's SAME would be another padding
    "lopsided": conv("n2 c3 k4 8x7 f3x3 s2x2 p0-1x2-1"),
    "one_channel": conv("n2 c1 k4 6x6 f3x3 p1x1"),
    "dilated": conv("n2 c3 k4 9x9 f3x3 p2x2 d2x2"),
    "grouped": conv("n2 c4 k6 8x8 f3x3 p1x1 g2"),
    "depthwise": conv("n2 c4 k8 8x8 f3x3 p1x1 g4"),
    "line": conv("n2 c3 k4 12 f3 p1"),
    "volume": conv("n2 c3 k4 5x6x7 f3x3x3 p1x1x1"),
    "volume_strided": conv("n2 c3 k4 5x6x7 f3x3x3 s2x2x2 p1x1x1"),
    "point": conv("n1 c1 k1 1x1 f1x1"),
    "transposed": conv("transposed n2 c3 k4 5x6 f3x3 s2x2 p1x1 o1x0"),
    "transposed_same": conv("transposed n2 c3 k4 4x5 f3x3 s2x2 p0-1x0-1"),
    "transposed_grouped": conv("transposed n2 c4 k6 4x4 f3x3 s2x2 p1x1 g2"),
    "transposed_line": conv("transposed n2 c3 k4 6 f4 s2 p1"),
    "transposed_volume": conv("transposed n2 c3 k4 2x3x3 f2x2x2 s2x2x2"),
}
CEILINGS = {"product": GemmSpec(m=33, n=17, k=65), "move": CopySpec(2**16 + 16)}
VARIED = ("plain", "lopsided", "grouped", "depthwise", "line", "volume_strided", "transposed")  # one of each kind
BIASED = ("plain", "lopsided", "grouped", "depthwise", "line", "volume_strided", "transposed", "transposed_volume")


def cells(backend: str, whole: bool = True) -> Iterator[Cell]:
    """Every kind of convolution in every direction, layout and mode, or a part that has each of them; the ceilings."""
    modes = registry.resolve(registry.find(backend)).modes
    for mode, name, layout, (direction, optimizer) in itertools.product(modes, SPECS, Layout, ASKED):
        if mode is not Mode.EAGER and layout is FIRST and name not in VARIED:  # each takes seconds to compile
            continue
        if (backend, mode) in SLOW_TO_COMPILE and (name, layout, direction) not in SLOW_TO_COMPILE[backend, mode]:
            continue
        if not whole and not represents(mode, name, layout, direction, optimizer):
            continue
        yield Cell(name, SPECS[name], direction, backend, mode, layout=layout, optimizer=optimizer)
    yield from more_than_convolutions(backend, modes)
    for precision, (direction, optimizer) in itertools.product((Precision.FP64, Precision.BF16, Precision.TF32), ASKED):
        yield Cell("plain", SPECS["plain"], direction, backend, layout=LAST, precision=precision, optimizer=optimizer)
    for mode, (name, ceiling) in itertools.product(modes, CEILINGS.items()):
        yield Cell(name, ceiling, Direction.NONE, backend, mode)
    for precision in (Precision.FP64, Precision.FP16, Precision.BF16, Precision.TF32):
        yield Cell("product", CEILINGS["product"], Direction.NONE, backend, precision=precision)


def more_than_convolutions(backend: str, modes: frozenset[Mode]) -> Iterator[Cell]:
    """Cells with a bias in every direction, and forward passes with an epilogue."""
    for mode, name, layout in itertools.product(modes, BIASED, Layout):
        if mode is not Mode.EAGER and (name not in ("plain", "transposed") or layout is FIRST):  # each takes seconds to compile
            continue
        kind = {"mode": mode, "layout": layout}
        for direction, optimizer in ASKED:
            slow = (backend, mode) in SLOW_TO_COMPILE and (name != "plain" or direction in (Direction.FPROP, Direction.BPROP))
            if not slow and (optimizer is not Optimizer.ADAM or (name, mode) == ("plain", Mode.EAGER)):
                yield Cell(name, SPECS[name], direction, backend, optimizer=optimizer, bias=Bias.CHANNEL, **kind)
        for bias in Bias:
            if (backend, mode) not in SLOW_TO_COMPILE or name == "plain":
                yield Cell(name, SPECS[name], Direction.FPROP, backend, bias=bias, epilogue=Epilogue.RELU, **kind)
    yield Cell("plain", SPECS["plain"], Direction.WGRAD, backend, epilogue=Epilogue.RELU)
    others = (Precision.FP64, Precision.FP16, Precision.BF16)
    for precision, direction in itertools.product(others, (Direction.FPROP, Direction.WGRAD)):
        epilogue = Epilogue.RELU if direction is Direction.FPROP else Epilogue.NONE
        yield Cell("plain", SPECS["plain"], direction, backend, precision=precision, bias=Bias.CHANNEL, epilogue=epilogue)


def represents(mode: Mode, name: str, layout: Layout, direction: Direction, optimizer: Optimizer | None) -> bool:
    """Whether a cell is in the part: an optimizer's step is the same for every kind, and a training step has all passes."""
    if optimizer is Optimizer.ADAM:
        return (name, layout, mode) == ("plain", LAST, Mode.EAGER)
    if mode is Mode.EAGER and layout is LAST:
        return name in VARIED or direction is not Direction.TRAIN
    kinds = VARIED if layout is LAST or mode is Mode.EAGER else ("plain", "line")
    return name in kinds and direction is not Direction.BPROP


SLOW_TO_COMPILE = {
    ("torch", Mode.COMPILED): {
        ("plain", FIRST, Direction.FPROP), ("lopsided", LAST, Direction.DGRAD), ("depthwise", LAST, Direction.WGRAD),
        ("plain", LAST, Direction.BPROP), ("plain", FIRST, Direction.TRAIN), ("line", LAST, Direction.FPROP),
        ("transposed", LAST, Direction.FPROP), ("transposed", FIRST, Direction.BPROP),
    },
}  # fmt: skip

Measured = tuple[list[Environment], dict[Cell, Record]]


def measure(backend: str, whole: bool, launcher: Launcher) -> Measured:
    steps = tuple(Step(0, order, cell) for order, cell in enumerate(cells(backend, whole)))
    answers = list(launcher.execute(Plan("contract", steps, 7, BUDGET)))
    records = [answer for answer in answers if isinstance(answer, Record)]
    assert sorted(record.order for record in records) == list(range(len(steps)))  # what failed came first
    return [answer for answer in answers if isinstance(answer, Environment)], {record.cell: record for record in records}


@pytest.fixture(scope="module", params=["part", pytest.param("whole", marks=pytest.mark.long)])
def measured(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Callable[[str], Measured]]:
    """What came back from a backend that a selected test asks for; skips where its framework is not installed."""
    chosen = {item.callspec.params.get("backend") for item in request.session.items if hasattr(item, "callspec")}
    whole = request.param == "whole"
    logs = tmp_path_factory.mktemp("logs")
    with ThreadPoolExecutor() as pool:
        futures: dict[str, Future[Measured]] = {
            name: pool.submit(measure, name, whole, Launcher("contract", logs / name))
            for name in BACKENDS
            if name in chosen and registry.installed(name)
        }

        @cache
        def result(backend: str) -> Measured:
            if backend not in futures:
                pytest.skip(f"{backend} is not installed")
            return futures[backend].result()

        yield result


@pytest.fixture
def records(measured: Callable[[str], Measured], backend: str) -> dict[Cell, Record]:
    return measured(backend)[1]


def one(records: dict[Cell, Record], workload: str, direction: Direction, **axes: object) -> Record:
    """The only record of a workload and direction, eager and channels last in fp32 where nothing else is said."""
    plain = {"mode": Mode.EAGER, "layout": LAST, "precision": Precision.FP32, "bias": Bias.NONE, "epilogue": Epilogue.NONE}
    wanted = {**plain, **axes}
    if direction is Direction.TRAIN:
        wanted = {"optimizer": Optimizer.SGD, **wanted}
    (found,) = [
        record
        for cell, record in records.items()
        if (cell.workload, cell.direction) == (workload, direction)
        and all(getattr(cell, name) == value for name, value in wanted.items())
    ]
    return found


# All backends ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_cell_is_right_or_says_why_it_cannot_be_measured(records: dict[Cell, Record]):
    bad = {
        str(cell): f"{record.status}: {record.reason}"
        for cell, record in records.items()
        if record.status not in (Status.OK, Status.UNSUPPORTED)
    }
    assert bad == {}
    assert {record.status for record in records.values() if not record.reason} == {Status.OK}
    assert all(record.reason == "" for record in records.values() if record.status is Status.OK)


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_is_ok_was_checked_and_timed_and_names_its_call(records: dict[Cell, Record]):
    good = [record for record in records.values() if record.status is Status.OK]
    assert good
    for record in good:
        assert record.check is not None
        assert record.check.ok
        assert record.samples is not None
        assert min(record.samples.series[0].block_ns) > 0
        assert record.op
        assert record.settings


@pytest.mark.parametrize("backend", BACKENDS)
def test_single_passes_are_right_to_the_last_bit(records: dict[Cell, Record]):
    """On small integers, in fp32; no framework's CPU kernels for such small cells use an algorithm that could not be."""
    asked = [(cell, record) for cell, record in records.items() if cell.direction in SINGLE or cell.workload == "product"]
    passes = [record for cell, record in asked if cell.precision is Precision.FP32]
    assert {record.check.method for record in passes if record.check} == {"exact+spot"}


@pytest.mark.parametrize("backend", BACKENDS)
def test_copies_are_right_to_the_last_bit_and_short_products_within_their_precision(records: dict[Cell, Record]):
    copies = [record for cell, record in records.items() if cell.workload == "move"]
    assert {record.check.method for record in copies if record.check} == {"exact"}
    products = {cell.precision for cell, record in records.items() if cell.workload == "product" and record.check}
    assert {Precision.FP32, Precision.FP64} <= products
    assert (Precision.BF16 in products) == (Precision.FP16 in products)


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_was_found_out_about_the_framework_comes_first(measured: Callable[[str], Measured], backend: str):
    environments, records = measured(backend)
    (environment,) = environments
    framework = registry.resolve(registry.find(backend)).distributions[0]
    assert environment.backend == backend
    assert environment.packages[framework]
    assert {record.environment_id for record in records.values()} == {environment.id}


@pytest.mark.parametrize("backend", BACKENDS)
def test_tf32_is_no_format_of_a_cpu(records: dict[Cell, Record]):
    found = [record for cell, record in records.items() if cell.precision is Precision.TF32]
    assert {record.status for record in found} == {Status.UNSUPPORTED}
    assert all("TF32" in record.reason or "tf32" in record.reason for record in found)


# What each cannot do -----------------------------------------------------------------------------------------------------


def impossible(backend: str, cell: Cell) -> bool:
    """The cells that a CPU cannot be asked for, by backend."""
    if cell.precision is Precision.TF32:
        return True
    if cell.bias is Bias.CHANNEL and cell.direction is Direction.DGRAD:
        return True
    if cell.epilogue is Epilogue.RELU and cell.direction is not Direction.FPROP:
        return True
    match backend:
        case "numpy":
            return cell.precision in (Precision.BF16, Precision.FP16)
        case "torch":
            no_compiler = not shutil.which(os.environ.get("CXX", "g++"))
            line = cell.direction is not Direction.NONE and cell.conv.ndim == 1
            uneven = cell.workload == "transposed_same"
            return (line and cell.layout is LAST) or uneven or (cell.mode is Mode.COMPILED and no_compiler)
        case _:
            return cell.precision is Precision.BF16 and cell.optimizer is Optimizer.ADAM


@pytest.mark.parametrize("backend", ["numpy", "torch", "jax"])
def test_nothing_else_is_unsupported(records: dict[Cell, Record], backend: str):
    found = {str(cell) for cell, record in records.items() if record.status is Status.UNSUPPORTED}
    assert found == {str(cell) for cell in records if impossible(backend, cell)}


@pytest.mark.parametrize("backend", ["tensorflow"])
def test_tensorflow_can_what_any_cpu_build_can(records: dict[Cell, Record]):
    """Kernels for channels first, groups and dilation depend on the build; plain channels last and XLA do not."""
    certain = {
        str(cell): record.status
        for cell, record in records.items()
        if not impossible("tensorflow", cell)
        and (
            cell.mode is Mode.XLA or (cell.layout is LAST and cell.workload not in ("dilated", "grouped", "transposed_grouped"))
        )
    }
    assert len(certain) > 100
    assert set(certain.values()) == {Status.OK}


@pytest.mark.parametrize("backend", ["tensorflow"])
def test_tensorflow_s_reason_is_a_sentence_and_no_dump_of_a_graph(records: dict[Cell, Record]):
    for record in records.values():
        assert "{{" not in record.reason
        assert "Graph execution" not in record.reason


# Which call was timed ----------------------------------------------------------------------------------------------------

OPS = {
    ("torch", "plain", Direction.FPROP): "F.conv2d",
    ("torch", "line", Direction.FPROP): "F.conv1d",
    ("torch", "volume", Direction.FPROP): "F.conv3d",
    ("torch", "plain", Direction.DGRAD): "aten.convolution_backward(output_mask=[True, False, False])",
    ("torch", "plain", Direction.WGRAD): "aten.convolution_backward(output_mask=[False, True, False])",
    (
        "torch",
        "lopsided",
        Direction.WGRAD,
    ): "aten.convolution_backward(output_mask=[False, True, False]) on x padded beforehand",
    ("torch", "plain", Direction.BPROP): "F.conv2d, mean(y^2), autograd.grad",
    ("torch", "plain", Direction.TRAIN): "F.conv2d, mean(y^2), backward, optim.sgd.step",
    ("tensorflow", "plain", Direction.FPROP): "tf.nn.conv2d",
    ("tensorflow", "line", Direction.FPROP): "tf.nn.conv2d",
    ("tensorflow", "depthwise", Direction.FPROP): "tf.nn.depthwise_conv2d",
    ("tensorflow", "volume", Direction.FPROP): "tf.nn.conv3d",
    ("tensorflow", "plain", Direction.DGRAD): "tf.raw_ops.Conv2DBackpropInput",
    ("tensorflow", "plain", Direction.WGRAD): "tf.raw_ops.Conv2DBackpropFilter",
    ("tensorflow", "depthwise", Direction.DGRAD): "tf.raw_ops.DepthwiseConv2dNativeBackpropInput",
    ("tensorflow", "depthwise", Direction.WGRAD): "tf.raw_ops.DepthwiseConv2dNativeBackpropFilter",
    ("tensorflow", "volume", Direction.DGRAD): "tf.raw_ops.Conv3DBackpropInputV2",
    ("tensorflow", "volume", Direction.WGRAD): "tf.raw_ops.Conv3DBackpropFilterV2",
    ("tensorflow", "volume_strided", Direction.WGRAD): "tf.raw_ops.Conv3DBackpropFilterV2 on x padded beforehand",
    ("tensorflow", "plain", Direction.BPROP): "tf.nn.conv2d, mean(y^2), GradientTape.gradient",
    ("tensorflow", "plain", Direction.TRAIN): "tf.nn.conv2d, mean(y^2), GradientTape.gradient, optimizers.sgd.apply_gradients",
    ("jax", "plain", Direction.FPROP): "lax.conv_general_dilated",
    ("jax", "plain", Direction.DGRAD): "linear_transpose(lax.conv_general_dilated) in x",
    ("jax", "plain", Direction.WGRAD): "linear_transpose(lax.conv_general_dilated) in w",
    ("jax", "plain", Direction.BPROP): "value_and_grad(mean(lax.conv_general_dilated^2))",
    ("jax", "plain", Direction.TRAIN): "value_and_grad(mean(lax.conv_general_dilated^2)), optimizers.sgd",
    ("numpy", "plain", Direction.WGRAD): "harness.backends.numpy: wgrad, one matrix product per tap",
    ("torch", "transposed", Direction.FPROP): "F.conv_transpose2d",
    (
        "torch",
        "transposed",
        Direction.DGRAD,
    ): "aten.convolution_backward(transposed=True, output_mask=[True, False, False])",
    ("tensorflow", "transposed", Direction.FPROP): "tf.nn.conv2d_transpose",
    ("tensorflow", "transposed_line", Direction.FPROP): "tf.nn.conv2d_transpose",
    ("tensorflow", "transposed_volume", Direction.FPROP): "tf.nn.conv3d_transpose",
    ("tensorflow", "transposed", Direction.DGRAD): "tf.nn.conv2d",
    ("tensorflow", "transposed", Direction.WGRAD): "tf.raw_ops.Conv2DBackpropFilter",
    ("tensorflow", "transposed", Direction.BPROP): "tf.nn.conv2d_transpose, mean(y^2), GradientTape.gradient",
    ("jax", "transposed", Direction.FPROP): "lax.conv_transpose",
    ("jax", "transposed_grouped", Direction.FPROP): "lax.conv_general_dilated(lhs_dilation)",
    ("jax", "transposed", Direction.WGRAD): "linear_transpose(lax.conv_transpose) in w",
    ("jax", "transposed", Direction.TRAIN): "value_and_grad(mean(lax.conv_transpose^2)), optimizers.sgd",
    (
        "numpy",
        "transposed",
        Direction.FPROP,
    ): "harness.backends.numpy: transposed convolution, fprop, one matrix product per tap",
    ("torch", "product", Direction.NONE): "torch.mm",
    ("torch", "move", Direction.NONE): "Tensor.copy_",
    ("tensorflow", "product", Direction.NONE): "tf.linalg.matmul",
    ("tensorflow", "move", Direction.NONE): "tf.raw_ops.DeepCopy",
    ("jax", "product", Direction.NONE): "jnp.matmul",
    ("jax", "move", Direction.NONE): "jnp.copy",
    ("numpy", "product", Direction.NONE): "np.matmul into out",
    ("numpy", "move", Direction.NONE): "np.copyto",
}


@pytest.mark.parametrize(("backend", "workload", "direction"), OPS)
def test_the_call_that_was_timed_is_named(records: dict[Cell, Record], backend: str, workload: str, direction: Direction):
    layout = FIRST if (backend, workload) == ("torch", "line") else LAST
    assert one(records, workload, direction, layout=layout).op == OPS[backend, workload, direction]


WITH = {
    ("torch", Direction.FPROP, Bias.CHANNEL, Epilogue.NONE): "F.conv2d(bias=b)",
    ("torch", Direction.FPROP, Bias.NONE, Epilogue.RELU): "F.conv2d, F.relu",
    ("torch", Direction.FPROP, Bias.CHANNEL, Epilogue.RELU): "F.conv2d(bias=b), F.relu",
    (
        "torch",
        Direction.WGRAD,
        Bias.CHANNEL,
        Epilogue.NONE,
    ): "aten.convolution_backward(output_mask=[False, True, True])",
    ("torch", Direction.TRAIN, Bias.CHANNEL, Epilogue.NONE): "F.conv2d(bias=b), mean(y^2), backward, optim.sgd.step",
    ("tensorflow", Direction.FPROP, Bias.CHANNEL, Epilogue.NONE): "tf.nn.conv2d, tf.nn.bias_add",
    ("tensorflow", Direction.FPROP, Bias.NONE, Epilogue.RELU): "tf.nn.conv2d, tf.nn.relu",
    ("tensorflow", Direction.FPROP, Bias.CHANNEL, Epilogue.RELU): "tf.nn.conv2d, tf.nn.bias_add, tf.nn.relu",
    (
        "tensorflow",
        Direction.WGRAD,
        Bias.CHANNEL,
        Epilogue.NONE,
    ): "tf.raw_ops.Conv2DBackpropFilter, tf.raw_ops.BiasAddGrad",
    (
        "tensorflow",
        Direction.BPROP,
        Bias.CHANNEL,
        Epilogue.NONE,
    ): "tf.nn.conv2d, tf.nn.bias_add, mean(y^2), GradientTape.gradient",
    ("jax", Direction.FPROP, Bias.CHANNEL, Epilogue.NONE): "lax.conv_general_dilated + b",
    ("jax", Direction.FPROP, Bias.NONE, Epilogue.RELU): "jax.nn.relu(lax.conv_general_dilated)",
    ("jax", Direction.FPROP, Bias.CHANNEL, Epilogue.RELU): "jax.nn.relu(lax.conv_general_dilated + b)",
    ("jax", Direction.WGRAD, Bias.CHANNEL, Epilogue.NONE): "linear_transpose(lax.conv_general_dilated + b) in w and b",
    ("jax", Direction.BPROP, Bias.CHANNEL, Epilogue.NONE): "value_and_grad(mean((lax.conv_general_dilated + b)^2))",
    ("numpy", Direction.FPROP, Bias.CHANNEL, Epilogue.RELU): (
        "harness.backends.numpy: fprop, one matrix product per tap, bias, relu"
    ),
}


@pytest.mark.parametrize(("backend", "direction", "bias", "epilogue"), WITH)
def test_the_call_is_named_with_what_it_adds(
    records: dict[Cell, Record], backend: str, direction: Direction, bias: Bias, epilogue: Epilogue
):
    assert one(records, "plain", direction, bias=bias, epilogue=epilogue).op == WITH[backend, direction, bias, epilogue]


@pytest.mark.parametrize(
    ("backend", "mode", "before", "after"),
    [
        ("torch", Mode.COMPILED, "torch.compile(", ")"),
        ("jax", Mode.COMPILED, "jax.jit(", ")"),
        ("tensorflow", Mode.COMPILED, "tf.function(", ")"),
        ("tensorflow", Mode.XLA, "tf.function(", ", jit_compile=True)"),
    ],
)
def test_a_compiled_call_is_named_with_what_compiled_it(
    records: dict[Cell, Record], backend: str, mode: Mode, before: str, after: str
):
    found = one(records, "plain", Direction.FPROP, layout=FIRST, mode=mode)
    if found.status is Status.UNSUPPORTED:
        pytest.skip(found.reason)
    assert found.op == before + OPS[backend, "plain", Direction.FPROP] + after


@pytest.mark.parametrize(
    ("backend", "mode", "op"),
    [
        ("torch", Mode.COMPILED, "torch.compile(Tensor.copy_)"),
        ("jax", Mode.COMPILED, "jax.jit(jnp.copy) into a donated array"),
        ("tensorflow", Mode.COMPILED, "tf.function(tf.raw_ops.DeepCopy)"),
        ("tensorflow", Mode.XLA, "tf.function(tf.identity, jit_compile=True)"),
    ],
)
def test_a_compiled_copy_is_named_too(records: dict[Cell, Record], backend: str, mode: Mode, op: str):
    found = one(records, "move", Direction.NONE, mode=mode)
    if found.status is Status.UNSUPPORTED:
        pytest.skip(found.reason)
    assert found.op == op


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_script_names_the_call_that_was_timed(records: dict[Cell, Record], backend: str):
    kind = registry.resolve(registry.find(backend))
    timed = {cell: record.op for cell, record in records.items() if record.status is Status.OK and cell.is_convolution}
    scripts = {cell: kind.script(cell) for cell in timed}
    assert {script is None for script in scripts.values()} == {backend == "numpy"}
    assert {str(cell): script.op for cell, script in scripts.items() if script and script.op != timed[cell]} == {}


REASONS = {
    ("torch", "plain", Direction.FPROP): "",
    ("torch", "plain", Direction.TRAIN): "",
    ("torch", "plain", Direction.WGRAD): "autograd brings the forward pass with a gradient",
    ("torch", "lopsided", Direction.FPROP): "so x is padded before the clock starts",
    ("tensorflow", "plain", Direction.BPROP): "",
    ("tensorflow", "plain", Direction.DGRAD): "tf.GradientTape brings the forward pass and the other gradient",
    ("tensorflow", "depthwise", Direction.FPROP): "",
    ("tensorflow", "line", Direction.FPROP): "with a height of 1",
    ("tensorflow", "volume_strided", Direction.FPROP): "takes paddings SAME and VALID only",
    ("jax", "plain", Direction.FPROP): "",
    ("jax", "plain", Direction.WGRAD): "jax.vjp brings the forward pass with a gradient",
    ("jax", "transposed_grouped", Direction.FPROP): "takes no groups",
    ("numpy", "plain", Direction.WGRAD): "",
    ("torch", "product", Direction.NONE): "",
    ("tensorflow", "move", Direction.NONE): "",
    ("jax", "product", Direction.NONE): "",
}


@pytest.mark.parametrize(("backend", "workload", "direction"), REASONS)
def test_why_it_is_not_the_call_that_users_make_is_told(
    records: dict[Cell, Record], backend: str, workload: str, direction: Direction
):
    told, expected = one(records, workload, direction).op_reason, REASONS[backend, workload, direction]
    assert expected in told
    assert bool(told) == bool(expected)


# Which settings held -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("backend", "setting", "value"),
    [("torch", "fp32_precision", "ieee"), ("tensorflow", "tf32", "False"), ("jax", "precision", "HIGHEST")],
)
def test_fp32_is_not_quietly_something_less(records: dict[Cell, Record], setting: str, value: str):
    found = [record for cell, record in records.items() if record.settings and cell.precision is Precision.FP32]
    assert {record.settings[setting] for record in found if record.settings} == {value}


@pytest.mark.parametrize("backend", ["jax"])
def test_jax_computes_in_64_bits_only_where_asked(records: dict[Cell, Record]):
    found = {(cell.precision, record.settings["x64"]) for cell, record in records.items() if record.settings}
    short = {(precision, "False") for precision in (Precision.FP32, Precision.BF16, Precision.FP16)}
    assert found == {(Precision.FP64, "True"), *short}


@pytest.mark.parametrize("backend", ["tensorflow"])
@pytest.mark.parametrize(
    ("workload", "padding"),
    [
        ("plain", "SAME"), ("example", "SAME"), ("strided", "SAME"), ("depthwise", "SAME"), ("line", "SAME"),
        ("volume", "SAME"),
        ("unpadded", "VALID"), ("point", "VALID"), ("strided_even", "EXPLICIT"), ("lopsided", "EXPLICIT"),
        ("volume_strided", "VALID"),  # Conv3D knows no EXPLICIT; the op says that x was padded beforehand
    ],
)  # fmt: skip
@pytest.mark.parametrize("direction", [Direction.FPROP, Direction.DGRAD, Direction.WGRAD, Direction.BPROP])
def test_tensorflow_is_told_the_padding_as_programs_tell_it(
    records: dict[Cell, Record], workload: str, padding: str, direction: Direction
):
    found = one(records, workload, direction)
    assert found.settings is not None
    assert found.settings["padding"] == padding
    assert ("padded beforehand" in found.op) == (workload == "volume_strided")


@pytest.mark.parametrize(
    ("backend", "workload", "layout", "filters"),
    [
        ("torch", "plain", LAST, "channels_last"), ("torch", "plain", FIRST, "contiguous"),
        ("jax", "plain", LAST, "HWIO"), ("jax", "plain", FIRST, "OIHW"), ("jax", "volume", LAST, "DHWIO"),
        ("tensorflow", "plain", LAST, "[*kernel,C/g,K]"), ("tensorflow", "depthwise", LAST, "[*kernel,C,K/C]"),
    ],
)  # fmt: skip
def test_the_layout_of_the_filter_is_told(records: dict[Cell, Record], workload: str, layout: Layout, filters: str):
    settings = one(records, workload, Direction.WGRAD, layout=layout).settings
    assert settings is not None
    assert settings["filter_layout"] == filters


@pytest.mark.parametrize("backend", ["torch", "tensorflow"])
def test_the_threads_are_those_of_the_process(records: dict[Cell, Record]):
    assert {record.threads_used for record in records.values()} == {len(os.sched_getaffinity(0))}


@pytest.mark.parametrize(("backend", "counted"), [("torch", 1.0), ("jax", None)])
def test_the_framework_s_own_count_is_kept(records: dict[Cell, Record], counted: float | None):
    """torch counts every tap in eager calls, XLA in compiled ones only those inside the input."""
    from harness import flops

    spec = SPECS["plain"]
    mode, expected = (Mode.EAGER, flops.nominal(spec)) if counted else (Mode.COMPILED, flops.exact(spec))
    for direction in SINGLE:
        assert one(records, "plain", direction, mode=mode).flop_framework == pytest.approx(expected, rel=0.01)
