import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from harness.spec import ConvSpec, TransposedSpec, parse_workload
from tests.convolutions import small_transposed


@st.composite
def convolutions(draw):
    """Any convolution with an output."""
    dims, groups = draw(st.integers(1, 3)), draw(st.integers(1, 12))

    def each(low, high):
        return tuple(draw(st.lists(st.integers(low, high), min_size=dims, max_size=dims)))

    sizes = {"spatial": each(1, 300), "kernel": each(1, 11), "stride": each(1, 4), "dilation": each(1, 3)}
    padding = tuple(zip(each(0, 12), each(0, 12), strict=True))
    try:
        return ConvSpec(
            n=draw(st.integers(1, 256)),
            c=groups * draw(st.integers(1, 99)),
            k=groups * draw(st.integers(1, 99)),
            padding=padding,
            groups=groups,
            **sizes,
        )
    except ValueError:
        assume(False)


@given(convolutions())
def test_parse_is_the_inverse_of_str(spec):
    assert ConvSpec.parse(str(spec)) == spec


def test_what_a_descriptor_leaves_out_is_trivial():
    plain = ConvSpec(1, 3, 64, (28, 28), (5, 5), (1, 1), (1, 1), ((0, 0), (0, 0)))
    assert str(plain) == "n1 c3 k64 28x28 f5x5"
    assert ConvSpec.parse("n1 c3 k64 28x28 f5x5") == plain
    full = ConvSpec(2, 4, 8, (9, 7, 5), (3, 3, 1), (2, 1, 1), (1, 2, 1), ((1, 1), (2, 1), (0, 0)), 4)
    assert str(full) == "n2 c4 k8 9x7x5 f3x3x1 s2x1x1 p1x2-1x0 d1x2x1 g4"
    assert ConvSpec.parse(str(full)) == full


@pytest.mark.parametrize(
    "text", ["", "n1 c3 k64", "n1 c3 k64 28x28 f5", "n1 c3 k64 28 f5 g2", "c3 n1 k64 28 f5", "n1 c3 k64 28 f5 "]
)
def test_other_text_is_no_convolution(text):
    with pytest.raises(ValueError, match=r"convolution|entries|groups"):
        ConvSpec.parse(text)


@given(small_transposed())
def test_the_text_of_a_transposed_convolution_and_its_sizes_make_it_again(spec):
    assert parse_workload(str(spec)) == spec == TransposedSpec.of(**spec.sizes)


def test_a_transposed_convolution_by_hand():
    """torch.nn.ConvTranspose2d(64, 32, 3, stride=2, padding=1, output_padding=1) on [1, 64, 14, 14] gives [1, 32, 28, 28]."""
    spec = parse_workload("transposed n1 c64 k32 14x14 f3x3 s2x2 p1x1 o1x1")
    assert spec.shapes(4) == ((1, 64, 14, 14), (64, 32, 3, 3), (1, 32, 28, 28))
    assert str(spec.mirrored) == "n1 c32 k64 28x28 f3x3 s2x2 p1x1"
    assert spec.multiply_adds == 64 * 32 * 9 * 14 * 14


def test_the_batch_and_the_size_of_a_transposed_convolution_are_swept():
    small, large = (parse_workload(f"transposed n{n} c4 k2 {size}x{size} f3x3 s2x2") for n, size in ((1, 8), (2, 9)))
    assert small.swept("batch")[0] != large.swept("batch")[0]
    assert parse_workload("transposed n2 c4 k2 8x8 f3x3 s2x2").swept("batch") == (small.swept("batch")[0], 2)
    assert parse_workload("transposed n1 c4 k2 9x9 f3x3 s2x2").swept("size") == (small.swept("size")[0], 9)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            "transposed n1 c4 k2 8x8 f3x3 s2x2 o2x0",
            "output_padding is [2, 0]; each entry must be at least 0 and below the stride",
        ),
        ("transposed n1 c4 k2 1x1 f3x3 p2x2", "no output is left"),
        ("transposed n1 c4 k3 8x8 f3x3 g2", "k is 3, which 2 groups do not divide"),
        ("transposed n1 c4 k2", "describes no transposed convolution"),
        ("n1 c4 k2 8x8 f3x3 s2x2 o1x1", "describes no convolution"),
    ],
)
def test_what_is_no_transposed_convolution(text, told):
    with pytest.raises(ValueError, match=re.escape(told)):
        parse_workload(text)
