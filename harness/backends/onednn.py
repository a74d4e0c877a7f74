"""What oneDNN says of the primitives that it ran: its verbose lines, by which PyTorch and TensorFlow name their kernels.

oneDNN prints them through C's stdio to file descriptor 1 of the process, which must be a file. One line for each primitive:

    onednn_verbose,v1,1750000000000.123456,primitive,exec,cpu,convolution,brg_conv_fwd:avx512_core,forward_training,
    src:f32::blocked:acdb::f0 wei:f32:a:blocked:Acdb64a::f0 bia:undef::undef::: dst:f32::blocked:acdb::f0,
    attr-scratchpad:user,alg:convolution_direct,mb1_ic3oc64_ih28oh28kh5sh1dh0ph2_iw28ow28kw5sw1dw0pw2,0.049

What its fields are, a line before the first of them says, the template. The time at the front is when it began, by the clock of
`time.time_ns` in ms; it is there where `ONEDNN_VERBOSE_TIMESTAMP=1` was set before the first primitive. Source:
https://uxlfoundation.github.io/oneDNN/dev_guide_verbose.html, and src/common/verbose.cpp of uxlfoundation/oneDNN.
"""

import ctypes
import os
import re
import stat
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

from harness.axes import Switch
from harness.backends import kinds
from harness.profile import MOVING, Event, Kind, Level, Role
from harness.spec import Cell

SOURCE = "oneDNN"
_MARKER = "onednn_verbose"
_OUTPUT, _NAMELESS = "/proc/self/fd/1", "/memfd:"

_KINDS = {
    "convolution": Kind.CONVOLUTION, "deconvolution": Kind.CONVOLUTION, "inner_product": Kind.GEMM, "matmul": Kind.GEMM,
    "gemm": Kind.GEMM, "gemm_api": Kind.GEMM, "reorder": Kind.REORDER, "eltwise": Kind.ELEMENTWISE, "binary": Kind.ELEMENTWISE,
    "sum": Kind.ELEMENTWISE, "prelu": Kind.ELEMENTWISE, "reduction": Kind.REDUCTION, "pooling": Kind.REDUCTION,
    "concat": Kind.COPY, "shuffle": Kind.TRANSPOSE,
}  # fmt: skip
_TIME = re.compile(r"\d+\.\d+")
_VERSION = re.compile(r"oneDNN v(\d+(?:\.\d+)*)")
_DIMS = re.compile(r"\d+(?:x\d+)*")
# src:f32::blocked:acdb::f0, or src_f32::blocked:ab:f0 as products print it: name, type, flags, kind of format, format.
_MEMORY = re.compile(
    r"(?P<name>[a-z]+(?:_[a-z]+)*?)[:_](?P<type>[a-z]+\d\w*|boolean|undef):\w*:(?P<kind>\w+)(?::(?P<format>\w*))?"
)


class Memory(NamedTuple):
    """A tensor as a line describes it: its type, `f32`, and the order of its dimensions, `acdb`; empty where it has none."""

    type: str = ""
    format: str = ""


class Header(NamedTuple):
    """What oneDNN prints before its first line: its version, and the names of a line's fields from `operation` on."""

    version: str
    fields: tuple[str, ...]


_known: list[Header] = []  # at most one


@dataclass
class Printed:
    """What oneDNN printed while `printed` was open: nothing before that is left."""

    header: Header | None = None
    lines: tuple[str, ...] = ()

    @property
    def source(self) -> str:
        """`oneDNN 3.7.3 verbose`; without the version where it has printed nothing in this process."""
        return f"{SOURCE} {self.header.version} verbose" if self.header else f"{SOURCE} verbose"

    def events(self, cell: Cell) -> list[Event]:
        """One event for each primitive that ran. Raises ValueError where a line is not as its template says."""
        return events(self.lines, self.header, cell)


@contextmanager
def printed(switch: Callable[[int], object] = lambda level: None) -> Iterator[Printed]:
    """What oneDNN prints from here to the exit, which is when the object is filled.

    `switch` turns the printing on by 1 and off by 0 where that is done at run time. Raises RuntimeError where standard output
    is no file, from which nothing could be read. One that is of this process alone, without a name, is emptied.
    """
    begin = _printed_bytes()
    found = Printed(_remembered())
    if os.readlink(_OUTPUT).startswith(_NAMELESS):  # it lies in memory, and all calls that nothing watches print into it too
        os.ftruncate(1, 0)
        begin = 0
    switch(1)
    try:
        yield found
    finally:
        switch(0)
        end = _printed_bytes()
        found.header = _remembered()
        with open(_OUTPUT, "rb") as file:
            file.seek(begin)
            found.lines = complete(file.read(end - begin).decode(errors="replace"))


def _printed_bytes() -> int:
    """How much has been printed so far, what is still in a buffer of Python's or C's included."""
    sys.stdout.flush()
    ctypes.CDLL(None).fflush(None)
    output = os.fstat(1)
    if not stat.S_ISREG(output.st_mode):
        raise RuntimeError(f"standard output of this process is no file, so that nothing of what {SOURCE} prints can be read")
    return output.st_size


def _remembered() -> Header | None:
    """What oneDNN printed before its first line, once in a process; None where it has printed nothing yet."""
    if not _known:
        with open(_OUTPUT, errors="replace") as file:
            _known.extend(filter(None, [header(file)]))
    return _known[0] if _known else None


def complete(text: str) -> tuple[str, ...]:
    """The lines of oneDNN in a text. What no newline ends was cut off, by the end of the process, and is left out."""
    return tuple(line for line in text.split("\n")[:-1] if line.startswith(f"{_MARKER},"))


def header(lines: Iterable[str]) -> Header | None:
    """The version and the template, from the lines that a process printed since its start; None where there is no template."""
    version = ""
    for line in lines:
        if not line.startswith(f"{_MARKER},"):
            continue
        if found := _VERSION.search(line):
            version = found[1]
        before, template, names = line.rstrip("\n").partition("info,template:")
        if template and not before.endswith("graph,"):
            return Header(version, tuple(name for name in names.split(",") if name != "timestamp"))
    return None


def events(lines: Iterable[str], header: Header | None, cell: Cell) -> list[Event]:
    """One event for each line of a primitive that ran; lines about anything else are left out.

    Raises ValueError where a line is not as the template says, has no time, or there is no template.
    """
    return [_event(line, *found, cell) for line in lines if (found := _fields(line, header))]


def _fields(line: str, header: Header | None) -> tuple[float, dict[str, str]] | None:
    """When a primitive began, in ms, and the fields of its line by name; None where the line is about something else."""
    values = line.split(",")[1:]
    if re.fullmatch(r"v\d+", values[0]):
        del values[0]
    began = float(values.pop(0)) if values and _TIME.fullmatch(values[0]) else None
    if values[:2] != ["primitive", "exec"]:
        return None
    if header is None:
        raise ValueError(f"{SOURCE} printed no template, by which its lines are read: {line!r}")
    if began is None:
        raise ValueError(f"{SOURCE} printed no times, since ONEDNN_VERBOSE_TIMESTAMP was not set soon enough: {line!r}")
    if len(values) - 1 != len(header.fields):
        raise ValueError(f"{SOURCE} {header.version} printed a line that its template does not describe: {line!r}")
    return began, dict(zip(header.fields, values[1:], strict=True))


def _event(line: str, began_ms: float, fields: dict[str, str], cell: Cell) -> Event:
    try:
        name, problem, took_ms = fields["primitive"], fields["problem_desc"], float(fields["exec_time"])
        implementation, memory = fields["implementation"], _memory(fields["memory_descriptors"])
    except (KeyError, ValueError) as error:
        raise ValueError(f"{SOURCE} printed a line that cannot be read ({type(error).__name__}: {error}): {line!r}") from error
    data = memory.get("data", Memory())
    source, target = memory.get("src", memory.get("src_a", data)), memory.get("dst", data)
    kind, types = _KINDS.get(name, Kind.OTHER), source.type
    if kind is Kind.REORDER and source.type != target.type:
        kind = Kind.CONVERT if source.format == target.format else kind
        types = f"{source.type}->{target.type}"
    moved = Role.UNKNOWN
    if kind in MOVING and _DIMS.fullmatch(problem):
        moved = kinds.role(tuple(map(int, problem.split("x"))), cell)
    start = round(began_ms * 1e6)
    return Event(
        start, start + round(took_ms * 1e6), SOURCE, Level.PRIMITIVE, name, kind, SOURCE, implementation,
        f"{types} {problem}".strip(), source.format, target.format, moved,
    )  # fmt: skip


def _memory(text: str) -> dict[str, Memory]:
    """The tensors of a line by their names there; of equal names the first. Raises ValueError for what describes none."""
    found: dict[str, Memory] = {}
    for part in text.split():
        match = _MEMORY.match(part)
        if not match:
            raise ValueError(f"{part!r} describes no tensor")
        type_ = "" if match["type"] == "undef" else match["type"]
        found.setdefault(match["name"], Memory(type_, match["format"] or ""))
    return found


def isa(choice: Switch) -> dict[str, str]:
    """The variable by which oneDNN uses no newer instructions than a switch allows; empty where that is about something else.

    Names: https://uxlfoundation.github.io/oneDNN/dev_guide_cpu_dispatcher_control.html
    """
    newest = {Switch.ISA_AVX2: "AVX2", Switch.ISA_AVX512: "AVX512_CORE"}.get(choice)
    return {"ONEDNN_MAX_CPU_ISA": newest} if newest else {}
