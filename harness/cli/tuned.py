"""A tuning as a person reads it in a terminal: the best settings, what they gain, and what was dropped on the way."""

import sys
from collections import Counter
from typing import TYPE_CHECKING, Any

from harness.cli.options import TableFormat, stdout
from harness.outcome import TUNING_DIFFERS
from harness.plan import setting

if TYPE_CHECKING:
    import pandas as pd
    from rich.table import Table

    from harness.review.reading import Reading


def print_tuned(reading: "Reading", format: TableFormat) -> None:
    """The best settings of a tuning on standard output: as tables and sentences, or as the frame in another format."""
    from harness.store import exchange

    if format is not TableFormat.TABLE:
        sys.stdout.write(exchange.render(reading.tuned, format.value))
        return
    from harness.cli import tables

    console = stdout()
    console.print(best(reading.tuned))
    for line in lines(reading.tuned, reading.run.tuned):
        console.print(line, markup=False, soft_wrap=True)
    if len(reading.tuned_networks):
        console.print(networks(reading.tuned_networks))
    for line in tables.failures(reading.ranking):
        console.print(line, markup=False)


def best(found: "pd.DataFrame") -> "Table":
    """A line per workload, direction and backend: its best setting, the time, the gain over the default, and how sure it is."""
    from rich.table import Table
    from rich.text import Text

    from harness import units
    from harness.rows import rows

    varying = [axis for axis in ("device", "optimizer", "cache") if found[axis].nunique() > 1]
    table = Table(show_edge=False, pad_edge=False)
    for title in ("workload", "direction", *varying, "backend", "best setting"):
        table.add_column(title, overflow="fold")
    for title in ("time", "gain"):
        table.add_column(title, justify="right")
    table.add_column("how sure", overflow="fold")
    for row in rows(found):
        mark = "● " if row.best else "○ " if row.tie else ""
        cells = [row.workload, row.direction, *(getattr(row, axis) for axis in varying), f"{mark}{row.backend}"]
        gain = units.ratio_interval(row.gain, row.gain_low, row.gain_high)
        figures = [units.duration(row.median_ns), gain]
        table.add_row(*map(Text, [*cells, row.setting or units.MISSING, *figures, sureness(row)]))
    return table


def sureness(row: Any) -> str:
    """How sure the choice of a row of the frame of `analysis.tuning.tuned` is, in words."""
    match row.choice:
        case "best":
            return "best"
        case "equal":
            return f"as good: {row.equal_to}"
        case "undecided":
            return f"not decided: {row.open}" + (f"; as good: {row.equal_to}" if row.equal_to else "")
        case "alone":
            return "the only setting with a figure"
    return "no setting has a figure"


def lines(found: "pd.DataFrame", over: dict[str, str]) -> list[str]:
    """What the table of `best` means, and how many settings were dropped after which trial."""
    default = setting(over)
    several = found["backend"].nunique() > 1
    told = [
        f"gain: time of the default ({default}) over that of the best setting, by pairs of processes"
        + ("   ● fastest backend   ○ as good, within 2 %" if several else "")
    ]
    if found.attrs.get("tuning_differs"):
        told.append(TUNING_DIFFERS)
    if "precision" in over:
        told.append("precisions are no equal results: a faster one is less exact, and was held against its own tolerance")
    after: dict[int, Counter[str]] = {}
    for text in found["dropped"]:
        for part in filter(None, text.split("; ")):
            which, _, trials = part.rpartition(": ")
            after.setdefault(int(trials.split()[0]), Counter())[which] += 1
    for trials, counts in sorted(after.items()):
        listed = ", ".join(
            f"{which} in {count}" for which, count in sorted(counts.items(), key=lambda each: (-each[1], each[0]))
        )
        told.append(f"dropped after {trials} trials: {listed}")
    return told


def networks(rolled: "pd.DataFrame") -> "Table":
    """A line per network, backend and direction: all its convolutions in the default and in their best settings."""
    from rich.table import Table
    from rich.text import Text

    from harness import units
    from harness.rows import rows

    table = Table(show_edge=False, pad_edge=False)
    varying = [name for name in ("scaled", "setting") if (rolled[name] != "").any()]
    for title in ("network", *varying, "backend", "direction"):
        table.add_column(title, overflow="fold")
    for title in ("layers", "default", "best settings", "gain"):
        table.add_column(title, justify="right")
    for row in rows(rolled):
        direction = "three passes" if row.direction == "passes" else row.direction
        times = [
            units.timed(row.default_ns, row.default_low_ns, row.default_high_ns),
            units.timed(row.best_ns, row.best_low_ns, row.best_high_ns),
        ]
        gain = units.ratio_interval(row.gain, row.gain_low, row.gain_high)
        texts = [row.network, *(getattr(row, name) for name in varying), row.backend, direction]
        table.add_row(*map(Text, [*texts, f"{row.layers} in {row.shapes} shapes", *times, gain]))
    return table
