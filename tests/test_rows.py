"""Rows of a frame as typed objects."""

from dataclasses import dataclass

import pandas as pd
import pytest

from harness.rows import rows_of


@dataclass(frozen=True)
class Pair:
    name: str
    count: int


def test_each_row_becomes_an_object_by_the_names_of_its_fields():
    frame = pd.DataFrame({"count": [2, 1], "other": "", "name": ["b", "a"]}, index=[7, 3])
    assert rows_of(frame, Pair) == [Pair("b", 2), Pair("a", 1)]
    assert [type(row.count) for row in rows_of(frame, Pair)] == [int, int]  # of Python, not of numpy
    assert rows_of(frame.iloc[:0], Pair) == []


def test_a_column_that_is_missing_is_named():
    with pytest.raises(KeyError, match="count"):
        rows_of(pd.DataFrame({"name": ["a"]}), Pair)
