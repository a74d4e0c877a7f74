"""How TensorFlow is told a convolution; without TensorFlow."""

import numpy as np
import pytest

from harness.backends.tensorflow_geometry import Geometry, depthwise, lacks_depthwise, padding, smallest
from harness.spec import ConvSpec, Direction, Layout
from tests.builders import cell

SPECS = (
    "n2 c3 k4 8x9 f3x3 p1x1", "n2 c3 k4 8x7 f3x3 s2x2 p0-1x2-1", "n2 c4 k8 8x8 f3x3 p1x1 g4", "n2 c4 k6 8x8 f3x3 g2",
    "n2 c3 k4 12 f3 p1", "n2 c4 k8 12 f3 p1 g4", "n2 c3 k4 5x6x7 f3x3x3 p1x1x1", "n2 c3 k4 5x6x7 f3x3x3 s2x2x2 p1x1x1",
)  # fmt: skip


def geometry(text: str, layout: Layout) -> Geometry:
    return Geometry(cell(spec=ConvSpec.parse(text), direction=Direction.BPROP, layout=layout))


@pytest.mark.parametrize("layout", Layout)
@pytest.mark.parametrize("text", SPECS)
def test_arrays_come_back_as_they_went(text: str, layout: Layout) -> None:
    told = geometry(text, layout)
    arrays = {name: np.random.default_rng(0).random(shape) for name, shape in (
        ("y", told.spec.y_shape), ("dx", told.spec.x_shape), ("w", told.spec.w_shape)
    )}  # fmt: skip
    x = told.activations(arrays["dx"])
    if told.prepadded:
        x = np.pad(x, told.pads)
    assert np.array_equal(told.canonical("dx", x), arrays["dx"])
    assert np.array_equal(told.canonical("y", told.activations(arrays["y"])), arrays["y"])
    for name in ("w", "dw"):
        assert np.array_equal(told.canonical(name, told.filter(arrays["w"])), arrays["w"])


@pytest.mark.parametrize(
    ("text", "layout", "arguments"),
    [
        (SPECS[0], Layout.CHANNELS_LAST, {"strides": [1, 1, 1, 1], "padding": "SAME"}),
        (
            SPECS[1], Layout.CHANNELS_FIRST,
            {
                "strides": [1, 1, 2, 2], "padding": "EXPLICIT", "data_format": "NCHW",
                "explicit_paddings": [0, 0, 0, 0, 0, 1, 2, 1],
            },
        ),
        (
            "n2 c3 k4 12 f3 s2 d2", Layout.CHANNELS_LAST,
            {"strides": [1, 1, 2, 1], "padding": "VALID", "dilations": [1, 1, 2, 1]},
        ),
        ("n2 c4 k4 12 f3 s2 g4", Layout.CHANNELS_LAST, {"strides": [1, 2, 2, 1], "padding": "VALID"}),  # one stride for both
        (SPECS[-1], Layout.CHANNELS_FIRST, {"strides": [1, 1, 2, 2, 2], "padding": "VALID", "data_format": "NCDHW"}),
    ],
)  # fmt: skip
def test_the_ops_are_told_what_is_not_their_default(text: str, layout: Layout, arguments: dict[str, object]) -> None:
    assert geometry(text, layout).arguments == arguments


@pytest.mark.fault("TensorFlow is asked whether it supports a huge padding", "what it is tried with stays small")
@pytest.mark.parametrize(
    "text", ["n4 c2 k2 8x8x8 f3x3x3 p0-9001x9002-0x7-9003 d2x2x2", "n9 c8 k8 64x64 f3x3 s3x5 p4000-0x0-4001 g4"]
)
def test_what_tensorflow_is_tried_with_is_small_however_wide_the_padding(text: str) -> None:
    """Whether it has a kernel is asked before the memory that a cell needs."""
    asked = ConvSpec.parse(text)
    small = smallest(asked)
    padded = [size + low + high for size, (low, high) in zip(small.spatial, small.padding, strict=True)]
    assert max(padded) < 40
    assert padding(small) == padding(asked) == "EXPLICIT"
    assert [(low > 0, high > 0) for low, high in small.padding] == [(low > 0, high > 0) for low, high in asked.padding]
    assert min(small.out_spatial) >= 1


@pytest.mark.parametrize(
    ("text", "clause"),
    [
        ("n2 c4 k8 8x8 f3x3 s2x2 g4", ""), ("n2 c4 k8 12 f3 s2 g4", ""), ("n2 c4 k8 8x8 f3x3 g2", ""),
        ("n2 c4 k4 9x9 f3x3 s2x2 d2x2 g4", "gives a wrong result with both stride and dilation"),
        ("n2 c4 k4 9x9 f3x3 d2x2 g4", "makes a dilated convolution of several operations"),
        ("n2 c4 k4 9x9 f3x3 s2x1 g4", "takes equal strides only"),
        ("n2 c4 k4 5x5x5 f3x3x3 g4", "no depthwise op of three dimensions"),
    ],
)  # fmt: skip
def test_why_the_depthwise_op_does_not_serve_is_told(text: str, clause: str) -> None:
    spec = ConvSpec.parse(text)
    assert clause in lacks_depthwise(spec)
    assert depthwise(spec) == (spec.depthwise and not clause)
    assert bool(lacks_depthwise(spec)) == bool(clause)
