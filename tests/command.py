"""The command line in processes of its own, each forked from one that has imported all that the commands need.

An interpreter takes a second and more to import pandas, Matplotlib and the rest, and a test may give many commands. The tests
that are about the start of an interpreter, its signals or its streams start one.
"""

import gc
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import chdir
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from harness.execution import host

TIMEOUT_S = 120
ROOT = Path(__file__).parents[1]  # the code beside these tests is tested, wherever another copy is installed
CONVBENCH = (sys.executable, "-P", "-m", "harness")
# The frameworks are not among them: a process that has started their threads cannot be forked.
IMPORTED = (
    "harness.cli", "harness.cli.console", "harness.cli.progress", "harness.cli.tables", "harness.doctor",
    "harness.nights.nightly", "harness.nights.notify", "harness.nights.retention", "harness.page.html", "harness.page.sections",
    "harness.page.index", "harness.review.comparing", "harness.review.pages", "harness.store.exchange",
    "harness.store.published", "harness.store.pytest_json", "matplotlib.backends.backend_svg", "pyarrow.parquet", "pynvml",
    "rich.live", "scipy.stats", "seaborn", "tests.command", "tests.kills",
)  # fmt: skip
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(list(IMPORTED))


def forked(function: Callable[..., None], *arguments: Any) -> BaseProcess:
    """A process that calls the function and ends."""
    with chdir(ROOT):  # where the first one finds what is to be imported
        forkserver.ensure_running()
    process = FORKS.Process(target=function, args=arguments)
    process.start()
    return process


def environment(folder: Path, **variables: str) -> dict[str, str]:
    """The environment of a command whose home and lock are in that folder."""
    places = {host.VARIABLE: str(folder / "lock"), "HOME": str(folder), "PYTHONPATH": str(ROOT)}
    return {"PATH": "/usr/bin:/bin", "NO_COLOR": "1", **places, **variables}


def convbench(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """What a command that was given in that folder printed, and its exit code: -9 where it took longer than TIMEOUT_S."""
    (out, of_out), (err, of_err) = FORKS.Pipe(duplex=False), FORKS.Pipe(duplex=False)
    process = forked(_main, folder, arguments, environment(folder, **variables), of_out, of_err)
    of_out.close()
    of_err.close()
    with out, err, ThreadPoolExecutor(2) as pool:
        said = pool.map(_text, (out, err))
        process.join(TIMEOUT_S)
        process.kill()
        stdout, stderr = said
    process.join()
    return subprocess.CompletedProcess(arguments, process.exitcode, stdout, stderr)


def started(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """The same of a command that an interpreter was started for."""
    return subprocess.run(
        [*CONVBENCH, *arguments], cwd=folder, env=environment(folder, **variables),
        capture_output=True, text=True, timeout=TIMEOUT_S, check=False,
    )  # fmt: skip


def _text(said: Connection) -> str:
    with open(said.fileno(), encoding="utf-8", closefd=False) as file:
        return file.read()


def _main(folder: Path, arguments: Sequence[str], variables: Mapping[str, str], out: Connection, err: Connection) -> None:
    """What the process does: `convbench`, whose streams are those pipes."""
    gc.freeze()  # a collection would look through all that was imported, and copy it
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(variables)
    for number, name, pipe in ((1, "stdout", out), (2, "stderr", err)):
        os.dup2(pipe.fileno(), number)
        pipe.close()
        setattr(sys, name, open(number, "w", encoding="utf-8", closefd=False))  # noqa: SIM115  for as long as the process lives
    from harness.cli import main

    sys.argv = ["convbench", *arguments]
    main()
