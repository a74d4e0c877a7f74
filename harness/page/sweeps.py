"""Ordered axes: cells that differ in threads, batch or size alone are points of one sweep, not workloads of their own."""

import pandas as pd

from harness.spec import parse_workload

FEWEST = 3  # values of a sweep over shapes
SHAPES = ("batch", "size")
TOLD = "A sweep over threads, batch or size counts once, at its largest value."


def shapes(cells: pd.DataFrame, axis: str) -> pd.DataFrame:
    """A row per cell: `rest` is its shape without the batch or the size, `at` that batch or size."""
    rest: dict[str, str] = {}
    at: dict[str, int] = {}
    for shape in cells["shape"].drop_duplicates():
        try:
            rest[shape], at[shape] = parse_workload(shape).swept(axis)
        except ValueError:  # a foreign run may hold anything
            rest[shape], at[shape] = shape, 0
    return pd.DataFrame({"rest": cells["shape"].map(rest), "at": cells["shape"].map(at)}, index=cells.index)


def counted(cells: pd.DataFrame) -> pd.Series:
    """Whether each cell counts in means over workloads, a bool per row: of a sweep only the cells at its largest value do."""
    every = cells["threads"].astype("float64").where(cells["threads"] != 0, float("inf"))  # 0 is every core
    keep = every == every.groupby([cells["workload"], cells["device"]], sort=False).transform("max")
    for axis in SHAPES:
        points = shapes(cells, axis)
        groups = points["at"].groupby([points["rest"], cells["device"]], sort=False)
        keep &= (groups.transform("nunique") < FEWEST) | (points["at"] == groups.transform("max"))
    return keep
