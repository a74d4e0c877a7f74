"""What leaves for the terminal: any path, any terminal, any text of others, and a reader that goes."""

import dataclasses
import io
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from harness import cli
from harness.cli import console, terminal
from harness.errors import UserError
from harness.record import Status
from harness.store import journal
from tests import builders, stored
from tests.command import started
from tests.execution.test_execute import NO_CEILINGS, SUITE

LATIN = os.fsdecode(b"caf\xe9")  # a path that is no UTF-8
EVIL = "a [bold]b[/] [/] \x1b[31mred\x1b[0m\x1b]0;title\x1b\\ \x9b2J\r\ud800:smile: [link=file:///etc/passwd]x[/link]"
SHOWN = "[bold]b[/] [/] red"  # of it, what may be seen
STORE = "night-15:30"
ROOT = Path(__file__).parents[2]

Command = Callable[..., tuple[int, bytes, bytes]]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]) -> Command:
    """Runs a command as `main` does, with streams of an encoding: exit code, and the bytes of both streams."""

    def run(*arguments: str, encoding: str = "utf-8") -> tuple[int, bytes, bytes]:
        monkeypatch.setattr(sys, "argv", ["convbench", *arguments])
        for name, descriptor in (("stdout", 1), ("stderr", 2)):
            monkeypatch.setattr(sys, name, io.TextIOWrapper(io.FileIO(descriptor, "wb", closefd=False), encoding))
        with pytest.raises(SystemExit) as ended:
            cli.main()
        sys.stdout.flush()
        sys.stderr.flush()
        out, err = capfdbinary.readouterr()
        return int(ended.value.code or 0), out, err

    return run


def evil(store: Path) -> None:
    """A run whose texts are those of somebody who wishes us ill, as a foreign store may hold it."""
    environment = builders.environment(cpu=EVIL, packages={"torch": EVIL})
    run = builders.run(tags=(EVIL,), environments=(environment,), command=EVIL, description=EVIL)
    folder = journal.create(store, run)
    with journal.Journal(folder) as book:
        book.append(builders.failed(Status.ERROR, EVIL))
        book.append(builders.record(of=builders.cell(workload=EVIL, backend="jax"), order=1))
        book.append(environment)
    journal.finish(folder, dataclasses.replace(run, finished_at=builders.START))


def harmless(text: bytes) -> bool:
    return not any(byte < 0x20 and byte != 0x0A for byte in text) and "\x9b" not in text.decode(errors="replace")


@pytest.mark.fault("a store's name has a colon, markup or bytes that are no UTF-8", "every command works")
@pytest.mark.parametrize("name", [STORE, f"s3:{LATIN} [/]"])
def test_every_command_takes_a_store_of_any_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    stored.nights(Path(name), 3)
    assert (Path(name) / "runs" / "20260301T023000-small-0000" / "records.parquet").is_file()
    where = ("--out", name)
    for arguments in (
        ("list", "runs"), ("show",), ("show", "--format", "csv"), ("report", "--reports", f"{name}/reports"),
        ("export", "latest", "--to", f"{name}/all.parquet"), ("export", "latest", "--to", f"{name}/all.csv"),
        ("history", stored.SLOW), ("prune", "--older-than", "0d"), ("show", f"{name}/runs/20260302T023000-small-0001"),
        ("ack", stored.SLOW, "--reason", "known"), ("compare", "latest~1", "latest"),
    ):  # fmt: skip
        code, _, err = command(*arguments, *where)
        assert (code, b"Traceback" in err, b"left out" in err) == (0, False, False), (arguments, err)
    for made in ("all.parquet", "all.csv", "reports/index.html"):
        assert (Path(name) / made).stat().st_size


@pytest.mark.fault("folder, suite and locale are no UTF-8", "a run and a night are measured")
def test_a_run_and_a_night_are_measured_into_such_stores(tmp_path: Path) -> None:
    place = tmp_path / LATIN
    (place / "suites").mkdir(parents=True)
    (place / "suites" / f"{LATIN}.toml").write_text(SUITE)
    (place / "suites" / "ceilings.toml").write_text(NO_CEILINGS)
    narrow = ("-k", "plain and fprop", "--trials", "1", "--out", STORE)
    for start in (("run", f"suites/{LATIN}.toml", "--tag", "a[/]b"), ("nightly", LATIN, "--wait", "0s")):
        said = started(place, *start, *narrow, LC_ALL="C", PYTHONUTF8="0", PYTHONCOERCECLOCALE="0")
        # A night judges, or on a busy machine is not measured: either way it ends by its own code, and no path is in its way.
        assert said.returncode in ((0,) if start[0] == "run" else (0, 4, 5)), said.stderr
        assert "Traceback" not in said.stderr
    assert len(list((place / STORE / "runs").glob("*/records.parquet"))) == 2


@pytest.mark.fault("the terminal is ASCII or latin-1", "readable text stands for what it lacks")
@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_without_our_characters_gets_readable_ones(tmp_path: Path, command: Command, encoding: str) -> None:
    stored.nights(tmp_path, 2)
    for arguments in (
        ("show",),
        ("show", "--side-by-side"),
        ("show", "--by", "backend"),
        ("compare", "latest~1", "latest"),
        ("list", "runs"),
    ):
        code, out, err = command(*arguments, "--out", str(tmp_path), encoding=encoding)
        assert (code, b"Traceback" in err) == (0, False)
        told = out.decode(encoding)
        assert "?" not in told
        assert "ms" in told or arguments[0] == "list" or "time over it" in told
    assert "+/- " in command("show", "--out", str(tmp_path), encoding="ascii")[1].decode()


@pytest.mark.fault("a stored text holds escapes, markup or half a surrogate pair", "it is shown as it is and steers nothing")
@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_what_others_wrote_is_shown_as_it_is_and_steers_nothing(tmp_path: Path, command: Command, encoding: str) -> None:
    evil(tmp_path / "store")
    for arguments in (
        ("list", "runs"),
        ("show",),
        ("show", "--side-by-side"),
        ("compare", "latest", "latest"),
    ):
        code, out, err = command(*arguments, "--out", str(tmp_path / "store"), encoding=encoding)
        assert (code, harmless(out), harmless(err)) == (0, True, True), (arguments, err)
        assert SHOWN in " ".join(out.decode().split()) or arguments[0] == "compare"
        assert b":smile:" in out


@pytest.mark.fault("CSV or JSON holds escapes", "programs get it as it is stored, a terminal without escapes")
def test_data_goes_to_a_program_as_it_is_and_to_a_terminal_without_escapes(tmp_path: Path, command: Command) -> None:
    evil(tmp_path / "store")
    asked = ("show", "--format", "csv", "--out", str(tmp_path / "store"))
    assert b"\x1b[31m" in command(*asked)[1]
    far, near = pty.openpty()
    os.dup2(near, 1)
    code, _, _ = command(*asked)
    assert code == 0
    seen = b""
    while b"latency" not in seen and SHOWN.encode() not in seen:
        seen += os.read(far, 2**16)
    assert harmless(seen.replace(b"\r\n", b"\n"))
    os.close(far)
    os.close(near)


@pytest.mark.fault("a message has several lines and escapes", "it is one harmless line")
def test_a_message_is_one_line_without_escapes(monkeypatch: pytest.MonkeyPatch, command: Command) -> None:
    def wrong(*_: object) -> None:
        raise UserError(f"first\nsecond {EVIL}")

    monkeypatch.setattr("harness.store.table.find", wrong)
    code, out, err = command("show", "latest")
    assert (code, out, err.count(b"\n"), harmless(err)) == (2, b"", 1, True)
    assert err.startswith(b"convbench: first second a [bold]b[/]")


@pytest.mark.fault("an argument or a tag is wrong", "one line says so, exit code 2")
@pytest.mark.parametrize(
    "arguments", [("show", "--no-such"), ("shw",), ("run", "smoke", "--trials", "x"), ("compare", "latest")]
)
def test_what_is_wrong_with_the_arguments_is_one_line_too(command: Command, arguments: tuple[str, ...]) -> None:
    code, out, err = command(*arguments)
    assert (code, out, err.count(b"\n")) == (2, b"", 1)
    assert err.startswith(b"convbench")


def test_without_a_command_the_help_is_shown(command: Command) -> None:
    code, out, err = command()
    assert (code, b"Usage: convbench" in out + err) == (2, True)


LISTINGS = [
    ("list", "suites"), ("list", "runs"), ("show",), ("show", "--format", "json"),
    ("history", stored.SLOW), ("prune", "--dry-run"), ("--help",), ("list", "cells", "first"),
]  # fmt: skip


@pytest.mark.fault("the reader of a listing goes (`| head`)", "the command ends quietly with its own code")
@pytest.mark.parametrize("arguments", LISTINGS, ids=" ".join)
def test_a_reader_that_goes_ends_a_listing_quietly(tmp_path: Path, command: Command, arguments: tuple[str, ...]) -> None:
    stored.nights(tmp_path, 2)
    reading, writing = os.pipe()
    os.close(reading)
    os.dup2(writing, 1)
    os.close(writing)
    where = () if arguments[0] == "--help" else ("--out", str(tmp_path))
    code, _, err = command(*arguments, *where)
    assert (code, b"Traceback" in err, b"Broken" in err) == (0, False, False)


SAYING = """
import sys, typer
from harness.cli import terminal
terminal.take_over()
for number in range(50):
    print("x" * 1000)
    print("y" * 1000, file=sys.stderr)
    typer.echo("echo", err=True)
    sys.stdout.flush()
open("end", "w").write(f"{number}")
"""


def ran(folder: Path, shell: str, code: str = SAYING) -> subprocess.CompletedProcess[str]:
    (folder / "saying.py").write_text(code)
    return subprocess.run(
        ["bash", "-c", shell, "bash", sys.executable, "saying.py"],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip


@pytest.mark.parametrize(
    "shell",
    [
        '"$@" | head -1; exit ${PIPESTATUS[0]}',
        '"$@" 2>&1 | head -1; exit ${PIPESTATUS[0]}',
        '"$@" 2> >(head -1 >&2) >/dev/null',
        '"$@" >&-',
        '"$@" 2>&- >/dev/null',
        '"$@" <&- >&- 2>&-',
    ],
)
def test_a_reader_that_is_gone_ends_nothing_and_nothing_is_said_of_it(tmp_path: Path, shell: str) -> None:
    said = ran(tmp_path, shell)
    assert said.returncode == 0, said.stderr
    assert (tmp_path / "end").read_text() == "49"
    assert [word for word in ("Error", "Traceback", "Exception") if word in said.stderr] == []


def test_one_stream_that_is_gone_does_not_silence_the_other(tmp_path: Path) -> None:
    said = ran(tmp_path, '"$@" 2> >(head -1 >/dev/null)')
    assert said.stdout.count("x" * 1000) == 50


def test_no_file_gets_the_number_of_a_stream_that_was_closed(tmp_path: Path) -> None:
    code = "from harness.cli import terminal\nterminal.take_over()\nopen('end', 'w').write(str(open('saying.py').fileno()))"
    assert ran(tmp_path, '"$@" <&- >&- 2>&-', code).returncode == 0
    assert int((tmp_path / "end").read_text()) > 2


def test_a_full_disk_is_told_once(tmp_path: Path, command: Command) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, 1)
    os.close(full)
    code, _, err = command("list", "suites")
    assert (code, err) == (2, b"convbench: standard output: No space left on device\n")


@pytest.mark.fault("a standard stream is non-blocking, and its reader behind", "it is waited for, and all of the text arrives")
def test_a_reader_that_is_behind_is_waited_for() -> None:
    reads, writes = os.pipe()
    os.set_blocking(writes, False)
    text = b"x" * 2**20  # more than a pipe holds
    with ThreadPoolExecutor() as pool, open(reads, "rb") as reader:
        with terminal._Descriptor(writes, "wb") as stream:
            left, lengths = memoryview(text), []
            lengths.append(stream.write(left))  # the pipe is full
            left, got = left[lengths[0] :], pool.submit(reader.read)
            while left:
                lengths.append(stream.write(left))
                left = left[lengths[-1] :]
        assert got.result(timeout=60) == text
    assert min(lengths) > 0


@pytest.mark.fault("a standard stream is closed", "nothing ends for that")
def test_a_closed_stream_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    terminal.take_over()
    assert sys.stdout.write("x") == 1
    sys.stdout.close()


def test_the_version_is_told_by_name_and_nothing_heavy_is_loaded(command: Command) -> None:
    code, out, _ = command("--version")
    assert code == 0
    assert out.startswith(b"convbench 0.1.0 (method version ")


def test_a_table_cell_is_no_markup_and_a_text_is_one_line(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    from rich.table import Table

    written = io.StringIO()
    monkeypatch.setattr(sys, "stdout", written)
    table = Table("head [bold]")
    table.add_row("[/] [red]x\x1b[1m")
    printer = console.stdout()
    printer.print(table)
    printer.print("one\ntwo :smile:")
    assert "head [bold]" in written.getvalue()
    assert "[/] [red]x " in written.getvalue()
    assert "one two :smile:\n" in written.getvalue()
