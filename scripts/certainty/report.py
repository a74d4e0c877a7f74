"""The results that are there as Markdown, with their hours, by the marked section of a page of docs/ that they belong in."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from harness import units
from scripts.certainty import analysis, axes, issue, programs
from scripts.certainty.analysis import Run
from scripts.certainty.jobs import (
    CHOSEN_ON,
    ENGINE_RUNS,
    EQUALS_RUNS,
    PLANTED_RUNS,
    ROUNDS_OF_PROGRAMS,
    done,
    is_done,
)
from scripts.pages import machine

Lines = list[str]
Section = tuple[
    str, list[str], Callable[[Path], Lines]
]  # its title, the jobs that it needs, and what makes it of their results


def report(out: Path, part: str) -> dict[str, Lines]:
    """Of one of PARTS its lines by the name of the marked section that they belong in; what is not there is said."""
    if part == "issue":
        return _issue(out)
    lines: Lines = []
    for title, names, told in sections(part):
        lines += ["", f"### {title}", ""] if title else [""]
        missing = [name for name in names if not is_done(out, name)]
        lines += [f"Not measured yet: {', '.join(missing)}."] if missing else [*told(out), "", _hours(out, names)]
    return {part: [*lines[1:], "", machine()]}


def sections(part: str) -> list[Section]:
    """The sections of a part: certainty, programs or axes."""
    if part == "programs":
        return [("", ["programs", *ROUNDS_OF_PROGRAMS], _programs)]
    if part == "axes":
        return [("", _axes_names(), _axes)]
    return _certainty()


def _certainty() -> list[Section]:
    engines = [f"{engine}-{number}" for number in range(1, ENGINE_RUNS + 1) for engine in ("old", "new")]
    return [
        ("Two engines in the same minutes", engines, _engines),
        ("Equals", _equals_names(), _equals),
        ("How far visits are apart", _equals_names(), _spreads),
        ("A planted slowdown", [*_equals_names(), *_planted_names()], _planted),
        ("The clock", ["clock"], lambda out: done(out, "clock")["lines"]),
        ("Beside a plain loop", ["loops"], lambda out: done(out, "loops")["lines"]),
        ("In one process", ["sampling"], lambda out: done(out, "sampling")["lines"]),
        ("Beside a busy process", ["quiet", "busy"], _busy),
        ("Who visited before, who sleeps, what is held", ["neighbours"], _neighbours),
        ("What the yardstick and leaving out what was disturbed are worth", _equals_names(), _worth),
        ("Nights against a twin", ["nights"], _nights),
        ("Tuned in a part of the time", ["full", "tune"], _tuned),
        ("Killed", ["kills"], lambda out: done(out, "kills")["lines"]),
    ]


def _equals_names() -> list[str]:
    return [f"equals-{number}" for number in range(1, EQUALS_RUNS + 1)]


def _planted_names() -> list[str]:
    return [f"planted-{number}" for number in range(1, PLANTED_RUNS + 1)]


def _hours(out: Path, names: Sequence[str]) -> str:
    """When each job was made, how long it took, and what others used."""
    found = [(name, done(out, name)) for name in names]
    told = ", ".join(
        f"{name} {of['started_at'][5:]} ({of['took_s'] / 60:.0f} min, others {of['others']:.2f})" for name, of in found
    )
    tried = " Some of these are tries, and prove nothing." if any(of["tried"] for _, of in found) else ""
    return f"When, how long, and how many cores others used: {told}.{tried}"


def _runs(out: Path, names: Sequence[str]) -> list[Run]:
    return [Run.read(out / done(out, name)["run"]) for name in names]


def _percent(share: float) -> str:
    return "–" if np.isnan(share) else units.percent(share)


def _middle(parts: Sequence[np.ndarray]) -> float:
    """The median of all that is known; NaN for nothing."""
    values = np.concatenate(parts)
    return float(np.median(values[~np.isnan(values)])) if not np.isnan(values).all() else float("nan")


def _table(head: str, rows: Sequence[Sequence[object]]) -> Lines:
    """A Markdown table, whose columns `head` names with bars in between."""
    lines = [f"| {head} |", "|---" * (head.count("|") + 1) + "|"]
    return [*lines, *(f"| {' | '.join(map(str, row))} |" for row in rows)]


# Each section -----------------------------------------------------------------------------------------------------------------


def _engines(out: Path) -> Lines:
    runs = {engine: _runs(out, [f"{engine}-{number}" for number in range(1, ENGINE_RUNS + 1)]) for engine in ("old", "new")}
    compared = analysis.with_the_fastest([run for of in runs.values() for run in of])
    found = {engine: (analysis.comparisons_of(of, compared), analysis.times_of(of)) for engine, of in runs.items()}
    rows = []
    for engine, (ratios, times) in found.items():
        minutes = [done(out, f"{engine}-{number}")["took_s"] / 60 for number in range(1, ENGINE_RUNS + 1)]
        decided = ", ".join(map(str, ratios.decided))
        rows.append([
            engine, " ".join(f"{each:.1f}" for each in minutes), f"± {_percent(ratios.half_width())}",
            f"{decided} of {len(compared)}", ratios.opposite, "{} of {}".format(*ratios.covered),
            f"± {_percent(times.half_width())}", "{} of {}".format(*times.covered),
        ])  # fmt: skip
    head = ("engine | minutes | comparisons: median half width | decided in each run | decided in opposite directions "
            "| two runs agree | times: median half width | two runs agree")  # fmt: skip
    return _table(head, rows)


def _equals(out: Path) -> Lines:
    runs = _runs(out, _equals_names())
    rows, calls = [], []
    for run in runs:
        called = analysis.different(run, analysis.equals(run))
        calls.append(called)
        trials = run.cells.shape[0] and len(run.turns.trials)
        rows.append([run.name, trials, len(called), np.count_nonzero(called)])
    every = np.concatenate(calls)
    slower, factor = analysis.groups_of_equals(runs)
    return [
        *_table("run | trials | pairs of equals | called different", rows),
        "",
        f"Called different: {np.count_nonzero(every)} of {len(every)} pairs of equals, by a rule whose level is "
        f"{_percent(analysis.LEVEL_OF_ONE)} each. In {slower} of {analysis.GROUPS} groups of {analysis.MEMBERS} equals one was "
        f"called slower; the mean factor to the fastest that is shown is {factor:.3f}.",
    ]


def _spreads(out: Path) -> Lines:
    runs, rows = _runs(out, _equals_names()), []
    for equal in (True, False):
        kinds: dict[tuple[str, str], list[tuple[Run, list[tuple[str, str]]]]] = {}
        for run in runs:
            for one, other, compared in analysis.beside_in_group(run, equal):
                kinds.setdefault((one, other), []).append((run, compared))
        for (one, other), of in kinds.items():
            paired = _middle([analysis.spread(run, compared) for run, compared in of])
            unpaired = _middle([analysis.spread_unpaired(run, compared) for run, compared in of])
            name = f"{one}, equals" if equal else f"{one} and {other}"
            share = f"{paired / unpaired:.2f}" if equal else "–"
            near = [_of_distance(of, distance) for distance in (1, 2, 3)]
            rows.append([name, _percent(paired), _percent(unpaired) if equal else "–", share, *near])
    head = ("cells | log-ratio per pair of processes, paired | unpaired | paired / unpaired | one visit: neighbours "
            "| one between | two and more between")  # fmt: skip
    figures = _figure(runs)
    return [
        *_table(head, rows),
        "",
        "Standard deviations; the median over cells of those between pairs of processes.",
        "",
        figures,
    ]


def _of_distance(of: list[tuple[Run, list[tuple[str, str]]]], distance: int) -> str:
    """The spread of one visit's log-ratio at that distance in the turn, over all runs, and from how many."""
    found = [analysis.by_distance(run, compared)[distance] for run, compared in of]
    count = sum(number for _, number in found)
    if not count:
        return "–"
    mean = np.sqrt(sum(number * spread**2 for spread, number in found if number) / count)
    return f"{_percent(float(mean))} ({count})"


def _figure(runs: Sequence[Run]) -> str:
    """Which figure of a visit has the least noise among equals, chosen on some runs and judged on the others."""

    def noise(of: Sequence[Run], figure: str) -> float:
        return _middle([analysis.spread(run, analysis.equals(run), figure) for run in of])

    names = {"median_ns": "median", "decile_ns": "lower decile"}
    chosen = min(names, key=lambda figure: noise(runs[:CHOSEN_ON], figure))
    told = ", ".join(f"{name} {_percent(noise(runs[CHOSEN_ON:], figure))}" for figure, name in names.items())
    return f"Least noise of equals in the first {CHOSEN_ON} runs: the {names[chosen]} of a visit. In the others: {told}."


def _planted(out: Path) -> Lines:
    recorded = _runs(out, _equals_names())
    found = [analysis.planted(recorded, seed) for seed in analysis.SEEDS]
    rows = []
    for name, run in zip(_planted_names(), _runs(out, _planted_names()), strict=True):
        slowed = [(twin, plain) for plain, twin in analysis.equals(run) if "/torch/" in plain]
        called = analysis.different(run, slowed)
        ratios = " ".join(f"{ratio:.3f}" for ratio in np.exp(run.estimates(slowed).mean))
        rows.append([name, f"{np.count_nonzero(called == 1)} of {len(slowed)}", np.count_nonzero(called == -1), ratios])
    return [
        f"Recorded visits of one of two equals made 5 % longer: found in {sum(found)} of {len(found)} draws.",
        "",
        *_table("real run with PyTorch's equal slowed by 5 % | found | called faster | ratios", rows),
    ]


def _barred(out: Path, name: str) -> dict[str, str]:
    """What bars a verdict on each cell of a run, by cell."""
    from harness.analysis.summary import summarize
    from harness.store import table

    folder = out / done(out, name)["run"]
    summary = summarize(table.load(folder), table.samples(folder))
    return dict(zip(summary["cell"], summary["barred_by"], strict=True))


def _busy(out: Path) -> Lines:
    quiet, busy = _runs(out, ["quiet", "busy"])
    found = analysis.disturbed(quiet, busy, _barred(out, "busy"))
    rows = [
        ["comparisons, off by over 5 %", found.comparisons, found.comparisons_off, found.comparisons_silent],
        ["times of calls under 2 ms, off by over 10 %", found.times, found.times_off, len(found.times_silent)],
    ]
    silent = f"Without a flag: {', '.join(found.times_silent)}." if found.times_silent else ""
    return [*_table("beside one busy process | of | off | of these without a flag", rows), *(["", silent] if silent else [])]


def _neighbours(out: Path) -> Lines:
    found = done(out, "neighbours")
    visits = pd.DataFrame(found["visits"], columns=["framework", "size", "before", "round", "ns"])
    logs = np.log(visits.pivot_table(index=["framework", "size", "round"], columns="before", values="ns"))
    rows = []
    for framework, of in logs.groupby(level="framework"):
        for before in (name for name in of.columns if name not in ("rest", framework)):
            beyond = (of[before] - of["rest"]).dropna()
            sizes = " ".join(f"{size} {np.exp(part.median()):.3f}" for size, part in beyond.groupby(level="size"))
            half = 1.96 * 1.2533 * analysis.robust(beyond.to_numpy()) / np.sqrt(len(beyond))
            rows.append([framework, before, len(beyond), f"{np.exp(beyond.median()):.3f} ± {half:.3f}", sizes])
    held = [
        [name, f"{100 * found['asleep'][name]:.2f} %", units.size(found["forecast"][name]), units.size(found["held"][name]),
         units.size(max(0, found["left"][name]))]
        for name in found["asleep"]
    ]  # fmt: skip
    return [
        *_table(
            "visit by | right after one by | pairs | over that after a rest, median and 95 % | by bytes of the operands", rows
        ),
        "",
        *_table(
            "worker | of a core while nobody is asked | forecast of what is prepared | grown by | left once finished", held
        ),
    ]


_WITNESSED = ("block_ns", "run_delay_ns", "others_ns")


def _worth(out: Path) -> Lines:
    """What yardstick and witness cost, and the noise of equals with and without them."""
    from harness.analysis.visits import turns, visits
    from harness.record import CONTENDED_SHARE, contended
    from harness.store import table

    spent: dict[str, float] = {}
    spreads: dict[str, list[np.ndarray]] = {"as it is": [], "samples left out of which others took 1 %": []}
    alone: dict[str, list[np.ndarray]] = {"raw": [], "without the turn's common part": [], "over the yardstick": []}
    for name in _equals_names():
        folder = out / done(out, name)["run"]
        run, records, samples = Run.read(folder), table.load(folder), table.samples(folder)
        for column in (column for column in records if column.startswith("spent_")):
            spent[column] = spent.get(column, 0.0) + float(records[column].sum())
        compared = analysis.equals(run)
        spreads["as it is"].append(analysis.spread(run, compared))
        clean = samples[~contended(*(samples[of].to_numpy(dtype=float, na_value=np.nan) for of in _WITNESSED), CONTENDED_SHARE)]
        left = next(iter(turns(visits(clean)).values()))
        spreads["samples left out of which others took 1 %"].append(analysis.spread(run, compared, of=left))
        for kind, figures in analysis.figures_of_processes(run, samples).items():
            alone[kind].append(figures)
    total = sum(spent.values()) or 1.0
    shares = ", ".join(
        f"{part} {100 * spent[f'spent_{part}_ns'] / total:.1f} %" for part in ("yardstick", "witness", "sampling")
    )
    rows = [[f"ratio of equals, {kind}", _percent(_middle(of))] for kind, of in spreads.items()]
    rows += [[f"time of a cell, {kind}", _percent(_middle(of))] for kind, of in alone.items()]
    return [
        *_table("standard deviation between processes, median over cells | ", rows),
        "",
        f"Of the time of these runs: {shares}.",
    ]


def _nights(out: Path) -> Lines:
    every = [Run.read(out / run) for run in done(out, "nights")["runs"]]
    runs = [run for run in every if len(run.cells)]  # a night on a busy machine is not measured
    compared = analysis.equals(runs[0])
    ratios = np.stack([run.estimates(compared).mean for run in runs], axis=1)
    raw = np.log(pd.DataFrame({number: run.medians() for number, run in enumerate(runs)}))
    rows = [
        [plain, _percent(raw.loc[plain].std()), _percent(pd.Series(ratios[number]).std())]
        for number, (plain, _) in enumerate(compared)
    ]
    called = sum(np.count_nonzero(analysis.different(run, compared)) for run in runs)
    return [
        *_table("cell | time, from night to night | over its twin of the same night", rows),
        "",
        f"{len(runs)} of {len(every)} nights were measured; {called} of {len(runs) * len(compared)} times a cell was called "
        "different from its twin.",
    ]


def _tuned(out: Path) -> Lines:
    full, found = _runs(out, ["full"])[0], done(out, "tune")
    took = found["took_s"], done(out, "full")["took_s"]
    rows, confirmed = [], 0
    for named in (row for row in found["tuned"] if row["cell"]):
        verdict, factor = analysis.confirmed(full, named["cell"])
        confirmed += verdict in ("fastest", "equal")
        rows.append([named["workload"], named["backend"], named["setting"], named["choice"], f"{factor:.3f}", verdict])
    return [
        *_table("layer | backend | setting | tune says | over the fastest of the full run | the full run says", rows),
        "",
        f"Confirmed as fastest or equal: {confirmed} of {len(rows)}, in {took[0] / took[1]:.0%} of the full run's time.",
    ]


# The parts beside certainty --------------------------------------------------------------------------------------------------


def _programs(out: Path) -> Lines:
    return programs.tables([done(out, name)["pairs"] for name in ROUNDS_OF_PROGRAMS])


def _axes_names() -> list[str]:
    return [f"axis-{effect.name}" for effect in axes.EFFECTS]


def _axes(out: Path) -> Lines:
    return axes.table({effect.name: done(out, f"axis-{effect.name}")["rows"] for effect in axes.EFFECTS})


def _issue(out: Path) -> dict[str, Lines]:
    """What each command printed, and below the last one when that was."""
    if not is_done(out, "issue"):
        return {"issue": ["Not measured yet."]}
    return {**issue.sections(done(out, "issue")), "issue": [_hours(out, ["issue"]), "", machine()]}
