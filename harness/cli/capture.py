"""`convbench capture`: the convolutions of a model, or of a log, as a suite."""

import gzip
import io
import re
import shlex
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.options import seconds, stdout
from harness.errors import CaptureError

if TYPE_CHECKING:
    from harness.ask.captured import Captured
    from harness.calls import Seen
    from harness.captures.base import Request

app = typer.Typer()

_REFUSED = (".pt2", ".pt", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".h5", ".keras", ".npy", ".npz", ".safetensors")
_MOST_LOG_BYTES = 2**30
_SHAPE = re.compile(r"([0-9]+(?:,[0-9]+)*)?,?(?::(\w+))?")
_SIZE = re.compile(r"([^=,:\s]+)=([0-9]+)")
_TARGETS = "allowed: module:callable, file.py:callable, an .onnx file, a log, or - for a log on standard input"


@app.command(epilog="Example: convbench capture ./net.py:build --input 8,3,224,224 --out net.toml")
def capture(
    target: Annotated[
        str,
        typer.Argument(
            help="module:callable or file.py:callable, which gives a model or (model, inputs); an .onnx file; a log of oneDNN, "
            "MIOpen, benchdnn, or a chrome trace of PyTorch; - for a log on standard input. Naming a callable runs its file."
        ),
    ],
    input_: Annotated[
        list[str] | None,
        typer.Option("--input", help="Shape of an input, as in 8,3,224,224 or 8,77:int64; of ONNX also batch=8; repeatable."),
    ] = None,
    arg: Annotated[
        list[str] | None, typer.Option("--arg", help="An argument of the callable, NAME=LITERAL, as in depth=50; repeatable.")
    ] = None,
    framework: Annotated[
        str, typer.Option("--framework", help="Where it is not clear: torch, tensorflow, jax, onnx, or a package's own.")
    ] = "",
    infer: Annotated[bool, typer.Option("--infer", help="The forward pass alone, without gradients.")] = False,
    anonymous: Annotated[bool, typer.Option("--anonymous", help="Number the layers; write no name of yours.")] = False,
    no_weights: Annotated[
        bool, typer.Option("--no-weights", help="PyTorch: build the model without memory for its weights.")
    ] = False,
    real: Annotated[
        bool, typer.Option("--real", help="PyTorch: compute the step, for models that look at their data.")
    ] = False,
    precision: Annotated[str, typer.Option("--precision", help="PyTorch: convert the model, as in bf16.")] = "",
    layout: Annotated[str, typer.Option("--layout", help="PyTorch: convert the model to NCHW or NHWC.")] = "",
    python: Annotated[str | None, typer.Option("--python", help="The Python that has the model's packages.")] = None,
    time: Annotated[
        bool, typer.Option("--time", help="Measure which share of a real step its convolutions take; not of ONNX and logs.")
    ] = False,
    timeout: Annotated[str, typer.Option("--timeout", help="How long the model's process may take.")] = "10m",
    steps: Annotated[
        int | None, typer.Option("--steps", min=1, help="How many steps are in a log that does not mark them, all alike.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", help="The suite to write; by default NAME.toml.")] = None,
) -> None:
    """Find the convolutions of a model, forward and backward, and write them as a suite.

    Nothing is fetched and no convolution is computed, but for --real and --time.
    """
    from harness.ask.captured import collect

    limit_s = seconds("--timeout", timeout)
    request = _request(target, input_ or [], arg or [], framework, precision, layout)
    if no_weights and (real or time):
        raise CaptureError(f"--no-weights: found beside {'--real' if real else '--time'}, which computes a step with weights")
    request = replace(request, gradients=not infer, weights=not no_weights, real=real, timed=time)
    name = "model" if anonymous else _name(target)
    path = out or Path(f"{name}.toml")
    captured = collect(name, _seen(request, python, limit_s, steps), target=_told_target(target), anonymous=anonymous)
    _show(captured)
    written = captured.write(path)
    _lines(f"wrote {file}" for file in written)
    suites = [file for file in written if file == path or file.suffix == ".toml"]
    _lines([shlex.join(["convbench", "run", *map(_argument, suites)])])


def _request(
    target: str, inputs: Sequence[str], arguments: Sequence[str], framework: str, precision: str, layout: str
) -> "Request":  # fmt: skip
    """What is asked for by the options. Raises CaptureError for a malformed one."""
    from harness.ask import axes
    from harness.captures.base import Input, Request

    shapes, sizes, given = [], dict[str, int](), dict[str, str]()
    for text in inputs:
        if told := _SIZE.fullmatch(text):
            if told[1] in sizes:
                raise CaptureError(f"--input: found {told[1]} twice; allowed: once")
            sizes[told[1]] = _size(text, told[2])
        elif text and (told := _SHAPE.fullmatch(text)):
            shape = [_size(text, digits) for digits in told[1].split(",")] if told[1] else []
            shapes.append(Input(tuple(shape), told[2] or ""))
        else:
            raise CaptureError(f"--input: found {text!r}; allowed: a shape as in 8,3,224,224 or 8,77:int64, or NAME=SIZE")
    for text in arguments:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise CaptureError(f"--arg: found {text!r}; allowed: NAME=LITERAL, as in depth=50 or norm='batch'")
        if name in given:
            raise CaptureError(f"--arg: found {name} twice; allowed: once")
        given[name] = value
    words = {}
    for axis, value in (("precision", precision), ("layout", layout)):
        try:
            words[axis] = str(axes.parse(axis, value)) if value else ""
        except ValueError as error:
            raise CaptureError(f"--{axis}: {error}") from None
    return Request(target, framework, tuple(shapes), sizes, given, precision=words["precision"], layout=words["layout"])


def _size(text: str, digits: str) -> int:
    """A size that stands in an --input. Raises CaptureError for one that is too large."""
    from harness.ask.wording import quote
    from harness.captures.base import BEYOND

    digits = digits.lstrip("0") or "0"
    if len(digits) > len(str(BEYOND)) or int(digits) >= BEYOND:
        raise CaptureError(f"--input: found {quote(text)}; allowed: sizes below 10^9")
    return int(digits)


def _argument(file: Path) -> str:
    """A suite's file as `convbench run` takes it for one, and neither for a suite's name nor for an option."""
    text = str(file)
    return f"./{text}" if text.startswith("-") or ("/" not in text and file.suffix != ".toml") else text


def _seen(request: "Request", python: str | None, limit_s: float, steps: int | None) -> "Seen":
    """What is seen of the target, whatever it is. `steps` are those of a log, where they are given."""
    from contextlib import nullcontext

    from harness.captures.base import CAPTURES
    from harness.execution import capturing, host

    target, path = request.target, Path(request.target)
    if target.endswith(_REFUSED):
        raise CaptureError(f"{target}: opening it could run code of whoever made it; name a callable of yours that loads it")
    ours = not request.framework or request.framework in CAPTURES  # what files another package reads is known to it alone
    if target == "-" or (ours and path.is_file() and path.suffix not in (".onnx", ".py")):
        return _of_log(request, python, steps)
    if ":" not in target and not (path.is_file() and (path.suffix == ".onnx" or not ours)):
        raise CaptureError(f"{target}: {_no_target(path)}")
    if steps is not None:
        raise CaptureError("--steps: found with a model, of which one step is seen; allowed: with a log")
    with host.alone() if request.timed else nullcontext():
        return capturing.in_process(request, python, limit_s)


def _no_target(path: Path) -> str:
    """Why what is named is neither a model nor a log."""
    if path.is_dir():
        return f"a folder; {_TARGETS}"
    if path.is_file():  # of Python
        return f"names no model; say which function or object makes it, as in {path}:build"
    return f"{'a pipe or a device' if path.exists() else 'no such file'}; {_TARGETS}"


def _of_log(request: "Request", python: str | None, steps: int | None) -> "Seen":
    """What a log tells. Raises CaptureError where an option concerns models alone."""
    from harness import codec
    from harness.ask import logs
    from harness.captures.base import Request

    if python or request != Request(request.target):
        raise CaptureError("a log has its shapes, and is parsed as it is; allowed with it: --anonymous, --out, --steps")
    where = "standard input" if request.target == "-" else request.target
    try:
        data = sys.stdin.buffer.read(_MOST_LOG_BYTES + 1) if request.target == "-" else codec.read(request.target)
        if data[:2] == b"\x1f\x8b":
            with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
                data = file.read(_MOST_LOG_BYTES + 1)
    except (OSError, ValueError, EOFError) as error:
        raise CaptureError(f"{where}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if len(data) > _MOST_LOG_BYTES:
        raise CaptureError(f"{where}: has more than the 1 GiB that is allowed")
    try:
        return logs.seen(data.decode(errors="replace"), steps)
    except CaptureError as error:
        raise CaptureError(f"{where}: {error}") from None


def _name(target: str) -> str:
    """The name of the suite: that of the callable, or of the file."""
    if target == "-":
        return "captured"
    place, colon, callable_ = target.rpartition(":")
    if colon and not Path(target).is_file():
        return Path(place).stem if callable_ in ("build", "model", "main", "loss", "forward") else callable_
    return Path(target).name.split(".")[0]


def _told_target(target: str) -> str:
    """The target as it may stand in a file that others read: without the folders of this machine."""
    place, colon, callable_ = target.rpartition(":")
    return f"{Path(place).name}{colon}{callable_}" if colon else Path(target).name


def _show(captured: "Captured") -> None:
    """The table of the layers, what was left out, and what is to be said."""
    from harness import units
    from harness.ask.captured import told_left_out
    from harness.cli.tables import listing

    console = stdout()
    directions = captured.directions
    whole = sum(map(captured.flop, directions)) or 1
    varying = len({(layer.precision, layer.layout) for layer in captured.layers}) > 1
    headings = ["layer", "shape", *(["precision", "layout"] if varying else []), *map(str, directions), "FLOP", "share"]
    headings += ["remark"] if any(layer.remarks for layer in captured.layers) else []
    rows = [
        [layer.name, str(layer.spec), *([str(layer.precision), str(layer.layout)] if varying else []),
         *(str(layer.counts.get(each, 0)) for each in directions), units.flop(layer.flop),
         units.percent(layer.flop / whole), "; ".join(layer.remarks)][: len(headings)]
        for layer in captured.layers
    ]  # fmt: skip
    if rows:
        console.print(listing(headings, rows))
    totals = ", ".join(f"{each.words} {units.flop(captured.flop(each))}" for each in directions)
    calls, shapes = units.many(captured.calls, "call"), units.many(len(rows), "shape")
    console.print(f"{captured.name}, {captured.source}: {calls} in {captured.counts_of}, {shapes}; {totals}", soft_wrap=True)
    _lines(f"left out: {line}" for line in told_left_out(captured.left_out))
    _lines(captured.notes)
    if captured.timing:
        timing = captured.timing
        share, steps = timing.convolutions_ns / timing.step_ns, units.many(timing.steps, "step")
        times = f"{units.duration(timing.convolutions_ns)} of {units.duration(timing.step_ns)}"
        fused = units.duration(timing.shared_ns)
        shared = f"; {fused} of it in operations that have other work in them" if timing.shared_ns else ""
        told = f"convolutions take {units.percent(share)} of a step: {times}, medians of {steps}{shared}"
        console.print(told, soft_wrap=True)


def _lines(lines: Iterable[str]) -> None:
    for line in lines:
        stdout().print(line, soft_wrap=True)
