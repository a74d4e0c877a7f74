"""Logs of other programs, line by line."""

import json
from typing import Any

import pytest

from harness.ask import logs
from harness.axes import Direction, Layout, Precision
from harness.calls import Call
from harness.errors import CaptureError
from tests.captures.seen import FORWARD, REST, STEM_OF_ONEDNN, W, X, Y, event, onednn

FPROP, DGRAD, WGRAD = Direction.FPROP, Direction.DGRAD, Direction.WGRAD

HEAD = "onednn_verbose,v1,info,oneDNN v3.11.0\nonednn_verbose,v1,primitive,create:cache_miss,cpu,convolution,x,forward_training"


def only(text: str) -> Call:
    seen = logs.seen(text)
    assert seen.left_out == ()
    (call,) = seen.calls
    return call


def test_a_log_of_onednn() -> None:
    text = "\n".join(
        [HEAD, *[onednn("forward_training", STEM_OF_ONEDNN)] * 2, onednn("backward_weights", STEM_OF_ONEDNN), "something else"]
    )
    seen = logs.seen(text)
    assert seen.source == "a log of oneDNN"
    assert [(str(call.spec), call.direction, call.times) for call in seen.calls] == [
        ("n1 c3 k64 224x224 f7x7 s2x2 p3x3", FPROP, 2), ("n1 c3 k64 224x224 f7x7 s2x2 p3x3", WGRAD, 1),
    ]  # fmt: skip
    assert {(call.layout, call.precision, call.bias) for call in seen.calls} == {(Layout.CHANNELS_LAST, Precision.FP32, False)}


@pytest.mark.parametrize(
    ("problem", "shape"),
    [
        ("mb8_g64ic64oc64_ih9oh9kh3sh1dh0ph1_iw7ow7kw3sw1dw0pw1", "n8 c64 k64 9x7 f3x3 p1x1 g64"),
        ("g64mb8_ic64oc64_ih9oh9kh3sh1dh0ph1_iw7ow7kw3sw1dw0pw1", "n8 c64 k64 9x7 f3x3 p1x1 g64"),
        ("mb2_ic4oc6_iw40ow36kw3sw1dw1pw0", "n2 c4 k6 40 f3 d2"),
        ("mb2_ic4oc6_id5od5kd3sd1dd0pd1_ih6oh3kh1sh2dh0ph0_iw7ow7kw1sw1dw0pw0", "n2 c4 k6 5x6x7 f3x1x1 s1x2x1 p1x0x0"),
    ],
)
def test_problems_of_onednn(problem: str, shape: str) -> None:
    assert str(only(onednn("backward_data", problem)).spec) == shape


@pytest.mark.parametrize(
    ("src", "layout", "precision"),
    [
        ("src:f32::blocked:abcd::f0", Layout.CHANNELS_FIRST, Precision.FP32),
        ("src_bf16::blocked:acdb:f0", Layout.CHANNELS_LAST, Precision.BF16),
        ("src:f16:a:blocked:aBcd16b::f0", None, Precision.FP16),
        ("diff_src:f32::blocked:abcd::f0", Layout.CHANNELS_FIRST, Precision.FP32),
    ],
)
def test_layouts_and_precisions_of_onednn(src: str, layout: Layout | None, precision: Precision) -> None:
    call = only(onednn("forward_inference", STEM_OF_ONEDNN, src))
    assert (call.layout, call.precision) == (layout, precision)


def test_a_deconvolution_is_transposed() -> None:
    problem = "mb2_ic8oc5_ih5oh10kh3sh2dh0ph1_iw4ow7kw3sw2dw0pw1"
    call = only(onednn("forward_training", problem, what="deconvolution"))
    assert call.spec.transposed
    assert call.spec.shapes(1) == ((2, 8, 5, 4), (8, 5, 3, 3), (2, 5, 10, 7))


def test_what_no_suite_has_is_left_out() -> None:
    left = logs.seen(
        "\n".join([onednn("forward_inference", STEM_OF_ONEDNN, "src:u8::blocked:acdb::f0"), onednn("sideways", STEM_OF_ONEDNN)])
    ).left_out
    assert [one.why for one in left] == ["no precision of a suite", "it has no pass or no sizes that are known"]


@pytest.mark.parametrize(
    ("line", "shape", "direction"),
    [
        ('--conv --dir=BWD_D --dt=bf16 mb8_ic64oc64_ih56oh56kh3ph1n"resnet:conv"', "n8 c64 k64 56x56 f3x3 p1x1", DGRAD),
        ('--mb=4 --dir=BWD_WB ic64ih56oc64oh28kh3sh2ph1n"x"  # a comment', "n4 c64 k64 56x56 f3x3 s2x2 p1x1", WGRAD),
        ('g32mb1ic32ih112oc32oh112kh3ph1n"mobilenet:conv2_1/dw"', "n1 c32 k32 112x112 f3x3 p1x1 g32", FPROP),
        ('ic16iw84oc16ow84kw5pw4dw1n"line"', "n2 c16 k16 84 f5 p4 d2", FPROP),
    ],
)
def test_lines_of_benchdnn(line: str, shape: str, direction: Direction) -> None:
    call = only(line)
    assert (str(call.spec), call.direction) == (shape, direction)
    assert call.precision is (Precision.BF16 if "bf16" in line else Precision.FP32)


def test_commands_of_miopen() -> None:
    command = "./bin/MIOpenDriver convfp16 -n 8 -c 64 -H 56 -W 28 -k 32 -y 3 -x 1 -p 1 -q 0 -u 2 -v 1 -l 1 -j 1 -m conv -g 2"
    seen = logs.seen(f"MIOpen(HIP): Command [LogCmdConvolution] {command} -F 4 -t 1\n{command} -F 0")
    shape = "n8 c64 k32 56x28 f3x1 s2x1 p1x0 g2"
    assert {(str(call.spec), call.direction, call.times) for call in seen.calls} == {
        (shape, FPROP, 1),
        (shape, DGRAD, 1),
        (shape, WGRAD, 2),
    }
    assert {call.precision for call in seen.calls} == {Precision.FP16}
    up = only("MIOpenDriver conv -n 2 -c 8 -H 5 -W 4 -k 6 -y 2 -x 2 -u 2 -v 2 -m trans -F 1")
    assert up.spec.transposed
    assert up.spec.shapes(1) == ((2, 8, 5, 4), (8, 6, 2, 2), (2, 6, 10, 8))


BACKWARD = event("aten::convolution_backward", [Y, X, W, *[[]] * 8], ["", "", "", "[4]", *REST, "[False, True, True]"])
STEPS = [{"name": f"ProfilerStep#{number}", "ph": "X"} for number in (3, 4)]


def test_a_trace_of_pytorch() -> None:
    seen = logs.seen(json.dumps({"traceEvents": [*STEPS, *[FORWARD, BACKWARD] * 2, {"name": "aten::relu"}, "odd"]}))
    assert seen.source == "a chrome trace of PyTorch"
    assert [(str(call.spec), call.direction, call.times, call.bias) for call in seen.calls] == [
        ("n2 c3 k4 8x8 f3x3 s2x2 p1x1", FPROP, 1, True), ("n2 c3 k4 8x8 f3x3 s2x2 p1x1", WGRAD, 1, False),
    ]  # fmt: skip
    assert seen.calls[0].layout is Layout.CHANNELS_LAST
    assert (seen.notes, seen.counts_of) == (("2 steps are in it; counts are those of one",), "a step")
    differing = logs.seen(json.dumps([*STEPS, FORWARD]))
    assert differing.calls[0].times == 1
    assert (differing.notes, differing.counts_of) == ((), "all 2 steps of the log, which differ")
    alone = logs.seen(json.dumps([STEPS[0], FORWARD]))
    assert (alone.calls[0].times, alone.notes, alone.counts_of) == (1, (), "a step")


WHOLE = "the whole log, whose steps are not marked"
THREE_STEPS = {
    "trace": json.dumps([FORWARD, BACKWARD] * 3),
    "onednn": "\n".join([onednn("forward_training", STEM_OF_ONEDNN), onednn("backward_weights", STEM_OF_ONEDNN)] * 3),
    "benchdnn": "\n".join(["--dir=FWD_B ic16iw84oc16ow84kw5pw4dw1n", "--dir=BWD_W ic16iw84oc16ow84kw5pw4dw1n"] * 3),
    "miopen": "MIOpenDriver conv -F 5\n" * 3,
}


@pytest.mark.parametrize("text", THREE_STEPS.values(), ids=THREE_STEPS)
def test_counts_of_a_log_that_marks_no_steps_are_those_of_all_of_it_unless_they_are_told(text: str) -> None:
    whole, one, three = logs.seen(text), logs.seen(text, 1), logs.seen(text, 3)
    assert [(call.direction, call.times) for call in whole.calls] == [(FPROP, 3), (WGRAD, 3)]
    assert (whole.counts_of, whole.notes) == (WHOLE, ("--steps N says that N steps are in the log, and divides the counts",))
    assert [call.times for call in one.calls] == [3, 3]
    assert (one.counts_of, one.notes) == ("a step", ())
    assert [(call.direction, call.times) for call in three.calls] == [(FPROP, 1), (WGRAD, 1)]
    assert (three.counts_of, three.notes) == ("a step", ("3 steps are in it; counts are those of one",))


def test_what_is_left_out_is_divided_too() -> None:
    text = "\n".join([onednn("forward_training", STEM_OF_ONEDNN), onednn("sideways", STEM_OF_ONEDNN)] * 2)
    assert [one.times for one in logs.seen(text, 2).left_out] == [1]


@pytest.mark.parametrize(
    ("text", "steps", "words"),
    [
        (
            "\n".join([onednn("forward_training", STEM_OF_ONEDNN)] * 3),
            2,
            "^--steps: found 2; n1 c3 k64 224x224 f7x7 s2x2 p3x3, fprop, is 3 times in the log, which is no multiple of that$",
        ),
        (
            json.dumps([*STEPS, *[FORWARD] * 4]),
            2,
            "^--steps: found with a log that marks its steps, 2 of them; allowed: with one that does not$",
        ),
    ],
)
def test_steps_that_a_log_belies_are_refused(text: str, steps: int, words: str) -> None:
    with pytest.raises(CaptureError, match=words):
        logs.seen(text, steps)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("hello\nworld", r'no log that is known: .*the first is "hello"'),
        (" \n", "^it is empty$"),
        ("{broken", "it is not JSON"),
        ("{}", "a chrome trace of PyTorch: no convolution in it"),
    ],
)
def test_what_is_no_log(text: str, words: str) -> None:
    with pytest.raises(CaptureError, match=words):
        logs.seen(text)


def test_a_trace_without_shapes_says_so() -> None:
    seen = logs.seen(json.dumps([{"name": "aten::convolution", "args": {}}]))
    assert [one.why for one in seen.left_out] == ["the trace has no shapes: it takes record_shapes=True"]


@pytest.mark.parametrize(
    "odd", [{"Input Dims": [["x"], 3, []] + [[]] * 6}, {"Concrete Inputs": [None] * 9}, {"Input Dims": [[1]] * 9}]
)
def test_a_trace_that_lies_is_left_out(odd: dict[str, Any]) -> None:
    broken = {**FORWARD, "args": {**FORWARD["args"], **odd}}
    (left,) = logs.seen(json.dumps([broken])).left_out
    assert left.what == "aten::convolution"
