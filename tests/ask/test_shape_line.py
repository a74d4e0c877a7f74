"""One convolution on one line, in each of the forms that people paste."""

from pathlib import Path

import pytest

from harness.ask import suite as suites
from harness.ask.selection import Selection, narrow
from harness.axes import Layout
from harness.errors import SelectionError

FORMS = [
    # convbench's own words, in any order; one number is of all dimensions
    ("n32 c64 k64 56x56 f3x3 s1 p1", "n32 c64 k64 56x56 f3x3 p1x1"),
    ("transposed n1 c64 k32 14x14 f3x3 s2 p1 o1", "transposed n1 c64 k32 14x14 f3x3 s2x2 p1x1 o1x1"),
    ("56x56 f3 k64 c32 n8 g4 d2 p0-1x2-1 s2x1", "n8 c32 k64 56x56 f3x3 s2x1 p0-1x2-1 d2x2 g4"),
    ("n1  c3 k8 100 f5 p2", "n1 c3 k8 100 f5 p2"),
    ("n1 c3 k8 4x5x6 f1x2x3", "n1 c3 k8 4x5x6 f1x2x3"),
    # benchdnn's: square where the width is left out, two images, dilation counted from 0
    ("mb32ic64ih56oc64oh56kh3ph1", "n32 c64 k64 56x56 f3x3 p1x1"),
    ("g4mb8_ic32ih14iw7_oc64oh14ow7_kh3kw1_ph1pw0_dh0", "n8 c32 k64 14x7 f3x1 p1x0 g4"),
    ('ic3ih224oc64oh112kh7sh2ph3n"resnet_50:conv1"', "n2 c3 k64 224x224 f7x7 s2x2 p3x3"),
    ("mb1ic3ih224oc64oh112kh7sh2", "n1 c3 k64 224x224 f7x7 s2x2 p2-3x2-3"),  # the output says the padding
    ("mb1ic3ih224oc64oh113kh7sh2ph3", "n1 c3 k64 224x224 f7x7 s2x2 p3-4x3-4"),
    ("mb1ic16ih32oc16kh3ph2dh1", "n1 c16 k16 32x32 f3x3 p2x2 d2x2"),
    ("mb1ic16iw100oc8kw5", "n1 c16 k8 100 f5"),
    ("mb1ic4ih14iw7oc4oh14ow7kh3kw1ph1", "n1 c4 k4 14x7 f3x1 p1x0"),  # of the width its own sizes say the padding
    ("mb1ic16id8oc8kd3pd1", "n1 c16 k8 8x8x8 f3x3x3 p1x1x1"),
    ("mb1ic8ih8oc8oh4kh1sh2", "n1 c8 k8 8x8 f1x1 s2x2"),
    # a call of PyTorch
    ("F.conv2d(x[32, 64, 56, 56], w[64, 64, 3, 3], stride=1, padding=1)", "n32 c64 k64 56x56 f3x3 p1x1"),
    ("F.conv2d(torch.randn(8, 4, 9, 9), torch.zeros(6, 2, 3, 3), None, (2, 1), (1, 0), 1, 2)",
     "n8 c4 k6 9x9 f3x3 s2x1 p1x0 g2"),
    ("torch.nn.functional.conv1d((1, 2, 30), [4, 2, 3], padding='same', dilation=2)", "n1 c2 k4 30 f3 p2 d2"),
    ("F.conv3d(torch.ones((1, 2, 4, 4, 4)), torch.Size([3, 2, 2, 2, 2]), padding='valid')", "n1 c2 k3 4x4x4 f2x2x2"),
    # a call of JAX, channels first where it does not say otherwise
    ("lax.conv_general_dilated(f32[2,3,8,8], f32[4,3,3,3], (1, 1), 'SAME')", "n2 c3 k4 8x8 f3x3 p1x1"),
    (
        "jax.lax.conv_general_dilated(jnp.ones((2, 9, 8, 6)), jnp.ones((3, 5, 2, 6)), window_strides=(2, 1), "
        "padding=((1, 0), (2, 2)), rhs_dilation=(1, 1), dimension_numbers=('NHWC', 'HWIO', 'NHWC'), feature_group_count=3)",
        "n2 c6 k6 9x8 f3x5 s2x1 p1-0x2 g3",
    ),
    # a call of TensorFlow, channels last where it does not say otherwise
    ("tf.nn.conv2d(x[2, 9, 8, 6], w[3, 5, 3, 4], strides=[1, 2, 1, 1], padding='VALID')", "n2 c6 k4 9x8 f3x5 s2x1 g2"),
    ("tf.nn.conv2d((2, 6, 9, 8), (3, 3, 6, 4), 1, [[0, 0], [0, 0], [1, 0], [2, 2]], 'NCHW', [2, 1])",
     "n2 c6 k4 9x8 f3x3 p1-0x2 d2x1"),
    ("tf.nn.conv3d(tf.zeros((1, 4, 4, 4, 2)), tf.zeros([3, 3, 3, 2, 5]), (1, 1, 1, 1, 1), 'SAME')",
     "n1 c2 k5 4x4x4 f3x3x3 p1x1x1"),
    ("lax.conv_general_dilated(x[5, 7, 2], w[3, 2, 4], (1,), 'VALID', None, None, ('NWC', 'WIO', 'NWC'))", "n5 c2 k4 7 f3"),
]  # fmt: skip


BIAS = "allowed: None, since a bias is an axis: -a bias=channel"


@pytest.mark.parametrize(("line", "shape"), FORMS)
def test_a_line_is_the_convolution_that_it_says(line: str, shape: str) -> None:
    (workload,) = suites.of_lines([line]).workloads
    assert str(workload.spec) == shape
    assert workload.name == shape.replace(" ", "_")


def test_several_lines_are_one_suite_and_a_shape_that_stands_there_twice_is_measured_once() -> None:
    lines = ["n1 c1 k1 8x8 f3x3", "mb1ic1ih8oc1kh3", "n1 c1 k1 8x8 f1x1"]
    suite = suites.of_lines(lines)
    assert [str(workload.spec) for workload in suite.workloads] == ["n1 c1 k1 8x8 f3x3", "n1 c1 k1 8x8 f1x1"]
    assert (suite.name, suite.stated, suite.path) == ("conv", frozenset(), Path("conv"))
    assert suite.sha256 == suites.of_lines(lines[1:]).sha256 != suites.of_lines(lines[:1]).sha256


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("", ["found 0 characters", "n32 c64 k64"]),
        ("x" * 1001, ["found 1001 characters"]),
        ("resnet50", ["is no convolution that can be read", "mb32ic64ih56oc64oh56kh3ph1"]),
        ("n32 c64 56x56 f3x3", ["k is missing", "k32"]),
        ("n32 c64 k64 f3x3 p1", ["spatial is missing", "56x56"]),
        ("n32 c64 k64 56x56 f3x3 q1", ['found "q1"']),
        ("n1 c99999999999 k8 8x8 f3", ['found "c99999999999"', "whole numbers below 2^31"]),
        ("n1 c1 k8 8x8 f3 p20000000000", ['found "p20000000000"', "whole numbers below 2^31"]),
        ("n1 c1 k8 8x2147483648 f3", ['found "8x2147483648"', "whole numbers below 2^31"]),
        ("n2147483647 c1 k1 1x1 f1 c2", ['found "c2" after another c']),
        ("mb1ic99999999999ih8oc1kh3", ['found "ic99999999999"', "whole numbers below 2^31"]),
        ("F.conv2d(x[1, 2147483648, 3, 3], w[1, 2, 3, 3])", ["x: found 2147483648", "whole numbers below 2^31"]),
        ("n32 c64 k64 56x56 f3x3 o1", ["output_padding: found [1, 1] without transposed"]),
        ("n32 n16 c64 k64 56x56 f3x3", ['found "n16" after another n', "once"]),
        ("n32x2 c64 k64 56x56 f3x3", ['found "n32x2"', "one number for n"]),
        ("n32 c64 k64 56x56 f3-1", ['found "f3-1"', "sizes"]),
        ("n32 c64 k64 56x56 f3x3 p1-2-3", ['found "p1-2-3"', "p0-1x2-1"]),
        ("n32 c64 k64 56x56 f3x3 s1x1x1", ["stride has 3 entries, spatial has 2"]),
        ("n32 c64 k64 5x5 f7x7", ["no output is left"]),
        ("n32 c64 k64 999999999x999999999 f1", ["allowed: 2^40"]),
        ("mb32ih56oc64kh3", ["ic is missing"]),
        ("mb32ic64oc64oh56kh3", ["ih is missing"]),
        ("mb32ic64iw56oc64kh3", ["ih is missing"]),
        ("mb32ic64ih56oc64kh3pw1", ["iw is missing"]),
        ("mb32ic64ic64ih56oc64kh3", ["found ic twice"]),
        ("mb32ic64ih56oc64oh54kh3ph1", ["oh54: no padding gives so many outputs of ih56, kh3 and sh1 and ph1"]),
        ("mb32ic64ih56oc64oh50kh3", ["oh50: no padding gives so many outputs"]),
        ("conv2d(x[1, 2, 3, 3], w[1, 2, 3, 3])", ['a call of "conv2d"', "F.conv2d"]),
        ("F.conv2d(x[1, 2, 3, 3],", ["is no call that can be read"]),
        ("F.conv2d(x[1, 2, 3, 3])", ["found 1 arguments", "for x and for w"]),
        ("F.conv2d(x, w[1, 2, 3, 3])", ['x: found "x"', "torch.randn(8, 3, 224, 224)"]),
        ("F.conv2d(x[1, 2, h, 3], w[1, 2, 3, 3])", ["x: found"]),
        ("F.conv2d(x[1, 2, True, 3], w[1, 2, 3, 3])", ["x: found"]),
        ("F.conv1d(x[1, 2, 3, 3], w[1, 2, 3, 3])", ["found 4 sizes of x and 4 of w", "3 sizes of each"]),
        ("F.conv2d(x[1, 2, 3, 3], w[1, 3, 3, 3])", ["x has 2 channels and w 3 of a group", "groups=1"]),
        ("F.conv2d(x[1, 2, 3, 3], w[1, 2, 3, 3], strid=2)", ['found "strid"', 'did you mean "stride"']),
        ("F.conv2d(x[1, 2, 3, 3], w[1, 2, 3, 3], None, 2, stride=2)", ["found stride twice"]),
        ("F.conv2d(x[1, 2, 3, 3], w[1, 2, 3, 3], bias=(1, 2))", ['bias: found "(1, 2)"', BIAS]),
        ("F.conv2d(x[1, 3, 8, 8], w[8, 3, 3, 3], b[8], 1, 1)", ['bias: found "b[8]"', BIAS]),
        ("F.conv2d(x[1, 3, 8, 8], w[8, 3, 3, 3], bias=b)", ['bias: found "b"', BIAS]),
        ("F.conv2d(x[1, 3, 8, 8], w[8, 3, 3, 3], bias=torch.zeros(8), padding=1)", ['bias: found "torch.zeros(8)"', BIAS]),
        ("F.conv2d(x[1, 3, 8, 8], w[8, 3, 3, 3], 3)", ['bias: found "3"', BIAS]),
        ("F.conv2d(x[1, 3, 8, 8], w[8, 3, 3, 3], bias=False)", ['bias: found "False"', BIAS]),
        ("F.conv2d(x[1, 2, 3, 3], w[1, 2, 3, 3], stride=s)", ['stride: found "s"']),
        ("F.conv2d(x[1, 2, 3, 3], w[1, 2, 3, 3], stride=1.5)", ["stride: found 1.5", "whole numbers"]),
        ("F.conv2d(x[1, 2, 3, 3], w[1, 2, 3, 3], stride=2, padding='same')", ["which PyTorch refuses"]),
        ("F.conv2d(x[1, 2, 3, 3], w[1, 2, 3, 3], None, 1, 0, 1, 1, 1)", ["found 8 arguments without a name"]),
        ("F.conv2d(x[1, 2, 3, 3], w[1, 2, 3, 3], **rest)", ['found "**"']),
        ("lax.conv_general_dilated(x[1, 2, 3, 3], w[1, 2, 3, 3], (1, 1))", ["padding is missing"]),
        ("lax.conv_general_dilated(x[1, 2, 3, 3], w[1, 2, 3, 3], (1, 1), 'SAM')", ['found "SAM"', '"SAME"']),
        ("lax.conv_general_dilated(x[1, 2, 3, 3], w[1, 2, 3, 3], (1, 1), ((1, 1),))", ["(low, high) for each of 2 dimensions"]),
        ("lax.conv_general_dilated(x[1, 2, 3, 3], w[1, 2, 3, 3], (1, 1), 'SAME', (2, 2))", ["lhs_dilation", "another"]),
        (
            "lax.conv_general_dilated(x[1, 2, 3, 3], w[1, 2, 3, 3], (1, 1), 'SAME', dimension_numbers=('NHWC', 'OIHW'))",
            ["three texts"],
        ),
        (
            "lax.conv_general_dilated(x[1, 2, 3, 3], w[1, 2, 3, 3], (1, 1), 'SAME', dimension_numbers=('NHHC', 'OIHW', ''))",
            ['found "NHHC"', "4 different letters, N and C among them"],
        ),
        (
            "lax.conv_general_dilated(x[1, 2, 3, 3], w[1, 2, 3, 3], (1, 1), 'SAME', dimension_numbers=('NCXY', 'OIHW', ''))",
            ["the same spatial letters"],
        ),
        ("tf.nn.conv2d(x[1, 3, 3, 2], w[3, 3, 2, 1])", ["strides is missing", "tf.nn.conv2d(x, w, strides"]),
        ("tf.nn.conv2d(x[1, 3, 3, 2], w[3, 3, 2, 1], (2, 1, 1, 1), 'SAME')", ["found [2, 1, 1, 1]", "2 sizes, or 4 with 1"]),
        ("tf.nn.conv2d(x[1, 3, 3, 2], w[3, 3, 3, 1], 1, 'SAME')", ["x has 2 channels and w 3 of a group"]),
        ("tf.nn.conv2d(x[1, 3, 3, 2], w[3, 3, 2, 1], 1, ((1, 1), (1, 1)))", ["(low, high) for each of 4 dimensions"]),
        ("tf.nn.conv2d(x[1, 3, 3, 2], w[3, 3, 2, 1], 1, ((0, 1), (1, 1), (1, 1), (0, 0)))", ["none of images and channels"]),
        ("tf.nn.conv2d(x[1, 3, 3, 2], w[3, 3, 2, 1], 1, 'SAME', 'NHW')", ['data_format: found "NHW"']),
        ("tf.nn.conv2d(x[1, 3, 3, 2], w[3, 3, 2, 1], 1, 'SAME', 3)", ["data_format: found 3"]),
        ("tf.nn.conv1d(x[1, 3, 2], w[3, 2, 1], 1, 'SAME')", ['a call of "tf.nn.conv1d"']),
        ("F.conv2d" + "(" * 500, ["allowed"]),
        ("f" + ".f" * 400 + "()", ["allowed"]),
    ],
)  # fmt: skip
def test_any_other_line_is_refused_in_one_line(line: str, words: list[str]) -> None:
    with pytest.raises(SelectionError, match=r"^--conv: ") as caught:
        suites.of_lines(["n1 c1 k1 8x8 f3x3", line])
    said = str(caught.value)
    assert "\n" not in said
    assert [word for word in words if word not in said] == [], said


CONV1D = "F.conv1d(x[1, 2, 30], w[4, 2, 3])"


@pytest.mark.parametrize(
    ("lines", "layout"),
    [
        ([CONV1D], Layout.CHANNELS_FIRST),
        ([CONV1D, " torch.nn.functional.conv1d((1, 2, 9), (4, 2, 3)) "], Layout.CHANNELS_FIRST),
        (["F.conv2d(x[1, 2, 9, 9], w[4, 2, 3, 3])"], Layout.CHANNELS_LAST),
        (["n1 c2 k4 30 f3"], Layout.CHANNELS_LAST),
        ([CONV1D, "n1 c2 k4 30x30 f3"], Layout.CHANNELS_LAST),
    ],
)
def test_what_pytorch_has_with_channels_first_alone_is_measured_so(lines: list[str], layout: Layout) -> None:
    suite = suites.of_lines(lines)
    assert suite.axes.layout == (layout,)
    other = narrow(suite, Selection(axes={"layout": ["NWC", "NCW"]}))
    assert other.axes.layout == (Layout.CHANNELS_LAST, Layout.CHANNELS_FIRST)


def test_nothing_in_a_line_is_evaluated(tmp_path: Path) -> None:
    line = f"F.conv2d(x[1, 2, 3, 3], w[1, 2, 3, 3], stride=open({str(tmp_path / 'made')!r}, 'w'))"
    with pytest.raises(SelectionError, match="stride: found"):
        suites.of_lines([line])
    assert list(tmp_path.iterdir()) == []


def test_an_unpadded_convolution_is_bounded_as_any_other() -> None:
    with pytest.raises(SelectionError, match="allowed: 2\\^40"):
        suites.of_lines(["F.conv2d(x[99999, 9, 9999, 9999], w[1, 9, 1, 1], padding='valid')"])
