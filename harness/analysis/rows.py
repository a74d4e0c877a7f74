"""Rows of a frame as dicts by the names of columns, and rows to a frame with the dtypes of the schema."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import pandas as pd

from harness.columns import COLUMNS

Row = dict[str, Any]


def dicts_of(frame: pd.DataFrame) -> list[Row]:
    """The rows of a frame, in its order."""
    return cast(list[Row], frame.to_dict("records"))


def framed(rows: Iterable[Mapping[str, Any]], names: Sequence[str]) -> pd.DataFrame:
    """A frame of these columns, a row each; what a row does not name is missing."""
    rows = list(rows)
    columns = {name: pd.Series([row.get(name) for row in rows], dtype=object) for name in names}
    return typed(pd.DataFrame(columns))


def typed(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with the dtypes of the schema."""
    return frame.astype({name: COLUMNS[name].dtype for name in frame.columns})
