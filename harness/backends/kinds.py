"""What the readers of events share: which of nested operators does the work, which tensor is moved, what a kernel does."""

import math
import re
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from harness.profile import COMPUTING, MOVING, Event, Kind, Role
from harness.spec import Cell, ConvSpec

_WORK = COMPUTING | MOVING


def nested(events: Sequence[Event]) -> Iterator[tuple[int, tuple[int, ...]]]:
    """The place of each event, with the places of those around it on its thread, the innermost last."""
    at = {number: (event.thread, event.start_ns, -event.end_ns) for number, event in enumerate(events)}
    around: list[int] = []
    for number in sorted(at, key=at.__getitem__):
        event = events[number]
        while around and (events[around[-1]].thread != event.thread or events[around[-1]].end_ns < event.end_ns):
            around.pop()
        yield number, tuple(around)
        around.append(number)


def settled(operators: Sequence[Event], primitives: Iterable[Event]) -> list[Event]:
    """The operators, each of kind FRAMEWORK where what it is named for is done by something inside it.

    That is a primitive, or an operator of the same kind on the same thread, as `aten::convolution` inside `aten::conv2d`. The
    matrix products inside a convolution are how it computes, so that it stays one.
    """
    middles = sorted(((event.start_ns + event.end_ns) // 2, event.kind) for event in primitives)
    times = [time for time, _ in middles]  # a middle lies inside even where two clocks differ by a microsecond
    calling = {
        outer
        for number, around in nested(operators)
        for outer in around
        if operators[number].kind in _WORK and operators[outer].kind is operators[number].kind
    }
    found = []
    for number, event in enumerate(operators):
        inside = {kind for _, kind in middles[bisect_left(times, event.start_ns) : bisect_right(times, event.end_ns)]}
        if event.kind is Kind.CONVOLUTION:
            inside.discard(Kind.GEMM)
        calls = number in calling or bool(inside)
        found.append(replace(event, kind=Kind.FRAMEWORK, implementation="") if calls else event)
    return found


def starting(operator: Event) -> Event:
    """An operator of the host where the work is a GPU's: it is FRAMEWORK, since it only starts what a kernel does."""
    if operator.kind is Kind.BOOKKEEPING:
        return operator
    return replace(operator, kind=Kind.FRAMEWORK, implementation="")


def role(dims: Sequence[int], cell: Cell | None) -> Role:
    """Which tensor of a convolution has these dimensions, or else as many elements; UNKNOWN where none has, or both."""
    if cell is None or not isinstance(cell.spec, ConvSpec):
        return Role.UNKNOWN
    spec = cell.spec
    padded = (spec.n, spec.c, *(low + size + high for size, (low, high) in zip(spec.spatial, spec.padding, strict=True)))
    grouped = (spec.groups, spec.k // spec.groups, spec.c // spec.groups, *spec.kernel)
    shapes = {Role.FILTER: (spec.w_shape, grouped), Role.ACTIVATION: (spec.x_shape, spec.y_shape, padded)}
    wanted, elements = tuple(dims), math.prod(dims)
    exact = [name for name, known in shapes.items() if wanted in known]
    alike = [name for name, known in shapes.items() if elements in map(math.prod, known)]
    (found,) = exact if len(exact) == 1 else alike if len(alike) == 1 else [Role.UNKNOWN]
    return found


# By what stands in the names of CUDA's, cuDNN's and the compilers' kernels; the first that fits counts.
_KERNELS = tuple(
    (kind, re.compile(pattern, re.IGNORECASE))
    for kind, pattern in (
        (Kind.REORDER, r"nchwtonhwc|nhwctonchw|nchw2nhwc|nhwc2nchw|tensortransform|transformtensor"),
        (Kind.CONVOLUTION, r"fprop|dgrad|wgrad|winograd|conv(?!ert)"),
        (Kind.GEMM, r"gemm|matmul|gemv|cublas|cutlass"),
        (Kind.TRANSPOSE, r"transpose|permute"),
        (Kind.OPTIMIZER, r"multi_tensor|adam|sgd|applygradientdescent"),
        (Kind.REDUCTION, r"reduc|softmax|splitk"),
        (Kind.BOOKKEEPING, r"memset|fill|iota"),
        (Kind.CONVERT, r"convert|cast"),
        (Kind.COPY, r"memcpy|copy|concat|catarray|pad(?!d)"),
        (Kind.ELEMENTWISE, r"elementwise|pointwise|add|mul|sub|sqrt"),
    )
)


def kernel_kind(name: str) -> Kind:
    """What a kernel on a GPU does, by its name; OTHER where that says nothing."""
    return next((kind for kind, pattern in _KERNELS if pattern.search(name)), Kind.OTHER)
