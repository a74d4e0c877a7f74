"""From the stored profiles of a run to what is said of it: in Python, in the terminal and on the page."""

import csv
import dataclasses
import gzip
import io
from datetime import timedelta
from pathlib import Path

import pytest

import harness
from harness.axes import Direction
from harness.columns import EXPLANATION_COLUMNS
from harness.profile import Kind, Profile, Role, trace_name
from harness.review import pages
from harness.review.reading import Reading
from harness.spec import Cell
from harness.store import journal, table
from tests import builders, settings
from tests.command import convbench

CELLS = settings.cells(backend=("jax", "torch"), direction=(Direction.FPROP, Direction.WGRAD))
SENTENCE = "torch moves activations into another order of their dimensions: 40 % of the call."


def profile(of: Cell, **overrides: object) -> Profile:
    """A call of 1 ms, 40 % of which reorders activations where torch makes it."""
    moving = 4e5 if of.backend == "torch" else 1e4
    kernels = (
        builders.kernel(5e5), builders.kernel(moving, name="reorder", kind=Kind.REORDER, role=Role.ACTIVATION),
        builders.kernel(5e5 - moving, name="outside", kind=Kind.OUTSIDE, implementation="", level=0),
    )  # fmt: skip
    facts = {"plain_ns": 1e6, "watched_ns": 1e6, "effective_cores": 1.9, "trace": trace_name(of)}
    return builders.profile(of=of, kernels=kernels, **facts, **overrides)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run of four cells, of which three were profiled, and one before it, of which none was."""
    place = tmp_path_factory.mktemp("profiled")
    settings.run(place / "results", CELLS)
    later = {"id": "20260302-023000-small-bbbb", "started_at": builders.START + timedelta(days=1)}
    folder = settings.run(place / "results", CELLS, finished=False, **later)
    run = journal.read_run(folder)
    with journal.Journal(folder) as book:
        for cell in CELLS[:3]:
            book.append(profile(cell, run_id=run.id))
    (folder / "traces").mkdir()
    (folder / trace_name(CELLS[0])).write_bytes(gzip.compress(b"{}", mtime=0))
    journal.finish(folder, dataclasses.replace(run, finished_at=run.started_at + timedelta(seconds=60)))
    table.seal(folder)
    return place


def torch_cells() -> list[str]:
    return [str(cell) for cell in CELLS[:3] if cell.backend == "torch"]


def test_the_explanations_of_a_store_are_a_frame(place: Path) -> None:
    found = harness.explanations(place / "results")
    assert tuple(found.columns) == EXPLANATION_COLUMNS
    assert sorted(found["cell"]) == sorted(torch_cells())
    assert set(found["sentence"]) == {SENTENCE}
    assert set(found["remedy"]) == {"layout NHWC"}
    assert set(found["run_id"]) == {"20260302-023000-small-bbbb"}
    assert set(found["kernel"]) == {"brg_conv_fwd:avx512_core"}


def test_the_terminal_says_what_ran_and_why(place: Path) -> None:
    said = convbench(place, "show", "latest", "--explain")
    assert (said.returncode, said.stderr) == (0, "")
    assert said.stdout.count("brg_conv_fwd:avx512_core") == 3
    told = " ".join(said.stdout.split())  # lines are as wide as a terminal
    assert told.count(f"why {SENTENCE} In an example it was small or gone with layout NHWC.") == len(torch_cells())
    only = convbench(place, "show", "latest", "--explain", "-k", "torch", "--format", "csv").stdout
    rows = list(csv.DictReader(io.StringIO(only)))
    assert sorted(row["cell"] for row in rows) == sorted(torch_cells())
    assert tuple(rows[0]) == EXPLANATION_COLUMNS


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("20260301-023000-small-aaaa", "--explain"), "was profiled; convbench profile SUITE does that"),
        (("latest", "--explain", "--by", "mode"), "--explain: found beside another option"),
        (("latest", "--explain", "--sort", "cell"), "--explain: found beside another option"),
        (("latest", "--explain", "-k", "numpy"), "-k: fits none of 3 cells"),
    ],
)
def test_a_mistake_in_asking_is_told_in_a_line(place: Path, arguments: tuple[str, ...], told: str) -> None:
    said = convbench(place, "show", *arguments)
    assert (said.returncode, said.stdout) == (2, "")
    assert told in said.stderr
    assert len(said.stderr.splitlines()) == 1


def test_the_summary_names_the_kernel_of_a_run_that_was_profiled(place: Path) -> None:
    with_kernel = convbench(place, "show", "latest", "--format", "csv").stdout
    kernels = {row["cell"]: row["kernel"] for row in csv.DictReader(io.StringIO(with_kernel))}
    assert {cell for cell, kernel in kernels.items() if kernel == "brg_conv_fwd:avx512_core"} == {
        str(cell) for cell in CELLS[:3]
    }
    assert kernels[str(CELLS[3])] == ""
    without = convbench(place, "show", "20260301-023000-small-aaaa", "--format", "csv").stdout
    assert "kernel" not in without.splitlines()[0].split(",")


def test_the_page_has_it_with_the_trace_that_is_there(place: Path) -> None:
    made = pages.page(Reading(table.find(place / "results", "latest")))
    assert made.broken == ()
    assert f"<li>{SENTENCE} In an example it was small or gone with <b>layout NHWC</b>.</li>" in made.text
    assert "3 of 4 cells have a profile" in made.text
    assert made.text.count("<a download=") == 1
    assert "Trace of three calls: " not in made.text  # those of the other two are not in the store, and are not named
    assert "brg_conv_fwd:avx512_core" in made.rows
    without = pages.page(Reading(table.find(place / "results", "20260301-023000-small-aaaa"))).text
    assert 'id="what-ran"' not in without
