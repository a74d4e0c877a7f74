"""Scripted nights in a store: six cells of two backends that take what a test says, a night a day."""

import dataclasses
import functools
import tempfile
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

from harness.analysis.gate import NightJudgement
from harness.digest import Digest
from harness.profile import Kernel, Kind, Level, Profile, Role
from harness.record import NIGHTLY, Status
from harness.review import digests
from harness.review.comparing import standing
from harness.review.reading import Reading
from harness.store import journal, table
from tests import builders

SUITE = "small"
WORKLOADS = ("one", "two", "three")
PLANNED = tuple(builders.cell(workload=name, backend=backend) for backend in ("jax", "torch") for name in WORKLOADS)
CELLS = tuple(map(str, PLANNED))
SLOW = str(builders.cell(workload="two"))  # the cell that tests make slower
# A night differs from the next by about 0.5 %; drawn once, by hand.
WANDER = (1.0, 1.004, 0.997, 1.002, 0.995, 1.006, 0.999, 1.001, 0.996, 1.003)


def night(
    store: Path, day: int, slower: Mapping[str, float] | None = None, *, cells: int = 6, tags: tuple[str, ...] = (NIGHTLY,),
    torch: str = "2.13", refusal: str = "", machine: str = "",
) -> Path:  # fmt: skip
    """The folder of a sealed night, day 0 being the first: 1 ms a call times WANDER and what `slower` says of a cell.

    With `machine` it is of the machine of that name and tells so before the first cell.

    Only the first `cells` of six are measured, the rest is not_run. With a `refusal` none is, and no worker ever came up.
    """
    name, files = _files(day, tuple((slower or {}).items()), cells, tags, torch, refusal, machine)
    folder = store / "runs" / name
    folder.mkdir(parents=True)
    for file, content in files.items():
        (folder / file).write_bytes(content)
    return folder


@functools.cache
def _files(
    day: int, slower: tuple[tuple[str, float], ...], cells: int, tags: tuple[str, ...], torch: str, refusal: str, machine: str
) -> tuple[str, dict[str, bytes]]:
    """Name and files of such a night: many tests want the same one, and sealing it takes most of their time."""
    with tempfile.TemporaryDirectory() as store:
        folder = _measured(Path(store), day, dict(slower), cells, tags, torch, refusal, machine)
        return folder.name, {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def _measured(
    store: Path, day: int, slower: Mapping[str, float], cells: int, tags: tuple[str, ...], torch: str, refusal: str,
    machine: str,
) -> Path:  # fmt: skip
    began = builders.START + timedelta(days=day)
    named_so = {"machine": machine, "machine_id": f"id-of-{machine}"} if machine else {}
    environments = tuple(
        builders.environment(id=f"env-{backend}-{version}", backend=backend, packages={backend: version}, **named_so)
        for backend, version in (("jax", "0.10"), ("torch", torch))
    )
    run = builders.run(
        f"{began:%Y%m%dT%H%M%S}-{SUITE}-{day:04x}", suite=SUITE, started_at=began, tags=tags,
        environments=() if refusal else environments,
        planned_on=builders.environment(backend="", packages={}, **named_so) if machine else None,
    )  # fmt: skip
    folder = journal.create(store, run)
    named = {environment.backend: environment.id for environment in environments}
    with journal.Journal(folder) as book:
        for order, (backend, name) in enumerate((backend, name) for backend in ("jax", "torch") for name in WORKLOADS):
            of = builders.cell(workload=name, backend=backend)
            if refusal or order >= cells:
                why = refusal or "the run ended before this cell"
                book.append(builders.failed(Status.NOT_RUN, why, of=of, run_id=run.id, order=order, environment_id=""))
                continue
            ns = round(1e6 * WANDER[(day + order) % len(WANDER)] * slower.get(str(of), 1.0))
            for trial in range(3):
                book.append(builders.record(
                    [ns + 100 * trial] * 30, of=of, trial=trial, order=3 * order + trial, run_id=run.id,
                    environment_id=named[backend],
                ))  # fmt: skip
        for environment in () if refusal else environments:
            book.append(environment)
    ended = began + timedelta(seconds=60)
    journal.finish(folder, dataclasses.replace(run, finished_at=ended if refusal or cells == 6 else None))
    table.seal(folder)
    return folder


def nights(store: Path, count: int, first: int = 0) -> list[Path]:
    """That many quiet nights in a row."""
    return [night(store, day) for day in range(first, first + count)]


def judged(folder: Path) -> tuple[NightJudgement, Digest]:
    """The gate's judgement of a stored night, and what summary.json holds of it without a page."""
    reading = Reading(folder)
    return reading.judgement, digests.of_run(reading, standing(reading))


def profiled(folder: Path, kernels: Mapping[str, str], ns: float = 9e5) -> Path:
    """The night with profiles of some cells: each call is a kernel of that name, and a tenth more outside of it."""
    run, tail = journal.read_run(folder), (Role.UNKNOWN, Level.PRIMITIVE, "oneDNN", 1.0)
    with journal.Journal(folder) as book:
        for place, (cell, name) in enumerate(kernels.items()):
            of = next(each for each in PLANNED if str(each) == cell)
            book.append(Profile(
                run.id, of, run.started_at + timedelta(seconds=place), "", (
                    Kernel("convolution", Kind.CONVOLUTION, name, "", "", "", *tail, ns, 1),
                    Kernel("outside", Kind.OUTSIDE, "", "", "", "", Role.UNKNOWN, 0, "", 1.0, 0.1 * ns, 1),
                ),
                plain_ns=1.1 * ns, watched_ns=1.1 * ns, calls=40, clean_calls=40, sources=("oneDNN 3.12.0 verbose",),
                spent_ns=3 * 10**9,
            ))  # fmt: skip
    table.seal(folder)
    return folder
