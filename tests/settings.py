"""A stored run whose cells differ in their settings: scripted visits of two backends in several modes and layouts."""

import dataclasses
from collections.abc import Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from harness.axes import Autotune
from harness.record import Run
from harness.spec import Cell
from harness.store import journal, table
from tests import builders

# How much longer than its average a process, and a turn, takes; drawn once, by hand.
PROCESS = (1.0, 1.004, 0.997, 1.003, 0.999, 1.002)
TURN = (1.0, 1.3, 0.95)
NS = 1_000_000
QUICKER: Mapping[str, float] = {"compiled": 0.8, "NHWC": 1.25, "jax": 1.006}


def cells(**axes: Sequence[Any]) -> list[Cell]:
    """Every combination of these values of axes."""
    found = [builders.cell()]
    for name, values in axes.items():
        found = [dataclasses.replace(cell, **{name: value}) for cell in found for value in values]
    return found


def time_ns(cell: Cell, process: int, turn: int) -> int:
    """What a call takes: QUICKER says by which factor for each value of an axis."""
    factor = 1.0
    for value in (str(cell.mode), str(cell.layout), cell.backend):
        factor *= QUICKER.get(value, 1.0)
    return round(NS * factor * PROCESS[process % len(PROCESS)] * TURN[turn % len(TURN)])


def run(
    store: Path, of: Sequence[Cell], trials: int = 4, turns: int = 3, *, finished: bool = True, **about: Any
) -> Path:  # fmt: skip
    """The folder of a run that visited each of the cells in every turn, a process per trial and backend."""
    told = builders.run(**{"id": "20260301-023000-small-aaaa", "method_version": 12, **about})
    folder = journal.create(store, told)
    backends = sorted({cell.backend for cell in of})
    with journal.Journal(folder) as book:
        book.append(builders.environment())
        for trial in range(trials):
            measured(book, told, of, backends, trial, turns)
    if finished:
        journal.finish(folder, dataclasses.replace(told, finished_at=told.started_at + timedelta(seconds=60)))
        table.seal(folder)
    return folder


def measured(book: journal.Journal, of_run: Run, of: Sequence[Cell], backends: Sequence[str], trial: int, turns: int) -> None:
    """Append the visits and the records of one trial."""
    made: dict[int, list[Any]] = {}
    for turn in range(turns):
        for place, cell in enumerate(of):
            process, order = trial * len(backends) + backends.index(cell.backend), trial * len(of) + place
            block = [time_ns(cell, process, turn)] * 10
            visit = builders.visit(order, block, process=process, turn=trial * turns + turn, place=place)
            made.setdefault(place, []).append(visit)
            book.append(visit)
    for place, cell in enumerate(of):
        book.append(builders.visited(*made[place], of=cell, trial=trial, run_id=of_run.id, settings=told(cell)))


def told(cell: Cell) -> dict[str, str]:
    """The settings of a row: on a GPU JAX tries kernels by default, and others where they are asked to."""
    if cell.device.kind == "cpu":
        return {"threads": "2", "mkldnn": "on"}
    return {"autotuned": str(cell.autotune is Autotune.ON or (cell.backend, cell.autotune) == ("jax", Autotune.DEFAULT))}
