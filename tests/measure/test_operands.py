"""The operands of a cell: shapes, what the device will hold of them, and integers whose sums are exact."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.axes import Bias, Direction, Precision, Values
from harness.measure.operands import SMALLEST, draw, integer_operands, normal_operands, rounded
from harness.spec import ConvSpec
from tests import builders
from tests.measure.test_oracle import RESULT, SINGLE, SPECS, answer, cell, rng


def test_reduction_lengths_by_hand() -> None:
    spec = ConvSpec.parse("n5 c4 k6 7x8 f3x2 g2")  # y is 5x7
    assert spec.out_spatial == (5, 7)
    assert spec.products(Direction.FPROP) == 2 * 3 * 2
    assert spec.products(Direction.DGRAD) == 3 * 3 * 2
    assert spec.products(Direction.WGRAD) == 5 * 5 * 7


@pytest.mark.parametrize(("precision", "limit"), [(Precision.BF16, 2**8), (Precision.FP16, 2**11), (Precision.FP32, 2**24)])
@pytest.mark.parametrize("direction", SINGLE)
@pytest.mark.parametrize("spec", ["n8 c64 k64 14x14 f3x3 p1x1", "n16 c8 k8 32x32 f1x1", SPECS["depthwise"]])
def test_integer_results_stay_where_every_integer_is_exact(
    spec: str, direction: Direction, precision: Precision, limit: int
) -> None:
    asked = cell(spec, direction, precision)
    operands = integer_operands(asked, rng())
    for array in (operands.x, operands.w, operands.dy):
        assert np.array_equal(array, np.round(array))
        assert np.abs(array).max() <= 4
    result = getattr(answer(replace(asked, precision=Precision.FP64), operands), RESULT[direction])
    assert np.abs(result).max() <= limit
    assert np.array_equal(rounded(result.astype(np.float32), precision), result)
    assert np.count_nonzero(result) > result.size / 2  # thinned, and still something to compare


def test_a_tiny_filter_is_not_thinned_away_by_the_length_of_another_direction() -> None:
    asked = cell("n32 c1 k1 64x64 f3x3 p1x1", Direction.FPROP, Precision.BF16)
    operands = integer_operands(asked, rng())
    assert np.count_nonzero(operands.w) > 4


def test_long_sums_are_thinned_and_short_ones_are_not() -> None:
    def density(spec: str, precision: Precision) -> float:
        x = integer_operands(cell(spec, Direction.WGRAD, precision), rng()).x
        return np.count_nonzero(x) / x.size

    long = "n16 c8 k8 32x32 f1x1"  # 16384 products
    assert density(long, Precision.FP32) == pytest.approx(8 / 9, abs=0.02)
    assert density(long, Precision.BF16) == pytest.approx(8 / 9 * 256 / (8 * 128 * 20 / 3), rel=0.1)


def test_operands_come_from_their_generator_alone() -> None:
    asked = cell(SPECS["plain"])
    for drawn in (normal_operands, integer_operands):
        same, again, other = drawn(asked, rng(3)), drawn(asked, rng(3)), drawn(asked, rng(4))
        assert np.array_equal(same.x, again.x)
        assert not np.array_equal(same.x, other.x)


@pytest.mark.parametrize("precision", list(Precision))
def test_normal_operands_are_what_the_device_will_hold(precision: Precision) -> None:
    asked = cell(SPECS["plain"], precision=precision)
    operands = normal_operands(asked, rng())
    assert (operands.x.shape, operands.w.shape, operands.dy.shape) == (
        asked.spec.x_shape,
        asked.spec.w_shape,
        asked.spec.y_shape,
    )
    for array in (operands.x, operands.w, operands.dy):
        assert array.dtype == (np.float64 if precision is Precision.FP64 else np.float32)
        assert np.array_equal(rounded(array, precision), array)
        assert 0.5 < array.std() < 1.5


def slowly_rounded(value: float, digits: int, least_exponent: int) -> float:
    """To `digits` binary digits, ties to even, in Python's own arithmetic; `least_exponent` is that of the smallest step."""
    _, exponent = math.frexp(value)
    step = max(exponent - digits, least_exponent)
    return math.ldexp(round(math.ldexp(value, -step)), step)


def floats(largest: float) -> st.SearchStrategy[float]:
    return st.floats(-largest, largest, width=32, allow_subnormal=False)


TIES = (1 + 2**-8, 1 + 3 * 2**-8, 1 + 2**-11, 1 + 3 * 2**-11, 255.5, -1 - 2**-8, 2**-24, 3 * 2**-25)


@given(floats(2.0**126) | st.sampled_from(TIES))
def test_bf16_is_rounded_as_by_hand(value: float) -> None:
    short = rounded(np.array([value], dtype=np.float32), Precision.BF16)
    assert short.dtype == np.float32
    assert short[0] == slowly_rounded(value, 8, -133)


@given(floats(65504) | st.sampled_from(TIES))
def test_fp16_is_rounded_as_by_hand(value: float) -> None:
    short = rounded(np.array([value], dtype=np.float32), Precision.FP16)
    assert short.dtype == np.float32
    assert short[0] == slowly_rounded(value, 11, -24)


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.TF32, Precision.FP64])
def test_the_other_formats_are_not_rounded(precision: Precision) -> None:
    array = rng().standard_normal(100).astype(np.float32)
    assert np.array_equal(rounded(array, precision), array)


@pytest.mark.parametrize("precision", [Precision.FP64, Precision.FP32, Precision.BF16, Precision.FP16])
def test_operands_hold_what_the_axis_says(precision: Precision) -> None:
    spec = ConvSpec.parse("n2 c8 k8 9x9 f3x3 p1x1")
    made = {values: draw(builders.cell(spec=spec, precision=precision, operands=values), 3)[0] for values in Values}
    normal, denormal, sparse = made[Values.NORMAL], made[Values.DENORMAL], made[Values.SPARSE]
    assert not made[Values.ZEROS].x.any()
    assert (made[Values.ONES].w == 1).all()
    np.testing.assert_array_equal(denormal.x, normal.x)
    for array in (denormal.w, denormal.dy):
        assert np.count_nonzero(array) > 0.5 * array.size
        assert np.mean(np.abs(array) < SMALLEST[precision]) > 0.99
    assert 0.05 < np.count_nonzero(sparse.x) / sparse.x.size < 0.15
    assert {array.dtype for each in made.values() for array in (each.x, each.w, each.dy)} == {normal.x.dtype}
    assert {each.b for each in made.values()} == {None}


@pytest.mark.parametrize("values", Values)
def test_a_bias_is_drawn_behind_the_others_and_changes_none_of_them(values: Values) -> None:
    spec = ConvSpec.parse("n2 c4 k32 9x9 f3x3 p1x1")
    plain = builders.cell(spec=spec, precision=Precision.BF16, operands=values)
    (without, _), (drawn, _) = (draw(each, 3) for each in (plain, replace(plain, bias=Bias.CHANNEL)))
    for name in ("x", "w", "dy"):
        np.testing.assert_array_equal(getattr(without, name), getattr(drawn, name))
    assert drawn.b.shape == (32,)
    assert drawn.b.dtype == drawn.w.dtype
    np.testing.assert_array_equal(rounded(drawn.b, Precision.BF16), drawn.b)
    smallest = SMALLEST[Precision.BF16]
    held = {
        Values.NORMAL: 0.5 < drawn.b.std() < 1.5, Values.ZEROS: not drawn.b.any(), Values.ONES: (drawn.b == 1).all(),
        Values.DENORMAL: drawn.b.any() and (np.abs(drawn.b) < smallest).all(), Values.SPARSE: np.count_nonzero(drawn.b) < 12,
    }  # fmt: skip
    assert held[values]


def test_a_bias_of_the_exact_check_is_one_of_small_integers() -> None:
    asked = replace(cell("n2 c4 k32 9x9 f3x3 p1x1"), bias=Bias.CHANNEL)
    b = integer_operands(asked, rng()).b
    assert b.shape == (32,)
    assert np.array_equal(b, np.round(b))
    assert 0 < np.abs(b).max() <= 4


def test_values_change_neither_the_draw_nor_what_is_checked() -> None:
    plain, zeros = (draw(builders.cell(operands=values), 3)[1] for values in (Values.NORMAL, Values.ZEROS))
    assert plain.random() == zeros.random()
