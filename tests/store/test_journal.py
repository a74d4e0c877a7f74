import json
import math
from dataclasses import replace
from datetime import timedelta

import pytest

from harness.errors import RunNotFoundError, UserError
from harness.record import Check, Status
from harness.store import journal
from tests.builders import START, cell, environment, failed, record, run, samples, series


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


@pytest.mark.parametrize("line", ["", "{", "[]", '{"record": {}}', '{"gossip": {}}', '{"record": {"trial": "x"}}', "\0\0"])
def test_a_broken_line_in_the_middle_is_named(folder, line):
    write(folder, record())
    path = folder / journal.JOURNAL
    path.write_text(path.read_text() + line + "\n" + path.read_text())
    with pytest.raises(UserError, match=r"journal\.jsonl, line 2, is damaged"):
        journal.read(folder)


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


@pytest.mark.parametrize("text", ["", "{", "[]", '{"id": 3}', "\xff"])
def test_a_broken_run_json_is_named(folder, text):
    (folder / journal.RUN).write_text(text, encoding="latin-1")
    with pytest.raises(UserError, match=r"run\.json is damaged"):
        journal.read_run(folder)


def test_a_line_says_what_it_holds(folder):
    write(folder, environment(), record(of=cell(workload="other")))
    lines = [json.loads(line) for line in (folder / journal.JOURNAL).read_text().splitlines()]
    assert [list(line) for line in lines] == [["environment"], ["record"]]
    assert lines[1]["record"]["cell"]["workload"] == "other"
