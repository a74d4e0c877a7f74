from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.axes import Bias, Device, Direction, Epilogue, Mode, Optimizer, Precision
from harness.backends import numpy as reference
from harness.backends.base import ALREADY_DONE, Operands, Results, unsupported
from harness.backends.numpy import NumpyBackend
from harness.spec import Cell, ConvSpec, CopySpec, GemmSpec, TransposedSpec
from tests.builders import CONV, cell
from tests.convolutions import products, small_specs, small_transposed, transposed_products

SEEDS = st.integers(0, 2**32 - 1)


def integers(spec: ConvSpec, seed: int) -> Operands:
    rng = np.random.default_rng(seed)
    return Operands(*(rng.integers(-4, 5, shape).astype(np.float64) for shape in (spec.x_shape, spec.w_shape, spec.y_shape)))


@settings(deadline=None, max_examples=150)
@given(small_specs(), SEEDS)
def test_the_three_passes_are_their_definition_written_out(spec: ConvSpec, seed: int):
    given_ = integers(spec, seed)
    y, dx, dw = np.zeros(spec.y_shape), np.zeros(spec.x_shape), np.zeros(spec.w_shape)
    for at_x, at_w, at_y in products(spec):
        if at_x is not None:
            y[at_y] += given_.x[at_x] * given_.w[at_w]
            dx[at_x] += given_.dy[at_y] * given_.w[at_w]
            dw[at_w] += given_.dy[at_y] * given_.x[at_x]
    np.testing.assert_array_equal(reference.fprop(spec, given_.x, given_.w), y)
    np.testing.assert_array_equal(reference.dgrad(spec, given_.w, given_.dy), dx)
    np.testing.assert_array_equal(reference.wgrad(spec, given_.x, given_.dy), dw)


@settings(deadline=None, max_examples=150)
@given(small_transposed(), SEEDS)
def test_the_three_passes_of_a_transposed_convolution_are_their_definition_written_out(spec: TransposedSpec, seed: int):
    rng = np.random.default_rng(seed)
    x, w, dy = (rng.integers(-4, 5, shape).astype(np.float64) for shape in spec.shapes(8))
    y, dx, dw = np.zeros(dy.shape), np.zeros(x.shape), np.zeros(w.shape)
    for at_x, at_w, at_y in transposed_products(spec):
        if at_y is not None:
            y[at_y] += x[at_x] * w[at_w]
            dx[at_x] += dy[at_y] * w[at_w]
            dw[at_w] += dy[at_y] * x[at_x]
    forward, input_gradient, filter_gradient = reference.passes(spec)
    np.testing.assert_array_equal(forward(x, w), y)
    np.testing.assert_array_equal(input_gradient(w, dy), dx)
    np.testing.assert_array_equal(filter_gradient(x, dy), dw)


def conv(spatial: tuple[int, ...], kernel: tuple[int, ...], **others: Any) -> ConvSpec:
    dims = len(spatial)
    plain = {"n": 2, "c": 4, "k": 6, "stride": (1,) * dims, "dilation": (1,) * dims, "padding": ((0, 0),) * dims}
    return ConvSpec(spatial=spatial, kernel=kernel, **{**plain, **others})


@pytest.mark.parametrize(
    "spec",
    [
        conv((2,), (7,), padding=((4, 3),)),  # a filter larger than the input: some taps never meet it
        conv((1, 1), (1, 1)),
        conv((1, 5), (3, 2), padding=((2, 2), (0, 1)), stride=(2, 3)),
        conv((6, 5), (3, 3), dilation=(2, 1), padding=((0, 3), (2, 0)), groups=2),
        conv((4, 4), (3, 3), c=4, k=8, groups=4, padding=((1, 1), (1, 1))),
        conv((3, 4, 5), (2, 3, 1), stride=(1, 2, 2), padding=((1, 0), (0, 2), (0, 0)), groups=2),
        conv((3,), (1,), padding=((9, 9),), stride=(4,)),  # outputs that see nothing but padding
    ],
    ids=str,
)
def test_gradients_are_the_adjoints_of_the_forward_pass(spec: ConvSpec):
    """<conv(x, w), dy> = <x, dgrad(dy, w)> = <w, wgrad(x, dy)>, exactly on integers."""
    given_ = integers(spec, 3)
    forward = np.vdot(reference.fprop(spec, given_.x, given_.w), given_.dy)
    assert np.vdot(given_.x, reference.dgrad(spec, given_.w, given_.dy)) == forward
    assert np.vdot(given_.w, reference.wgrad(spec, given_.x, given_.dy)) == forward


def test_a_row_by_hand():
    line = ConvSpec(1, 1, 1, (4,), (3,), (1,), (1,), ((1, 0),))
    x, w, dy = (np.array([[values]], dtype=np.float64) for values in ([1, 2, 3, 4], [1, 10, 100], [1, 1, 1]))
    assert reference.fprop(line, x, w).tolist() == [[[210, 321, 432]]]
    assert reference.dgrad(line, w, dy).tolist() == [[[11, 111, 110, 100]]]
    assert reference.wgrad(line, x, dy).tolist() == [[[3, 6, 9]]]


def test_fewer_images_and_filters_than_the_spec_says_may_be_passed():
    spec = conv((5, 5), (3, 3), groups=2)
    given_ = integers(spec, 5)
    y = reference.fprop(spec, given_.x, given_.w)
    some = given_.w.reshape(2, 3, 2, 3, 3)[:, :1].reshape(2, 2, 3, 3)  # the first filter of each group
    np.testing.assert_array_equal(reference.fprop(spec, given_.x[:1], some), y[:1, [0, 3]])


# The backend -------------------------------------------------------------------------------------------------------------


def measured(of: Cell, operands: Operands, calls: int = 1) -> Results:
    prepared = NumpyBackend(Device("cpu"), 1).prepare(of, operands)
    for _ in range(calls):
        handle = prepared.launch()
        prepared.wait(handle)
    return prepared.fetch(handle)


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.FP64])
def test_bprop_is_the_loss_and_its_two_gradients(precision: Precision):
    given_ = integers(CONV, 1)
    found = measured(cell(direction=Direction.BPROP, precision=precision), given_)
    y = reference.fprop(CONV, given_.x, given_.w)
    np.testing.assert_array_equal(found.y, y)
    assert found.loss == pytest.approx(np.mean(y**2))
    np.testing.assert_allclose(found.dx, reference.dgrad(CONV, given_.w, 2 * y / y.size), rtol=1e-5)
    np.testing.assert_allclose(found.dw, reference.wgrad(CONV, given_.x, 2 * y / y.size), rtol=1e-5)
    assert found.w is None
    assert {array.dtype for array in (found.y, found.dx, found.dw)} == {np.dtype(np.float64)}


def test_the_gradients_of_bprop_are_the_slopes_of_its_loss():
    rng = np.random.default_rng(2)
    given_ = Operands(*(rng.standard_normal(shape) for shape in (CONV.x_shape, CONV.w_shape, CONV.y_shape)))
    found = measured(cell(direction=Direction.BPROP, precision=Precision.FP64), given_)

    def loss(x: np.ndarray, w: np.ndarray) -> float:
        return float(np.mean(reference.fprop(CONV, x, w) ** 2))

    step = 1e-6
    for index in np.ndindex(CONV.w_shape):
        there = np.zeros(CONV.w_shape)
        there[index] = step
        slope = (loss(given_.x, given_.w + there) - loss(given_.x, given_.w - there)) / (2 * step)
        assert found.dw[index] == pytest.approx(slope, rel=1e-5, abs=1e-8)


def test_sgd_steps_against_the_gradient_every_time():
    given_ = integers(CONV, 1)
    of = cell(direction=Direction.TRAIN, optimizer=Optimizer.SGD, precision=Precision.FP64)
    first, second = measured(of, given_), measured(of, given_, calls=2)
    np.testing.assert_allclose(first.w, given_.w - 0.01 * first.dw)
    np.testing.assert_allclose(second.w, first.w - 0.01 * second.dw)


def test_adam_is_its_paper():
    given_ = integers(CONV, 1)
    of = cell(direction=Direction.TRAIN, optimizer=Optimizer.ADAM, precision=Precision.FP64)
    w, m, v = given_.w, 0.0, 0.0
    for step in (1, 2, 3):
        found = measured(of, given_, calls=step)
        m, v = 0.9 * m + 0.1 * found.dw, 0.999 * v + 0.001 * found.dw**2
        w = w - 0.01 * (m / (1 - 0.9**step)) / (np.sqrt(v / (1 - 0.999**step)) + 1e-8)
        np.testing.assert_allclose(found.w, w, rtol=1e-12)


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.FP64])
def test_products_and_copies_go_to_the_same_place_every_time(precision: Precision):
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((2, 8)), rng.standard_normal((8, 4))
    for spec, operands, expected in (
        (GemmSpec(2, 4, 8), Operands(x, w, x[:0]), x @ w),
        (CopySpec(16 * precision.itemsize), Operands(x.reshape(-1), w[:0], x[:0]), x.reshape(-1)),
    ):
        asked = cell(spec=spec, direction=Direction.NONE, precision=precision, backend="numpy")
        prepared = NumpyBackend(Device("cpu"), 1).prepare(asked, operands)
        first = prepared.launch()
        assert first.dtype.itemsize == precision.itemsize
        np.testing.assert_allclose(prepared.fetch(first).y, expected, rtol=1e-5 if precision is Precision.FP32 else 1e-14)
        assert prepared.launch() is first
        assert not np.shares_memory(first, prepared._x)
        prepared.load(Operands(-operands.x, operands.w, operands.dy))
        np.testing.assert_allclose(prepared.fetch(prepared.launch()).y, -expected, rtol=1e-5)


@pytest.mark.parametrize(("spec", "direction"), [(CONV, Direction.FPROP), (GemmSpec(2, 4, 8), Direction.NONE)])
def test_a_call_is_done_when_it_returns_and_says_so(spec: ConvSpec | GemmSpec, direction: Direction):
    """Otherwise a wait of 0.1 to 0.8 us would be timed with it."""
    operands = integers(CONV, 1) if spec is CONV else Operands(np.ones((2, 8)), np.ones((8, 4)), np.ones(0))
    asked = cell(spec=spec, direction=direction, precision=Precision.FP64, backend="numpy")
    assert NumpyBackend(Device("cpu"), 1).prepare(asked, operands).wait is ALREADY_DONE


def test_reset_brings_back_the_first_filter_and_load_another():
    given_, other = integers(CONV, 1), integers(CONV, 2)
    of = cell(direction=Direction.TRAIN, optimizer=Optimizer.ADAM, precision=Precision.FP64)
    prepared = NumpyBackend(Device("cpu"), 1).prepare(of, given_)
    first = prepared.fetch(prepared.launch())
    assert not np.array_equal(prepared.fetch(prepared.launch()).w, first.w)
    prepared.reset()
    np.testing.assert_array_equal(prepared.fetch(prepared.launch()).w, first.w)
    prepared.load(other)
    np.testing.assert_array_equal(prepared.fetch(prepared.launch()).w, measured(of, other).w)


def biased(spec: ConvSpec, seed: int) -> Operands:
    given_ = integers(spec, seed)
    return replace(given_, b=np.random.default_rng(seed).integers(-4, 5, spec.k).astype(np.float64))


@pytest.mark.parametrize("epilogue", Epilogue)
def test_a_bias_is_added_to_every_position_of_its_channel_and_relu_takes_what_is_negative_for_0(epilogue: Epilogue):
    spec, given_ = conv((5, 4), (3, 3), groups=2), biased(conv((5, 4), (3, 3), groups=2), 4)
    found = measured(cell(spec=spec, precision=Precision.FP64, bias=Bias.CHANNEL, epilogue=epilogue), given_)
    plain = reference.fprop(spec, given_.x, given_.w)
    for n, k, *at in np.ndindex(spec.y_shape):
        y = plain[(n, k, *at)] + given_.b[k]
        assert found.y[(n, k, *at)] == (max(y, 0) if epilogue is Epilogue.RELU else y)
    assert (found.y == 0).sum() > 10 if epilogue is Epilogue.RELU else (found.y < 0).sum() > 10
    without = measured(cell(spec=spec, precision=Precision.FP64, epilogue=epilogue), replace(given_, b=None))
    np.testing.assert_array_equal(without.y, np.maximum(plain, 0) if epilogue is Epilogue.RELU else plain)


def test_the_gradient_of_a_bias_is_the_sum_of_dy_over_images_and_positions():
    spec, given_ = conv((5, 4), (3, 3)), biased(conv((5, 4), (3, 3)), 4)
    found = measured(cell(spec=spec, direction=Direction.WGRAD, precision=Precision.FP64, bias=Bias.CHANNEL), given_)
    summed = np.zeros(spec.k)
    for n, k, *at in np.ndindex(spec.y_shape):
        summed[k] += given_.dy[(n, k, *at)]
    np.testing.assert_array_equal(found.db, summed)
    np.testing.assert_array_equal(found.dw, reference.wgrad(spec, given_.x, given_.dy))


def test_the_gradient_of_a_bias_in_bprop_is_the_slope_of_the_loss():
    given_ = biased(CONV, 2)
    of = cell(direction=Direction.BPROP, precision=Precision.FP64, bias=Bias.CHANNEL)
    found, step = measured(of, given_), 1e-6
    for k in range(CONV.k):
        there = np.zeros(CONV.k)
        there[k] = step
        up, down = (measured(of, replace(given_, b=given_.b + sign * there)).loss for sign in (1, -1))
        assert found.db[k] == pytest.approx((up - down) / (2 * step), rel=1e-5, abs=1e-8)


@pytest.mark.parametrize("optimizer", Optimizer)
def test_an_optimizer_steps_the_bias_as_it_steps_the_filter(optimizer: Optimizer):
    given_ = biased(CONV, 1)
    of = cell(direction=Direction.TRAIN, optimizer=optimizer, precision=Precision.FP64, bias=Bias.CHANNEL)
    b, m, v = given_.b, 0.0, 0.0
    for step in (1, 2, 3):
        found = measured(of, given_, calls=step)
        m, v = 0.9 * m + 0.1 * found.db, 0.999 * v + 0.001 * found.db**2
        adam = (m / (1 - 0.9**step)) / (np.sqrt(v / (1 - 0.999**step)) + 1e-8)
        b = b - 0.01 * (adam if optimizer is Optimizer.ADAM else found.db)
        np.testing.assert_allclose(found.b, b, rtol=1e-12)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, None),
        ({"precision": Precision.FP64}, None),
        ({"precision": Precision.BF16}, "numpy has no bf16 arithmetic"),
        ({"precision": Precision.TF32}, "TF32 is a format of NVIDIA GPUs; the CPU has none"),
        ({"mode": Mode.COMPILED}, "numpy has no mode compiled"),
        ({"device": Device("gpu")}, "numpy computes on the CPU only"),
        ({"bias": Bias.CHANNEL}, None),
        (
            {"bias": Bias.CHANNEL, "direction": Direction.DGRAD},
            "a bias changes nothing in the input gradient: measure dgrad with bias=none",
        ),
        ({"epilogue": Epilogue.RELU}, None),
        (
            {"epilogue": Epilogue.RELU, "direction": Direction.BPROP},
            "an epilogue belongs to the forward pass: bprop can be measured with epilogue=none only",
        ),
    ],
)
def test_what_numpy_cannot_do_it_says(changes: dict[str, Any], reason: str | None):
    assert unsupported(NumpyBackend(Device("cpu"), 1), cell(**changes)) == reason
