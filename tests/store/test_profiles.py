"""Profiles on disk: lines of the journal, two tables, and what becomes of them in a run that is cut off, damaged or pruned."""

import dataclasses
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import harness
from harness import codec
from harness.columns import COLUMNS, KERNEL_COLUMNS, PROFILED_COLUMNS
from harness.errors import UserError
from harness.profile import Kind, Profile, Role, trace_name
from harness.record import Status
from harness.store import journal, table
from harness.store.latest import latest_profiles
from harness.store.table import Stored
from tests.builders import START, cell, environment, failed, kernel, profile, record, run, unprofiled

RUN = run().id
OF_JAX = cell(backend="jax")
REORDER = kernel(
    50.0, name="reorder", kind=Kind.REORDER, implementation="jit:uni", role=Role.FILTER, calls_per_launch=2.0, threads=2
)  # fmt: skip
TOLD = (profile(REORDER, kernel(800.0), trace=trace_name(cell()), flop_compiled=500.0), unprofiled("timeout: late", of=OF_JAX))
MEASURED = (environment(), record(), record(of=OF_JAX, order=1))


def made(store: Path, *events: Any, seal: bool = True, finished: bool = True) -> Path:
    folder = journal.create(store, run())
    append(folder, *events)
    if finished:
        journal.finish(folder, dataclasses.replace(run(), finished_at=START, environments=(environment(),)))
    if seal:
        table.seal(folder)
    return folder


def append(folder: Path, *events: Any) -> None:
    with journal.Journal(folder) as book:
        for event in events:
            book.append(event)


def of(folder: Path) -> Stored:
    return Stored(folder, journal.read_run(folder))


def dtypes(frame: pd.DataFrame) -> dict[str, str]:
    return {name: str(dtype) for name, dtype in frame.dtypes.items()}


def test_a_profile_is_read_back_as_it_was_written(tmp_path: Path):
    folder = made(tmp_path, *MEASURED, *TOLD, seal=False)
    assert journal.scan(folder).profiles == list(TOLD)
    assert [each.order for each in journal.scan(folder).records] == [0, 1]
    assert codec.loads(Profile, codec.dumps(TOLD[0])) == TOLD[0]


@pytest.mark.parametrize("seal", [True, False])
def test_a_row_of_kernels_holds_what_its_kernel_holds(tmp_path: Path, seal: bool):
    made(tmp_path, *MEASURED, *TOLD, seal=seal)
    found = harness.kernels(tmp_path)
    assert dtypes(found) == {name: COLUMNS[name].dtype for name in KERNEL_COLUMNS}
    assert found["name"].tolist() == ["convolution", "outside", "reorder"]
    assert found["rank"].tolist() == [1, 2, 3]
    assert found["share"].tolist() == [0.8, 0.15, 0.05]
    assert set(found["cell"]) == {str(cell())}
    last = found.iloc[2]
    assert last[["run_id", "workload", "backend", "shape", "threads"]].tolist() == [RUN, "conv", "torch", str(cell().spec), 0]
    assert last[["kind", "implementation", "role", "level", "source", "calls_per_launch", "kernel_ns"]].tolist() == [
        "reorder", "jit:uni", "filter", 4, "oneDNN", 2.0, 50.0,
    ]  # fmt: skip
    assert last["kernel_threads"] == 2
    assert found.attrs["store"] == str(tmp_path)


@pytest.mark.parametrize("seal", [True, False])
def test_a_row_of_profiles_holds_what_its_profile_holds(tmp_path: Path, seal: bool):
    found = table.profiles_of(of(made(tmp_path, *MEASURED, *TOLD, seal=seal)))
    assert dtypes(found) == {name: COLUMNS[name].dtype for name in PROFILED_COLUMNS}
    first, second = found.to_dict("records")
    assert (first["plain_ns"], first["watched_ns"], first["calls"], first["clean_calls"]) == (990, 1000, 200, 190)
    assert (first["flop_compiled"], first["effective_cores"]) == (500.0, 0.75)
    assert first["sources"] == "oneDNN 3.12.0 verbose; torch.profiler 2.13.0"
    assert (first["trace"], first["problem"], first["made_at"]) == (trace_name(cell()), "", pd.Timestamp(START))
    assert (second["cell"], second["problem"], second["sources"]) == (str(OF_JAX), "timeout: late", "")
    assert pd.isna(second["watched_ns"])


def test_profiles_change_nothing_in_the_tables_of_what_was_timed(tmp_path: Path):
    plain, profiled = made(tmp_path / "a", *MEASURED), made(tmp_path / "b", *MEASURED, *TOLD)
    pd.testing.assert_frame_equal(table.records_of(of(plain)), table.records_of(of(profiled)))
    pd.testing.assert_frame_equal(table.samples_of(of(plain)), table.samples_of(of(profiled)))


def test_a_run_that_was_not_profiled_has_empty_tables_and_no_file_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = made(tmp_path, *MEASURED)
    assert sorted(path.name for path in folder.glob("*.parquet")) == ["records.parquet", "samples.parquet"]
    monkeypatch.setattr(journal, "scan", lambda *asked, **more: pytest.fail("read the journal, which may be large"))
    assert (len(table.kernels_of(of(folder))), len(table.profiles_of(of(folder)))) == (0, 0)
    assert dtypes(harness.kernels(tmp_path)) == {name: COLUMNS[name].dtype for name in KERNEL_COLUMNS}


def test_of_several_profiles_of_a_cell_the_last_that_tells_of_kernels_counts():
    first, second, nothing = profile(kernel(1.0)), profile(kernel(2.0)), unprofiled("crashed")
    other = unprofiled("why", of=OF_JAX)
    assert latest_profiles([first, second, nothing, other]) == [second, other]
    assert latest_profiles([nothing, first]) == [first]
    assert latest_profiles([other, unprofiled("later", of=OF_JAX)]) == [unprofiled("later", of=OF_JAX)]


@pytest.mark.fault("a run is killed while it is profiled", "the profiles that there are stand in its frames")
def test_a_run_that_was_cut_off_keeps_the_profiles_it_has(tmp_path: Path):
    folder = made(tmp_path, *MEASURED, TOLD[0], seal=False, finished=False)
    with open(folder / journal.JOURNAL, "ab") as file:  # half a line
        file.write(b'{"profile":{"run_id":')
    assert table.kernels_of(of(folder))["name"].tolist() == ["convolution", "outside", "reorder"]
    append(folder, TOLD[1])
    table.seal(folder)
    assert table.profiles_of(of(folder))["problem"].tolist() == ["", "timeout: late"]


def test_a_profile_that_comes_after_the_seal_is_read_from_the_journal_until_it_is_sealed_again(tmp_path: Path):
    folder = made(tmp_path, *MEASURED)
    append(folder, TOLD[0])
    assert len(table.kernels_of(of(folder))) == 3
    table.seal(folder)
    assert (folder / "kernels.parquet").exists()
    assert len(table.kernels_of(of(folder))) == 3
    assert len(table.records_of(of(folder))) == 2


@pytest.mark.fault("the line of a profile is damaged", "it is named, and what the sealed tables hold of it is kept")
def test_a_damaged_line_of_a_profile_costs_no_other_and_is_kept_where_it_was_sealed(tmp_path: Path):
    folder = made(tmp_path, *MEASURED, *TOLD)
    path = folder / journal.JOURNAL
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:3], lines[3].replace(b"brg_conv", b"brg_cone"), *lines[4:]]))
    append(folder, profile(kernel(900.0), of=OF_JAX))
    with pytest.warns(UserWarning, match="line 4 is damaged"):
        table.seal(folder)
    found = table.kernels_of(of(folder))
    assert found.groupby("backend")["kernel_ns"].max().to_dict() == {"jax": 900.0, "torch": 800.0}
    assert sorted(table.profiles_of(of(folder))["problem"]) == ["", ""]  # that of jax which came to nothing is outdated


def test_the_tables_of_profiles_outlive_the_journal(tmp_path: Path):
    folder = made(tmp_path, *MEASURED, *TOLD)
    for name in (table.SAMPLES, journal.JOURNAL):
        (folder / name).unlink()
    assert (len(table.kernels_of(of(folder))), len(table.profiles_of(of(folder)))) == (3, 2)


def test_a_profile_of_another_run_is_told(tmp_path: Path):
    folder = made(tmp_path, *MEASURED, profile(kernel(), run_id="20260101-000000-bbbb"), seal=False)
    with pytest.raises(UserError, match="is of run '20260101"):
        table.kernels_of(of(folder))


@pytest.mark.fault("a stored profile names a file outside of its run as its trace", "the run is called damaged")
@pytest.mark.parametrize("trace", ["../../secret", "/etc/passwd", "traces/../x.json.gz", "traces/0123456789abcdef.json"])
def test_a_trace_that_is_none_of_ours_is_refused(tmp_path: Path, trace: str):
    folder = made(tmp_path, *MEASURED, profile(kernel(), trace=trace), seal=False)
    with pytest.raises(UserError, match="trace: found"):
        table.profiles_of(of(folder))


def test_the_name_of_a_trace_is_that_of_its_cell():
    assert trace_name(cell()) == trace_name(cell())
    assert len({trace_name(cell(workload=name)) for name in ("a", "b", "c/../d")}) == 3


def test_records_without_a_step_are_told_of_as_before_in_a_profiled_run(tmp_path: Path):
    made(tmp_path, environment(), failed(Status.OOM, "no memory"), *TOLD)
    assert harness.load(tmp_path)["status"].tolist() == ["oom"]
