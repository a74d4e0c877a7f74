"""Random convolutions: the same ones again, small ones only, and of every kind."""

import math
from collections import Counter
from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from harness import flops
from harness.spec import ConvSpec
from scripts import random_convolutions

EVERY_KIND = {
    "1-D", "2-D", "3-D", "batch of 1", "grouped", "depthwise", "depth multiplier", "strided", "strides differ",
    "stride over the filter", "dilated", "dilated filter of 1", "padded", "lopsided padding", "padding over the filter",
    "filter over the image", "even filter", "input left over", "size of 1", "output of 1", "one channel", "one filter",
}  # fmt: skip


@given(st.integers(0, 2**31), st.integers(0, 40), st.integers(0, 40))
def test_a_seed_gives_the_same_ones_again_and_more_of_them_begin_alike(seed: int, few: int, more: int) -> None:
    first, second = random_convolutions.specs(seed, few), random_convolutions.specs(seed, few + more)
    assert first == second[:few]
    assert len(second) == len(set(second)) == few + more


@given(st.integers(0, 2**31))
def test_each_can_be_checked_in_full(seed: int) -> None:
    for spec in random_convolutions.specs(seed, 20):
        assert flops.nominal(spec) <= 10_000_000
        assert max(math.prod(shape) for shape in (spec.x_shape, spec.w_shape, spec.y_shape)) <= 300_000


def test_the_numbers_are_those_of_every_version_of_python() -> None:
    assert [str(spec) for spec in random_convolutions.specs(0, 3)] == [
        "n5 c10 k35 20x1 f4x3 p0-1x2-0 g5",
        "n1 c48 k6 1x13 f7x7 p4x3 g2",
        "n1 c4 k12 16x23 f5x5 p2-3x4-1 g4",
    ]
    assert not set(random_convolutions.specs(0, 50)) & set(random_convolutions.specs(1, 50))


def test_300_of_them_are_of_every_kind_and_most_kinds_meet() -> None:
    found = random_convolutions.specs(0, 300)
    counts = Counter(name for spec in found for name in random_convolutions.traits(spec))
    assert set(counts) == EVERY_KIND
    assert min(counts.values()) >= 10, counts
    met = {frozenset(pair) for spec in found for pair in combinations(random_convolutions.traits(spec), 2)}
    crossed = {"1-D", "2-D", "3-D"}, {"grouped", "depthwise"}, {"dilated"}, {"strided"}, {"lopsided padding"}, {"size of 1"}
    for some, others in combinations(crossed, 2):
        assert {frozenset((one, other)) for one in some for other in others} <= met
    assert any(spec.c % 8 and spec.k % 8 for spec in found)
    assert {spec.n for spec in found} == {1, 2, 3, 5}


def traits(text: str) -> set[str]:
    return set(random_convolutions.traits(ConvSpec.parse(text)))


def test_traits_are_those_of_the_convolution() -> None:
    assert traits("n2 c3 k4 6x6 f3x3") == {"2-D"}
    assert traits("n1 c4 k8 9 f3 s2 g4") == {"1-D", "batch of 1", "depthwise", "depth multiplier", "strided"}
    assert traits("n2 c4 k4 8x9 f2x3 s1x2 g2") == {"2-D", "grouped", "strided", "strides differ", "even filter"}
    assert traits("n2 c4 k4 8 f3 s2") == {"1-D", "strided", "input left over"}
    assert traits("n2 c4 k4 9 f1 s2 d2") == {"1-D", "strided", "stride over the filter", "dilated filter of 1"}
    assert traits("n2 c4 k4 3x3x3 f3x3x3 p2-0x0x0 d2x1x1") == {
        "3-D", "dilated", "padded", "lopsided padding", "filter over the image", "output of 1",
    }  # fmt: skip
    assert traits("n2 c1 k1 1x5 f1x3 p1x0") == {
        "2-D", "padded", "padding over the filter", "size of 1", "one channel", "one filter",
    }  # fmt: skip
