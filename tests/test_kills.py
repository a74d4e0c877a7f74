"""A run is killed, at chosen places between two writes and at random moments: no record is lost, and it can be resumed."""

import contextlib
import random
import time
from collections import Counter
from collections.abc import Iterator
from multiprocessing.process import BaseProcess
from pathlib import Path

import psutil
import pytest

from harness.store import journal, table
from tests import kills
from tests.command import TIMEOUT_S, forked
from tests.execution.test_execute import NO_CEILINGS

RUN = ["run", "tiny"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "suites").mkdir()
    (tmp_path / "suites" / "tiny.toml").write_text(kills.SUITE)
    (tmp_path / "suites" / "ceilings.toml").write_text(NO_CEILINGS)
    return tmp_path


def started(folder: Path, *arguments: str, place: str = "") -> BaseProcess:
    return forked(kills.convbench, folder, list(arguments), place)


def ended(process: BaseProcess, folder: Path) -> int | None:
    """The exit code, once nothing that it started is left."""
    process.join(TIMEOUT_S)
    left = [other for other in psutil.process_iter() if marked(other, folder) and other.pid != process.pid]
    _, alive = psutil.wait_procs(left, timeout=30)  # whose parent was killed: the kernel ends them
    assert alive == []
    return process.exitcode


def marked(process: psutil.Process, folder: Path) -> bool:
    with contextlib.suppress(psutil.Error):
        return process.environ().get(kills.MARK) == str(folder)
    return False


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[set[tuple[int, str]], float]:
    """The cells of a run that nobody kills, and how long it takes."""
    folder = tmp_path_factory.mktemp("undisturbed")
    for where in ("suites",):
        (folder / where).mkdir()
    (folder / "suites" / "tiny.toml").write_text(kills.SUITE)
    (folder / "suites" / "ceilings.toml").write_text(NO_CEILINGS)
    ended(started(folder, *RUN, "--no-report"), folder)
    began = time.monotonic()
    assert ended(started(folder, *RUN, "--no-report"), folder) == 0
    took_s = time.monotonic() - began
    run = table.find(folder / "results", "latest")
    assert [record.order for record in journal.read(run)[0]] == [0, 1, 2, 3]
    assert {order: len(visits) for order, visits in journal.scan(run).visits.items()} == dict.fromkeys(range(4), 3)
    return cells(run), took_s


def cells(run: Path) -> set[tuple[int, str]]:
    rows = table.load(run)
    return set(zip(rows["trial"], rows["cell"], strict=True))


def visits(run: Path) -> dict[tuple[int, int, int, int], tuple[int, ...]]:
    """The blocks of each visit, by order, process, turn and place."""
    made = [visit for of_step in journal.scan(run).visits.values() for visit in of_step]
    found = {(visit.order, visit.process, visit.turn, visit.place): visit.series[0].block_ns for visit in made}
    assert len(found) == len(made)
    return found


def whole_lines(run: Path) -> list[bytes]:
    """The lines of a journal that are finished: the last one may lack its end."""
    return [line for _, line in journal._lines(run / journal.JOURNAL)]


def gone_on_with(folder: Path, undisturbed, *options: str) -> None:
    """Resume what was killed, or run it anew where there was no run yet.

    All that it had is there, unchanged, and sealed; the samples are those of every visit that was kept, and of no other.
    """
    runs = list((folder / "results" / "runs").glob("[!.]*"))
    kept = whole_lines(runs[0]) if runs else []
    before = visits(runs[0]) if runs else {}
    again = ["run", "--resume", str(runs[0])] if runs else RUN
    said = ended(started(folder, *again, *options), folder), (folder / "said").read_text()
    assert said[0] == 0, said[1]
    (run,) = list((folder / "results" / "runs").glob("[!.]*"))
    assert (run / journal.JOURNAL).read_bytes().split(b"\n")[: len(kept)] == kept
    records, _ = journal.read(run)
    measured = [record.order for record in records if record.status == "ok"]
    assert (cells(run), sorted(measured)) == (undisturbed[0], [0, 1, 2, 3])
    assert set(table.load(run)["status"]) == {"ok"}
    made = visits(run)
    assert before.items() <= made.items()
    samples = table.samples(run).astype({"process": int, "turn": int, "place": int})
    of_order = {(record.trial, str(record.cell)): record.order for record in records}
    told = samples.groupby(["trial", "cell", "process", "turn", "place"])["block_ns"].agg(tuple)
    assert {(of_order[key[:2]], *key[2:]): blocks for key, blocks in told.items()} == made
    numbers = Counter(order for order, *_ in made)
    assert set(numbers.values()) <= {3, 4}  # beside one that was missing in the turn that was cut off
    if new := set(made) - set(before):
        assert min((turn for _, _, turn, _ in new), default=0) > max((turn for _, _, turn, _ in before), default=-1)
        assert {process for _, process, *_ in new}.isdisjoint(process for _, process, *_ in before)
    assert journal.read_run(run).finished_at
    for kind in (table._RECORDS, table._SAMPLES):
        assert table._sealed(table.Stored(run, journal.read_run(run)), kind) is not None
    assert {path.name for path in run.iterdir()} == {
        "run.json", "plan.json", "journal.jsonl", "records.parquet", "samples.parquet", "logs",
    }  # fmt: skip


@pytest.mark.fault(
    "kill -9 at any of two dozen places between two writes of a run",
    "no visit and no record is lost, `--resume` makes an equal run of it, no process and no draft is left",
)
@pytest.mark.parametrize("place", kills.PLACES)
def test_a_run_that_is_killed_between_two_writes_loses_nothing_and_can_be_gone_on_with(
    folder: Path, undisturbed, place: str
) -> None:
    options = () if "page" in place else ("--no-report",)
    assert ended(started(folder, *RUN, *options, place=place), folder) == -9, (folder / "said").read_text()
    gone_on_with(folder, undisturbed, *options)
    if "page" in place:
        assert len(list((folder / "reports").glob("*/report.html"))) == 1


def random_moments(folder: Path, undisturbed, count: int) -> Iterator[int]:
    """So many runs, each killed at a moment of its own; how many visits each had."""
    chance = random.Random(f"{count} kills")
    for number in range(count):
        here = folder / f"{number}"
        here.mkdir()
        (here / "suites").symlink_to(folder / "suites")
        process = started(here, *RUN, "--no-report")
        process.join(chance.uniform(0, undisturbed[1]))
        process.kill()
        assert ended(process, here) in (-9, 0)
        runs = list((here / "results" / "runs").glob("[!.]*"))
        yield sum(b'"visit"' in line[:9] for line in whole_lines(runs[0])) if runs else 0
        gone_on_with(here, undisturbed, "--no-report")


@pytest.mark.fault(
    "kill -9 of a run at some moment",
    "no visit and no record is lost, and `--resume` makes an equal run of it",
)
def test_a_run_that_is_killed_at_some_moment_loses_nothing(folder: Path, undisturbed) -> None:
    assert len(list(random_moments(folder, undisturbed, 5))) == 5


@pytest.mark.fault(
    "kill -9 of a run at 200 moments",
    "no visit and no record is lost, and `--resume` makes an equal run of each",
)
@pytest.mark.long
def test_a_run_that_is_killed_at_any_of_two_hundred_moments_loses_nothing(folder: Path, undisturbed) -> None:
    had = list(random_moments(folder, undisturbed, 200))
    print("visits at the moment of death:", {count: had.count(count) for count in sorted(set(had))})
    assert len(set(had)) > 3  # they fell on different stages


@pytest.mark.fault(
    "kill -9 before a run is there",
    "what is left is no run to anybody, and is removed an hour later by another",
)
def test_what_is_left_of_a_run_that_had_not_begun_is_not_seen_and_not_kept(folder: Path, undisturbed) -> None:
    """Its folder has not its name yet; an hour later a run in the same store removes it."""
    for place in list(kills.PLACES)[:3]:
        assert ended(started(folder, *RUN, place=place), folder) == -9
    left = list((folder / "results" / "runs").iterdir())
    assert len(left) == 3
    assert table.runs(folder / "results") == []
    for path in left:
        kills.os.utime(path, (time.time() - 4000,) * 2)
    gone_on_with(folder, undisturbed, "--no-report")
    assert len(list((folder / "results" / "runs").iterdir())) == 1
