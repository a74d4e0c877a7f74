"""The nights of a store: `night.parquet` in a run folder, the small table that a history is read from.

It is made from the summary of the run and can be made again, except where the samples of the run were pruned: then it is
what is left of the figures, and is taken as it stands.
"""

from collections.abc import Callable
from pathlib import Path

import pandas as pd

from harness.record import Run

NIGHT = "night.parquet"


def write(folder: str | Path, frame: pd.DataFrame, figures: int) -> None:
    """Keep the night of a run, a frame with NIGHT_COLUMNS made by that version of the figures."""
    raise NotImplementedError


def load(
    store: str | Path, suite: str, make: Callable[[Path], pd.DataFrame], figures: int
) -> tuple[tuple[Run, ...], pd.DataFrame]:
    """The runs of a suite that count as nights, oldest first, and their cells in one frame with NIGHT_COLUMNS.

    A run counts that is tagged NIGHTLY and is not going on any more. Where its table is missing, older than its journal, or by
    another version of the figures, `make` is asked for it with the run folder, and it is kept. A damaged run is left out with
    a warning that names it.
    """
    raise NotImplementedError
