"""Tables of published timings: the one that is shipped, what a table may say, and what an import makes of one."""

import csv
import re
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest

from harness import flops
from harness.columns import COLUMNS, PUBLISHED_COLUMNS
from harness.errors import PublishedError
from harness.spec import ConvSpec
from harness.store import published
from tests.store import test_deepbench

# 2 * 1 * 3 * (4 * 4) * 2 * (3 * 3) = 1728 FLOP in 0.001 ms are 1.728e-3 TFLOP/s.
ROW = {
    "hardware": "Some GPU", "math": "fp32", "kind": "train", "direction": "wgrad", "n": "1", "c": "2", "k": "3",
    "spatial": "4x4", "kernel": "3x3", "stride": "1x1", "padding": "1x1", "time_ms": "0.001",
    "tflop_per_s": "0.001728", "algorithm": "DIRECT",
    "source": "owner/name:x.xlsx:170", "remark": "",
}  # fmt: skip
RAW = {
    **test_deepbench.RAW,
    **{name: ROW[name] for name in ("n", "c", "k", "spatial", "kernel", "stride", "time_ms")},
    "pad": "1x1",
}


def written(path: Path, *rows: dict[str, str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        lines = csv.DictWriter(file, list(rows[0]))
        lines.writeheader()
        lines.writerows(rows)
    return path


# The table of the package ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def deepbench() -> pd.DataFrame:
    return published.read(published.shipped() / "deepbench.csv")


def flop_per_s(rows: pd.DataFrame) -> pd.Series:
    return rows["shape"].map(lambda shape: flops.nominal(ConvSpec.parse(shape))) / rows["published_ns"] * 1e9


def test_the_shipped_rates_are_those_of_the_shipped_times(deepbench: pd.DataFrame):
    assert len(deepbench) == 4314
    printed = deepbench[deepbench["printed_flop_per_s"].notna()]
    off = printed["printed_flop_per_s"] / flop_per_s(printed) - 1
    assert off.abs().max() < 1e-6
    without = deepbench[deepbench["printed_flop_per_s"].isna()]
    assert Counter(without["remark"]) == {published.UNROUNDED: 216, published.NOT_PRINTED: 3}
    assert set(printed["remark"]) == {""}


def test_the_rates_that_were_dropped_are_of_shapes_whose_output_is_rounded(deepbench: pd.DataFrame):
    """The reason that the rows give: (size + 2 * pad - filter + 1) / stride is no whole number there."""
    for text in deepbench.loc[deepbench["remark"] == published.UNROUNDED, "shape"].unique():
        spec = ConvSpec.parse(text)
        parts = zip(spec.spatial, spec.padding, spec.kernel, spec.stride, strict=True)
        assert any((size + sum(pads) - taps + 1) % step for size, pads, taps, step in parts)


def test_the_page_beside_the_table_counts_right(deepbench: pd.DataFrame):
    page = (published.shipped() / "README.md").read_text()
    told = {}
    for line in page.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if len(cells) == 9 and cells[3].isdecimal():
            told[tuple(cells[:3])] = tuple(map(int, cells[3:]))
    found = {}
    for key, rows in deepbench.groupby(["hardware", "kind", "math"]):
        passes = Counter(rows["direction"])
        remarks = Counter(rows["remark"])
        counts = [passes["fprop"], passes["dgrad"], passes["wgrad"], len(rows)]
        found[key] = (*counts, remarks[published.UNROUNDED], remarks[published.NOT_PRINTED])
    assert told == found
    same = [rows["published_ns"] for _, rows in deepbench.groupby(["hardware", "kind", "math", "direction", "shape"])]
    twice = [times for times in same if len(times) > 1]
    differ = [times.max() / times.min() for times in twice if times.nunique() > 1]
    assert f"{len(twice)} times a sheet" in page
    assert f"{len(differ)} times with two times, up to a factor of {max(differ):.1f}" in page


# What a table may say -----------------------------------------------------------------------------------------------------


def test_a_row_is_read_under_the_columns_of_the_schema(tmp_path: Path):
    frame = published.read(written(tmp_path / "mine.csv", ROW, {**ROW, "tflop_per_s": "", "remark": "why"}))
    assert tuple(frame) == PUBLISHED_COLUMNS
    assert {name: str(frame[name].dtype) for name in frame} == {name: COLUMNS[name].dtype for name in frame}
    first, second = frame.to_dict("records")
    assert first == {
        "table": "mine", "hardware": "Some GPU", "math": "fp32", "kind": "train", "direction": "wgrad",
        "shape": "n1 c2 k3 4x4 f3x3 p1x1", "published_ns": pytest.approx(1000.0), "printed_flop_per_s": pytest.approx(1.728e9),
        "algorithm": "DIRECT", "source": "owner/name:x.xlsx:170", "remark": "",
    }  # fmt: skip
    assert pd.isna(second["printed_flop_per_s"])
    assert second["remark"] == "why"


def test_one_and_three_dimensions_are_read_too(tmp_path: Path):
    line = {**ROW, "spatial": "9", "kernel": "2", "stride": "2", "padding": "0", "tflop_per_s": ""}
    cube = {**ROW, "spatial": "4x5x6", "kernel": "1x2x3", "stride": "1x1x2", "padding": "0x1x0", "tflop_per_s": ""}
    shapes = published.read(written(tmp_path / "mine.csv", line, cube))["shape"].to_list()
    assert shapes == ["n1 c2 k3 9 f2 s2", "n1 c2 k3 4x5x6 f1x2x3 s1x1x2 p0x1x0"]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"direction": "bprop"}, "direction: found 'bprop'; allowed: fprop, dgrad, wgrad"),
        ({"n": "1.0"}, "n: found '1.0'; allowed: a whole number"),
        ({"n": "0"}, "n is 0; at least 1 is needed"),
        ({"spatial": "4*4"}, "spatial: found '4*4'; allowed: a size per dimension, as in 56x56"),
        ({"kernel": "3"}, "kernel has 1 entries, spatial has 2"),
        ({"padding": "-1x1"}, "padding: found '-1x1'"),
        ({"time_ms": "0"}, "time_ms: found '0'; allowed: a positive number"),
        ({"time_ms": "nan"}, "time_ms: found 'nan'; allowed: a positive number"),
        ({"time_ms": ""}, "time_ms: found ''; allowed: a positive number"),
        ({"tflop_per_s": "fast"}, "tflop_per_s: found 'fast'; allowed: a positive number"),
        ({"tflop_per_s": "0.00172801"}, "tflop_per_s: found 0.00172801; computed from the row: 0.001728"),
        ({"hardware": ""}, "hardware: found ''; allowed: printable text"),
        ({"source": "a\x1b[31mb"}, r"source: found 'a\x1b[31mb'; allowed: printable text"),
    ],
)  # fmt: skip
def test_what_is_not_allowed_is_told_with_file_row_and_column(tmp_path: Path, changed: dict[str, str], words: str):
    path = written(tmp_path / "mine.csv", ROW, {**ROW, **changed})
    with pytest.raises(PublishedError, match=f"^{re.escape(f'{path}: row 2: {words}')}") as told:
        published.read(path)
    assert "\n" not in str(told.value)


def test_what_is_no_table_is_told(tmp_path: Path):
    with pytest.raises(PublishedError, match=r"missing.csv: cannot be read: No such file"):
        published.read(tmp_path / "missing.csv")
    path = tmp_path / "other.csv"
    for data, words in {
        b"": "header: found ''; allowed: hardware,math,",
        b"a,b\n1,2\n": "header: found 'a,b'; allowed: hardware,math,",
        b"\xff\xfe\n": "is no CSV in UTF-8",
        b'"a': "is no CSV in UTF-8",
    }.items():
        path.write_bytes(data)
        with pytest.raises(PublishedError, match=words):
            published.read(path)
    short = written(path, ROW).read_text().replace(",owner/name:x.xlsx:170,", "")
    path.write_text(short)
    with pytest.raises(PublishedError, match="row 1: found 14 columns; allowed: 16"):
        published.read(path)


def test_deepbenchs_own_layout_is_for_import_only(tmp_path: Path):
    with pytest.raises(PublishedError, match="header: found 'hardware,kind,sheet,"):
        published.read(written(tmp_path / "raw.csv", RAW))


# Import and the store -----------------------------------------------------------------------------------------------------


def test_an_import_drops_what_contradicts_its_own_time_and_says_so(tmp_path: Path):
    # (4 + 2 * 1 - 3 + 1) / 3 = 4/3 outputs that should be 2: 3 * (4/3)**2 and 3 * 2**2 of them.
    strided = {**RAW, "stride": "3x3"}
    flop = 2 * 2 * 9 * 3
    rows = [
        {**RAW, "published_tflops": "0.0017280000000000001"},
        {**strided, "published_tflops": repr(flop * (4 / 3) ** 2 / 1e6)},
        {**strided, "published_tflops": repr(flop * 2**2 / 1e6), "time_ms": "0.0010000000000000002"},
        {**RAW, "published_tflops": "0.0018"},
        {**RAW, "published_tflops": ""},
    ]
    done = published.import_table(written(tmp_path / "Raw.csv", *rows), tmp_path / "store")
    assert done.path == tmp_path / "store" / "published" / "raw.csv"
    assert (done.rows, done.devices) == (5, 1)
    assert done.without_rate == {published.UNROUNDED: 1, published.CONTRADICTS: 1, published.NOT_PRINTED: 1}
    frame = published.read(done.path)
    assert frame["remark"].to_list() == ["", published.UNROUNDED, "", published.CONTRADICTS, published.NOT_PRINTED]
    assert frame["printed_flop_per_s"].isna().to_list() == [False, True, False, True, True]
    assert frame["published_ns"].to_list() == pytest.approx([1000.0] * 5)
    lines = list(csv.DictReader(done.path.read_text().splitlines()))
    assert (lines[2]["time_ms"], lines[0]["tflop_per_s"]) == ("0.001", "0.001728")


def test_our_own_layout_comes_in_as_it_is(tmp_path: Path):
    shipped = published.shipped() / "deepbench.csv"
    done = published.import_table(shipped, tmp_path, "again")
    assert done.path.read_bytes() == shipped.read_bytes()
    assert (done.rows, done.devices) == (4314, 12)
    assert published.import_table(done.path, tmp_path, "again").path.read_bytes() == shipped.read_bytes()
    assert [path.name for path in done.path.parent.iterdir()] == ["again.csv"]


def test_nothing_is_written_of_a_file_with_a_mistake(tmp_path: Path):
    path = written(tmp_path / "raw.csv", RAW, {**RAW, "sheet": "Sheet3"})
    with pytest.raises(PublishedError, match=r"raw.csv: row 2: sheet: found 'Sheet3'"):
        published.import_table(path, tmp_path / "store")
    with pytest.raises(PublishedError, match=r"--name: found '../up'; allowed: "):
        published.import_table(written(path, RAW), tmp_path / "store", "../up")
    assert not (tmp_path / "store").exists()


def test_the_tables_of_a_store_come_before_those_of_the_package(tmp_path: Path):
    assert list(published.available(tmp_path)) == ["deepbench"]
    assert len(published.load(tmp_path)) == 4314
    written(tmp_path / "published" / "mine.csv", ROW)
    assert published.load(tmp_path)["table"].value_counts().to_dict() == {"deepbench": 4314, "mine": 1}
    written(tmp_path / "published" / "deepbench.csv", ROW)
    assert len(published.load(tmp_path)) == 2


def test_a_damaged_table_is_left_out_and_named(tmp_path: Path):
    written(tmp_path / "published" / "mine.csv", {**ROW, "n": "x"})
    with pytest.warns(UserWarning, match="left out: .*mine.csv: row 1: n: found 'x'"):
        assert len(published.load(tmp_path)) == 4314
