"""Frames of profiles for tests: what ran in the calls of cells, by shares that a test names."""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from harness.axes import OPTIONS, Device, Direction, Layout, Mode, Precision
from harness.profile import COMPUTING, MOVING, Kind, Level
from harness.spec import Cell, ConvSpec
from tests import builders

LIBRARY, COMPILER = "oneDNN 3.12.0 verbose; torch.profiler", "XLA trace; HLO"


@dataclass(frozen=True)
class Kernel:
    """A kernel of a call, with its share of it; by default a convolution of a library."""

    share: float
    implementation: str = ""
    name: str = "convolution"
    kind: Kind = Kind.CONVOLUTION
    level: Level = Level.PRIMITIVE
    detail: str = ""
    role: str = ""
    calls: float = 1.0
    src_format: str = ""
    dst_format: str = ""


@dataclass(frozen=True)
class Call:
    """What ran in a call of `us` microseconds; the rest of it is outside. `facts` are columns of its profile."""

    cell: Cell
    kernels: Sequence[Kernel]
    us: float
    facts: dict[str, Any] = dataclasses.field(default_factory=dict)


def spec(
    c: int, k: int, size: int, kernel: int, n: int = 1, stride: int = 1, groups: int = 1, padding: int | None = None
) -> ConvSpec:
    """A square convolution, padded so that a stride of 1 keeps the size unless told otherwise."""
    pad = kernel // 2 if padding is None else padding
    return ConvSpec(n, c, k, (size, size), (kernel, kernel), (stride, stride), (1, 1), ((pad, pad), (pad, pad)), groups)


def cell(
    of: ConvSpec, direction: str = "fprop", backend: str = "torch", mode: str = "eager", precision: str = "fp32",
    layout: str = "NHWC", threads: int = 1, workload: str = "conv",
) -> Cell:  # fmt: skip
    """A cell of the CPU."""
    return builders.cell(
        workload=workload, spec=of, direction=Direction(direction), backend=backend, mode=Mode(mode),
        precision=Precision(precision), layout=Layout(layout), threads=threads, device=Device("cpu"),
    )  # fmt: skip


def _axes(of: Cell) -> dict[str, Any]:
    found = {name: getattr(of, name) for name in ("workload", "threads", "count", "network", "scaled", "backend")}
    texts = {name: str(getattr(of, name)) for name in ("direction", "precision", "cache", "mode", "device")}
    return {
        "run_id": builders.run().id, **found, **texts, "shape": str(of.spec), "layout": of.layout_text,
        "optimizer": str(of.optimizer or ""), "cell": str(of), **dict.fromkeys(OPTIONS, ""), **of.options,
    }  # fmt: skip


def kernels(*calls: Call) -> pd.DataFrame:
    """The frame of kernels, the time outside of them among its rows."""
    rows = []
    for call in calls:
        told = sorted(call.kernels, key=lambda each: -each.share)
        outside = Kernel(1 - sum(each.share for each in told), name="outside", kind=Kind.OUTSIDE, calls=1.0)
        for rank, each in enumerate([*told, outside], 1):
            rows.append(
                {
                    **_axes(call.cell), "rank": rank, "name": each.name, "kind": str(each.kind),
                    "implementation": each.implementation, "detail": each.detail, "src_format": each.src_format,
                    "dst_format": each.dst_format, "role": each.role,
                    "level": 0 if each.kind is Kind.OUTSIDE else int(each.level), "source": "oneDNN",
                    "calls_per_launch": each.calls, "kernel_ns": 1e3 * call.us * each.share, "share": each.share,
                    "kernel_threads": 1,
                }
            )  # fmt: skip
    return _texts(pd.DataFrame(rows))


def profiles(*calls: Call) -> pd.DataFrame:
    """The frame of profiles, of calls that took as long when they were watched as in the run."""
    rows = []
    for call in calls:
        ns = 1e3 * call.us
        known = sum(each.share for each in call.kernels)
        others = sum(each.share for each in call.kernels if each.kind not in COMPUTING | MOVING)
        computing = sum(each.share for each in call.kernels if each.kind in COMPUTING)
        moving = sum(each.share for each in call.kernels if each.kind in MOVING)
        rows.append(
            {
                **_axes(call.cell), "plain_ns": ns, "watched_ns": ns, "timed_ns": ns, "overhead": 1.0, "calls": 30,
                "clean_calls": 24, "outside_ns": ns * (1 - known), "kernel_share": computing, "move_share": moving,
                "framework_share": others, "flop_compiled": math.nan, "flop_ratio": math.nan,
                "effective_cores": 1.0, "sources": LIBRARY, "op": "", "op_reason": "",
                "trace": "", "problem": "", "incomplete": "", **call.facts,
            }
        )  # fmt: skip
    return _texts(pd.DataFrame(rows))


def _texts(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with text as a stored frame has it."""
    return frame.astype({name: "string" for name in frame.columns if frame[name].map(type).eq(str).all()})
