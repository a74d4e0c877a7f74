"""Rows of a frame as typed objects: for each kind of row a dataclass, whose fields are named as the columns are."""

from dataclasses import fields
from typing import TYPE_CHECKING, TypeVar

import pandas as pd

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Row = TypeVar("Row", bound="DataclassInstance")


def rows_of(frame: pd.DataFrame, kind: type[Row]) -> list[Row]:
    """Each row of a frame as a `kind`. Raises KeyError where the frame lacks a column that a field is named after."""
    columns = [frame[field.name] for field in fields(kind)]
    return [kind(*values) for values in zip(*columns, strict=True)]
