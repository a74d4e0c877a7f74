"""How much of a real step in TensorFlow its convolutions take: TensorFlow's profiler tells of each of its operators."""

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from harness.backends import hlo, tensorflow_profile
from harness.calls import Timing
from harness.captures import timing
from harness.captures.base import Input
from harness.captures.timing import UnknownShareError
from harness.measure.attribute import Span
from harness.profile import Event, Kind, Level

_SHARED = re.compile("Fused|PadWith")  # operators of a convolution and what is before it or follows


def values(tf: Any, given: Any, asked: Any) -> Any:
    """The tensors of an input: its own, or where its shape alone is known random ones, and zeros of whole numbers.

    `asked` says the shapes and types.
    """
    if not isinstance(given, Input):
        return tf.nest.map_structure(tf.convert_to_tensor, given)
    if asked.dtype.is_floating:
        return tf.cast(tf.random.normal(asked.shape), asked.dtype)
    return tf.zeros(asked.shape, asked.dtype)


def is_of_convolution(operator: str) -> bool:
    """Whether a function that has operators of this type may have nothing but convolutions in it."""
    return operator == "Placeholder" or tensorflow_profile.operator_kind(operator) in (Kind.CONVOLUTION, Kind.BOOKKEEPING)


class Functions(hlo.Program):
    """The programs of functions that XLA compiles and that have nothing but convolutions in them, by the names of these.

    What runs in such a program is of a convolution, whatever it does; of others the names tell too little.
    """

    def __init__(self, names: Iterable[str]) -> None:
        super().__init__("")
        self._named = {name: re.compile(rf"a_{re.escape(name.lstrip('_'))}(?!\d)") for name in names}
        self.missing = set(self._named)  # those that no operation was asked for of

    def operation(self, name: str, module: str = "") -> hlo.Operation:
        """A convolution, where the program is that of one of the functions."""
        found = {function for function, named in self._named.items() if named.match(module)}
        self.missing -= found
        return hlo.Operation(Kind.CONVOLUTION if found else Kind.OTHER)


def timed(tf: Any, step: Callable[[], object], compiled: Mapping[str, bool]) -> Timing:
    """The time of a step, and that of its convolutions. Raises UnknownShareError.

    `compiled` names the functions with convolutions that XLA compiles, each with whether there is nothing else in it.
    """
    if not all(compiled.values()):
        raise UnknownShareError("XLA compiles convolutions together with other work, and the two are not told apart")
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
        program = Functions(compiled)
        told = list(convolutions(tensorflow_profile.events(planes, [], program)))
        if program.missing:
            raise UnknownShareError(f"of {min(program.missing)}, which XLA compiles, nothing is told while a step runs")
        return timing.of_events(told, span)

    return timing.measured(whole, watched)


def convolutions(events: Iterable[Event]) -> Iterator[tuple[Event, bool]]:
    """The events that are of a convolution, each with whether other work is fused into it.

    The kernels of a GPU are called whatever their library calls them, so the operator tells that they belong to.
    """
    for event in events:
        operator = event.name.rpartition(":")[2]
        of_one = event.level is Level.PRIMITIVE and tensorflow_profile.operator_kind(operator) is Kind.CONVOLUTION
        if of_one or event.kind is Kind.CONVOLUTION:
            yield event, bool(_SHARED.search(operator))
