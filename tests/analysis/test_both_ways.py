"""A night that measures by visits and by long stays, and what the gate makes of nights before it: scripted times and nights."""

import numpy as np
import pandas as pd
import pytest

from harness.analysis import standard
from harness.analysis.gate import judge
from harness.analysis.history import History
from harness.analysis.judgement import of_night
from harness.analysis.summary import summarize
from harness.analysis.trials import trials
from harness.analysis.visits import visits
from harness.outcome import Level
from harness.store import frames
from tests import builders
from tests.analysis.visiting import Visit, of_cells, samples
from tests.histories import cell_id, flat, history, run_id, with_step

NIGHTS, STEP = 33, 20
OLD = 1.08  # the old way reads so much more


# The ratio of one night ------------------------------------------------------------------------------------------------------


def measured(stays=(1.08, 1.08, 1.08, 1.08), hours=(1.0, 1.0, 1.0, 1.0), beside=True):
    """Samples of three cells of one backend, each trial as slow as its hour, the stay by a factor of that trial slower."""
    made = []
    cells = [cell_id(case) for case in range(3)]
    for trial, (stay, hour) in enumerate(zip(stays, hours, strict=True)):
        made += of_cells({cell: [[hour * 1e6] * 3] * 4 for cell in cells}, ["torch"] * 3, trial, first_turn=4 * trial)
        made += [Visit(cell, trial, 0, 0, [stay * hour * 1e6] * 9, series="stay") for cell in cells if beside]
    frame = samples(made)
    placed = frame["series"] != "stay"
    return frame.assign(**{name: frame[name].where(placed) for name in ("process", "turn", "place", "visit")})


def summary(status="ok"):
    return pd.DataFrame({"cell": [cell_id(case) for case in range(3)], "backend": "torch", "status": ["ok", status, "ok"]})


def test_the_ratio_is_of_each_process_whatever_the_hour():
    found = standard.vs_stay(summary(), measured(hours=(1.0, 1.3, 0.8, 1.1)))
    assert found["vs_stay"] == pytest.approx([1 / OLD] * 3)
    assert found["vs_stay_error"] == pytest.approx([0.0] * 3, abs=1e-6)


def test_what_trials_differ_by_is_its_error():
    found = standard.vs_stay(summary(), measured(stays=(1.04, 1.12, 1.06, 1.10)))
    assert found["vs_stay"] == pytest.approx([1 / OLD] * 3, rel=0.01)
    assert (found["vs_stay_error"] > 0.04).all()


def test_one_reading_of_the_yardstick_that_was_disturbed_is_no_matter():
    frame = measured()
    disturbed = (frame["series"] == "stay") & (frame["trial"] == 1)
    beside = frame.assign(yardstick_ns=disturbed.map({True: 18_000_000, False: 350_000}).astype("Int64"))
    assert standard.vs_stay(summary(), beside)["vs_stay"] == pytest.approx([1 / OLD] * 3)


def test_there_is_none_without_a_stay_nor_an_error_of_one_trial():
    assert np.isnan(standard.vs_stay(summary(), measured(beside=False))["vs_stay"]).all()
    assert np.isnan(standard.vs_stay(summary(), None)["vs_stay"]).all()
    assert list(np.isnan(standard.vs_stay(summary("crashed"), measured())["vs_stay"])) == [False, True, False]
    one = standard.vs_stay(summary(), measured((1.08,), (1.0,)))
    assert (np.isnan(one["vs_stay"]).any(), np.isnan(one["vs_stay_error"]).all()) == (False, True)


def test_no_figure_of_the_run_is_made_of_a_stay():
    series = [builders.visit(turn=turn, block_ns=[1000 + turn] * 40) for turn in range(4)]
    stay = builders.series([99_000] * 50, [98_000] * 50, kind=frames.SeriesKind.STAY)
    records = {}
    for name, beside in (("with", (stay,)), ("without", ())):
        record = builders.visited(*series, samples=builders.samples(*beside))
        records[name] = frames.records_frame([record], [], "small"), frames.samples_frame([record])
    assert (records["with"][1]["series"] == "stay").sum() == 50
    assert records["with"][1]["turn"].isna().sum() == 50
    pd.testing.assert_frame_equal(records["with"][0], records["without"][0])
    pd.testing.assert_frame_equal(summarize(*records["with"]), summarize(*records["without"]))
    pd.testing.assert_frame_equal(visits(records["with"][1]), visits(records["without"][1]))
    assert {key: each.median_ns for key, each in trials(records["with"][1]).items()} == {
        key: each.median_ns for key, each in trials(records["without"][1]).items()
    }


# The gate ------------------------------------------------------------------------------------------------------------------


def nights(values=None, error=0.01, both=range(6), at=STEP, before=11, backends=None, noise=0.003):
    """Nights of which those before STEP read OLD times as much; the night `at` measures the cases of `both` by both ways."""
    values = flat(6, NIGHTS) if values is None else values
    values = np.where(np.arange(NIGHTS) < STEP, OLD, 1.0) * values
    off = np.exp(np.random.default_rng(5).normal(0, noise, len(values)))

    def row(case, night):
        known = night == at and case in both
        return {"vs_stay": off[case] / OLD if known else np.nan, "vs_stay_error": error if known else np.nan}

    of_run = lambda night: {"method_version": before if night < STEP else 12}  # noqa: E731
    return history(values, row=row, of_run=of_run, backends=backends)


def gate(found: History, night: int):
    return judge(found.until(run_id(night)))


def test_a_mere_difference_of_methods_raises_no_alarm_and_nothing_begins_anew():
    found = nights()
    for night in range(STEP - 1, NIGHTS):
        judged = gate(found, night)
        assert (judged.level, judged.cases["change"].notna().all()) == (Level.QUIET, True), night
        assert judged.cases["change"].abs().max() < 0.03
    assert set(gate(found, STEP).cases["nights"]) == {20}
    assert gate(found, STEP).cases["baseline_ns"].min() == pytest.approx(1e6, rel=0.02)  # as the new way reads it


@pytest.mark.parametrize("by_both", [True, False])
def test_a_slowdown_on_the_very_night_of_the_new_method_is_found_where_it_was_measured_both_ways(by_both):
    found = nights(with_step(flat(6, NIGHTS), STEP, 1.08), both=range(6) if by_both else ())
    levels = [gate(found, night).level for night in (STEP - 1, STEP, STEP + 1)]
    assert levels == ([Level.QUIET, Level.SUSPECT, Level.REGRESSION] if by_both else [Level.QUIET] * 3)
    if by_both:
        row = gate(found, STEP + 1).cases.iloc[0]
        assert (row["cell"], row["estimator"], row["since"], row["dated"]) == (
            cell_id(0), "median", run_id(STEP), run_id(STEP),
        )  # fmt: skip
        assert row["change"] == pytest.approx(0.08, abs=0.02)
        assert row["night_ns"] / row["baseline_ns"] == pytest.approx(1 + row["change"])


def test_what_was_open_stays_open_over_the_change():
    found = nights(with_step(flat(6, NIGHTS), STEP - 5, 1.2))
    assert gate(found, STEP).cases.set_index("cell")["state"][cell_id(0)] == "open"


def test_how_surely_the_methods_are_known_is_part_of_the_judgement():
    found = nights(with_step(flat(6, NIGHTS), STEP, 1.08), error=0.1)
    judged = gate(found, STEP)
    assert judged.level is Level.QUIET
    assert judged.cases["threshold"].min() > 4 * 0.1 / 2
    assert gate(nights(error=0.001), STEP).cases["threshold"].max() < 0.06
    assert gate(found, NIGHTS - 1).cases["threshold"].max() < 0.06  # held against nights by the new method alone


def test_it_is_said_until_the_new_method_has_a_baseline():
    found, told = nights(both=range(5)), "method 11 → 12: compared by 5 cells measured both ways (new over old: 0.92"
    for night in (STEP, STEP + 9):
        (said,) = [reason for reason in gate(found, night).reasons if reason.startswith("method")]
        assert said.startswith(told)
        assert of_night(gate(found, night), "earlier nights").notes == (said,)
        assert "± 1.0 % for the median of them); of 1 other case the history begins anew" in said
        assert gate(found, night).cases["change"].isna().sum() == 1
    judged = gate(found, STEP + 10)
    assert set(judged.cases["nights"]) == {10}
    assert not any(reason.startswith("method") for reason in gate(found, STEP + 11).reasons)


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"both": ()}, "no cell was measured both ways on the first night"),
        ({"at": STEP + 1}, "no cell was measured both ways on the first night"),
        ({"error": np.nan}, "no cell was measured both ways on the first night"),
        ({"before": 10}, "nothing measures as method 10 did any more"),
    ],
)
def test_where_nothing_could_be_compared_it_is_said_why(more, why):
    judged = gate(nights(**more), STEP + 1)
    assert judged.reasons[0] == (
        f"method {more.get('before', 11)} → 12: nothing could be compared, since {why}; "
        "the history begins anew, with 2 of the 10 nights before cases are judged"
    )
    assert judged.cases["change"].isna().all()


def test_equals_are_held_against_each_other_as_they_were_measured():
    """What the two ways differ by is known to 5 % of each of two equals: no move of the machine follows from that."""
    values = np.repeat(flat(3, NIGHTS), 2, axis=0) * np.exp(np.random.default_rng(2).normal(0, 0.002, (6, NIGHTS)))
    found = nights(values, backends=["torch", "torch@aa"] * 3, noise=0.05, error=0.1)
    assert gate(found, STEP).events == ()
