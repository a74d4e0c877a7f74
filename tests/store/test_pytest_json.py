"""From the JSON of pytest-benchmark to sealed runs: what arrives, and what is wrong with files of other kinds."""

import copy
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from harness import codec
from harness.axes import Device, Direction, Layout, Optimizer
from harness.errors import UserError
from harness.flags import Flag
from harness.record import OTHERS_METHOD, Status
from harness.spec import ConvSpec, CopySpec
from harness.store import journal, pytest_json, table
from harness.store.pytest_json import Block, Row
from tests import builders

CELL = builders.cell(direction=Direction.TRAIN, optimizer=Optimizer.ADAM, layout=Layout.CHANNELS_LAST, count=3)
ROW = replace(
    Row.of(CELL, "small", builders.START), flags=(Flag.COMPOSITE,), op="torch.conv2d", op_reason="the usual one lies",
    settings={"mkldnn": "on"}, threads_used=2, check_method="exact+spot", max_rel_err=0.25, tolerance=1.0,
    first_call_ns=5_000_000, wall_ns=10_000_000, cpu_ns=20_000_000, environment_id="env-1",
)  # fmt: skip
LATER = replace(Row.of(builders.cell(), "small", builders.START + timedelta(seconds=9)), environment_id="env-1")
REFUSED = replace(LATER, status=Status.UNSUPPORTED, reason="torch has no such thing")
Write = Callable[[Any], Path]


def document(row: Row = ROW, **stats: Any) -> dict[str, Any]:
    """A file with one cell that was timed in three rounds of two calls, one that was refused, and a project's own benchmark."""
    block = Block({"small": "ab"}, (builders.environment(),), (REFUSED,), 7, "pytest --convbench small", "0.1.0")
    numbers = {"data": [1e-6, 1.5e-6, 1.25e-6], "iterations": 2, "median": 1.25e-6, **stats}
    return {
        "machine_info": {}, "commit_info": {"id": "0123456789abcdef0123456789abcdef01234567", "dirty": True},
        "benchmarks": [
            {"name": "test_theirs", "extra_info": {}, "stats": {"data": [1.0], "iterations": 1}},
            {"name": row.cell, "extra_info": codec.encode(row) | {"added": "by a conftest"}, "stats": numbers},
        ],
        "datetime": "2026-03-01T02:31:00+00:00", "version": "5.3.1", "convbench": codec.encode(block),
    }  # fmt: skip


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(data: Any) -> Path:
        path = tmp_path / "out.json"
        path.write_text(data if isinstance(data, str) else json.dumps(data))
        return path

    return write


def test_a_file_becomes_a_sealed_run_whose_samples_are_the_rounds(write: Write, tmp_path: Path) -> None:
    (run,) = pytest_json.bring_in(write(document()), tmp_path / "results")
    assert run.id.startswith("20260301T023000-small-")
    assert (run.suite, run.suite_sha256, run.tags, run.seed) == ("small", "ab", ("pytest-benchmark",), 7)
    assert (run.method_version, run.ours, run.commit) == (OTHERS_METHOD, False, "0123456789ab-dirty")
    assert run.finished_at is not None
    assert run.wall_s == pytest.approx(59.876544)
    folder = table.find(tmp_path / "results", "latest")
    assert journal.read_run(folder) == run
    records = table.load(tmp_path / "results")
    assert records["status"].tolist() == ["ok", "unsupported"]
    assert records["reason"].tolist() == ["", "torch has no such thing"]
    ok = records.iloc[0]
    assert ok["cell"] == str(CELL)
    assert (ok["op"], ok["op_reason"]) == ("torch.conv2d", "the usual one lies")
    assert (ok["optimizer"], ok["count"], ok["flags"], ok["settings"]) == ("adam", 3, "composite", "mkldnn=on")
    assert (ok["check_method"], ok["max_rel_err"], ok["tolerance"]) == ("exact+spot", 0.25, 1.0)
    assert (ok["iterations"], ok["stopped_by"], ok["first_call_ns"]) == (2, "pytest-benchmark", 5e6)
    assert (ok["wall_ns"], ok["cpu_ns"], ok["threads_used"]) == (1e7, 2e7, 2)
    assert (ok["environment_id"], ok["machine_id"]) == ("env-1", "machine-1")
    assert ok[["warmup_ns", "steal_ns", "host_peak_bytes", "energy_j"]].isna().all()
    samples = table.samples(tmp_path / "results")
    assert samples["block_ns"].tolist() == [2000, 3000, 2500]
    assert samples["run_delay_ns"].isna().all()
    assert (folder / "records.parquet").is_file()


def test_each_suite_of_a_file_becomes_a_run(write: Write, tmp_path: Path) -> None:
    data = document()
    data["convbench"]["suites"] = {"small": "ab", "other": "cd", "unused": "ef"}
    other = copy.deepcopy(data["benchmarks"][1])
    other["extra_info"]["suite"] = "other"
    data["benchmarks"].append(other)
    runs = pytest_json.bring_in(write(data), tmp_path)
    assert [run.suite for run in runs] == ["small", "other"]
    assert table.load(tmp_path).groupby("suite").size().to_dict() == {"small": 2, "other": 1}


@pytest.mark.parametrize(
    "cell",
    [
        builders.cell(spec=ConvSpec.parse("n2 c4 k6 5x6x7 f3x3x3 s2x2x2 p0-1x1x1 d1x1x1 g2"), layout=Layout.CHANNELS_FIRST),
        builders.cell(spec=ConvSpec.parse("n1 c1 k1 9 f3"), device=Device("gpu", 1), threads=4),
        builders.cell(spec=CopySpec(64), direction=Direction.NONE, layout=Layout.CHANNELS_LAST),
        CELL,
    ],
    ids=str,
)
def test_a_row_says_the_whole_cell(cell: Any) -> None:
    row = Row.of(cell, "small", builders.START)
    assert codec.loads(Row, codec.dumps(row)).typed() == cell


def test_the_same_file_cannot_come_twice(write: Write, tmp_path: Path) -> None:
    (run,) = pytest_json.bring_in(write(document()), tmp_path)
    with pytest.raises(UserError, match=f"out.json: is in .* already, as run {run.id}"):
        pytest_json.bring_in(write(document()), tmp_path)


def test_without_the_rounds_nothing_is_made_up(write: Write, tmp_path: Path) -> None:
    data = document()
    del data["benchmarks"][1]["stats"]["data"]
    with pytest.raises(UserError, match="stats: no data, the time of each round; --benchmark-json writes it"):
        pytest_json.bring_in(write(data), tmp_path)


def spoilt(*place: Any, value: Any) -> dict[str, Any]:
    """The file with one value replaced, or left out where it is None."""
    data = document()
    inner = data
    for key in place[:-1]:
        inner = inner[key]
    if value is None:
        del inner[place[-1]]
    else:
        inner[place[-1]] = value
    return data


INFO = ("benchmarks", 1, "extra_info")
STATS = ("benchmarks", 1, "stats")
HOSTILE = {
    "no JSON": ("{", "is not JSON"),
    "nested too deeply": ("[" * 100_000, "is not JSON"),
    "a list": ([], "is not of pytest-benchmark"),
    "another document": ({"benchmarks": {}}, "is not of pytest-benchmark"),
    "no cells": ({"benchmarks": [{"name": "test_theirs", "extra_info": {}}]}, "holds no cells of convbench"),
    "none of ours": (document() | {"benchmarks": [1], "convbench": spoilt("convbench", "unmeasured", value=[])["convbench"]},
                     "no cell of convbench is in it"),
    "a block of another kind": (spoilt("convbench", value=[1]), "expected an object for Block"),
    "a block from later": (spoilt("convbench", "later", value=1), "unknown field 'later'"),
    "no time": (spoilt("datetime", value=None), "datetime: found None"),
    "a time that is none": (spoilt("datetime", value="noon"), "noon"),
    "a time that no table can hold": (spoilt("datetime", value="9999-12-31T23:59:59"), "datetime: found '9999-12-31T23:59:59'"),
    "a path as suite": (spoilt(*INFO, "suite", value="../../x"), "suite: found '../../x'"),
    "an unknown direction": (spoilt(*INFO, "direction", value="sideways"), "'sideways' is not a valid Direction"),
    "a number as text": (spoilt(*INFO, "threads", value="2"), "expected int, found '2'"),
    "a column that is missing": (spoilt(*INFO, "workload", value=None), "workload"),
    "a shape that is none": (spoilt(*INFO, "shape", value="big"), "'big' describes no convolution"),
    "a layout that is none": (spoilt(*INFO, "layout", value="CHWN"), "layout: found 'CHWN'; allowed: NCHW, NHWC"),
    "a cell of another name": (spoilt(*INFO, "cell", value="conv/fprop"), "cell: found 'conv/fprop'; the other columns say"),
    "a number out of range": (spoilt(*INFO, "count", value=10**30), "count: expected a whole number within 64 bits"),
    "a time without a zone": (spoilt(*INFO, "started_at", value="2026-03-01T00:00:00"), "a time with its zone"),
    "an environment that is not there": (spoilt(*INFO, "environment_id", value="env-9"), "environment_id: found 'env-9'"),
    "a status with a time": (spoilt(*INFO, "status", value="error"), "status error"),
    "no wall time": (spoilt(*INFO, "wall_ns", value=None), "do not go with a measured cell"),
    "no stats": (spoilt(*STATS, value="none"), "stats: no data"),
    "no rounds": (spoilt(*STATS, "data", value=[]), "stats: no data"),
    "a round that is none": (spoilt(*STATS, "data", value=[1e-6, "x"]), "stats: data: found 'x'"),
    "a round of true": (spoilt(*STATS, "data", value=[True]), "stats: data: found True"),
    "a negative round": (spoilt(*STATS, "data", value=[-1e-9]), "stats: data: found -1e-09"),
    "an endless round": (spoilt(*STATS, "data", value=[float("inf")]), "stats: data: found inf"),
    "a round that is not a number": (spoilt(*STATS, "data", value=[float("nan")]), "stats: data: found nan"),
    "no iterations": (spoilt(*STATS, "iterations", value=0), "stats: iterations: found 0"),
    "a cell twice": (spoilt("convbench", "unmeasured", value=[codec.encode(REFUSED)] * 2), "is there twice"),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_what_is_wrong_with_a_file_is_one_line_and_nothing_is_written(write: Write, tmp_path: Path, case: str) -> None:
    data, words = HOSTILE[case]
    with pytest.raises(UserError) as caught:
        pytest_json.bring_in(write(data), tmp_path / "results")
    text = str(caught.value)
    assert words in text
    assert text.startswith(str(tmp_path / "out.json"))
    assert "\n" not in text
    assert not (tmp_path / "results").exists()


def test_half_a_surrogate_pair_in_a_message_becomes_a_mark(write: Write, tmp_path: Path) -> None:
    pytest_json.bring_in(write(spoilt(*INFO, "op", value="conv \ud800")), tmp_path)
    assert "conv \ufffd" in set(table.load(tmp_path)["op"])


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"nowhere.json: cannot be read: No such file"):
        pytest_json.bring_in(tmp_path / "nowhere.json", tmp_path)
