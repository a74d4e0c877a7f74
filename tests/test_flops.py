import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness import flops
from harness.axes import Bias, Direction, Optimizer, Precision
from harness.spec import CopySpec, GemmSpec
from tests.builders import CONV, cell
from tests.convolutions import products, small_specs, small_transposed, transposed_products

X, W, Y, B = 16, 18, 32, 2  # elements of CONV's arrays: x [1, 1, 4, 4], w [2, 1, 3, 3], y [1, 2, 4, 4], b [2]


@settings(deadline=None)
@given(small_specs())
def test_flop_are_two_for_every_multiplication_of_the_definition(spec):
    every = list(products(spec))
    assert flops.nominal(spec) == 2 * len(every)
    assert flops.exact(spec) == 2 * sum(x is not None for x, _, _ in every)


@settings(deadline=None)
@given(small_transposed())
def test_flop_of_a_transposed_convolution_are_those_of_its_definition_and_of_the_mirrored_one(spec):
    every = list(transposed_products(spec))
    assert flops.nominal(spec) == 2 * len(every) == flops.nominal(spec.mirrored)
    assert flops.exact(spec) == 2 * sum(y is not None for _, _, y in every) == flops.exact(spec.mirrored)


def test_flop_by_hand():
    assert flops.nominal(CONV) == 2 * 2 * 16 * 9
    assert flops.exact(CONV) == 2 * 2 * 10 * 10


def test_bprop_and_train_stand_for_three_passes():
    assert {direction: direction.passes for direction in Direction} == {
        Direction.FPROP: 1, Direction.DGRAD: 1, Direction.WGRAD: 1, Direction.BPROP: 3, Direction.TRAIN: 3,
        Direction.NONE: 1,
    }  # fmt: skip


@pytest.mark.parametrize("precision", Precision)
def test_products_and_copies_by_hand(precision):
    product, move = (
        cell(spec=spec, direction=Direction.NONE, precision=precision) for spec in (GemmSpec(2, 3, 4), CopySpec(64))
    )
    assert (flops.nominal(product.spec), flops.exact(product.spec)) == (48, 48)
    assert (flops.nominal(move.spec), flops.exact(move.spec)) == (0, 0)
    assert flops.result_bytes(product) == 6 * precision.itemsize
    assert flops.least_bytes(product) == (8 + 12 + 6) * precision.itemsize
    assert (flops.result_bytes(move), flops.least_bytes(move)) == (64, 128)


@pytest.mark.parametrize(
    ("direction", "optimizer", "read", "written"),
    [
        (Direction.FPROP, None, X + W, Y),
        (Direction.DGRAD, None, Y + W, X),
        (Direction.WGRAD, None, X + Y, W),
        (Direction.BPROP, None, X + W, Y + X + W),
        (Direction.TRAIN, Optimizer.SGD, X + W, Y + X + W + W),
        (Direction.TRAIN, Optimizer.ADAM, X + W + 2 * W, Y + X + W + W + 2 * W),
    ],
)
@pytest.mark.parametrize("precision", Precision)
def test_bytes_by_hand(direction, optimizer, read, written, precision):
    one = cell(direction=direction, optimizer=optimizer, precision=precision)
    assert flops.result_bytes(one) == written * precision.itemsize
    assert flops.least_bytes(one) == (read + written) * precision.itemsize


@pytest.mark.parametrize(
    ("direction", "optimizer", "read", "written"),
    [
        (Direction.FPROP, None, X + W + B, Y),
        (Direction.WGRAD, None, X + Y, W + B),
        (Direction.BPROP, None, X + W + B, Y + X + W + B),
        (Direction.TRAIN, Optimizer.SGD, X + W + B, Y + X + 2 * (W + B)),
        (Direction.TRAIN, Optimizer.ADAM, X + 3 * (W + B), Y + X + 4 * (W + B)),
    ],
)
def test_bytes_of_a_bias_count_and_its_flop_do_not(direction, optimizer, read, written):
    one = cell(direction=direction, optimizer=optimizer, bias=Bias.CHANNEL)
    assert flops.result_bytes(one) == written * 4
    assert flops.least_bytes(one) == (read + written) * 4
    assert flops.nominal(one.spec) == flops.nominal(cell(direction=direction, optimizer=optimizer).spec)


@settings(deadline=None)
@given(small_specs(), st.sampled_from([Direction.FPROP, Direction.DGRAD, Direction.WGRAD]))
def test_a_single_pass_touches_each_array_once(spec, direction):
    elements = sum(map(math.prod, (spec.x_shape, spec.w_shape, spec.y_shape)))
    assert flops.least_bytes(cell(spec=spec, direction=direction)) == 4 * elements
