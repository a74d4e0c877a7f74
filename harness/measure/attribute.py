"""Which event the time of a call belongs to: a sweep over the points at which an event or a call begins or ends.

Each instant of a call counts for one event, the most specific of those that are active, and of equals for the one that began
last; what no event covers is outside. So the times of all events of a call, with what is outside, add up to the call.
"""

import heapq
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from harness.plain import plain
from harness.profile import Event, Kernel, Kind, Role

_LETTERS = 300  # of a text that a source prints, which may be a whole program


class Span(NamedTuple):
    """The time from one reading of the clock to a later one, in ns."""

    start_ns: int
    end_ns: int

    @property
    def ns(self) -> int:
        """How long it is."""
        return self.end_ns - self.start_ns


class Part(NamedTuple):
    """What an event has of a call: the time that counts for it, and whether it began in that call."""

    event: Event
    exclusive_ns: int
    began: bool


class Call(NamedTuple):
    """A call, and what of its time each event has. What remains is outside."""

    span: Span
    parts: tuple[Part, ...]

    @property
    def outside_ns(self) -> int:
        """Its time in no event at all."""
        return self.span.ns - sum(part.exclusive_ns for part in self.parts)


def attribute(events: Iterable[Event], spans: Sequence[Span]) -> list[Call]:
    """The calls of those spans, which are in the order of time and do not overlap, with the events that ran in each.

    An event that ran in several calls has a part of each, and began in one of them at the most. n events take O(n log n).
    """
    every = sorted(events, key=lambda event: event.start_ns)
    active: list[tuple[int, int, int, int]] = []  # a heap, the event that counts first: its place in `every` is the last number
    coming, calls = 0, list[Call]()
    for span in spans:
        active = [entry for entry in active if entry[2] > span.start_ns]
        heapq.heapify(active)
        exclusive_ns = dict.fromkeys((place for *_, place in active), 0)
        now = span.start_ns
        while now < span.end_ns:
            while coming < len(every) and every[coming].start_ns <= now:
                event = every[coming]
                if event.start_ns >= span.start_ns or event.end_ns > span.start_ns:
                    exclusive_ns[coming] = 0
                    heapq.heappush(active, (-event.level, -event.start_ns, event.end_ns, coming))
                coming += 1
            while active and active[0][2] <= now:
                heapq.heappop(active)
            until = min(span.end_ns, every[coming].start_ns) if coming < len(every) else span.end_ns
            if active:
                *_, end_ns, place = active[0]
                until = min(until, end_ns)
                exclusive_ns[place] += until - now
            now = until
        parts = (Part(every[place], ns, every[place].start_ns >= span.start_ns) for place, ns in exclusive_ns.items())
        calls.append(Call(span, tuple(parts)))
    return calls


def kernels(calls: Sequence[Call]) -> tuple[Kernel, ...]:
    """The events of some calls that are the same but for their times, as kernels, and last what is outside.

    Times and counts are those of one call: the mean of all. So the kernels add up to the mean length of the calls.
    """
    alike: dict[tuple[object, ...], list[tuple[int, Part]]] = defaultdict(list)
    for number, call in enumerate(calls):
        for part in call.parts:
            if part.began or part.exclusive_ns:
                alike[_same(part.event)].append((number, part))
    outside_ns = sum(call.outside_ns for call in calls) / len(calls)
    outside = Kernel(str(Kind.OUTSIDE), Kind.OUTSIDE, "", "", "", "", Role.UNKNOWN, 0, "", 1.0, outside_ns, 0)
    return (*(_kernel(parts, len(calls)) for parts in alike.values()), outside)


def _same(event: Event) -> tuple[object, ...]:
    """What events have in common that are one kernel."""
    return (
        event.name, event.kind, event.implementation, event.detail, event.src_format, event.dst_format, event.role, event.level,
        event.source,
    )  # fmt: skip


def _kernel(parts: Sequence[tuple[int, Part]], calls: int) -> Kernel:
    """The kernel of parts that are alike, each with the number of its call."""
    threads: dict[int, set[str]] = defaultdict(set)
    for number, part in parts:
        threads[number].add(part.event.thread)
    event = parts[0][1].event
    name, implementation, detail, src_format, dst_format, source = (
        plain(text)[:_LETTERS]
        for text in (event.name, event.implementation, event.detail, event.src_format, event.dst_format, event.source)
    )
    return Kernel(
        name, event.kind, implementation, detail, src_format, dst_format, event.role, int(event.level), source,
        calls_per_launch=sum(part.began for _, part in parts) / calls,
        kernel_ns=sum(part.exclusive_ns for _, part in parts) / calls,
        threads=max(map(len, threads.values())),
    )  # fmt: skip
