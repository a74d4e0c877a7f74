"""The rows of a frame as objects, whose attributes are named as its columns are."""

from collections.abc import Iterator
from dataclasses import fields
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import pandas as pd
    from _typeshed import DataclassInstance

Row = TypeVar("Row", bound="DataclassInstance")


def rows_of(frame: "pd.DataFrame", kind: type[Row]) -> list[Row]:
    """Each row as a dataclass of that kind. Raises KeyError where the frame lacks a column that a field is named after."""
    columns = [frame[field.name] for field in fields(kind)]
    return [kind(*values) for values in zip(*columns, strict=True)]


def rows(frame: "pd.DataFrame") -> Iterator[Any]:
    """Each row with all columns, of types that the frame's schema tells and no checker knows: for text to be printed."""
    return iter(frame.itertuples())
