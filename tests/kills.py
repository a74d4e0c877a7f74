"""A run whose process kills itself at a chosen place, as SIGKILL from outside would: nothing is cleaned up."""

import functools
import itertools
import os
import shlex
import signal
import sys
import threading
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

from harness import drafts
from harness.backends import registry
from harness.execution import execute, host, profiles
from harness.isolate.process import Worker
from harness.profile import Profile
from harness.record import Environment, Record, Status, Visit
from harness.review import pages
from harness.store import journal, table
from tests.command import ROOT

MARK = "CONVBENCH_TEST_OF_KILLS"  # in the environment of whatever such a run starts

SUITE = """
[suite]
name = "tiny"
[axes]
direction = ["fprop", "wgrad"]
backend = ["numpy"]
[budget]
trials = 2
warmup_cpu_s = 0.0
warmup_calls = 1
visits = 3
visit_s = 0.001
[[workload]]
name = "plain"
n = 1
c = 2
k = 3
spatial = [5, 5]
kernel = [3, 3]
padding = "same"
"""
WATCHED = SUITE.replace('"fprop", "wgrad"', '"fprop", "dgrad", "wgrad"').replace("numpy", "watched")  # can be profiled


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def before(owner: Any, name: str, *, when: Callable[..., bool] = lambda *what, **more: True, then: Any = die) -> None:
    """Have it die on being called, where `when` says so of the arguments."""
    really = getattr(owner, name)

    @functools.wraps(really)
    def dying(*what: Any, **more: Any) -> Any:
        if when(*what, **more):
            then()
        return really(*what, **more)

    setattr(owner, name, dying)


def after(owner: Any, name: str, *, when: Callable[..., bool] = lambda *what, **more: True) -> None:
    """Have it die when it is about to return."""
    really = getattr(owner, name)

    @functools.wraps(really)
    def dying(*what: Any, **more: Any) -> Any:
        result = really(*what, **more)
        if when(*what, **more):
            die()
        return result

    setattr(owner, name, dying)


def named(name: str, nth: int = 1) -> Callable[..., bool]:
    """Whether the last of the arguments is a path of that name, for the nth time."""
    seen = []

    def asked(*what: Any, **more: Any) -> bool:
        if Path(what[-1]).name == name:
            seen.append(name)
        return len(seen) == nth and Path(what[-1]).name == name

    return asked


def event(order: int, status: Status = Status.OK) -> Callable[..., bool]:
    return lambda book, of: isinstance(of, Record) and (of.order, of.status) == (order, status)


def profile(nth: int) -> Callable[..., bool]:
    """Whether it is a profile, for the nth time."""
    seen = itertools.count(1)
    return lambda book, of: isinstance(of, Profile) and next(seen) == nth


def visit(turn: int, place: int) -> Callable[..., bool]:
    return lambda book, of: isinstance(of, Visit) and (of.turn, of.place) == (turn, place)


def part_of_a_line(keep: Callable[[bytes], bytes], *, start: bytes = b'{"record":', part: bytes = b'"order":2,') -> None:
    """Write so much of the third record, or of another line that begins so and has this part, and die."""

    class Dying:
        def __init__(self, file: Any) -> None:
            self.file = file

        def __getattr__(self, name: str) -> Any:
            return getattr(self.file, name)

        def write(self, line: bytes) -> int:
            if line.startswith(start) and part in line:
                os.write(self.file.fileno(), keep(line))
                die()
            return self.file.write(line)

    opened = journal.Journal.__init__

    def init(book: Any, folder: Any) -> None:
        opened(book, folder)
        book._file = Dying(book._file)

    journal.Journal.__init__ = init  # type: ignore[method-assign]


def child_is_killed() -> None:
    """The process that profiles is killed before it is asked for its second cell."""
    really, asked = Worker.watch, itertools.count(1)

    def watch(worker: Worker, *what: Any) -> Profile:
        if next(asked) == 2:
            os.kill(worker.process.pid, signal.SIGKILL)
        return really(worker, *what)

    Worker.watch = watch  # type: ignore[method-assign]


def ended_by_ctrl_c() -> None:
    """An interruption amid the visits of the second trial; then death amid the rows that say what was not run."""
    before(journal.Journal, "append", when=visit(4, 0), then=lambda: os.kill(os.getpid(), signal.SIGTERM))
    after(journal.Journal, "append", when=event(2, Status.NOT_RUN))


TURN = b'"turn":1,"place":1,'
PLACES: dict[str, Callable[[], None]] = {
    "the folder is made, and nothing is in it": lambda: after(
        Path, "mkdir", when=lambda path, *_, **__: path.name.startswith(".new-")
    ),
    "the plan is written, run.json is not": lambda: after(
        drafts, "write", when=lambda path, *_, **__: path.name == execute.PLAN
    ),
    "all is written, and the folder has not its name": lambda: after(journal, "_write_run"),
    "the run is there, without a journal": lambda: after(journal, "create"),
    "the journal is there, and empty": lambda: after(journal.Journal, "__init__"),
    "an environment is kept, no record": lambda: after(
        journal.Journal, "append", when=lambda book, of: isinstance(of, Environment)
    ),
    "half a line is written": lambda: part_of_a_line(lambda line: line[: len(line) // 2]),
    "a line is written without its end": lambda: part_of_a_line(lambda line: line[:-1]),
    "a line is written, and nobody told": lambda: after(journal.Journal, "append", when=event(1)),
    "the first visit is kept": lambda: after(journal.Journal, "append", when=visit(0, 0)),
    "half of a visit is written": lambda: part_of_a_line(lambda line: line[: len(line) // 2], start=b'{"visit":', part=TURN),
    "a visit is written without its end": lambda: part_of_a_line(lambda line: line[:-1], start=b'{"visit":', part=TURN),
    "a turn is kept in part": lambda: after(journal.Journal, "append", when=visit(1, 0)),
    "all visits of a trial are kept, and no record": lambda: after(journal.Journal, "append", when=visit(2, 1)),
    "one record of a trial is kept": lambda: after(journal.Journal, "append", when=event(0)),
    "some rows of what was not run are kept": ended_by_ctrl_c,
    "the last record is kept": lambda: before(execute._Measurement, "_seal"),
    "the journal is whole, run.json is not": lambda: before(journal, "finish"),
    "run.json has its last form under another name": lambda: before(Path, "replace", when=named(journal.RUN, 2)),
    "run.json is whole, and there is no table": lambda: before(table, "seal"),
    "a table is written under another name": lambda: before(Path, "replace", when=named("records.parquet")),
    "one of two tables is there": lambda: after(Path, "replace", when=named("records.parquet")),
    "the last table is written under another name": lambda: before(Path, "replace", when=named("samples.parquet")),
    "the run is sealed, and there is no page": lambda: before(pages, "publish"),
}
LINE = b'{"profile":'
OF_PROFILES: dict[str, Callable[[], None]] = {
    "every record is kept, and no profile": lambda: before(journal.Journal, "append", when=profile(1)),
    "half a profile is written": lambda: part_of_a_line(lambda line: line[: len(line) // 2], start=LINE, part=b""),
    "a profile is written without its end": lambda: part_of_a_line(lambda line: line[:-1], start=LINE, part=b""),
    "one profile is kept": lambda: after(journal.Journal, "append", when=profile(1)),
    "the last profile is kept": lambda: after(journal.Journal, "append", when=profile(3)),
    "no table of profiles is there": lambda: before(Path, "replace", when=named("kernels.parquet")),
    "one of two tables of profiles is there": lambda: before(Path, "replace", when=named("profiles.parquet")),
}
THE_CHILD = "the process that profiles is killed, and the run is not"


def find_watched() -> None:
    """Have commands and their workers find the scripted backend that can be profiled."""
    really, scripted = registry.metadata.entry_points, EntryPoint("watched", "tests.isolate.backends:Watched", registry.GROUP)

    def entry_points(**asked: Any) -> Any:
        found = really(**asked)
        return [*found, scripted] if asked.get("group") == registry.GROUP else found

    registry.metadata.entry_points = entry_points
    os.environ["PYTHONPATH"] = str(ROOT)


def convbench(folder: Path, arguments: list[str], place: str = "", profiled_s: float | None = None) -> None:
    """The command in this process, which was forked for it; what it prints is in `said`.

    It dies at that place, or after it has profiled for `profiled_s` seconds.
    """
    os.chdir(folder)
    os.environ |= {MARK: str(folder), host.VARIABLE: str(folder / "lock")}
    said = os.open("said", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for number in (1, 2):
        os.dup2(said, number)
    os.write(said, f"$ {shlex.join(arguments)}\n".encode())
    find_watched()
    if place:
        (PLACES | OF_PROFILES | {THE_CHILD: child_is_killed})[place]()
    if profiled_s is not None:
        timer = threading.Timer(profiled_s, die)
        timer.daemon = True
        before(profiles, "keep", then=timer.start)
    from harness.cli import main

    sys.argv = ["convbench", *arguments]
    main()
