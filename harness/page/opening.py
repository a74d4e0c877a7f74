"""The first section: what changed since the baseline; without one, what was measured and who is fastest.

Its sentences are made from frames alone. Outcomes, severity and groups come from `analysis.judgement`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from urllib.parse import quote_plus

import numpy as np
import pandas as pd
from markupsafe import Markup

from harness import units
from harness.outcome import CHANGED, COMPARABLE, Check, Difference, Extent, Judgement, Outcome, Result
from harness.page import spark, tables
from harness.page.charts.change import edge_of
from harness.page.provenance import cut
from harness.page.standings import FEWEST_FOR_VERDICT, FEWEST_TRIALS, Standing, standings
from harness.page.svg import clean
from harness.page.view import Case, View, direction_words, who
from harness.record import Status
from harness.rows import rows_of

_BAD = (Status.INCORRECT, Status.CRASHED, Status.ERROR)
FAILURE_WORDS = {
    Status.INCORRECT: "gave a wrong result",
    Status.CRASHED: "crashed",
    Status.ERROR: "ended in an error",
    Status.OOM: "ran out of memory",
    Status.TIMEOUT: "ran out of time",
    Status.NOT_RUN: "not run",
    Status.UNSUPPORTED: "unsupported",
    Status.SKIPPED: "left out, as not installed here or too large for the memory",
}


@dataclass(frozen=True)
class Tile:
    """A number at the head of the page, what it counts, the section behind it, and how serious it is."""

    number: str
    words: str
    link: str
    tone: str = ""


@dataclass(frozen=True)
class Opening:
    """The head of the page: `tone` and `tag` of the box, its sentences, the tiles; what follows is empty without a baseline.

    `groups` explain the slower cases: words, filter of the table, "k of m". `changes` are the largest, `more` says how many
    there are of a kind that is cut.
    """

    tone: str
    tag: str
    lead: str
    sentences: list[str]
    tiles: list[Tile]
    standings: list[Standing]
    groups: "Groups | None" = None
    differ: str = ""
    trust: str = ""
    changes: "list[Change] | None" = None
    more: tuple[tuple[str, int, int], ...] = ()


@dataclass(frozen=True)
class Groups:
    """What the slower cases have in common: a sentence's beginning, each group in words, its filter, counts, change."""

    lead: str
    parts: list[tuple[str, dict[str, str], int, int, str]]


@dataclass(frozen=True)
class Compared:
    """A row of `Judgement.cases`, with the columns that a change is made of."""

    cell: str
    workload: str
    direction: str
    backend: str
    mode: str
    device: str
    verdict: str
    word: str
    baseline_ns: float
    now_ns: float
    ratio: float
    ratio_low: float
    ratio_high: float
    threshold: float
    estimator: str
    what_ran: str
    severity: float


@dataclass(frozen=True)
class Change:
    """A row of the list of changes; `slug` is "" for a case that this run does not have.

    `word` is the change, or what the gate says of the case; `change` then stands beside it. `by` names the estimator that the
    change is by, where the quotient of the two measured times is another one. `ran` says what computed it before and does now.
    """

    case: str
    shape: str
    slug: str
    backend: tables.Named
    device: str
    base: str
    now: str
    change: str
    interval: str
    bar: Markup
    word: str
    by: str
    tone: str
    severity: str
    nights: Markup
    why: str
    ran: Markup


MOST = {Outcome.FAILED: 10, Outcome.LOST: 10, Outcome.SLOWER: 10, Outcome.FASTER: 5}
NO_BASELINE = "There is no earlier night to hold it against."
PRUNED = "The samples of this run are not in the store (convbench prune removes those of old runs):"
MEDIANS_KEPT = (
    "its medians are kept, and intervals, spread and the flags that bar no verdict are not. Without the medians of its trials "
    "no two cells are told apart."
)


def without_baseline(view: View, duration_s: float | None, extent: Extent | None = None, pruned: bool = False) -> Opening:
    """What the first section says of a run without a baseline; `extent` and `pruned` as in `sections.Given`."""
    found = standings(view)
    ok, failed = view.count(Status.OK), len(view.failed)
    tone = "slow" if view.count(*_BAD) else "warn" if failed or not ok else "fast"
    tag = f"✕ {failed} failed" if tone == "slow" else f"! {failed} failed" if failed else "✓ complete" if ok else "! no figures"
    if extent:
        tone, tag = ("slow" if tone == "slow" else "warn"), f"! {extent.tag}"
    return Opening(
        tone=tone,
        tag=tag,
        lead=_lead(view, ok, whole=extent is None),
        sentences=[
            *(
                [_unfinished(extent)]
                if extent
                else []
                if pruned
                else [
                    *_winners(view, found),
                    *filter(None, [view.tuning, view.swept if any(one.backends > 1 for one in found) else ""]),
                ]
            ),
            *(_pruned(view) if pruned else []),
            "No baseline: nothing to compare this run with.",
        ],
        tiles=_tiles(view, ok, failed, duration_s, whole=extent is None),
        standings=found,
    )


def _pruned(view: View) -> list[str]:
    """What is kept of a run whose samples are not in the store."""
    return [f"{PRUNED} {MEDIANS_KEPT if len(view.ok) else 'no figure of it is kept.'}"]


def _unfinished(extent: Extent) -> str:
    """How far the run came, how to resume it, and what the page does not say before it is whole."""
    told = extent.sentence()
    return coded(f"{told[0].upper()}{told[1:]}. No backend is called the fastest before all of it is measured.")


def beside_baseline(
    view: View, judged: Judgement, checks: Sequence[Check], differences: Sequence[Difference], nights: pd.DataFrame | None,
    extent: Extent | None = None, pruned: bool = False,
) -> Opening:  # fmt: skip
    """What the first section says of a run and its baseline; the arguments are what `analysis` gives of them."""
    tone, tag = (
        ("warn", "? not comparable") if judged.incomparable and not judged.invalid else (judged.level.tone, judged.level.tag)
    )
    if extent:
        tone, tag = "warn", f"! {extent.tag}"
    changes, more = _changes(view, judged.cases, nights)
    return Opening(
        tone=tone,
        tag=tag,
        lead=judged.sentence.removeprefix(f"{judged.level.value.capitalize()}: "),  # the tag before it says that word
        sentences=[
            *([_unfinished(extent)] if extent else []),
            *(_pruned(view) if pruned else []),
            *filter(None, [view.tuning]),
            *(coded(f"{note[0].upper() + note[1:]}.") for note in judged.notes),
        ],
        tiles=[replace(tile, tone="") if extent and tile.tone == "fast" else tile for tile in _compared_tiles(view, judged)],
        standings=standings(view),
        groups=_groups(view, judged),
        differ=f"Held against {clean(judged.baseline)}. {_differ(differences)}" if judged.baseline else NO_BASELINE,
        trust=trust(checks),
        changes=changes,
        more=more,
    )


def _groups(view: View, judged: Judgement) -> Groups | None:
    slower = judged.cases[judged.cases["verdict"] == Outcome.SLOWER]
    if slower.empty:
        return None
    if not judged.groups:
        workloads = slower["workload"].nunique()
        where = f"spread over {workloads} workloads, no common group" if workloads > 1 else "all in one workload"
        return Groups(f"The slower {'cases are' if len(slower) > 1 else 'case is'} {where}." if len(slower) > 1 else "", [])
    parts = []
    for group in judged.groups:
        backend = who(view.looks, group.backend) if group.backend in view.looks else group.backend
        words = [backend, direction_words(group.direction) if group.direction else "", group.family, group.device]
        keys = {
            "backend": group.backend,
            "direction": group.direction,
            "device": group.device,
            "q": group.family,
            "verdict": Outcome.SLOWER.words,
        }
        said = ", ".join(clean(word) for word in words if word)
        parts.append(
            (said, {key: value for key, value in keys.items() if value}, group.slower, group.cases, units.change(group.ratio))
        )
    return Groups("Slower above all:", parts)


def _differ(differences: Sequence[Difference], most: int = 4) -> str:
    """Which facts of the environment changed, in a sentence."""
    if not differences:
        return "No recorded fact of the environment has changed since."
    told = [each.words for each in differences[:most]]
    more = f" and {len(differences) - most} more" if len(differences) > most else ""
    return f"Changed since: {'; '.join(cut(text) for text in told)}{more}."


def trust(checks: Sequence[Check]) -> str:
    """The validity in words."""
    failed, warned, unknown = (
        [f"{each.name}: {each.measured}" for each in checks if each.result is result]
        for result in (Result.FAILED, Result.WARNING, Result.UNKNOWN)
    )
    blocked = any(each.blocks for each in checks)
    parts = [f"{len(failed)} failed ({', '.join(failed)})"] if failed else []
    parts += [f"{len(warned)} {'warning' if len(warned) == 1 else 'warnings'} ({', '.join(warned)})"] if warned else []
    parts += [f"{len(unknown)} not measured"] if unknown else []
    head = "not usable" if blocked else "usable"
    return f"{head}; {', '.join(parts)}." if parts else f"{head}, all {len(checks)} checks passed."


def _compared_tiles(view: View, judged: Judgement) -> list[Tile]:
    count = {outcome: judged.count(outcome) for outcome in (*COMPARABLE, Outcome.FAILED, Outcome.LOST)}
    failures, measured = len(view.failed), view.count(Status.OK)
    not_run = view.count(Status.NOT_RUN)
    new = "".join(f", {count[each]} {word}" for each, word in ((Outcome.FAILED, "new"), (Outcome.LOST, "lost")) if count[each])
    return [
        *(_outcome_tile(outcome, count[outcome]) for outcome in COMPARABLE),
        Tile(str(failures), f"{'failure' if failures == 1 else 'failures'}{new}", "failures", "slow" if failures else ""),
        *([Tile(str(not_run), "not run", "failures", "warn")] if not_run else []),
        Tile(f"{measured} / {len(view.cells)}", "cells measured", "results"),
    ]


def _outcome_tile(outcome: Outcome, count: int) -> Tile:
    number = f"{outcome.icon} {count}" if outcome in CHANGED else str(count)
    link = f"results?verdict={quote_plus(outcome.words)}"
    return Tile(number, outcome.words, link, outcome.tone if count and outcome is not Outcome.NO_CHANGE else "")


def _changes(
    view: View, cases: pd.DataFrame, nights: pd.DataFrame | None
) -> tuple[list[Change], tuple[tuple[str, int, int], ...]]:
    """The new failures, the lost, the slower and the faster, each by severity.

    Also, for each of these outcomes that is cut: its words, how many are here, and how many there are.
    """
    shown, more = [], []
    for outcome, most in MOST.items():
        same = cases[cases["verdict"] == outcome].sort_values("severity", ascending=False, kind="stable")
        shown.append(same.iloc[:most])
        if len(same) > most:
            more.append((outcome.words, most, len(same)))
    rows = pd.concat(shown)
    edge = edge_of(pd.concat([rows[name] for name in ("ratio", "ratio_low", "ratio_high")]))
    known, of_cell = view.of_cell, lines(nights)
    return [_change(view, known.get(row.cell), row, edge, of_cell) for row in rows_of(rows, Compared)], tuple(more)


def _change(view: View, here: Case | None, row: Compared, edge: float, of_cell: Mapping[str, list[float]]) -> Change:
    outcome = Outcome(row.verdict)
    plain = row.word == outcome.words  # else it is what the gate says of the case
    failed = outcome in (Outcome.FAILED, Outcome.LOST)
    ends = [row.ratio_low, row.ratio_high]
    low, high = map(units.change, ends) if np.isfinite(ends).all() else ("", "")
    return Change(
        case=here.named if here else clean(f"{row.workload} · {direction_words(row.direction)}"),
        shape=clean(here.shape) if here else "",
        slug=here.slug if here else "",
        backend=tables.named(view, row.backend, row.mode),
        device=clean(row.device),
        base=units.milliseconds(row.baseline_ns),
        now=(here.status.replace("_", " ") if here else "lost") if failed else units.milliseconds(row.now_ns),
        change=units.change(row.ratio) if not failed and not plain else "",
        interval=f"{low.removesuffix(' %')} to {high}" if low and not failed else "",
        bar=Markup("")
        if failed
        else spark.interval_bar(row.ratio, row.ratio_low, row.ratio_high, row.threshold, edge, outcome.tone),
        word=f"{outcome.icon} {row.word if failed or not plain else units.change(row.ratio)}",
        by="" if failed else tables.by_estimator(row.estimator),
        tone=outcome.tone,
        severity=units.MISSING if failed or np.isnan(row.severity) else f"{row.severity:.1f}×",
        nights=spark.sparkline(of_cell.get(row.cell, []), tone=outcome.tone),
        why=tables.first_line(here.reason) if failed and here else "",
        ran=coded("" if failed else row.what_ran),
    )


def lines(nights: pd.DataFrame | None) -> dict[str, list[float]]:
    """The figures of each cell over the last nights, oldest first, NaN where a night has none."""
    if nights is None or nights.empty:
        return {}
    order = nights[["run_id", "started_at"]].drop_duplicates("run_id").sort_values("started_at")["run_id"].astype(str).to_list()
    wide = nights.assign(run_id=nights["run_id"].astype(str), cell=nights["cell"].astype(str)).pivot_table(
        index="run_id", columns="cell", values="night_ns", dropna=False
    )
    wide = wide.reindex(order[-spark.NIGHTS :])
    return {str(cell): wide[cell].to_list() for cell in wide.columns}


def coded(text: str) -> Markup:
    """Text for the page in which what stands between backticks is code."""
    parts = clean(text).split("`")
    return Markup("").join(Markup("<code>{}</code>").format(part) if place % 2 else part for place, part in enumerate(parts))


def listed(parts: Sequence[str]) -> str:
    """`a, b and c`."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}" if parts else ""


def _lead(view: View, ok: int, whole: bool) -> str:
    total = len(view.cells)
    if not total:
        return "This run holds no cell."
    parts = [
        f"{count} {_verb(status, count)}{words}" for status, words in FAILURE_WORDS.items() if (count := view.count(status))
    ]
    cells = "cell has" if total == 1 else "cells have"
    head = f"All {total} {cells} a checked figure" if whole and ok == total else f"{ok} of {total} {cells} a checked figure"
    return f"{head}; {listed(parts)}." if parts else f"{head}."


def _verb(status: Status, count: int) -> str:
    """The verb that the words of FAILURE_WORDS need before them, with a space; "" where they have one."""
    if status is Status.UNSUPPORTED:
        return "is " if count == 1 else "are "
    return ("was " if count == 1 else "were ") if status in (Status.SKIPPED, Status.NOT_RUN) else ""


def _winners(view: View, found: Sequence[Standing]) -> list[str]:
    """A sentence per device: which backends lead in which directions, and where nobody does and why."""
    if not view.ranked:
        return ["The cells of this run were not ranked."]
    if not found:
        return ["No cell has a figure that could be ranked."]
    sentences = []
    for device in dict.fromkeys(standing.device for standing in found):
        here = [standing for standing in found if standing.device == device]
        if max(standing.backends for standing in here) < 2:
            sentences.append(f"On {device} one backend has times: there is no other to compare it with.")
            continue
        leads: dict[tuple[str, ...], list[str]] = {}
        for standing in here:
            if standing.decidable:
                names = [who(view.looks, mean.backend) for mean in standing.means if mean.leads]
                leads.setdefault(tuple(names), []).append(standing.direction)
        told = [
            f"{listed(names)} {'is fastest' if len(names) == 1 else 'cannot be told apart'} in {listed(where)}"
            for names, where in sorted(leads.items(), key=lambda item: (len(item[0]) > 1, -len(item[1])))
        ]
        said = [f"On {device}, by geometric mean over workloads, {'; '.join(told)}."] if told else []
        few = [standing.direction for standing in here if not standing.decidable]
        if few:
            timed = f"a time of {units.many(FEWEST_TRIALS, 'trial')} or more"
            needed = f"{FEWEST_FOR_VERDICT} workloads in which each backend has {timed} and no flag bars a verdict"
            said.append(f"On {device} nobody is called fastest in {listed(few)}: that takes {needed}.")
        sentences.append(" ".join([*said, *_left_out(here)]))
    return sentences


def _left_out(here: Sequence[Standing]) -> list[str]:
    """How many workloads were left out of the means because a flag bars a verdict on one of their times."""
    barred = {standing.direction: standing.barred for standing in here if standing.barred}
    told = listed([f"{units.many(count, 'workload')} in {direction}" for direction, count in barred.items()])
    return [f"Left out, since a flag bars a verdict on one of the times: {told}."] if told else []


def _tiles(view: View, ok: int, failed: int, duration_s: float | None, whole: bool) -> list[Tile]:
    flagged = view.ok[view.ok["flags"] != ""]
    unsure = int((flagged["barred_by"] != "").sum())
    doubt = f", {unsure} too unsure for a verdict" if unsure else ""
    unsupported = view.count(Status.UNSUPPORTED)
    not_run = view.count(Status.NOT_RUN)
    green = whole and ok and ok == len(view.cells)
    return [
        Tile(f"{ok} / {len(view.cells)}", "cells measured", "results", "fast" if green else ""),
        Tile(str(unsupported), "unsupported", "failures"),
        Tile(str(failed), "failed", "failures", "slow" if failed else ""),
        *([Tile(str(not_run), "not run", "failures", "warn")] if not_run else []),
        Tile(str(len(flagged)), "under a flag" + doubt, "stability", "warn" if len(flagged) else ""),
        Tile(units.MISSING if duration_s is None else units.wall(duration_s), "wall time", "validity"),
    ]
