"""What the capture of TensorFlow and Keras sees, held against PyTorch's counts and published ones, and against small graphs."""

from collections.abc import Callable, Iterable
from typing import Any

import pytest

import harness
from harness import flops
from harness.ask.captured import collect
from harness.axes import Direction, Layout, Precision
from harness.calls import Seen, Timing
from harness.captures import tensorflow, timing
from harness.captures.base import Input, Request
from harness.captures.tensorflow import TensorFlowCapture
from harness.errors import CaptureError
from harness.measure.attribute import Span
from harness.profile import Event

tf: Any = None
keras: Any = None
FPROP, DGRAD, WGRAD = Direction.FPROP, Direction.DGRAD, Direction.WGRAD


@pytest.fixture(scope="module", autouse=True)
def imported() -> None:
    """TensorFlow for all that stands here: the first test imports it, and not each process that only collects the tests."""
    global tf, keras
    tf, keras = pytest.importorskip("tensorflow"), pytest.importorskip("keras")


def see(model: Any, *inputs: Any, **options: Any) -> Seen:
    return TensorFlowCapture().capture(model, inputs, Request(**options))


def counts(seen: Seen, transposed: bool = False) -> dict[Direction, int]:
    found: dict[Direction, int] = {}
    for call in seen.calls:
        if call.spec.transposed == transposed:
            found[call.direction] = found.get(call.direction, 0) + call.times
    return found


def of_layers(*layers: Any) -> Any:
    return keras.Sequential(list(layers))


def test_a_first_layer_has_no_input_gradient() -> None:
    layers = keras.layers
    model = of_layers(
        layers.Conv2D(8, 3, 2, padding="same", name="stem"), layers.DepthwiseConv2D(3, padding="same"),
        layers.Conv2D(12, 3, groups=4), layers.Conv2D(12, 3, dilation_rate=2),
    )  # fmt: skip
    captured = collect("net", see(model, Input((2, 17, 16, 3))))
    told = [(str(layer.spec), {str(each): count for each, count in layer.counts.items()}) for layer in captured.layers]
    every = {"fprop": 1, "dgrad": 1, "wgrad": 1}
    assert told == [
        ("n2 c3 k8 17x16 f3x3 s2x2 p1x0-1", {"fprop": 1, "wgrad": 1}),
        ("n2 c8 k8 9x8 f3x3 p1x1 g8", every),
        ("n2 c8 k12 9x8 f3x3 g4", every),
        ("n8 c12 k12 4x3 f3x3", every),
    ]
    assert {(layer.layout, layer.precision) for layer in captured.layers} == {(Layout.CHANNELS_LAST, Precision.FP32)}
    names = [layer.name for layer in model.layers]
    assert [layer.names for layer in captured.layers] == [(name,) for name in names]
    assert captured.layers[3].remarks == ("a dilated one, which TensorFlow runs on blocks (space to batch)",)


def test_without_gradients_it_is_the_forward_pass_alone() -> None:
    model = of_layers(keras.layers.Conv3D(4, 3, padding="same"), keras.layers.Conv3D(4, 1))
    assert counts(see(model, Input((1, 4, 6, 5, 2)), gradients=False)) == {FPROP: 2}
    assert counts(see(model, Input((1, 4, 6, 5, 2)))) == {FPROP: 2, DGRAD: 1, WGRAD: 2}


def test_padding_that_is_an_operation_of_its_own_is_told_of() -> None:
    layers = keras.layers
    model = of_layers(layers.ZeroPadding2D(((0, 1), (0, 1))), layers.Conv2D(4, 3, 2), layers.Conv2D(4, 3, padding="same"))
    captured = collect("net", see(model, Input((1, 8, 8, 3))))
    assert [(layer.spec.spatial, layer.remarks) for layer in captured.layers] == [
        ((9, 9), ("x was padded by an operation of its own",)), ((4, 4), ()),
    ]  # fmt: skip


def test_what_is_frozen_has_no_filter_gradient() -> None:
    model = of_layers(keras.layers.Conv2D(4, 3), keras.layers.Conv2D(4, 3))
    model.build((1, 8, 8, 3))
    model.layers[0].trainable = False
    assert counts(see(model, Input((1, 8, 8, 3)))) == {FPROP: 2, WGRAD: 1}


def test_transposed_layers_are_told_from_gradients_of_equal_convolutions() -> None:
    layers = keras.layers
    model = of_layers(layers.Conv2DTranspose(3, 4, 2, padding="same"), layers.Conv2D(8, 4, 2, padding="same"))
    seen = see(model, Input((2, 5, 6, 8)))
    assert {str(call.spec) for call in seen.calls} == {
        "n2 c3 k8 10x12 f4x4 s2x2 p1x1", "transposed n2 c8 k3 5x6 f4x4 s2x2 p1x1",
    }  # fmt: skip
    assert counts(seen, transposed=True) == {FPROP: 1, WGRAD: 1}
    assert counts(seen) == {FPROP: 1, DGRAD: 1, WGRAD: 1}
    with_gradient = see(of_layers(layers.Conv2D(8, 1), *model.layers), Input((2, 5, 6, 2)))
    assert counts(with_gradient, transposed=True) == {FPROP: 1, DGRAD: 1, WGRAD: 1}


def test_functions_and_loops_and_explicit_padding() -> None:
    first, second = tf.Variable(tf.ones((3, 3, 2, 2))), tf.Variable(tf.ones((3, 3, 2, 2)))

    @tf.function
    def inner(x: Any) -> Any:
        return tf.nn.conv2d(x, second, 1, "SAME")

    def outer(x: Any) -> Any:
        x = tf.nn.conv2d(x, first, [1, 2, 1, 1], [[0, 0], [2, 1], [0, 1], [0, 0]])
        return inner(inner(x))

    def looping(x: Any) -> Any:
        return tf.while_loop(lambda step, x: step < 3, lambda step, x: (step + 1, tf.nn.conv2d(x, first, 1, "SAME")), (0, x))[1]

    seen = see(outer, Input((1, 8, 8, 2)))
    assert counts(seen) == {FPROP: 3, DGRAD: 2, WGRAD: 3}
    assert {str(call.spec) for call in seen.calls} == {"n1 c2 k2 8x8 f3x3 s2x1 p2-1x0-1", "n1 c2 k2 5x7 f3x3 p1x1"}
    remarks = {call.remark for call in see(looping, Input((1, 8, 8, 2)), gradients=False).calls}
    assert remarks == {"in a loop, counted once"}


def test_what_cannot_be_seen_is_said() -> None:
    with pytest.raises(CaptureError, match=r"no convolution seen; what was seen: .*MatMul"):
        see(of_layers(keras.layers.Dense(3)), Input((2, 4)))
    with pytest.raises(CaptureError, match="nothing that the model gives depends on what is trained"):
        see(lambda x: tf.nn.conv2d(x, tf.ones((1, 1, 2, 2)), 1, "SAME"), Input((1, 4, 4, 2)))
    with pytest.raises(CaptureError, match="the model needs the values of a tensor"):
        see(lambda x: x if tf.reduce_sum(x) > 0 else -x, Input((1, 4)))
    with pytest.raises(CaptureError, match=r"the model wants picture \(\?,8,8,3\)"):
        see(keras.Sequential([keras.Input((8, 8, 3), name="picture"), keras.layers.Conv2D(2, 3)]))


def test_within_a_program_a_model_of_keras_stays_as_it_is() -> None:
    model = of_layers(keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3), keras.layers.BatchNormalization())
    before = [value.copy() for value in model.get_weights()]
    captured = harness.capture(model, (2, 8, 8, 3), name="mine")
    assert captured.layers == harness.capture(model, tf.zeros((2, 8, 8, 3))).layers
    assert [(str(layer.spec), dict(layer.counts)) for layer in captured.layers] == [("n2 c3 k4 8x8 f3x3", {FPROP: 1, WGRAD: 1})]
    assert all((old == new).all() for old, new in zip(before, model.get_weights(), strict=True))
    with pytest.raises(CaptureError, match=r"^inputs: the model wants .*; give the shape of each, as in \(8, 224, 224, 3\)$"):
        harness.capture(model)


def test_what_is_no_plain_convolution_is_left_out_by_name() -> None:
    def quantized(x: Any) -> Any:
        limits = [tf.constant(0.0), tf.constant(1.0)]
        image = tf.quantization.quantize(x, *limits, tf.quint8).output
        filters = tf.cast(tf.ones((1, 1, 2, 2)), tf.uint8)
        filters = tf.bitcast(filters, tf.quint8)
        ranges = {f"{bound}_{tensor}": limits[bound == "max"] for bound in ("min", "max") for tensor in ("input", "filter")}
        y = tf.raw_ops.QuantizedConv2D(input=image, filter=filters, strides=[1] * 4, padding="SAME", **ranges)
        return tf.cast(tf.bitcast(y.output, tf.int32), tf.float32) + tf.nn.conv2d(x, tf.ones((1, 1, 2, 2)), 1, "SAME")

    seen = see(quantized, Input((1, 4, 4, 2)), gradients=False)
    assert [(one.what, one.why) for one in seen.left_out] == [("QuantizedConv2D", "quantized")]
    assert counts(seen) == {FPROP: 1}


def test_fourier_transforms_by_which_a_convolution_may_be_computed_are_named() -> None:
    def fourier(x: Any) -> Any:
        return tf.signal.irfft2d(tf.signal.rfft2d(tf.nn.conv2d(x, tf.ones((1, 1, 4, 4)), 1, "SAME")))

    (note,) = see(fourier, Input((1, 8, 4, 4)), gradients=False).notes
    assert note == "Fourier transforms were seen (RFFT2D x 1, IRFFT2D x 1): a convolution that is computed by them is left out"


# The share of a step -----------------------------------------------------------------------------------------------------


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The operators of a watched step that are told to be of a convolution; what the step took is no matter."""
    found: list[str] = []
    original = timing.of_events

    def of_events(convolutions: Iterable[tuple[Event, bool]], span: Span) -> timing.Watched:
        each = list(convolutions)
        found.extend(event.name for event, _ in each)
        return original(each, span)

    def measured(step: Callable[[], object], watched: Callable[[], timing.Watched]) -> Timing:
        step()
        seen = watched()
        assert seen.step_ns is not None
        assert 0 < seen.convolutions_ns < seen.step_ns
        return Timing(10, 4, 1)

    monkeypatch.setattr(timing, "of_events", of_events)
    monkeypatch.setattr(timing, "measured", measured)
    return found


def test_tensorflow_s_profiler_tells_each_convolution_of_a_step(told: list[str]) -> None:
    model = of_layers(
        keras.layers.Conv2D(8, 3, activation="relu"), keras.layers.BatchNormalization(), keras.layers.DepthwiseConv2D(3),
        keras.layers.Conv2DTranspose(4, 2, 2), keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(3),
    )  # fmt: skip
    seen = see(model, Input((2, 16, 16, 3)), timed=True)
    assert seen.timing == Timing(10, 4, 1), seen.notes
    assert len(told) == sum(call.times for call in seen.calls) == 8
    assert all("Conv2" in name for name in told)
    told.clear()
    assert see(model, Input((2, 16, 16, 3)), timed=True, gradients=False).timing == Timing(10, 4, 1)
    assert len(told) == 3


def test_a_step_of_a_function_is_measured_with_the_tensors_that_are_given(told: list[str]) -> None:
    seen = see(lambda pair: tf.nn.conv2d(pair[0], pair[1], 1, "SAME"), (tf.ones((1, 8, 8, 2)), tf.ones((3, 3, 2, 2))),
               gradients=False, timed=True)  # fmt: skip
    assert seen.timing == Timing(10, 4, 1), seen.notes
    assert len(told) == 1


def test_convolutions_that_xla_compiles_by_themselves_are_told_by_its_program(told: list[str]) -> None:
    """Keras has XLA compute those in groups on a CPU: forward and backward are a function each."""
    model = of_layers(keras.layers.Conv2D(8, 3, groups=4), keras.layers.Conv2D(4, 1, activation="gelu"))
    seen = see(model, Input((2, 16, 16, 8)), timed=True)
    assert seen.timing == Timing(10, 4, 1), seen.notes
    assert sum("Conv2D" in name for name in told) == 3  # of the second layer, whose bias is an operator of its own
    assert len(told) > 5


def test_convolutions_that_xla_compiles_with_other_work_have_no_share(told: list[str]) -> None:
    inner = tf.function(lambda x: tf.nn.relu(tf.nn.conv2d(x, tf.ones((3, 3, 2, 2)), 1, "SAME")), jit_compile=True)
    seen = see(lambda x: inner(x) + 1, Input((1, 8, 8, 2)), gradients=False, timed=True)
    assert (seen.timing, told) == (None, [])
    why = "XLA compiles convolutions together with other work, and the two are not told apart"
    assert seen.notes == (f"the convolutions' share of a step is not known: {why}",)


def test_a_program_of_which_nothing_is_told_has_no_share(monkeypatch: pytest.MonkeyPatch) -> None:
    def functions(found: object) -> dict[str, bool]:
        return {"__inference_nowhere_7": True}

    monkeypatch.setattr(tensorflow, "_functions", functions)
    (note,) = see(of_layers(keras.layers.Conv2D(4, 3)), Input((1, 8, 8, 2)), timed=True).notes
    assert note.endswith("of __inference_nowhere_7, which XLA compiles, nothing is told while a step runs")


def test_other_parts_that_xla_compiles_are_no_matter(told: list[str]) -> None:
    inner = tf.function(lambda x: tf.nn.relu(x) * 2, jit_compile=True)
    model = lambda x: inner(tf.nn.conv2d(x, tf.ones((3, 3, 2, 2)), 1, "SAME"))  # noqa: E731
    assert see(model, Input((1, 8, 8, 2)), gradients=False, timed=True).timing == Timing(10, 4, 1)
    assert len(told) == 1


def test_that_a_model_is_compiled_for_xla_is_said(told: list[str]) -> None:
    model = of_layers(keras.Input((8, 8, 3)), keras.layers.Conv2D(4, 3))
    model.compile(loss="mse", jit_compile=True)
    notes = see(model, Input((2, 8, 8, 3)), timed=True).notes
    assert notes == ("timed as a tf.function without XLA, which the model is compiled for (jit_compile)",)


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "shape", "calls", "unique", "multiply_adds"),
    [
        ("EfficientNetB0", (1, 224, 224, 3), 81, 46, 0.3845e9),
        ("ConvNeXtTiny", (1, 224, 224, 3), 22, 8, 0.2930e9),
        ("ResNet50", (1, 224, 224, 3), 53, None, 3.8559e9),
        ("MobileNetV3Small", (1, 224, 224, 3), None, None, None),
    ],
)
def test_keras_applications(
    name: str, shape: tuple[int, ...], calls: int | None, unique: int | None, multiply_adds: float | None
):
    model = getattr(keras.applications, name)(weights=None)
    captured = collect(name, see(model, Input(shape)))
    layers = sum(layer.count for layer in captured.layers)
    assert calls in (None, layers)
    assert unique in (None, len(captured.layers))
    assert multiply_adds is None or captured.flop(FPROP) / 2 == pytest.approx(multiply_adds, rel=2e-4)
    assert sum(layer.counts.get(WGRAD, 0) for layer in captured.layers) == layers
    assert sum(layer.counts.get(DGRAD, 0) for layer in captured.layers) == layers - 1
    assert captured.flop(DGRAD) == captured.flop(FPROP) - flops.nominal(captured.layers[0].spec)
    assert captured.left_out == ()
