"""What other programs tell of the convolutions that they run, as Calls: logs and command lines, one dialect each. Pure.

oneDNN's verbose lines, a PyTorch profiler's chrome trace, and lines of benchdnn and MIOpenDriver. Nothing of them is evaluated.
"""

import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from harness import codec
from harness.ask import shape_line
from harness.ask.wording import show
from harness.axes import PASSES, Direction, Layout, Precision
from harness.calls import STEP, Call, LeftOut, Seen, layer, precision
from harness.errors import CaptureError
from harness.plain import plain
from harness.spec import ConvSpec, TransposedSpec

_Found = Call | LeftOut


def seen(text: str, steps: int | None = None) -> Seen:
    """What a log tells; `steps` is how many steps, all alike, are in one that does not mark them.

    Raises CaptureError for a log of no dialect that is known, for one without a convolution, and for `steps` that it belies.
    """
    if text.lstrip().startswith(("{", "[")):
        return _counted("a chrome trace of PyTorch", *_trace(text), steps)
    lines = [line.strip() for line in text.splitlines()]
    for source, signs, read in _DIALECTS:
        of_it = [line for line in lines if signs.search(line)]
        if of_it:
            return _counted(source, [found for line in of_it for found in read(line)], 0, steps)
    first = next(filter(None, lines), "")
    if not first:
        raise CaptureError("it is empty")
    raise CaptureError(
        "no log that is known: no line of oneDNN's verbose mode, benchdnn or MIOpenDriver, no trace; "
        f"the first is {show(first)}"
    )


def _counted(source: str, found: Sequence[_Found], marked: int, steps: int | None) -> Seen:
    """What was found, equals counted: in one step, where it is known how many steps there are and they are alike.

    `marked` steps are told apart by the log, `steps` are said to be in it. Raises CaptureError for nothing, and for both.
    """
    if not found:
        raise CaptureError(f"{source}: no convolution in it")
    if steps and marked:
        raise CaptureError(f"--steps: found with a log that marks its steps, {marked} of them; allowed: with one that does not")
    times, together = Counter(found), marked or steps or 0
    calls_alone = (one for one in times if isinstance(one, Call))  # an unread line may be of no step
    odd = next((one for one in calls_alone if together and times[one] % together), None)
    if odd is not None and steps:
        told = f"{odd.spec}, {odd.direction},"
        raise CaptureError(f"--steps: found {steps}; {told} is {times[odd]} times in the log, which is no multiple of that")
    notes, counts_of, of_one = tuple[str, ...](), STEP, 1
    if not together:
        counts_of = "the whole log, whose steps are not marked"
        notes = ("--steps N says that N steps are in the log, and divides the counts",)
    elif odd is not None:
        counts_of = f"all {together} steps of the log, which differ"
    elif together > 1:
        of_one, notes = together, (f"{together} steps are in it; counts are those of one",)
    calls = tuple(replace(one, times=count // of_one) for one, count in times.items() if isinstance(one, Call))
    left = tuple(replace(one, times=-(-count // of_one)) for one, count in times.items() if isinstance(one, LeftOut))
    return Seen(source, calls, left, notes=notes, counts_of=counts_of)


# oneDNN and benchdnn --------------------------------------------------------------------------------------------------------

_PASS_OF_KIND = {
    "forward_training": Direction.FPROP, "forward_inference": Direction.FPROP, "forward": Direction.FPROP,
    "backward_data": Direction.DGRAD, "backward_weights": Direction.WGRAD,
}  # fmt: skip


def _onednn(line: str) -> Iterator[_Found]:
    """A line of ONEDNN_VERBOSE=1, such as `onednn_verbose,v1,primitive,exec,cpu,convolution,...,mb1_ic3oc64_ih224oh112kh7...`.

    Source: https://uxlfoundation.github.io/oneDNN/dev_guide_verbose.html
    """
    parts = line.split(",")
    kind = next((part for part in parts if part in _PASS_OF_KIND), None)
    problem = next((part for part in reversed(parts) if re.fullmatch(r"(?:g\d+)?mb\d+_?(?:g\d+)?_?ic\d+oc\d+_\w+", part)), None)
    if kind is None or problem is None:
        yield LeftOut(f"a line of oneDNN: {plain(line)[:60]}", "it has no pass or no sizes that are known")
        return
    data = re.search(r"(?:diff_)?src[:_](\w+?):\S*?:blocked:(\w+)|(?:diff_)?src[:_](\w+)", line)
    elements, tag = (data[1] or data[3], data[2] or "") if data else ("f32", "")
    transposed = "deconvolution" in parts
    yield _described(problem, _PASS_OF_KIND[kind], elements, tag, transposed, "bia:f" in line or "bia_f" in line)


def _described(
    problem: str, direction: Direction, elements: str, tag: str, transposed: bool, bias: bool, name: str = ""
) -> _Found:  # fmt: skip
    """The call that a problem of oneDNN's words describes: `mb1_ic3oc64_ih224oh112kh7sh2dh0ph3_iw224ow112kw7sw2dw0pw3`.

    Of a deconvolution it has the sizes of the layer, and the mirrored convolution has them the other way round.
    """
    if (of := precision(elements)) is None:
        return LeftOut(f"convolution of {plain(elements)}", "no precision of a suite")
    told = re.sub(r"[io](?=[cdhw]\d)", lambda each: "oi"["io".index(each[0])], problem) if transposed else problem
    try:
        keys = shape_line.keys(told)
        sizes = {axis: tuple(keys[axis]) for axis in ("spatial", "kernel", "stride", "dilation")}
        padding = tuple((low, high) for low, high in keys["padding"])
        spec = ConvSpec(keys["n"], keys["c"], keys["k"], **sizes, padding=padding, groups=keys["groups"])
    except ValueError as error:
        return LeftOut(f"convolution {plain(problem)[:60]}", str(error))
    return Call(TransposedSpec(spec) if transposed else spec, direction, of, _layout(tag), bias, plain(name))


def _layout(tag: str) -> Layout | None:
    """The layout behind a tag of oneDNN, `acdb` or `nhwc`; None for blocked ones and `any`, which are the library's own."""
    if tag in ("acb", "acdb", "acdeb", "axb", "nwc", "nhwc", "ndhwc"):
        return Layout.CHANNELS_LAST
    return Layout.CHANNELS_FIRST if tag in ("abc", "abcd", "abcde", "abx", "ncw", "nchw", "ncdhw") else None


_DIRS = {"FWD_D": Direction.FPROP, "FWD_B": Direction.FPROP, "FWD_I": Direction.FPROP, "BWD_D": Direction.DGRAD,
         "BWD_W": Direction.WGRAD, "BWD_WB": Direction.WGRAD}  # fmt: skip


def _benchdnn(line: str) -> Iterator[_Found]:
    """A line of a command or an input file of benchdnn: `--conv --dir=BWD_D --dt=bf16 mb8_ic64oc64_ih56oh56kh3ph1n"name"`."""
    state = {"dir": "FWD_B", "dt": "f32", "stag": "any", "mb": "0"}
    transposed = "--deconv" in line
    for token in line.partition("#")[0].split():
        option, equals, value = token.removeprefix("--").partition("=")
        if token.startswith("--"):
            if option == "reset":
                state = {"dir": "FWD_B", "dt": "f32", "stag": "any", "mb": "0"}
            elif equals:
                state["dt" if option == "cfg" else option] = value.partition(",")[0]
            continue
        if not (told := re.fullmatch(r'((?:[a-z]+\d+_?)*ic\d+_?(?:[a-z]+\d+_?)*)(?:n"?([^"]*)"?)?', token)):
            continue
        sizes = told[1] if state["mb"] == "0" else re.sub(r"mb\d+", "", told[1]) + f"_mb{state['mb']}"
        direction = _DIRS.get(state["dir"])
        if direction is None:
            yield LeftOut(f"convolution {sizes}", f"--dir={plain(state['dir'])} is no pass that is known")
            continue
        elements, bias = state["dt"].partition(":")[0], state["dir"] in ("FWD_B", "BWD_WB")
        yield _described(sizes, direction, elements, state["stag"], transposed, bias, told[2] or "")


# MIOpenDriver ---------------------------------------------------------------------------------------------------------------

# Source: https://github.com/ROCm/MIOpen/blob/develop/driver/conv_driver.hpp, AddCmdLineArgs.
_MIOPEN = {
    "n": ("n", "batchsize"), "c": ("c", "in_channels"), "id": ("!", "in_d"), "ih": ("H", "in_h"), "iw": ("W", "in_w"),
    "k": ("k", "out_channels"), "kd": ("@", "fil_d"), "kh": ("y", "fil_h"), "kw": ("x", "fil_w"), "pd": ("$", "pad_d"),
    "ph": ("p", "pad_h"), "pw": ("q", "pad_w"), "sd": ("#", "conv_stride_d"), "sh": ("u", "conv_stride_h"),
    "sw": ("v", "conv_stride_w"), "dd": ("^", "dilation_d"), "dh": ("l", "dilation_h"), "dw": ("j", "dilation_w"),
    "g": ("g", "group_count"), "forw": ("F", "forw"), "dims": ("_", "spatial_dim"), "mode": ("m", "mode"),
    "layout": ("I", "in_layout"),
}  # fmt: skip
_MIOPEN_DEFAULTS = {
    "n": 100, "c": 3, "id": 32, "ih": 32, "iw": 32, "k": 32, "kd": 3, "kh": 3, "kw": 3, "pd": 0, "ph": 0, "pw": 0, "sd": 1,
    "sh": 1, "sw": 1, "dd": 1, "dh": 1, "dw": 1, "g": 1, "forw": 0, "dims": 2,
}  # fmt: skip
_MIOPEN_KINDS = {"conv": Precision.FP32, "convfp16": Precision.FP16, "convbfp16": Precision.BF16}


def _miopen(line: str) -> Iterator[_Found]:
    """A command of MIOpenDriver, as MIOPEN_ENABLE_LOGGING_CMD=1 prints it: `MIOpenDriver conv -n 32 -c 64 -H 56 ... -F 1`."""
    program, *tokens = line[line.index("MIOpenDriver") :].split()
    kind = tokens[0] if tokens else ""
    if kind not in _MIOPEN_KINDS:
        yield LeftOut(f"{program} {plain(kind)}", "no convolution of a precision of a suite")
        return
    by_flag = {f"-{flag}": key for key, (flag, _) in _MIOPEN.items()} | {f"--{name}": key for key, (_, name) in _MIOPEN.items()}
    given = {by_flag[flag]: value for flag, value in itertools.pairwise(tokens[1:]) if flag in by_flag}
    sizes = {key: int(given[key]) if given.get(key, "").isdecimal() else value for key, value in _MIOPEN_DEFAULTS.items()}
    axes = "dhw" if sizes["dims"] == 3 else "hw"
    transposed, groups = given.get("mode") == "trans", sizes["g"]
    into, kernel, pads, stride, dilation = ([sizes[f"{letter}{axis}"] for axis in axes] for letter in "ikpsd")
    w = (sizes["c"], sizes["k"] // groups) if transposed else (sizes["k"], sizes["c"] // groups)
    x = (sizes["n"], sizes["c"], *into)
    try:
        spec = layer(x, (*w, *kernel), stride, [(pad, pad) for pad in pads], dilation, groups, transposed)
    except ValueError as error:
        yield LeftOut(f"{program} {kind}", str(error))
        return
    layout = {"NHWC": Layout.CHANNELS_LAST, "NDHWC": Layout.CHANNELS_LAST}.get(given.get("layout", ""), Layout.CHANNELS_FIRST)
    # -F: 1, 2 and 4 are the forward pass and both gradients, added up; 0 is all of them.
    asked = [each for bit, each in enumerate(PASSES) if not sizes["forw"] or sizes["forw"] >> bit & 1]
    for direction in asked:
        yield Call(spec, direction, _MIOPEN_KINDS[kind], layout)


# PyTorch's profiler ---------------------------------------------------------------------------------------------------------


def _trace(text: str) -> tuple[list[_Found], int]:
    """The calls in a chrome trace that was written with record_shapes=True, and how many steps are marked in it."""
    try:
        data = codec.parse(text)
    except ValueError as error:
        raise CaptureError(f"it is not JSON: {error}") from None
    events = data.get("traceEvents") if isinstance(data, dict) else data
    found: list[_Found] = []
    steps = set()
    for event in events if isinstance(events, list) else []:
        if not isinstance(event, dict) or not isinstance(name := event.get("name"), str):
            continue
        if name.startswith("ProfilerStep#"):
            steps.add(name)
        if name in ("aten::convolution", "aten::convolution_backward"):
            arguments = event.get("args")
            found += _traced(name, arguments if isinstance(arguments, dict) else {})
    return found, len(steps)


def _traced(name: str, arguments: dict[str, Any]) -> Iterator[_Found]:
    """The calls of an event: `Input Dims`, `Input type` and `Concrete Inputs` of aten::convolution, or of its backward."""
    backward = name.endswith("_backward")
    shapes, values = arguments.get("Input Dims"), arguments.get("Concrete Inputs")
    count, first = (11, 1) if backward else (9, 0)
    if not isinstance(shapes, list) or not isinstance(values, list) or min(len(shapes), len(values)) < count:
        yield LeftOut(name, "the trace has no shapes: it takes record_shapes=True")
        return
    x, w = shapes[first], shapes[first + 1]
    stride, padding, dilation = (_whole(value) for value in values[first + 3 : first + 6])
    transposed, more, groups = (values[first + 6] == "True", _whole(values[first + 7]), _whole(values[first + 8]))
    kinds = arguments.get("Input type")
    kind = str(kinds[first]) if isinstance(kinds, list) and len(kinds) > first else "float"
    elements = {"c10::BFloat16": "bfloat16", "c10::Half": "half"}.get(kind, kind)
    if (of := precision(elements)) is None:
        yield LeftOut(f"convolution of {plain(kind)}", "no precision of a suite")
        return
    try:
        spec = layer(x, w, stride, [(pad, pad) for pad in padding], dilation, groups[0], transposed, more)
    except (ValueError, TypeError, IndexError) as error:
        yield LeftOut(name, f"its shapes cannot be read: {error}")
        return
    asked: list[Direction] = [Direction.FPROP]
    if backward:
        mask = re.findall("True|False", str(values[10]))
        asked = [each for each, wanted in zip(PASSES[1:], mask, strict=False) if wanted == "True"]
    strides = arguments.get("Input Strides")
    layout = _of_strides(strides[first], x) if isinstance(strides, list) and len(strides) > first else None
    for direction in asked:
        yield Call(spec, direction, of, layout, bias=bool(not backward and shapes[2]))


def _of_strides(strides: Any, shape: Any) -> Layout | None:
    """The layout of a tensor [N, C, *spatial] with these strides; None where they fit both."""
    if not isinstance(strides, list) or len(strides) != len(shape) or len(shape) < 4 or shape[1] == 1:
        return None
    if all(size == 1 for size in shape[2:]):
        return None
    return Layout.CHANNELS_LAST if strides[1] == 1 else Layout.CHANNELS_FIRST


def _whole(text: Any) -> list[int]:
    return [int(digits) for digits in re.findall(r"-?\d+", str(text))]


_Reader = Callable[[str], Iterator[_Found]]
_DIALECTS: tuple[tuple[str, re.Pattern[str], _Reader], ...] = (
    ("a log of oneDNN", re.compile(r"(?:onednn|dnnl|mkldnn)_verbose,.*exec.*,(?:de)?convolution,"), _onednn),
    ("a log of MIOpen", re.compile(r"MIOpenDriver\s+conv"), _miopen),
    ("lines of benchdnn", re.compile(r"(?:^|\s)(?:[a-z]+\d+_?)*ic\d+_?(?:[a-z]+\d+_?)*i[dhw]\d+"), _benchdnn),
)
