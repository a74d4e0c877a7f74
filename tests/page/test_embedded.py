"""The data that the page carries: true to the frame, harmless in a spreadsheet, and smaller where it must be."""

import base64
import csv
import dataclasses
import gzip
import io
import json
import re

import numpy as np
import pytest

from harness.page import embedded, html
from harness.page.sections import Given
from harness.page.view import prepare
from tests.page import synthetic
from tests.page.soundness import HOSTILE, data_of


@pytest.fixture(scope="module")
def given() -> Given:
    made = synthetic.make()
    return Given(made.summary, made.samples, made.run)


@pytest.fixture(scope="module")
def whole(given) -> str:
    return html.build(given).text


def as_rows(given: Given) -> list[dict[str, str]]:
    text = embedded.as_csv(prepare(given.summary), given)
    assert text.startswith("\ufeff")
    assert text.count("\n") == text.count("\r\n")
    return list(csv.DictReader(io.StringIO(text[1:], newline="")))


def test_the_csv_has_every_case_with_its_figures(given):
    rows = as_rows(given)
    assert len(rows) == len(given.summary)
    assert len(rows[0]) == len(embedded.columns(prepare(given.summary)))
    expected = sorted(given.summary["median_ns"].dropna() / 1e6)
    assert sorted(float(row["median (ms)"]) for row in rows if row["median (ms)"]) == pytest.approx(expected, rel=1e-5)
    assert {row["status"] for row in rows if not row["median (ms)"]} == {"oom", "timeout", "incorrect", "unsupported"}


def test_the_time_within_the_run_stands_beside_the_median(given):
    for row in as_rows(given):
        times = [row[f"{name} (ms)"] for name in ("median", "time", "time_low", "time_high")]
        if row["status"] != "ok":
            assert [*times, row["time_by"]] == [""] * 5
            continue
        median, *rest = map(float, times)
        assert rest == pytest.approx([0.98 * median, 0.97 * median, 0.99 * median], rel=1e-4)
        assert row["time_by"] == "all visits, a minute that was slow for all cases taken out"


@pytest.mark.parametrize("start", ["=", "+", "-", "@"])
def test_no_text_is_computed_by_a_spreadsheet(given, start):
    summary = given.summary.assign(workload=start + 'cmd|" /C calc"!A0', op=start + "1+1", op_reason=start + "2")
    rows = as_rows(dataclasses.replace(given, summary=summary))
    assert {row["workload"] for row in rows} == {"'" + start + 'cmd|" /C calc"!A0'}
    assert {row["call"] for row in rows} == {"'" + start + "1+1"}
    assert {row["call_reason"] for row in rows} == {"'" + start + "2"}


@pytest.mark.parametrize("nasty", HOSTILE)
def test_the_data_cannot_end_its_script(given, nasty):
    nasty = nasty.replace("\ud800", "")
    made = embedded.as_json(prepare(given.summary), dataclasses.replace(given, command=nasty))
    assert not set("<>&\u2028\u2029") & set(made)
    assert json.loads(made)["n"] == 66


def test_links_name_every_case_once(given, whole):
    held = data_of(whole)
    view = prepare(given.summary)
    values = {key: [found["k"][at] for at in found["v"]] for key, found in held["values"].items() if isinstance(found, dict)}
    slugs = ["/".join(values[key][i] for key in held["slug"]) for i in range(held["n"])]
    assert held["slugs"] == {}
    assert slugs == view.cells.sort_values("i")["slug"].to_list()
    assert len(set(slugs)) == 66
    assert held["slug"] == ["workload", "direction", "backend", "device", "mode"]
    joined = []
    for i in range(held["n"]):
        said = [part if isinstance(part, str) else part.get("before", "") + values[part["key"]][i] for part in held["id"]]
        joined.append(held["ids"].get(str(i), "/".join(filter(None, said))))
    assert joined == view.cells.sort_values("i")["cell"].to_list()


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("convbench run first --backend torch --quick", "convbench run first --backend torch --quick -k"),
        ("convbench run first second", "convbench run first -k"),
        ("convbench run --resume latest", "convbench run first -k"),
        ("convbench nightly", "convbench run first -k"),
        ("", "convbench run first -k"),
    ],
)
def test_the_command_that_runs_a_case_again(given, command, expected):
    plain = dataclasses.replace(given, run=dataclasses.replace(given.run, command=command))
    assert json.loads(embedded.as_json(prepare(given.summary), plain))["command"] == expected


def test_a_case_that_the_command_line_cannot_name_has_no_command(given):
    summary = given.summary.assign(cell=[f"no (word) {i}" for i in range(66)])
    held = json.loads(embedded.as_json(prepare(summary), dataclasses.replace(given, summary=summary)))
    assert set(held["ids"].values()) == {""}
    assert len(held["ids"]) == 66


def test_nights_come_back_to_a_ten_thousandth(given):
    made = synthetic.Made(given.summary, given.samples, given.run)
    nights = synthetic.nights(made, 30)
    held = json.loads(embedded.as_json(prepare(given.summary), dataclasses.replace(given, nights=nights), nights=14))["history"]
    assert len(held["nights"]) == 14
    steps = np.frombuffer(base64.b64decode(held["b64"]), dtype="<u2").reshape(66, 14)
    view = prepare(given.summary)
    last = nights[nights["run_id"] == given.run.id].set_index("cell")["median_ns"]
    for row in view.ok.itertuples():
        assert steps[row.i, -1] / 1e4 * held["median"][row.i] == pytest.approx(last[row.cell] / 1e6, rel=2e-4)


def test_numbers_that_are_none_are_null(given):
    summary = given.summary.assign(flop_per_s=np.inf, vs_best=np.nan)
    held = json.loads(embedded.as_json(prepare(summary), dataclasses.replace(given, summary=summary)))
    assert set(held["values"]["rate"]) == set(held["values"]["factor"]) == {None}


def test_a_page_over_its_budget_gives_up_detail_in_order(given, whole, monkeypatch):
    monkeypatch.setattr(html, "budget", lambda cases: 0)
    monkeypatch.setattr(html, "_THRIFTS", (html.Thrift(), html.Thrift(20), html.Thrift(20, 14, packed=True)))
    least = html.build(given)
    assert len(re.findall("<use ", least.text)) < len(re.findall("<use ", whole))
    assert "20 of 60 marks drawn, chosen by lot." in least.text
    packed = re.search(r'id="data" data-gzip>(.*?)</script>', least.text)[1]
    assert json.loads(gzip.decompress(base64.b64decode(packed)))["n"] == 66
    assert least.broken == ()
    monkeypatch.setattr(html, "MOST_BYTES", 1000)
    monkeypatch.setattr(html, "_THRIFTS", (html.Thrift(20),))
    one = synthetic.make(synthetic.cells()[:1])
    assert html.build(Given(one.summary, one.samples, one.run)).broken[0].startswith("size: ")


def test_the_budget_is_that_of_small_and_of_large_runs():
    assert [html.budget(cases) for cases in (1, 900, 3150, 5400)] == [1.5e6, 1.5e6, 2.75e6, 4e6]
