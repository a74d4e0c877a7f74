"""How much of a real step in TensorFlow its convolutions take: TensorFlow's profiler tells of each of its operators."""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from harness.backends import hlo, tensorflow_profile, traces
from harness.calls import Timing
from harness.captures import timing
from harness.captures.base import Input
from harness.captures.timing import UnknownShareError
from harness.measure.attribute import Span
from harness.profile import Event, Kind, Level


def values(tf: Any, given: Any, asked: Any) -> Any:
    """The tensors of an input: its own, or where its shape alone is known random ones, and zeros of whole numbers.

    `asked` says the shapes and types.
    """
    if not isinstance(given, Input):
        return tf.nest.map_structure(tf.convert_to_tensor, given)
    if asked.dtype.is_floating:
        return tf.cast(tf.random.normal(asked.shape), asked.dtype)
    return tf.zeros(asked.shape, asked.dtype)


def timed(tf: Any, step: Callable[[], object], seen: int) -> Timing:
    """The time of a step, and that of its convolutions, of which so many were seen. Raises UnknownShareError."""
    on_gpu = bool(tf.config.list_physical_devices("GPU"))

    def whole() -> None:
        step()
        if on_gpu:
            tf.test.experimental.sync_devices()

    def watched() -> timing.Watched:
        with tensorflow_profile.traced(tf, 2, int(on_gpu)) as planes:
            begun = time.time_ns()
            whole()
            span = Span(begun, time.time_ns())
        told = list(convolutions(tensorflow_profile.events(planes, [], hlo.Program(""))))
        if len(told) < seen and traces.compiled(planes):
            raise UnknownShareError(f"XLA compiles convolutions, so that TensorFlow's profiler tells {len(told)} of {seen}")
        return timing.of_events(told, span)

    return timing.measured(whole, watched)


def convolutions(events: Iterable[Event]) -> Iterator[tuple[Event, bool]]:
    """The events that are of a convolution, each with whether other work is fused into it.

    The kernels of a GPU are called whatever their library calls them, so the operator tells that they belong to. Of what XLA
    compiles the names alone are there, which tell too little.
    """
    for event in events:
        operator = event.name.rpartition(":")[2]
        of_one = event.level is Level.PRIMITIVE and tensorflow_profile.operator_kind(operator) is Kind.CONVOLUTION
        if of_one or (event.kind is Kind.CONVOLUTION and event.level is not Level.COMPILED):
            yield event, "Fused" in operator
