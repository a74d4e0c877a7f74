"""`convbench show`: what a setting is worth, in every format, and the mistakes in asking for it."""

import json
import re
from pathlib import Path

import pytest

import harness
from harness.axes import Direction, Layout, Mode
from harness.cli import along
from harness.columns import SUM_COLUMNS
from tests import builders, settings
from tests.cli.test_tables import shown
from tests.command import convbench


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run of two workloads, two passes, two backends, two modes and two layouts."""
    place = tmp_path_factory.mktemp("settings")
    of = settings.cells(
        workload=("rn50_res2_3x3", "conv1"), direction=(Direction.FPROP, Direction.WGRAD), backend=("tensorflow", "torch"),
        mode=(Mode.EAGER, Mode.COMPILED), layout=(Layout.CHANNELS_FIRST, Layout.CHANNELS_LAST),
    )  # fmt: skip
    settings.run(place / "results", of, environments=(builders.environment(),))
    return place


def test_a_setting_is_held_against_the_usual_one_cell_by_cell(folder: Path) -> None:
    said = convbench(folder, "show", "--by", "mode")
    assert (said.returncode, said.stderr) == (0, "")
    which, *lines = said.stdout.splitlines()
    assert which == "20260301-023000-small-aaaa; 2026-03-01 02:30 UTC; Some CPU, 2 cores; torch 2.13"
    assert lines[0] == "mode: compiled over eager; cpu, fp32, hot, all cores"
    assert lines[2].split() == [
        "conv1", "fprop", "tensorflow", "NCHW", "0.800×", "(0.800", "to", "0.800)", "faster", "4", "visits",
    ]  # fmt: skip
    assert lines[-2:] == [
        "of 16 cells beside eager: 16 faster", "visits: ratios of visits in the same turn, by pairs of processes",
    ]  # fmt: skip
    assert len(lines) == 2 + 16 + 2


@pytest.mark.parametrize("arguments", [(), ("--side-by-side",), ("--spent",), ("--by", "layout")])
def test_it_says_first_which_run_it_shows_and_as_data_it_does_not(folder: Path, arguments: tuple[str, ...]) -> None:
    said = convbench(folder, "show", *arguments, COLUMNS="80").stdout
    assert said.startswith("20260301-023000-small-aaaa; 2026-03-01 02:30 UTC; Some CPU, 2 cores; torch 2.13\n")
    for format in ("csv", "json", "md") if not arguments else ():
        assert "Some CPU" not in convbench(folder, "show", "--format", format).stdout


def test_side_by_side_says_what_its_marks_mean(folder: Path) -> None:
    said = convbench(folder, "show", "--side-by-side").stdout
    assert "● fastest   ○ as good, within 2 %" in said
    assert "×: time over the fastest, visit by visit in the same turn, with an interval for all competitors at once" in said


def test_what_it_says_of_the_run_stays_within_80_columns(tmp_path: Path) -> None:
    packages = {"torch": "2.13.0+cpu", "jax": "0.10.2", "tensorflow": "2.21.0", "another-package-of-a-long-name": "1.0"}
    here = [builders.environment(backend=name, packages={name: version, "numpy": "2"}) for name, version in packages.items()]
    settings.run(
        tmp_path / "results", settings.cells(), id="20260301T023000-a-suite-of-a-long-name-abcd", environments=(*here,)
    )
    lines = convbench(tmp_path, "show").stdout.splitlines()
    assert lines[:3] == [
        "20260301T023000-a-suite-of-a-long-name-abcd; 2026-03-01 02:30 UTC; Some CPU, 2",
        "  cores; another-package-of-a-long-name 1.0, jax 0.10.2, tensorflow 2.21.0,",
        "  torch 2.13.0+cpu",
    ]  # fmt: skip


def test_another_base_turns_the_ratio_around(folder: Path) -> None:
    rows = json.loads(convbench(folder, "show", "--by", "layout", "--base", "NHWC", "--format", "json").stdout)
    assert {(row["layout"], row["difference"], round(row["factor"], 2)) for row in rows} == {("NCHW", "faster", 0.8)}


@pytest.mark.parametrize("format", ["csv", "md", "json"])
def test_data_alone_goes_to_stdout_and_sentences_to_stderr(folder: Path, format: str) -> None:
    said = convbench(folder, "show", "--by", "mode", "-k", "torch and nchw", "--format", format)
    assert said.stdout.count("/torch/compiled/") == 4
    assert "tensorflow" not in said.stdout
    assert "factor_high" in said.stdout
    assert "beside" not in said.stdout
    assert "of 4 cells beside eager: 4 faster" in said.stderr


def test_rows_are_sorted_by_a_column_and_chosen_by_an_expression(folder: Path) -> None:
    asked = ("show", "--by", "backend", "--base", "torch", "-k", "eager", "--sort", "median_ns", "--format", "json")
    rows = json.loads(convbench(folder, *asked).stdout)
    assert [row["median_ns"] for row in rows] == sorted(row["median_ns"] for row in rows)
    assert {(row["mode"], row["backend"]) for row in rows} == {("eager", "tensorflow")}
    whole = json.loads(convbench(folder, "show", "-k", "eager and conv1", "--format", "json").stdout)
    assert {(row["mode"], row["workload"]) for row in whole} == {("eager", "conv1")}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--by", "layot"), 'found "layot"; did you mean "layout"?'),
        (("--by", "mode", "--base", "xla"), "no cell with a figure has mode 'xla'; there is: compiled, eager"),
        (("--by", "layout", "--base", "CHWN"), "no cell with a figure has layout 'CHWN'; there is: NCHW, NHWC"),
        (("--base", "eager"), "--base: found without --by"),
        (("--by", "mode", "-k", "numpy"), "-k: fits none of 16 cells"),
        (("--by", "mode", "-k", "and"), "-k: "),
        (("--by", "mode", "--sort", "speed"), "--sort: found 'speed'"),
        (("--by", "mode", "--side-by-side"), "--side-by-side: found beside"),
    ],
)
def test_a_mistake_is_told_in_one_line_that_says_what_there_is(folder: Path, arguments: tuple[str, ...], told: str) -> None:
    said = convbench(folder, "show", *arguments)
    assert (said.returncode, said.stdout) == (2, "")
    assert told in said.stderr
    assert len(said.stderr.splitlines()) == 1


def test_an_axis_of_one_value_is_answered_with_a_sentence(folder: Path) -> None:
    said = convbench(folder, "show", "--by", "threads")
    assert said.returncode == 0
    assert said.stdout.splitlines()[1].startswith("Nothing to compare: no cell with a figure has a partner with threads 0")
    assert convbench(folder, "show", "--by", "precision", "--format", "json").stdout == "[]\n"


def test_in_80_columns_no_figure_is_cut(folder: Path) -> None:
    frame = harness.along(harness.load(folder / "results"), "mode")
    for width in (80, 100):
        text = shown(along.table(frame, "mode"), width)
        assert max(map(len, text.splitlines())) <= width
        assert text.count("0.800× (0.800 to 0.800)") == 16
        assert text.count("4 visits") == 16
        assert "…" not in text


def test_the_frame_is_that_of_the_cells_it_was_given(folder: Path) -> None:
    records = harness.load(folder / "results")
    found = harness.along(records.query("backend == 'torch'"), "layout")
    assert found.attrs["base"] == "NCHW"
    assert set(found["backend"]) == {"torch"}
    assert found["factor"].to_list() == pytest.approx([1.25] * 8, rel=1e-4)
    with pytest.raises(ValueError, match="no axis"):
        harness.along(records, "colour")


def test_under_four_pairs_nothing_is_decided_and_that_is_said(tmp_path: Path) -> None:
    settings.run(tmp_path / "results", settings.cells(mode=(Mode.EAGER, Mode.COMPILED)), trials=3)
    said = convbench(tmp_path, "show", "--by", "mode").stdout
    assert "undecided" in said
    assert "nothing is decided under 4 pairs of processes" in said
    assert "3 visits" in said


def test_one_pair_is_one_visit(tmp_path: Path) -> None:
    settings.run(tmp_path / "results", settings.cells(mode=(Mode.EAGER, Mode.COMPILED)), trials=1)
    said = convbench(tmp_path, "show", "--by", "mode").stdout
    assert re.search(r"undecided +1 visit *$", said, re.M)


def test_the_convolutions_of_a_network_are_added_up_with_an_interval(tmp_path: Path) -> None:
    of = settings.cells(workload=("first", "second"), backend=("jax", "torch"), network=("Net",), count=(3,), scaled=("",))
    settings.run(tmp_path / "results", of)
    said = convbench(tmp_path, "show", "--networks").stdout
    (torch,) = [line for line in said.splitlines() if "torch" in line]
    assert re.fullmatch(r"Net *│ *│ torch *│ eager *│ 6 in 2 shapes *│ *6\.\d{3} ms ± 0\.\d % *", torch)
    assert "interval is a 95 % one over trials" in said
    rows = {row["backend"]: row for row in json.loads(convbench(tmp_path, "show", "--networks", "--format", "json").stdout)}
    assert tuple(rows["torch"]) == SUM_COLUMNS
    assert rows["torch"]["sum_ns"] == pytest.approx(6e6, rel=0.01)
    assert rows["torch"]["sum_low_ns"] < rows["torch"]["sum_ns"] < rows["torch"]["sum_high_ns"]
    assert rows["jax"]["sum_trials"] == 4


def test_after_one_trial_no_interval_of_a_sum_is_spoken_of(tmp_path: Path) -> None:
    settings.run(tmp_path / "results", settings.cells(network=("Net",), scaled=("",)), trials=1)
    said = convbench(tmp_path, "show", "--networks").stdout
    assert said.endswith("each trial added up by itself; an interval takes two trials\n")
    assert "±" not in said


def test_a_run_of_no_network_says_how_a_suite_names_one(folder: Path) -> None:
    said = convbench(folder, "show", "--networks")
    assert (said.returncode, said.stdout) == (2, "")
    assert "names a network (network = ... in [[workload]] or [[workloads_from]])" in said.stderr
