"""What a capture is asked and what it is: Request, and Capture, the base class of the frameworks' captures."""

import contextlib
import inspect
import re
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from importlib import metadata
from typing import Any, ClassVar

from harness.axes import PASSES, Direction
from harness.calls import Call, LeftOut, Seen
from harness.errors import CaptureError
from harness.plain import plain

# Captures by the name of their framework, `module:Class`. No framework is imported before its class is made. They stand here
# and not in the package's metadata, of which an interpreter that is named by --python is shown nothing.
CAPTURES = {
    "torch": "harness.captures.torch:TorchCapture", "tensorflow": "harness.captures.tensorflow:TensorFlowCapture",
    "jax": "harness.captures.jax:JaxCapture", "onnx": "harness.captures.onnx:OnnxCapture",
}  # fmt: skip
GROUP = "harness.captures"  # of the entry points by which other packages add captures
BEYOND = 10**9  # every size of an input is below it, as in a table of shapes
# The options of the command line that are arguments of `harness.capture`, too.
_ARGUMENTS = {"--input": "inputs", "--framework": "framework", "--infer": "gradients=False"}


def known() -> dict[str, str]:
    """The captures of this interpreter: ours, and those that other packages register in it under names of their own."""
    others = {point.name: point.value for point in metadata.entry_points(group=GROUP)}
    return {**CAPTURES, **{name: target for name, target in sorted(others.items()) if name not in CAPTURES}}


@dataclass(frozen=True)
class Input:
    """A tensor that a model is called with, by its shape alone; without a dtype the model's own precision, or float32."""

    shape: tuple[int, ...]
    dtype: str = ""


@dataclass(frozen=True)
class Request:
    """What is to be captured, and how.

    `target` is `module:callable`, `file.py:callable` or the path of a model's file. `sizes` are those of symbolic dimensions by
    name, `arguments` texts of Python literals that the callable is called with. Without `gradients` the forward pass alone is
    asked for, without `weights` the model is built without their memory. `real` computes all of it, and `timed` measures it.
    `precision` and `layout` are what the model is converted to, by the words of the axes; empty: it stays as it is.
    `in_program` says that it is one of `harness.capture`, and not of the command line: messages name what each of them takes.
    """

    target: str = ""
    framework: str = ""
    inputs: tuple[Input, ...] = ()
    sizes: dict[str, int] = field(default_factory=dict)
    arguments: dict[str, str] = field(default_factory=dict)
    gradients: bool = True
    weights: bool = True
    real: bool = False
    timed: bool = False
    precision: str = ""
    layout: str = ""
    in_program: bool = False

    def option(self, name: str) -> str:
        """An option by the name that messages give it: `--input`, in a program `inputs`."""
        return _ARGUMENTS.get(name, f"convbench capture {name}") if self.in_program else name

    def without_inputs(self, wants: str, *shape: int) -> CaptureError:
        """What is said where there is no input: `wants` says what the model must be called with, as with such a shape."""
        example = str(shape) if self.in_program else f"--input {','.join(map(str, shape))}"
        return CaptureError(f"{self.option('--input')}: {wants}; give the shape of each, as in {example}")

    def nothing_trained(self) -> CaptureError:
        """What is said where a step would have no gradient."""
        told = "nothing that the model gives depends on what is trained"
        return CaptureError(f"{told}; {self.option('--infer')} leaves the gradients out")


class Capture(ABC):
    """A framework's way to see the convolutions of a step of a model. Its `__init__` alone imports the framework."""

    name: ClassVar[str]  # that of the framework
    suffixes: ClassVar[tuple[str, ...]] = ()  # of files that it reads
    functions: ClassVar[bool] = False  # whether a plain function passes for a model
    options: ClassVar[frozenset[str]] = frozenset()  # the fields of Request that it heeds beyond those of all

    @classmethod
    @abstractmethod
    def takes(cls, model: object) -> bool:
        """Whether the object is a model of this framework, told by the names of its classes alone."""

    @abstractmethod
    def capture(self, model: Any, inputs: Sequence[Any], request: Request) -> Seen:
        """What a step of the model asks for. `inputs` are Input or the framework's own arrays. Raises CaptureError."""

    def building(self, request: Request) -> AbstractContextManager[Any]:
        """What surrounds the making of the model."""
        return contextlib.nullcontext()


# Operations of models without convolutions, as frameworks call them.
_PRODUCTS = re.compile(r"mm$|matmul|dot|gemm|linear|attention|einsum|fft|^DFT$", re.IGNORECASE)
_FOURIER = re.compile(r"fft|^DFT$", re.IGNORECASE)  # by which a convolution can be computed, and much else
_MOST_NAMED = 6  # operations in a message


def is_named(model: object, *packages: str) -> bool:
    """Whether a class of the object, or one that it inherits from, was defined in one of these packages."""
    return any(kind.__module__.partition(".")[0] in packages for kind in type(model).__mro__)


def wanted(function: Callable[..., Any]) -> str:
    """The names of what a function must be called with."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return "inputs"
    names = [each.name for each in parameters if each.default is each.empty and each.kind is not each.VAR_KEYWORD]
    return ", ".join(names) or "no input by a name"


class Notes:
    """What is seen, as it is seen, with equal calls counted."""

    def __init__(self) -> None:
        self._calls: Counter[Call] = Counter()
        self._left: Counter[LeftOut] = Counter()
        self.operations: Counter[str] = Counter()
        self.said: dict[str, None] = {}

    def call(self, call: Call, times: int = 1) -> None:
        """A pass over a convolution."""
        self._calls[call] += times

    def layer(self, call: Call, directions: Iterable[Direction], times: int = 1) -> None:
        """Those passes over the convolution of a call."""
        for direction in directions:
            self.call(replace(call, direction=direction), times)

    @property
    def calls(self) -> tuple[Call, ...]:
        """The calls so far."""
        return tuple(replace(call, times=times) for call, times in self._calls.items())

    def left_out(self, what: str, why: str, name: str = "", times: int = 1) -> None:
        """What is no call."""
        self._left[LeftOut(plain(what)[:200], plain(why)[:300], plain(name)[:200])] += times

    def seen(self, source: str, **more: Any) -> Seen:
        """All of it. Raises CaptureError where no convolution is in it."""
        if not self._calls and not self._left:
            products = [found for found in self.operations.most_common() if _PRODUCTS.search(found[0])]
            told = _counted((products or self.operations.most_common())[:_MOST_NAMED])
            raise CaptureError(f"no convolution seen; what was seen: {told or 'no operation at all'}")
        if fourier := _counted(found for found in self.operations.most_common() if _FOURIER.search(found[0])):
            self.said[f"Fourier transforms were seen ({fourier}): a convolution that is computed by them is left out"] = None
        left = tuple(replace(one, times=times) for one, times in self._left.items())
        return Seen(source, self.calls, left, dict(self.operations), tuple(self.said), **more)


def _counted(operations: Iterable[tuple[str, int]]) -> str:
    """Operations, each with how often it was seen."""
    return ", ".join(f"{name} x {times}" for name, times in operations)


# How a value came about, for graphs without gradients: it depends on the model's inputs, and on what is trained.
DATA, TRAINED = 1, 2


def constant(shape: Sequence[int]) -> int:
    """How a tensor that is part of the model came about; what has but one dimension, as a mean does, passes for untrained."""
    return TRAINED if sum(size > 1 for size in shape) > 1 else 0


def followed(operands: Iterable[int]) -> int:
    """How the result of an operation came about, by how its operands did."""
    found = 0
    for operand in operands:
        found |= operand
    return found


def weighed(x: int, w: int) -> int:
    """How the result of a product came about: what depends on no input is a parameter, and the result depends on it."""
    return x | w | (0 if x & w & DATA else TRAINED)


def passes(x: int, w: int, gradients: bool) -> tuple[Direction, ...]:
    """The passes that a training step makes over a convolution in a graph of the forward pass.

    The input gradient is asked for where x depends on what is trained before it, the filter gradient where the filter is a
    parameter, or computed from one.
    """
    if not gradients:
        return (Direction.FPROP,)
    asked = {Direction.FPROP: True, Direction.DGRAD: bool(x & TRAINED), Direction.WGRAD: not w & DATA or bool(w & TRAINED)}
    return tuple(direction for direction in PASSES if asked[direction])
