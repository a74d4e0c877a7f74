"""Scripted visits: samples as an engine makes them that goes from cell to cell, turn by turn."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import pandas as pd

from harness.columns import COLUMNS, SAMPLE_COLUMNS

RUN = "20260301-023000-aaaa"
PLACED = ("process", "turn", "place", "visit")


class Visit(NamedTuple):
    """A stay of a process at a cell, and the times of its calls in ns; `contended` says which of them were."""

    cell: str
    trial: int
    process: int
    turn: int
    call_ns: Sequence[float]
    place: int = 0
    visit: int = 0
    contended: Sequence[bool] = ()
    run_id: str = RUN
    iterations: int = 1
    series: str = "latency"


def samples(visits: Iterable[Visit], *, turned: bool = True) -> pd.DataFrame:
    """The samples frame of these visits, or with `turned` false of a run that knows no visits."""
    rows = []
    for one in visits:
        for place, call_ns in enumerate(one.call_ns):
            rows.append({
                "run_id": one.run_id, "trial": one.trial, "cell": one.cell, "iterations": one.iterations, "series": one.series,
                "index": place, "block_ns": round(call_ns * one.iterations), "run_delay_ns": 0, "others_ns": 0,
                "yardstick_ns": None, "contended": bool(one.contended[place]) if one.contended else False,
                "process": one.process, "turn": one.turn, "place": one.place, "visit": one.visit,
            })  # fmt: skip
    frame = pd.DataFrame(rows, columns=list(SAMPLE_COLUMNS)).astype({name: COLUMNS[name].dtype for name in SAMPLE_COLUMNS})
    return frame if turned else frame.assign(**{name: pd.array([None] * len(frame), dtype="Int64") for name in PLACED})


def of_cells(
    times: Mapping[str, Sequence[Sequence[float]]], backends: Sequence[str] = (), trial: int = 0, first_turn: int = 0
) -> list[Visit]:
    """The visits of one trial: for each cell its times turn by turn, an empty turn for none.

    A process per backend; `backends` names that of each cell, in order. Without it each cell has a process of its own.
    """
    names = list(backends) or list(times)
    process = {name: len(names) * trial + place for place, name in enumerate(dict.fromkeys(names))}
    return [
        Visit(cell, trial, process[name], first_turn + turn, call_ns, place)
        for place, ((cell, by_turn), name) in enumerate(zip(times.items(), names, strict=True))
        for turn, call_ns in enumerate(by_turn)
    ]
