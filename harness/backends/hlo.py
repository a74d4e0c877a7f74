"""What the operations of a program of XLA are, by its text after optimisation: HLO, which JAX and TensorFlow can print.

A profile names an operation only (`ynn_fusion.1`). Here stands whether that is a convolution, in which type of numbers and with
which dilation, who computes it, or what else it does. Format: https://openxla.org/xla/operation_semantics and hlo_parser.cc.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from harness.backends import kinds
from harness.profile import MOVING, Kind, Role
from harness.spec import Cell


class Operation(NamedTuple):
    """What an operation does, who computes it, and its problem, as the fields of `Event` are."""

    kind: Kind
    implementation: str = ""
    detail: str = ""
    src_format: str = ""
    dst_format: str = ""
    role: Role = Role.UNKNOWN


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# The work that a fusion is named for is the first of these that is in it.
_KINDS: tuple[tuple[Kind, frozenset[str]], ...] = (
    (Kind.CONVOLUTION, _names("convolution conv")),
    (Kind.GEMM, _names("dot ragged-dot scaled-dot")),
    (Kind.FRAMEWORK, _names("while conditional call async-start async-done")),
    (Kind.REDUCTION, _names("reduce reduce-window select-and-scatter")),
    (
        Kind.ELEMENTWISE,
        _names(
            "abs add and atan2 cbrt ceil clamp compare complex cosine div divide erf exponential exponential-minus-one floor "
            "imag is-finite log log-plus-one logistic map maximum minimum mul multiply negate not or power real remainder rng "
            "round-nearest-afz round-nearest-even rsqrt select sign sine sqrt sub subtract tan tanh xor"
        ),
    ),
    (Kind.CONVERT, _names("bitcast-convert convert reduce-precision")),
    (Kind.TRANSPOSE, _names("rev reverse transpose")),
    (Kind.COPY, _names("concatenate copy copy-done copy-start dynamic-update-slice gather pad scatter")),
    (
        Kind.BOOKKEEPING,
        _names("bitcast broadcast constant dynamic-slice get-tuple-element iota parameter reshape slice tuple"),
    ),
)
_TARGETS = ((Kind.CONVOLUTION, "conv"), (Kind.GEMM, "gemm"), (Kind.GEMM, "matmul"))  # what a custom call's target has in it
_FUSION = "fusion"
_HANDING_ON = frozenset({"bitcast", "get-tuple-element", "reshape"})
_EIGEN = "Eigen"  # what XLA computes a convolution with on a CPU where no other library took it

_COMPUTATION = re.compile(r"(?:ENTRY )?%?(?P<name>[\w.\-]+) .*\{$")
_INSTRUCTION = re.compile(
    r"\s+(?:ROOT )?%?(?P<name>[\w.\-]+) = (?P<shape>\(.*?\)|\S+) (?P<opcode>[a-z][\w\-]*)\((?P<operands>[^)]*)\)(?P<rest>.*)"
)
_SHAPE = re.compile(r"(?P<type>[a-z]\w*)\[(?P<dims>[\d,]*)\](?:\{(?P<layout>[\d,]*))?")
_MADE_OF = re.compile(r'op_name="(?:[^"]*/)?([^"/\[]*)')
_REFERENCE = re.compile(r"%([\w.\-]+)")
_CALLED = re.compile(r"(?:calls|to_apply)=%?([\w.\-]+)")
_WINDOW = re.compile(r"window=\{([^}]*)\}")
_GROUPS = re.compile(r"(?:feature|batch)_group_count=\d+")
_FUSED = re.compile(r"kind=k(\w+)")
_LIBRARY = re.compile(r'"kind"\s*:\s*"__(\w+)"')
_TARGET = re.compile(r'custom_call_target="([^"]*)"')
_ALGORITHM = re.compile(r'"algorithm"\s*:\s*\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\}')


class Shape(NamedTuple):
    """The type of an array, its dimensions, and their order in memory from the fastest on, `3,2,1,0`."""

    type: str
    dims: tuple[int, ...]
    layout: str

    def __str__(self) -> str:
        return "x".join(map(str, self.dims))

    @classmethod
    def parse(cls, text: str) -> "Shape":
        """That of an array, or of the first one of a tuple."""
        found = _SHAPE.search(text)
        if not found:
            return cls("", (), "")
        return cls(found["type"], tuple(int(size) for size in found["dims"].split(",") if size), found["layout"] or "")


@dataclass(frozen=True)
class Instruction:
    """A line of a computation: the name of its result, what computes it of which operands, and all that follows."""

    name: str
    shape: Shape
    opcode: str
    operands: tuple[str, ...]
    rest: str


@dataclass
class Program:
    """The operations of a program by name. Of what its text does not have, the name alone is asked.

    `cell` is the one that it computes, by which tensors are told; None: a program of anything.
    """

    text: str
    cell: Cell | None = None
    _computations: dict[str, dict[str, Instruction]] = field(init=False, repr=False)
    _operations: dict[tuple[str, str], Operation] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        self._computations = _parsed(self.text.splitlines())

    def operation(self, name: str, module: str = "") -> Operation:
        """What an operation of this name is. `module` is the name of the program that it belongs to, as a trace has it."""
        if (name, module) not in self._operations:
            found = self._instruction(name)
            self._operations[name, module] = self._described(*found) if found else _by_name(name, module)
        return self._operations[name, module]

    def made_of(self, name: str) -> tuple[tuple[Kind, str], ...]:
        """What works in an operation, itself or fused into it: its kind, and what the framework's own program calls it.

        That is the last part of its `op_name`, of JAX a primitive as `conv_general_dilated`; empty where it has none. Of what
        the text does not have there is nothing.
        """
        found = self._instruction(name)
        if found is None:
            return ()
        inner = self._inside(found[0])
        each = [(one, inner) for one in inner.values()] or [found]
        told = ((self._described(*one).kind, _MADE_OF.search(one[0].rest)) for one in each)
        return tuple((kind, named[1] if named else "") for kind, named in told if kind is not Kind.BOOKKEEPING)

    def around(self, name: str) -> frozenset[str]:
        """The operations that an operation reads from, and those that read from it, past what only hands on."""
        found = self._instruction(name)
        if found is None:
            return frozenset()
        computation = found[1]
        reads = {each.name: each.operands for each in computation.values()}
        readers: dict[str, list[str]] = {}
        for each in computation.values():
            for operand in each.operands:
                readers.setdefault(operand, []).append(each.name)
        return frozenset(_past(name, reads, computation)) | frozenset(_past(name, readers, computation))

    def _instruction(self, name: str) -> tuple[Instruction, dict[str, Instruction]] | None:
        """The instruction of this name, and the computation that it stands in."""
        return next(((each[name], each) for each in self._computations.values() if name in each), None)

    def _inside(self, instruction: Instruction) -> dict[str, Instruction]:
        """What is fused into an instruction; nothing where it is no fusion."""
        called = _CALLED.search(instruction.rest)
        return self._computations.get(called[1], {}) if called and instruction.opcode == _FUSION else {}

    def _described(self, instruction: Instruction, computation: dict[str, Instruction]) -> Operation:
        opcode, inner = instruction.opcode, self._inside(instruction)
        if opcode == "custom-call":
            return _custom_call(instruction, computation)
        kind = kind_of(each.opcode for each in inner.values()) if inner else kind_of([opcode])
        implementation = _implementation(instruction)
        for within, others in ((instruction, computation), *((each, inner) for each in inner.values())):
            if within.opcode == "convolution":
                made = implementation if opcode == _FUSION else _EIGEN
                return Operation(Kind.CONVOLUTION, made, _convolution(within, others))
        if kind in MOVING:
            return self._moving(kind, implementation, instruction, computation)
        work = " ".join(_work(inner.values())) if inner else opcode
        return Operation(kind, implementation, " ".join(filter(None, (instruction.shape.type, str(instruction.shape), work))))

    def _moving(self, kind: Kind, by: str, instruction: Instruction, computation: dict[str, Instruction]) -> Operation:
        """Of an operation that moves or converts one array; a copy into another order of the dimensions reorders."""
        result, source = instruction.shape, _operand(instruction, computation)
        if kind is Kind.COPY and source.layout not in ("", result.layout):
            kind = Kind.REORDER
        types = result.type if source.type in ("", result.type) else f"{source.type}->{result.type}"
        tensor = kinds.role(result.dims, self.cell)
        return Operation(kind, by, f"{types} {result}", source.layout, result.layout, tensor)


def _past(name: str, ways: Mapping[str, Sequence[str]], computation: Mapping[str, Instruction]) -> Iterator[str]:
    """What the ways from a name lead to, past what only hands on."""
    for each in ways.get(name, ()):
        if each in computation and computation[each].opcode in _HANDING_ON:
            yield from _past(each, ways, computation)
        else:
            yield each


def _parsed(lines: Iterable[str]) -> dict[str, dict[str, Instruction]]:
    """The instructions of each computation, by name; those of the entry and of loops first, since fusions are named in them."""
    found: dict[str, dict[str, Instruction]] = {}
    current: dict[str, Instruction] = {}
    for line in lines:
        if line.startswith("HloModule"):
            continue
        if computation := _COMPUTATION.match(line):
            current = found.setdefault(computation["name"], {})
        elif instruction := _INSTRUCTION.match(line):
            operands = _operands(instruction["operands"])
            name, shape = instruction["name"], Shape.parse(instruction["shape"])
            current[name] = Instruction(name, shape, instruction["opcode"], operands, instruction["rest"])
    fused = {called[1] for each in found.values() for one in each.values() if (called := _CALLED.search(one.rest))}
    return dict(sorted(found.items(), key=lambda item: item[0] in fused))


def _operands(text: str) -> tuple[str, ...]:
    """The names in the brackets of an instruction, with or without the types before them."""
    if "%" in text:
        return tuple(_REFERENCE.findall(text))
    return tuple(part.split()[-1] for part in text.split(",") if part.strip())


def kind_of(opcodes: Iterable[str]) -> Kind:
    """What all of these together do: the first of `_KINDS` that one of them is."""
    given = set(opcodes)
    return next((kind for kind, names in _KINDS if not given.isdisjoint(names)), Kind.OTHER)


def _work(instructions: Iterable[Instruction]) -> Iterator[str]:
    """The opcodes that do more than hand on, each once, in their order."""
    opcodes = dict.fromkeys(each.opcode for each in instructions)
    return (opcode for opcode in opcodes if kind_of([opcode]) is not Kind.BOOKKEEPING)


def _implementation(instruction: Instruction) -> str:
    """Of a fusion the library that runs it, `ynn_fusion`, or how XLA made it, `loop fusion`; empty for anything else."""
    if instruction.opcode != _FUSION:
        return ""
    if library := _LIBRARY.search(instruction.rest):
        return library[1]
    made = _FUSED.search(instruction.rest)
    return f"{made[1].lower()} fusion" if made else _FUSION


def _custom_call(instruction: Instruction, computation: dict[str, Instruction]) -> Operation:
    """A call of a library, with the algorithm that was chosen where the text has it: `__cudnn$convForward`."""
    named = _TARGET.search(instruction.rest)
    target = named[1] if named else ""
    kind = next((kind for kind, part in _TARGETS if part in target.lower()), Kind.OTHER)
    detail = (
        _convolution(instruction, computation) if kind is Kind.CONVOLUTION else f"{instruction.shape.type} {instruction.shape}"
    )
    algorithm = _ALGORITHM.search(instruction.rest)
    return Operation(kind, target, f"{detail} {algorithm[0]}" if algorithm else detail)


def _convolution(instruction: Instruction, computation: dict[str, Instruction]) -> str:
    """`f32 1x28x28x3 * 5x5x3x64 -> 1x28x28x64 size=5x5 pad=2_2x2_2`: type, shapes, window with its dilations, groups."""
    left, right = (_operand(instruction, computation, number) for number in (0, 1))
    window = _WINDOW.search(instruction.rest)
    parts = [left.type or instruction.shape.type, f"{left} * {right} -> {instruction.shape}"]
    parts += [window[1]] if window else []
    parts += [groups for groups in _GROUPS.findall(instruction.rest) if not groups.endswith("=1")]
    return " ".join(parts)


def _operand(instruction: Instruction, computation: dict[str, Instruction], number: int = 0) -> Shape:
    """The shape of an operand; an empty one where the text does not have it."""
    names = instruction.operands
    found = computation.get(names[number]) if number < len(names) else None
    return found.shape if found else Shape("", (), "")


def _by_name(name: str, module: str) -> Operation:
    """What the names tell where there is no text, as of JAX's single operations: `ynn_fusion` of `jit_conv_general_dilated`."""
    parts = re.split(r"[^a-z]+", name.lower())
    own = [part for part in parts if part not in ("", _FUSION, "wrapped")]
    if name.startswith("ynn_fusion") or not own:
        kind = kind_of(re.split(r"[^a-z]+", module.lower()))
        return Operation(kind, "ynn_fusion" if own else "")
    kind = kind_of(own)
    return Operation(kind, _EIGEN if kind is Kind.CONVOLUTION else "")
