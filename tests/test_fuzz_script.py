"""scripts/fuzz.py as people call it, on the numpy reference; its tables from rows of our own making."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from harness import load
from harness.axes import Direction, Layout
from harness.record import Check, Record, Status
from harness.spec import ConvSpec
from harness.store.frames import records_frame
from scripts import fuzz as script
from tests import builders

SCRIPT = script.__file__


def fuzz(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, SCRIPT, *arguments], capture_output=True, text=True, check=False, cwd=cwd
    )  # fmt: skip


def test_the_reference_agrees_with_itself_and_the_page_keeps_it(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- fuzz: begin -->\nold\n<!-- fuzz: end -->\nafter\n")
    done = fuzz("--seed", "3", "--count", "4", "-a", "backend=numpy", "-a", "layout=NHWC", "--write", str(page), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    records = load(tmp_path / "results")
    assert len(records) == 4 * 3
    assert set(records["status"]) == {"ok"}
    assert set(records["check_method"]) == {"exact+spot"}
    assert set(records["workload"]) == {f"seed3-{number:03}" for number in range(4)}
    table = "| numpy | eager | channels last | dgrad | 4 | 4 |\n"
    assert table in done.stdout
    assert "Every cell was exact." in done.stdout
    assert done.stdout.splitlines()[-1] == records["run_id"][0]
    text = page.read_text()
    assert text.startswith("before\n<!-- fuzz: begin -->\n| framework")
    assert text.endswith("<!-- fuzz: end -->\nafter\n")
    assert table in text
    assert "Seed 3, 4 convolutions" in text


def test_transposed_convolutions_too(tmp_path: Path) -> None:
    done = fuzz("--transposed", "--count", "6", "-a", "backend=numpy", "-a", "layout=NHWC", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    records = load(tmp_path / "results")
    assert set(records["status"]) == {"ok"}
    assert set(records["check_method"]) == {"exact+spot"}
    assert all(shape.startswith("transposed n") for shape in records["shape"])


def test_one_shape_by_its_descriptor(tmp_path: Path) -> None:
    shape = "n1 c4 k4 7x7 f3x3 p0-1x1"
    done = fuzz("--shape", shape, "-a", "backend=numpy", "-a", "direction=wgrad", "-a", "mode=compiled", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    told = "numpy | compiled | unsupported | numpy has no mode compiled | 2 | channels first, channels last | wgrad"
    assert f"| {told} | `{shape}` |" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--shape", "n1"], "'n1' describes no convolution"),
        (["--shape", "n1 c1 k1 2 f3"], "no output is left"),
        (["-a", "pass=wgrad"], 'axis: found "pass"'),
        (["-a", "direction"], '-a: found "direction"'),
        (["--count", "0"], "allowed: a seed from 0, a count from 1"),
        (["--seed", "-1"], "allowed: a seed from 0, a count from 1"),
    ],
)
def test_what_cannot_be_asked_is_one_line_and_exit_code_2(tmp_path: Path, arguments: list[str], told: str) -> None:
    done = fuzz(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert told in done.stderr.splitlines()[-1]
    assert not (tmp_path / "results").exists()


def row(shape: str, status: Status = Status.OK, reason: str = "", method: str = "exact+spot", **axes: Any) -> Record:
    cell = builders.cell(spec=ConvSpec.parse(shape), **{"layout": Layout.CHANNELS_LAST, **axes})
    if status is Status.OK:
        return builders.record(of=cell, check=Check(True, method, 0.0, 1.0))
    return builders.failed(status, reason, of=cell)


def frame(*rows: Record) -> pd.DataFrame:
    return records_frame(rows, [builders.environment()], "fuzz")


def test_tables_count_outcomes_and_put_alike_ones_together() -> None:
    lines = script.tables(frame(
        row("n1 c4 k4 9x9 f3x3"),
        row("n1 c4 k4 9x9 f3x3", method="spot"),
        row("n1 c8 k4 9x9 f3x3 d2x2", Status.ERROR, "got 12 | want 3.5e-7", direction=Direction.WGRAD),
        row("n1 c4 k4 9x9 f3x3 d2x2", Status.ERROR, "got 7 | want 1", direction=Direction.DGRAD, layout=Layout.CHANNELS_FIRST),
        row("n1 c4 k4 9x9 f3x3 d2x2", Status.ERROR, "another", direction=Direction.DGRAD),
    ))  # fmt: skip
    assert lines[0] == "| framework | mode | layout | pass | cells | exact | right, not to the last bit | error |"
    assert "| torch | eager | channels last | fprop | 2 | 1 | 1 | 0 |" in lines
    assert "| torch | eager | channels first | dgrad | 1 | 0 | 0 | 1 |" in lines
    assert (
        "| torch | eager | error | got 7 \\| want 1 | 2 | channels first, channels last | dgrad, wgrad "
        "| `n1 c4 k4 9x9 f3x3 d2x2` | 2-D, batch of 1, dilated |"
    ) in lines
    assert sum("another" in line for line in lines) == 1
    assert sum("right, not to the last bit | – | 1" in line for line in lines) == 1
    assert len(lines) == 2 + 4 + 1 + 2 + 3


@pytest.mark.parametrize(
    ("status", "code"), [(Status.INCORRECT, 5), (Status.CRASHED, 5), (Status.TIMEOUT, 5), (Status.UNSUPPORTED, 0)]
)
def test_what_failed_is_in_the_exit_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], status: Status, code: int
) -> None:
    rows = frame(row("n1 c4 k4 9x9 f3x3"), row("n1 c4 k4 9x9 f3x3", status, "why"))
    monkeypatch.setattr("harness.execution.execute.execute", lambda *asked, **more: builders.run())
    monkeypatch.setattr("harness.store.table.load", lambda path: rows)
    monkeypatch.setattr(sys, "argv", ["fuzz"])
    assert script.main() == code
    assert f"| {status} | why |" in capsys.readouterr().out
