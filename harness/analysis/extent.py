"""How much of what was planned an unfinished run holds."""

import pandas as pd

from harness.analysis import roofline
from harness.outcome import Extent
from harness.record import METHOD_VERSION, Run, Status


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
