"""Device time out of a profiler's trace: XLA's profiler, which JAX and TensorFlow share, writes one plane a device.

The adapters read the trace with what their frameworks bring along; what counts as work of the device is said here.
Names: openxla/xla, xla/backends/profiler/gpu/cupti_collector.cc and xla/tsl/profiler/utils/xplane_schema.cc.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

# What CUPTI tells of a kernel, a copy, a fill, a launched graph; allocations and its own overhead stand on the same lines.
_WORK = frozenset({"kernel_details", "memcpy_details", "memset_details", "cuda_graph_exec_id"})


# What XLA's profiler counts. While it traces, XLA runs the kernels one by one and no command buffers
# (`xla_enable_command_buffers_during_profiling` is false by default).
CLOCK = "XLA's profiler: kernels and copies, without the gaps between; XLA runs no command buffers meanwhile"


class Event(NamedTuple):
    """One event of a plane: the name of its line, when it was on the device's clock, the names of what is told of it."""

    line: str
    start_ns: float
    duration_ns: float
    stats: frozenset[str]


def plane_name(index: int) -> str:
    """The plane of a GPU, by its CUDA index in this process."""
    return f"/device:GPU:{index}"


def of_device(folder: Path, space_kind: Any) -> Iterator[Event]:
    """The events of the first GPU, the only one that the process sees, in the traces that were written to a folder.

    `space_kind` is the class of a trace, XSpace, as a framework's protobuf module has it.
    """
    for path in folder.rglob("*.xplane.pb"):
        space = space_kind()
        space.ParseFromString(path.read_bytes())
        for plane in space.planes:
            for line in plane.lines if plane.name.startswith(plane_name(0)[:-1]) else ():
                for event in line.events:
                    stats = frozenset(plane.stat_metadata[stat.metadata_id].name for stat in event.stats)
                    start_ns = line.timestamp_ns + event.offset_ps / 1e3
                    yield Event(line.name, start_ns, event.duration_ps / 1e3, stats)


def busy_ns(events: Iterable[Event], calls: int) -> float | None:
    """Nanoseconds in which any stream of the device worked for `calls` equal calls; what overlaps counts once.

    The gaps between kernels do not count: it is the least that a pair of device events around the calls could read. None
    where the trace holds no work, or not the same number of events for each call: then the profiler has dropped some.
    """
    work = sorted(
        (event.start_ns, event.start_ns + event.duration_ns)
        for event in events
        if event.line.startswith("Stream #") and not _WORK.isdisjoint(map(str.lower, event.stats))
    )
    if not work or len(work) % calls:
        return None
    busy, until = 0.0, work[0][0]
    for start, end in work:
        busy += max(0.0, end - max(start, until))
        until = max(until, end)
    return busy
