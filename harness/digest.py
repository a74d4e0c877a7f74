"""What one night came to, small enough to be embedded a year at a time: the content of `reports/<run-id>/summary.json`.

Here belongs the type, which the index page, the notification and the command line read. Nothing is derived from it: the level
is the gate's, the counts are the report's. It can be made again from the stored runs at any time.
"""

from dataclasses import dataclass
from datetime import datetime

from harness.outcome import Check, Outcome, Result, State

SCHEMA = 1  # raised whenever a field changes its meaning or its name; a digest of another schema is made again


@dataclass(frozen=True)
class Ratio:
    """The geometric mean of time over an earlier time, of the `cells` cells of one backend that have both."""

    backend: str
    ratio: float
    cells: int


@dataclass(frozen=True)
class Validity:
    """One check of whether the figures can be trusted: its name, how it came out, and what was found."""

    name: str
    result: Result
    found: str

    @classmethod
    def of(cls, check: Check) -> "Validity":
        """What is kept of a check."""
        return cls(check.name, check.result, check.measured)


@dataclass(frozen=True)
class Digest:
    """One night of one suite on one machine.

    `started_at` is its place in the order of nights: its date, or just after the night before where the clock was set back.
    `machine_id` is its fingerprint, `machine` says it in words. `level`, `code` and `sentence` are the gate's; a night that was
    not measured has a level too, no statuses, and says why in its sentence. `verdicts` and `statuses` count cells by name.
    `baseline_id` is the newest run of the baseline, empty where there is none. `over_baseline` holds time over the baseline's,
    `over_first` over that of the first night of this suite and machine. `changes` are the facts of the environment that differ
    from the night before, a line each. `report_bytes` is the size of the page beside it; None: no page was written.
    `unfinished` says how far a run came that has not ended, `cut off: 43 of 99 cells`; "" for one that has.
    """

    schema: int
    run_id: str
    suite: str
    started_at: datetime
    duration_s: float
    machine_id: str
    machine: str
    commit: str
    baseline_id: str
    level: str
    code: int
    sentence: str
    verdicts: dict[str, int]
    statuses: dict[str, int]
    new_failures: int
    over_baseline: tuple[Ratio, ...] = ()
    over_first: tuple[Ratio, ...] = ()
    validity: tuple[Validity, ...] = ()
    changes: tuple[str, ...] = ()
    report_bytes: int | None = None
    unfinished: str = ""

    def count(self, outcome: Outcome) -> int:
        """Cells that came to an outcome, by its own words or by a state of the gate that comes to it."""
        names = {outcome.words, *(state.value for state in State if state.outcome is outcome)}
        return sum(self.verdicts.get(name, 0) for name in names)

    @property
    def measured(self) -> int:
        """Cells with a figure."""
        return self.statuses.get("ok", 0)

    @property
    def cells(self) -> int:
        """All cells of the night."""
        return sum(self.statuses.values())
