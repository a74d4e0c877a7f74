#!/usr/bin/env -S python3
"""Do the readers take any bytes? A coverage-guided fuzzer feeds them, and nothing may come out but a reading or a UserError.

    pip install atheris                                            (Python 3.11 to 3.13; it brings libFuzzer)
    python scripts/fuzz_readers.py suite                           ten minutes; also table, wire, journal, run, plan
    python scripts/fuzz_readers.py journal --seconds 60 --keep crashes/

It begins with the suites of this checkout and with a run that it makes. Bytes that end in another exception, in more than 20
seconds or in more than 2 GiB are kept as a file, and the exit code is not 0. `--again FILE` reads one such file.
"""

import argparse
import contextlib
import os
import shutil
import socket
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).parents[1]
BACKENDS = ("numpy", "torch", "tensorflow", "jax")
TIMEOUT_S, MEMORY_MB, LONGEST = 20, 2048, 16_384

Reader = Callable[[Path, bytes], None]


def suite(folder: Path, data: bytes) -> None:
    """A suite, planned for a machine without a GPU."""
    from harness.ask import planning, suite
    from harness.axes import Device

    path = folder / "fuzzed.toml"
    path.write_bytes(data)
    planning.plan(suite.load(path), dict.fromkeys(BACKENDS, (Device("cpu"),)), 0)


def table(folder: Path, data: bytes) -> None:
    """A table of shapes that a suite names."""
    from harness.ask import suite

    (folder / "shapes.csv").write_bytes(data)
    suite.load(folder / "of_table.toml")


def wire(folder: Path, data: bytes) -> None:
    """What a worker says, then hangs up."""
    from harness.isolate.wire import Channel, ClosedError, GarbledError, SilentError

    ours, theirs = socket.socketpair()
    channel = Channel(ours)
    with theirs:
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * LONGEST)
        theirs.sendall(data)
    with contextlib.closing(channel), contextlib.suppress(ClosedError, GarbledError, SilentError):
        for _ in range(data.count(b"\n") + 1):
            channel.receive(time.monotonic() + TIMEOUT_S / 2)


def journal(folder: Path, data: bytes) -> None:
    """The journal of a run: its rows, and the tables that are made from it."""
    from harness.store import journal, table

    (folder / "run" / journal.JOURNAL).write_bytes(data)
    journal.read(folder / "run")
    table.load(folder / "run")
    table.samples(folder / "run")


def run(folder: Path, data: bytes) -> None:
    """run.json."""
    from harness.store import journal

    (folder / "run" / journal.RUN).write_bytes(data)
    journal.read_run(folder / "run")


def plan(folder: Path, data: bytes) -> None:
    """plan.json, by which a run is resumed."""
    from harness.store import journal

    (folder / "run" / journal.PLAN).write_bytes(data)
    with contextlib.suppress(ValueError):  # which `execute.resume` turns into a UserError
        journal.read_plan(folder / "run")


READERS: dict[str, Reader] = {each.__name__: each for each in (suite, table, wire, journal, run, plan)}


def seeds(folder: Path) -> dict[str, list[bytes]]:
    """What each reader begins with; `folder` gets the files that stand beside what is fuzzed."""
    sys.path.insert(0, str(ROOT))
    import json

    from harness import codec
    from harness.ask import planning
    from harness.ask import suite as suites
    from harness.axes import Device
    from harness.isolate.wire import Done
    from harness.record import Status
    from harness.store import journal as journals
    from tests.builders import environment, failed, record, run

    made = journals.create(folder, run())
    made.rename(folder / "run")
    with journals.Journal(folder / "run") as book:
        for event in (environment(), record(), record(trial=1, order=1), failed(Status.OOM, "no memory", order=2)):
            book.append(event)
    lines = (folder / "run" / journals.JOURNAL).read_bytes()
    says = json.dumps({"kind": "Done", "body": codec.encode(Done(1, record()))}).encode() + b"\n"
    shapes = b"name,n,c,k,spatial,kernel,padding\nconv,1,3,8,16x16,3x3,same\n"
    (folder / "shapes.csv").write_bytes(shapes)
    head = '[suite]\nname = "of_table"\n[axes]\ndirection = ["fprop"]\nbackend = ["numpy"]\n'
    (folder / "of_table.toml").write_text(f'{head}[[workloads_from]]\ntable = "shapes.csv"\n')
    planned = planning.plan(suites.load(ROOT / "suites" / "smoke.toml"), dict.fromkeys(BACKENDS, (Device("cpu"),)), 0)
    tables = [path.read_bytes()[:LONGEST] for path in sorted((ROOT / "suites" / "shapes").glob("*.csv"))]
    return {
        "suite": [path.read_bytes() for path in sorted((ROOT / "suites").glob("*.toml"))],
        "table": [shapes, *tables],
        "wire": [says, says.replace(b"Done", b"Refused")],
        "journal": [lines],
        "run": [(folder / "run" / journals.RUN).read_bytes()],
        "plan": [codec.dumps(planned).encode()[:LONGEST], codec.dumps(planned).encode()],
    }


def main() -> None:
    """Feed one reader."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("reader", choices=READERS)
    parser.add_argument("--seconds", type=int, default=600, help="how long (600)")
    parser.add_argument("--keep", type=Path, default=Path("crashes"), help="where bytes go that end in anything else")
    parser.add_argument("--again", type=Path, help="read this file once, without the fuzzer")
    asked = parser.parse_args()
    reader = READERS[asked.reader]
    warnings.simplefilter("ignore")  # what is left out of a damaged store is said by warnings
    folder = Path(tempfile.mkdtemp(prefix="fuzz-readers-"))
    try:
        with contextlib.nullcontext() if asked.again else instrumented():
            begin = seeds(folder)[asked.reader]
            from harness.errors import UserError

        def one(data: bytes) -> None:
            with contextlib.suppress(UserError):
                reader(folder, data)

        if asked.again:
            one(asked.again.read_bytes())
            return
        fuzz(one, begin, asked.reader, asked.seconds, asked.keep)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def instrumented() -> contextlib.AbstractContextManager[None]:
    """While it is open, what is imported tells the fuzzer which lines run."""
    import atheris

    return atheris.instrument_imports(include=["harness", "json", "tomllib", "csv"])  # type: ignore[no-any-return]


def fuzz(one: Callable[[bytes], None], begin: list[bytes], name: str, seconds: int, keep: Path) -> None:
    """Run libFuzzer in a child, since it ends the process that it runs in; exit with its code."""
    import atheris

    corpus = Path(tempfile.mkdtemp(prefix="fuzz-corpus-"))
    keep.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(begin):
        (corpus / f"seed{number}").write_bytes(data)
    options = [
        f"-max_total_time={seconds}", f"-timeout={TIMEOUT_S}", f"-rss_limit_mb={MEMORY_MB}", f"-max_len={LONGEST}",
        f"-artifact_prefix={keep}/{name}-", "-print_final_stats=1",
    ]  # fmt: skip
    child = os.fork()
    if child == 0:
        atheris.Setup([sys.argv[0], *options, str(corpus)], one)
        atheris.Fuzz()
    _, status = os.waitpid(child, 0)
    shutil.rmtree(corpus, ignore_errors=True)
    code = os.waitstatus_to_exitcode(status)
    print(f"{datetime.now(UTC):%Y-%m-%d} {name}: {seconds} s, exit code {code}")
    if code:
        sys.exit(1)


if __name__ == "__main__":
    main()
