"""What ran inside the calls of a run, and why, as a person reads it in a terminal: a block per workload and direction."""

import math
import sys
import textwrap
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from harness.cli.kernels import AXES, MOST_WIDTH, varied, who
from harness.cli.options import TableFormat, say_which, stdout
from harness.errors import SelectionError

if TYPE_CHECKING:
    import pandas as pd

    from harness.review.reading import Reading

TOLD = (
    "In a line: time of one call, median of the run; % of the call that computes / moves data / is in the framework / is in "
    "nothing that a profile sees; the kernel that computes, and the share that it has alone."
)


def print_explained(reading: "Reading", chosen: "Callable[[pd.DataFrame], pd.DataFrame]", format: TableFormat) -> None:
    """What ran and why on standard output: as text that says first of which run, or the frame of explanations otherwise.

    `chosen` keeps the rows that are asked for. Raises SelectionError where the run has no profile.
    """
    from harness.review.reading import for_people
    from harness.store import exchange

    if reading.profiles.empty:
        raise SelectionError(f"--explain: no cell of run {reading.run.id} was profiled; convbench profile SUITE does that")
    profiles = for_people(chosen(reading.profiles))
    explanations = reading.explanations[reading.explanations["cell"].isin(profiles["cell"])]
    if format is not TableFormat.TABLE:
        sys.stdout.write(exchange.render(explanations, format.value))
        return
    say_which(reading.run)
    console = stdout()
    for line in lines(profiles, reading.kernels, explanations, console.width):
        console.print(line, markup=False, soft_wrap=True)


def lines(profiles: "pd.DataFrame", kernels: "pd.DataFrame", explanations: "pd.DataFrame", width: int) -> Iterator[str]:
    """The text for these profiles in their order, in lines of at most `width` columns where names leave room for that.

    Under a cell stands which call was timed and why that one, or what is in it, where there is something to say.
    """
    from harness.analysis.called import with_kernel
    from harness.rows import rows

    told = with_kernel(profiles.assign(kernel=""), kernels)
    varying = [name for name in AXES if profiles[name].nunique() > 1]
    first = max((len(who(row, varying)) for row in rows(told)), default=0)
    shares = _shares(kernels)
    for (workload, shape, direction, optimizer), block in told.groupby(
        ["workload", "shape", "direction", "optimizer"], sort=False
    ):
        yield f"{workload} {f'{direction} {optimizer}'.strip()}  {shape}"
        for row in rows(block):
            head = f"  {who(row, varying):{first}}  "
            yield head + (row.problem or _figures(row, shares.get((row.cell, row.kernel), math.nan), width - len(head)))
            if row.incomplete:
                yield from _wrapped(f"incomplete: {row.incomplete}", width, "    ")
            if row.op_reason:
                yield from _wrapped(f"call: {row.op}: {row.op_reason}", width, "    ")
        for place, row in enumerate(rows(explanations[explanations["cell"].isin(block["cell"])])):
            remedy = f" In an example it was small or gone with {row.remedy}." if row.remedy else ""
            of = f"{varied(row, varying)}: " if varying else ""
            yield from _wrapped(f"{of}{row.sentence}{remedy}", width, "       " if place else "  why  ")
        yield ""
    yield from _wrapped(TOLD, width, "")


def _shares(kernels: "pd.DataFrame") -> dict[tuple[str, str], float]:
    """The share of the call of each kernel, by its cell and its implementation or name; of several the largest."""
    from harness.rows import rows

    found: dict[tuple[str, str], float] = {}
    for row in rows(kernels):
        key = (row.cell, row.implementation or row.name)
        found[key] = max(found.get(key, 0.0), row.share)
    return found


def _figures(row: Any, share: float, room: int) -> str:
    """What stands behind the name of a cell that was profiled, in about `room` columns."""
    from harness import units

    time = units.duration(row.plain_ns if math.isnan(row.timed_ns) else row.timed_ns, 3)
    parts = (row.kernel_share, row.move_share, row.framework_share, row.outside_ns / row.watched_ns)
    figures = f"{time:>7}  {'/'.join(f'{100 * part:.0f}' for part in parts):<11}  "
    percent = "" if math.isnan(share) else f"{100 * share:.0f} % "
    kernel = row.kernel or "no kernel that computes is named"
    room = max(12, room - len(figures) - len(percent))
    return figures + percent + (kernel if len(kernel) <= room else f"{kernel[: room - 1]}…")


def _wrapped(text: str, width: int, indent: str) -> list[str]:
    return textwrap.wrap(text, min(width, MOST_WIDTH), initial_indent=indent, subsequent_indent=" " * len(indent))
