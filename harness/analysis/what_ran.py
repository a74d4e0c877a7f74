"""What computed a cell before a change and what computes it now: the kernels of two profiles, as data and in a sentence.

Pure: profiles come as the frames of their run, those of other nights through a function that is asked only where it is needed.
"""

import functools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC
from typing import NamedTuple

import pandas as pd

from harness import units
from harness.analysis import reasons
from harness.analysis.gate import NightJudgement
from harness.analysis.rows import Row, dicts_of
from harness.columns import COLUMNS
from harness.outcome import CHANGED, Outcome, State
from harness.profile import Kind
from harness.record import Run

MAIN = 0.2  # of the time of the longest kernel: what takes as much is named
GONE = 0.05  # of it: what takes less on the other side was not there, since a share near MAIN wanders between two profiles
GREW = 0.05  # two profiles of the same calls differ by so much for no reason
NAMED = 3  # kernels in a sentence, pairs of kernels in the reasons of a night
LOOKED_BACK = 90  # nights before tonight in which a profile is looked for

_COMPUTING = (Kind.CONVOLUTION, Kind.GEMM)
_NUMBER = re.compile(r"\.\d+$")  # XLA numbers the instructions of a program anew in each: fusion.12


@dataclass(frozen=True)
class Ran:
    """What the profile of a cell saw in one call: exclusive times in ns.

    `computing` has those of the kernels of the convolution or its matrix products by name, `others` those of everything else by
    kind. `unsure` says why the times are not to be trusted; empty: they are.
    """

    run_id: str
    computing: Mapping[str, float]
    others: Mapping[str, float]
    unsure: str = ""

    def share(self, name: str) -> float:
        """The time of a kernel over that of the longest."""
        return self.computing.get(name, 0.0) / max(self.computing.values())

    @property
    def main(self) -> tuple[str, ...]:
        """The kernels that compute it, the longest first: what takes under MAIN of its time is left out."""
        by_time = sorted(self.computing, key=lambda name: (-self.computing[name], name))
        return tuple(name for name in by_time if self.share(name) >= MAIN)

    @property
    def text(self) -> str:
        """Those in words."""
        names = [f"`{name}`" for name in self.main]
        if len(names) > NAMED:
            return f"{', '.join(names[:NAMED])} and {len(names) - NAMED} more"
        return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))

    @property
    def whole_ns(self) -> float:
        """The time of the call."""
        return sum(self.computing.values()) + sum(self.others.values())


def read(kernels: pd.DataFrame, profiles: pd.DataFrame) -> dict[str, Ran]:
    """What the profiles of one run saw, by cell, from its frames with KERNEL_COLUMNS and PROFILED_COLUMNS.

    A cell is left out whose profile failed, or saw no kernel that may compute it. A kernel is known by its implementation, or
    else by its name without the number that a compiler gave it.
    """
    unsure = dict(zip(profiles["cell"], profiles["problem"], strict=True))
    found = {}
    for cell, of_cell in kernels.groupby("cell", sort=False):
        rows = dicts_of(of_cell)
        # Where nobody could say what the parts of a program do, all of those may be it.
        kinds = _COMPUTING if any(row["kind"] in _COMPUTING for row in rows) else (Kind.OTHER,)
        computing: dict[str, float] = {}
        others: dict[str, float] = {}
        for row in rows:
            name = _NUMBER.sub("", row["implementation"] or row["name"]).replace("`", "'")
            of, key = (computing, name) if row["kind"] in kinds else (others, str(row["kind"]))
            of[key] = of.get(key, 0.0) + row["kernel_ns"]
        if sum(computing.values()) > 0:
            found[str(cell)] = Ran(str(rows[0]["run_id"]), computing, others, unsure.get(cell, ""))
    return found


class Words(NamedTuple):
    """How the two sides are called, `on 11-20` and `on 11-27`, and what is said where one of them was not profiled."""

    before: str
    now: str
    no_before: str = "no profile of before"
    no_now: str = "no profile since"


BOTH_RUNS = Words("in base", "in new", "not profiled in base", "not profiled in new")


@dataclass(frozen=True)
class Change:
    """What ran on two sides, None where that was not profiled, and a sentence on it; whether these are other kernels."""

    sentence: str
    before: Ran | None = None
    now: Ran | None = None
    another: bool = False

    @property
    def columns(self) -> Row:
        """The same as columns of a frame of cases."""
        before, now = ("; ".join(side.main) if side else "" for side in (self.before, self.now))
        return {"what_ran": self.sentence, "ran_before": before, "ran_now": now, "another_kernel": self.another}


def change(before: Ran | None, now: Ran | None, words: Words) -> Change:
    """What to say of a cell of which these are the profiles, if there are any."""
    if before is None or now is None:
        if now:
            return Change(f"{now.text} {words.now}; {words.no_before}", now=now)
        if before:
            return Change(f"{before.text} {words.before}; {words.no_now}", before=before)
        return Change("not profiled")
    gone = any(now.share(name) < GONE for name in before.main)
    if gone or any(before.share(name) < GONE for name in now.main):
        return Change(f"{now.text} {words.now}, {before.text} {words.before}", before, now, another=True)
    return Change(_same(before, now, words), before, now)


def _same(before: Ran, now: Ran, words: Words) -> str:
    """The same kernels on both sides: whether it is them that take longer, or what else of the call does."""
    what = "the same kernel" if len(now.main) == 1 else "the same kernels"
    if unsure := now.unsure or before.unsure:
        return f"{what}, {now.text}, {words.now} and {words.before}; what took longer is not known: {unsure}"
    names = dict.fromkeys([*now.main, *before.main])
    then_ns, now_ns = (sum(side.computing.get(name, 0.0) for name in names) for side in (before, now))
    told = f"{now.text} {units.duration(now_ns)} {words.now}, {units.duration(then_ns)} {words.before}"
    whole_ns = now.whole_ns - before.whole_ns
    if abs(whole_ns) < GREW * before.whole_ns:
        return f"{what}, and the profiles show no change: {told}"
    sign, verb, grew = (1, "longer", "grew") if whole_ns > 0 else (-1, "less time", "shrank")
    others = {kind: now.others.get(kind, 0.0) - before.others.get(kind, 0.0) for kind in {**before.others, **now.others}}
    most = max(others, key=lambda kind: (sign * others[kind], kind), default="")
    if not most or sign * (now_ns - then_ns) >= sign * others[most]:
        plural = "takes" if len(now.main) == 1 else "take"
        return f"{what} {plural} {verb}: {told}"
    what_else = "the time in no event" if most == Kind.OUTSIDE else f"the time in {most}"
    ends = f"{units.duration(now.others.get(most, 0.0))} after {units.duration(before.others.get(most, 0.0))}"
    return f"{what}: {told}; what {grew} is {what_else}, {ends}"


# Nights -------------------------------------------------------------------------------------------------------------------

Look = Callable[[Run], Mapping[str, Ran]]


def with_kernels(judgement: NightJudgement, runs: Sequence[Run], look: Look) -> NightJudgement:
    """The judgement of the newest of some nights, oldest first, with what ran before and now in its cases and its reasons."""
    cases = of_nights(judgement.cases, runs, look)
    return replace(judgement, cases=cases, reasons=(*judgement.reasons, *notices(cases)))


def of_nights(cases: pd.DataFrame, runs: Sequence[Run], look: Look) -> pd.DataFrame:
    """The cases of the gate with what ran: of those that are slower or faster, and of those that other kernels compute tonight.

    Now is by the newest profile since the change began, before by the newest one from before that, on the same machine; a case
    that has not moved is held against its last profile before tonight. `runs` are the nights, oldest first, the last of which
    is tonight, and `look` reads what was profiled on one of them.
    """
    place, last = {run.id: number for number, run in enumerate(runs)}, len(runs) - 1
    looked = functools.cache(lambda number: look(runs[number]))

    def newest(case: Row, nights: range) -> tuple[int, Ran | None]:
        for number in nights:
            if case["machine_id"] in runs[number].machines and case["cell"] in looked(number):
                return number, looked(number)[case["cell"]]
        return last, None

    told: list[Row] = []
    for case in dicts_of(cases):
        moved = State(case["state"]).outcome in CHANGED
        row = {**Change("").columns, "ran_before_id": "", "ran_now_id": ""}
        if moved or case["cell"] in looked(last):
            known = [place[run_id] for run_id in (case["since"], case["dated"]) if run_id in place]
            begun = min(known, default=last) if moved else last
            now_on, now = newest(case, range(last, begun - 1, -1))
            before_on, before = newest(case, range(begun - 1, max(begun - 1 - LOOKED_BACK, -1), -1))
            found = change(before, now, _dated(runs[before_on] if before else None, runs[now_on] if now else None))
            if moved or found.another:
                ids = {"ran_before_id": before.run_id if before else "", "ran_now_id": now.run_id if now else ""}
                row = {**found.columns, **ids}
        told.append(row)
    return _with(cases, told)


def _with(frame: pd.DataFrame, rows: Sequence[Row]) -> pd.DataFrame:
    """The frame with the columns of these rows, in place of its own."""
    names = list(rows[0]) if rows else []
    columns = {name: pd.Series([row[name] for row in rows], index=frame.index, dtype=COLUMNS[name].dtype) for name in names}
    return frame.assign(**columns)


def _dated(before: Run | None, now: Run | None) -> Words:
    """Two nights by their dates: with the year, or the hour, where the dates alone do not tell them apart."""
    days = [run.place[0].astimezone(UTC) for run in (before, now) if run]
    hours = len(days) == 2 and days[0].date() == days[1].date()
    form = "%Y-%m-%d" if len({day.year for day in days}) > 1 else "%m-%d %H:%M" if hours else "%m-%d"
    then, today = (f"on {run.place[0].astimezone(UTC):{form}}" if run else "" for run in (before, now))
    return Words(then, today)


def notices(cases: pd.DataFrame) -> list[str]:
    """What other kernels compute than before: a line for each pair of kernels and nights, that of the most cases first."""
    changed = cases[cases["another_kernel"].eq(True)]
    groups = sorted(changed.groupby("what_ran", sort=False), key=lambda group: -len(group[1]))
    lines = []
    for sentence, of_group in groups[:NAMED]:
        more = f" and {len(of_group) - 1} more" if len(of_group) > 1 else ""
        runs = "runs another kernel" if len(of_group) == 1 else "run another kernel"
        first = reasons.name(dicts_of(of_group.iloc[:1])[0])
        lines.append(f"{units.many(len(of_group), 'case')} {runs}: {sentence} ({first}{more})")
    if left := sum(len(of_group) for _, of_group in groups[NAMED:]):
        lines.append(f"{units.many(left, 'more case')} with another kernel")
    return lines


# Two runs -----------------------------------------------------------------------------------------------------------------


def of_runs(compared: pd.DataFrame, base: Mapping[str, Ran], new: Mapping[str, Ran]) -> pd.DataFrame:
    """A comparison with what ran in either run: of the cells that are slower or faster, and of those with other kernels."""
    told = []
    for row in dicts_of(compared):
        found = change(base.get(row["cell"]), new.get(row["cell"]), BOTH_RUNS)
        moved = Outcome(row["verdict"]) in CHANGED
        told.append((found if moved or found.another else Change("")).columns)
    return _with(compared, told)
