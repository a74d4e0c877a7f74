"""Cells, records and runs for tests: what a test does not name has a plain value here."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from harness.axes import Device, Direction, Layout
from harness.flags import Flag
from harness.profile import Kernel, Kind, Level, Profile, Role
from harness.record import Check, Environment, Memory, Record, Run, Samples, Series, SeriesKind, Status, Visit, joined
from harness.spec import Cell, ConvSpec

START = datetime(2026, 3, 1, 2, 30, 0, 123456, tzinfo=UTC)

# 1 -> 2 channels, 4x4, 3x3 filter, padded by 1: y is [1, 2, 4, 4]. Nominal FLOP 2*2*16*9 = 576; a row or column of the
# filter meets 3 * 4 - 2 = 10 of its 12 taps, so the exact count is 2*2*10*10 = 400.
CONV = ConvSpec(n=1, c=1, k=2, spatial=(4, 4), kernel=(3, 3), stride=(1, 1), dilation=(1, 1), padding=((1, 1), (1, 1)))


def cell(**overrides: Any) -> Cell:
    """A forward convolution by torch on the CPU."""
    plain = {
        "workload": "conv",
        "spec": CONV,
        "direction": Direction.FPROP,
        "backend": "torch",
        "layout": Layout.CHANNELS_FIRST,
    }
    return Cell(**{**plain, "device": Device("cpu"), **overrides})


def series(
    block_ns: Sequence[int],
    delay_ns: Sequence[int] = (),
    iterations: int = 1,
    kind: SeriesKind = SeriesKind.LATENCY,
    others_ns: Sequence[int] | None = None,
    yardstick_ns: Sequence[int] = (),
    method: str = "",
) -> Series:
    """A series that stopped because its interval was narrow enough; others ran as long as it did unless told otherwise."""
    others = (block_ns if delay_ns else ()) if others_ns is None else others_ns
    return Series(kind, iterations, tuple(block_ns), tuple(delay_ns), tuple(others), "interval", tuple(yardstick_ns), method)


def samples(*found: Series, **overrides: Any) -> Samples:
    """Samples whose calls used one and a half cores."""
    plain = {"first_call_ns": 5_000_000, "warmup_ns": 100_000_000, "wall_ns": 2_000_000, "cpu_ns": 3_000_000, "steal_ns": 0}
    return Samples(series=found, **{**plain, **overrides})


def record(
    block_ns: Sequence[int] = (1000,) * 30, *, trial: int = 0, order: int = 0, of: Cell | None = None, **overrides: Any
) -> Record:
    """A record with status ok that timed these blocks."""
    plain = {
        "run_id": "20260301-023000-aaaa",
        "started_at": START + timedelta(seconds=order),
        "op": "torch.conv2d",
        "settings": {"threads": "2", "mkldnn": "on"},
        "threads_used": 2,
        "check": Check(True, "integer", max_rel_err=0.25, tolerance=1.0, results_vary=2e-7, compared_calls=(3, 41)),
        "samples": samples(series(block_ns)),
        "memory": Memory(10_000, 11_000, None, None, "VmHWM"),
        "environment_id": "env-1",
    }
    return Record(trial=trial, order=order, cell=of or cell(), status=Status.OK, **{**plain, **overrides})


def visit(
    order: int = 0, block_ns: Sequence[int] = (1000,) * 3, *, process: int = 0, turn: int = 0, place: int = 0, **overrides: Any
) -> Visit:
    """A visit that timed these blocks; its calls used one and a half cores."""
    wall_ns = sum(block_ns)
    plain = {"series": (series(block_ns),), "wall_ns": wall_ns, "cpu_ns": wall_ns * 3 // 2, "steal_ns": 0}
    return Visit(order, process, turn, place, **{**plain, **overrides})


def visited(*visits: Visit, **overrides: Any) -> Record:
    """A record of which these are the visits."""
    found = record(order=visits[0].order, **overrides)
    assert found.samples
    return replace(found, samples=joined(found.samples, visits))


def failed(status: Status, reason: str, *, flags: tuple[Flag, ...] = (), **where: Any) -> Record:
    """A record of a cell that came to nothing."""
    empty = {"op": "", "settings": None, "threads_used": None, "check": None, "samples": None, "memory": None}
    return replace(record(**where), status=status, reason=reason, flags=flags, **empty)


def kernel(kernel_ns: float = 800.0, **overrides: Any) -> Kernel:
    """A convolution of oneDNN, once in a call."""
    plain = {
        "name": "convolution", "kind": Kind.CONVOLUTION, "implementation": "brg_conv_fwd:avx512_core", "detail": "mb1_ic1oc2",
        "src_format": "acdb", "dst_format": "acdb", "role": Role.UNKNOWN, "level": int(Level.PRIMITIVE), "source": "oneDNN",
        "calls_per_launch": 1.0, "threads": 1,
    }  # fmt: skip
    return Kernel(kernel_ns=kernel_ns, **{**plain, **overrides})


def profile(*kernels: Kernel, of: Cell | None = None, **overrides: Any) -> Profile:
    """A profile of a call, by default of 1000 ns, in which these kernels ran; what is left of it is outside."""
    rest_ns = (overrides.get("watched_ns") or 1000.0) - sum(each.kernel_ns for each in kernels)
    outside = kernel(
        rest_ns, name="outside", kind=Kind.OUTSIDE, implementation="", detail="", src_format="", dst_format="", level=0,
        source="", threads=0,
    )  # fmt: skip
    plain = {
        "run_id": "20260301-023000-aaaa", "made_at": START, "environment_id": "env-1", "kernels": (*kernels, outside),
        "plain_ns": 990.0, "watched_ns": 1000.0, "calls": 200, "clean_calls": 190, "effective_cores": 0.75,
        "sources": ("oneDNN 3.12.0 verbose", "torch.profiler 2.13.0"), "spent_ns": 5_000_000,
    }  # fmt: skip
    return Profile(cell=of or cell(), **{**plain, **overrides})


def unprofiled(problem: str, **overrides: Any) -> Profile:
    """A profile that came to nothing."""
    nothing = {"kernels": (), "plain_ns": None, "watched_ns": None, "calls": 0, "clean_calls": 0, "effective_cores": None}
    return profile(problem=problem, sources=(), **{**nothing, **overrides})


def environment(**overrides: Any) -> Environment:
    """The environment that records name."""
    plain = {
        "id": "env-1", "machine_id": "machine-1", "backend": "torch", "host": "here", "os": "Linux", "cpu": "Some CPU",
        "cores": 2, "affinity": (0, 1), "memory_bytes": 2**33, "gpu": "", "driver": "", "python": "3.11.7",
        "packages": {"torch": "2.13"}, "environ": {},
    }  # fmt: skip
    return Environment(**{**plain, **overrides})


def run(id: str = "20260301-023000-aaaa", **overrides: Any) -> Run:
    """A run that is still going on."""
    plain = {
        "suite": "small", "suite_sha256": "00", "description": "", "commit": "", "harness_version": "0", "method_version": 1,
        "seed": 7, "command": "convbench run small", "started_at": START,
    }  # fmt: skip
    return Run(id=id, **{**plain, **overrides})
