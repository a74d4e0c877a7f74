"""The section on published timings: marked as such, in the right table, with the figures of the frame."""

import re

import pandas as pd
import pytest

from harness import units
from harness.axes import Direction
from harness.columns import BESIDE_COLUMNS, COLUMNS
from harness.page import elsewhere, html, view
from harness.spec import ConvSpec
from tests.page import synthetic
from tests.page.test_html import HOSTILE, sound

pytestmark = pytest.mark.usefixtures("undrawn")

SECOND = {"times": "Same shape, same batch: times", "rates": "Same shape, another batch: rates beside rates, not times"}


@pytest.fixture(scope="module")
def made() -> synthetic.Made:
    """A run of the one workload that stands beside something, and of another in two modes."""
    forward = [cell for cell in synthetic.cells() if cell.workload == "example" and cell.direction is Direction.FPROP]
    return synthetic.make(forward + [cell for cell in synthetic.cells() if cell.workload == "rn50_res2_3x3"])


def beside(made: synthetic.Made, *sources: dict[str, object], where: str = "rn50_res2_3x3") -> pd.DataFrame:
    """Every ok cell of a workload beside each of the sources, which are twice as fast unless they say otherwise."""
    rows = []
    ok = made.summary[(made.summary["status"] == "ok") & made.summary["workload"].str.startswith(where)]
    for cell in ok.to_dict("records"):
        for source in sources:
            n = ConvSpec.parse(cell["shape"]).n
            plain = {
                "table": "there", "hardware": "Big GPU", "math": "fp32", "kind": "train", "basis": "times", "published_n": n,
                "published_rows": 1, "algorithm": "", "source": "owner/name:a.xlsx:Sheet:1", "remark": "", "factor": 2.0,
            }  # fmt: skip
            row = {**cell, **plain, **source}
            batches = row["published_n"] / n
            row["published_ns"] = cell["median_ns"] * batches / row["factor"]
            row["published_flop_per_s"] = cell["flop_per_s"] * row["factor"]
            rows.append(row | {"time_over_published": row["factor"]})
    frame = pd.DataFrame(rows).reindex(columns=list(BESIDE_COLUMNS))
    return frame.astype({name: COLUMNS[name].dtype for name in BESIDE_COLUMNS})


def section(text: str) -> str:
    return text[text.index('<h3 id="published"') : text.index('<section id="roofline"')]


def page(made: synthetic.Made, frame: pd.DataFrame | None) -> str:
    text = html.render(made.summary, made.samples, made.run, beside=frame)
    sound(text)
    assert "figure failed" not in text
    return section(text)


def lines(text: str) -> list[list[str]]:
    """The cells of the rows of all tables, without markup."""
    rows = re.findall(r"<tr>(.*?)</tr>", "".join(re.findall(r"<tbody>(.*?)</tbody>", text, re.S)), re.S)
    found = [[re.sub(r"<[^>]*>", " ", cell).split() for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row)] for row in rows]
    return [[" ".join(cell) for cell in row] for row in found]


@pytest.mark.parametrize("nothing", [None, "empty"])
def test_a_run_without_a_published_shape_says_so(made, nothing):
    said = page(made, None if nothing is None else beside(made, {}).iloc[:0])
    assert "No published timing has a shape of this run" in said
    assert "<table" not in said


def test_times_stand_beside_times_and_are_marked_as_published(made):
    said = page(made, beside(made, {"hardware": "Big GPU", "algorithm": "WINOGRAD"}))
    assert '<span class="tag warn">published, not measured here</span>' in said
    assert SECOND["times"] in said
    assert SECOND["rates"] not in said
    assert "<dt>Big GPU · fp32</dt><dd>owner/name:a.xlsx:Sheet</dd>" in said
    assert f"convbench compare {synthetic.RUN_ID} published:all --format csv" in said
    shown = lines(said)
    ok = made.summary[(made.summary["workload"] == "rn50_res2_3x3") & (made.summary["status"] == "ok")]
    fastest = ok.loc[ok.groupby("direction")["median_ns"].idxmin()].set_index("direction")
    assert [row[1] for row in shown] == ["forward", "backward input", "backward filter"]
    for direction, row in zip(("fprop", "dgrad", "wgrad"), shown, strict=True):
        best = fastest.loc[direction]
        time, rate = units.milliseconds(best["median_ns"] / 2), units.teraflops(best["flop_per_s"] * 2)
        assert [row[0], *row[2:3], *row[4:]] == [
            f"rn50_res2_3x3 {best['shape']}", "1",
            units.milliseconds(best["median_ns"]), units.teraflops(best["flop_per_s"]), f"{time} {rate}",
        ]  # fmt: skip
    assert said.count('title="WINOGRAD"') == 3


def test_rates_stand_beside_rates_with_both_batches_and_no_time(made):
    said = page(made, beside(made, {"basis": "rates", "published_n": 16}))
    assert SECOND["rates"] in said
    assert SECOND["times"] not in said
    first = lines(said)[0]
    best = made.summary[(made.summary["workload"] == "rn50_res2_3x3") & (made.summary["direction"] == "fprop")]
    best = best.loc[best["median_ns"].idxmin()]
    assert first[2:4] == ["1", "16"]
    assert first[5:] == [units.teraflops(best["flop_per_s"]), units.teraflops(best["flop_per_s"] * 2)]
    assert units.milliseconds(best["median_ns"]) not in " ".join(first)


def test_both_are_kept_apart_and_what_is_in_our_precision_comes_first(made):
    sources = [
        {"hardware": "A", "math": "int8"}, {"hardware": "Z"}, {"hardware": "B", "basis": "rates", "published_n": 4},
    ]  # fmt: skip
    built = elsewhere.section(view.prepare(made.summary), beside(made, *sources))
    assert built
    assert built.shapes == 3
    assert [(table.basis, table.sources) for table in built.tables] == [
        ("times", [("Z", "fp32", ""), ("A", "int8", "")]),
        ("rates", [("B", "fp32", "")]),
    ]
    assert [name for name, _ in built.sources] == ["B · fp32", "Z · fp32", "A · int8"]


def test_a_dagger_stands_by_what_has_no_printed_rate(made):
    said = page(made, beside(made, {"remark": "no rate is printed", "published_rows": 2}, {"hardware": "Other"}))
    assert sum(row[-2].endswith("†") for row in lines(said)) == 3
    assert sum(row[-1].endswith("†") for row in lines(said)) == 0
    assert 'title="no rate is printed; median of 2 rows"' in said


def test_a_source_that_lacks_a_shape_has_a_dash(made):
    frame = beside(made, {}, {"hardware": "Other"})
    frame = frame[(frame["hardware"] != "Other") | (frame["direction"] == "wgrad")]
    assert [row[-1].split()[0] == units.MISSING for row in lines(page(made, frame))] == [True, True, False]


def test_the_chart_has_a_mark_per_row_and_direction(made):
    built = elsewhere.section(view.prepare(made.summary), beside(made, {}, {"hardware": "Other", "math": "int8"}))
    assert built
    # Three backends and two sources, in three directions; all at the one shape of the workload.
    marks = re.findall("<title>([^<]*)</title>", built.chart.svg)
    assert len(marks) == 15
    assert sum("published, not measured here: median" in mark for mark in marks) == 6
    assert sum("PyTorch eager, measured in this run: median" in mark for mark in marks) == 3
    assert "Other · int8" in built.chart.svg


def test_the_chart_has_as_many_sources_as_it_has_room_for(made):
    sources = [{"hardware": f"GPU {number}", "factor": 1.0 + number} for number in range(elsewhere.MOST_SOURCES + 3)]
    built = elsewhere.section(view.prepare(made.summary), beside(made, *sources))
    assert built
    assert f"The {elsewhere.MOST_SOURCES} of {elsewhere.MOST_SOURCES + 3} sources" in built.chart.note
    assert "GPU 3 ·" in built.chart.svg
    assert "GPU 2 ·" not in built.chart.svg


def test_a_long_table_is_cut_and_says_so(made, monkeypatch):
    monkeypatch.setattr(elsewhere, "MOST_ROWS", 2)
    said = page(made, beside(made, {}))
    assert "(2 of 3 rows)" in said
    assert len(lines(said)) == 2


def test_several_tables_and_devices_are_named():
    cells = [
        cell for cell in synthetic.cells(("torch",)) + synthetic.cells(("torch",), "gpu:0") if cell.workload == "rn50_conv1"
    ]
    made = synthetic.make(cells, {})
    said = page(made, beside(made, {}, {"table": "mine"}, where="rn50_conv1"))
    assert {row[2] for row in lines(said)} == {"cpu", "gpu:0"}
    assert "Big GPU<br>fp32<br>mine" in said
    assert "PyTorch · gpu:0" in said


def test_cells_that_are_not_ranked_stand_beside_nothing(made):
    reference = synthetic.make(synthetic.cells(("numpy", "torch")), {})
    said = page(reference, beside(reference, {}))
    assert "NumPy" not in said


@pytest.mark.parametrize("nasty", HOSTILE)
def test_hostile_text_stays_text(made, nasty):
    nasty = nasty.replace("\ud800", "")
    columns = ("hardware", "math", "table", "algorithm", "source", "remark", "kind")
    frame = beside(made, dict.fromkeys(columns, nasty), {})
    text = html.render(made.summary, made.samples, made.run, beside=frame)
    page = sound(text)
    assert len([tag for tag, _ in page.tags if tag == "script"]) == 2  # the data and the script
    assert "figure failed" not in text
    assert "<img" not in text
    assert not re.search("[\u2028\u2029\ud800-\udfff]", text)
