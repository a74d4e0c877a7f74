"""How much of a real step its convolutions take: whole steps and steps that are watched, in turns.

The share is the time in which a convolution runs, in the median watched step, over the time of the median whole one.
"""

import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from harness import units
from harness.calls import Timing
from harness.captures.base import Notes
from harness.errors import CaptureError
from harness.measure.attribute import Span, attribute
from harness.plain import plain
from harness.profile import Event

_FEWEST, _MOST = 3, 20  # of each kind
_BUDGET_S, _PATIENCE_S = 10.0, 60.0  # for how long it goes on beyond the fewest, and beyond one
_MOST_WATCHED = 1.25  # times a whole step: where watching costs more, what it tells is not that of a step


class UnknownShareError(Exception):
    """Why the share of a step cannot be told, in one sentence."""


class Watched(NamedTuple):
    """A step that was watched: for how long a convolution ran in it, and for how long one that has other work in it, in ns.

    `step_ns` is the length of the step, or None where watching adds nothing to the times of the convolutions.
    """

    convolutions_ns: int
    shared_ns: int = 0
    step_ns: int | None = None


def known(notes: Notes, measure: Callable[[], Timing]) -> Timing | None:
    """What was measured; None where that came to nothing, of which a note says why."""
    try:
        return measure()
    except (UnknownShareError, CaptureError) as error:
        why = str(error)
    except Exception as error:  # what was seen of the model must not be lost for it
        lines = str(error).strip().splitlines() or [""]
        why = f"{type(error).__name__}: {lines[0]}"
    notes.said[plain(f"the convolutions' share of a step is not known: {why}")[:400]] = None
    return None


def measured(step: Callable[[], object], watched: Callable[[], Watched]) -> Timing:
    """The time of a step that nothing watches, and that of the convolutions in the steps between, which are watched.

    Both callables make one step and wait for all of it. Raises UnknownShareError where what they tell makes no share.
    """
    step()  # allocators, caches of compiled kernels
    whole, seen, started = list[int](), list[Watched](), time.monotonic()
    while not whole or time.monotonic() - started < (_PATIENCE_S if len(whole) < _FEWEST else _BUDGET_S):
        if len(whole) == _MOST:
            break
        begun = time.perf_counter_ns()
        step()
        whole.append(time.perf_counter_ns() - begun)
        seen.append(watched())
    step_ns, convolutions_ns = _median(whole), _median([each.convolutions_ns for each in seen])
    lengths = [each.step_ns for each in seen if each.step_ns is not None]
    if lengths and (times := _median(lengths) / step_ns) > _MOST_WATCHED:
        raise UnknownShareError(f"a step that is watched takes {units.ratio(times)} the time of one that is not")
    if not convolutions_ns:
        raise UnknownShareError("nothing is told of the convolutions while a step runs")
    if convolutions_ns > step_ns:
        raise UnknownShareError("the convolutions of watched steps took longer than whole steps; others use the machine")
    return Timing(step_ns, convolutions_ns, len(whole), _median([each.shared_ns for each in seen]))


def of_events(convolutions: Iterable[tuple[Event, bool]], span: Span) -> Watched:
    """What the events of a profile tell of the step that took this span; of each whether it has other work in it.

    An instant in which several convolutions run counts once.
    """
    told = list(convolutions)
    shared = {id(event) for event, more in told if more}
    (call,) = attribute((event for event, _ in told), [span])
    shared_ns = sum(part.exclusive_ns for part in call.parts if id(part.event) in shared)
    return Watched(span.ns - call.outside_ns, shared_ns, span.ns)


def _median(times_ns: Sequence[int]) -> int:
    return round(statistics.median(times_ns))
