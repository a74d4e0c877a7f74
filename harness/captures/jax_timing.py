"""How much of a real step in JAX its convolutions take: the step is compiled as a whole, and XLA's profiler tells of it.

XLA fuses and replaces operations, and says of most which primitive of JAX they were made of. So the time of a convolution is
that of the operations that were made of it, as a convolution or as a product, and of those that do nothing but move its arrays.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from harness.backends import hlo, jax_profile, traces
from harness.calls import Timing
from harness.captures import timing
from harness.captures.base import TRAINED, constant
from harness.captures.timing import UnknownShareError
from harness.measure.attribute import Span
from harness.profile import MOVING, Event, Kind, Level

CONVOLUTION = "conv_general_dilated"
_CALLS = ("jit", "pjit")  # what the call of a jitted function is in a jaxpr, by JAX's version
_MOVES = frozenset({"", CONVOLUTION, "rev"})  # what is called so may be part of a convolution: a gradient turns the filter

Parts = Sequence[tuple[Kind, str]]
Arrays = tuple[list[Any], list[Any]]


def values(jax: Any, leaves: Sequence[Any], about: Sequence[int]) -> list[Any]:
    """The leaves of the arguments, with numbers for those of which the shape alone is known: zeros where they are whole.

    Others are drawn, filters so small that results keep their size from layer to layer.
    """
    import numpy

    numbers, draw = jax.numpy, numpy.random.default_rng(0)

    def made(leaf: Any, way: int) -> Any:
        if not isinstance(leaf, jax.ShapeDtypeStruct):
            return leaf
        if not numbers.issubdtype(leaf.dtype, numbers.floating):
            return numbers.zeros(leaf.shape, leaf.dtype)
        inputs = math.prod(leaf.shape[:-1]) if way == TRAINED and len(leaf.shape) > 1 else 2
        return numbers.asarray(draw.standard_normal(leaf.shape, "float32") * (2 / inputs) ** 0.5, leaf.dtype)

    return [made(leaf, way) for leaf, way in zip(leaves, about, strict=True)]


def step(
    jax: Any, closed: Any, leaves: Sequence[Any], about: Sequence[int], gradients: bool
) -> tuple[Callable[..., Any], Arrays]:  # fmt: skip
    """A step of a jaxpr as a function of the arrays that are trained and of the others, and both of these.

    Trained are arguments and arrays that the function holds, by how they came about. Raises UnknownShareError where no
    gradient can be asked for.
    """
    closed = _opened(closed)
    jaxpr, held = closed.jaxpr, len(closed.consts)
    if len(jaxpr.invars) != len(leaves):
        raise UnknownShareError("the function is given what is no array")
    arrays = [*closed.consts, *leaves]
    ways = [*(constant(getattr(value, "shape", ())) for value in closed.consts), *about]
    trained = [
        gradients and way == TRAINED and _floats(jax, jax.numpy.result_type(array))
        for array, way in zip(arrays, ways, strict=True)
    ]
    given = (
        [array for array, each in zip(arrays, trained, strict=True) if each],
        [array for array, each in zip(arrays, trained, strict=True) if not each],
    )

    def forward(these: list[Any], others: list[Any]) -> Any:
        first, second = iter(these), iter(others)
        placed = [next(first if each else second) for each in trained]
        return jax.core.eval_jaxpr(jaxpr, placed[:held], *placed[held:])

    def loss(these: list[Any], others: list[Any]) -> tuple[Any, Any]:
        results = forward(these, others)
        return sum(each.astype("float32").sum() for each in results if _floats(jax, each.dtype)), results

    if not gradients:
        return forward, given
    if not given[0] or not any(_floats(jax, var.aval.dtype) for var in jaxpr.outvars):
        raise UnknownShareError("nothing that the function gives depends on an array that is trained; --infer leaves them out")
    return jax.value_and_grad(loss, has_aux=True), given


def _floats(jax: Any, dtype: Any) -> bool:
    return bool(jax.numpy.issubdtype(dtype, jax.numpy.floating))


def _opened(closed: Any) -> Any:
    """The jaxpr inside of a function that is jitted as a whole: the arrays that the function holds are there."""
    jaxpr = closed.jaxpr
    call = jaxpr.eqns[0] if len(jaxpr.eqns) == 1 else None
    if call is None or call.primitive.name not in _CALLS or closed.consts:
        return closed
    whole = list(call.invars) == list(jaxpr.invars) and list(call.outvars) == list(jaxpr.outvars)
    return _opened(call.params["jaxpr"]) if whole else closed


def timed(jax: Any, function: Callable[..., Any], arrays: Arrays) -> Timing:
    """The time of a step, and that of its convolutions. Raises UnknownShareError."""
    compiled = jax.jit(function).lower(*arrays).compile()
    program = hlo.Program(compiled.as_text() or "")

    def whole() -> None:
        jax.block_until_ready(compiled(*arrays))

    def watched() -> timing.Watched:
        with jax_profile.traced(jax, 2) as planes:
            begun = time.time_ns()
            whole()
            span = Span(begun, time.time_ns())
        return timing.of_events(convolutions(traces.events(planes, program), program), span)

    return timing.measured(whole, watched)


def convolutions(events: Sequence[Event], program: hlo.Program) -> Iterator[tuple[Event, bool]]:
    """The events that are of a convolution, each with whether other work is fused into it. On a GPU these are its kernels."""
    level = Level.PRIMITIVE if any(event.level is Level.PRIMITIVE for event in events) else Level.COMPILED
    told = [event for event in events if event.level is level]
    shared = _shared({event.name: program.made_of(event.name) for event in told}, program)
    return ((event, shared[event.name]) for event in told if event.name in shared)


def _shared(operations: Mapping[str, Parts], program: hlo.Program) -> dict[str, bool]:
    """The operations of convolutions, each with whether other work is in it.

    XLA moves the arrays that a convolution reads and gives, mostly under no name. What does nothing else, and stands beside the
    convolution or beside such moves of it, is part of it; moves that are fused into other work are part of that.
    """
    found = {name: _has_other(parts) for name, parts in operations.items() if any(map(_computes_one, parts))}
    moves = {name: program.around(name) for name, parts in operations.items() if parts and all(map(_moves, parts))}
    while beside := {name for name, around in moves.items() if name not in found and not around.isdisjoint(found)}:
        found.update(dict.fromkeys(beside, False))
    return found


def _computes_one(part: tuple[Kind, str]) -> bool:
    kind, made_of = part
    return kind is Kind.CONVOLUTION or (made_of == CONVOLUTION and kind not in MOVING)


def _moves(part: tuple[Kind, str]) -> bool:
    """Whether it may be a move of a convolution's array: a copy without a name may as well be a concatenation of the user's."""
    kind, made_of = part
    return kind in MOVING and made_of in _MOVES and (made_of != "" or kind is not Kind.COPY)


def _has_other(parts: Parts) -> bool:
    return any(kind is not Kind.CONVOLUTION and made_of not in _MOVES for kind, made_of in parts)
