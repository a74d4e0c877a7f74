import json
import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest

from harness import codec
from harness.axes import Device, Direction, Layout, Optimizer
from harness.columns import COLUMNS, RECORD_COLUMNS, SAMPLE_COLUMNS
from harness.errors import RunNotFoundError, UserError
from harness.flags import Flag
from harness.record import Memory, Power, SeriesKind, Status
from harness.spec import ConvSpec, CopySpec
from harness.store import journal, table
from tests.builders import START, cell, environment, failed, record, run, samples, series, visit, visited

FIRST, SECOND, THIRD = "20260301-023000-aaaa", "20260302-023000-bbbb", "20260302-043000-cccc"


def make_run(root, id, *events, seal=False, **overrides):
    folder = journal.create(root, run(id, **overrides))
    with journal.Journal(folder) as log:
        for event in events:
            log.append(event)
    if seal:
        journal.finish(folder, run(id, **overrides, finished_at=START + timedelta(hours=1), environments=(environment(),)))
        table.seal(folder)
    return folder


def without(path, *columns):
    """Rewrite a table as an older version did, which knew no checksum and lacked these columns."""
    older = pq.read_table(path).drop_columns(list(columns))
    kept = {name: value for name, value in older.schema.metadata.items() if name != b"convbench.crc32"}
    pq.write_table(older.replace_schema_metadata(kept), path)


def dtypes(frame):
    return {name: str(dtype) for name, dtype in frame.dtypes.items()}


def expected_dtypes(columns):
    return {name: COLUMNS[name].dtype for name in columns}


MANY = (
    environment(),
    record([10, 20], flags=(Flag.CONTENDED, Flag.NOT_CONVERGED), flop_framework=576.0),
    failed(Status.OOM, "no memory", order=1, of=cell(backend="jax")),
    record([30], order=2, trial=1, samples=samples(series([30], [1], iterations=4), series([7, 8], kind=SeriesKind.DEVICE))),
)


@pytest.mark.parametrize("seal", [False, True])
def test_a_row_holds_what_its_record_holds(tmp_path, seal):
    make_run(tmp_path, FIRST, *MANY, seal=seal)
    frame = table.load(tmp_path)
    first = frame.iloc[0].to_dict()
    assert {name: first[name] for name in ("run_id", "suite", "trial", "order", "status", "reason")} == {
        "run_id": FIRST, "suite": "small", "trial": 0, "order": 0, "status": "ok", "reason": "",
    }  # fmt: skip
    assert first["flags"] == "contended,not_converged"
    assert first["settings"] == "mkldnn=on, threads=2"
    assert first["shape"] == "n1 c1 k2 4x4 f3x3 p1x1"
    assert (first["layout"], first["optimizer"], first["device"]) == ("NCHW", "", "cpu")
    assert (first["first_call_ns"], first["wall_ns"], first["cpu_ns"], first["steal_ns"]) == (5e6, 2e6, 3e6, 0)
    assert (first["host_base_bytes"], first["host_peak_bytes"], first["memory_method"]) == (10_000, 11_000, "VmHWM")
    assert (first["check_method"], first["max_rel_err"], first["tolerance"]) == ("integer", 0.25, 1.0)
    assert (first["results_vary"], first["compared_calls"]) == (2e-7, "3,41")
    assert (first["threads_used"], first["flop_framework"], first["machine_id"]) == (2, 576.0, "machine-1")
    assert first["started_at"] == pd.Timestamp(START)
    by_torch, by_jax = (f"conv/fprop/{backend}/eager/cpu/fp32/nchw/hot/t0" for backend in ("torch", "jax"))
    assert frame["cell"].tolist() == [by_torch, by_jax, by_torch]
    assert frame["iterations"].tolist() == [1, pd.NA, 4]
    assert frame["stopped_by"].tolist() == ["interval", "", "interval"]


@pytest.mark.parametrize("seal", [False, True])
def test_what_is_no_convolution_has_no_layout(tmp_path, seal):
    asked = cell(workload="move", spec=CopySpec(64), direction=Direction.NONE)
    make_run(tmp_path, FIRST, environment(), record([10], of=asked), seal=seal)
    row = table.load(tmp_path).iloc[0]
    assert row[["workload", "shape", "direction", "layout"]].tolist() == ["move", "copy 64 bytes", "none", ""]
    assert row["cell"] == str(asked)


@pytest.mark.parametrize("seal", [False, True])
def test_missing_text_is_empty_and_missing_numbers_are_missing(tmp_path, seal):
    make_run(tmp_path, FIRST, *MANY, seal=seal)
    row = table.load(tmp_path).iloc[1]
    assert row["reason"] == "no memory"
    assert not row[["op", "settings", "stopped_by", "check_method", "compared_calls", "memory_method"]].any()
    assert (
        row[["threads_used", "iterations", "first_call_ns", "steal_ns", "host_peak_bytes", "tolerance", "results_vary"]]
        .isna()
        .all()
    )


@pytest.mark.parametrize("seal", [False, True])
@pytest.mark.parametrize("events", [MANY, (), (failed(Status.ERROR, "all of them"),)])
def test_frames_have_the_dtypes_of_the_schema(tmp_path, events, seal):
    make_run(tmp_path, FIRST, *events, seal=seal)
    assert dtypes(table.load(tmp_path)) == expected_dtypes(RECORD_COLUMNS)
    assert dtypes(table.samples(tmp_path)) == expected_dtypes(SAMPLE_COLUMNS)


def test_a_store_without_runs_has_empty_frames_of_the_right_dtypes(tmp_path):
    for path in (tmp_path, tmp_path / "nowhere"):
        assert len(table.load(path)) == len(table.samples(path)) == len(table.runs(path)) == 0
        assert dtypes(table.load(path)) == expected_dtypes(RECORD_COLUMNS)
        assert dtypes(table.samples(path)) == expected_dtypes(SAMPLE_COLUMNS)


def test_parquet_and_journal_give_the_same_frames(tmp_path):
    folder = make_run(tmp_path, FIRST, *MANY, seal=True)
    sealed = table.load(folder), table.samples(folder)
    (folder / "records.parquet").unlink()
    (folder / "samples.parquet").unlink()
    for before, after in zip(sealed, (table.load(folder), table.samples(folder)), strict=True):
        pd.testing.assert_frame_equal(before, after)
    assert (folder / journal.JOURNAL).exists()


def test_the_samples_of_every_series_stand_in_order_with_their_delay(tmp_path):
    blocks = samples(series([1000, 1000, 1000], [10, 11, 0], iterations=2), series([70, 80], kind=SeriesKind.DEVICE))
    make_run(tmp_path, FIRST, record(samples=blocks), record([5], order=1, trial=1))
    frame = table.samples(tmp_path)
    assert frame["series"].tolist() == ["latency"] * 3 + ["device"] * 2 + ["latency"]
    assert frame["index"].tolist() == [0, 1, 2, 0, 1, 0]
    assert frame["trial"].tolist() == [0] * 5 + [1]
    assert frame["iterations"].tolist() == [2, 2, 2, 1, 1, 1]
    assert frame["block_ns"].tolist() == [1000, 1000, 1000, 70, 80, 5]
    assert frame["run_delay_ns"].tolist() == [10, 11, 0, pd.NA, pd.NA, pd.NA]
    # 1 % of 1000 ns is 10 ns: exactly that is still clean.
    assert frame["contended"].tolist() == [False, True, False, False, False, False]


def test_a_block_that_waited_is_contended_only_where_others_are_known_to_have_run(tmp_path):
    waited = [20, 20, 20]
    seen = record(samples=samples(series([1000, 1000, 1000], waited, others_ns=[0, 10, 11])))
    unseen = record(samples=samples(series([1000, 1000, 1000], waited, others_ns=[])), order=1, trial=1)
    make_run(tmp_path, FIRST, seen, unseen)
    frame = table.samples(tmp_path)
    assert frame["contended"].tolist() == [False, False, True, False, False, False]
    assert frame["others_ns"].tolist() == [0, 10, 11, pd.NA, pd.NA, pd.NA]


def test_axes_of_other_kinds_of_cells(tmp_path):
    conv = ConvSpec(2, 4, 4, (9,), (3,), (2,), (1,), ((1, 0),), groups=4)
    made = cell(
        spec=conv, direction=Direction.TRAIN, optimizer=Optimizer.ADAM, device=Device("gpu", 1), layout=Layout.CHANNELS_LAST
    )
    memory = Memory(None, None, 1, 2, "counters")
    make_run(tmp_path, FIRST, record(of=made, memory=memory))
    row = table.load(tmp_path).iloc[0]
    assert row[["shape", "layout", "optimizer", "device"]].tolist() == ["n2 c4 k4 9 f3 s2 p1-0 g4", "NWC", "adam", "gpu:1"]
    assert (row["device_base_bytes"], row["device_peak_bytes"]) == (1, 2)


def test_rows_are_in_the_order_of_runs_and_of_measuring(tmp_path):
    make_run(tmp_path, SECOND, record(order=1, run_id=SECOND), record(order=0, trial=1, run_id=SECOND), seal=True)
    make_run(tmp_path, FIRST, record(order=5))
    frame = table.load(tmp_path)
    assert list(zip(frame["run_id"], frame["order"], strict=True)) == [(FIRST, 5), (SECOND, 0), (SECOND, 1)]
    assert frame.index.tolist() == [0, 1, 2]
    assert frame.attrs["store"] == str(tmp_path)
    assert table.load(tmp_path / "runs" / SECOND)["run_id"].unique().tolist() == [SECOND]


def test_a_cell_that_was_measured_again_counts_once(tmp_path):
    make_run(tmp_path, FIRST, failed(Status.NOT_RUN, "stopped"), record([9], order=1))
    assert table.load(tmp_path)[["order", "status"]].values.tolist() == [[1, "ok"]]
    assert table.samples(tmp_path)["block_ns"].tolist() == [9]


def test_a_sealed_run_that_grew_is_read_from_its_journal(tmp_path):
    folder = make_run(tmp_path, FIRST, record(), seal=True)
    with journal.Journal(folder) as log:
        log.append(record([9], trial=1, order=1))
    assert len(table.load(tmp_path)) == 2
    assert table.samples(tmp_path)["block_ns"].tolist() == [1000] * 30 + [9]
    table.seal(folder)
    (folder / journal.JOURNAL).unlink()
    assert len(table.load(tmp_path)) == 2


def test_a_table_of_an_older_schema_or_a_broken_one_is_read_from_the_journal(tmp_path):
    folder = make_run(tmp_path, FIRST, *MANY, seal=True)
    whole = table.load(tmp_path)
    path = folder / "records.parquet"
    without(path, "machine_id")
    pd.testing.assert_frame_equal(table.load(tmp_path), whole)
    path.write_bytes(b"PAR1 no more")
    with pytest.warns(UserWarning, match=r"records\.parquet is damaged, and journal\.jsonl read instead"):
        pd.testing.assert_frame_equal(table.load(tmp_path), whole)
    pd.testing.assert_frame_equal(table.load(tmp_path), whole)
    (folder / journal.JOURNAL).unlink()
    pd.testing.assert_frame_equal(table.load(tmp_path), whole)
    path.write_bytes(b"PAR1 no more")
    with pytest.raises(UserError, match=r"records\.parquet is damaged, and there is no journal"):
        table.load(folder)


def test_a_run_of_an_older_schema_without_a_journal_lacks_the_newer_columns(tmp_path):
    folder = make_run(tmp_path, FIRST, *MANY, seal=True)
    (folder / journal.JOURNAL).unlink()
    for name, newer in (
        ("records.parquet", ["energy_j", "energy_calls", "device_method"]),
        ("samples.parquet", ["yardstick_ns"]),
    ):
        without(folder / name, *newer)
    records, blocks = table.load(tmp_path), table.samples(tmp_path)
    assert (dtypes(records), dtypes(blocks)) == (expected_dtypes(RECORD_COLUMNS), expected_dtypes(SAMPLE_COLUMNS))
    assert records[["energy_j", "energy_calls"]].isna().all(axis=None)
    assert records["device_method"].tolist() == [""] * 3
    assert blocks["yardstick_ns"].isna().all()
    without(folder / "records.parquet", "trial")
    with pytest.raises(UserError, match="no column trial"):
        table.load(folder)


def test_power_steps_and_yardsticks_stand_in_the_frames(tmp_path):
    power = Power(2.5, 10**9, 50, "NVML", 1500, 61, ("SwPowerCap", "HwSlowdown"))
    timed = samples(series([10, 20], yardstick_ns=[5, 6]), series([7], kind=SeriesKind.DEVICE, method="events"))
    make_run(tmp_path, FIRST, record(power=power, spent_ns={"sampling": 30, "check": 4}, samples=timed))
    row = table.load(tmp_path).iloc[0]
    names = ["energy_j", "energy_calls", "energy_window_ns", "energy_method", "gpu_clock_mhz", "gpu_temperature_c"]
    assert row[names].tolist() == [2.5, 50, 1e9, "NVML", 1500, 61]
    assert (row["gpu_throttle_reasons"], row["device_method"]) == ("SwPowerCap,HwSlowdown", "events")
    assert row[["spent_sampling_ns", "spent_check_ns"]].tolist() == [30, 4]
    assert pd.isna(row["spent_warmup_ns"])
    assert table.samples(tmp_path)["yardstick_ns"].tolist() == [5, 6, pd.NA]


def test_a_damaged_run_is_named_and_the_others_are_read(tmp_path):
    make_run(tmp_path, FIRST, record())
    broken = make_run(tmp_path, SECOND, record(run_id=SECOND))
    (broken / journal.RUN).write_text("{")
    (tmp_path / "runs" / "stray").mkdir()
    for read in (table.load, table.samples, table.runs):
        with pytest.warns(UserWarning, match="left out") as caught:
            assert len(read(tmp_path)) > 0
        assert [SECOND in str(caught[0].message), "stray" in str(caught[1].message)] == [True, True]
        assert {warning.filename for warning in caught} == {__file__}
    with pytest.raises(UserError, match="is damaged"):
        table.load(broken)


def test_runs_are_listed_with_their_environments(tmp_path):
    make_run(tmp_path, SECOND, environment(), record(run_id=SECOND))
    make_run(tmp_path, FIRST, environment(), record(), seal=True)
    found = table.runs(tmp_path)
    assert [each.id for each in found] == [FIRST, SECOND]
    assert [each.finished_at is None for each in found] == [False, True]
    assert [each.environments for each in found] == [(environment(),)] * 2
    assert table.runs(tmp_path / "runs" / SECOND) == found[1:]


def test_a_run_is_found_by_every_name_it_goes_by(tmp_path):
    for id in (FIRST, SECOND, THIRD):
        make_run(tmp_path, id)
    (tmp_path / "runs" / "zzz-no-run").mkdir()
    folder = tmp_path / "runs"
    for which, id in (("latest", THIRD), ("latest~0", THIRD), ("latest~2", FIRST), ("20260301", FIRST)):
        with pytest.warns(UserWarning, match="left out: .*zzz-no-run is no run"):
            assert table.find(tmp_path, which) == folder / id
    assert table.find(tmp_path, SECOND) == folder / SECOND
    assert table.find(tmp_path / "elsewhere", str(folder / FIRST)) == folder / FIRST


@pytest.mark.fault("the run.json of the newest run is lost or empty", "`latest` is the run before, and a warning names it")
@pytest.mark.parametrize("lost", [True, False])
def test_latest_is_told_to_be_another_where_the_newest_is_damaged(tmp_path, lost):
    make_run(tmp_path, FIRST)
    broken = make_run(tmp_path, SECOND) / journal.RUN
    broken.unlink() if lost else broken.write_text("")
    for which in ("latest", "latest~0"):
        with pytest.warns(UserWarning, match=f"left out: .*{SECOND}"):
            assert table.find(tmp_path, which) == tmp_path / "runs" / FIRST


def test_a_run_is_found_by_its_tag_the_latest_first(tmp_path):
    make_run(tmp_path, FIRST, tags=("nightly", "before"))
    make_run(tmp_path, SECOND, tags=("nightly",))
    broken = make_run(tmp_path, THIRD, tags=("nightly",))
    (broken / journal.RUN).write_text("{")
    with pytest.warns(UserWarning, match=rf"left out: .*{THIRD}.*run\.json is damaged"):
        assert table.find(tmp_path, "tag:nightly") == tmp_path / "runs" / SECOND
    shutil.rmtree(broken)
    assert table.find(tmp_path, "tag:before") == tmp_path / "runs" / FIRST
    with pytest.raises(RunNotFoundError, match=r"no run with tag 'nightl': .* holds runs with nightly, before$"):
        table.find(tmp_path, "tag:nightl")
    with pytest.raises(RunNotFoundError, match=r"no run in .* has a tag"):
        table.find(tmp_path / "nowhere", "tag:nightly")


def test_a_run_that_is_not_there_is_answered_with_those_that_are(tmp_path):
    for id in (FIRST, SECOND, THIRD):
        make_run(tmp_path, id)
    there = f"{tmp_path} holds {THIRD}, {SECOND}, {FIRST}"
    for which in ("latest~3", "20270101", "latest~x", "", str(tmp_path)):
        with pytest.raises(RunNotFoundError) as caught:
            table.find(tmp_path, which)
        assert str(caught.value) == f"no run {which!r}: {there}"
    with pytest.raises(RunNotFoundError, match=f"'20260302' is the start of 2 runs: {THIRD}, {SECOND}"):
        table.find(tmp_path, "20260302")
    with pytest.raises(RunNotFoundError, match="holds no runs"):
        table.find(tmp_path / "nowhere", "latest")


def test_of_many_runs_the_newest_are_named(tmp_path):
    for day in range(1, 9):
        make_run(tmp_path, f"2026010{day}-aaaa")
    with pytest.raises(RunNotFoundError, match=r"20260108-aaaa, .*20260104-aaaa and 3 older$"):
        table.find(tmp_path, "x")


def test_sealing_needs_a_journal(tmp_path):
    folder = journal.create(tmp_path, run())
    with pytest.raises(RunNotFoundError, match="to seal"):
        table.seal(folder)
    assert len(table.load(tmp_path)) == 0


def test_times_of_any_zone_are_utc(tmp_path):
    there = datetime.fromisoformat("2026-03-01T04:30:00+02:00")
    make_run(tmp_path, FIRST, record(started_at=there))
    assert table.load(tmp_path)["started_at"].tolist() == [pd.Timestamp(datetime(2026, 3, 1, 2, 30, tzinfo=UTC))]


def test_run_json_is_plain_json(tmp_path):
    folder = make_run(tmp_path, FIRST)
    assert json.loads((folder / journal.RUN).read_text())["started_at"] == "2026-03-01T02:30:00.123456+00:00"


def test_the_runs_kept_as_samples_load():
    kept = sorted((Path(__file__).parents[2] / "results" / "samples").iterdir())
    assert kept
    for folder in kept:
        records = table.load(folder)
        assert set(records["status"]) == {"ok"}
        if not (folder / "runs").is_dir():  # of a series of nights the samples are not kept
            assert len(table.samples(folder)) > len(records)


def test_the_last_record_of_a_cell_and_trial_counts_and_says_how_long_the_ones_before_took(tmp_path):
    barred = record([10, 90], order=0, spent_ns={"start": 900, "sampling": 30, "check": 4}, flags=(Flag.DRIFT,))
    other = record([50], order=1, of=cell(backend="jax"), spent_ns={"sampling": 5})
    again = record([20, 20], order=0, spent_ns={"start": 1, "sampling": 7}, repeated_for=(Flag.DRIFT,))
    folder = make_run(tmp_path, FIRST, barred, other, again)
    rows = table.load(folder)
    assert rows["order"].tolist() == [0, 1]
    assert rows["repeated_for"].tolist() == ["drift", ""]
    assert rows["flags"].tolist() == ["", ""]
    assert rows["spent_sampling_ns"].tolist() == [7, 5]
    assert rows.loc[0, ["spent_start_ns", "spent_set_aside_ns"]].tolist() == [901, 34]
    assert pd.isna(rows.loc[1, "spent_set_aside_ns"])
    assert table.samples(folder)["block_ns"].tolist() == [20, 20, 50]
    assert len(journal.read(folder)[0]) == 3


@pytest.mark.parametrize("seal", [False, True])
def test_the_samples_say_of_which_visit_they_are(tmp_path, seal):
    one, many = series([10, 20]), series([300], iterations=30)
    visits = [
        visit(0, series=(one, series([7], kind=SeriesKind.DEVICE)), process=0, turn=0, place=3),
        visit(0, series=(many,), process=4, turn=2, place=1),
        visit(0, [30], process=4, turn=5, place=0),
    ]
    make_run(tmp_path, FIRST, *visits, visited(*visits), record([5], order=1, trial=1), seal=seal)
    frame = table.samples(tmp_path)
    assert dtypes(frame) == expected_dtypes(SAMPLE_COLUMNS)
    told = ["series", "index", "block_ns", "iterations", "process", "turn", "place", "visit"]
    assert frame[told].to_numpy().tolist() == [
        ["latency", 0, 10, 1, 0, 0, 3, 0],
        ["latency", 1, 20, 1, 0, 0, 3, 0],
        ["latency", 2, 30, 1, 4, 5, 0, 2],
        ["latency", 3, 300, 30, 4, 2, 1, 1],
        ["device", 0, 7, 1, 0, 0, 3, 0],
        ["latency", 0, 5, 1, pd.NA, pd.NA, pd.NA, pd.NA],
    ]


def test_samples_of_a_run_that_knows_no_visits_load_without_them(tmp_path):
    folder = make_run(tmp_path, FIRST, environment(), record([5, 6]), seal=True)
    (folder / journal.JOURNAL).unlink()
    without(folder / "samples.parquet", "process", "turn", "place", "visit")
    frame = table.samples(folder)
    assert frame["block_ns"].tolist() == [5, 6]
    assert frame[["process", "turn", "place", "visit"]].isna().all(axis=None)


def test_visits_that_do_not_fit_their_series_are_damage(tmp_path):
    whole = visited(visit(0, [1, 2]))
    (one,) = whole.samples.series
    wrong = replace(whole, samples=replace(whole.samples, series=(replace(one, visits=one.visits * 2),)))
    folder = make_run(tmp_path, FIRST)
    (folder / journal.JOURNAL).write_text(json.dumps({"record": codec.encode(wrong)}) + "\n")
    with pytest.raises(UserError, match="4 blocks in the visits of a series of 2"):
        table.samples(folder)


def test_a_second_measurement_that_failed_leaves_the_first_one_standing(tmp_path):
    first = record([10, 90], spent_ns={"start": 900, "sampling": 30}, flags=(Flag.DRIFT,))
    lost = failed(Status.CRASHED, "exit code 3", spent_ns={"start": 50, "wire": 7}, repeated_for=(Flag.DRIFT,))
    rows = table.load(make_run(tmp_path, FIRST, first, lost))
    assert rows[["status", "reason", "flags", "repeated_for"]].to_numpy().tolist() == [["ok", "", "drift", ""]]
    assert rows.loc[0, ["spent_start_ns", "spent_sampling_ns", "spent_set_aside_ns"]].tolist() == [950, 30, 7]


@pytest.mark.fault(
    "a row that says not_run follows a record of its cell",
    "the record counts",
)
def test_a_row_that_says_not_run_never_hides_a_record(tmp_path):
    folder = make_run(tmp_path, FIRST, record([20, 20]), failed(Status.NOT_RUN, "the run ended before this cell"))
    assert table.load(folder)["status"].tolist() == ["ok"]


def test_a_folder_that_is_not_yet_a_run_is_not_seen(tmp_path, recwarn):
    half = make_run(tmp_path, FIRST, record())
    half.rename(half.with_name(f".new-{FIRST}"))
    assert table.runs(tmp_path) == []
    assert not recwarn.list


def test_a_wrong_result_of_the_second_measurement_counts(tmp_path):
    wrong = failed(Status.INCORRECT, "largest relative error 3, allowed 1", repeated_for=(Flag.DRIFT,))
    rows = table.load(make_run(tmp_path, FIRST, record([10, 90], flags=(Flag.DRIFT,)), wrong))
    assert rows[["status", "flags", "repeated_for"]].to_numpy().tolist() == [["incorrect", "", "drift"]]
