"""The page of all runs: the latest in a sentence, the trend of each machine, and a row per run. Made from digests alone.

Runs of different machines, or of different suites, are never compared and never joined by a line.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise

import pandas as pd
import seaborn as sns
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.dates import date2num

from harness import units
from harness.digest import Digest
from harness.outcome import Level, Outcome, Result
from harness.page import html, palette
from harness.page.canvas import Canvas, Drawn, draw, fitted, night_axis, nightly_ratios
from harness.page.palette import Look, sentinel
from harness.page.svg import clean

MOST_PANELS = 8
MOST_REMARK = 160  # characters
NOT_JUDGED, NO_SUMMARY = "not judged", "no summary"
UNFINISHED = "unfinished"  # in a link, in the place of a level
_PANEL, _FOOT, _HEAD, _LEFT, _RIGHT = 150.0, 40.0, 26.0, 56.0, 150.0  # px
_NIGHT = timedelta(hours=36)  # where runs are nightly, two runs further apart than this have missed a night


@dataclass(frozen=True)
class Tag:
    """A word in its colour."""

    tone: str
    words: str


@dataclass(frozen=True)
class Row:
    """A run in the table; numbers as text, a missing one as a dash. `bars` is the count of slower and faster as a drawing."""

    run_id: str
    night: str
    suite: str
    machine: str
    commit: str
    level: Tag
    state: str
    faster: str
    slower: str
    bars: Markup
    new_failures: str
    means: list[str]
    validity: Tag | None
    measured: str
    remarks: str
    page: bool


def render(digests: Mapping[str, Digest | None], pages: Collection[str]) -> html.Page:
    """The index of these runs, by run id, oldest first; None where one has no digest. `pages` are those that have a page."""
    known = [digest for digest in digests.values() if digest]
    known.sort(key=lambda digest: (digest.started_at, digest.run_id))
    looks = palette.looks({ratio.backend for digest in known for ratio in (*digest.over_first, *digest.over_baseline)})
    most = max((max(digest.count(Outcome.SLOWER), digest.count(Outcome.FASTER)) for digest in known), default=0)
    columns = [name for name in looks if name in {ratio.backend for digest in known for ratio in digest.over_baseline}]
    rows = [_row(digest, columns, most, digest.run_id in pages) for digest in reversed(known)]
    rows += [_unknown(run_id, columns, run_id in pages) for run_id, digest in reversed([*digests.items()]) if digest is None]
    trends = _trends(known)
    charts = [_trend(name, same, looks, f"trend-{place}") for place, (name, same) in enumerate(trends[:MOST_PANELS])]
    broken = tuple(f"{chart.name}: {chart.failure}" for chart in charts if chart.failure)
    context = {
        "latest": known[-1] if known else None,
        "latest_level": _level(known[-1]) if known else None,
        "latest_page": bool(known) and known[-1].run_id in pages,
        "quiet": _last(known, (Level.QUIET, Level.IMPROVED)),
        "invalid": _last(known, (Level.INVALID,)),
        "charts": charts,
        "left_out": len(trends) - len(charts),
        "rows": rows,
        "columns": columns,
        "compared": any(row.faster != units.MISSING or row.new_failures != units.MISSING for row in rows),
        "unjudged": any(row.level.words == NOT_JUDGED for row in rows),
        "suites": len({digest.suite for digest in known}) > 1,
        "machines": sorted({row.machine for row in rows} - {units.MISSING}),
        "machine_words": sorted({(digest.machine_id, digest.machine) for digest in known}),
        "states": list(dict.fromkeys((row.state, row.level.words) for row in sorted(rows, key=lambda row: row.state))),
        "broken": broken,
        "who": lambda backend, _="": clean(looks[backend].words),
        "icon": lambda backend, _="": f"k-{looks[backend].key}-full",
        "symbols": html.symbols(looks, ["full"]),
    }
    text = html.document("index.html.j2", palette.css(looks), ("theme.js", "index.js"), context)
    return html.Page(text, broken, rows="")


def _last(known: Sequence[Digest], levels: Collection[str]) -> Digest | None:
    return next((digest for digest in reversed(known) if digest.level in levels), None)


def _level(digest: Digest) -> Tag:
    level = digest.level
    if digest.unfinished:
        return Tag("warn", f"! {clean(digest.unfinished).partition(':')[0]}")
    if not level:
        return Tag("", NOT_JUDGED)
    known = next((each for each in Level if each == level), None)
    return Tag(known.tone, known.tag) if known else Tag("", clean(level).replace("_", " "))


def _row(digest: Digest, columns: Sequence[str], most: int, page: bool) -> Row:
    judged = bool(digest.verdicts)
    slower, faster = digest.count(Outcome.SLOWER), digest.count(Outcome.FASTER)
    means = {ratio.backend: ratio.ratio for ratio in digest.over_baseline}
    why = digest.sentence if digest.level == Level.INVALID else ""
    return Row(
        run_id=digest.run_id,
        night=f"{digest.started_at:%Y-%m-%d %H:%M}",
        suite=clean(digest.suite),
        machine=clean(digest.machine_id) or units.MISSING,
        commit=clean(digest.commit)[:7] or units.MISSING,
        level=_level(digest),
        state=UNFINISHED if digest.unfinished else clean(digest.level) or "none",
        faster=str(faster) if judged else units.MISSING,
        slower=str(slower) if judged else units.MISSING,
        bars=_bars(faster, slower, most),
        new_failures=str(digest.new_failures) if digest.level else units.MISSING,
        means=[_change(means.get(name)) for name in columns],
        validity=_validity(digest),
        measured=f"{digest.measured} / {digest.cells}",
        remarks=_cut("; ".join(clean(part) for part in (digest.unfinished, why, *digest.changes) if part)),
        page=page,
    )


def _unknown(run_id: str, columns: Sequence[str], page: bool) -> Row:
    dash = units.MISSING
    return Row(
        clean(run_id), clean(run_id), dash, dash, dash, Tag("", NO_SUMMARY), "no_summary", dash, dash, Markup(""), dash,
        [dash] * len(columns), None, dash, "", page,
    )  # fmt: skip


def _validity(digest: Digest) -> Tag | None:
    for result in (Result.FAILED, Result.WARNING, Result.PASS):
        if count := sum(check.result is result for check in digest.validity):
            return Tag(
                result.tone,
                f"{result.icon} {_counted(result, count)}",
            )
    return None


def _counted(result: Result, count: int) -> str:
    """So many checks in words: `pass`, `2 failed`, `1 warning`."""
    if result is Result.PASS:
        return result.words
    return units.many(count, result.words) if result is Result.WARNING else f"{count} {result.words}"


def _change(ratio: float | None) -> str:
    if ratio is None:
        return units.MISSING
    text = f"{100 * (ratio - 1):+.1f}"
    return "0.0" if text in ("+0.0", "-0.0") else text.replace("-", "−")


def _cut(text: str) -> str:
    return text if len(text) <= MOST_REMARK else text[: MOST_REMARK - 1] + "…"


def _bars(faster: int, slower: int, most: int) -> Markup:
    """Faster to the left and slower to the right of one line, to one scale over all runs."""
    if not faster and not slower:
        return Markup("")
    left, right = (round(46 * count / most, 1) for count in (faster, slower))
    shapes = [f'<path class="f-fast" d="M50 3H{50 - left:g}V11H50"/>', f'<path class="f-slow" d="M50 3H{50 + right:g}V11H50"/>']
    drawn = "".join(shape for shape, count in zip(shapes, (faster, slower), strict=True) if count)
    return Markup(f'<svg class="bars" aria-hidden="true">{drawn}</svg>')


# --- trend ------------------------------------------------------------------------------------------------------------------


def _trends(known: Sequence[Digest]) -> list[tuple[str, list[Digest]]]:
    """The runs of each machine and suite that have a ratio to their first night, the latest machine first."""
    found: dict[tuple[str, str], list[Digest]] = {}
    for digest in known:
        if digest.over_first and not digest.unfinished:  # the mean over a part of the cells is another one
            found.setdefault((digest.machine_id, digest.suite), []).append(digest)
    several = [(f"{clean(suite)} on {clean(machine)}", same) for (machine, suite), same in found.items() if len(same) > 1]
    return sorted(several, key=lambda pair: pair[1][-1].started_at, reverse=True)


def _trend(name: str, same: Sequence[Digest], looks: Mapping[str, Look], figure: str) -> Drawn:
    moments = [digest.started_at.replace(tzinfo=None) for digest in same]
    steps = sorted(later - sooner for sooner, later in pairwise(moments))
    nightly = steps[len(steps) // 2] <= _NIGHT
    stretch = [0]
    for sooner, later in pairwise(moments):
        stretch.append(stretch[-1] + (nightly and later - sooner > _NIGHT))
    points = pd.DataFrame(
        [
            {"at": date2num(moment), "stretch": part, "backend": ratio.backend, "ratio": ratio.ratio, "cells": ratio.cells}
            for digest, moment, part in zip(same, moments, stretch, strict=True)
            for ratio in digest.over_first
        ]
    )
    cells = sorted(set(points["cells"]))
    many = units.many(cells[0], "case") if len(cells) == 1 else f"{cells[0]} to {cells[-1]} cases"
    note = f"Geometric mean of time over the first night, {many} per backend that both nights have. Below 1 is faster."
    changes = [(date2num(moment), digest.changes[0]) for digest, moment in zip(same, moments, strict=True) if digest.changes]
    note += " Dashed: something on the machine or in its software changed." if changes else ""
    desc = "One line per backend over the nights; the last value stands at its end."
    backends = tuple((backend, "") for backend in looks if backend in set(points["backend"]))
    return draw(figure, name, desc, lambda: _lines(points, changes, looks), note=note, legend=backends)


def _lines(points: pd.DataFrame, changes: Sequence[tuple[float, str]], looks: Mapping[str, Look]) -> Canvas:
    canvas = Canvas(_HEAD + _PANEL + _FOOT)
    axes = canvas.axes(_LEFT, _HEAD, canvas.width - _LEFT - _RIGHT, _PANEL)
    nightly_ratios(axes, points["ratio"], 0.02, lambda value: f"{value:.3g}×")
    night_axis(axes, points["at"].min(), points["at"].max())
    axes.axhline(1, color=sentinel("soft"), lw=1)
    for at, words in changes:
        axes.axvline(at, color=sentinel("soft"), lw=1, ls=(0, (4, 3)))
        x = _LEFT + (at - axes.get_xlim()[0]) / (axes.get_xlim()[1] - axes.get_xlim()[0]) * (canvas.width - _LEFT - _RIGHT)
        canvas.text(x + 4, _HEAD / 2, fitted(clean(words), 170), color=sentinel("mut"), fontsize=10)
    ends = []
    for backend, look in looks.items():
        mine = points[points["backend"] == backend]
        if mine.empty:
            continue
        sns.lineplot(
            mine, x="at", y="ratio", units="stretch", estimator=None, errorbar=None, sort=False, ax=axes, legend=False,
            color=look.sentinel(), linestyle=look.dash, linewidth=1.8,
        )  # fmt: skip
        final = mine.iloc[-1]
        alone = mine[~mine["stretch"].duplicated(keep=False)]  # a night between two that were missed has no line
        sns.scatterplot(x=alone["at"], y=alone["ratio"], marker=look.marker, s=12, color=look.sentinel(), ax=axes, zorder=4)
        sns.scatterplot(x=[final["at"]], y=[final["ratio"]], marker=look.marker, s=40, color=look.sentinel(), ax=axes, zorder=4)
        axes.collections[-1].set_clip_on(False)
        ends.append((final["ratio"], f"{clean(look.words)} {units.ratio(final['ratio'])}"))
    _end_labels(canvas, axes, ends)
    axes.grid(axis="x", visible=False)
    axes.grid(axis="y", visible=True)
    axes.set(xlabel="night", ylabel="ratio, log")
    return canvas


def _end_labels(canvas: Canvas, axes: Axes, ends: Sequence[tuple[float, str]]) -> None:
    """The last values at the right edge, moved apart where they would lie on one another."""
    low, high = axes.get_ylim()
    taken = _HEAD - 20.0
    for value, words in sorted(ends, reverse=True):
        taken = max(_HEAD + math.log(high / value) / math.log(high / low) * _PANEL, taken + 16)
        canvas.text(canvas.width - _RIGHT + 10, taken, fitted(words, _RIGHT - 10))
