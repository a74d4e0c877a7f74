"""`convbench show --follow`: a run that is being measured, told as its journal grows. It takes no time from what is measured.

Once a second the new bytes of the journal are read; visits are counted by the head of their line, and what the run can tell so
far is worked out once after each trial.
"""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import typer

from harness.cli.options import INTERRUPTED, UNFINISHED, lacking, missing, say_how_far, say_which, stderr, stdout
from harness.cli.tables import words
from harness.plan import Plan
from harness.record import Record, Run, Status
from harness.store import journal
from harness.units import many

EVERY_S = 1.0
_QUIET = 5  # looks without news after which it is asked whether anybody still measures


class News:
    """What has come of a run since the last look, in lines of text; the first look tells in one line how far it is."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._tail, self._plan = folder, journal.Tail(folder), _plan(folder)
        self._trial_of = {step.order: step.trial for step in self._plan or ()}
        self._trial, self._window, self._turns = 0, 0, 0
        self._turn, self._visits, self._void = -1, 0, 0
        self._orders: set[int] = set()  # of the steps that this turn has visited
        self._before: set[int] = set()
        self._total, self._failed = 0, 0  # visits; records that are not ok, but for what is not installed
        self._absent = set[str]()  # the lines that said of backends that they are not installed

    def so_far(self) -> list[str]:
        """How far the run is."""
        for _ in self.lines(sure=False):
            pass
        if not self._total:
            return ["nothing is measured yet"]
        failed = f", {many(self._failed, 'record')} not ok" if self._failed else ""
        sure = [self._sure(self._trial - 1)] if self._trial else []
        return [f"so far: trial {self._trial + 1}, {many(self._total, 'visit')}{failed}", *sure]

    def lines(self, sure: bool = True) -> Iterator[str]:
        """A line for each turn that is over, each record that is not ok and, where `sure`, each trial that is over."""
        for line in self._tail.lines():
            if seen := journal.visit_in(line):
                yield from self._visited(*seen, sure=sure)
            elif record := journal.record_in(line):
                yield from self._recorded(record)

    def last_turn(self) -> Iterator[str]:
        """The turn that nothing has followed."""
        if self._visits:
            if not self._orders & self._before:
                self._window, self._turns = self._window + 1, 0
            self._turns += 1
            void = f", {self._void} void" if self._void else ""
            where = f"trial {self._trial + 1}, window {self._window}, turn {self._turns}"
            yield f"{where}: {many(self._visits, 'visit')}{void}"
        self._before, self._orders, self._visits, self._void = self._orders or self._before, set(), 0, 0

    def _visited(self, order: int, turn: int, void: bool, sure: bool) -> Iterator[str]:
        if turn != self._turn:
            yield from self.last_turn()
            self._turn = turn
            yield from self._in_trial(order, sure)
        self._orders.add(order)
        self._visits, self._void, self._total = self._visits + 1, self._void + void, self._total + 1

    def _in_trial(self, order: int, sure: bool) -> Iterator[str]:
        if order not in self._trial_of:  # the plan has grown by a trial
            self._plan = _plan(self.folder)
            self._trial_of = {step.order: step.trial for step in self._plan or ()}
        trial = self._trial_of.get(order, self._trial)
        if trial > self._trial:
            if sure:
                yield self._sure(trial - 1)
            self._trial, self._window, self._turns, self._before = trial, 0, 0, set()

    def _recorded(self, record: Record) -> Iterator[str]:
        backend = record.cell.backend
        if record.status is Status.SKIPPED and self._plan and backend in self._plan.absent:
            new = [line for line in lacking(missing(self._plan)) if line not in self._absent]
            self._absent.update(new)
            yield from new
        elif record.status is not Status.OK:
            self._failed += 1
            told = f": {record.reason}" if record.reason else ""
            yield f"trial {record.trial + 1}: {record.cell} {words(record.status)}{told}"

    def _sure(self, trial: int) -> str:
        """What is known after a trial, of the comparisons with the fastest."""
        from harness.analysis import race, ranking
        from harness.execution.growth import SoFar

        found = journal.scan(self.folder)
        made = [record for record in found.records if record.trial <= trial]
        so_far = SoFar.of(made, found.environments, "")
        budget = self._plan.budget if self._plan else None
        looks = race.Looks(budget.most_trials) if budget and budget.races else None
        same = ranking.same_but(self._plan.competing) if self._plan else ranking.SAME
        return f"after trial {trial + 1}: {race.told(so_far.summary, so_far.visits, looks, same)}"


def _plan(folder: Path) -> Plan | None:
    try:
        return journal.read_plan(folder)
    except (OSError, ValueError):
        return None


def follow(folder: Path, out: Path, pause: Callable[[float], None] = time.sleep) -> None:
    """Print which run it is, what comes of it until it ends, and its table. Raises typer.Exit if it was cut off, on Ctrl-C."""
    from harness.cli.run import print_end
    from harness.review.reading import Reading, goes_on

    news, quiet = News(folder), 0
    console, ended = stdout(), _Ended(folder)
    say_which(journal.read_run(folder))
    try:
        for line in news.so_far():
            console.print(line, soft_wrap=True)
        while not ended():
            seen = False
            for line in news.lines():
                console.print(line, soft_wrap=True)
                seen = True
            quiet = 0 if seen else quiet + 1
            if quiet % _QUIET == 2 and not goes_on(folder, journal.read_run(folder)) and not ended():
                _told_rest(news)
                say_how_far(Reading(folder), out)
                raise typer.Exit(UNFINISHED)
            pause(EVERY_S)
    except KeyboardInterrupt:
        stderr().print(f"the run goes on: convbench show {folder.name} --follow", soft_wrap=True)
        raise typer.Exit(INTERRUPTED) from None
    _told_rest(news)
    print_end(Reading(folder))


def _told_rest(news: News) -> None:
    for lines in (news.lines(), news.last_turn()):
        for line in lines:
            stdout().print(line, soft_wrap=True)


class _Ended:
    """Whether a run has ended by its run.json, which is read only when it was written anew."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._seen = folder, -1
        self._run: Run | None = None

    def __call__(self) -> bool:
        stamp = os.stat(self._folder / journal.RUN).st_mtime_ns
        if stamp != self._seen or self._run is None:
            self._run, self._seen = journal.read_run(self._folder), stamp
        return self._run.finished_at is not None
