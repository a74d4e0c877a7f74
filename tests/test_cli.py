"""The command line: what is printed where, and the exit codes."""

import dataclasses
import json
import re
import shlex
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pandas as pd
import pytest
from typer.testing import CliRunner

from harness import doctor
from harness.axes import Direction
from harness.cli import app, progress
from harness.columns import BESIDE_COLUMNS, COMPARISON_COLUMNS
from harness.doctor import Finding, Severity
from harness.spec import ConvSpec
from harness.store import journal, published, table
from tests import builders
from tests.command import CONVBENCH, TIMEOUT_S, convbench, environment, started
from tests.execution.test_execute import CEILINGS, NO_CEILINGS, SUITE
from tests.store.test_pytest_json import document


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """A folder with one run in it, and what the command said, for which an interpreter was started."""
    folder = tmp_path_factory.mktemp("work")
    (folder / "suites").mkdir()
    (folder / "suites" / "tiny.toml").write_text(SUITE)
    (folder / "suites" / "ceilings.toml").write_text(NO_CEILINGS)
    return folder, started(folder, "run", "tiny", "--trials", "1", "--tag", "test")


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
    which, *lines = convbench(folder, "show", "--side-by-side").stdout.splitlines()
    assert which.startswith(table.find(folder / "results", "latest").name)
    assert sum("numpy" in line for line in lines) == 1


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
    assert "1 cell x 3 trials" in said.stderr
    assert list((folder / "results" / "runs").iterdir()) == runs


def test_any_axis_can_be_narrowed(measured) -> None:
    by_axis = convbench(measured[0], "run", "tiny", "--dry-run", "-a", "direction=wgrad,fprop", "-a", "workload=line")
    assert {line.split("/")[1] for line in by_axis.stdout.splitlines()} == {"wgrad", "fprop"}
    assert {line.split("/")[0] for line in by_axis.stdout.splitlines()} == {"line"}
    assert convbench(measured[0], "run", "tiny", "--dry-run", "--direction", "wgrad").stdout.count("wgrad") == 2


@pytest.mark.fault(
    "the reader of a run goes (`2>&1 | head`)",
    "it is measured and reported, with its own code",
)
def test_a_run_that_nobody_reads_to_the_end_is_measured_and_reported(measured) -> None:
    folder, _ = measured
    command = "run tiny --trials 1 -k fprop --out unread --reports unread/reports"
    shell = f"{shlex.join(CONVBENCH)} {command} 2>&1 | head -1; exit ${{PIPESTATUS[0]}}"
    said = subprocess.run(
        ["bash", "-c", shell], cwd=folder, env=environment(folder), capture_output=True, text=True, check=False
    )
    assert (said.returncode, said.stderr) == (0, "")
    assert len(said.stdout.splitlines()) == 1
    assert_reported(folder / "unread")


@pytest.mark.fault("the disk that standard output goes to is full", "the run is measured and reported, it says so, code 2")
def test_a_run_whose_output_cannot_be_written_is_measured_and_reported(measured) -> None:
    folder, _ = measured
    options = ["--trials", "1", "-k", "fprop", "--out", "f", "--reports", "f/reports"]
    with open("/dev/full", "w") as full:
        said = subprocess.run(
            [*CONVBENCH, "run", "tiny", *options], cwd=folder, env=environment(folder),
            stdout=full, stderr=subprocess.PIPE, text=True, check=False, timeout=TIMEOUT_S,
        )  # fmt: skip
    assert said.returncode == 2
    assert said.stderr.splitlines()[-1] == "convbench: standard output: No space left on device"
    assert_reported(folder / "f")


def assert_reported(store: Path) -> None:
    """The one run of a store has ended and has its page."""
    (run,) = table.runs(store)
    assert run.finished_at
    assert (store / "reports" / run.id / "report.html").is_file()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_says_how_to_go_on_with_it(measured, number: signal.Signals) -> None:
    folder, _ = measured
    command = [*CONVBENCH, "run", "tiny", "--out", "cut", "--no-report"]
    # A shell that puts the tests into the background leaves them deaf to SIGINT, and what they start inherits that.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        running = subprocess.Popen(
            command, cwd=folder, env=environment(folder), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
    finally:
        signal.signal(signal.SIGINT, before)
    with running:
        assert running.stderr is not None
        while not (line := running.stderr.readline()).startswith("[1/"):
            assert line, "it ended before its first cell"
        running.send_signal(number)
        rest = running.stderr.read()
    assert running.returncode == 130
    (resume,) = re.findall(r"convbench (run --resume cut/runs/\S+) resumes it", rest)
    assert convbench(folder, *resume.split(), "--no-report").returncode == 0


def test_a_run_in_which_nothing_was_measured_fails(measured) -> None:
    said = convbench(measured[0], "run", "tiny", "--trials", "1", "-a", "device=gpu", "-k", "plain and fprop", "--no-report")
    assert said.returncode == 5
    assert "nothing was measured" in said.stderr
    assert "unsupported: numpy, 1 cell: numpy computes on the CPU only" in said.stdout


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with scripted runs: `base`, `slow`, a fifth slower, and `same`; then one of equals, told apart by 1 %."""
    folder = tmp_path_factory.mktemp("stored")
    runs = {"base": [1.0, 1.0, 1.0], "slow": [1.2, 1.2, 1.2], "same": [1.001, 0.999, 1.001]}
    for day, (name, factors) in enumerate(runs.items(), start=1):
        store(folder, f"2026030{day}-000000-{name}", {"torch": factors})
    store(folder, "20260304-000000-equal", {"torch": [1.0] * 3, "torch@aa": [1.01, 0.99, 1.01]}, tags=("aa",))
    return folder


def store(folder: Path, id: str, factors: dict[str, list[float]], **overrides: Any) -> None:
    """A sealed run whose trials take that times 1 ms, give or take 1 us."""
    run = builders.run(id, environments=(builders.environment(),), **overrides)
    path = journal.create(folder / "results", run)
    with journal.Journal(path) as book:
        for backend, trials in factors.items():
            for trial, factor in enumerate(trials):
                blocks, of = [round(1e6 * factor) + 1000 * trial] * 30, builders.cell(backend=backend)
                book.append(builders.record(blocks, trial=trial, order=trial, of=of, run_id=id))
        book.append(builders.environment())
    journal.finish(path, dataclasses.replace(run, finished_at=builders.START))
    table.seal(path)


def test_compare_ends_with_4_where_a_cell_is_slower_and_names_the_noise(stored: Path) -> None:
    said = convbench(stored, "compare", "20260301", "20260302")
    assert said.returncode == 4, said.stderr
    assert "1.20× (1.20 to 1.20)" in said.stdout
    assert said.stderr.splitlines() == ["1 slower", "A/A noise of run 20260304-000000-equal"]
    faster = convbench(stored, "compare", "20260302", "20260301")
    assert (faster.returncode, "faster" in faster.stdout) == (0, True)
    same = convbench(stored, "compare", "20260301", str(stored / "results" / "runs" / "20260303-000000-same"))
    assert (same.returncode, "no change" in same.stdout) == (0, True)


def test_compare_prints_every_format(stored: Path) -> None:
    def said(format: str) -> str:
        return convbench(stored, "compare", "20260301", "20260302", "--format", format).stdout

    (row,) = json.loads(said("json"))
    assert row["verdict"] == "slower"
    assert row["ratio"] == pytest.approx(1.2, abs=1e-3)
    assert said("csv").splitlines()[0].split(",") == list(COMPARISON_COLUMNS)
    assert said("md").splitlines()[0] == f"| {' | '.join(COMPARISON_COLUMNS)} |"
    case = ElementTree.fromstring(said("junit").encode())[0][0]
    assert case.get("name") == "conv/fprop/torch/eager/cpu/fp32/nchw/hot/t0"
    assert case[0].tag == "failure"
    assert case[0].get("message") == "slower: 1.20× (1.20 to 1.20); not profiled"


def test_without_an_aa_run_compare_says_how_to_get_one(stored: Path) -> None:
    runs = [str(stored / "results" / "runs" / run) for run in ("20260301-000000-base", "20260302-000000-slow")]
    other = stored / "other"
    (other / "results").mkdir(parents=True)
    for run in runs:
        shutil.copytree(run, other / "results" / "runs" / Path(run).name)
    said = convbench(other, "compare", "latest~1", "latest")
    assert said.returncode == 0
    assert said.stderr.splitlines()[-1] == "no A/A noise is known for this machine: convbench run SUITE --aa"
    assert "uncertain" in said.stdout


# At n=1 DeepBench's inference has this convolution, at n=8 and 16 its training: forward and backward.
LAYER = ConvSpec(
    n=1, c=512, k=512, spatial=(7, 7), kernel=(3, 3), stride=(1, 1), dilation=(1, 1), padding=((1, 1), (1, 1))
)  # fmt: skip


@pytest.fixture(scope="module")
def scaled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run of a layer of DeepBench at n=1, 1 ms a call, and of one that nobody has published."""
    folder = tmp_path_factory.mktemp("scaled")
    path = journal.create(folder / "results", builders.run(environments=(builders.environment(),)))
    with journal.Journal(path) as book:
        for direction in (Direction.FPROP, Direction.WGRAD):
            of = builders.cell(workload="layer", spec=LAYER, direction=direction)
            book.append(builders.record([1_000_000] * 30, of=of))
        book.append(builders.record([1_000_000] * 30, order=1))
        book.append(builders.environment())
    journal.finish(path, dataclasses.replace(journal.read_run(path), finished_at=builders.START))
    table.seal(path)
    return folder


def test_a_run_is_compared_with_what_is_published_without_a_verdict(scaled: Path) -> None:
    said = convbench(scaled, "compare", "latest", "published:v100")
    assert said.returncode == 0, said.stderr
    assert "published at n=8, measured at n=1: rates beside rates, not times" in said.stderr
    assert said.stderr.splitlines()[-1] == "published, not measured here: no verdict"
    assert said.stdout.count("NVIDIA V100, fp32") == said.stdout.count("NVIDIA V100, fp16 mixed") == 2
    assert "TFLOP/s" in said.stdout
    either = convbench(scaled, "compare", "published:V100", "latest", "--format", "json")
    rows = json.loads(either.stdout)
    assert [tuple(row) for row in rows] == [BESIDE_COLUMNS] * 4
    assert {(row["direction"], row["basis"], row["published_n"]) for row in rows} == {
        ("fprop", "rates", 8),
        ("wgrad", "rates", 8),
    }
    inference = json.loads(convbench(scaled, "compare", "latest", "published:1080ti", "--format", "json").stdout)
    (same,) = [row for row in inference if row["basis"] == "times"]
    assert (same["direction"], same["math"], same["published_n"], same["median_ns"]) == ("fprop", "int8", 1, 1e6)
    assert same["time_over_published"] == pytest.approx(1e6 / same["published_ns"])
    every = json.loads(convbench(scaled, "compare", "latest", "published:all", "--format", "json").stdout)
    assert {row["workload"] for row in every} == {"layer"}
    assert len({row["hardware"] for row in every}) == 12


def test_a_run_of_which_nothing_is_published_is_told_so(stored: Path) -> None:
    said = convbench(stored, "compare", "20260301", "published:raspberry-pi-3")
    assert (said.returncode, said.stdout) == (0, "")
    assert said.stderr.splitlines() == ["no cell with a figure has a shape that is published for Raspberry Pi 3"]


def test_a_report_shows_what_is_published_beside_the_run(scaled: Path) -> None:
    said = convbench(scaled, "report")
    assert said.returncode == 0, said.stderr
    page = (scaled / said.stdout.strip()).read_text()
    section = page[page.index('<h3 id="published"') : page.index('<section id="roofline"')]
    assert "NVIDIA V100<br>fp16 mixed" in section
    assert "Same shape, same batch: times" in section
    assert "Same shape, another batch: rates beside rates, not times" in section
    assert "baidu-research/DeepBench:results/train/DeepBench_NV_V100.xlsx:Results FP32" in section


def test_an_imported_table_stands_beside_the_shipped_one(scaled: Path) -> None:
    row = "My Chip,fp32,train,wgrad,1,512,512,7x7,3x3,1x1,1x1,0.5,9.0,,mine:1,"
    (scaled / "Mine.csv").write_text(",".join(published.COLUMNS) + f"\n{row}\n")
    said = convbench(scaled, "import", "Mine.csv")
    assert said.returncode == 0, said.stderr
    assert said.stdout.splitlines() == ["results/published/mine.csv"]
    assert said.stderr.splitlines() == [
        "1 published timing of 1 device", "1 without a rate: the printed rate contradicts the time",
    ]  # fmt: skip
    compared = convbench(scaled, "compare", "latest", "published:my-chip")
    assert "2.00×" in compared.stdout
    assert "the printed rate contradicts" in compared.stdout
    (scaled / "results" / "published" / "mine.csv").unlink()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("compare", "latest", "published:V10O"), ['"V10O"', 'did you mean "v100"?', "NVIDIA V100"]),
        (
            ("compare", "latest", "published:titan"),
            ["part of several", "NVIDIA Titan X, NVIDIA Titan X Pascal, NVIDIA Titan Xp"],
        ),
        (("compare", "latest", "published:"), ['found ""', "allowed: all, AMD MI25"]),
        (("compare", "published:v100", "published:t4"), ["a run beside one of them"]),
        (("compare", "latest", "published:v100", "--format", "junit"), ["junit", "no verdict"]),
        (("import", "table.xlsx"), ["table.xlsx", ".csv"]),
        (("import", "absent.csv"), ["absent.csv", "cannot be read"]),
    ],
)
def test_a_mistake_about_what_is_published_is_one_line_and_code_2(scaled: Path, arguments: tuple[str, ...], words: list[str]):
    said = convbench(scaled, *arguments)
    assert said.returncode == 2
    assert said.stdout == ""
    assert len(said.stderr.splitlines()) == 1
    assert [word for word in words if word not in said.stderr] == [], said.stderr


def test_an_aa_run_ends_with_what_equals_differ_by(measured, tmp_path: Path) -> None:
    out = ("--out", str(tmp_path / "results"))
    said = convbench(measured[0], "run", "tiny", "--aa", "-k", "fprop", "--trials", "2", "--no-report", *out)
    assert said.returncode == 0, said.stderr
    assert "A/A: 2 pairs of equals" in said.stdout
    assert "numpy@aa" in said.stdout
    listed = convbench(measured[0], "run", "tiny", "--aa", "-k", "plain and fprop", "--dry-run").stdout
    assert sorted(line.split("/")[2] for line in listed.splitlines()) == ["numpy", "numpy@aa"]


@pytest.fixture(scope="module")
def with_ceilings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose runs are joined by ceilings."""
    folder = tmp_path_factory.mktemp("ceilings")
    (folder / "suites").mkdir()
    (folder / "suites" / "tiny.toml").write_text(SUITE)
    (folder / "suites" / "ceilings.toml").write_text(CEILINGS + SUITE[SUITE.index("[budget]") : SUITE.index("[[workload]]")])
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


def test_what_pytest_benchmark_measured_is_imported_shown_and_barred_from_verdicts(stored: Path, tmp_path: Path) -> None:
    file, out = tmp_path / "out.json", ("--out", str(tmp_path / "results"))
    file.write_text(json.dumps(document()))
    said = convbench(stored, "import", str(file), *out)
    assert said.returncode == 0, said.stderr
    (id,) = said.stdout.splitlines()
    assert "1.250 µs" in convbench(stored, "show", id, *out).stdout
    (row,) = [line for line in convbench(stored, "list", "runs", *out).stdout.splitlines() if id in line]
    assert "pytest-benchmark" in row
    report = convbench(stored, "report", id, *out, "--reports", str(tmp_path / "reports"))
    page = Path(report.stdout.strip()).read_text()
    assert "timed by another program" in page
    assert "does not hold for this run" in page
    compared = convbench(stored, "compare", "20260301", str(tmp_path / "results" / "runs" / id), "--format", "json")
    whys = {one["why"] for one in json.loads(compared.stdout) if one["verdict"] == "uncertain"}
    assert whys == {"measured by another program, by rules of its own"}
    again = convbench(stored, "import", str(file), *out)
    assert (again.returncode, again.stdout) == (2, "")


def test_lists(measured) -> None:
    folder, _ = measured
    assert "tiny" in convbench(folder, "list", "suites").stdout
    assert "resnet50" in convbench(folder, "list", "suites").stdout
    assert "n2 c2 k2 7 f3" in convbench(folder, "list", "workloads", "tiny").stdout
    assert len(convbench(folder, "list", "cells", "tiny").stdout.splitlines()) == 6


def test_runs_are_listed_with_their_tags_and_found_by_them(measured) -> None:
    folder, said = measured
    id = said.stdout.splitlines()[-1]
    (row,) = [line for line in convbench(folder, "list", "runs").stdout.splitlines() if id in line]
    assert [part.strip() for part in row.split("│")][1:3] == ["tiny", "test"]
    assert [part.strip() for part in row.split("│")][4:6] == ["6", "0"]
    assert convbench(folder, "show", "tag:test").stdout == convbench(folder, "show", id).stdout
    (folder / "broken" / "runs" / "x").mkdir(parents=True)
    assert "machine" not in convbench(folder, "list", "runs").stdout
    listed = convbench(folder, "list", "runs", "--out", "broken")
    assert listed.returncode == 0
    assert len(listed.stderr.splitlines()) == 1
    assert "left out" in listed.stderr


def test_doctor_says_what_it_found_in_every_format(measured) -> None:
    folder, _ = measured
    table = convbench(folder, "doctor")
    assert table.returncode == 0, table.stderr
    found = json.loads(convbench(folder, "doctor", "--format", "json").stdout)
    assert {"CPU quota", "other processes", "memory", "disk", "clock", "frameworks"} <= {one["name"] for one in found}
    assert {frozenset(one) for one in found} == {frozenset({"name", "severity", "found", "why", "remedy"})}
    assert [one["name"] for one in found if one["name"] not in table.stdout and one["severity"] == "fine"] == []
    assert convbench(folder, "doctor", "--format", "md").stdout.startswith("| name | severity | found | why | remedy |\n| --- ")


@pytest.mark.parametrize(
    ("severity", "options", "code"), [("blocking", [], 0), ("blocking", ["--strict"], 5), ("warning", ["--strict"], 0)]
)
def test_doctor_fails_only_if_strict_and_blocked(
    monkeypatch: pytest.MonkeyPatch, severity: str, options: list[str], code: int
) -> None:
    found = (Finding("thing", Severity(severity), "it is [bad]", "it matters", "mend it"),)
    monkeypatch.setattr(doctor, "examine", lambda out: found)
    said = CliRunner().invoke(app, ["doctor", *options])
    assert said.exit_code == code
    told = (severity, "thing", "it is [bad]", "it matters", "remedy: mend it")
    assert [part for part in told if part not in said.stdout] == []


def test_a_run_begins_with_what_blocks_and_with_a_gpu_that_no_framework_sees(
    measured, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen_by_none = Finding("GPU and frameworks", Severity.BLOCKING, "an H100, seen by none of numpy", "why", "remedy")
    asked = []
    blocked = (Finding("CPU quota", Severity.BLOCKING, "1.5 [CPUs]", "why", "remedy"),)
    monkeypatch.setattr(doctor, "urgent", lambda out, threads=None: asked.append(threads) or blocked)
    monkeypatch.setattr(progress, "unseen_gpu", lambda devices: seen_by_none if set(devices) == {"numpy"} else None)
    monkeypatch.chdir(measured[0])  # whose suites are found, and its ceilings, which are none
    options = ["--trials", "1", "-k", "plain and fprop", "--threads", "1", "--no-report", "--out", str(tmp_path)]
    said = CliRunner().invoke(app, ["run", "tiny", "tiny", *options])
    assert said.exit_code == 0, said.output
    assert said.stderr.splitlines()[:3] == [
        "blocking: CPU quota: 1.5 [CPUs]",
        "blocking: GPU and frameworks: an H100, seen by none of numpy",
        "convbench doctor tells more",
    ]
    assert said.stderr.count("blocking:") == 2  # once, not again for the second suite
    assert asked == [1]


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
        (("run", "--resume", "latest", "--machine", "other"), ["--resume", "as it was planned"]),
        (("run", "tiny", "--machine", "a/b"), ["--machine: found 'a/b'", "allowed: 1 to 64 of"]),
        (("show", "latest~7"), ["latest~7"]),
        (("show", "tag:tset"), ["tset", "holds runs with test"]),
        (("show", "--sort", "speed"), ["speed", "median_ns"]),
        (("export", "latest", "--to", "x.xlsx"), ["x.xlsx", ".csv"]),
        (("list", "cells"), ["name a suite"]),
        (("run", "--resume", "latest", "--aa"), ["--resume", "as it was planned"]),
        (("compare", "latest", "latest~9"), ["latest~9"]),
        (("import", "out.txt"), ["out.txt", "'.txt'", ".json"]),
        (("import", "nowhere.json"), ["nowhere.json", "cannot be read"]),
        (("import", "suites/tiny.toml"), ["tiny.toml", "'.toml'"]),
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
    for command in ("run", "list", "show", "compare", "export", "import", "report", "doctor"):
        assert "Example: convbench" in convbench(measured[0], command, "--help").stdout
