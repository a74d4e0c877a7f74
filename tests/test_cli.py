"""The command line: what is printed where, and the exit codes."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from tests.test_execute import CEILINGS, NO_CEILINGS, SUITE

TIMEOUT_S = 120


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A folder with one run in it, and what the command said."""
    folder = tmp_path_factory.mktemp("work")
    (folder / "suites").mkdir()
    (folder / "suites" / "tiny.toml").write_text(SUITE)
    (folder / "suites" / "ceilings.toml").write_text(NO_CEILINGS)
    return folder, convbench(folder, "run", "tiny", "--trials", "1", "--tag", "test")


def convbench(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": "/usr/bin:/bin", "TMPDIR": str(folder), "HOME": str(folder), "NO_COLOR": "1", **variables}
    return subprocess.run(
        [sys.executable, "-P", "-m", "harness", *arguments],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False,
    )  # fmt: skip


def test_a_run_prints_its_table_on_stdout_with_the_id_alone_on_the_last_line(measured) -> None:
    folder, said = measured
    assert said.returncode == 0, said.stderr
    lines = said.stdout.splitlines()
    assert (folder / "results" / "runs" / lines[-1] / "records.parquet").is_file()
    assert any(line.startswith("plain") and "fprop" in line for line in lines)
    assert "wall time" in said.stderr
    assert (folder / "reports" / lines[-1] / "report.html").is_file()
    assert "[6/6]" in said.stderr  # without a terminal one plain line per cell


def test_show_prints_the_same_run_in_every_format(measured) -> None:
    folder, _ = measured
    assert "plain/fprop/numpy" in convbench(folder, "show").stdout
    rows = json.loads(convbench(folder, "show", "latest", "--format", "json").stdout)
    assert len(rows) == 6
    assert all(row["median_ns"] > 0 for row in rows)
    csv = convbench(folder, "show", "--format", "csv", "--sort", "median_ns").stdout
    assert csv.splitlines()[0].startswith("run_id,suite,workload")
    assert convbench(folder, "show", "--by", "backend").stdout.count("numpy") == 1


def test_export_writes_what_other_programs_read(measured) -> None:
    folder, _ = measured
    said = convbench(folder, "export", "latest", "--to", "out/samples.parquet", "--what", "samples")
    assert said.returncode == 0, said.stderr
    assert set(pd.read_parquet(folder / "out" / "samples.parquet")["series"]) == {"latency"}


def test_report_is_built_again_from_what_is_stored(measured) -> None:
    folder, said = measured
    page = folder / "reports" / said.stdout.splitlines()[-1] / "report.html"
    before = page.read_bytes()
    assert convbench(folder, "report").returncode == 0
    assert page.read_bytes() == before


def test_a_dry_run_lists_the_cells_and_measures_nothing(measured) -> None:
    folder, _ = measured
    runs = list((folder / "results" / "runs").iterdir())
    said = convbench(folder, "run", "tiny", "--dry-run", "-k", "plain and wgrad")
    assert said.stdout.splitlines() == ["plain/wgrad/numpy/eager/cpu/fp32/nhwc/hot/t0"]
    assert "1 cells x 3 trials" in said.stderr
    assert list((folder / "results" / "runs").iterdir()) == runs


def test_any_axis_can_be_narrowed(measured) -> None:
    by_axis = convbench(measured[0], "run", "tiny", "--dry-run", "-a", "direction=wgrad,fprop", "-a", "workload=line")
    assert {line.split("/")[1] for line in by_axis.stdout.splitlines()} == {"wgrad", "fprop"}
    assert {line.split("/")[0] for line in by_axis.stdout.splitlines()} == {"line"}
    assert convbench(measured[0], "run", "tiny", "--dry-run", "--direction", "wgrad").stdout.count("wgrad") == 2


def test_an_interrupted_run_says_how_to_go_on_with_it(measured) -> None:
    folder, _ = measured
    command = [sys.executable, "-P", "-m", "harness", "run", "tiny", "--out", "cut", "--no-report"]
    environment = {"PATH": "/usr/bin:/bin", "TMPDIR": str(folder), "HOME": str(folder)}
    running = subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    with running:
        assert running.stderr is not None
        while not (line := running.stderr.readline()).startswith("[1/"):
            assert line, "it ended before its first cell"
        running.send_signal(signal.SIGINT)
        rest = running.stderr.read()
    assert running.returncode == 130
    assert "convbench run --resume latest" in rest
    assert convbench(folder, "run", "--resume", "latest", "--out", "cut", "--no-report").returncode == 0


def test_a_run_in_which_nothing_was_measured_fails(measured) -> None:
    said = convbench(measured[0], "run", "tiny", "--trials", "1", "-a", "device=gpu", "-k", "plain and fprop", "--no-report")
    assert said.returncode == 5
    assert "nothing was measured" in said.stderr
    assert "unsupported: numpy, 1 cell: numpy computes on the CPU only" in said.stdout


@pytest.fixture(scope="module")
def with_ceilings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose runs are joined by ceilings."""
    folder = tmp_path_factory.mktemp("ceilings")
    (folder / "suites").mkdir()
    (folder / "suites" / "tiny.toml").write_text(SUITE)
    (folder / "suites" / "ceilings.toml").write_text(CEILINGS)
    return folder


def test_ceilings_are_told_beside_the_table_and_shown_with_the_rest(with_ceilings: Path) -> None:
    said = convbench(with_ceilings, "run", "tiny", "--trials", "1", "-k", "plain and fprop")
    assert said.returncode == 0, said.stderr
    lines = said.stdout.splitlines()
    assert [line.split()[0] for line in lines if line.startswith(("plain", "product", "move"))] == ["plain"]
    assert any(line.startswith("best matrix product on cpu, fp32: ") and "product by numpy eager" in line for line in lines)
    assert any(line.startswith("best copy on cpu: ") and "move by numpy eager" in line for line in lines)
    shown = convbench(with_ceilings, "show").stdout
    assert "product/none/numpy" in shown
    assert "move/none/numpy" in shown
    rows = {row["workload"]: row for row in json.loads(convbench(with_ceilings, "show", "--format", "json").stdout)}
    assert rows["plain"]["ceiling_share"] > 0
    assert rows["product"]["ceiling_share"] is None


def test_ceilings_can_be_left_out_and_listed_before(with_ceilings: Path) -> None:
    asked = ("run", "tiny", "--dry-run", "-k", "plain and fprop")
    assert {line.split("/")[0] for line in convbench(with_ceilings, *asked).stdout.splitlines()} == {"plain", "product", "move"}
    assert convbench(with_ceilings, *asked, "--no-ceilings").stdout.count("\n") == 1
    assert "none" not in convbench(with_ceilings, "list", "cells", "tiny").stdout
    assert "gemm m64 n64 k64" in convbench(with_ceilings, "list", "workloads", "ceilings").stdout


def test_a_run_of_ceilings_alone_has_them_in_its_table(with_ceilings: Path) -> None:
    said = convbench(with_ceilings, "run", "ceilings", "--trials", "1", "--backend", "numpy", "--quick")
    assert said.returncode == 0, said.stderr
    assert any(line.startswith("product") and "none" in line for line in said.stdout.splitlines())


def test_lists(measured) -> None:
    folder, _ = measured
    assert "tiny" in convbench(folder, "list", "suites").stdout
    assert "resnet50" in convbench(folder, "list", "suites").stdout
    assert "n2 c2 k2 7 f3" in convbench(folder, "list", "workloads", "tiny").stdout
    assert len(convbench(folder, "list", "cells", "tiny").stdout.splitlines()) == 6


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("run", "tinny"), ["tinny", "tiny"]),
        (("run", "tiny", "--backend", "torhc"), ["torhc", "torch"]),
        (("run", "tiny", "-a", "mode"), ["-a", "mode", "axis=value"]),
        (("run", "tiny", "-a", "optimiser=sgd"), ["optimiser", "optimizer"]),
        (("run", "tiny", "-a", "direction=fprop", "--direction", "wgrad"), ["direction", "twice"]),
        (("run", "tiny", "-k", "nothing_like_it"), ["nothing_like_it"]),
        (("run",), ["name a suite", "first"]),
        (("run", "--resume", "latest", "--threads", "1"), ["--resume", "as it was planned"]),
        (("run", "--resume", "latest", "--no-ceilings"), ["--resume", "as it was planned"]),
        (("run", "--resume", "latest"), ["complete", "nothing is left"]),
        (("show", "latest~7"), ["latest~7"]),
        (("show", "--sort", "speed"), ["speed", "median_ns"]),
        (("export", "latest", "--to", "x.xlsx"), ["x.xlsx", ".csv"]),
        (("list", "cells"), ["name a suite"]),
    ],
)
def test_a_mistake_is_one_line_on_stderr_and_code_2(measured, arguments: tuple[str, ...], words: list[str]) -> None:
    said = convbench(measured[0], *arguments)
    assert said.returncode == 2
    assert said.stdout == ""
    assert said.stderr.startswith("convbench: ")
    assert len(said.stderr.splitlines()) == 1
    assert [word for word in words if word not in said.stderr] == [], said.stderr


def test_a_failed_cell_gives_code_5_and_its_reason(measured, tmp_path: Path) -> None:
    """A time limit that no cell can hold."""
    said = convbench(measured[0], "run", "tiny", "--trials", "1", "--timeout", "0.0001", "-k", "plain and fprop", "--no-report")
    assert said.returncode == 5, said.stderr
    assert "timeout: numpy, 1 cell: took longer than 0.0001 s" in said.stdout


def test_every_command_has_help_with_an_example(measured) -> None:
    for command in ("run", "list", "show", "export", "report"):
        assert "Example: convbench" in convbench(measured[0], command, "--help").stdout
