"""`tune`: a whole race with scripted times, what it prints in every format, and what is told where nothing can be tuned."""

import io
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from typer.testing import CliRunner

import harness
from harness import doctor
from harness.cli import app
from harness.columns import TUNED_COLUMNS
from harness.errors import SelectionError
from harness.execution import host
from harness.isolate import launcher
from harness.plan import Plan
from harness.record import Environment, Record, Status
from harness.review.reading import Reading
from harness.store import journal, table
from tests import builders
from tests.command import convbench
from tests.execution.test_execute import CEILINGS, NO_CEILINGS, SUITE

TUNED = SUITE.replace('backend = ["numpy"]', 'backend = ["torch", "jax"]').replace(
    '"fprop", "wgrad", "train"', '"fprop", "wgrad"'
)
FACTORS = {"NHWC eager": 1.0, "NCHW eager": 0.5, "NHWC compiled": 3.0, "NCHW compiled": 0.1}  # the last is wrong


def times(record: Record) -> list[int]:
    """Blocks of a scripted call: its setting's factor; PyTorch's two fastest settings cannot be told apart in wgrad."""
    cell = record.cell
    setting = f"{cell.layout_text[:2] + 'HW' if cell.layout_text[1] == 'C' else 'NHWC'} {cell.mode}"
    factor = FACTORS[setting]
    if cell.backend == "torch" and cell.direction == "wgrad" and cell.mode == "eager":
        factor = 1 + 0.2 * (zlib.crc32(f"{setting} {record.trial}".encode()) % 100 / 100)
    return [round(100_000 * factor * (1 + 0.002 * (place % 3 - 1))) for place in range(30)]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a suite, a lock of its own, and cells that take no time."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "suites").mkdir()
    (tmp_path / "suites" / "tiny.toml").write_text(TUNED)
    (tmp_path / "suites" / "ceilings.toml").write_text(NO_CEILINGS)
    monkeypatch.setenv(host.VARIABLE, str(tmp_path / "lock"))
    monkeypatch.setattr(doctor, "urgent", lambda out, threads=None: ())

    def cells(of: launcher.Launcher, plan: Plan, visits: object) -> Iterator[Record | Environment]:
        yield builders.environment()
        for step in plan:
            where = {"trial": step.trial, "order": step.order, "of": step.cell, "run_id": of.run_id}
            if (step.cell.layout_text[1], str(step.cell.mode)) == ("C", "compiled"):
                yield builders.failed(Status.INCORRECT, "dw is off", **where)
            else:
                yield builders.record(times(builders.record(**where)), **where)

    monkeypatch.setattr(launcher.Launcher, "execute", cells)
    return tmp_path


def tune(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["tune", *arguments])


def test_a_race_drops_what_is_slower_keeps_the_default_and_says_what_is_best(place: Path) -> None:
    said = tune("tiny", "--no-report", "--trials", "7")
    assert said.exit_code == 5, said.output  # for the wrong results
    folder = table.find(Path("results"), "latest")
    assert said.stdout.splitlines()[-1] == folder.name
    run = journal.read_run(folder)
    assert journal.read_plan(folder).tuned == run.tuned  # so that one that is resumed races alike
    assert (run.tags, run.tuned, run.most_trials) == (("tune",), {"layout": "NHWC", "mode": "eager"}, 7)
    found = Reading(folder).tuned.set_index(["workload", "direction", "backend"])
    sure = found.loc[("plain", "fprop", "torch")]
    assert (sure["setting"], sure["choice"], sure["failed"]) == ("NCHW eager", "best", "NCHW compiled: incorrect")
    assert sure["gain"] == pytest.approx(2, rel=0.01)
    assert found.loc[("line", "fprop", "jax"), "setting"] == "NCW eager"
    unsure = found.loc[("plain", "wgrad", "torch")]
    assert unsure["choice"] == "undecided"
    assert unsure["dropped"] == "NHWC compiled: 4 trials"
    trials = table.load(folder).groupby("cell")["trial"].nunique()
    told = {cell: count for cell, count in trials.items() if cell.startswith("plain/wgrad/torch")}
    assert sorted(told.values()) == [4, 4, 7, 7]
    assert trials["plain/wgrad/torch/eager/cpu/fp32/nhwc/hot/t0"] == 7
    assert trials["plain/fprop/torch/eager/cpu/fp32/nhwc/hot/t0"] == 4
    text = " ".join(said.stdout.split())
    assert "dropped after 4 trials: NHWC compiled in 1, NWC compiled in 1" in text
    assert "incorrect: torch, 4 cells: dw is off" in text
    assert "time of the default (NHWC eager) over" in text


def test_the_frame_stands_alone_on_standard_output_in_other_formats(place: Path) -> None:
    said = tune("tiny", "--no-report", "--trials", "4", "--format", "csv", "--direction", "fprop")
    frame = pd.read_csv(io.StringIO(said.stdout))
    assert tuple(frame.columns) == TUNED_COLUMNS
    assert len(frame) == 4
    assert "results: " in said.stderr
    rows = json.loads(tune("tiny", "--no-report", "--trials", "4", "--format", "json", "-k", "plain and torch").stdout)
    assert {row["setting"] for row in rows} >= {"NCHW eager"}


def test_the_page_shows_the_best_settings_and_the_frame_is_there_in_python(place: Path) -> None:
    tune("tiny", "--trials", "4", "--direction", "fprop")
    folder = table.find(Path("results"), "latest")
    page = (place / "reports" / folder.name / "report.html").read_text()
    assert "Best settings" in page
    assert "NCW eager" in page
    found = harness.tuned(harness.load(folder))
    assert tuple(found.columns) == TUNED_COLUMNS
    assert found.attrs["networks"] == []
    shown = CliRunner().invoke(app, ["show", "latest", "--tuned"])
    assert "NCW eager" in shown.stdout


def test_a_run_that_is_no_tuning_has_no_best_settings(place: Path) -> None:
    CliRunner().invoke(app, ["run", "tiny", "--trials", "1", "--no-report"])
    with pytest.raises(SelectionError, match="is no tuning"):
        harness.tuned(harness.load())
    assert isinstance(CliRunner().invoke(app, ["show", "latest", "--tuned"]).exception, SelectionError)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("tiny", "--over", "layuot"), 'convbench: --over: found "layuot"; did you mean "layout"?'),
        (("tiny", "--over", "mode", "--backend", "numpy"), "convbench: --over mode: found eager: nothing to choose from"),
        (("ceilings",), 'convbench: suite "ceilings": holds no convolution'),
        (("tiny", "--over", "threads", "--threads", "1"), "convbench: --threads: found beside --over threads"),
    ],
)
def test_what_cannot_be_tuned_is_one_line_and_exit_code_2(tmp_path: Path, arguments: tuple[str, ...], told: str) -> None:
    (tmp_path / "suites").mkdir()
    (tmp_path / "suites" / "tiny.toml").write_text(TUNED)
    (tmp_path / "suites" / "ceilings.toml").write_text(CEILINGS)
    said = convbench(tmp_path, "tune", *arguments)
    assert (said.returncode, said.stdout) == (2, "")
    assert said.stderr.startswith(told)
    assert said.stderr.count("\n") == 1


def test_a_short_tuning_in_real_processes(tmp_path: Path) -> None:
    (tmp_path / "suites").mkdir()
    (tmp_path / "suites" / "tiny.toml").write_text(TUNED)
    arguments = ("tiny", "--over", "layout", "--backend", "torch", "-k", "plain and fprop", "--trials", "2", "--threads", "1")
    said = convbench(tmp_path, "tune", *arguments, "--no-ceilings", "--no-report")
    assert said.returncode == 0, said.stderr
    (row,) = harness.tuned(harness.load(tmp_path / "results")).to_dict("records")
    assert row["setting"] in ("NHWC", "NCHW")
    assert (row["choice"], row["failed"]) == ("undecided", "")
    assert row["gain"] > 0
