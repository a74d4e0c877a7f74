"""What the machine can do at best, as measured in the same run, and which share of it each convolution reaches.

The ceiling of the arithmetic is the best rate of a matrix product, that of the memory the best bandwidth of a copy, over
all backends: a framework that multiplies slowly must not make its own convolutions look good. Nothing is from a datasheet.
"""

import numpy as np
import pandas as pd

from harness.columns import of_convolutions
from harness.flags import Flag
from harness.record import Status

# What a ceiling holds for. Copies have no precision, since they move bytes; it is "" for them.
HOLDS_FOR = ["run_id", "device", "threads", "precision"]
BY = ["workload", "backend", "mode", "op"]


def ceilings(summary: pd.DataFrame) -> pd.DataFrame:
    """The best of each kind: a row per run, device, number of threads and precision for matrix products, and one for copies.

    HOLDS_FOR, BY and the rate: `flop_per_s` of a matrix product, `bytes_per_s` of a copy, the other one missing. Only what
    is ok counts, whatever its flags: what disturbs a measurement makes it slower, and the best is what is asked for.
    """
    measured = summary[~of_convolutions(summary) & (summary["status"] == str(Status.OK))]
    multiplies = measured["flop_nominal"] > 0
    found = measured.assign(
        precision=measured["precision"].where(multiplies, ""),
        flop_per_s=measured["flop_per_s"].where(multiplies),
        bytes_per_s=measured["bytes_per_s"].where(~multiplies),
    )
    rate = found["flop_per_s"].fillna(found["bytes_per_s"])
    found = found.assign(rate=rate)[rate > 0].sort_values("rate", ascending=False, kind="stable")
    best = found.drop_duplicates(HOLDS_FOR).sort_values(HOLDS_FOR, ascending=[True, True, True, False], kind="stable")
    return best[[*HOLDS_FOR, *BY, "flop_per_s", "bytes_per_s"]].reset_index(drop=True)


def asked_for(frame: pd.DataFrame) -> pd.DataFrame:
    """The rows that a run is about: its convolutions; all of them where there is none, as in a run of ceilings alone."""
    convolutions = frame[of_convolutions(frame)]
    return frame if convolutions.empty else convolutions


def held_against(summary: pd.DataFrame) -> pd.DataFrame:
    """The summary with `ceiling_share` of every convolution, and the flag where it is over 1; the share is never clipped.

    Missing where the run has no matrix product on that device, in that precision, with that many threads. A frame that lacks
    the rows of the ceilings can have no share, so what is to be shown in part is cut after this, not before.
    """
    products = ceilings(summary).dropna(subset="flop_per_s")
    best = products.set_index(HOLDS_FOR)["flop_per_s"].to_dict()
    convolution = of_convolutions(summary)
    at = [best.get(key, np.nan) for key in summary[HOLDS_FOR].itertuples(index=False, name=None)]
    share = (summary["flop_per_s"] / pd.Series(at, index=summary.index, dtype="float64")).where(convolution)
    flags = [_flagged(text) if over else text for text, over in zip(summary["flags"], share > 1, strict=True)]
    return summary.assign(ceiling_share=share.astype("float64"), flags=pd.Series(flags, index=summary.index, dtype="string"))


def _flagged(text: str) -> str:
    flags = {*filter(None, text.split(",")), str(Flag.ABOVE_CEILING)}
    return ",".join(flag for flag in Flag if flag in flags)
