"""What a trace of XLA's profiler holds, which JAX and TensorFlow share: one plane a device, one line a thread or stream.

The adapters write and parse the trace with what their frameworks bring along; what counts as work of the device, and what an
event of a profile is, is said here.
Names: openxla/xla, xla/backends/profiler/gpu/cupti_collector.cc and xla/tsl/profiler/utils/xplane_schema.cc.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from harness.backends import kinds
from harness.backends.hlo import Program
from harness.profile import Event, Kind, Level

# What CUPTI tells of a kernel, a copy, a fill, a launched graph; allocations and its own overhead stand on the same lines.
_WORK = frozenset({"kernel_details", "memcpy_details", "memset_details", "cuda_graph_exec_id"})


# What XLA's profiler counts. While it traces, XLA runs the kernels one by one and no command buffers
# (`xla_enable_command_buffers_during_profiling` is false by default).
CLOCK = "XLA's profiler: kernels and copies, without the gaps between; XLA runs no command buffers meanwhile"

SOURCE = "XLA"
_HOST, _GPU, _ENVIRONMENT = "/host:CPU", "/device:GPU:", "Task Environment"
_BEGAN = "profile_start_time"  # of the environment's plane: nanoseconds of time.time_ns at which the times of all others begin
_OPERATION, _MODULE, _TF_OPERATION = "hlo_op", "hlo_module", "tf_op"
_PRODUCED, _CONSUMED = "_p", "_c"  # what the beginning and the end of an asynchronous operation have in common
_END = "end: "
# A thread that runs a program waits in this for the operations that other threads run; both have the number of the run.
_COMPLETION, _RUN = "ThunkExecutor::Execute (wait for completion)", "run_id"
# The time in which a thread waits for another is in no event: what the other does is told by its own.
_WAITING = re.compile(r"\b(?:[Ww]ait|Await|BlockUntilReady|BlockHostUntilReady|block_until_ready)")


class Mark(NamedTuple):
    """One event of a trace: the name of its line, when it was by the trace's clock, what is told of it by name, its name."""

    line: str
    start_ns: float
    duration_ns: float
    stats: Mapping[str, Any]
    name: str = ""
    thread: str = ""  # the line's name and its number, since two lines may be called alike

    @property
    def end_ns(self) -> float:
        """When it ended."""
        return self.start_ns + self.duration_ns


class Plane(NamedTuple):
    """The threads of the host, or a device: what is told of it by name, and its events."""

    name: str
    stats: Mapping[str, Any]
    marks: Sequence[Mark]


def plane_name(index: int) -> str:
    """The plane of a GPU, by its CUDA index in this process."""
    return f"{_GPU}{index}"


def of_space(space: Any) -> Iterator[Plane]:
    """The planes of an XSpace, the message of protobuf that a trace is."""
    for plane in space.planes:
        yield Plane(plane.name, _told(plane, plane.stats), tuple(_of_space(plane)))


def _of_space(plane: Any) -> Iterator[Mark]:
    for number, line in enumerate(plane.lines):
        for event in line.events:
            start_ns = line.timestamp_ns + event.offset_ps / 1e3
            name = plane.event_metadata[event.metadata_id].name
            yield Mark(line.name, start_ns, event.duration_ps / 1e3, _told(plane, event.stats), name, f"{line.name} {number}")


def _told(plane: Any, stats: Iterable[Any]) -> dict[str, Any]:
    """Values by their names; one that is a reference is the name that it refers to."""
    found = {}
    for stat in stats:
        kind = stat.WhichOneof("value")
        value = getattr(stat, kind) if kind else None
        name = plane.stat_metadata[stat.metadata_id].name
        found[name] = plane.stat_metadata[value].name if kind == "ref_value" else value
    return found


def of_data(data: Any) -> Iterator[Plane]:
    """The planes of `jax.profiler.ProfileData`."""
    for plane in data.planes:
        yield Plane(plane.name, dict(plane.stats), tuple(_of_data(plane)))


def _of_data(plane: Any) -> Iterator[Mark]:
    for number, line in enumerate(plane.lines):
        for event in line.events:
            thread = f"{line.name} {number}"
            yield Mark(line.name, event.start_ns, event.duration_ns, dict(event.stats), event.name, thread)


def of_gpus(planes: Iterable[Plane]) -> Iterator[Mark]:
    """The events of all GPUs, for a process that sees one only."""
    return (mark for plane in planes if plane.name.startswith(_GPU) for mark in plane.marks)


def busy_ns(marks: Iterable[Mark], calls: int) -> float | None:
    """Nanoseconds in which any stream of the device worked for `calls` equal calls; what overlaps counts once.

    The gaps between kernels do not count: it is the least that a pair of device events around the calls could read. None
    where the trace holds no work, or not the same number of events for each call: then the profiler has dropped some.
    """
    work = sorted((mark.start_ns, mark.end_ns) for mark in marks if _is_work(mark))
    if not work or len(work) % calls:
        return None
    busy, until = 0.0, work[0][0]
    for start, end in work:
        busy += max(0.0, end - max(start, until))
        until = max(until, end)
    return busy


def _is_work(mark: Mark) -> bool:
    return mark.line.startswith("Stream #") and not _WORK.isdisjoint(map(str.lower, mark.stats))


def events(planes: Sequence[Plane], program: Program) -> list[Event]:
    """What a trace holds, on the clock of time.time_ns: operations of compiled programs, work of GPUs, spans of the framework.

    Raises ValueError where the trace does not say when it began.
    """
    began = next((plane.stats[_BEGAN] for plane in planes if plane.name == _ENVIRONMENT and _BEGAN in plane.stats), None)
    if began is None:
        raise ValueError("the trace of XLA's profiler does not say when it began, so that its times are those of no clock")
    on_gpus = [_on_gpu(mark, int(began), program) for mark in of_gpus(planes) if _is_work(mark)]
    host = [event for plane in planes if plane.name == _HOST for event in _on_host(plane.marks, int(began), program)]
    return [*(map(kinds.starting, host) if on_gpus else host), *on_gpus]


def _on_host(marks: Sequence[Mark], began: int, program: Program) -> Iterator[Event]:
    """An operation ends where its `end:` is, which may be on another thread, after the call that began it has returned.

    Where that thread had to wait for a core it says so too late: the program was complete when it was no longer waited for.
    """
    complete = {mark.stats[_RUN]: mark.end_ns for mark in marks if mark.name == _COMPLETION and _RUN in mark.stats}
    ends = {mark.stats[_CONSUMED]: mark for mark in marks if mark.name.startswith(_END) and _CONSUMED in mark.stats}
    for mark in marks:
        start, end = began + round(mark.start_ns), began + round(mark.end_ns)
        if mark.name.startswith(_END) or _WAITING.search(mark.name):
            continue
        if _OPERATION not in mark.stats:
            if end > start:  # others only mark a moment, at which a task is handed on
                yield Event(start, end, mark.thread, Level.SPAN, mark.name, Kind.FRAMEWORK, SOURCE)
            continue
        name = str(mark.stats[_OPERATION])
        ended = ends.get(mark.stats.get(_PRODUCED))
        if ended and ended.name == f"{_END}{name}":
            last = complete.get(mark.stats.get(_RUN), ended.start_ns)
            end = max(end, began + round(min(ended.start_ns, last)))
        told = program.operation(name, str(mark.stats.get(_MODULE, "")))
        yield Event(start, end, mark.thread, Level.COMPILED, name, told.kind, SOURCE, *told[1:])


def _on_gpu(mark: Mark, began: int, program: Program) -> Event:
    """A kernel, under the name of the operation that it belongs to; without any its own name says what it does."""
    start, end = began + round(mark.start_ns), began + round(mark.end_ns)
    kind, detail, asked = kinds.kernel_kind(mark.name), "", str(mark.stats.get(_OPERATION, ""))
    if asked:
        told = program.operation(asked, str(mark.stats.get(_MODULE, "")))
        kind, detail = (told.kind if kind is Kind.OTHER else kind), told.detail
    name = asked or str(mark.stats.get(_TF_OPERATION, "")) or mark.name
    return Event(start, end, mark.line, Level.PRIMITIVE, name, kind, SOURCE, mark.name, detail)
