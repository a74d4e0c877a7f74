"""What the capture of TensorFlow and Keras sees, held against PyTorch's counts and published ones, and against small graphs."""

from typing import Any

import pytest

tf = pytest.importorskip("tensorflow")
keras = pytest.importorskip("keras")

from harness import flops  # noqa: E402
from harness.ask.captured import collect  # noqa: E402
from harness.axes import Direction, Layout, Precision  # noqa: E402
from harness.calls import Seen  # noqa: E402
from harness.captures.base import Input, Request  # noqa: E402
from harness.captures.tensorflow import TensorFlowCapture  # noqa: E402
from harness.errors import CaptureError  # noqa: E402

FPROP, DGRAD, WGRAD = Direction.FPROP, Direction.DGRAD, Direction.WGRAD


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
