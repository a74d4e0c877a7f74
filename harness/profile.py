"""What ran inside a call: Event, one interval of one source; Kernel, such events summed per call; Profile, all of a cell.

A profile is made by a pass of its own in a process of its own, so that nothing of it reaches a timed call. Facts only: kinds
come from the adapters, shares and explanations are derived on reading.
"""

import hashlib
import re
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum, StrEnum

from harness.spec import Cell


class Level(IntEnum):
    """How specific an event is. Each instant of a call counts for the most specific event that is active then."""

    SPAN = 1  # of a framework: a session, an executor, a compiled program as a whole
    OPERATOR = 2  # of a framework: aten::convolution, Conv2D
    COMPILED = 3  # an operation of a compiled program: a thunk of XLA
    PRIMITIVE = 4  # of a library, or a kernel on a device


class Kind(StrEnum):
    """What an event does. An adapter names it where it knows; nobody else looks at names."""

    CONVOLUTION = "convolution"
    GEMM = "gemm"
    REORDER = "reorder"
    TRANSPOSE = "transpose"
    COPY = "copy"
    CONVERT = "convert"
    ELEMENTWISE = "elementwise"
    REDUCTION = "reduction"
    OPTIMIZER = "optimizer"
    FRAMEWORK = "framework"
    BOOKKEEPING = "bookkeeping"  # fill, slice, view, allocation
    OUTSIDE = "outside"  # the time of a call in no event at all: Python, and waiting for another thread
    OTHER = "other"


COMPUTING = frozenset({Kind.CONVOLUTION, Kind.GEMM, Kind.ELEMENTWISE, Kind.REDUCTION, Kind.OPTIMIZER})
MOVING = frozenset({Kind.REORDER, Kind.TRANSPOSE, Kind.COPY, Kind.CONVERT})


class Role(StrEnum):
    """Which tensor an event moves or converts, where its source tells."""

    UNKNOWN = ""
    ACTIVATION = "activation"  # x, y, dx or dy
    FILTER = "filter"  # w or dw


@dataclass(frozen=True)
class Event:
    """One interval on the clock of `time.time_ns`. `thread` tells threads and streams apart, and has no other meaning.

    `name` is the framework's or the library's own; `implementation` is the kernel behind it, where another name is known for
    it (`brg_conv_fwd:avx512_core`). `detail` is the problem as its source prints it. `src_format` and `dst_format` are memory
    formats (`acdb`). `source` is what told it: `oneDNN`, `torch.profiler`, `XLA`, `TensorFlow`.
    """

    start_ns: int
    end_ns: int
    thread: str
    level: Level
    name: str
    kind: Kind
    source: str
    implementation: str = ""
    detail: str = ""
    src_format: str = ""
    dst_format: str = ""
    role: Role = Role.UNKNOWN


@dataclass(frozen=True)
class Kernel:
    """The events of a call that are the same but for their times. `kernel_ns` is their exclusive time per call, in ns.

    `calls_per_launch` is how many of them there are in a call, `threads` on how many threads they ran. All kernels of a profile
    with the row of kind `outside` add up to `Profile.watched_ns`.
    """

    name: str
    kind: Kind
    implementation: str
    detail: str
    src_format: str
    dst_format: str
    role: Role
    level: int
    source: str
    calls_per_launch: float
    kernel_ns: float
    threads: int


@dataclass(frozen=True)
class Profile:
    """What ran inside the calls of one cell. None: not measured, `problem` says why.

    `plain_ns` is the time of a call that nothing watched, `watched_ns` that of the calls which `kernels` describe: both of the
    child that made the profile, by the same rule (of the undisturbed calls the fastest fifth, at least 3). `calls` were
    watched, `clean_calls` of them undisturbed. `flop_compiled` is the FLOP of the program after optimisation, where a compiler
    tells. `effective_cores` is CPU time over wall time of the plain calls. `sources` are what was read, with versions.
    `trace` is the name of the file beside the run's other files that holds a Chrome trace of a few calls; empty: none.
    `op` and `op_reason` are those of the record of such a call.
    """

    run_id: str
    cell: Cell
    made_at: datetime
    environment_id: str
    kernels: tuple[Kernel, ...] = ()
    plain_ns: float | None = None
    watched_ns: float | None = None
    calls: int = 0
    clean_calls: int = 0
    flop_compiled: float | None = None
    effective_cores: float | None = None
    sources: tuple[str, ...] = ()
    op: str = ""
    op_reason: str = ""
    trace: str = ""
    problem: str = ""
    spent_ns: int = 0


TRACES = "traces"  # the folder of a run that holds them
TRACE_NAME = re.compile(rf"{TRACES}/[0-9a-f]{{16}}\.json\.gz")


def trace_name(cell: Cell) -> str:
    """The name of the trace of a cell among the files of a run."""
    return f"{TRACES}/{hashlib.sha256(str(cell).encode()).hexdigest()[:16]}.json.gz"
