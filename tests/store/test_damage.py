"""One bad run costs no other, and one bad line no other: what is left is read, and what was lost is named."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from harness import codec, drafts
from harness.errors import RunNotFoundError, UserError
from harness.plan import Budget, Plan, Step
from harness.record import NIGHTLY, Record, Status
from harness.review import nights as nights_of
from harness.review import pages
from harness.review.reading import Reading, overview, summary
from harness.store import journal, nights, parquet, table
from tests import builders, stored

ROOT = Path(__file__).parents[2]
IDS = ("20260301T0-a", "20260302T0-b", "20260303T0-c")


def a_run(store: Path, id: str = IDS[0], cells: int = 4, *, seal: bool = True, plan: bool = True, **overrides: object) -> Path:
    """A finished run of as many workloads, line 1 of its journal being the environment and line 2 the first record."""
    run = builders.run(id, **overrides)
    folder = journal.create(store, run)
    steps = tuple(Step(0, order, builders.cell(workload=f"w{order}")) for order in range(cells))
    if plan:
        journal.write_plan(folder, Plan("small", steps, 7, Budget()))
    with journal.Journal(folder) as book:
        book.append(builders.environment())
        for step in steps:
            book.append(builders.record([1000 + step.order] * 30, of=step.cell, order=step.order, run_id=id))
    ended = run.started_at + timedelta(minutes=1)
    journal.finish(folder, replace(run, finished_at=ended, environments=(builders.environment(),)))
    if seal:
        table.seal(folder)
    return folder


def damage(folder: Path, line: int) -> None:
    """Flip a bit in the middle of a line of the journal."""
    path = folder / journal.JOURNAL
    lines = path.read_bytes().split(b"\n")
    middle = len(lines[line - 1]) // 2
    lines[line - 1] = lines[line - 1][:middle] + bytes([lines[line - 1][middle] ^ 1]) + lines[line - 1][middle + 1 :]
    path.write_bytes(b"\n".join(lines))


# Lines of the journal ----------------------------------------------------------------------------------------------------


@pytest.mark.fault("a record's line is damaged", "its row says that it was lost")
def test_a_damaged_line_costs_its_own_row_which_says_so(tmp_path: Path) -> None:
    folder = a_run(tmp_path, cells=40, seal=False)
    damage(folder, 12)
    with pytest.warns(UserWarning, match=r"journal\.jsonl: line 12 is damaged, and left out"):
        records = table.load(tmp_path)
    assert records["order"].tolist() == list(range(40))
    lost = records[records["status"] != "ok"]
    assert lost[["order", "workload", "status"]].to_numpy().tolist() == [[10, "w10", "not_run"]]
    assert lost["reason"].tolist() == ["lost: journal.jsonl, line 12 is damaged; convbench run --resume measures it anew"]
    with pytest.warns(UserWarning, match="line 12"):
        assert len(table.samples(tmp_path)) == 39 * 30


def test_without_a_plan_the_other_rows_are_there_and_the_line_is_named(tmp_path: Path) -> None:
    folder = a_run(tmp_path, seal=False, plan=False)
    damage(folder, 3)
    with pytest.warns(UserWarning, match="line 3 is damaged"):
        assert table.load(folder)["workload"].tolist() == ["w0", "w2", "w3"]


def test_of_a_run_that_was_cut_off_only_what_was_measured_is_called_lost(tmp_path: Path) -> None:
    folder = a_run(tmp_path, seal=False)
    journal.finish(folder, replace(journal.read_run(folder), finished_at=None))
    path = folder / journal.JOURNAL
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:4]))  # one workload was never reached
    damage(folder, 2)
    with pytest.warns(UserWarning, match="line 2 is damaged"):
        rows = table.load(folder)
    told = rows[["workload", "status"]].to_numpy().tolist()
    assert told == [["w0", "not_run"], ["w1", "ok"], ["w2", "ok"], ["w3", "not_run"]]
    assert "damaged" in rows["reason"].iloc[0]
    assert "damaged" not in rows["reason"].iloc[3]


@pytest.mark.fault(
    "a run was killed after a cell failed, amid the visits of others", "what was never finished is not called lost"
)
def test_what_was_never_finished_is_not_called_lost_where_one_behind_it_failed(tmp_path: Path) -> None:
    """A cell that fails has its row before the window ends; its neighbours get theirs then."""
    run = builders.run(IDS[0])
    folder = journal.create(tmp_path, run)
    cells = [builders.cell(workload=f"w{order}") for order in range(6)]
    journal.write_plan(folder, Plan("small", tuple(Step(0, order, of) for order, of in enumerate(cells)), 7, Budget()))
    with journal.Journal(folder) as book:
        book.append(builders.environment())
        for order in (0, 1):
            book.append(builders.record(of=cells[order], order=order, run_id=run.id))
        book.append(builders.failed(Status.CRASHED, "exit code 3", of=cells[4], order=4, run_id=run.id))
        for turn, order in enumerate((2, 3, 2)):
            book.append(builders.visit(order, turn=turn))
    damage(folder, 2)
    with pytest.warns(UserWarning, match="line 2 is damaged"):
        rows = table.load(folder)
    assert rows["status"].tolist() == ["not_run", "ok", "not_run", "not_run", "crashed", "not_run"]
    assert rows["reason"].str.startswith("lost: ").tolist() == [True, *[False] * 5]
    assert rows["reason"].tolist()[2:] == [
        "not finished: 2 visits so far", "not finished: 1 visit so far", "exit code 3", "the run has not come to this cell"
    ]  # fmt: skip
    with pytest.warns(UserWarning, match="line 2 is damaged"):
        assert set(table.samples(folder)["cell"]) == {str(cells[1])}


def test_a_run_that_was_sealed_without_a_sample_went_on_and_was_damaged_is_read(tmp_path: Path) -> None:
    folder = a_run(tmp_path, cells=0)
    assert table.samples(folder).empty
    with journal.Journal(folder) as book:
        for order in (0, 1):
            book.append(builders.record([7] * 3, of=builders.cell(workload=f"w{order}"), order=order, run_id=IDS[0]))
    damage(folder, 2)
    with pytest.warns(UserWarning, match="line 2 is damaged"):
        assert table.samples(folder)["block_ns"].tolist() == [7] * 3


@pytest.mark.fault("the only visit of a cell is damaged", "its row says that it was lost")
def test_a_record_of_whose_visits_none_is_left_is_lost(tmp_path: Path) -> None:
    folder = a_run(tmp_path, cells=0)
    steps = tuple(Step(0, order, builders.cell(workload=f"w{order}")) for order in range(3))
    journal.write_plan(folder, Plan("small", steps, 7, Budget()))
    with journal.Journal(folder) as book:
        for step in steps:
            visit = builders.visit(step.order, [1000] * 30, turn=step.order)
            book.append(visit)
            book.append(builders.visited(visit, of=step.cell, run_id=IDS[0]))
    damage(folder, 4)
    with pytest.warns(UserWarning, match="line 4 is damaged"):
        rows = table.load(folder)
    assert rows["status"].tolist() == ["ok", "not_run", "ok"]
    assert rows["reason"][1] == "lost: journal.jsonl, line 4 is damaged; convbench run --resume measures it anew"


@pytest.mark.fault("a run with a damaged line is sealed again", "nothing that was sealed is erased")
def test_a_sealed_run_loses_nothing_by_a_damaged_line_and_sealing_it_again_erases_nothing(tmp_path: Path) -> None:
    folder = a_run(tmp_path)
    whole, blocks = table.load(folder), table.samples(folder)
    damage(folder, 3)
    pd.testing.assert_frame_equal(table.load(folder), whole)
    with pytest.warns(UserWarning, match="line 3 is damaged"):
        table.seal(folder)
    pd.testing.assert_frame_equal(table.load(folder), whole)
    pd.testing.assert_frame_equal(table.samples(folder), blocks)


def test_what_an_older_table_holds_of_a_damaged_line_is_kept_when_the_journal_has_gone_on(tmp_path: Path) -> None:
    folder = a_run(tmp_path)
    damage(folder, 3)
    with journal.Journal(folder) as book:
        book.append(builders.record([7] * 30, of=builders.cell(workload="w9"), order=9, run_id=IDS[0]))
    with pytest.warns(UserWarning, match="line 3 is damaged"):
        table.seal(folder)
    records, blocks = table.load(folder), table.samples(folder)
    assert records[["workload", "status"]].to_numpy().tolist() == [[f"w{place}", "ok"] for place in (0, 1, 2, 3, 9)]
    assert blocks.groupby("cell", sort=False)["block_ns"].first().tolist() == [1000, 1001, 1002, 1003, 7]


def test_a_run_with_a_damaged_line_keeps_its_samples_when_others_are_pruned(tmp_path: Path) -> None:
    from harness.nights import retention

    folder = a_run(tmp_path)
    damage(folder, 3)
    (old,) = retention.plan(tmp_path, builders.START + timedelta(days=99)).old
    with (
        pytest.warns(UserWarning, match="line 3 is damaged"),
        pytest.raises(UserError, match=r"journal\.jsonl: line 3 is damaged: its samples are kept"),
    ):
        retention.prune(old)
    assert (folder / journal.JOURNAL).is_file()


@pytest.mark.fault("a message holds half a surrogate pair", "the run is sealed and listed")
def test_half_a_surrogate_pair_in_a_message_is_sealed_and_listed(tmp_path: Path) -> None:
    folder = a_run(tmp_path, seal=False)
    with journal.Journal(folder) as book:
        book.append(builders.failed(Status.ERROR, "it said \udcff", of=builders.cell(workload="bad"), order=4, run_id=IDS[0]))
    a_run(tmp_path, IDS[1])
    table.seal(folder)
    assert "it said \ufffd" in set(table.load(tmp_path)["reason"])
    assert [listed.run.id for listed in overview(tmp_path)] == [IDS[1], IDS[0]]


# Tables ------------------------------------------------------------------------------------------------------------------


def flipped(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


@pytest.mark.fault("a bit of a table flips", "it is found, and mended from the journal")
@pytest.mark.parametrize("name", ["records.parquet", "samples.parquet"])
def test_a_flipped_bit_in_a_table_is_found_wherever_it_is_and_mended_from_the_journal(tmp_path: Path, name: str) -> None:
    folder = a_run(tmp_path)
    read = table.load if name.startswith("records") else table.samples
    whole, path = read(folder), folder / name
    content = path.read_bytes()
    for place in range(5, len(content), len(content) // 12):
        if b"crc32" in content[place - 20 : place + 20]:
            continue  # in the name of the checksum a flip costs the checksum, and no figure
        flipped(path, place)
        with pytest.warns(UserWarning, match=rf"{name} is damaged, and journal\.jsonl read instead"):
            pd.testing.assert_frame_equal(read(tmp_path), whole)
        assert path.read_bytes() == content  # it was made anew, so nothing more is said


@pytest.mark.fault("a bit of a table without a journal flips", "it never passes as a figure")
@pytest.mark.parametrize("name", ["records.parquet", "samples.parquet"])
def test_a_flipped_bit_in_a_table_without_a_journal_never_passes_as_a_figure(tmp_path: Path, name: str) -> None:
    folder = a_run(tmp_path)
    (folder / journal.JOURNAL).unlink()
    read = table.load if name.startswith("records") else table.samples
    whole, path = read(folder), folder / name
    content = path.read_bytes()
    name_at = content.index(b"convbench.crc32")
    for place in range(0, len(content), len(content) // 150):
        flipped(path, place)
        if name_at <= place < name_at + len(b"convbench.crc32"):  # a flip costs the checksum, and no figure
            pd.testing.assert_frame_equal(read(folder), whole)
        else:
            with pytest.raises(UserError, match=f"{name} is damaged, and there is no journal"):
                read(folder)
        path.write_bytes(content)


@pytest.mark.fault("a bit of night.parquet flips", "it is made again, or named")
def test_a_night_that_is_damaged_is_made_again_or_named(tmp_path: Path) -> None:
    folder = stored.night(tmp_path, 0)
    nights_of.history(tmp_path, stored.SUITE)
    whole, path = nights_of.history(tmp_path, stored.SUITE).cells, folder / nights.NIGHT
    for place in range(5, path.stat().st_size, path.stat().st_size // 6):
        flipped(path, place)
        pd.testing.assert_frame_equal(nights_of.history(tmp_path, stored.SUITE).cells, whole)
    for name in ("journal.jsonl", "samples.parquet"):
        (folder / name).unlink()
    flipped(path, path.stat().st_size // 2)
    damaged = path.read_bytes()
    for _ in range(2):
        with pytest.warns(UserWarning, match=r"night\.parquet is damaged, and the samples are pruned"):
            nights_of.history(tmp_path, stored.SUITE)
    assert path.read_bytes() == damaged


def test_a_table_that_holds_another_run_or_what_no_record_can_say_is_not_believed(tmp_path: Path) -> None:
    folder = a_run(tmp_path)
    whole = table.load(folder)
    for column, value in {
        "run_id": "another", "status": "splendid", "flags": "odd", "shape": "big", "direction": "sideways", "device": "tpu:x",
    }.items():  # fmt: skip
        size = str((folder / journal.JOURNAL).stat().st_size).encode()
        made = pa.Table.from_pandas(whole.assign(**{column: pd.Series([value] * 4, dtype="string")}), preserve_index=False)
        parquet.write(folder / "records.parquet", made, {b"convbench.journal_bytes": size})
        with pytest.warns(UserWarning, match=f"records.parquet is damaged, .*{value}"):
            pd.testing.assert_frame_equal(table.load(folder), whole)


# Folders -----------------------------------------------------------------------------------------------------------------


@pytest.mark.fault("a run folder is copied or renamed", "it counts as no more runs, and is named")
def test_a_copy_and_a_renamed_folder_count_as_no_more_runs(tmp_path: Path) -> None:
    for id in IDS[:2]:
        a_run(tmp_path, id)
    folder = tmp_path / "runs"
    shutil.copytree(folder / IDS[0], folder / f"{IDS[0]}-copy")
    (folder / IDS[1]).rename(folder / "renamed")
    for read in (table.load, table.samples, table.runs):
        with pytest.warns(UserWarning, match="left out") as caught:
            read(tmp_path)
        for warning, name, id in zip(caught, (f"{IDS[0]}-copy", "renamed"), IDS[:2], strict=True):
            assert f"{name} holds run {id}: a copy, or under another name" in str(warning.message)
    with pytest.warns(UserWarning, match="a copy, or under another name"):
        assert len(table.load(tmp_path)) == 4
    with pytest.warns(UserWarning, match="a copy"):
        assert table.find(tmp_path, "2026030") == folder / IDS[0]
    with pytest.raises(UserError, match=f"renamed holds run {IDS[1]}: a copy, or under another name"):
        table.find(tmp_path, "renamed")


def test_a_run_folder_that_is_named_by_its_path_may_have_any_name(tmp_path: Path) -> None:
    folder = a_run(tmp_path / "there", IDS[0])
    folder = folder.rename(tmp_path / "any name")
    assert table.find(tmp_path / "results", str(folder)) == folder
    assert len(table.load(folder)) == 4
    assert len(summary(table.load(folder))) == 4
    made = pages.publish(Reading(folder), tmp_path / "reports")
    assert made.path == tmp_path / "reports" / IDS[0] / "report.html"
    assert sorted(path.name for path in made.path.parent.iterdir()) == [
        "environment.json", "report.html", "results.csv", "summary.json",
    ]  # fmt: skip


@pytest.mark.fault("a copy is given another id", "its records are not counted")
def test_records_of_another_run_are_not_counted_as_of_this_one(tmp_path: Path) -> None:
    a_run(tmp_path, IDS[0])
    forged = tmp_path / "runs" / IDS[1]
    shutil.copytree(tmp_path / "runs" / IDS[0], forged)
    data = json.loads((forged / journal.RUN).read_text())
    (forged / journal.RUN).write_text(json.dumps({**data, "id": IDS[1]}))
    with pytest.warns(UserWarning, match="left out") as caught:
        assert table.load(tmp_path)["run_id"].tolist() == [IDS[0]] * 4
    assert f"is of run '{IDS[0]}', and run.json of {IDS[1]}" in str(caught[-1].message)


@pytest.mark.fault("a run folder of a shared store is private", "it is named, and costs nothing else")
def test_a_private_run_costs_a_shared_store_nothing_else(tmp_path: Path) -> None:
    """As a user who is not root: the child lets its rights go before it looks."""
    for id in IDS:
        a_run(tmp_path / "store", id, tags=(NIGHTLY,))
    (tmp_path / "store" / "runs" / IDS[1]).chmod(0)
    (tmp_path / "store" / "runs" / IDS[2] / journal.RUN).chmod(0)
    look = f"""
import os, warnings
from harness.review import nights as nights_of
from harness.review.reading import overview
from harness.store import table
os.chdir({str(tmp_path / "store")!r})
overview("."), nights_of.history(".", "small")  # what is loaded late must be there before the rights go
if os.getuid() == 0:
    os.setgroups([])
    os.seteuid(65534)
with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    assert set(table.load(".")["run_id"]) == {{{IDS[0]!r}}}
    assert len(table.samples(".")) == 120
    assert [run.id for run in table.runs(".")] == [{IDS[0]!r}]
    assert table.find(".", "latest").name == {IDS[0]!r}
    assert len(overview(".")) == 1
    assert [run.id for run in nights_of.history(".", "small").runs] == [{IDS[0]!r}]
for id in ({IDS[1]!r}, {IDS[2]!r}):
    assert any(id in str(each.message) and "ermission denied" in str(each.message) for each in told), id
"""
    try:
        done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=False, cwd=ROOT)
        assert (done.returncode, done.stderr) == (0, "")
    finally:
        (tmp_path / "store" / "runs" / IDS[1]).chmod(0o755)


@pytest.mark.fault("a process ends right after it has read a store", "no thread of Arrow is left that could abort it")
def test_reading_leaves_no_thread_of_arrow(tmp_path: Path) -> None:
    for id in IDS:
        a_run(tmp_path / "store", id, tags=(NIGHTLY,))
    look = """
import os
import numpy, pandas, pyarrow.compute, pyarrow.parquet, scipy.linalg, scipy.stats  # which have threads of their own
from harness.review import nights
from harness.store import table
before = len(os.listdir("/proc/self/task"))
for _ in range(2):  # what is read the first time is made from journals
    assert len(table.load(".")) and len(table.samples(".")) and len(nights.history(".", "small").runs) == 3
print(len(os.listdir("/proc/self/task")) - before)
"""
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", look], capture_output=True, text=True, check=False, cwd=tmp_path / "store", env=environ
    )
    assert (done.stdout.strip(), done.stderr) == ("0", "")


@pytest.mark.fault("a pipe stands in the place of a file", "it is not waited for")
@pytest.mark.parametrize("name", [journal.RUN, journal.JOURNAL, "records.parquet"])
def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(tmp_path: Path, name: str) -> None:
    folder = a_run(tmp_path)
    (folder / name).unlink()
    os.mkfifo(folder / name)
    if name == "records.parquet":
        assert len(table.load(tmp_path)) == 4
    else:
        with pytest.warns(UserWarning, match="left out: .*it is no file|read instead"):
            table.load(tmp_path)


@pytest.mark.fault("a foreign store holds links", "looking at it overwrites nothing outside of it")
def test_looking_at_a_foreign_store_overwrites_nothing_outside_of_it(tmp_path: Path) -> None:
    folder, outside = stored.night(tmp_path / "store", 0), tmp_path / "outside"
    outside.write_text("mine")
    for name in ("night.parquet", "night.parquet.tmp", "records.parquet.tmp", "samples.parquet.tmp", "samples.parquet"):
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(outside)
    with pytest.warns(UserWarning, match=r"samples\.parquet is damaged"):
        nights_of.history(tmp_path / "store", stored.SUITE)
    table.seal(folder)
    assert outside.read_text() == "mine"


@pytest.mark.fault("a run folder is a link", "it is read, and not written")
def test_a_linked_run_folder_is_read_and_not_written(tmp_path: Path) -> None:
    elsewhere = stored.night(tmp_path / "elsewhere", 0)
    flipped(elsewhere / "records.parquet", 100)
    before = {path.name: path.read_bytes() for path in elsewhere.iterdir()}
    (tmp_path / "store" / "runs").mkdir(parents=True)
    (tmp_path / "store" / "runs" / elsewhere.name).symlink_to(elsewhere)
    with pytest.warns(UserWarning, match=r"records\.parquet is damaged"):
        assert len(nights_of.history(tmp_path / "store", stored.SUITE).runs) == 1
    assert {path.name: path.read_bytes() for path in elsewhere.iterdir()} == before


@pytest.mark.fault("a process is killed while it writes a file", "its draft goes when the run is sealed")
def test_drafts_of_a_killed_process_go_when_the_run_is_sealed(tmp_path: Path) -> None:
    folder = a_run(tmp_path, seal=False)
    (folder / ".records.parquet.0a1b2c3d.draft").write_bytes(b"half")
    table.seal(folder)
    assert not list(folder.glob(".*"))


# Order -------------------------------------------------------------------------------------------------------------------


@pytest.mark.fault("the clock is set back", "`latest` is the newest run")
def test_the_latest_run_is_the_newest_after_the_clock_was_set_back(tmp_path: Path) -> None:
    first = a_run(tmp_path, "20260301T0-a")
    back = builders.START - timedelta(days=10_000)
    made = []
    for id, began in (("19990101T0-b", back), ("19990101T0-a", back), ("20260302T0-a", builders.START + timedelta(days=1))):
        run = table.placed(tmp_path, builders.run(id, started_at=began))
        made.append(journal.create(tmp_path, run))
        assert journal.read_run(made[-1]) == run
    assert [each.folder for each in table.stored(tmp_path)] == [first, *made]
    assert table.find(tmp_path, "latest") == made[-1]
    assert table.find(tmp_path, "latest~1") == made[-2]
    assert [run.placed_at is None for run in table.runs(tmp_path)] == [True, False, False, True]
    assert table.runs(tmp_path)[1].started_at == back


@pytest.mark.fault("two machines write into one store", "their runs stand by their dates")
def test_runs_of_two_machines_in_one_store_stand_by_their_dates(tmp_path: Path) -> None:
    for day, id in enumerate(("20260301T0-b", "20260302T0-a", "20260303T0-b")):
        run = builders.run(id, started_at=builders.START + timedelta(days=day))
        journal.create(tmp_path / id[-1], table.placed(tmp_path / id[-1], run))
    shutil.copytree(tmp_path / "a" / "runs", tmp_path / "b" / "runs", dirs_exist_ok=True)
    assert [run.id for run in table.runs(tmp_path / "b")] == ["20260301T0-b", "20260302T0-a", "20260303T0-b"]


def test_a_run_from_the_far_future_leaves_room_for_those_after_it(tmp_path: Path) -> None:
    journal.create(tmp_path, builders.run("a", started_at=codec.LATEST))
    for id in ("b", "c"):
        journal.create(tmp_path, table.placed(tmp_path, builders.run(id)))
    assert [run.id for run in table.runs(tmp_path)] == ["a", "b", "c"]


@pytest.mark.fault("the clock is set back between nights", "they keep their order")
def test_nights_go_on_in_their_order_after_the_clock_was_set_back(tmp_path: Path) -> None:
    folders = stored.nights(tmp_path, 3)
    last = journal.read_run(folders[-1])
    moved = table.placed(tmp_path, builders.run("19990101T0-x", started_at=builders.START - timedelta(days=9000)))
    for folder in folders[-1:]:
        data = json.loads((folder / journal.RUN).read_text())
        data |= {
            "started_at": codec.encode(moved)["started_at"],
            "finished_at": None,
            "placed_at": codec.encode(moved)["placed_at"],
        }
        (folder / journal.RUN).write_text(json.dumps(data))
    history = nights_of.history(tmp_path, stored.SUITE)
    assert [run.id for run in history.runs] == [folder.name for folder in folders]
    assert history.runs[-1].id == last.id


def test_a_duration_is_never_negative() -> None:
    began = builders.START
    known = builders.run(started_at=began, finished_at=began - timedelta(days=1))
    assert known.wall_s is None
    assert replace(known, took_s=61.5).wall_s == 61.5
    assert replace(known, finished_at=None, took_s=61.5).wall_s is None
    assert builders.run(started_at=began, finished_at=began + timedelta(seconds=5)).wall_s == 5


def test_what_was_measured_stays_whole_where_somebody_looks_while_a_run_is_sealed(tmp_path: Path) -> None:
    folder = a_run(tmp_path)
    with drafts.replacing(folder / nights.NIGHT) as file:
        table.seal(folder)
        file.write(b"a night")
    assert (folder / nights.NIGHT).read_bytes() == b"a night"


def test_a_run_that_is_not_there_is_told_so_whatever_it_is_called(tmp_path: Path) -> None:
    a_run(tmp_path)
    for which in ("../runs/x", "\0", "x" * 5000, "latest~99999999999999999999", "tag:\x1b[31m"):
        with pytest.raises(RunNotFoundError):
            table.find(tmp_path, which)


def test_a_record_has_no_place_for_more_than_a_table_can_hold() -> None:
    data = codec.encode(builders.record())
    with pytest.raises(ValueError, match="trial: expected a whole number within 64 bits"):
        codec.decode(Record, {**data, "trial": 2**63})


def test_a_text_that_looks_like_a_checksum_neither_unseals_a_run_nor_hides_a_flip(tmp_path: Path) -> None:
    hostile = "convbench.crc32\x18\x08deadbeef"
    folder = journal.create(tmp_path, builders.run())
    with journal.Journal(folder) as book:
        book.append(builders.failed(Status.ERROR, hostile))
    table.seal(folder)
    (folder / journal.JOURNAL).unlink()
    assert hostile in table.load(folder)["reason"].iloc[0]
    path = folder / "records.parquet"
    flipped(path, path.stat().st_size // 2)
    with pytest.raises(UserError, match="damaged"):
        table.load(folder)
