"""What ran inside the calls: a bar for each cell, what rules say of a workload and direction, and the kernels of a case."""

import base64
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
from markupsafe import Markup

from harness import units
from harness.page.sections import Ran
from harness.page.svg import clean
from harness.page.tables import Named, named
from harness.page.view import View, short
from harness.profile import Kind
from harness.rows import rows_of

MOST_GROUPS = 24  # on the page: first those that a rule has something to say of
MOST_KERNELS, LEAST_SHARE = 12, 0.01  # of a case: the rest is summed up
TRACE_BYTES = 400_000  # that the traces of a page may have together: what they take is sent along with every page
_WIDTH, _HEIGHT = 130, 14  # px of the longest bar, which a phone shows beside the name and the time
# The parts of a call, each with its fill: solid, hatched, light, empty, which are told apart without colour.
PARTS = {
    "compute": 'class="f-mut s-soft"',
    "moving data": 'class="s-soft" fill="url(#ran-moving)"',
    "framework": 'class="f-line s-soft"',
    "outside": 'class="f-bg s-soft"',
}
_IN_NAMES = re.compile(r"[^\w.-]+")


@dataclass(frozen=True)
class Profiled:
    """A row of the frame of profiles, with the columns that are read here."""

    cell: str
    plain_ns: float
    watched_ns: float
    timed_ns: float
    overhead: float
    calls: int
    clean_calls: int
    outside_ns: float
    kernel_share: float
    move_share: float
    framework_share: float
    sources: str
    trace: str
    problem: str
    incomplete: str

    @property
    def ns(self) -> float:
        """Time of a call that nothing watched: of the run, or else of the process that made the profile."""
        return self.plain_ns if math.isnan(self.timed_ns) else self.timed_ns

    @property
    def shares(self) -> tuple[float, ...]:
        """The parts of a call, in the order of PARTS; missing where there is no profile."""
        outside = self.outside_ns / self.watched_ns if self.watched_ns > 0 else math.nan
        return self.kernel_share, self.move_share, self.framework_share, outside


@dataclass(frozen=True)
class Kernel:
    """A row of the frame of kernels, with the columns that are read here."""

    cell: str
    name: str
    kind: str
    implementation: str
    detail: str
    src_format: str
    dst_format: str
    role: str
    source: str
    calls_per_launch: float
    kernel_ns: float
    share: float


@dataclass(frozen=True)
class Told:
    """A row of the frame of explanations, with the columns that are read here."""

    cell: str
    sentence: str
    remedy: str


@dataclass(frozen=True)
class Cell:
    """A row of `View.cells`, with the columns that are read here."""

    i: int
    cell: str
    name: str
    varies: str
    words: str
    shape: str
    device: str
    backend: str
    mode: str
    slug: str
    kernel: str


@dataclass(frozen=True)
class Line:
    """A cell of a group: its time, bar, parts and the kernel that computes with its share; or why there is no profile of it.

    `setting` are the axes in which cells of the run differ, beside backend and mode.
    """

    backend: Named
    setting: str
    slug: str
    time: str = ""
    bar: str = ""
    parts: str = ""
    kernel: str = ""
    share: str = ""
    missing: str = ""


@dataclass(frozen=True)
class Group:
    """The cells of a workload and direction, one above the other, and what is said of them: sentences with their remedies."""

    name: str
    shape: str
    words: str
    lines: list[Line]
    told: list[tuple[str, str]]
    spread: float  # the longest time over the shortest


@dataclass(frozen=True)
class Row:
    """A kernel in the table of a case."""

    name: str
    under: str
    kind: str
    calls: str
    time: str
    share: str


@dataclass(frozen=True)
class Case:
    """What ran in the calls of a case: facts in words, kernels, and its trace as a link, or where it is kept.

    `i` is the number by which the page's script finds it.
    """

    i: int
    missing: str
    facts: Sequence[tuple[str, str]] = ()
    rows: Sequence[Row] = ()
    rest: str = ""
    file: str = ""
    href: str = ""
    kept: str = ""


@dataclass(frozen=True)
class Section:
    """What the section shows: `total` groups there are, `profiled` of `cells` cells have a profile."""

    groups: list[Group]
    total: int
    profiled: int
    cells: int
    swatches: list[tuple[str, str]]
    cases: list[Case]


def section(view: View, ran: Ran) -> Section:
    """All of it, for the cells on the page."""
    profiles = {row.cell: row for row in rows_of(ran.profiles, Profiled)}
    cells = rows_of(view.cells.sort_values("i", kind="stable"), Cell)
    kernels: dict[str, list[Kernel]] = {}
    for row in rows_of(ran.kernels.sort_values("share", ascending=False, kind="stable"), Kernel):
        kernels.setdefault(row.cell, []).append(row)
    groups = _groups(view, cells, profiles, kernels, ran.explanations)
    by_weight = sorted(groups, key=lambda group: (not group.told, -group.spread))[:MOST_GROUPS]
    cases, left = [], TRACE_BYTES
    for cell in cells:
        cases.append(_case(cell, profiles.get(cell.cell), kernels.get(cell.cell, []), ran.traces, left))
        left -= len(cases[-1].href)
    return Section(
        groups=[group for group in groups if group in by_weight],
        total=len(groups),
        profiled=sum(1 for cell in cells if cell.cell in profiles and not profiles[cell.cell].problem),
        cells=len(cells),
        swatches=[(name, _svg(f'<rect x="1" y="1" width="20" height="12" {fill}/>', 22)) for name, fill in PARTS.items()],
        cases=cases,
    )


# The bars ----------------------------------------------------------------------------------------------------------------


def _groups(
    view: View, cells: Sequence[Cell], profiles: Mapping[str, Profiled], kernels: Mapping[str, Sequence[Kernel]],
    explanations: pd.DataFrame,
) -> list[Group]:  # fmt: skip
    """The groups in which a cell has a profile, in the order of the page."""
    told: dict[str, list[tuple[str, str]]] = {}
    for row in rows_of(explanations, Told):
        told.setdefault(row.cell, []).append((clean(row.sentence), clean(row.remedy)))
    groups: dict[tuple[str, str, str], list[Cell]] = {}
    for cell in cells:
        groups.setdefault((cell.name, cell.shape, cell.words), []).append(cell)
    found = []
    for (name, shape, words), members in groups.items():
        times = [profiles[cell.cell].ns for cell in members if cell.cell in profiles and profiles[cell.cell].ns > 0]
        if not any(cell.cell in profiles for cell in members):
            continue
        longest, said = max(times, default=0.0), []
        lines = [_line(view, cell, profiles.get(cell.cell), kernels.get(cell.cell, []), longest) for cell in members]
        for cell, line in zip(members, lines, strict=True):
            of = f"{line.setting}: " if line.setting else ""
            said += [(f"{of}{sentence}", remedy) for sentence, remedy in told.get(cell.cell, [])]
            if cell.cell in profiles and (why := clean(profiles[cell.cell].incomplete)):
                said.append((f"{of}{line.backend.text}: incomplete, no rule speaks of it: {why}.", ""))
        found.append(Group(name, clean(shape), words, lines, said, longest / min(times) if times else 1.0))
    return found


def _line(view: View, cell: Cell, profile: Profiled | None, kernels: Sequence[Kernel], longest: float) -> Line:
    who = named(view, cell.backend, cell.mode)
    setting = " · ".join(filter(None, (cell.varies, cell.device if len(view.devices) > 1 else "")))
    if profile is None or profile.problem or not longest > 0:
        problem = clean(profile.problem) if profile else ""
        return Line(who, setting, cell.slug, missing=problem or "not profiled")
    main = max((each.share for each in kernels if cell.kernel in (each.implementation, each.name)), default=math.nan)
    return Line(
        who, setting, cell.slug, units.duration(profile.ns), bar(profile.shares, _WIDTH * profile.ns / longest),
        " / ".join(_percent(share).removesuffix(" %") for share in profile.shares),
        short(cell.kernel) or units.MISSING, _percent(main) if cell.kernel else "",
    )  # fmt: skip


def bar(shares: Sequence[float], length: float) -> Markup:
    """The parts of a call, side by side in so many px; one that would have less than half a px is left out.

    What it shows stands in words in the same row, so screen readers leave it out.
    """
    found, x = "", 1.0
    for fill, share in zip(PARTS.values(), shares, strict=True):
        width = share * length
        if width >= 0.5:
            found += f'<rect x="{x:.1f}" y="1" width="{width:.1f}" height="{_HEIGHT - 2}" {fill}/>'
            x += width
    return _svg(found, _WIDTH + 2)


def _svg(inside: str, width: int) -> Markup:
    return Markup(f'<svg width="{width}" height="{_HEIGHT}" viewBox="0 0 {width} {_HEIGHT}" aria-hidden="true">{inside}</svg>')


def _percent(share: float) -> str:
    return units.MISSING if math.isnan(share) else f"{100 * share:.0f} %"


# The cases ---------------------------------------------------------------------------------------------------------------


def _case(cell: Cell, profile: Profiled | None, kernels: Sequence[Kernel], traces: Mapping[str, bytes], left: int) -> Case:
    """What the dialog of a case shows; its trace is in the link where it fits into so many bytes."""
    if profile is None:
        return Case(cell.i, "This case was not profiled.")
    shown = [row for row in kernels if row.share >= LEAST_SHARE][:MOST_KERNELS]
    rest = len(kernels) - len(shown)
    told = f"{units.many(rest, 'kernel')} more: {_percent(sum(row.share for row in kernels[len(shown) :]))} of the call."
    packed = base64.b64encode(traces.get(cell.cell, b"")).decode()
    fits = packed and len(packed) <= left
    return Case(
        cell.i,
        clean(profile.problem),
        _facts(profile),
        [_row(row) for row in shown],
        told if rest else "",
        file=_IN_NAMES.sub("-", cell.slug) + ".json.gz",
        href=f"data:application/gzip;base64,{packed}" if fits else "",
        kept=clean(profile.trace) if packed else "",  # one that is lost, or was left out of a copy, is not named
    )


def _facts(profile: Profiled) -> list[tuple[str, str]]:
    known = [
        ("Watched ÷ plain call", units.ratio(profile.overhead)),
        ("Plain call", units.duration(profile.plain_ns)),
        ("Undisturbed calls", f"{profile.clean_calls} of {profile.calls}"),
        ("Read from", clean(profile.sources)),
        ("Incomplete", clean(profile.incomplete)),
    ]
    return [(label, text) for label, text in known if text not in ("", units.MISSING)]


def _row(row: Kernel) -> Row:
    """A kernel: its implementation, or else its name, and under it all else that its source says."""
    name = row.implementation or row.name
    formats = row.src_format if row.src_format == row.dst_format else f"{row.src_format} → {row.dst_format}"
    under = (row.name if name != row.name else "", formats.strip(" →"), row.role, row.detail, row.source)
    return Row(
        short(name), " · ".join(filter(None, map(clean, under))), clean(row.kind),
        f"{row.calls_per_launch:.4g}" if row.kind != Kind.OUTSIDE else "", units.milliseconds(row.kernel_ns),
        _percent(row.share),
    )  # fmt: skip
