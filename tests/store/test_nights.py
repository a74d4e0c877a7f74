"""The small tables of nights: kept, made again where they are out of date, and never for what is no night."""

import json
import warnings

import pandas as pd
import pyarrow.parquet as pq
import pytest

from harness.columns import COLUMNS, NIGHT_COLUMNS
from harness.record import AA, NIGHTLY
from harness.review import nights as nights_of
from harness.store import journal, nights, parquet, table
from harness.store.table import Stored, stored
from tests.builders import environment, record, run


def a_night(store, id, *, tags=(NIGHTLY,), suite="small", ns=1000, seal=True):
    folder = journal.create(store, run(id, tags=tags, suite=suite))
    with journal.Journal(folder) as file:
        file.append(environment())
        file.append(record([ns] * 30, run_id=id))
    journal.finish(folder, run(id, tags=tags, suite=suite, environments=(environment(),)))
    if seal:
        table.seal(folder)
    return folder


def refuse(folder):
    raise AssertionError(f"{folder} was made again")


def of(folder):
    return Stored(folder, journal.read_run(folder))


def load(store, make=refuse, figures=1):
    return nights.load(stored(store), "small", make, figures)


def test_nights_of_a_suite_are_read_oldest_first_and_their_tables_kept(tmp_path):
    for id, overrides in {"c": {"ns": 1200}, "a": {}, "b": {"tags": ()}, "d": {"tags": (AA,)}, "e": {"suite": "big"}}.items():
        a_night(tmp_path, id, **overrides)
    runs, cells = load(tmp_path, nights_of.read)
    assert [each.id for each in runs] == ["a", "c"]
    assert cells[["run_id", "median_ns"]].to_dict("list") == {"run_id": ["a", "c"], "median_ns": [1000, 1200]}
    assert load(tmp_path)[1].equals(cells)
    assert sorted(path.parent.name for path in tmp_path.glob("runs/*/night.parquet")) == ["a", "c"]


def test_columns_are_those_of_the_schema_with_text_as_categories(tmp_path):
    a_night(tmp_path, "a")
    for _, cells in (load(tmp_path, nights_of.read), load(tmp_path / "nowhere")):
        kinds = {"string": "category", "int64": "int64", "float64": "float64"}
        assert {name: str(dtype) for name, dtype in cells.dtypes.items()} == {
            name: kinds[COLUMNS[name].dtype] for name in NIGHT_COLUMNS
        }


def test_a_table_is_made_again_where_the_journal_or_the_figures_have_gone_on(tmp_path):
    folder = a_night(tmp_path, "a", seal=False)
    load(tmp_path, nights_of.read)
    with journal.Journal(folder) as file:
        file.append(record([1000] * 30, run_id="a", trial=1, order=1))
        file.append(record([1400] * 30, run_id="a", trial=2, order=2))
    made = []
    load(tmp_path, lambda which: made.append(which.folder) or nights_of.read(which))
    load(tmp_path, lambda which: made.append(which.folder) or nights_of.read(which), figures=2)
    assert made == [folder, folder]
    (folder / nights.NIGHT).write_bytes(b"no parquet")
    assert len(load(tmp_path, nights_of.read)[1]) == 1


def test_what_is_left_of_a_pruned_run_is_taken_as_it_stands(tmp_path):
    folder = a_night(tmp_path, "a")
    nights.keep(of(folder), nights_of.read, 1)
    nights.keep(of(folder), refuse, 1)
    for name in ("journal.jsonl", "samples.parquet"):
        (folder / name).unlink()
    assert load(tmp_path, figures=2)[1]["median_ns"].tolist() == [1000]


def test_what_is_left_of_a_pruned_run_has_no_ratio_to_a_standard_that_was_not_kept(tmp_path):
    folder = a_night(tmp_path, "a")
    nights.keep(of(folder), nights_of.read, 1)
    older = pq.read_table(folder / nights.NIGHT)
    older = older.select(list(NIGHT_COLUMNS[: NIGHT_COLUMNS.index("vs_standard")]))
    parquet.write(folder / nights.NIGHT, older.replace_schema_metadata(None), {})
    for name in ("journal.jsonl", "samples.parquet"):
        (folder / name).unlink()
    cells = load(tmp_path, figures=2)[1]
    assert cells["median_ns"].tolist() == [1000]
    assert cells["vs_standard"].isna().all()
    assert cells["standard_environment_id"].tolist() == [""]


def test_a_night_on_which_nothing_was_measured_is_there(tmp_path):
    a_night(tmp_path, "a")
    journal.create(tmp_path, run("b", tags=(NIGHTLY,)))
    runs, cells = load(tmp_path, nights_of.read)
    assert ([each.id for each in runs], cells["run_id"].tolist()) == (["a", "b"], ["a"])


def test_a_damaged_run_is_left_out_with_a_warning(tmp_path):
    a_night(tmp_path, "a")
    folder = a_night(tmp_path, "b")
    (folder / "run.json").write_text("{")
    with pytest.warns(UserWarning, match=r"left out: .*run\.json is damaged"):
        runs, _ = load(tmp_path, nights_of.read)
    assert [each.id for each in runs] == ["a"]


def test_a_store_that_cannot_be_written_is_read_all_the_same(tmp_path, monkeypatch):
    folder = a_night(tmp_path, "a")
    monkeypatch.setattr(nights.os, "access", lambda *_: False)
    assert len(load(tmp_path, nights_of.read)[1]) == 1
    assert not (folder / nights.NIGHT).exists()


def test_a_metadata_field_that_is_changed_in_a_copy_is_seen_at_once(tmp_path):
    folder = a_night(tmp_path, "a")
    nights_of.history(tmp_path, "small")
    data = json.loads((folder / "run.json").read_text())
    data["environments"][0]["packages"]["torch"] = "2.99"
    (folder / "run.json").write_text(json.dumps(data))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = nights_of.history(tmp_path, "small")
    assert found.runs[0].environments[0].packages["torch"] == "2.99"


def test_what_is_written_is_read(tmp_path):
    folder = a_night(tmp_path, "a")
    frame = nights_of.read(of(folder))
    nights.write(folder, frame, 1)
    read = load(tmp_path)[1].astype(dict.fromkeys(frame.columns[frame.dtypes == "string"], "string"))
    pd.testing.assert_frame_equal(read, frame)
