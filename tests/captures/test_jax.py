"""What the capture of JAX sees, held against PyTorch's capture of the same networks, and against small functions."""

from collections.abc import Callable, Iterable
from typing import Any

import pytest

jax = pytest.importorskip("jax")

import jax.numpy as jnp  # noqa: E402
from jax import lax  # noqa: E402

import harness  # noqa: E402
from harness import flops  # noqa: E402
from harness.ask.captured import collect  # noqa: E402
from harness.axes import Direction, Layout, Precision  # noqa: E402
from harness.calls import Call, Seen, Timing  # noqa: E402
from harness.captures import jax_timing, timing  # noqa: E402
from harness.captures.base import DATA, TRAINED, Input, Request  # noqa: E402
from harness.captures.jax import JaxCapture  # noqa: E402
from harness.errors import CaptureError  # noqa: E402
from harness.measure.attribute import Span  # noqa: E402
from harness.profile import Event  # noqa: E402
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
    with pytest.raises(CaptureError, match="--input: the function wants x; give the shape of each"):
        see(lambda x: x)


def test_within_a_program(tmp_path: Any) -> None:
    function, params, shape = MODELS["unet"]
    captured = harness.capture(function, params(), shape, framework="jax", name="unet")
    assert captured.directions == (FPROP, DGRAD, WGRAD)
    assert captured.flop(FPROP) == sum(flops.nominal(layer.spec) * layer.count for layer in captured.layers)
    assert sum(layer.count for layer in captured.layers if layer.spec.transposed) == 4
    assert captured.left_out == ()
    with pytest.raises(CaptureError, match=r"^inputs: the function wants x; give the shape of each, as in \(8, 99, 99, 3\)$"):
        harness.capture(lambda x: x, framework="jax")


# The share of a step -----------------------------------------------------------------------------------------------------


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> list[timing.Watched]:
    """What two watched steps told, whatever they took."""
    told: list[timing.Watched] = []

    def measured(step: Callable[[], object], watched: Callable[[], timing.Watched]) -> Timing:
        step()
        told.extend([watched(), watched()])
        return Timing(10, 4, 2)

    monkeypatch.setattr(timing, "measured", measured)
    return told


def layers(p: list[Any], x: Any) -> Any:
    """A convolution of 3x3, one of 1x1, which XLA computes as a product, and a product that is none."""
    return jax.nn.relu(conv(jax.nn.relu(conv(x, p[0])), p[1])).mean((1, 2)) @ p[2]


LAYERS = [weights(3, 3, 8, 16), weights(1, 1, 16, 32), weights(32, 8)]


@pytest.mark.parametrize("gradients", [True, False])
def test_xla_s_profiler_tells_the_convolutions_of_a_step(watched: list[timing.Watched], gradients: bool) -> None:
    seen = see(layers, LAYERS, Input((4, 28, 28, 8)), gradients=gradients, timed=True)
    assert seen.timing == Timing(10, 4, 2), seen.notes
    for each in watched:
        assert each.step_ns is not None
        assert 0 < each.convolutions_ns < each.step_ns
        assert 0 <= each.shared_ns <= each.convolutions_ns
    assert see(layers, LAYERS, Input((4, 28, 28, 8))).timing is None


def told_of(function: Any, *inputs: Any) -> dict[str, int]:
    """The operations of a step that are told to be of a convolution, and how many there are of each."""
    found: dict[str, int] = {}
    original = timing.of_events

    def of_events(convolutions: Iterable[tuple[Event, bool]], span: Span) -> timing.Watched:
        told = list(convolutions)
        for event, _ in told:
            found[event.name] = found.get(event.name, 0) + 1
        return original(told, span)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(timing, "measured", lambda step, watched: Timing(10, watched().convolutions_ns, 1))
        patched.setattr(timing, "of_events", of_events)
        seen = see(function, *inputs, timed=True, gradients=False)
        assert seen.timing is not None, seen.notes
    return found


def test_every_round_of_a_loop_and_every_product_that_was_a_convolution_counts() -> None:
    def scanned(p: list[Any], x: Any) -> Any:
        return lax.scan(lambda x, _: (conv(x, p[0]), None), x, None, length=7)[0]

    found = told_of(scanned, [weights(3, 3, 8, 8)], Input((1, 14, 14, 8)))
    assert max(found.values()) == 7
    assert told_of(lambda p, x: conv(x, p[0]), [weights(1, 1, 8, 8)], Input((1, 14, 14, 8)))


def held(x: Any) -> Any:
    return conv(x, HELD)


HELD = jnp.ones((3, 3, 4, 4))


@pytest.mark.parametrize("function", [held, jax.jit(held), jax.jit(jax.jit(held)), lambda x: conv(jax.jit(jnp.abs)(x), HELD)])
def test_what_a_function_holds_is_trained_too(watched: list[timing.Watched], function: Any) -> None:
    seen = see(function, Input((1, 8, 8, 4)), timed=True)
    assert counts(seen) == {FPROP: 1, DGRAD: 0, WGRAD: 1}
    assert seen.timing is not None, seen.notes


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda x: conv(x, jnp.ones((1, 1, 4, 4))), "nothing that the function gives depends on an array that is trained"),
        (lambda x: conv(conv(x, HELD), jnp.ones((1, 1, 4, 4))), "a step has 4 convolutions, not 5: no gradient can be asked"),
        (lambda x: lax.while_loop(lambda x: x.sum() < 3, lambda x: conv(x, HELD), x), "Reverse-mode differentiation"),
    ],
)
def test_a_step_whose_gradients_cannot_be_had_has_no_share(function: Any, words: str) -> None:
    seen = see(function, Input((1, 8, 8, 4)), timed=True)
    assert seen.calls
    assert seen.timing is None
    (note,) = [note for note in seen.notes if "share" in note]
    assert note.startswith("the convolutions' share of a step is not known: ")
    assert words in note


def test_numbers_are_drawn_for_what_is_known_by_its_shape_alone() -> None:
    shapes = [weights(3, 3, 64, 8), jax.ShapeDtypeStruct((1000,), jnp.bfloat16), jax.ShapeDtypeStruct((2,), jnp.int32), 3.0]
    filters, data, whole, number = jax_timing.values(jax, shapes, [TRAINED, DATA, DATA, DATA])
    assert filters.std() == pytest.approx((2 / (3 * 3 * 64)) ** 0.5, rel=0.1)
    assert data.astype("float32").std() == pytest.approx(1, rel=0.1)
    assert (data.dtype, whole.tolist(), number) == (jnp.bfloat16, [0, 0], 3.0)


def test_fourier_transforms_by_which_a_convolution_may_be_computed_are_named() -> None:
    seen = see(lambda x: conv(jnp.fft.irfft2(jnp.fft.rfft2(x)), HELD), Input((1, 8, 4, 4)))
    assert "Fourier transforms were seen (fft x 2): a convolution that is computed by them is left out" in seen.notes
