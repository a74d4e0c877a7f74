"""What commands write, and where: whole files at places that a user named, and nothing outside of them."""

import io
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from harness.cli import transfer
from harness.errors import SelectionError
from harness.review import pages
from harness.review.reading import Reading
from harness.store import journal, table
from tests import stored
from tests.command import CONVBENCH, convbench, environment


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with three nights in its store."""
    stored.nights(tmp_path / "results", 3)
    return tmp_path


@pytest.mark.fault("an export goes to /dev/stdout", "it is written there")
def test_export_writes_to_standard_output_and_over_an_old_file(place: Path) -> None:
    said = convbench(place, "export", "latest", "--format", "csv", "--to", "/dev/stdout")
    assert said.returncode == 0, said.stderr
    assert said.stdout.startswith("run_id,suite,")
    assert len(said.stdout.splitlines()) == 1 + 6 + 1
    (place / "out.csv").write_text("old")
    assert convbench(place, "export", "latest", "--to", "out.csv").returncode == 0
    assert (place / "out.csv").read_text().replace("\n\n", "\n") in said.stdout.replace("\r", "")
    assert sorted(path.name for path in place.iterdir()) == ["out.csv", "results"]


@pytest.mark.fault("an export goes to -", "it is standard output, and no file of that name is made")
def test_a_dash_is_standard_output(place: Path) -> None:
    for format in ("csv", "json"):
        said = convbench(place, "export", "latest", "--format", format, "--to", "-")
        assert (said.returncode, said.stderr) == (0, "")
        assert convbench(place, "export", "latest", "--to", f"all.{format}").returncode == 0
        assert said.stdout == (place / f"all.{format}").read_text()
    command = [*CONVBENCH, "export", "latest", "--format", "parquet", "--to", "-"]
    said = subprocess.run(command, cwd=place, check=True, env=environment(place), capture_output=True)
    assert len(pd.read_parquet(io.BytesIO(said.stdout))) == 6
    assert said.stderr == b""
    unnamed = convbench(place, "export", "latest", "--to", "-")
    assert (unnamed.returncode, unnamed.stdout) == (2, "")
    assert unnamed.stderr == "convbench: --to: found -; allowed: a name that ends in .csv, .json or .parquet, or --format\n"
    assert sorted(path.name for path in place.iterdir()) == ["all.csv", "all.json", "results"]


@pytest.mark.parametrize(("command", "option"), [(("profile", "smoke"), "--trace"), (("nightly", "smoke"), "--junit")])
def test_what_is_beside_other_lines_goes_to_no_standard_output(place: Path, command: tuple[str, ...], option: str) -> None:
    said = convbench(place, *command, option, "-")
    assert (said.returncode, said.stdout) == (2, "")
    assert said.stderr == f"convbench: {option}: found -; allowed: a file, since other lines go to standard output\n"
    assert [path.name for path in place.iterdir()] == ["results"]


class Terminal(io.TextIOWrapper):
    """A terminal that keeps what is written to it."""

    def isatty(self) -> bool:
        return True


def test_no_parquet_is_written_to_a_terminal(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", Terminal(shown))
    with pytest.raises(SelectionError, match=r"^--to: found - for parquet, and standard output is a terminal; allowed: a file"):
        transfer.export(["latest"], Path("-"), place / "results", transfer.ExportFormat.PARQUET)
    assert shown.getvalue() == b""


def test_a_redirected_standard_output_stays_the_file_that_it_is(place: Path) -> None:
    command = [*CONVBENCH, "export", "latest", "--format", "csv", "--to", "/dev/stdout"]
    with (place / "out").open("w") as file:
        file.write("before\n")
        file.flush()
        subprocess.run(command, stdout=file, cwd=place, check=True, env=environment(place))
        assert (place / "out").stat().st_ino == Path(f"/proc/self/fd/{file.fileno()}").stat().st_ino


@pytest.mark.fault("a report of a foreign run is written", "it stands under the folder of reports and nowhere else")
def test_a_report_is_written_under_the_reports_and_nowhere_else(place: Path) -> None:
    outside = place / "outside"
    outside.mkdir()
    folder = table.find(place / "results", "latest")
    (folder / journal.RUN).write_text((folder / journal.RUN).read_text().replace(folder.name, "../outside/x"))
    said = convbench(place, "report", folder.name)
    assert said.returncode == 2
    assert "run.json is damaged: id: found '../outside/x'" in said.stderr
    assert list(outside.iterdir()) == []
    assert not (place / "reports").exists()


@pytest.mark.fault("a link stands in the place of a report", "one line refuses it")
def test_a_link_in_the_place_of_a_report_is_not_written_through(place: Path) -> None:
    folder, elsewhere = table.find(place / "results", "latest"), place / "elsewhere"
    elsewhere.mkdir()
    (place / "reports").mkdir()
    (place / "reports" / folder.name).symlink_to(elsewhere)
    said = convbench(place, "report", "latest")
    assert (said.returncode, said.stdout) == (2, "")
    assert said.stderr == f"convbench: reports/{folder.name} is a link, and is not written through\n"
    assert list(elsewhere.iterdir()) == []


@pytest.mark.fault("the disk fills while a page is written", "the old page stays")
def test_pages_are_whole_or_as_they_were(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = table.find(place / "results", "latest")
    made = pages.publish(Reading(folder), place / "reports")
    before = {path: path.read_bytes() for path in (place / "reports").rglob("*") if path.is_file()}
    assert len(before) == 5
    outside = place / "outside"
    outside.write_text("mine")
    for path in before:
        path.unlink()
        path.symlink_to(outside)
    pages.publish(Reading(folder), place / "reports")
    assert outside.read_text() == "mine"
    assert {path: path.read_bytes() for path in before} == before

    def full(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(Path, "replace", full)
    for write in (
        lambda: pages.publish(Reading(folder), place / "reports"),
        lambda: pages.report(table.load(folder), made.path),
    ):
        with pytest.raises(OSError, match="no space"):
            write()
    assert {path: path.read_bytes() for path in (place / "reports").rglob("*") if path.is_file()} == before


@pytest.mark.fault("a damaged store holds terminal escapes", "one line names it, and nothing raw is printed")
def test_what_is_left_out_is_one_line_on_stderr_and_nothing_raw_reaches_the_terminal(place: Path) -> None:
    folder = table.find(place / "results", "latest")
    (folder / journal.RUN).write_text('{"\x1b[31m": 1}')
    (place / "results" / "runs" / "evil\x1b[31m\nname").mkdir()
    for command in (("list", "runs"), ("show", "latest"), ("compare", "latest~1", "latest")):
        said = convbench(place, *command)
        told = [line for line in said.stderr.splitlines() if "run.json is damaged" in line]
        assert told[0].startswith(f"convbench: left out: results/runs/{folder.name}/run.json is damaged: "), said.stderr
        assert len(set(told)) == len(told)
        assert "\x1b" not in said.stderr
        assert "UserWarning" not in said.stderr
        assert "2026030" in said.stdout or "two/fprop" in said.stdout
