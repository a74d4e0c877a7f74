"""The axis `api` with the real frameworks: each call gives right results under its own name, or is refused with a reason."""

import itertools
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest

from harness.axes import Api, Bias, Device, Direction, Epilogue, Layout, Mode, Optimizer
from harness.backends import registry
from harness.backends.base import unsupported
from harness.backends.numpy import NumpyBackend
from harness.backends.tensorflow_geometry import lacks_api
from harness.flags import Flag
from harness.isolate.launcher import Launcher
from harness.plan import Plan, Step
from harness.record import Record, Status
from harness.spec import Cell, parse_workload
from tests import builders
from tests.backends.test_contract import ASKED, BUDGET

FIRST, LAST = Layout.CHANNELS_FIRST, Layout.CHANNELS_LAST
SPECS = {
    "plain": "n2 c3 k4 8x9 f3x3 p1x1", "unpadded": "n2 c3 k4 8x9 f3x3", "strided": "n2 c3 k4 9x9 f3x3 s2x2 p1x1",
    "dilated": "n2 c3 k4 9x9 f3x3 p2x2 d2x2", "grouped": "n2 c4 k6 8x8 f3x3 p1x1 g2", "depthwise": "n2 c4 k8 8x8 f3x3 p1x1 g4",
    "line": "n2 c3 k4 12 f3 p1", "line_depthwise": "n2 c4 k8 12 f3 p1 g4", "volume": "n2 c3 k4 5x6x7 f3x3x3 p1x1x1",
    "lopsided": "n2 c3 k4 8x7 f3x3 s2x2 p0-1x2-1", "transposed": "transposed n2 c3 k4 5x6 f3x3 s2x2 p1x1 o1x0",
    "depthwise_dilated": "n2 c4 k8 9x9 f3x3 p2x2 d2x2 g4", "depthwise_uneven": "n2 c4 k4 9x9 f3x3 s2x1 g4",
    "depthwise_both": "n2 c4 k4 9x9 f3x3 s2x2 d2x2 g4", "depthwise_volume": "n2 c4 k4 5x5x5 f3x3x3 g4",
    "depthwise_line_dilated": "n2 c4 k8 12 f3 p2 d2 g4", "as_wide_as_channels": "n2 c3 k5 4x5 f1x1",
}  # fmt: skip
WIDE, F, D, W = "as_wide_as_channels", Direction.FPROP, Direction.DGRAD, Direction.WGRAD
Measured = Callable[..., dict[Cell, Record]]
REFUSED = {  # by api and workload, what TensorFlow's reason says
    ("layer", "lopsided"): "SAME and VALID only", ("layer", "transposed"): "transposed layer",
    ("layer", "depthwise_volume"): None,  # as the build has it
    ("depthwise", "plain"): "one input channel in each group", ("depthwise", "depthwise"): "is what api=default calls here",
    ("depthwise", "depthwise_both"): "wrong result with both stride and dilation",
    ("depthwise", "depthwise_uneven"): "equal strides only", ("depthwise", "depthwise_volume"): "of three dimensions",
}  # fmt: skip


def cells(backend: str, whole: bool) -> Iterator[Cell]:
    """Each kind of convolution in every direction, eager; a plain one in the other modes; what only TensorFlow has.

    In part: of the kinds that are not plain the forward pass and the filter gradient alone.
    """
    apis = [Api.LAYER, Api.DEPTHWISE] if backend == "tensorflow" else [Api.LAYER]
    for api, name, (direction, optimizer) in itertools.product(apis, SPECS, ASKED):
        if api is Api.DEPTHWISE and not name.startswith(("plain", "depthwise")):
            continue
        if name == "plain" or (optimizer is not Optimizer.ADAM and (whole or direction in (F, W))):
            layout = FIRST if backend == "torch" and "line" in name else LAST
            yield cell(backend, name, direction, api, optimizer=optimizer, layout=layout)
    for name, direction in itertools.product(("plain", "depthwise"), (Direction.FPROP, Direction.WGRAD)):
        yield cell(backend, name, direction, Api.LAYER, layout=FIRST)
    yield from with_bias(backend, whole)
    for mode in sorted(registry.resolve(registry.find(backend)).modes - {Mode.EAGER}):
        for direction, optimizer in ASKED:
            few = backend != "torch" or direction in (Direction.FPROP, Direction.DGRAD, Direction.TRAIN)
            if optimizer is not Optimizer.ADAM and few:  # where inductor compiles C++ each takes seconds
                yield cell(backend, "plain", direction, Api.LAYER, optimizer=optimizer, mode=mode, layout=LAST)
        if backend == "tensorflow":
            yield cell(backend, "depthwise_dilated", Direction.WGRAD, Api.DEPTHWISE, mode=mode, layout=LAST)
            yield cell(backend, "grouped", Direction.DGRAD, Api.LAYER, mode=mode, layout=LAST)


def with_bias(backend: str, whole: bool) -> Iterator[Cell]:
    """Layers that have a bias, which is none in the input gradient; and TensorFlow's depthwise op with one."""
    biased = [(direction, optimizer) for direction, optimizer in ASKED if direction is not Direction.DGRAD]
    for name, (direction, optimizer) in itertools.product(("plain", "depthwise", "line", "transposed"), biased):
        if name == "plain" or (optimizer is not Optimizer.ADAM and (whole or direction in (F, W))):
            layout = FIRST if backend == "torch" and "line" in name else LAST
            yield cell(backend, name, direction, Api.LAYER, optimizer=optimizer, bias=Bias.CHANNEL, layout=layout)
        if backend == "tensorflow" and optimizer is not Optimizer.ADAM and name == "plain":
            asked: dict[str, Any] = {"optimizer": optimizer, "bias": Bias.CHANNEL, "layout": LAST}
            yield cell(backend, "depthwise_dilated", direction, Api.DEPTHWISE, **asked)
            for mode in (Mode.COMPILED, Mode.XLA):
                yield cell(backend, "plain", direction, Api.LAYER, mode=mode, **asked)
    if backend == "torch":  # each of inductor's programs of C++ takes seconds to compile
        for direction in (Direction.FPROP, Direction.WGRAD):
            yield cell(backend, "plain", direction, Api.LAYER, mode=Mode.COMPILED, bias=Bias.CHANNEL, layout=LAST)
    for name, direction in itertools.product(("plain", *([WIDE] if backend == "tensorflow" else [])), (F, W)):
        yield cell(backend, name, direction, Api.LAYER, bias=Bias.CHANNEL, layout=FIRST)


def cell(backend: str, name: str, direction: Direction, api: Api, **axes: object) -> Cell:
    return Cell(name, parse_workload(SPECS[name]), direction, backend, api=api, **axes)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    """The records of a backend's cells, in part or of all; skips where its framework is not installed."""

    @cache
    def result(backend: str, whole: bool = False) -> dict[Cell, Record]:
        if not registry.installed(backend):
            pytest.skip(f"{backend} is not installed")
        steps = tuple(Step(0, order, one) for order, one in enumerate(cells(backend, whole)))
        answers = Launcher("apis", tmp_path_factory.mktemp(backend)).execute(Plan("apis", steps, 7, BUDGET))
        return {answer.cell: answer for answer in answers if isinstance(answer, Record)}

    return result


@pytest.mark.parametrize("whole", [False, pytest.param(True, marks=pytest.mark.long)], ids=["part", "whole"])
@pytest.mark.parametrize("backend", ["torch", "tensorflow"])
def test_each_call_is_right_or_refused_with_a_reason(measured: Measured, backend: str, whole: bool):
    records = measured(backend, whole)
    assert len(records) == len(list(cells(backend, whole)))
    right = {one: found for one, found in records.items() if not mistaken(one)}
    bad = {str(one): f"{found.status}: {found.reason}" for one, found in right.items() if found.status is not Status.OK}
    may = {str(one) for one in records if backend == "tensorflow" and (str(one.api), one.workload) in REFUSED}
    assert {name: told for name, told in bad.items() if name not in may} == {}
    assert all(bad[name].startswith("unsupported: ") for name in bad)
    checked = {found.check.method for one, found in right.items() if found.check and one.direction.single}
    assert checked == {"exact+spot"}


def mistaken(one: Cell) -> bool:
    """Whether Keras adds the bias along the width: channels first, in a y as wide as it has channels."""
    wide = one.conv.y_shape[-1] == one.conv.k
    return (one.backend, one.api, one.bias, one.layout) == ("tensorflow", Api.LAYER, Bias.CHANNEL, FIRST) and wide


def test_a_bias_that_keras_adds_along_the_width_is_found_out(measured: Measured):
    wrong = {str(one.direction): found for one, found in measured("tensorflow").items() if mistaken(one)}
    assert {name: found.status for name, found in wrong.items()} == dict.fromkeys(("fprop", "wgrad"), Status.INCORRECT)
    assert "y is wrong" in str(wrong["fprop"].reason)
    assert "db is wrong" in str(wrong["wgrad"].reason)


@pytest.mark.parametrize(("api", "workload"), [key for key, reason in REFUSED.items() if reason])
def test_what_has_no_such_call_says_why(api: str, workload: str):
    expected = REFUSED[api, workload]
    assert expected is not None
    assert expected in str(lacks_api(cell("tensorflow", workload, Direction.FPROP, Api(api))))


OPS = {
    ("torch", "plain", Direction.FPROP, Mode.EAGER): "nn.Conv2d",
    ("torch", "plain", Direction.DGRAD, Mode.EAGER): "nn.Conv2d, autograd.grad of x",
    ("torch", "plain", Direction.WGRAD, Mode.EAGER): "nn.Conv2d, autograd.grad of w",
    ("torch", "plain", Direction.BPROP, Mode.EAGER): "nn.Conv2d, mean(y^2), autograd.grad",
    ("torch", "plain", Direction.TRAIN, Mode.EAGER): "nn.Conv2d, mean(y^2), backward, optim.sgd.step",
    ("torch", "volume", Direction.FPROP, Mode.EAGER): "nn.Conv3d",
    ("torch", "transposed", Direction.FPROP, Mode.EAGER): "nn.ConvTranspose2d",
    ("torch", "lopsided", Direction.FPROP, Mode.EAGER): "nn.Conv2d on x padded beforehand",
    ("torch", "plain", Direction.DGRAD, Mode.COMPILED): "torch.compile(nn.Conv2d, autograd.grad of x)",
    ("tensorflow", "plain", Direction.FPROP, Mode.EAGER): "keras.layers.Conv2D",
    ("tensorflow", "plain", Direction.DGRAD, Mode.EAGER): "keras.layers.Conv2D, GradientTape.gradient of x",
    ("tensorflow", "plain", Direction.WGRAD, Mode.EAGER): "keras.layers.Conv2D, GradientTape.gradient of w",
    ("tensorflow", "depthwise", Direction.FPROP, Mode.EAGER): "keras.layers.DepthwiseConv2D",
    ("tensorflow", "line_depthwise", Direction.FPROP, Mode.EAGER): "keras.layers.DepthwiseConv1D",
    ("tensorflow", "depthwise_uneven", Direction.FPROP, Mode.EAGER): "keras.layers.Conv2D",
    ("tensorflow", "plain", Direction.TRAIN, Mode.XLA): "tf.function(keras.layers.Conv2D, mean(y^2), GradientTape.gradient, "
    "optimizers.sgd.apply_gradients, jit_compile=True)",
}  # fmt: skip


OPS_WITH_BIAS = {
    ("torch", "plain", Direction.FPROP, Mode.EAGER): "nn.Conv2d(bias=True)",
    ("torch", "plain", Direction.WGRAD, Mode.EAGER): "nn.Conv2d(bias=True), autograd.grad of w and b",
    ("torch", "transposed", Direction.WGRAD, Mode.EAGER): "nn.ConvTranspose2d(bias=True), autograd.grad of w and b",
    ("torch", "plain", Direction.BPROP, Mode.EAGER): "nn.Conv2d(bias=True), mean(y^2), autograd.grad",
    ("tensorflow", "plain", Direction.FPROP, Mode.EAGER): "keras.layers.Conv2D(use_bias=True)",
    ("tensorflow", "depthwise", Direction.WGRAD, Mode.EAGER):
        "keras.layers.DepthwiseConv2D(use_bias=True), GradientTape.gradient of w and b",
    ("tensorflow", "plain", Direction.BPROP, Mode.COMPILED):
        "tf.function(keras.layers.Conv2D(use_bias=True), mean(y^2), GradientTape.gradient)",
}  # fmt: skip
NAMED = {(*key, Bias.NONE): op for key, op in OPS.items()} | {(*key, Bias.CHANNEL): op for key, op in OPS_WITH_BIAS.items()}


@pytest.mark.parametrize(("backend", "workload", "direction", "mode", "bias"), NAMED)
def test_the_layer_that_was_called_is_named(
    measured: Measured, backend: str, workload: str, direction: Direction, mode: Mode, bias: Bias
):
    (found,) = {
        record.op
        for one, record in measured(backend).items()
        if (one.workload, one.direction, one.mode, one.api) == (workload, direction, mode, Api.LAYER)
        and (one.bias, one.layout) == (bias, LAST)
        and one.optimizer is not Optimizer.ADAM
    }
    assert found == NAMED[backend, workload, direction, mode, bias]


COUNTED = """
import json, os, sys
from harness.axes import Device
from harness.backends import registry

name, place, cases = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
kind, device = registry.resolve(registry.find(name)), Device("cpu")
os.environ.update({**kind.environ(device, 1), **kind.profile_environ(device, 1), "OMP_NUM_THREADS": "1"})
from harness.axes import Api, Direction, Layout, Mode
from harness.measure.operands import draw
from harness.profile import Kind, Level
from harness.spec import Cell, parse_workload

backend, found, symbolic = kind(device, 1), [], []
if name == "tensorflow":
    import tensorflow

    convolution = tensorflow.nn.convolution

    def noted(*arguments, **told):
        if not tensorflow.executing_eagerly():
            symbolic.append(1)
        return convolution(*arguments, **told)

    tensorflow.nn.convolution = noted
for text, direction, api, mode, layout in cases:
    cell = Cell("a", parse_workload(text), Direction(direction), name, api=Api(api), mode=Mode(mode), layout=Layout(layout))
    call = backend.prepare(cell, draw(cell, 3)[0])
    for _ in range(2):
        call.wait(call.launch())
    symbolic.clear()
    with call.watched() as read:
        for _ in range(2):
            call.wait(call.launch())
    ran = [event for event in read() if event.kind is Kind.CONVOLUTION and event.level >= Level.COMPILED]
    found.append([len(ran) / 2, len(symbolic) / 2, call.composite, kind.op_reason(cell)])
    call.close()
with open(place, "w") as file:
    json.dump(found, file)
"""
BOTH_IN = "the forward pass and the other gradient are in it, too"
BOTH_DROPPED = "the forward pass and the other gradient are dropped"
FORWARD_IN = "the forward pass is in the call, too, and not the other gradient"
NEW_EACH_TIME, INSIDE = "each call traces and compiles it", "XLA compiles the convolution in this mode, too"
E, C, X = Mode.EAGER, Mode.COMPILED, Mode.XLA
Case = tuple[str, Direction, Api, Mode, Layout]
RUN: dict[str, dict[Case, tuple[int, int, tuple[str, ...]]]] = {  # convolutions and traces in a call, and what the reason says
    "torch": {
        ("plain", D, Api.LAYER, E, LAST): (2, 0, (FORWARD_IN,)),
        ("plain", W, Api.LAYER, E, LAST): (2, 0, (FORWARD_IN,)),
        ("plain", D, Api.LAYER, C, LAST): (2, 0, (FORWARD_IN,)),
        ("plain", D, Api.DEFAULT, E, LAST): (1, 0, ("autograd brings the forward pass",)),
    },
    "tensorflow": {
        ("plain", D, Api.LAYER, E, LAST): (3, 0, (BOTH_IN,)),
        ("plain", W, Api.LAYER, E, LAST): (3, 0, (BOTH_IN,)),
        ("plain", D, Api.LAYER, C, LAST): (1, 0, (BOTH_DROPPED,)),
        ("plain", W, Api.LAYER, C, LAST): (1, 0, (BOTH_DROPPED,)),
        ("plain", D, Api.LAYER, X, LAST): (1, 0, (BOTH_DROPPED,)),
        ("depthwise_dilated", W, Api.DEPTHWISE, E, LAST): (3, 0, (BOTH_IN,)),
        ("depthwise_dilated", W, Api.DEPTHWISE, C, LAST): (1, 0, (BOTH_DROPPED,)),
        ("plain", F, Api.LAYER, E, LAST): (1, 0, ()),
        ("grouped", F, Api.LAYER, E, LAST): (1, 1, (NEW_EACH_TIME,)),
        ("volume", F, Api.LAYER, E, FIRST): (1, 1, (NEW_EACH_TIME,)),
        ("grouped", D, Api.LAYER, E, LAST): (3, 1, (BOTH_IN, NEW_EACH_TIME)),
        ("grouped", D, Api.LAYER, C, LAST): (3, 0, (BOTH_IN, INSIDE)),
        ("grouped", D, Api.LAYER, X, LAST): (1, 0, (BOTH_DROPPED,)),
    },
}  # fmt: skip


@cache
def run(backend: str) -> dict[Case, Any]:
    """What a process of a framework counts in a call of each case of RUN; skips where it is not installed."""
    if not registry.installed(backend):
        pytest.skip(f"{backend} is not installed")
    with TemporaryDirectory() as folder:
        place, log = Path(folder) / "found.json", Path(folder) / "log"
        asked = json.dumps([[SPECS[name], *axes] for name, *axes in RUN[backend]])
        with log.open("w") as output:  # what oneDNN prints is read from it
            command = [sys.executable, "-c", COUNTED, backend, str(place), asked]
            done = subprocess.run(command, stdout=output, stderr=subprocess.PIPE, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        return dict(zip(RUN[backend], json.loads(place.read_text()), strict=True))


@pytest.mark.parametrize(("backend", "case"), [(backend, case) for backend, cases in RUN.items() for case in cases])
def test_what_runs_in_a_call_beside_what_was_asked_for_is_what_it_says(backend: str, case: Case):
    """Whether the forward pass and the other gradient are in it, and whether it traces anew, is counted in a profile of it."""
    convolutions, traces, words = RUN[backend][case]
    ran, traced, composite, reason = run(backend)[case]
    assert (ran, traced, composite) == (convolutions, traces, convolutions > 1)
    known = (BOTH_IN, BOTH_DROPPED, FORWARD_IN, NEW_EACH_TIME, INSIDE, *words)
    assert [word for word in known if (word in reason) != (word in words)] == []


def test_jax_drops_the_forward_pass_of_a_gradient_where_it_compiles():
    if not registry.installed("jax"):
        pytest.skip("jax is not installed")
    import jax

    def gradient(x: Any, w: Any, dy: Any) -> Any:
        return jax.vjp(lambda each: jax.lax.conv_general_dilated(each, w, (1, 1), "SAME"), x)[1](dy)

    x, w = np.ones((2, 4, 8, 8), np.float32), np.ones((4, 4, 3, 3), np.float32)
    assert str(jax.make_jaxpr(gradient)(x, w, x)).count("conv_general_dilated[") == 2
    assert jax.jit(gradient).lower(x, w, x).compile().as_text().count(" convolution(") == 1
    kind = registry.resolve(registry.find("jax"))
    reasons = [kind.op_reason(cell("jax", "plain", D, Api.DEFAULT, mode=mode)) for mode in (E, C)]
    assert ["without jax.jit, where" in reason for reason in reasons] == [False, True]


@pytest.mark.parametrize("backend", ["torch", "tensorflow"])
def test_no_call_but_that_of_one_gradient_has_more_in_it(measured: Measured, backend: str):
    for one, record in measured(backend).items():
        if record.status is Status.OK and one.direction not in (D, W) and one.spec.pads_evenly:
            assert Flag.COMPOSITE not in record.flags, str(one)
            assert "the forward pass" not in record.op_reason, str(one)


def test_tensorflow_s_depthwise_op_is_called_where_it_is_asked_for(measured: Measured):
    ops = {
        (one.workload, str(one.direction)): record.op
        for one, record in measured("tensorflow").items()
        if (one.api, one.mode, one.bias) == (Api.DEPTHWISE, Mode.EAGER, Bias.NONE) and record.status is Status.OK
    }
    assert {name for name, _ in ops} == {"depthwise_dilated", "depthwise_line_dilated"}
    assert ops["depthwise_dilated", "fprop"] == "tf.nn.depthwise_conv2d"
    assert ops["depthwise_dilated", "wgrad"] == "tf.nn.depthwise_conv2d, GradientTape.gradient of w"


@pytest.mark.parametrize("api", [Api.LAYER, Api.DEPTHWISE])
@pytest.mark.parametrize("backend", ["jax", "numpy", "torch"])
def test_what_a_backend_cannot_be_asked_by_it_refuses(backend: str, api: Api):
    """None is measured by its default call under another name; no framework is needed to know that."""
    kind = registry.resolve(registry.find(backend))
    asked = builders.cell(backend=backend, api=api)
    reason = unsupported(object.__new__(kind), asked)
    assert (reason is None) == (api in kind.apis)
    if reason is not None:
        assert kind.script(asked) is None
        assert ("flax" in reason) == (backend == "jax" and api is Api.LAYER)


def test_another_package_s_backend_that_knows_nothing_of_it_refuses():
    class Theirs(NumpyBackend):
        name = "theirs"

    reason = unsupported(Theirs(Device("cpu"), 1), builders.cell(backend="theirs", api=Api.LAYER))
    assert reason == "theirs cannot be asked by api=layer, only by: default"


def test_the_layer_has_the_cell_s_filter_and_no_other():
    """Were its weight drawn by itself, no result would be right."""
    if not registry.installed("torch"):
        pytest.skip("torch is not installed")
    from harness.backends.torch import TorchBackend
    from harness.measure.operands import draw

    asked = cell("torch", "plain", Direction.FPROP, Api.LAYER, layout=LAST)
    backend, (operands, _) = TorchBackend(Device("cpu"), 1), draw(asked, 3)
    prepared = backend.prepare(asked, operands)
    layer = prepared.launch.func  # type: ignore[attr-defined]
    assert type(layer).__name__ == "Conv2d"
    assert np.array_equal(layer.weight.numpy(), operands.w)
    assert (layer.bias, layer.weight.requires_grad) == (None, False)
    prepared.close()


def test_an_epilogue_stands_beside_the_default_alone():
    """A layer that took none would be measured under the name of one that does."""
    for backend in ("torch", "tensorflow"):
        kind = registry.resolve(registry.find(backend))
        reason = unsupported(object.__new__(kind), builders.cell(backend=backend, api=Api.LAYER, epilogue=Epilogue.RELU))
        assert reason == "api=layer can be measured with epilogue=none only"
