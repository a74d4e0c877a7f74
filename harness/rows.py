"""The rows of a frame, for code whose types are checked."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


def rows(frame: "pd.DataFrame") -> Iterator[Any]:
    """Each row with the columns as attributes. Which types these have is the schema's to say: pandas knows of none."""
    return iter(frame.itertuples())
