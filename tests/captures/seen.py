"""What a capture has seen of a small network, and lines of logs: for the tests of what follows from them."""

from typing import Any

from harness.axes import Direction, Layout
from harness.calls import Call, LeftOut, Seen, layer

FPROP, DGRAD, WGRAD = Direction.FPROP, Direction.DGRAD, Direction.WGRAD
STEM = layer((2, 3, 8, 9), (4, 3, 3, 3), [2, 2], [(0, 1), (1, 1)], [1, 1])
NEXT = layer((2, 4, 4, 5), (4, 1, 3, 3), [1, 1], [(1, 1)], [1, 1], groups=4)
UP = layer((2, 4, 4, 5), (4, 3, 2, 2), [2], [(0, 0)], [1], transposed=True)


def calls(spec: object, name: str, times: dict[Direction, int], **more: object) -> list[Call]:
    return [Call(spec, each, name=name, times=count, **more) for each, count in times.items()]  # type: ignore[arg-type]


SEEN = Seen(
    "PyTorch 2.13.0",
    (
        *calls(STEM, "Stem.Conv 1", {FPROP: 1, WGRAD: 1}, layout=Layout.CHANNELS_LAST, remark="x was padded"),
        *calls(NEXT, "b.0.conv", {FPROP: 2, DGRAD: 2, WGRAD: 1}, layout=Layout.CHANNELS_LAST, bias=True),
        *calls(NEXT, "b.1.conv", {FPROP: 1, DGRAD: 1}),
        *calls(UP, "up", {FPROP: 1, WGRAD: 1}),
    ),
    (LeftOut("aten::deform", "deformable", "d1"), LeftOut("aten::deform", "deformable", "d2", 3)),
)


# A line of oneDNN, and an event of PyTorch's profiler
STEM_OF_ONEDNN = "mb1_ic3oc64_ih224oh112kh7sh2dh0ph3_iw224ow112kw7sw2dw0pw3"


def onednn(kind: str, problem: str, src: str = "src:f32::blocked:acdb::f0", what: str = "convolution") -> str:
    return (
        f"onednn_verbose,v1,primitive,exec,cpu,{what},brg_conv_fwd:avx512_core,{kind},"
        f"{src} wei:f32::blocked:Acdb16a::f0 bia:undef::undef::: dst:f32::blocked:acdb::f0,attr-scratchpad:user,"
        f"alg:convolution_direct,{problem},1.25"
    )


def event(name: str, dims: list[Any], values: list[str], **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "ph": "X",
        "args": {"Input Dims": dims, "Concrete Inputs": values, "Input type": ["float"] * len(dims), **more},
    }


X, W, Y = [2, 3, 8, 8], [4, 3, 3, 3], [2, 4, 4, 4]
REST = ["[2, 2]", "[1, 1]", "[1, 1]", "False", "[0, 0]", "1"]
FORWARD = event("aten::convolution", [X, W, [4], *[[]] * 6], ["", "", "", *REST], **{"Input Strides": [[192, 1, 24, 3]]})
