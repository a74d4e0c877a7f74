"""What charts have in common: rows grouped by workload or direction, their marks, panels side by side."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from harness.page.canvas import Canvas, Drawn, fitted
from harness.page.palette import Look, sentinel
from harness.page.view import View

PITCH = 12.0  # px from one backend's row to the next
GAP = 12.0  # px between two groups
MOST_MARKS = 1500  # of one figure: more of them are a cloud that takes long to draw
HEAD, FOOT = 26.0, 46.0  # px over a panel for its heading, under it for ticks and label
_MORE_ROOM = 16.0  # px from row to row where a strip of many marks stands in each


@dataclass(frozen=True)
class Group:
    """Rows of one workload in one panel: `rows` of the frame, the y of each, and the extent of the band behind."""

    label: str
    rows: pd.DataFrame
    y: list[float]
    top: float
    bottom: float


def stack(groups: Sequence[tuple[str, pd.DataFrame]]) -> tuple[list[Group], float]:
    """The groups from top to bottom, in px, and the height that they take."""
    stacked, top = [], GAP / 2
    for label, rows in groups:
        rows = rows.sort_values("order_in_group", kind="stable")
        y = [top + PITCH * (place + 0.5) for place in range(len(rows))]
        stacked.append(Group(label, rows, y, top, top + PITCH * len(rows)))
        top += PITCH * len(rows) + GAP
    return stacked, top - GAP / 2


def by_look(rows: pd.DataFrame) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Backend, mode and the rows of both, in the fixed order of backends and modes."""
    for _, same in rows.groupby(["order_in_group", "backend", "mode"], sort=True):
        yield same["backend"].iloc[0], same["mode"].iloc[0], same


def dots(canvas: Canvas, axes: Axes, groups: Sequence[Group], looks: Mapping[str, Look], column: str) -> None:
    """Draw a mark at the `column` of each row of the groups, one layer per backend and mode, in their fixed order."""
    rows = pd.concat([group.rows.assign(y=group.y) for group in groups])
    for backend, mode, same in by_look(rows):
        canvas.dots(axes, looks[backend], mode, same[column].to_list(), same["y"].to_list(), same["i"].to_list())


def points(
    canvas: Canvas, axes: Axes, x: Sequence[float], y: Sequence[float], marks: Sequence[str | int], *, key: str,
    marker: str = "o", size: float = 16, hollow: bool = False,
) -> None:  # fmt: skip
    """Draw marks in the colour of a token or look; `marks` says what each stands for."""
    colour = sentinel(key)
    face, edge = (sentinel("bg"), colour) if hollow else (colour, sentinel("bg"))
    gid = f"marks-{len(canvas.marks)}"
    axes.scatter(
        x, y, s=size, color=face, edgecolor=edge, linewidth=1.2 if hollow else 0.5, marker=marker, zorder=4, clip_on=False,
        gid=gid,
    )  # fmt: skip
    canvas.marks[gid] = list(marks)


def legend(rows: pd.DataFrame) -> tuple[tuple[str, str], ...]:
    """The backends and modes of the rows, in their fixed order."""
    pairs = rows.sort_values("order_in_group", kind="stable")[["backend", "mode"]].drop_duplicates()
    return tuple(pairs.itertuples(index=False, name=None))


def each(name: str, chart: Callable[[View, str, str], Drawn], view: View, rows: pd.DataFrame) -> list[Drawn]:
    """One chart per device that has rows."""
    return [chart(view, device, f"{name}-{place}") for place, device in enumerate(sorted(set(rows["device"])))]


def thinned(rows: pd.DataFrame, always: pd.Series, most: int = MOST_MARKS) -> pd.DataFrame:
    """All rows that `always` marks and, up to `most` in all, others by lot, in order. The lot is the same every time."""
    if len(rows) <= most:
        return rows
    rest = np.flatnonzero(~always.to_numpy())
    room = max(0, most - int(always.sum()))
    chosen = np.random.default_rng(0).permutation(len(rest))[:room]
    return rows.iloc[np.sort(np.concatenate([np.flatnonzero(always.to_numpy()), rest[chosen]]))]


def strips(
    canvas: Canvas, axes_of: Callable[[float, float], Axes], view: View, rows: pd.DataFrame, column: str,
    place: tuple[float, float],
) -> Axes:  # fmt: skip
    """Draw a row of marks per direction and backend, with a bar at its median; `place` is the left edge and the top in px.

    `axes_of` makes axes, with their scale set, for a top and a height in px.
    """
    left, top = place
    lines, y = [], GAP / 2
    for direction in view.directions:
        here = rows[rows["words"] == direction]
        if here.empty:
            continue
        top_of_direction = y
        for _, same in here.groupby("order_in_group", sort=True):
            lines.append((y + _MORE_ROOM / 2, same))
            y += _MORE_ROOM
        canvas.text(left - 10, top + (top_of_direction + y) / 2, fitted(direction, left), ha="right")
        y += GAP
    height = y - GAP / 2
    axes = axes_of(top, height)
    axes.set_ylim(height, 0)
    axes.set_yticks([])
    lots = np.random.default_rng(0)
    for at, same in lines:
        first = same.iloc[0]
        where = at + lots.uniform(-0.22, 0.22, len(same)) * _MORE_ROOM
        canvas.dots(axes, view.looks[first["backend"]], first["mode"], same[column].to_list(), list(where), same["i"].to_list())
        median = same[column].median()
        axes.plot([median, median], [at - 7, at + 7], color=sentinel("ink"), lw=2, zorder=5, solid_capstyle="butt")
    return axes


def strips_height(view: View, rows: pd.DataFrame) -> float:
    """The height that `strips` takes in px, without heading and axis."""
    lines = rows.groupby("words")["order_in_group"].nunique()
    return float(sum(_MORE_ROOM * count + GAP for count in lines))
