"""A few calls as a Chrome trace, which Perfetto and chrome://tracing show: JSON text, gzipped.

Source of the format: "Trace Event Format", complete events (`ph` X) and metadata (`ph` M),
https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU.
"""

import gzip
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness import drafts
from harness.measure.attribute import Call, Span
from harness.plain import plain
from harness.profile import Event

_PROCESS = 1
_CALLS = "calls"  # the name of the first track


def write(path: Path, about: Mapping[str, str], calls: Sequence[Call]) -> None:
    """Put the trace of these calls in the place of `path`, whose folder is made if need be; `about` is kept beside them."""
    content = {"traceEvents": list(events(calls)), "displayTimeUnit": "ns", "otherData": dict(about)}
    path.parent.mkdir(parents=True, exist_ok=True)
    with drafts.replacing(path) as file:
        file.write(gzip.compress(json.dumps(content, separators=(",", ":")).encode(), mtime=0))


def events(calls: Sequence[Call]) -> Iterator[dict[str, Any]]:
    """The events of the trace: the calls one right after the other, whatever lay between them, on a track of their own.

    Each thread of each source has a track. Events of a track nest: one that does not goes to a further track.
    """
    yield {"ph": "M", "name": "process_name", "pid": _PROCESS, "tid": 0, "args": {"name": "convbench"}}
    yield _named(0, _CALLS)
    begin_ns, moved = 0, list[tuple[Event, Span]]()
    for number, call in enumerate(calls, start=1):
        yield _complete(0, Span(begin_ns, begin_ns + call.span.ns), f"call {number}", "call", {})
        moved += [(part.event, _within(part.event, call.span, begin_ns)) for part in call.parts]
        begin_ns += call.span.ns
    tracks: dict[tuple[str, str, int], int] = {}
    for event, span, lane in _in_lanes(moved):
        key = event.source, event.thread, lane
        if key not in tracks:
            tracks[key] = len(tracks) + 1
            again = f" ({lane + 1})" if lane else ""
            yield _named(tracks[key], f"{event.source} {event.thread}{again}" if event.thread != event.source else event.source)
        yield _complete(tracks[key], span, event.name, str(event.kind), _told(event))


def _within(event: Event, call: Span, begin_ns: int) -> Span:
    """The part of an event that lies in a call, where that call begins at `begin_ns`."""
    start_ns = min(max(event.start_ns, call.start_ns), call.end_ns)
    end_ns = min(max(event.end_ns, start_ns), call.end_ns)
    return Span(start_ns - call.start_ns + begin_ns, end_ns - call.start_ns + begin_ns)


def _in_lanes(moved: Iterable[tuple[Event, Span]]) -> Iterator[tuple[Event, Span, int]]:
    """The events in the order of their begin, each with the first lane of its thread in which it nests."""
    open_ends: dict[tuple[str, str], list[list[int]]] = {}  # by thread, for each lane the ends of what has begun in it
    for event, span in sorted(moved, key=lambda each: (each[1].start_ns, -each[1].end_ns, each[0].level)):
        lanes = open_ends.setdefault((event.source, event.thread), [])
        for ends in lanes:
            while ends and ends[-1] <= span.start_ns:
                ends.pop()
        lane = next((place for place, ends in enumerate(lanes) if not ends or span.end_ns <= ends[-1]), len(lanes))
        if lane == len(lanes):
            lanes.append([])
        lanes[lane].append(span.end_ns)
        yield event, span, lane


def _told(event: Event) -> dict[str, str]:
    """What else there is to say of an event, without what its source does not tell."""
    told = {
        "level": event.level.name.lower(), "implementation": event.implementation, "detail": event.detail,
        "src_format": event.src_format, "dst_format": event.dst_format, "role": str(event.role),
    }  # fmt: skip
    return {name: plain(text) for name, text in told.items() if text}


def _named(track: int, name: str) -> dict[str, Any]:
    return {"ph": "M", "name": "thread_name", "pid": _PROCESS, "tid": track, "args": {"name": plain(name)}}


def _complete(track: int, span: Span, name: str, category: str, args: Mapping[str, str]) -> dict[str, Any]:
    """A complete event. Times of the format are in microseconds."""
    return {
        "ph": "X", "name": plain(name), "cat": category, "pid": _PROCESS, "tid": track, "ts": span.start_ns / 1000,
        "dur": span.ns / 1000, "args": dict(args),
    }  # fmt: skip
