"""A call as rules look at it: the profile and the kernels of a cell, and the calls that it is compared with."""

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace

import pandas as pd

from harness.axes import OPTIONS, Mode
from harness.profile import Kind, Level, Role
from harness.rows import rows_of
from harness.spec import ConvSpec, TransposedSpec

ENOUGH_CALLS = 3  # undisturbed calls, under which no rule speaks
CONVOLVING = frozenset({Kind.CONVOLUTION, Kind.GEMM})


@dataclass(frozen=True)
class Ran:
    """A row of the frame of kernels, with the columns that are read here."""

    run_id: str
    cell: str
    name: str
    kind: str
    implementation: str
    detail: str
    role: str
    level: int
    calls_per_launch: float
    share: float


@dataclass(frozen=True)
class Profiled:
    """A row of the frame of profiles, with the columns that are read here."""

    run_id: str
    cell: str
    workload: str
    shape: str
    direction: str
    backend: str
    mode: str
    device: str
    precision: str
    layout: str
    cache: str
    threads: int
    optimizer: str
    autotune: str
    switch: str
    operands: str
    bias: str
    epilogue: str
    api: str
    plain_ns: float
    watched_ns: float
    timed_ns: float
    outside_ns: float
    framework_share: float
    flop_ratio: float
    effective_cores: float
    clean_calls: int
    sources: str
    problem: str
    incomplete: str


@dataclass(frozen=True)
class Call:
    """What ran in the calls of a cell, and the calls of the cells that it is compared with.

    `cores` are those that its process may use; None where they are not known.
    """

    of: Profiled
    kernels: tuple[Ran, ...]
    cores: int | None = None
    beside: "tuple[Call, ...]" = ()

    @property
    def sure(self) -> bool:
        """Whether rules may speak of it."""
        return not self.of.problem and not self.of.incomplete and self.of.clean_calls >= ENOUGH_CALLS

    @property
    def who(self) -> str:
        """The backend, with its mode and the other axes that compete, where these are not eager and the default."""
        mode = [] if self.of.mode == str(Mode.EAGER) else [self.of.mode]
        chosen = {name: getattr(self.of, name) for name, option in OPTIONS.items() if option.competes}
        return " ".join([self.of.backend, *mode, *(f"{name} {value}" for name, value in chosen.items() if value)])

    @property
    def ns(self) -> float:
        """Time of a call that nothing watched: of the run, or else of the process that made the profile."""
        return self.of.plain_ns if math.isnan(self.of.timed_ns) else self.of.timed_ns

    @property
    def spec(self) -> ConvSpec:
        """The convolution, or the one that a transposed one mirrors, which has the same batch, filter and groups."""
        transposed = self.of.shape.startswith("transposed ")
        return TransposedSpec.parse(self.of.shape).mirrored if transposed else ConvSpec.parse(self.of.shape)

    @property
    def group(self) -> tuple[object, ...]:
        """What it has in common with those that it is compared with: all axes but those that compete."""
        of = self.of
        asked = (getattr(of, name) for name, option in OPTIONS.items() if not option.competes)
        return (
            of.run_id, of.workload, of.shape, of.direction, of.device, of.precision, of.layout, of.cache, of.threads,
            of.optimizer, *asked,
        )  # fmt: skip

    def share(self, kinds: Collection[str], role: Role | None = None) -> float:
        """Share of the call in kernels of these kinds, of all or of those that move this tensor."""
        return sum(each.share for each in self.kernels if each.kind in kinds and role in (None, each.role))

    @property
    def main(self) -> Ran | None:
        """The convolution or matrix product with the largest share of the call; None where there is none."""
        return max((each for each in self.kernels if each.kind in CONVOLVING), key=lambda each: each.share, default=None)

    @property
    def in_library(self) -> bool:
        """Whether a primitive of a library, or a kernel of a device, is its convolution."""
        return any(each.level == Level.PRIMITIVE and each.kind == Kind.CONVOLUTION for each in self.kernels)

    def fastest_beside(self, fits: "Callable[[Call], bool]", factor: float) -> "Call | None":
        """The fastest call beside it that fits, where this one takes at least `factor` times as long."""
        found = min((other for other in self.beside if fits(other)), key=lambda other: other.ns, default=None)
        return found if found is not None and self.ns >= factor * found.ns else None


def kernel_name(kernel: Ran) -> str:
    """What runs: the implementation, or else the name."""
    return kernel.implementation or kernel.name


def calls(kernels: pd.DataFrame, profiles: pd.DataFrame, cores: Mapping[str, int]) -> list[Call]:
    """The calls of convolutions in these frames, KERNEL_COLUMNS and PROFILE_COLUMNS, in the order of the profiles.

    `cores` has how many a process of each backend may use. Beside each stand those of its group of which rules may speak.
    """
    ran: dict[tuple[str, str], list[Ran]] = {}
    for row in rows_of(kernels, Ran):
        ran.setdefault((row.run_id, row.cell), []).append(row)
    found = [Call(of, tuple(ran.get((of.run_id, of.cell), ())), cores.get(of.backend)) for of in rows_of(profiles, Profiled)]
    groups: dict[tuple[object, ...], list[Call]] = {}
    for call in found:
        if call.sure:
            groups.setdefault(call.group, []).append(call)
    return [replace(call, beside=tuple(other for other in groups.get(call.group, ()) if other is not call)) for call in found]


def with_kernel(summary: pd.DataFrame, kernels: pd.DataFrame) -> pd.DataFrame:
    """The cells of one run with `kernel`, the one that computes; the same frame where the run has no kernels."""
    if kernels.empty:
        return summary
    computing = kernels[kernels["kind"].isin([str(kind) for kind in CONVOLVING])]
    first = computing.sort_values("share", ascending=False, kind="stable").drop_duplicates("cell")
    names = first["implementation"].where(first["implementation"] != "", first["name"])
    of_cell = dict(zip(first["cell"], names, strict=True))
    return summary.assign(kernel=pd.Series([of_cell.get(cell, "") for cell in summary["cell"]], summary.index, dtype="string"))
