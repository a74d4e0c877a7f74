"""What is measured, how often and for how long, in this order. All of it is fixed here, before anything is measured.

No hour is chosen: a job begins when the one before it has ended and others leave the machine alone, and is made once, whatever
the hour was like. What others used meanwhile stands with its result.
"""

import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from scripts.certainty import axes, engines, issue, neighbours, programs
from scripts.certainty.place import FAILED, HERE, Place
from scripts.fidelity.clock import busy_processes

ROOT = HERE.parents[1]
ENGINE_RUNS = 3  # of either engine, in turns
EQUALS_RUNS, EQUALS_S = 10, 300.0  # of 24 pairs each
PLANTED_RUNS = 2
CHOSEN_ON = 5  # of the runs of equals choose the figure of a visit, and the others judge it
BESIDE_S = 210.0  # each, quiet and beside a busy process
NIGHTS = 10
FULL_TRIALS, TUNE_SHARE = 6, 0.22  # of its time, so that it ends within a quarter, its start included
KILLS = 200
ROUNDS = 50  # of visits after each other framework and after a rest, of four sizes each
ROUNDS_OF_PROGRAMS = tuple(f"programs-{number}" for number in range(1, programs.ROUNDS + 1))
SLOWER, WORKLOADS = 1.05, ("example", "rn50_res2_3x3", "rn50_res4_1x1", "grouped")  # all of equals.toml


class RefusedError(Exception):
    """A job that cannot be made, and why."""


@dataclass(frozen=True)
class Job:
    """One measurement. `make` does it in a folder of its own, and returns what is kept of it beside the runs that it leaves."""

    name: str
    minutes: float  # how long it is expected to take on two cores
    make: Callable[[Place], dict[str, Any]]
    after: str = ""  # the job that must be done before


def _old(place: Place, number: int) -> dict[str, Any]:
    python, suite = engines.old_engine(place.out / "old-engine")
    options = ["--quick", "-k", "example and fprop and not jax"] if place.tries else []
    place.convbench("run", suite, "--seed", str(number), *options, python=str(python))
    return {"run": place.run()}


def _new(place: Place, number: int) -> dict[str, Any]:
    took_s = done(place.out, f"old-{number}")["took_s"]
    place.convbench("run", HERE / "first-66.toml", *place.cut(took_s, "--seed", str(number)))
    return {"run": place.run()}


def _equals(place: Place, number: int) -> dict[str, Any]:
    place.convbench("run", HERE / "equals.toml", *place.cut(EQUALS_S, "--seed", str(number)))
    return {"run": place.run()}


def _planted(place: Place, number: int) -> dict[str, Any]:
    """PyTorch's equal is slowed by a wrapper, in all cells."""
    cells = [f"{workload}/{direction}/torch@b/" for workload in WORKLOADS for direction in ("fprop", "wgrad")]
    slowed = {"PYTHONPATH": str(ROOT), "TEST_SLOWDOWN_FACTORS": json.dumps(dict.fromkeys(cells, SLOWER))}
    options = place.cut(EQUALS_S, "--seed", str(1000 + number))
    asked = ["run", str(HERE / "equals.toml"), "--out", "store", "--no-report", "--no-ceilings", *options]
    place.started([sys.executable, "-P", str(HERE / "slowed.py"), *asked], slowed, good=(0, FAILED))
    return {"run": place.run()}


def _tables(place: Place, *arguments: str) -> dict[str, Any]:
    """What scripts/fidelity prints."""
    return {"lines": place.started([sys.executable, str(ROOT / "scripts" / "fidelity"), *arguments]).splitlines()}


def _clock(place: Place) -> dict[str, Any]:
    return _tables(place, "clock", *(["--rounds", "1"] if place.tries else []))


def _loops(place: Place) -> dict[str, Any]:
    return _tables(place, "frameworks", *(["--frameworks", "torch", "--pairs", "1", "--turns", "2"] if place.tries else []))


def _sampling(place: Place) -> dict[str, Any]:
    return _tables(place, "sampling", "--cells", "example/f" if place.tries else "example")


def _beside(place: Place, busy: int) -> dict[str, Any]:
    with busy_processes(busy, os.sched_getaffinity(0)):
        options = place.cut(BESIDE_S, "--backend", "torch,tensorflow,jax", tried="example and fprop")
        place.convbench("run", HERE / "equals.toml", *options)
    return {"run": place.run()}


def _nights(place: Place) -> dict[str, Any]:
    from harness.ask import suite

    try:
        suite.load(HERE / "standard.toml")
    except Exception as error:
        raise RefusedError(f"this engine knows no standard: {error}") from None
    # A night waits for a quiet machine, and is not measured on a busy one.
    few = ["run", "--trials", "1", "-k", "example and fprop and torch"] if place.tries else ["nightly", "--wait", "10m"]
    runs = []
    for _ in range(1 if place.tries else NIGHTS):
        asked = [sys.executable, "-P", "-m", "harness", *few, str(HERE / "standard.toml"), "--out", "store",
                 "--reports", "reports", "--no-report", "--no-ceilings"]  # fmt: skip
        place.started(asked, good=(0, 3, 4, FAILED))
        runs.append(place.run())
    return {"runs": runs}


def _full(place: Place) -> dict[str, Any]:
    trials = ["--quick", "-k", "dw and not dw_ and not jax and eager"] if place.tries else ["--trials", str(FULL_TRIALS)]
    place.convbench("run", HERE / "settings.toml", *trials)
    return {"run": place.run()}


def _tune(place: Place) -> dict[str, Any]:
    if not (ROOT / "harness" / "cli" / "tune.py").exists():
        raise RefusedError("this engine has no `convbench tune`")
    seconds = TUNE_SHARE * done(place.out, "full")["took_s"]
    options = place.cut(seconds, "--over", "layout,mode", "--format", "json", tried="dw and not dw_ and not jax")
    said = place.convbench("tune", HERE / "settings.toml", *options)
    return {"run": place.run(), "tuned": json.loads(said[said.index("[") :])}


def _kills(place: Place) -> dict[str, Any]:
    which = ["-k", "some_moment"] if place.tries else ["-m", "long", "-k", "two_hundred"]
    tests = [sys.executable, "-m", "pytest", "-q", "-s", "-p", "no:cacheprovider", "--rootdir", str(ROOT), "-c",
             str(ROOT / "pyproject.toml"), str(ROOT / "tests" / "test_kills.py"), *which]  # fmt: skip
    said = place.started(tests, {"PYTHONPATH": str(ROOT)}).splitlines()
    return {"lines": [line for line in said if "visits at the moment" in line or "passed" in line or "failed" in line]}


def _neighbours(place: Place) -> dict[str, Any]:
    return neighbours.measured(place.folder / "logs", *((1, 1) if place.tries else (ROUNDS,)))


def _programs(place: Place, number: int) -> dict[str, Any]:
    return {"pairs": list(programs.in_turns(place, done(place.out, "programs"), number))}


def _jobs() -> list[Job]:
    turns = [(f"{engine}-{number}", make, number) for number in range(1, ENGINE_RUNS + 1) for engine, make in
             (("old", _old), ("new", _new))]  # fmt: skip
    found = [
        Job(name, 5.5, partial(make, number=number), f"old-{number}" if make is _new else "") for name, make, number in turns
    ]
    found += [Job(f"equals-{number}", 5.5, partial(_equals, number=number)) for number in range(1, EQUALS_RUNS + 1)]
    found += [Job(f"planted-{number}", 5.5, partial(_planted, number=number)) for number in range(1, PLANTED_RUNS + 1)]
    return [
        *found,
        Job("clock", 7.0, _clock),
        Job("loops", 8.5, _loops),
        Job("sampling", 2.0, _sampling),
        Job("quiet", 4.0, partial(_beside, busy=0)),
        Job("busy", 4.0, partial(_beside, busy=1)),
        Job("neighbours", 9.0, _neighbours),
        Job("nights", 17.0, _nights),
        Job("full", 10.0, _full),
        Job("tune", 3.0, _tune, "full"),
        Job("kills", 30.0, _kills),
        Job("programs", 2.0, programs.written),
        *(Job(name, 3.0, partial(_programs, number=number), "programs") for number, name in enumerate(ROUNDS_OF_PROGRAMS)),
        *(Job(f"axis-{effect.name}", 0.8, partial(axes.measured, effect=effect)) for effect in axes.EFFECTS),
        Job("issue", 6.0, issue.made),
    ]


PARTS = ("certainty", "programs", "axes", "issue")  # of the report; each has marked sections of a page
JOBS = {job.name: job for job in _jobs()}


def done(out: Path, name: str) -> dict[str, Any]:
    """The result of a job that was made. Raises RefusedError where it was not."""
    path = out / name / "result.json"
    if not path.exists():
        raise RefusedError(f"{name} has to be made before")
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def is_done(out: Path, name: str) -> bool:
    """Whether it was made."""
    return (out / name / "result.json").exists()
