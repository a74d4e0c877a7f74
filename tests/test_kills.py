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

from harness.profile import TRACES
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


def started(folder: Path, *arguments: str, place: str = "", profiled_s: float | None = None) -> BaseProcess:
    return forked(kills.convbench, folder, list(arguments), place, profiled_s)


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


# While it is profiled -----------------------------------------------------------------------------------------------------

PROFILED = [*RUN, "--profile", "--no-report"]


@pytest.fixture
def watched(folder: Path) -> Path:
    """The folder whose suite is of three cells that can be profiled."""
    (folder / "suites" / "tiny.toml").write_text(kills.WATCHED)
    return folder


def the_run(folder: Path) -> Path:
    (run,) = (folder / "results" / "runs").glob("[!.]*")
    return run


def profiled_on(folder: Path) -> int:
    """Resume a run that was killed while it was profiled; how many profiles it had.

    They are there, unchanged, and each of the other cells has one now; nothing is timed again, and no draft is left.
    """
    run = the_run(folder)
    kept, before = whole_lines(run), journal.scan(run)
    code = ended(started(folder, "run", "--resume", str(run), "--no-report"), folder)
    assert code == 0, (folder / "said").read_text()
    assert (run / journal.JOURNAL).read_bytes().split(b"\n")[: len(kept)] == kept
    found, had = journal.scan(run), len(before.profiles)
    assert found.records == before.records
    assert found.profiles[:had] == before.profiles
    assert Counter(str(profile.cell) for profile in found.profiles) == dict.fromkeys(table.load(run)["cell"], 1)
    assert [profile.problem for profile in found.profiles] == [""] * 3
    assert {path.name for path in (run / TRACES).iterdir()} == {Path(profile.trace).name for profile in found.profiles}
    of = table.Stored(run, journal.read_run(run))
    for kind in table._OF_PROFILES:
        assert set(table._sealed(of, kind)["cell"]) == set(table.load(run)["cell"])
    return had


@pytest.mark.fault(
    "kill -9 at any of seven places between two writes while a run is profiled",
    "no record and no profile is lost, `--resume` makes the others and times nothing again, no process and no draft is left",
)
@pytest.mark.parametrize(("place", "had"), list(zip(kills.OF_PROFILES, (0, 0, 1, 1, 3, 3, 3), strict=True)))
def test_a_run_that_is_killed_while_it_is_profiled_loses_the_profile_that_was_made(
    watched: Path, place: str, had: int
) -> None:  # fmt: skip
    assert ended(started(watched, *PROFILED, place=place), watched) == -9, (watched / "said").read_text()
    assert profiled_on(watched) == had


def moments_of_profiling(watched: Path, count: int) -> Iterator[int]:
    """So many runs, each killed at a moment of its own once it is profiled; how many profiles each had."""
    assert ended(started(watched, *PROFILED), watched) == 0, (watched / "said").read_text()
    took_s = (
        1 + sum(profile.spent_ns for profile in journal.scan(the_run(watched)).profiles) / 1e9
    )  # 1 s until there is a child
    chance = random.Random(f"{count} kills of profiles")
    for number in range(count):
        here = watched / f"{number}"
        here.mkdir()
        (here / "suites").symlink_to(watched / "suites")
        process = started(here, *PROFILED, profiled_s=chance.uniform(0, took_s))
        assert ended(process, here) in (-9, 0)
        yield profiled_on(here)


@pytest.mark.fault(
    "kill -9 of a run at some moment of its profiling",
    "no record and no profile that it had is lost, and `--resume` makes the others",
)
def test_a_run_that_is_killed_at_some_moment_of_its_profiling_loses_nothing_else(watched: Path) -> None:
    assert len(list(moments_of_profiling(watched, 3))) == 3


@pytest.mark.fault(
    "kill -9 of a run at 60 moments of its profiling",
    "no record and no profile that it had is lost, and `--resume` makes the others",
)
@pytest.mark.long
def test_a_run_that_is_killed_at_any_of_sixty_moments_of_its_profiling_loses_nothing_else(watched: Path) -> None:
    had = list(moments_of_profiling(watched, 60))
    print("profiles at the moment of death:", {count: had.count(count) for count in sorted(set(had))})
    assert len(set(had)) > 1  # they fell on different stages


@pytest.mark.fault(
    "kill -9 of the process that profiles", "its cell has no profile and says why, the run ends well, `--resume` makes it"
)
def test_a_child_that_is_killed_costs_the_profile_of_its_cell(watched: Path) -> None:
    assert ended(started(watched, *PROFILED, place=kills.THE_CHILD), watched) == 0, (watched / "said").read_text()
    run = the_run(watched)
    made = journal.scan(run).profiles
    assert [profile.problem for profile in made] == ["", "crashed: killed by SIGKILL", ""]
    assert set(table.load(run)["status"]) == {"ok"}
    assert ended(started(watched, "run", "--resume", str(run), "--no-report"), watched) == 0
    *before, last = journal.scan(run).profiles
    assert (before, last.cell, last.problem) == (made, made[1].cell, "")


def of_workloads(folder: Path, *names: str) -> Path:
    """The folder whose suite has the same convolution under these names, which say what its child does, in one direction."""
    head, _, workload = kills.WATCHED.partition("[[workload]]")
    head = head.replace('"fprop", "dgrad", "wgrad"', '"fprop"').replace("visit_s", "timeout_s = 3\nvisit_s")
    parts = [head, *(workload.replace('"plain"', f'"{name}"') for name in names)]
    (folder / "suites" / "tiny.toml").write_text("[[workload]]".join(parts))
    return folder


def problems(run: Path) -> dict[str, str]:
    """Why cells have no profile, by workload; empty for those that have one."""
    return {profile.cell.workload: profile.problem for profile in journal.scan(run).profiles}


@pytest.mark.fault(
    "kill -9 of the process that profiles while it writes a trace", "that profile is lost alone, and no draft is left"
)
def test_a_child_that_is_killed_amid_its_trace_leaves_no_draft(folder: Path) -> None:
    of_workloads(folder, "plain", "torn")
    assert ended(started(folder, *PROFILED), folder) == 0, (folder / "said").read_text()
    run = the_run(folder)
    assert problems(run) == {"plain": "", "torn": "crashed: killed by SIGKILL in the watched calls"}
    assert [path.suffix for path in (run / TRACES).iterdir()] == [".gz"]


@pytest.mark.fault(
    "processes that profile crash, hang, are killed and break, in one run",
    "each costs the profile of its cell, which says why; the run ends well, and shows that",
)
@pytest.mark.long
def test_a_run_whose_children_crash_hang_are_killed_or_break_ends_well(folder: Path) -> None:
    of_workloads(folder, "plain", "crash", "hang", "killed", "breaks", "last")
    assert ended(started(folder, *PROFILED), folder) == 0, (folder / "said").read_text()
    run = the_run(folder)
    assert set(table.load(run)["status"]) == {"ok"}
    found = {
        "plain": "", "last": "", "hang": "timeout: took longer than 6 s and was ended in the watched calls",
        "crash": "crashed: killed by SIGSEGV in the watched calls; last output: about to fall over",
        "killed": "crashed: killed by SIGKILL in the watched calls",
        "breaks": "RuntimeError: CUDA error: an illegal memory access was encountered",
    }  # fmt: skip
    assert problems(run) == found
    assert ended(started(folder, "show", "--kernels"), folder) == 0
    said = " ".join((folder / "said").read_text().split("$ ")[-1].split())
    assert [problem for problem in found.values() if problem not in said] == []
