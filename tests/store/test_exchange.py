import csv
import io
import json
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from harness.store import exchange


@pytest.fixture
def frame():
    return pd.DataFrame(
        {
            "cell": pd.Series(["plain", 'a "quoted", one\r\nwith lines', "", "naïve | `x` *y* <z>"], dtype="string"),
            "trials": pd.Series([3, 0, -1, 2], dtype="int64"),
            "threads_used": pd.Series([2, None, 1, 4], dtype="Int64"),
            "median_ns": pd.Series([1.0 / 3.0, np.nan, -np.inf, 1234567.8], dtype="float64"),
            "contended": [True, False, False, True],
            "started_at": pd.Series(pd.to_datetime(["2026-03-01T02:30:00.5Z", None, None, None], utc=True)),
        }
    )


def test_csv_follows_rfc_4180(frame, tmp_path):
    path = tmp_path / "new" / "out.csv"
    exchange.export(frame, "csv", path)
    data = path.read_bytes()
    assert data.startswith(
        b"cell,trials,threads_used,median_ns,contended,started_at\r\nplain,3,2,0.3333333333333333,True,2026-"
    )
    assert b'"a ""quoted"", one\r\nwith lines"' in data
    rows = list(csv.reader(io.StringIO(data.decode(), newline=""), strict=True))
    assert [row[0] for row in rows[1:]] == frame["cell"].tolist()
    assert rows[2][2:4] == ["", ""]
    assert rows[3][1] == "-1"


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
@pytest.mark.parametrize("dtype", ["string", "object", "str"])
def test_csv_holds_nothing_that_a_spreadsheet_runs(start, dtype):
    text = f'{start}HYPERLINK("x")'
    frame = pd.DataFrame({"reason": pd.Series([text, f"a{text}"], dtype=dtype), "ns": [-1.5, 2.0]})
    rows = list(csv.reader(io.StringIO(exchange.render(frame, "csv"), newline="")))
    assert rows[1:] == [[f"'{text}", "-1.5"], [f"a{text}", "2.0"]]
    assert frame["reason"].tolist() == [text, f"a{text}"]


def test_json_is_valid_whatever_the_numbers(frame, tmp_path):
    path = tmp_path / "out.json"
    exchange.export(frame, "json", path)

    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    rows = json.loads(path.read_text(), parse_constant=refuse)
    assert [row["median_ns"] for row in rows] == [1.0 / 3.0, None, None, 1234567.8]
    assert [row["threads_used"] for row in rows] == [2, None, 1, 4]
    assert [row["contended"] for row in rows] == [True, False, False, True]
    assert [row["cell"] for row in rows] == frame["cell"].tolist()
    assert [row["started_at"] for row in rows] == ["2026-03-01T02:30:00.500000+00:00", None, None, None]
    assert json.loads(exchange.render(frame.head(0), "json")) == []


def test_parquet_keeps_values_and_dtypes(frame, tmp_path):
    exchange.export(frame, "parquet", tmp_path / "out.parquet")
    back = pd.read_parquet(tmp_path / "out.parquet")
    pd.testing.assert_frame_equal(back.astype(frame.dtypes), frame)


def test_markdown_is_one_table(frame):
    lines = exchange.render(frame.drop(columns="started_at"), "md").splitlines()
    assert lines == [
        "| cell | trials | threads_used | median_ns | contended |",
        "| --- | ---: | ---: | ---: | --- |",
        "| plain | 3 | 2 | 0.3333 | True |",
        '| a "quoted", one with lines | 0 | – | – | False |',
        "|  | -1 | 1 | – | False |",
        "| naïve \\| \\`x\\` \\*y\\* \\<z> | 2 | 4 | 1234568 | True |",
    ]


def test_another_format_is_refused_before_a_file_is_made(frame, tmp_path):
    with pytest.raises(ValueError, match="'xls' is no text format; csv, json, md are"):
        exchange.export(frame, "xls", tmp_path / "new" / "out.xls")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.fault("an export goes to a pipe or a full disk", "it is written, or the old file stays whole")
@pytest.mark.parametrize("format", ["csv", "json", "parquet"])
def test_a_pipe_is_written_and_a_file_is_whole_or_as_it_was(frame, tmp_path, monkeypatch, format):
    pipe, path = tmp_path / "pipe", tmp_path / f"out.{format}"
    exchange.export(frame, format, path)
    os.mkfifo(pipe)
    with ThreadPoolExecutor() as pool:
        read = pool.submit(pipe.read_bytes)
        exchange.export(frame, format, pipe)
        assert read.result() == path.read_bytes()
    whole = path.read_bytes()

    def full(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr(exchange.drafts.Path, "replace", full)
    with pytest.raises(OSError, match="no space"):
        exchange.export(frame.head(1), format, path)
    assert path.read_bytes() == whole
    assert sorted(each.name for each in tmp_path.iterdir()) == sorted([path.name, "pipe"])


def test_the_pages_of_an_exported_table_have_checksums(frame, tmp_path):
    path = tmp_path / "out.parquet"
    exchange.export(frame, "parquet", path)
    content = bytearray(path.read_bytes())
    content[content.index(b"plain") + 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(OSError, match="could not verify page integrity"):
        pq.read_table(path, page_checksum_verification=True)
