import json
import math
import os
import resource
import time
from dataclasses import replace
from datetime import timedelta

import pytest

from harness import codec
from harness.errors import BusyError, RunNotFoundError, StoreError, UserError
from harness.plan import Budget, Plan, Step
from harness.record import Check, Status
from harness.store import journal
from tests.builders import START, cell, environment, failed, record, run, samples, series, visit, visited


@pytest.fixture
def folder(tmp_path):
    return journal.create(tmp_path, run())


def write(folder, *events):
    with journal.Journal(folder) as log:
        for event in events:
            log.append(event)


def test_what_was_appended_is_read_back(folder):
    both = samples(series([1, 2], [0, 3]), series([4], iterations=8))
    wrong = Check(ok=False, method="spot", max_rel_err=math.inf, tolerance=1.0)
    events = [
        record([5, 6]),
        failed(Status.OOM, "no memory, “really”", trial=1, order=1),
        record(order=2, samples=both, check=wrong),
    ]
    write(folder, environment(), *events[:2])
    write(folder, events[2])
    assert journal.read(folder) == (events, [environment()])


def test_visits_and_their_bare_record_come_to_the_whole_record(folder):
    """Each sample is written once, with its visit; of a cell that was not finished the visits are told."""
    made = [
        visit(0, [5, 6], turn=0), visit(1, [1]), visit(0, [7], process=2, turn=1, place=1, steal_ns=4),
        visit(1, (), reason="why"),
    ]  # fmt: skip
    whole = visited(made[0], made[2])
    write(folder, *made, whole)
    found = journal.scan(folder)
    assert found.records == [whole]
    assert found.visits == {0: [made[0], made[2]], 1: [made[1], made[3]]}
    lines = [json.loads(line) for line in (folder / journal.JOURNAL).read_text().splitlines()]
    assert [next(iter(line)) for line in lines] == ["visit"] * 4 + ["record"]
    assert lines[-1]["record"]["samples"]["series"] == []
    assert whole.samples.series[0].block_ns == (5, 6, 7)


def test_a_record_without_visits_as_older_versions_wrote_it_is_read_and_written_whole(folder):
    old = {"record": codec.encode(record([5, 6, 7]))}
    del old["record"]["samples"]["series"][0]["visits"]
    (folder / journal.JOURNAL).write_text(json.dumps(old) + "\n")
    assert journal.read(folder)[0] == [record([5, 6, 7])]
    write(folder, record([8], order=1))
    assert journal.read(folder)[0] == [record([5, 6, 7]), record([8], order=1)]


@pytest.mark.fault("the line of a visit is damaged", "it is named, and costs that visit alone")
def test_a_damaged_visit_costs_no_other(folder):
    made = [visit(0, [ns], turn=turn) for turn, ns in enumerate((5, 6, 7))]
    write(folder, *made, visited(*made))
    path = folder / journal.JOURNAL
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[1].replace(b"[6]", b"[9]") + lines[2] + lines[3])
    with pytest.warns(UserWarning, match="line 2 is damaged"):
        (found,) = journal.read(folder)[0]
    assert found == visited(made[0], made[2])


def test_each_line_is_in_the_file_once_append_returns(folder):
    log = journal.Journal(folder)
    for count in (1, 2, 3):
        log.append(record(order=count))
        assert len(journal.read(folder)[0]) == count
    log.close()
    log.close()


def test_a_run_without_a_journal_has_no_records(folder):
    assert journal.read(folder) == ([], [])


def test_the_environment_of_each_worker_is_listed_once(folder):
    write(folder, environment(), environment(), environment(id="env-2"))
    assert [each.id for each in journal.read(folder)[1]] == ["env-1", "env-2"]


def test_a_plan_of_an_older_version_is_read_without_what_it_knew_of_budgets(tmp_path):
    plan = Plan("small", (Step(0, 0, cell()),), 7, Budget(trials=3))
    folder = journal.create(tmp_path, run(), plan)
    data = json.loads((folder / journal.PLAN).read_text())
    data["budget"] |= {"min_samples": 30, "max_time_s": 10.0}
    for name in ("visits", "visit_s", "prepared"):
        del data["budget"][name]
    del data["compare"]
    (folder / journal.PLAN).write_text(json.dumps(data))
    assert journal.read_plan(folder) == plan


@pytest.mark.parametrize("cut", [1, 2, 40])
def test_a_last_line_that_was_cut_off_is_left_out_and_written_over(folder, cut):
    write(folder, record(), record(order=1))
    path = folder / journal.JOURNAL
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    kept = [0, 1] if cut == 1 else [0]  # without its line break alone, a line is whole
    assert [each.order for each in journal.read(folder)[0]] == kept
    write(folder, record(order=2))
    assert [each.order for each in journal.read(folder)[0]] == [*kept, 2]


@pytest.mark.fault(
    "a run cannot be written when it begins",
    "no half of it is left",
)
def test_a_run_appears_with_all_that_stands_beside_it_or_not_at_all(tmp_path, monkeypatch):
    plan, seen = Plan("small", (Step(0, 0, cell()),), 7, Budget()), []
    monkeypatch.setattr(journal, "_write_run", lambda folder, run: seen.append(folder) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        journal.create(tmp_path, run(), plan)
    assert seen[0].name.startswith(".")
    assert list((tmp_path / "runs").iterdir()) == []
    monkeypatch.undo()
    assert journal.read_plan(journal.create(tmp_path, run(), plan)) == plan


def test_what_a_killed_process_left_before_its_run_appeared_is_removed_an_hour_later(tmp_path):
    runs = tmp_path / "runs"
    for name, age_s in (("old", 4000), ("young", 10)):
        (runs / f".new-{name}").mkdir(parents=True)
        os.utime(runs / f".new-{name}", (time.time() - age_s,) * 2)
    folder = journal.create(tmp_path, run())
    assert sorted(runs.iterdir()) == [runs / ".new-young", folder]


@pytest.mark.fault(
    "a line of the journal cannot be written whole",
    "it is taken back, and said",
)
def test_a_line_that_cannot_be_written_whole_is_taken_back_and_said(folder):
    """By a limit on the size of files, which lets a part of the line through, as a disk that fills up does."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with journal.Journal(folder) as log:
        log.append(record())
        resource.setrlimit(resource.RLIMIT_FSIZE, ((folder / journal.JOURNAL).stat().st_size + 50, limits[1]))
        try:
            with pytest.raises(StoreError, match=r"journal\.jsonl cannot be written: File too large"):
                log.append(record(order=1))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert (folder / journal.JOURNAL).read_bytes().count(b"\n") == 1
        log.append(record(order=2))
    assert [each.order for each in journal.read(folder)[0]] == [0, 2]


@pytest.mark.fault(
    "the journal is removed, moved or replaced",
    "noticed at the next record",
)
@pytest.mark.parametrize("how", ["removed", "moved", "replaced"])
def test_a_journal_that_is_no_longer_in_its_place_is_noticed_at_the_next_record(folder, how):
    with journal.Journal(folder) as log:
        log.append(record())
        if how == "moved":
            folder.rename(folder.with_name("elsewhere"))
        else:
            (folder / journal.JOURNAL).unlink()
        if how == "replaced":
            (folder / journal.JOURNAL).touch()
        with pytest.raises(StoreError, match=r"journal\.jsonl was moved or removed"):
            log.append(record(order=1))
        assert log.stands_at() == (folder.with_name("elsewhere") if how == "moved" else None)
        assert log.content().count(b"\n") == 2


@pytest.mark.fault("a line in the middle of a journal is broken", "it is named, and costs no other")
@pytest.mark.parametrize(
    "line", ["", "{", "[]", '{"record": {}}', '{"gossip": {}}', '{"record": {"trial": "x"}}', "\0\0", "[" * 10_000]
)
def test_a_broken_line_in_the_middle_is_named_and_costs_no_other(folder, line):
    write(folder, environment(), record())
    path = folder / journal.JOURNAL
    path.write_text(path.read_text() + line + "\n")
    write(folder, record(order=1))
    with pytest.warns(UserWarning, match=r"journal\.jsonl: line 3 is damaged, and left out: ") as caught:
        records, environments = journal.read(folder)
    assert ([each.order for each in records], environments) == ([0, 1], [environment()])
    assert caught[0].filename == __file__
    assert journal.read_run(folder).environments == (environment(),)


def test_of_many_broken_lines_the_first_are_named(folder):
    (folder / journal.JOURNAL).write_text("{\n" * 9)
    with pytest.warns(UserWarning, match="lines 1, 2, 3, 4 and 5 more are damaged"):
        assert journal.read(folder) == ([], [])
    (folder / journal.JOURNAL).write_text("{\n" * 2)
    with pytest.warns(UserWarning, match="lines 1, 2 are damaged"):
        journal.read(folder)


@pytest.mark.fault("a bit of a journal's line flips", "it is noticed")
def test_any_bit_that_flips_in_a_line_is_noticed(folder):
    write(folder, record([1234567]))
    path = folder / journal.JOURNAL
    whole = path.read_bytes()
    step = 1 if len(whole) < 1000 else len(whole) // 500
    for place in range(0, len(whole) - 1, step):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << place % 8
        path.write_bytes(flipped)
        with pytest.warns(UserWarning, match="damaged, and left out"):
            assert journal.read(folder)[0] == []


def test_a_line_without_a_checksum_as_older_versions_wrote_it_is_read(folder):
    (folder / journal.JOURNAL).write_text(json.dumps({"record": codec.encode(record())}) + "\n")
    assert journal.read(folder)[0] == [record()]


def test_half_a_surrogate_pair_in_an_old_journal_becomes_a_mark(folder):
    write(folder, failed(Status.ERROR, "it said \udcff"))
    assert journal.read(folder)[0] == [failed(Status.ERROR, "it said \ufffd")]


@pytest.mark.fault("the journal is a link or a pipe", "it is not written through")
@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_a_journal_is_not_written_through_a_link(folder, tmp_path, kind):
    outside, path = tmp_path / "outside", folder / journal.JOURNAL
    outside.write_text("mine")
    path.symlink_to(outside) if kind == "link" else os.mkfifo(path)
    with pytest.raises(OSError, match=r"journal\.jsonl is"):
        write(folder, record())
    assert outside.read_text() == "mine"


@pytest.mark.fault("two hosts with locks of their own measure one run of a shared store", "the second is refused")
def test_one_process_at_a_time_has_a_journal_open(folder):
    with journal.Journal(folder):
        assert journal.open_elsewhere(folder)
        with pytest.raises(BusyError, match="is being measured by another process"):
            journal.Journal(folder)
    assert not journal.open_elsewhere(folder)
    write(folder, record())


@pytest.mark.fault("an id in run.json is a path", "it is refused, and the file is named")
@pytest.mark.parametrize("id", ["../../other/runs/x", "..", ".", "", "/etc", "a/b", "a\0", "a\n", "x" * 201, "ü"])
def test_an_id_that_cannot_name_a_folder_is_refused_on_reading_and_on_writing(tmp_path, folder, id):
    with pytest.raises(UserError, match=r"cannot be kept: id: found"):
        journal.create(tmp_path, run(id))
    (folder / journal.RUN).write_text(codec.dumps(run(id)))
    with pytest.raises(UserError, match=r"run\.json is damaged: id: found .*; allowed: up to 200 letters, digits"):
        journal.read_run(folder)


@pytest.mark.fault("what is to be stored could not be read again", "it is refused before anything is measured")
def test_what_could_not_be_read_again_is_refused_before_anything_is_measured(tmp_path):
    with pytest.raises(UserError, match="cannot be kept: seed: expected a whole number within 64 bits"):
        journal.create(tmp_path, run("fine", seed=10**30))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.fault("run.json or plan.json is a link", "it is replaced, and not followed")
def test_files_of_a_run_are_replaced_and_never_written_through_links(folder, tmp_path):
    outside = tmp_path / "outside"
    outside.write_text("mine")
    for name in ("run.json", "run.json.tmp", "plan.json"):
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(outside)
    journal.finish(folder, run())
    journal.write_plan(folder, Plan("small", (Step(0, 0, cell()),), 0, Budget()))
    assert outside.read_text() == "mine"
    assert journal.read_run(folder) == run()
    assert journal.read_plan(folder).steps == (Step(0, 0, cell()),)


def test_run_json_is_rewritten_when_the_run_is_finished(folder):
    assert journal.read_run(folder) == run()
    done = run(finished_at=START + timedelta(hours=1), environments=(environment(),), tags=("nightly",))
    journal.finish(folder, done)
    assert journal.read_run(folder) == done
    assert [path.name for path in folder.iterdir()] == ["run.json"]


def test_an_unfinished_run_has_the_environments_of_its_journal(folder):
    write(folder, environment(), record(), environment(), environment(id="env-2"))
    assert journal.read_run(folder) == replace(run(), environments=(environment(), environment(id="env-2")))


def test_a_run_is_created_once(tmp_path, folder):
    with pytest.raises(FileExistsError):
        journal.create(tmp_path, run())


def test_a_folder_without_run_json_is_no_run(tmp_path):
    with pytest.raises(RunNotFoundError, match=r"is no run: it holds no run\.json"):
        journal.read_run(tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"id": 3}', "\xff", "[" * 10_000, "NaN", "9" * 5000])
def test_a_broken_run_json_is_named(folder, text):
    (folder / journal.RUN).write_text(text, encoding="latin-1")
    with pytest.raises(UserError, match=r"run\.json is damaged"):
        journal.read_run(folder)


def test_a_line_says_what_it_holds(folder):
    write(folder, environment(), record(of=cell(workload="other")))
    lines = [json.loads(line) for line in (folder / journal.JOURNAL).read_text().splitlines()]
    assert [list(line) for line in lines] == [["environment", "crc32"], ["record", "crc32"]]
    assert lines[1]["record"]["cell"]["workload"] == "other"
