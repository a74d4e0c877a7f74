"""What the capture of ONNX files sees. The files are made here; nothing is run."""

import errno
from pathlib import Path
from typing import Any

import pytest

import harness

onnx = pytest.importorskip("onnx")

from onnx import TensorProto, helper  # noqa: E402

from harness.axes import Direction, Precision  # noqa: E402
from harness.calls import Seen  # noqa: E402
from harness.captures.base import Input, Request  # noqa: E402
from harness.captures.onnx import OnnxCapture  # noqa: E402
from harness.errors import CaptureError  # noqa: E402

FPROP, DGRAD, WGRAD = Direction.FPROP, Direction.DGRAD, Direction.WGRAD


def tensor(name: str, *dims: int) -> Any:
    """A weight, whose numbers lie in another file that is not there: they are not needed."""
    made = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=dims, data_location=TensorProto.EXTERNAL)
    made.external_data.add(key="location", value="elsewhere.bin")
    return made


def file(folder: Path, nodes: list[Any], weights: list[Any], dims: list[Any], outs: tuple[str, ...] = ("y",)) -> str:
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, dims)
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outs]
    graph = helper.make_graph(nodes, "net", [given], outputs, weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), str(folder / "net.onnx"))
    return str(folder / "net.onnx")


def see(path: str, *inputs: Input, **options: Any) -> Seen:
    return OnnxCapture().capture(path, inputs, Request(**options))


def told(seen: Seen) -> dict[tuple[str, str], int]:
    return {(str(call.spec), str(call.direction)): call.times for call in seen.calls}


def test_a_small_network(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["a"], "stem", strides=[2, 2], pads=[1, 0, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "w2"], ["c"], "dw", group=8, auto_pad="SAME_LOWER"),
        helper.make_node("ConvTranspose", ["c", "w3"], ["y"], "up", strides=[2, 2], output_padding=[1, 0], pads=[1, 1, 1, 1]),
    ]
    weights = [tensor("w1", 8, 3, 3, 3), tensor("b1", 8), tensor("w2", 8, 1, 2, 2), tensor("w3", 8, 5, 3, 3)]
    path = file(tmp_path, nodes, weights, ["batch", 3, 9, 8])
    seen = see(path, sizes={"batch": 4})
    assert told(seen) == {
        ("n4 c3 k8 9x8 f3x3 s2x2 p1x0-1", "fprop"): 1, ("n4 c3 k8 9x8 f3x3 s2x2 p1x0-1", "wgrad"): 1,
        ("n4 c8 k8 5x4 f2x2 p1-0x1-0 g8", "fprop"): 1, ("n4 c8 k8 5x4 f2x2 p1-0x1-0 g8", "dgrad"): 1,
        ("n4 c8 k8 5x4 f2x2 p1-0x1-0 g8", "wgrad"): 1, ("transposed n4 c8 k5 5x4 f3x3 s2x2 p1x1 o1x0", "fprop"): 1,
        ("transposed n4 c8 k5 5x4 f3x3 s2x2 p1x1 o1x0", "dgrad"): 1,
        ("transposed n4 c8 k5 5x4 f3x3 s2x2 p1x1 o1x0", "wgrad"): 1,
    }  # fmt: skip
    assert [call.spec.transposed for call in seen.calls if call.direction is FPROP] == [False, False, True]
    assert [call.bias for call in seen.calls if call.direction is FPROP] == [True, False, False]
    assert {call.precision for call in seen.calls} == {Precision.FP32}
    assert {call.direction for call in see(path, Input((4, 3, 9, 8)), gradients=False).calls} == {FPROP}
    assert see(path, Input((4, 3, 9, 8))).calls == seen.calls


def test_branches_and_what_is_left_out(tmp_path: Path) -> None:
    of_branch = [helper.make_node("Conv", ["x", "w"], [f"{name}_y"], name) for name in ("then", "otherwise")]
    branches = [
        helper.make_graph([node], node.name, [], [helper.make_tensor_value_info(node.output[0], TensorProto.FLOAT, None)])
        for node in of_branch
    ]
    nodes = [
        helper.make_node("Constant", [], ["test"], value=helper.make_tensor("test", TensorProto.BOOL, [], [True])),
        helper.make_node("If", ["test"], ["y"], "choice", then_branch=branches[0], else_branch=branches[1]),
        helper.make_node("ConvInteger", ["q", "v"], ["z"], "whole"),
    ]
    weights = [
        tensor("w", 4, 2, 1, 1),
        *(TensorProto(name=name, data_type=TensorProto.INT8, dims=[1, 1, 2, 2]) for name in "qv"),
    ]
    for one in weights[1:]:
        one.raw_data = bytes(4)
    seen = see(file(tmp_path, nodes, weights, [1, 2, 4, 4], ("y", "z")))
    remark = "in a branch, counted as if it were taken"
    assert {(call.name, call.direction, call.remark) for call in seen.calls} == {
        (name, direction, remark) for name in ("then", "otherwise") for direction in (FPROP, WGRAD)
    }
    assert sum(call.times for call in seen.calls) == 4
    assert [(one.what, one.why) for one in seen.left_out] == [("ConvInteger", "quantized")]


@pytest.mark.parametrize(
    ("inputs", "sizes", "words"),
    [
        ([], {}, r"sizes are missing: batch of x \(batch,3,8,8\); give --input batch=8"),
        ([], {"bath": 1}, "found bath; allowed: batch"),
        ([Input((1, 3, 8))], {}, "allowed for x: 4 sizes"),
        ([Input((1,)), Input((1,))], {}, "found 2 shapes; allowed: 1, for x"),
    ],
)
def test_sizes_that_are_missing_or_wrong(tmp_path: Path, inputs: list[Input], sizes: dict[str, int], words: str) -> None:
    path = file(tmp_path, [helper.make_node("Conv", ["x", "w"], ["y"])], [tensor("w", 4, 3, 1, 1)], ["batch", 3, 8, 8])
    with pytest.raises(CaptureError, match=words):
        see(path, *inputs, sizes=sizes)


def test_a_file_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "net.onnx").write_bytes(b"no model")
    with pytest.raises(CaptureError, match="cannot be read as ONNX"):
        see(str(tmp_path / "net.onnx"))
    with pytest.raises(CaptureError, match="no convolution seen; what was seen: Relu x 1"):
        see(file(tmp_path, [helper.make_node("Relu", ["x"], ["y"])], [], [1, 2]))
    (tmp_path / "net.onnx").write_bytes(b"")
    with pytest.raises(CaptureError, match=r"^\S+/net\.onnx: a model of ONNX without any operation$"):
        see(str(tmp_path / "net.onnx"))
    with pytest.raises(
        CaptureError, match=r"^net\.py:build: found function; allowed: an onnx\.ModelProto, or the path of a file$"
    ):
        OnnxCapture().capture(lambda x: x, (), Request("net.py:build"))


def test_a_file_that_cannot_be_read_is_told_as_the_system_tells_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: str, **_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", path)

    monkeypatch.setattr(onnx, "load", refused)
    with pytest.raises(CaptureError, match=r"^mine\.onnx: cannot be read: Permission denied$"):
        see("mine.onnx")


def test_within_a_program_messages_name_its_arguments(tmp_path: Path) -> None:
    model = onnx.load(
        file(tmp_path, [helper.make_node("Conv", ["x", "w"], ["y"])], [tensor("w", 4, 3, 1, 1)], ["batch", 3, 8, 8]),
        load_external_data=False,
    )
    before = model.SerializeToString()
    assert len(harness.capture(model, (2, 3, 8, 8)).layers) == 1
    assert model.SerializeToString() == before
    with pytest.raises(CaptureError, match=r"^inputs: sizes are missing: batch of x \(batch,3,8,8\); give the whole shape$"):
        harness.capture(model)
    with pytest.raises(CaptureError, match=r"^inputs: found 2 shapes; allowed: 1, for x$"):
        harness.capture(model, (2, 3, 8, 8), (1,))
