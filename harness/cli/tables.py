"""Frames as a person reads them in a terminal: a run's cells, its closing table, comparisons, histories, lists."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd
from rich.table import Table
from rich.text import Text

from harness import units
from harness.analysis import roofline
from harness.analysis.compare import REMEDY
from harness.analysis.elsewhere import Basis
from harness.analysis.networks import ALL
from harness.analysis.noise import Noise
from harness.analysis.spent import OWN, PROOF, share_of
from harness.analysis.trials import Estimator
from harness.axes import OPTIONS, Direction
from harness.doctor import Finding, Severity
from harness.outcome import TUNING_DIFFERS, Outcome
from harness.plain import plain
from harness.record import Status
from harness.rows import rows
from harness.spec import parse_workload
from harness.store.published import Imported

_SEVERITIES = {Severity.BLOCKING: "bold red", Severity.WARNING: "yellow", Severity.NOTE: "cyan", Severity.FINE: "green"}
STATUS_STYLES = {Status.OK: "green", Status.UNSUPPORTED: "dim", Status.SKIPPED: "dim", Status.NOT_RUN: "yellow"}


def key(summary: pd.DataFrame, *, visited: bool = True) -> list[str]:
    """What the marks of `closing` mean, as far as they stand there, and what intervals of single processes do not hold.

    `visited`: the trials of the run were cut into visits.
    """
    best = "best" in summary and bool(summary["best"].any())
    marks = ["● fastest   ○ as good, within 2 %"] if best else []
    barred = "* under a flag that bars a verdict: show without --side-by-side names it"
    marks += [barred] if (roofline.asked_for(summary)["barred_by"] != "").any() else []
    lines = ["   ".join(marks)] if marks else []
    if "competitors" in summary and len(compared := summary[summary["vs_best"].notna() & (summary["competitors"] > 0)]):
        known = ", with an interval for all competitors at once" if compared["vs_best_low"].notna().any() else ""
        paired = "visit by visit in the same turn" if visited else "trial by trial"
        by = paired if (compared["vs_best_pairs"] > 0).any() else "by medians alone, since the store has no pairs"
        lines += [f"×: time over the fastest, {by}{known}"]
        lines += ["~: not decided"] if (~compared["best"] & ~compared["decided"]).any() else []
    lines += tuning(summary)
    within = roofline.asked_for(summary)["ci_method"].isin(["within", "visits"]).any()
    warning = "± holds within a process: what processes differ by is not in it, which takes 3 trials; nothing is decided by one"
    return [*lines, warning] if within else lines


def tuning(ranked: pd.DataFrame) -> list[str]:
    """The line that belongs beside comparisons of kernels that were chosen in several ways; none where none is made."""
    return [TUNING_DIFFERS] if "tuning_differs" in ranked and ranked["tuning_differs"].any() else []


def closing(summary: pd.DataFrame) -> Table:
    """A row per workload and direction, a column per backend and mode: median, and time over the fastest, as `key` says.

    What joined the run as a ceiling is left out; `ceilings` tells what came of it.
    """
    summary = roofline.asked_for(summary)
    varying = [axis for axis in ("device", "precision", "layout", "cache", "threads", *OPTIONS) if summary[axis].nunique() > 1]
    single_mode = summary["mode"].nunique() <= 1
    columns = {(row.backend, row.mode): row.backend if single_mode else f"{row.backend}\n{row.mode}"
               for row in rows(summary.sort_values(["backend", "mode"]))}  # fmt: skip
    table = Table(show_edge=False, pad_edge=False)
    for name in ("workload", "direction", *varying):
        table.add_column(name, overflow="fold")
    for title in columns.values():
        table.add_column(title, justify="right", overflow="fold")
    keys = ["workload", "direction", "optimizer", *varying]
    for key, group in summary.groupby(keys, sort=False):
        by_column = {(row.backend, row.mode): row for row in rows(group)}
        direction = f"{key[1]} {key[2]}".strip()
        table.add_row(str(key[0]), direction, *(str(part) for part in key[3:]),
                      *(_figure(by_column.get(column)) for column in columns))  # fmt: skip
    return table


def shapes(summary: pd.DataFrame) -> list[str]:
    """A line per workload with its shape, under the table of `closing`, whose columns leave no room for it."""
    of_name = roofline.asked_for(summary).drop_duplicates(["workload", "shape"])
    width = of_name["workload"].str.len().max() if len(of_name) else 0
    return [f"shape of {row.workload:{width}}  {row.shape}" for row in rows(of_name)]


class _Cells:
    """The ids of cells for the first column of a table, one by one: under the first of each workload stands its shape."""

    def __init__(self) -> None:
        self.before = ("", "")

    def __call__(self, row: Any) -> Text:
        here = (row.workload, row.shape)
        told = Text(row.cell)
        if here != self.before:
            told.append(f"\n  {row.shape}", "dim")
        self.before = here
        return told


def ceilings(best: pd.DataFrame) -> list[str]:
    """One line per device, precision and number of threads for the frame of `analysis.roofline.ceilings`."""
    lines = []
    for row in rows(best):
        threads = f", {row.threads} {'thread' if row.threads == 1 else 'threads'}" if row.threads else ""
        copies = pd.isna(row.flop_per_s)
        what = f"copy on {row.device}" if copies else f"matrix product on {row.device}, {row.precision}"
        lines.append(f"best {what}{threads}: {_rate(row)} ({row.workload} by {row.backend} {row.mode})")
    return lines


def _rate(row: Any) -> str:
    """The rate of the arithmetic, or that of the memory where there is none."""
    return units.byte_rate(row.bytes_per_s) if pd.isna(row.flop_per_s) else units.flop_rate(row.flop_per_s)


def _figure(row: Any | None) -> Text:
    """A cell of the closing table."""
    if row is None:
        return Text("")
    status = Status(row.status)
    if status is not Status.OK:
        return Text(words(status), STATUS_STYLES.get(status, "bold red"))
    best, tie = getattr(row, "best", False), getattr(row, "tie", False)
    mark = "● " if best else "○ " if tie else ""
    told = units.timed(row.median_ns, row.ci_low_ns, row.ci_high_ns)
    text = f"{mark}{told}{'*' if row.barred_by else ''}"
    if not best and getattr(row, "competitors", 0) > 0 and not pd.isna(row.vs_best):
        text += f"\n{_factor(row)}"
    return Text(text, "bold green" if best else "")


def words(name: str) -> str:
    """A status, a verdict or an estimator as people read it: `not run`."""
    return name.replace("_", " ")


def failures(summary: pd.DataFrame) -> list[str]:
    """One line per status, backend and reason of what is not ok, with how many cells it concerns; what was not run last."""
    bad = summary[summary["status"] != str(Status.OK)]
    bad = bad.assign(last=bad["status"] == str(Status.NOT_RUN)).sort_values("last", kind="stable")
    groups = bad.groupby(["status", "backend", "reason"], sort=False)["cell"]
    return [f"{words(str(status))}: {backend}, {len(cells)} {'cell' if len(cells) == 1 else 'cells'}: {reason}"
            for (status, backend, reason), cells in groups]  # fmt: skip


def calls(summary: pd.DataFrame) -> list[str]:
    """One line per backend, call and reason where the call that was timed is not the one that users make."""
    groups = summary[summary["op_reason"] != ""].groupby(["backend", "op", "op_reason"], sort=False)["cell"]
    return [f"{backend}, {units.many(len(cells), 'cell')} by {op}: {reason}" for (backend, op, reason), cells in groups]


def cells_table(summary: pd.DataFrame, wide: bool = True, whole: pd.DataFrame | None = None) -> Table:
    """Every cell on a line of its own, with its main figures; where there are no columns for all, with those that say most.

    Then a cell has its short id, by `short_ids` of the `whole` run, and its flags or why it failed stand under it.
    """
    table = Table(show_edge=False, pad_edge=False)
    for title in ("cell", "status"):
        table.add_column(title, overflow="fold")
    for title in ("median", "interval", *(("rate", "of ceiling", "vs best", "cores") if wide else ("vs best",))):
        table.add_column(title, justify="right", overflow="fold")
    texts = (["kernel"] if "kernel" in summary else []) + ["flags"] if wide else []  # runs that were profiled have kernels
    for title in texts:
        table.add_column(title, overflow="fold")
    named = _Cells() if wide else _ShortCells(summary if whole is None else whole)
    for row in rows(summary):
        status = Status(row.status)
        told = row.flags.replace(",", ", ") or row.reason
        cores = units.MISSING if pd.isna(row.effective_cores) else f"{row.effective_cores:.2f}"
        more = (_rate(row), units.percent(row.ceiling_share), _factor(row), cores) if wide else (_factor(row),)
        said = {"kernel": getattr(row, "kernel", ""), "flags": told}
        table.add_row(
            named(row), Text(words(status), STATUS_STYLES.get(status, "bold red")), units.duration(row.median_ns),
            units.interval(row.median_ns, row.ci_low_ns, row.ci_high_ns), *more, *(Text(said[title]) for title in texts),
        )  # fmt: skip
    return table


def short_ids(summary: pd.DataFrame) -> pd.Series:
    """The cells of a run by workload, direction, backend, and the values of what else differs between them."""
    others = ("mode", "optimizer", "device", "precision", "layout", "cache", "threads", *OPTIONS)
    axes = ["workload", "direction", "backend", *(name for name in others if summary[name].nunique() > 1)]
    told = ["/".join(filter(None, map(str, values))) for values in summary[axes].itertuples(index=False)]
    return pd.Series(told, index=summary.index, dtype=object)


class _ShortCells:
    """The short ids of the cells of a run, and under each in small what there is to say of the cell."""

    def __init__(self, summary: pd.DataFrame) -> None:
        self.of = dict(zip(summary["cell"], short_ids(summary), strict=True))

    def __call__(self, row: Any) -> Text:
        told = Text(self.of[row.cell])
        more = row.flags.replace(",", ", ") or row.reason
        return told.append(f"\n  {more}", "dim") if more else told


def _factor(row: Any) -> str:
    """Time over the fastest with its interval, and `~` where it is not decided; a dash without a competitor."""
    if not row.competitors:
        return units.MISSING
    if row.best or pd.isna(row.vs_best):
        return units.ratio(row.vs_best)
    return f"{'' if row.decided else '~'}{units.ratio_interval(row.vs_best, row.vs_best_low, row.vs_best_high)}"


NO_NOISE = f"no A/A noise is known for this machine: {REMEDY}"
_STYLES = {Outcome.SLOWER: "bold red", Outcome.FASTER: "bold green", Outcome.NO_CHANGE: "", Outcome.UNCERTAIN: "yellow"}


def comparison(compared: pd.DataFrame) -> Table:
    """A line per cell: the two times that the ratio is of, what new takes over base, the verdict, and why there is none.

    A ratio that was corrected by the yardstick is named so, and the one of the times stands under it. What ran inside the calls
    stands under the reason.
    """
    table = Table(show_edge=False, pad_edge=False)
    table.add_column("cell", overflow="fold")
    for title in ("base", "new", "ratio"):
        table.add_column(title, justify="right")
    table.add_column("verdict")
    table.add_column("by, or why", overflow="fold")
    named = _Cells()
    for row in rows(compared):
        verdict = Outcome(row.verdict)
        ratio = units.ratio_interval(row.ratio, row.ratio_low, row.ratio_high)
        if row.estimator and Estimator(row.estimator).corrected:
            ratio = f"{ratio} corrected\n{units.ratio(row.new_ns / row.base_ns)} of the times"
        table.add_row(
            named(row), units.duration(row.base_ns), units.duration(row.new_ns), ratio,
            Text(verdict.words, _STYLES.get(verdict, "dim")),
            Text("\n".join(filter(None, (row.why or words(row.estimator), row.what_ran)))),
        )  # fmt: skip
    return table


TIMES = "base, new: geometric means over the trials that both runs have, by the estimator named; ratio is new over base"


def verdicts(compared: pd.DataFrame) -> str:
    """How many cells have each verdict, in one line."""
    counts = compared["verdict"].value_counts()
    return ", ".join(f"{counts[verdict]} {verdict.words}" for verdict in Outcome if verdict in counts) or "no cells"


def beside(compared: pd.DataFrame) -> Table:
    """A line per cell and published source: times where the batch is the same, else rates, and what the run takes over it."""
    table = Table(show_edge=False, pad_edge=False)
    table.add_column("cell", overflow="fold")
    table.add_column("published for", overflow="fold")
    for title in ("n", "n published", "published", "this run", "time over published"):
        table.add_column(title, justify="right")
    table.add_column("remark", overflow="fold")
    named = _Cells()
    for row in rows(compared):
        if row.basis == Basis.TIMES:
            figures = [units.duration(ns) for ns in (row.published_ns, row.median_ns)]
        else:
            figures = [units.flop_rate(rate) for rate in (row.published_flop_per_s, row.flop_per_s)]
        over = units.ratio_interval(row.time_over_published, row.time_over_published_low, row.time_over_published_high)
        table.add_row(
            named(row), Text(f"{row.hardware}, {row.math}"), str(parse_workload(row.shape).images), str(row.published_n),
            *figures, over, Text(row.remark),
        )  # fmt: skip
    return table


def beside_lines(compared: pd.DataFrame) -> list[str]:
    """What the lines of `beside` are and are not, in sentences."""
    hardware = ", ".join(compared.attrs["hardware"])
    if compared.empty:
        return [f"no cell with a figure has a shape that is published for {hardware}"]
    lines = []
    if same := int((compared["basis"] == Basis.TIMES).sum()):
        lines.append(f"{same} at the published batch: times over times")
    rates = compared[compared["basis"] == Basis.RATES]
    for (n, published_n), group in rates.groupby(
        [rates["shape"].map(lambda shape: parse_workload(shape).images), "published_n"]
    ):
        lines.append(f"{len(group)} published at n={published_n}, measured at n={n}: rates beside rates, not times")
    return [*lines, "published, not measured here: no verdict"]


def imported(done: Imported) -> list[str]:
    """What an import brought in, and what it left out and why."""
    rows, devices = (
        f"{n} {what}{'' if n == 1 else 's'}" for n, what in ((done.rows, "published timing"), (done.devices, "device"))
    )
    lines = [f"{rows} of {devices}"]
    return lines + [f"{count} without a rate: {reason}" for reason, count in done.without_rate.items()]


def aa_table(noise: Noise) -> Table:
    """What the equals of an A/A run differ by, a line per estimator."""
    rows = [
        (
            each.replace("_", " "),
            units.percent(math.expm1(value)),
            f"{noise.quietest[each]} pairs" if each in noise.quietest else "not used",
        )
        for each, value in noise.machine.items()
    ]
    return listing(("estimator", "A/A noise", "quietest in"), rows)


def aa_lines(noise: Noise) -> list[str]:
    """What an A/A run says of verdicts on this machine, in sentences."""
    told = f"A/A: {len(noise.cells)} pairs of equals"
    if noise.judged:
        share = units.percent(noise.differences / noise.judged)
        told += f"; {noise.differences} of {noise.judged} were called different ({share})"
    if noise.flagged:
        told += f"; {noise.flagged_differences} of {noise.flagged} under a barring flag would have been"
    if not noise.judged and not noise.flagged:
        told += "; none could be judged: that takes 2 trials and 2 pairs, or 5 trials"
    lines = [told]
    if noise.corrections:
        told = ", ".join(
            f"the {words(each.raw)} in {correction.quieter} of {correction.pairs} pairs "
            f"({'' if correction.used else 'not '}used)"
            for each, correction in noise.corrections.items()
        )
        lines.append(f"Corrected by the yardstick these have less noise: {told}; two thirds are asked for")
    effects = noise.cells["smallest_effect"].dropna()
    if noise.smallest_effect is not None and len(effects):
        lines.append(
            f"A slowdown of {units.percent(noise.smallest_effect)} is found in 9 of 10 comparisons of {noise.trials} trials "
            f"(by cell: {units.percent(effects.min())} to {units.percent(effects.max())})"
        )
    return lines


def where_time_went(spent: pd.DataFrame, largest: int = 5) -> str:
    """`sampling 52 %, first_call 20 %`: the steps that took most, on one line."""
    top = spent.sort_values("share", ascending=False, kind="stable").head(largest)
    return ", ".join(f"{row.step} {100 * row.share:.0f} %" for row in rows(top) if row.share >= 0.005)


def spent_table(spent: pd.DataFrame) -> Table:
    """Every step with its time, its share and what it is; below, the harness's own part beside the measuring."""
    table = Table(show_edge=False, pad_edge=False)
    table.add_column("step")
    table.add_column("time", justify="right")
    table.add_column("share", justify="right")
    table.add_column("wall time", overflow="fold")
    for row in rows(spent):
        table.add_row(row.step, f"{row.seconds:.2f} s", f"{100 * row.share:.1f} %", row.meaning)
    for steps, name in ((OWN, "the harness's own part"), (PROOF, "checks and memory passes")):
        told = f"{', '.join(steps)}: share of what is left without start, first_call and rest"
        table.add_row(name, "", f"{100 * share_of(spent, steps):.1f} %", told)
    return table


def networks(rolled: pd.DataFrame) -> Table:
    """The frame of `analysis.networks.by_pass`: a line per network and setting, a column per direction."""
    known = [name for name in (*map(str, Direction), ALL) if f"{name}_ns" in rolled]
    varying = [
        name
        for name in ("optimizer", "device", "precision", "layout", "cache", "threads", *OPTIONS)
        if rolled[name].nunique() > 1
    ]
    table = Table(show_edge=False, pad_edge=False)
    for name in ("network", "scaled", "backend", "mode", *varying):
        table.add_column(name)
    for name in ("layers", *("three passes" if name == ALL else name for name in known)):
        table.add_column(name, justify="right")
    for row in rolled.to_dict("records"):
        table.add_row(
            row["network"], row["scaled"], row["backend"], row["mode"], *(str(row[name]) for name in varying),
            f"{row['layers']} in {row['shapes']} shapes",
            *(units.timed(*(row[f"{name}{end}"] for end in ("_ns", "_low_ns", "_high_ns"))) for name in known),
        )  # fmt: skip
    return table


def nights(nights_of_cell: pd.DataFrame) -> Table:
    """The frame of `review.nights.of_cell`: a line per night, and a rule where a segment begins, with its versions under it."""
    several = nights_of_cell["machine_id"].nunique() > 1
    standard = ("÷ standard",) if nights_of_cell["vs_standard"].notna().any() else ()
    headings = ("night (UTC)", "run", "status", "time", "in yardsticks", *standard, "segment", "step", "what changed")
    numbers = ("time", "in yardsticks", *standard, "step")
    table = Table(show_edge=False, pad_edge=False)
    for heading in (*headings, "machine") if several else headings:
        table.add_column(heading, overflow="fold", justify="right" if heading in numbers else "left")
    in_order = list(rows(nights_of_cell))
    for row, after in zip(in_order, [*in_order[1:], None], strict=True):
        told = "; ".join(part for part in (row.changed, row.note, row.flags.replace(",", ", ")) if part)
        step = "" if pd.isna(row.step) else f"{100 * row.step:+.1f} %".replace("-", "−")
        ratios = [row.yardstick_ratio, *([row.vs_standard] if standard else [])]
        told_ratios = [units.MISSING if pd.isna(ratio) else f"{ratio:.4g}" for ratio in ratios]
        cells = [
            f"{row.started_at:%Y-%m-%d %H:%M}", row.run_id, words(row.status), units.duration(row.median_ns), *told_ratios,
            str(row.segment), step, told, *([row.machine_id] if several else []),
        ]  # fmt: skip
        ends = after is not None and (after.machine_id, after.segment) != (row.machine_id, row.segment)
        table.add_row(*map(Text, cells), end_section=ends)
    return table


def machines(told: Mapping[str, str], consequence: str) -> list[str]:
    """A line that names the machines, by id in words, where there are several; none for one."""
    named = "; ".join(f"{words} ({machine_id})" for machine_id, words in told.items())
    return [f"{len(told)} machines: {plain(named)}: {consequence}"] if len(told) > 1 else []


def machines_differ(told: str) -> str:
    """That the machines of a comparison differ, as `validity.machines_differ` tells it."""
    return f"{plain(told)}: times of two machines tell of no change"


def listing(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    """A plain table of text."""
    table = Table(show_edge=False, pad_edge=False)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*(Text(text) for text in row))
    return table


def findings(listed: Iterable[Finding]) -> Table:
    """What is wrong with the machine: how bad, what, and under it why that matters and the remedy."""
    table = Table(show_edge=False, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold", max_width=24)
    table.add_column(overflow="fold")
    for finding in listed:
        told = Text(finding.found)
        if finding.why:
            told.append(f"\n{finding.why}\n", "dim").append(f"remedy: {finding.remedy}")
        table.add_row(Text(finding.severity, _SEVERITIES[finding.severity]), Text(finding.name), told)
    return table
