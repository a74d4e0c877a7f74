"""The tables of the page: factors to the lowest time, failures, change points, flags."""

import dataclasses
import re

import pandas as pd
import pytest

from harness import units
from harness.axes import OPTIONS
from harness.columns import RANK_COLUMNS
from harness.flags import Flag
from harness.page import tables
from harness.page.view import prepare
from tests.page import synthetic


def test_marks_of_the_lowest_of_ties_and_of_what_is_not_decided(made, view):
    undecided = (made.summary["competitors"] > 0) & ~made.summary[["best", "tie", "decided"]].any(axis=1)
    heat = tables.heat(view, "cpu")
    drawn = [cell.text for _, lines in heat.rows for _, cells in lines for cell in cells]
    assert sum(cell.startswith("●") for cell in drawn) == int(made.summary["best"].sum())
    assert sum(cell.startswith("○ 1.") for cell in drawn) == int(made.summary["tie"].sum())
    assert sum(cell.startswith("~") for cell in drawn) == int(undecided.sum())
    barred = [cell for cell in drawn if cell.endswith(" !")]
    assert barred
    assert all(cell.startswith("~") for cell in barred)
    assert (drawn.count("WRONG"), drawn.count("OOM"), drawn.count("T/O"), drawn.count("n/s")) == (1, 2, 1, 2)


def test_a_case_without_a_competitor_shows_its_time_and_no_factor(made, view):
    alone = made.summary[made.summary["vs_best"].notna() & (made.summary["competitors"] == 0)]
    drawn = [cell for _, lines in tables.heat(view, "cpu").rows for _, cells in lines for cell in cells]
    told = [(cell.text, cell.kind) for cell in drawn if cell.title == "without a competitor"]
    assert told == [(units.duration(ns), "unranked") for ns in alone["median_ns"]] != []


def test_the_note_says_what_a_time_in_italics_is(view):
    def told(view):
        return [
            note
            for note in tables.heat_notes(view, [tables.heat(view, "cpu")], [], visited=True, whole=True)
            if "italics" in note
        ]

    unranked = dataclasses.replace(view, cells=view.cells.assign(vs_best=float("nan")))
    assert told(view) == ["A time in italics has no competitor."]
    assert told(unranked) == ["A time in italics is not ranked."]


def test_a_workload_is_one_row_of_the_heat_table_where_each_backend_has_one_mode(made):
    usual = {"tensorflow": "eager", "torch": "eager", "jax": "compiled"}
    backends = made.summary["backend"].map(usual)
    one_mode = made.summary.assign(mode=backends).drop_duplicates(["workload", "direction", "backend", "optimizer"])
    chosen = synthetic.ranked(one_mode.reset_index(drop=True))
    heat = tables.heat(prepare(chosen), "cpu")
    assert heat.mode_of == usual
    assert all(len(lines) == 1 for _, lines in heat.rows)
    asked = sum(cell.title != "not asked for" for _, lines in heat.rows for _, cells in lines for cell in cells)
    assert asked == len(chosen)


def test_reasons_that_differ_in_numbers_are_one(made):
    groups = tables.failures(prepare(made.summary))
    assert [(group.status, len(group.cases)) for group in groups] == [
        ("incorrect", 1), ("oom", 2), ("timeout", 1), ("unsupported", 2),
    ]  # fmt: skip


def test_failures_that_are_new_come_first_and_each_says_since_when(made, view):
    (late,) = view.cells.loc[view.cells["status"] == "timeout", "cell"]
    first, *others = tables.failures(view, {late}, {late: "2026-02-20"})
    assert (first.status, first.new, first.since) == ("timeout", True, "2026-02-20")
    assert all((group.new, group.since) == (False, "") for group in others)


def test_of_a_wrong_result_its_largest_error_is_told(made):
    wrong = made.summary["status"] == "incorrect"
    summary = made.summary.assign(
        reason=made.summary["reason"].where(~wrong, "wrong at 3 elements"),
        max_rel_err=made.summary["max_rel_err"].where(~wrong, 0.03),
        tolerance=made.summary["tolerance"].where(~wrong, 2e-4),
    )
    assert tables.failures(prepare(summary))[0].message == "wrong at 3 elements (largest error 3.0e−02, allowed 2.0e−04)"


def test_a_cell_fails_since_the_first_night_of_its_latest_stretch(made):
    nights = synthetic.nights(made, 6)
    cell = made.summary.loc[made.summary["status"] == "ok", "cell"].iloc[0]
    runs = nights["run_id"].unique()
    bad = (nights["cell"] == cell) & nights["run_id"].isin([runs[0], *runs[-2:]])
    since = tables.failing_since(nights.assign(status=nights["status"].where(~bad, "error")))
    assert since[cell] == "2026-02-28"
    assert cell not in tables.failing_since(nights)
    assert tables.failing_since(None) == {}


def test_the_matrix_counts_each_cell_once(made, view):
    columns, rows = tables.matrix(view)
    assert columns == [(name, "cpu") for name in view.looks]
    assert sum(sum(counts) for _, counts in rows) == len(made.summary)
    assert [status for status, _ in rows] == ["ok", "incorrect", "oom", "timeout", "unsupported"]


def test_the_largest_of_the_dated_steps_come_first(made, view):
    nights = synthetic.nights(made, 6)
    cells = view.ok["cell"].iloc[:3].to_list()
    night = nights["run_id"].unique()[3]
    found = pd.DataFrame(
        {
            "cell": cells, "workload": "w", "direction": "fprop", "backend": "torch", "mode": "eager", "device": "cpu",
            "dated": [night, "", night], "change": [0.1, 0.5, -0.3], "cause": ["", "", "jax 1 → 2"],
            "baseline_ns": 1e6, "night_ns": [1.1e6, 1.5e6, 0.7e6], "estimator": ["median", "median", "lower_quartile"],
        }
    )  # fmt: skip
    down, up = tables.steps(view, found, nights, {})
    assert (down.tone, down.change, down.cause, down.by) == ("fast", "−30.0 %", "jax 1 → 2", "by the lower quartile")
    assert (up.tone, up.before, up.after, up.since, up.by) == ("slow", "1.000", "1.100", "2026-02-27", "")
    assert up.shape == view.cells.set_index("cell")["shape"][cells[0]]
    assert tables.steps(view, None, nights, {}) == []


def test_a_network_that_the_page_shows_no_backend_of_is_left_out(view):
    rolled = pd.DataFrame(
        {
            "network": "resnet50", "backend": ["torch", "gone"], "mode": "eager", "device": "cpu", "precision": "fp32",
            "layout": "NCHW", "cache": "warm", "threads": 0, **dict.fromkeys(OPTIONS, ""),
            "optimizer": "", "scaled": "", "layers": 53, "shapes": 20,
            "fprop_ns": [2.5e6, 1e6], "fprop_low_ns": [2.4e6, 1e6], "fprop_high_ns": [2.6e6, 1e6],
            "passes_ns": [float("nan"), 3e6], "passes_low_ns": float("nan"), "passes_high_ns": float("nan"),
        }
    )  # fmt: skip
    found = tables.networks(view, rolled)
    assert found.heads == ["forward", "three passes"]
    assert found.rows == [("resnet50", "torch", "eager", "53 in 20 shapes", ["2.500 ms ± 4.0 %", units.MISSING])]


def test_a_case_in_a_list_shows_its_shape(view):
    shapes = view.cells.set_index("slug")["shape"]
    listed = [case for group in tables.failures(view) for case in group.cases]
    listed += [case for *_, cases in tables.flags(view) for case in cases]
    assert len(listed) > 5
    assert [shape for _, _, shape in listed] == [shapes[slug] for _, slug, _ in listed]


def test_flags_have_words_the_number_of_cases_they_bar_and_the_cases_under_them(made, view):
    raised = prepare(made.summary.assign(flags="nobody_knows"))
    assert [(name, barred) for name, _, barred, _ in tables.flags(raised)] == [("nobody_knows", 0)]
    free = tables.flags(prepare(made.summary.assign(barred_by="")))
    for (name, words, barred, cases), (*_, none, _) in zip(tables.flags(view), free, strict=True):
        assert words
        assert len(cases) == int(view.ok["flags"].str.split(",").map(lambda flags, name=name: name in flags).sum())
        assert (barred, none) == (len(cases) if Flag(name).bars_verdict else 0, 0)


def test_how_memory_was_read_is_counted(view):
    assert tables.memory_methods(view) == [("cpu", "VmHWM after clear_refs", len(view.ok), 0)]


def test_a_factor_in_the_heat_table_has_its_interval_and_the_fastest_has_none(view):
    cells = [cell for _, lines in tables.heat(view, "cpu").rows for _, cells in lines for cell in cells]
    factors = [cell for cell in cells if cell.kind.startswith("h")]
    assert factors
    for cell in factors:
        factor = float(cell.text.strip("○~! "))
        low, high = map(float, cell.interval.split(" to "))
        assert (low, high) == pytest.approx((factor / 1.03, factor * 1.03), abs=0.02)
        assert cell.interval in cell.title
    assert not any(cell.interval for cell in cells if cell.kind == "best")


def explained(summary: pd.DataFrame, *, visited: bool = True, whole: bool = True) -> tuple[str, str]:
    """The texts of the cells of the table, and what is said of them."""
    view = prepare(summary)
    heats = [tables.heat(view, device) for device in view.devices]
    short = [(tables.SHORT[status], str(status)) for status in tables.SHORT if view.count(status)]
    texts = [cell.text for _, lines in heats[0].rows for _, cells in lines for cell in cells]
    return " ".join(texts), " ".join(tables.heat_notes(view, heats, short, visited=visited, whole=whole))


MARKS = {"●": "● is the lowest", "○": "○ is as good", "~": "“~” stands by", "OOM": "OOM oom.", "n/s": "n/s unsupported."}


@pytest.mark.parametrize("without", [(), ("best",), ("tie",), ("best", "tie")])
def test_of_the_marks_in_the_table_those_that_stand_there_are_explained(made, without: tuple[str, ...]):
    ok = made.summary[made.summary["status"] == "ok"].reset_index(drop=True)
    for summary in (made.summary, ok, ok[ok["best"]], ok[ok["best"] | ok["tie"]]):
        texts, told = explained(summary.assign(**dict.fromkeys(without, False)))
        for mark, words in MARKS.items():
            assert (words in told) is (mark in texts), (mark, told)
        assert ("not asked for" in told) is ("–" in texts)
        assert ("a stronger colour" in told.lower()) is bool(re.search(r"\b1\.[1-9]|\b[2-9]", texts))


def test_how_factors_were_made_is_said_as_the_run_was_measured(made):
    assert "visit by visit in the same turn, under it the interval" in explained(made.summary)[1]
    assert "trial by trial, under it the interval" in explained(made.summary, visited=False)[1]
    bare = explained(made.summary.assign(vs_best_low=float("nan"), vs_best_high=float("nan")))[1]
    assert "turn" not in bare
    assert "under it" not in bare
    cut = made.summary.assign(best=False, tie=False, decided=False)
    assert "not decided: nothing is, before the run has ended." in explained(cut, whole=False)[1]
    reference = made.summary.assign(vs_best=made.summary["vs_best"].where(made.summary["backend"] != "jax"))
    assert "in italics has no competitor." in explained(made.summary)[1]
    assert "in italics has no competitor or is not ranked." in explained(reference)[1]
    unranked = made.summary.drop(columns=list(RANK_COLUMNS))
    assert explained(unranked)[1].startswith("This run was not ranked: times instead of factors.")
