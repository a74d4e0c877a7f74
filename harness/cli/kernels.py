"""What ran inside the calls of a run, as a person reads it in a terminal: the backends of a workload one above the other."""

import math
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from harness import units
from harness.axes import OPTIONS
from harness.cli.options import TableFormat, say_which, stdout
from harness.errors import SelectionError
from harness.plan import setting
from harness.profile import Kind

if TYPE_CHECKING:
    import pandas as pd

    from harness.review.reading import Reading

MOST, LEAST_SHARE = 8, 0.005  # kernels of a cell that have a line of their own, and their least share of the call
MOST_WIDTH = 120  # columns
AXES = ("precision", "layout", "cache", "device", "threads", *OPTIONS)  # of which a cell is told where they vary


def print_kernels(
    reading: "Reading", chosen: "Callable[[pd.DataFrame], pd.DataFrame]", format: TableFormat, named: bool = False
) -> None:  # fmt: skip
    """Print what ran on standard output: as text, or the frame of kernels in another format.

    `chosen` keeps the rows that are asked for, `named` has the text say which run it is of. Raises SelectionError where no cell
    of the run was profiled.
    """
    from harness.review.reading import for_people
    from harness.store import exchange

    if reading.profiles.empty:
        raise SelectionError(f"--kernels: no cell of run {reading.run.id} was profiled; convbench profile SUITE does that")
    profiles = for_people(chosen(reading.profiles))
    kernels = reading.kernels[reading.kernels["cell"].isin(profiles["cell"])]
    if format is not TableFormat.TABLE:
        sys.stdout.write(exchange.render(kernels, format.value))
        return
    if named:
        say_which(reading.run)
    console = stdout()
    for line in lines(profiles, kernels, min(console.width, MOST_WIDTH)):
        console.print(line, soft_wrap=True)


def lines(profiles: "pd.DataFrame", kernels: "pd.DataFrame", width: int) -> Iterator[str]:
    """A block for each workload and direction, in the order of the profiles, in lines of at most `width` columns."""
    from harness.rows import rows

    varying = [name for name in AXES if profiles[name].nunique() > 1]
    of_cell: dict[str, list[Any]] = {}
    for kernel in rows(kernels):
        of_cell.setdefault(kernel.cell, []).append(kernel)
    for (name, shape, direction, optimizer), block in profiles.groupby(
        ["workload", "shape", "direction", "optimizer"], sort=False
    ):
        yield _cut(f"{' '.join(filter(None, map(str, (name, direction, optimizer))))}  {shape}", width)
        for profile in rows(block):
            yield _cut(f"  {who(profile, varying)}  {_times(profile)}", width)
            incomplete = f"incomplete: {profile.incomplete}" if profile.incomplete else ""
            for note in filter(None, (profile.problem, incomplete)):
                yield from _wrapped(note, width)
            yield from (_cut(line, width) for line in _kernels(of_cell.get(profile.cell, [])))
        yield ""


def who(row: Any, varying: Sequence[str]) -> str:
    """The backend and the mode of a cell, and of its other axes those that vary."""
    return " ".join(filter(None, (row.backend, row.mode, varied(row, varying))))


def varied(row: Any, varying: Sequence[str]) -> str:
    """The setting of a cell on the axes that vary, without options that are at their default."""
    return setting({name: value for name in varying if (value := getattr(row, name)) != ""})


def _times(profile: Any) -> str:
    """What a call takes, as the run timed it, or else the child; and what watching it costs."""
    ns = profile.plain_ns if math.isnan(profile.timed_ns) else profile.timed_ns
    told = units.duration(ns, 3)
    if math.isnan(profile.watched_ns):
        return told
    return f"{told}, watched {units.duration(profile.watched_ns, 3)}, {units.ratio(profile.overhead)} of plain"


def _kernels(kernels: list[Any]) -> Iterator[str]:
    """A line for each kernel that takes a share worth telling, the largest first, and one for the rest."""
    shown = [each for each in sorted(kernels, key=lambda each: each.rank) if each.share >= LEAST_SHARE][:MOST]
    for each in shown:
        head = f"  {100 * each.share:5.0f} %  {units.duration(each.kernel_ns, 3):>8}  {_many(each):>9}"
        yield f"{head}  {_named(each)}"
    if rest := len(kernels) - len(shown):
        share = max(0.0, sum(each.share for each in kernels) - sum(each.share for each in shown))
        yield f"  {100 * share:5.0f} %{'':23}{units.many(rest, 'other')}"


def _many(kernel: Any) -> str:
    """How often it runs in a call."""
    return "" if kernel.kind == Kind.OUTSIDE else f"{kernel.calls_per_launch:.4g} x"


def _named(kernel: Any) -> str:
    """Its name, the kernel behind it, and what formats and tensor its source tells of."""
    if kernel.kind == Kind.OUTSIDE:
        return "outside: Python, and waiting"
    formats = f"{kernel.src_format} to {kernel.dst_format}" if kernel.src_format and kernel.dst_format else ""
    name = kernel.name if kernel.name == kernel.implementation else f"{kernel.name} {kernel.implementation}".strip()
    return ", ".join(filter(None, (name, formats, kernel.role)))


def _cut(line: str, width: int) -> str:
    return line if len(line) <= width else f"{line[: width - 1]}…"


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, width, initial_indent="    ", subsequent_indent="    ")
