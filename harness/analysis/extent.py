"""How much of what was planned an unfinished run holds, in numbers and in the words that every face uses."""

from dataclasses import dataclass

import pandas as pd

from harness.analysis import roofline
from harness.record import METHOD_VERSION, Run, Status


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
        """`cut off: 43 of 99 cells`; with several trials the measurements, since a cell is measured once in each."""
        so_far = " so far" if self.going else ""
        if not self.planned:
            return f"{self.tag}: {_many(self.measurements_made, 'measurement')}{so_far}, of how many is not known"
        if self.trials > 1:
            counted = f"{self.measurements_made} of {self.measurements} measurements"
            told = f"{self.tag}: {counted}{so_far} ({_many(self.cells, 'cell')} x {self.trials} trials)"
        else:
            told = f"{self.tag}: {self.cells_made} of {_many(self.cells, 'cell')}{so_far}"
        if self.ceilings_made < self.ceilings:
            told += f", {self.ceilings_made} of {_many(self.ceilings, 'ceiling')}"
        return told

    def sentence(self, out: str = "") -> str:
        """The same, and how to go on; `out` is the store where the command would not look there by itself."""
        if self.going or not self.resumable:
            return self.words
        return f"{self.words}, resume with `convbench run --resume {self.run_id}{f' --out {out}' if out else ''}`"


def extent(records: pd.DataFrame, run: Run, *, planned: bool, going: bool) -> Extent | None:
    """How far a run came by its records, which hold a row with status not_run for what was planned and is not there.

    None for a run that ended. `planned` says whether its plan is known.
    """
    if run.finished_at is not None:
        return None
    asked = roofline.asked_for(records)
    ceilings = records.drop(asked.index)
    made = asked["status"] != str(Status.NOT_RUN)
    whole = made.groupby(asked["cell"]).all()
    return Extent(
        run_id=run.id, going=going, planned=planned or not made.all(),
        resumable=planned and run.method_version == METHOD_VERSION, trials=asked["trial"].nunique(),
        cells=len(whole), cells_made=int(whole.sum()), measurements=len(made), measurements_made=int(made.sum()),
        ceilings=len(ceilings), ceilings_made=int((ceilings["status"] != str(Status.NOT_RUN)).sum()),
    )  # fmt: skip


def _many(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"
