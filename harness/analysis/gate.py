"""The nightly gate: which of tonight's figures have moved, and what the night as a whole is worth.

Pure: a History and what people have acknowledged in, a Judgement out. Nothing is remembered between nights; every state
follows from the stored runs and the acknowledgements, replayed from the first night on.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import pandas as pd

from harness.analysis.history import History
from harness.record import Acknowledgement


class Level(StrEnum):
    """What a night is worth, the most serious first; the first that applies is that of the night."""

    INVALID = "invalid"
    REGRESSION = "regression"
    PARTIAL = "partial"
    SUSPECT = "suspect"
    MACHINE_EVENT = "machine_event"
    IMPROVED = "improved"
    QUIET = "quiet"

    @property
    def code(self) -> int:
        """The exit code: 0 for good news and none, 3 for a regression, 4 for a doubt, 5 for what was not measured."""
        return _CODES[self]


_CODES = {
    Level.INVALID: 5,
    Level.REGRESSION: 3,
    Level.PARTIAL: 5,
    Level.SUSPECT: 4,
    Level.MACHINE_EVENT: 4,
    Level.IMPROVED: 0,
    Level.QUIET: 0,
}


class State(StrEnum):
    """What the gate says of a case on a night, in the order in which people want to see it."""

    CONFIRMED = "confirmed"  # slower on this night and on the one before: new tonight
    OPEN = "open"  # confirmed on an earlier night, neither resolved nor acknowledged
    FAILED = "failed"  # failed, and did not on the last night that tells
    LOST = "lost"  # not measured, though the suite is the same
    SUSPECT = "suspect"  # slower, and the next night must say so too
    RESOLVED = "resolved"  # was open, and is under the threshold for the second night in a row
    IMPROVED = "improved"  # faster on two nights in a row; the baseline follows after 10
    IMPROVING = "improving"  # faster on this night
    ACKNOWLEDGED = "acknowledged"  # a person has said so; the new baseline is not complete
    FAILING = "failing"  # failed, as before
    BARRED = "barred"  # measured, but a flag bars every verdict
    MACHINE_EVENT = "machine_event"  # the machine as a whole has moved, so nothing is said of its cases
    INSUFFICIENT_HISTORY = "insufficient_history"  # fewer than 10 nights to be held against
    STEADY = "steady"
    GONE = "gone"  # no longer in the suite, or not supported; shown where it was there on the night before


@dataclass(frozen=True)
class MachineEvent:
    """A night on which a machine as a whole has moved, and by what that is known."""

    machine_id: str
    run_id: str
    why: str


@dataclass(frozen=True)
class OwnRecord:
    """How far to trust the gate on one machine, by what it has seen so far.

    `aa_nights` are the nights of cells that were measured twice (both of a pair count), `aa_suspects` and `aa_confirmed` those
    on which one of a pair was suspect or became confirmed, and its twin, the very same thing, was not: false alarms all.
    `aa_noise` is what a figure of one night differs by from its equal, as a share; `smallest_effect` is the slowdown (0.1
    for 10 %) that is found by the second night in 95 of 100 cases, for the median of the machine's cases. None: not known.
    `judged` and `cases` count tonight's cases with a verdict and all that the machine has.
    """

    machine_id: str
    nights: int
    events: int
    cases: int
    judged: int
    aa_nights: int
    aa_suspects: int
    aa_confirmed: int
    aa_noise: float | None
    smallest_effect: float | None

    @property
    def false_alarms_per_1000(self) -> float | None:
        """Confirmed false alarms per 1000 nights of a cell; None where no cell is measured twice."""
        return 1000 * self.aa_confirmed / self.aa_nights if self.aa_nights else None


@dataclass(frozen=True)
class Judgement:
    """What the gate says of the newest night of a history.

    `sentence` says it in one line, and names the worst case; `reasons` has one line for each thing that bears on the level,
    the most serious first. `cases` has one row per cell and machine with CASE_COLUMNS, the most serious first; cells that were
    measured a second time under another name are not among them. `events` are those of tonight, `invalid` what blocks any
    judgement, `machines` the gate's own record.
    """

    run_id: str
    level: Level
    sentence: str
    reasons: tuple[str, ...]
    cases: pd.DataFrame
    events: tuple[MachineEvent, ...]
    invalid: tuple[str, ...]
    machines: tuple[OwnRecord, ...]

    @property
    def code(self) -> int:
        """The exit code of the night."""
        return self.level.code


@dataclass(frozen=True)
class Rules:
    """The figures of the gate; docs/gate.md says where each comes from."""

    window: int = 30  # good nights in a baseline
    enough: int = 10  # fewer are no baseline
    z: float = 4.0
    floor: float = 0.03
    aa_noises: float = 3.0
    scale_floor: float = 0.005
    cpu_ns: float = 20_000.0
    gpu_ns: float = 1_000.0
    apart_s: float = 3600.0  # a rerun in the same hour is no independent evidence
    event_cells: int = 5
    event_share: float = 0.2
    event_backends: int = 2
    calm: int = 2  # nights under the threshold resolve
    family: int = 200  # above so many cells the false discovery rate is held
    fdr: float = 0.05
    complete: float = 0.9  # a run with fewer of its cells is no night


def judge(
    history: History,
    acknowledgements: Sequence[Acknowledgement] = (),
    *,
    invalid: Sequence[str] = (),
    rules: Rules | None = None,
) -> Judgement:
    """The judgement of the newest run of a history; `invalid` are the validity checks that failed elsewhere.

    The same history cut off at an earlier run gives the judgement of that night. Raises ValueError for a history without runs.
    """
    raise NotImplementedError
