"""What the capture of JAX sees, held against PyTorch's capture of the same networks, and against small functions."""

from typing import Any

import pytest

jax = pytest.importorskip("jax")

import jax.numpy as jnp  # noqa: E402
from jax import lax  # noqa: E402

import harness  # noqa: E402
from harness import flops  # noqa: E402
from harness.ask.captured import collect  # noqa: E402
from harness.axes import Direction, Layout, Precision  # noqa: E402
from harness.calls import Call, Seen  # noqa: E402
from harness.captures.base import Input, Request  # noqa: E402
from harness.captures.jax import JaxCapture  # noqa: E402
from harness.errors import CaptureError  # noqa: E402
from tests.captures.jax_models import MODELS, NUMBERS, conv, weights  # noqa: E402

FPROP, DGRAD, WGRAD = Direction.FPROP, Direction.DGRAD, Direction.WGRAD


def see(function: Any, *inputs: Any, **options: Any) -> Seen:
    return JaxCapture().capture(function, inputs, Request(**options))


def counts(seen: Seen) -> dict[Direction, int]:
    found = dict.fromkeys((FPROP, DGRAD, WGRAD), 0)
    for call in seen.calls:
        found[call.direction] += call.times
    return found


def forward(function: Any, *inputs: Any) -> list[Call]:
    return list(see(function, *inputs, gradients=False).calls)


@pytest.mark.parametrize("name", MODELS)
def test_the_network_is_the_one_that_pytorch_has(name: str) -> None:
    torch_models = pytest.importorskip("tests.captures.torch_models")
    from harness.captures.torch import TorchCapture

    function, params, shape = MODELS[name]
    seen = see(function, params(), Input(shape))
    build, like = torch_models.MODELS[name]
    torchs = TorchCapture().capture(build(), [Input(like)], Request())

    # A transposed convolution without a stride is any convolution to JAX, of an x that is padded.
    def told(seen: Seen) -> set[tuple[Any, ...]]:
        known = [call for call in _summed(seen) if call.spec.shapes(1).x[1] != 100]
        return {(call.spec, call.direction, call.times) for call in known}

    assert told(seen) == told(torchs)
    assert {call.layout for call in seen.calls} == {Layout.CHANNELS_LAST}


def _summed(seen: Seen) -> list[Call]:
    """The calls without layers, so that equal convolutions are one."""
    found: dict[tuple[Any, ...], int] = {}
    for call in seen.calls:
        key = call.spec, call.direction
        found[key] = found.get(key, 0) + call.times
    return [Call(spec, direction, times=times) for (spec, direction), times in found.items()]


def test_resnet_50_has_the_published_number_of_multiply_adds() -> None:
    function, params, shape = MODELS["resnet50"]
    captured = collect("resnet50", see(function, params(), Input(shape)))
    assert captured.flop(FPROP) == 2 * 4_087_136_256
    assert (sum(layer.count for layer in captured.layers), len(captured.layers)) == (53, 23)


def test_loops_and_branches() -> None:
    w = weights(3, 3, 4, 4)

    def scanned(p: list[Any], x: Any) -> Any:
        return lax.scan(lambda x, _: (conv(x, p[0]), None), x, None, length=7)[0]

    def waiting(p: list[Any], x: Any) -> Any:
        return lax.while_loop(lambda x: x.sum() < 3, lambda x: conv(x, p[0]), x)

    def choosing(p: list[Any], x: Any) -> Any:
        return lax.cond(x.sum() < 3, lambda x: conv(x, p[0]), lambda x: conv(x, p[0], dilation=2), x)

    x = Input((1, 8, 8, 4))
    assert [(call.times, call.remark) for call in forward(scanned, [w], x)] == [(7, "")]
    assert [(call.times, call.remark) for call in forward(waiting, [w], x)] == [(1, "in a while loop, counted once")]
    assert [call.remark for call in forward(choosing, [w], x)] == ["in a branch, counted as if it were taken"] * 2
    # What a loop carries depends on what is trained from its second round on, so its layers have input gradients.
    assert counts(see(scanned, [w], x)) == {FPROP: 7, DGRAD: 7, WGRAD: 7}


def test_the_input_gradient_of_what_nothing_is_trained_before_is_not_asked_for() -> None:
    first, second, table = jnp.ones((3, 3, 3, 4)), jnp.ones((3, 3, 4, 4)), jnp.ones((9, 3))

    def normalized(x: Any) -> Any:
        return conv(conv((x - jnp.array([1.0, 2.0, 3.0])) / 2, first), second)

    def embedded(ids: Any) -> Any:
        return conv(table[ids], first)

    assert counts(see(normalized, Input((1, 8, 8, 3)))) == {FPROP: 2, DGRAD: 1, WGRAD: 2}
    assert counts(see(embedded, Input((1, 8, 8), "int32"))) == {FPROP: 1, DGRAD: 1, WGRAD: 1}
    assert counts(see(normalized, Input((1, 8, 8, 3)), gradients=False)) == {FPROP: 2, DGRAD: 0, WGRAD: 0}


def test_layout_precision_groups_and_names() -> None:
    def step(p: list[Any], x: Any) -> Any:
        with jax.named_scope("stem"):
            return lax.conv_general_dilated(
                x, p[0], (2,), [(1, 0)], rhs_dilation=(2,), dimension_numbers=("NCW", "OIW", "NCW"), feature_group_count=2
            )

    (call,) = forward(step, [jax.ShapeDtypeStruct((6, 2, 3), jnp.bfloat16)], Input((2, 4, 9), "bfloat16"))
    assert str(call.spec) == "n2 c4 k6 9 f3 s2 p1-0 d2 g2"
    assert (call.layout, call.precision, call.name) == (Layout.CHANNELS_FIRST, Precision.BF16, "stem")


@pytest.mark.parametrize("padding", ["SAME", "VALID", [(1, 2), (2, 1)]])
@pytest.mark.parametrize("stride", [(1, 1), (2, 3)])
def test_a_transposed_convolution_is_mirrored(padding: Any, stride: tuple[int, int]) -> None:
    def up(p: list[Any], x: Any) -> Any:
        return lax.conv_transpose(x, p[0], stride, padding, dimension_numbers=NUMBERS)

    (call,) = forward(up, [weights(4, 3, 5, 6)], Input((2, 7, 8, 5)))
    n, height, width, k = jax.eval_shape(up, [weights(4, 3, 5, 6)], weights(2, 7, 8, 5)).shape
    assert call.spec.transposed == (stride != (1, 1))  # with a stride of 1 it is a convolution like any other
    assert (call.spec.shapes(1).x, call.spec.shapes(1).y) == ((2, 5, 7, 8), (n, k, height, width))


def test_what_no_suite_has_is_left_out() -> None:
    def odd(x: Any) -> Any:
        return conv(x.astype(jnp.int8), jnp.ones((1, 1, 4, 4), jnp.int8)).astype(jnp.float32), conv(x, jnp.ones((1, 1, 4, 4)))

    left = see(odd, Input((1, 8, 8, 4))).left_out
    assert [(one.what, one.why) for one in left] == [("convolution of int8", "no precision of a suite")]


def test_what_cannot_be_seen_is_said() -> None:
    with pytest.raises(CaptureError, match=r"no convolution seen; what was seen: .*dot_general x 1"):
        see(lambda x: x @ x, Input((4, 4)))
    with pytest.raises(CaptureError, match="the function needs the values of an array"):
        see(lambda x: conv(x, jnp.ones((1, 1, 4, 4))) if x.sum() > 0 else x, Input((1, 8, 8, 4)))
    with pytest.raises(CaptureError, match="found dtype 'float31'"):
        see(lambda x: x, Input((4, 4), "float31"))
    with pytest.raises(CaptureError, match="--input: the function wants inputs"):
        see(lambda x: x)


def test_within_a_program(tmp_path: Any) -> None:
    function, params, shape = MODELS["unet"]
    captured = harness.capture(function, params(), shape, framework="jax", name="unet")
    assert captured.directions == (FPROP, DGRAD, WGRAD)
    assert captured.flop(FPROP) == sum(flops.nominal(layer.spec) * layer.count for layer in captured.layers)
    assert sum(layer.count for layer in captured.layers if layer.spec.transposed) == 4
    assert captured.left_out == ()
