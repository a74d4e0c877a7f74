import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from harness.spec import ConvSpec


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
