"""What became of a case, a check, a run or a night: one vocabulary for analysis, page, messages and exit codes.

Every word knows how it is shown: `tone` is the class of its colour on a page ("" for none), `icon` the sign beside it, `words`
how people read it.
"""

import shlex
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Self

from harness import units

if TYPE_CHECKING:  # the ground is loaded by workers, which have no pandas
    import pandas as pd


class Level(StrEnum):
    """What a run beside its baseline, or a night, is worth; the most serious first, and the first that applies is taken.

    `code` is the exit code: 0 for good news and none, 3 for a regression, 4 for a doubt, 5 for what was not measured.
    """

    code: int
    tone: str
    icon: str

    INVALID = "invalid", 5, "slow", "✕"
    REGRESSION = "regression", 3, "slow", "▲"
    PARTIAL = "partial", 5, "slow", "✕"
    SUSPECT = "suspect", 4, "warn", "▲"
    INCONCLUSIVE = "inconclusive", 4, "warn", "?"
    MACHINE_EVENT = "machine_event", 4, "warn", "!"
    IMPROVED = "improved", 0, "fast", "▼"
    QUIET = "quiet", 0, "fast", "✓"

    def __new__(cls, value: str, code: int = 0, tone: str = "", icon: str = "") -> Self:
        """A member with its attributes, whose value is the first of them."""
        made = str.__new__(cls, value)
        made._value_, made.code, made.tone, made.icon = value, code, tone, icon
        return made

    @property
    def words(self) -> str:
        """The level as people read it."""
        return self.value.replace("_", " ")

    @property
    def tag(self) -> str:
        """Its icon and its words."""
        return f"{self.icon} {self.words}"


class Outcome(StrEnum):
    """What became of a case since its baseline. The statistical verdict on a comparison is one of the first four.

    `passes` says how a test of the case would end: False fails, None is skipped, since nothing can be said.
    """

    passes: bool | None
    tone: str
    icon: str

    SLOWER = "slower", False, "slow", "▲"
    FASTER = "faster", True, "fast", "▼"
    NO_CHANGE = "no_change", True, "soft", "○"
    UNCERTAIN = "uncertain", None, "warn", "◇"
    ONLY_BASE = "only_base", None, "", ""  # of a comparison: the new run lacks the cell
    ONLY_NEW = "only_new", None, "", ""  # of a comparison: the base lacks the cell
    FAILED = "failed", False, "slow", "✕"  # ok before, a failure now
    NEW = "new", None, "", ""  # the baseline says nothing of it
    FIXED = "fixed", True, "", ""  # a failure before, ok now
    STILL_FAILED = "failed_known", False, "", ""  # a failure before and now
    LOST = "lost", False, "warn", "✕"  # measured before, not now
    SKIPPED = "skipped", None, "", ""  # measured in neither
    NOT_RUN = "not_run", None, "", ""  # this run has not come to it

    def __new__(cls, value: str, passes: bool | None = None, tone: str = "", icon: str = "") -> Self:
        """A member with its attributes, whose value is the first of them."""
        made = str.__new__(cls, value)
        made._value_, made.passes, made.tone, made.icon = value, passes, tone, icon
        return made

    @property
    def words(self) -> str:
        """The outcome as people read it, on pages and in links to them."""
        return "failed (known)" if self is Outcome.STILL_FAILED else self.value.replace("_", " ")


CHANGED = (Outcome.SLOWER, Outcome.FASTER)
COMPARABLE = (*CHANGED, Outcome.NO_CHANGE, Outcome.UNCERTAIN)  # both sides have a time that may be held against the other


class State(StrEnum):
    """What the gate says of a case on a night, in the order in which people want to see it.

    `outcome` is what it comes to beside the baseline, `passes` how a test of the case would end, as of `Outcome`; `told` says
    whether a message about the night names the case.
    """

    outcome: Outcome
    passes: bool | None
    told: bool

    CONFIRMED = "confirmed", Outcome.SLOWER, False, True  # slower on this night and on the one before: new tonight
    OPEN = "open", Outcome.SLOWER, False, True  # confirmed on an earlier night, neither resolved nor acknowledged
    FAILED = "failed", Outcome.FAILED, False, True  # failed, and did not on the last night that tells
    LOST = "lost", Outcome.LOST, False, True  # not measured, though the suite is the same
    SUSPECT = "suspect", Outcome.SLOWER, True, True  # slower, and the next night must say so too
    RESOLVED = "resolved", Outcome.NO_CHANGE, True, True  # was open, and is under the threshold the second night in a row
    IMPROVED = "improved", Outcome.FASTER, True, True  # faster on two nights in a row; the baseline follows after 10
    IMPROVING = "improving", Outcome.FASTER, True, True  # faster on this night
    ACKNOWLEDGED = "acknowledged", Outcome.NO_CHANGE, True, False  # a person has; the new baseline is not complete
    FAILING = "failing", Outcome.STILL_FAILED, False, False  # failed, as before
    BARRED = "barred", Outcome.UNCERTAIN, None, False  # measured, but a flag bars every verdict
    MACHINE_EVENT = "machine_event", Outcome.UNCERTAIN, None, False  # the machine has moved: nothing is said of its cases
    INSUFFICIENT_HISTORY = "insufficient_history", Outcome.NEW, None, False  # under 10 nights to be held against
    STEADY = "steady", Outcome.NO_CHANGE, True, False
    GONE = "gone", Outcome.SKIPPED, None, False  # not in the suite or not supported; shown where it was there the night before

    def __new__(cls, value: str, outcome: Outcome = Outcome.SKIPPED, passes: bool | None = None, told: bool = False) -> Self:
        """A member with its attributes, whose value is the first of them."""
        made = str.__new__(cls, value)
        made._value_, made.outcome, made.passes, made.told = value, outcome, passes, told
        return made

    @property
    def words(self) -> str:
        """The state as people read it."""
        return self.value.replace("_", " ")


class Result(StrEnum):
    """How a check of validity came out."""

    tone: str
    icon: str

    FAILED = "failed", "slow", "✕"
    WARNING = "warning", "warn", "!"
    UNKNOWN = "not measured", "", units.MISSING
    PASS = "pass", "fast", "✓"

    def __new__(cls, value: str, tone: str = "", icon: str = "") -> Self:
        """A member with its attributes, whose value is the first of them."""
        made = str.__new__(cls, value)
        made._value_, made.tone, made.icon = value, tone, icon
        return made

    @property
    def words(self) -> str:
        """The result as people read it."""
        return self.value

    @property
    def open(self) -> bool:
        """Whether somebody should look at it."""
        return self in (Result.FAILED, Result.WARNING)


@dataclass(frozen=True)
class Check:
    """One check of whether figures can be trusted: what was measured, beside what limit, and what follows for the report.

    `blocks`: nothing else may be said of the run.
    """

    name: str
    result: Result
    measured: str
    limit: str
    effect: str = units.MISSING
    blocks: bool = False


@dataclass(frozen=True)
class Difference:
    """A fact that differs between the baseline and this run; "" where one of them lacks it."""

    fact: str
    base: str
    new: str

    @property
    def words(self) -> str:
        """`torch 2.13 → 2.14`."""
        return f"{self.fact} {self.base or 'none'} → {self.new or 'none'}"


def differences(base: Mapping[str, str], new: Mapping[str, str]) -> tuple[Difference, ...]:
    """Which facts differ between two environments, each given as its facts by name; in the order of the new one."""
    names = dict.fromkeys([*new, *base])
    pairs = [Difference(name, base.get(name, ""), new.get(name, "")) for name in names]
    return tuple(each for each in pairs if each.base != each.new)


@dataclass(frozen=True)
class Extent:
    """How far a run came that has not ended. A measurement is one cell in one trial; ceilings are counted on their own.

    `cells`, `measurements` and `ceilings` are what was planned, `cells_made`, `measurements_made` and `ceilings_made` what is
    there; a cell is made once every one of its trials is. Where `planned` is False no plan stands beside the run, and what
    was planned is not known. `going`: it is being measured on this host.
    """

    run_id: str
    going: bool
    planned: bool
    resumable: bool
    trials: int
    cells: int
    cells_made: int
    measurements: int
    measurements_made: int
    ceilings: int
    ceilings_made: int

    @property
    def tag(self) -> str:
        """Its state in two words."""
        return "not finished" if self.going else "cut off"

    @property
    def words(self) -> str:
        """`cut off: 43 of 99 cells`; of several trials `cut off: 144 of 396 measurements of 99 cells`."""
        so_far = " so far" if self.going else ""
        if not self.planned:
            return f"{self.tag}: {units.many(self.measurements_made, 'measurement')}{so_far}, of how many is not known"
        if self.trials > 1:
            counted = f"{self.measurements_made} of {units.many(self.measurements, 'measurement')}"
            told = f"{self.tag}: {counted} of {units.many(self.cells, 'cell')}{so_far}"
        else:
            told = f"{self.tag}: {self.cells_made} of {units.many(self.cells, 'cell')}{so_far}"
        if self.ceilings_made < self.ceilings:
            told += f", {self.ceilings_made} of {units.many(self.ceilings, 'ceiling')}"
        return told

    def sentence(self, out: str = "") -> str:
        """The same, and how to go on; `out` is the store where the command would not look there by itself."""
        if self.going or not self.resumable:
            return self.words
        command = shlex.join(["convbench", "run", "--resume", self.run_id, *(["--out", out] if out else [])])
        return f"{self.words}, resume with `{command}`"


@dataclass(frozen=True)
class Group:
    """What slower cases have in common: a value for each facet, "" where any will do; `slower` of `cases` comparable ones are.

    `ratio` is the median over these slower ones of time now over baseline.
    """

    backend: str
    direction: str
    device: str
    family: str
    slower: int
    cases: int
    ratio: float


@dataclass(frozen=True)
class Judgement:
    """A run beside its baseline. `baseline` is the id of the run that it is held against, or says what it is.

    `cases` has one row per case with `analysis.judgement.CASES`. `invalid` are the blocking checks that failed: where there is
    any, nothing else is said of the run. `incomparable` says why nothing of it can be held against the baseline, which is no
    fault of the run. `notes` say what it was held against, where the method or the standard has changed, and what else has: by
    which kernels cases are computed, and what they cost beside their time.
    """

    level: Level
    sentence: str
    baseline: str
    cases: "pd.DataFrame"
    groups: tuple[Group, ...] = ()
    invalid: tuple[str, ...] = ()
    incomparable: str = ""
    notes: tuple[str, ...] = ()

    def count(self, outcome: Outcome) -> int:
        """How many cases came to this outcome."""
        return int((self.cases["verdict"] == str(outcome)).sum())


# The limits by which comparisons are decided. They stand here since messages and pages name them, too.
ENOUGH_PAIRS = 4  # within a run: under so many pairs of processes nothing is decided, as processes may be of two kinds
EQUIVALENT = 1.02  # within a run: within this factor two times are as good as equal
# Of two runs: below this many pairs of trials the interval rests on a standard deviation of 3 degrees of freedom or fewer, so
# that the noise of an A/A run must back it.
ENOUGH_TRIALS = 5
UNCHANGED = 1.05  # of two runs: an interval within this factor of 1 says so; a change of 5 % is there to be found
TRIALS_FOR_T_INTERVAL = 3  # of fewer the interval of a cell's time is that within a process

DIFFERENCES = ("slower", "faster", "equivalent", "undecided")  # of two cells of a run: the words of the column `difference`


def tally(differences: Iterable[str]) -> str:
    """How many comparisons within a run ended how: `3 slower, 1 equivalent within 2 %`."""
    counts = Counter(differences)
    told = {"equivalent": f"equivalent within {100 * (EQUIVALENT - 1):.0f} %"}
    return ", ".join(f"{counts[name]} {told.get(name, name)}" for name in DIFFERENCES if counts[name]) or "none"


# What is said beside comparisons of cells of which `tuning_differs`.
TUNING_DIFFERS = (
    "Tuned beside untuned: the kernels of some of these cells were chosen by trying them, those of others were not, as "
    "“autotuned” in the settings says; who takes less time may only be who tried."
)
