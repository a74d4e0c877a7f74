"""The best settings of a tuning as the page shows them: one line per workload, direction and backend, and per network."""

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from harness import units
from harness.page.svg import clean
from harness.page.view import direction_words
from harness.plan import setting
from harness.rows import rows

MOST_LINES = 300  # the rest is in the CSV of `convbench show RUN --tuned`


@dataclass(frozen=True)
class Best:
    """The lines of a tuning, of `total` in all: workload, shape, direction, backend, setting, time, gain, how sure.

    `marks` says what the marks mean that stand beside a backend.
    """

    default: str
    lines: list[tuple[str, ...]]
    total: int
    marks: str

    @property
    def intervals(self) -> bool:
        """Whether any gain has an interval."""
        return any("(" in gain for *_, gain, _ in self.lines)


def best(found: pd.DataFrame | None, over: Mapping[str, str]) -> Best | None:
    """The lines for the frame of `analysis.tuning.tuned`; None where nothing was tuned."""
    if found is None or found.empty:
        return None
    lines = []
    for row in rows(found.head(MOST_LINES)):
        mark = " ●" if row.best else " ○" if row.tie else ""
        sure = {"equal": f"as good: {row.equal_to}", "undecided": f"not decided: {row.open}", "alone": "the only one measured"}
        gain = units.ratio_interval(row.gain, row.gain_low, row.gain_high)
        what = row.workload, row.shape, direction_words(row.direction), row.backend + mark, row.setting or units.MISSING
        lines.append(tuple(map(clean, (*what, units.duration(row.median_ns), gain, sure.get(row.choice, row.choice)))))
    shown = found.head(MOST_LINES)
    marks = {"● fastest backend": shown["best"].any(), "○ another as good": (shown["tie"] & ~shown["best"]).any()}
    return Best(setting(over), lines, len(found), ", ".join(words for words, there in marks.items() if there))


def networks(rolled: pd.DataFrame | None) -> list[tuple[str, ...]]:
    """A line per network, backend and direction: the time in the default and in the best settings, and the gain."""
    lines = []
    for row in rows(rolled) if rolled is not None else ():
        name = " · ".join(filter(None, (row.network, row.scaled, row.setting)))
        direction = "three passes" if row.direction == "passes" else direction_words(row.direction)
        gain = units.ratio_interval(row.gain, row.gain_low, row.gain_high)
        default = units.timed(row.default_ns, row.default_low_ns, row.default_high_ns)
        best = units.timed(row.best_ns, row.best_low_ns, row.best_high_ns)
        lines.append(tuple(map(clean, (name, row.backend, direction, default, best, gain))))
    return lines
