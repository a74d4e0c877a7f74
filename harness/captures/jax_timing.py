"""How much of a real step in JAX its convolutions take: the step is compiled as a whole, and XLA's profiler tells of it.

XLA fuses, moves and replaces operations, and keeps of each which primitive of JAX it was made of. So the time of a convolution
is that of all operations that were made of it, as a convolution, as a product or as moves of its arrays.
"""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from harness.backends import hlo, jax_profile, traces
from harness.calls import Timing
from harness.captures import timing
from harness.captures.base import TRAINED, constant
from harness.captures.timing import UnknownShareError
from harness.measure.attribute import Span
from harness.profile import Event, Kind, Level

CONVOLUTION = "conv_general_dilated"
_CALLS = ("jit", "pjit")  # what the call of a jitted function is in a jaxpr, by JAX's version
_COMPUTES = frozenset({Kind.CONVOLUTION, Kind.GEMM, Kind.OTHER})  # a library's call may be called anything

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
    for event in events:
        shared = _shared(program.made_of(event.name)) if event.level is level else None
        if shared is not None:
            yield event, shared


def _shared(parts: Iterable[tuple[Kind, str]]) -> bool | None:
    """Whether an operation of a convolution has other work in it; None for one that is of none.

    Moves of a convolution's arrays that are fused into other work are part of that.
    """
    told = list(parts)
    own = [kind for kind, made_of in told if made_of == CONVOLUTION or kind is Kind.CONVOLUTION]
    others = any(made_of not in ("", CONVOLUTION) and kind is not Kind.CONVOLUTION for kind, made_of in told)
    if not own or (others and _COMPUTES.isdisjoint(own)):
        return None
    return others
