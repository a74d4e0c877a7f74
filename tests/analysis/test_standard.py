"""The ratio of a cell to its twin by the standard, and what the gate makes of it, on scripted visits and nights."""

import numpy as np
import pandas as pd
import pytest

from harness.analysis import standard
from harness.analysis.gate import judge
from harness.analysis.history import History, grids
from harness.analysis.reasons import correction
from harness.analysis.visits import visits
from harness.outcome import Level
from tests.analysis.visiting import of_cells, samples
from tests.histories import cell_id, flat, history, run_id, with_step

NIGHTS, STEP = 25, 20
TORCH, PINNED, AA = (cell_id(0, name) for name in ("torch", "torch@pinned", "torch@aa"))


def summary(*backends, **statuses):
    rows = [
        {"cell": cell_id(0, name), "backend": name, "status": statuses.get(name.replace("@", "_"), "ok"),
         "environment_id": f"of {name}"}
        for name in backends
    ]  # fmt: skip
    return pd.DataFrame(rows)


def visited(**factors):
    """Four trials of three turns whose machine is another one in every turn; `factors` are those of each cell over 1 ms."""
    cells = {"torch": TORCH, "pinned": PINNED, "aa": AA}
    made = []
    for trial in range(4):
        wander = [1.0 + 0.3 * trial, 1.7, 0.8]
        times = {cells[name]: [[factor * of_turn * 1e6] * 3 for of_turn in wander] for name, factor in factors.items()}
        made += of_cells(times, trial=trial, first_turn=3 * trial)
    return visits(samples(made))


def test_the_ratio_to_the_twin_knows_nothing_of_the_hour():
    found = standard.vs_standard(summary("torch", "torch@pinned"), visited(torch=1.1, pinned=1.0), "pinned")
    assert found["vs_standard"][0] == pytest.approx(1.1, rel=1e-5)
    assert found["vs_standard_low"][0] <= found["vs_standard"][0] <= found["vs_standard_high"][0]
    assert list(found["standard_environment_id"]) == ["of torch@pinned", ""]
    assert np.isnan(found["vs_standard"][1])


def test_a_control_has_the_twin_of_its_equal():
    frame = summary("torch", "torch@aa", "torch@pinned")
    found = standard.vs_standard(frame, visited(torch=1.0, aa=1.2, pinned=1.0), "pinned")
    assert found["vs_standard"] == pytest.approx([1.0, 1.2, np.nan], rel=1e-5, nan_ok=True)


@pytest.mark.parametrize("statuses", [{"torch": "crashed"}, {"torch_pinned": "incorrect"}])
def test_without_one_of_the_two_there_is_no_ratio(statuses):
    found = standard.vs_standard(summary("torch", "torch@pinned", **statuses), visited(torch=1.1, pinned=1.0), "pinned")
    assert np.isnan(found["vs_standard"]).all()
    assert list(found["standard_environment_id"]) == ["", ""]


def test_without_a_label_there_is_nothing():
    found = standard.vs_standard(summary("torch", "torch@pinned"), visited(torch=1.1, pinned=1.0), "")
    assert np.isnan(found["vs_standard"]).all()


# Judged against it ----------------------------------------------------------------------------------------------------------


def restless(cases=6, nights=NIGHTS, wander=0.15, seed=1):
    """Times that wander together by 15 % from night to night, on a machine whose equals differ by 1 %."""
    of_nights = np.exp(np.random.default_rng(seed).normal(0, wander, nights))
    return flat(cases, nights) * of_nights


def ratios(cases=6, nights=NIGHTS):
    return flat(cases, nights, noise=0.008, seed=7) / np.linspace(1, 2, cases)[:, None]


def at(found: History, night: int):
    return judge(found.until(run_id(night)))


def test_a_step_that_the_machines_wander_hides_is_found_against_the_standard():
    values, beside = with_step(restless(), STEP, 1.08), with_step(ratios(), STEP, 1.08)
    blind = history(values)
    assert [at(blind, night).cases.set_index("cell")["state"][cell_id(0)] for night in (STEP, STEP + 1)] == ["steady", "steady"]
    found = history(values, vs_standard=beside)
    assert [at(found, night).level for night in range(STEP - 1, STEP + 2)] == [Level.QUIET, Level.SUSPECT, Level.REGRESSION]
    row = at(found, STEP + 1).cases.iloc[0]
    assert (row["cell"], row["estimator"], row["since"], row["dated"]) == (
        cell_id(0), "vs_standard", run_id(STEP), run_id(STEP),
    )  # fmt: skip
    assert row["change"] == pytest.approx(0.08, abs=0.02)
    assert "against its standard" in at(found, STEP + 1).sentence
    assert correction("median") == ""


def test_it_is_said_against_what_the_cases_were_judged():
    found = at(history(restless(), vs_standard=ratios()), NIGHTS - 1)
    assert "6 cases judged by the ratio to the standard pinned" in found.reasons
    assert at(history(restless()), NIGHTS - 1).reasons == ()


def test_a_machine_that_moves_is_no_event_where_it_does_not_show():
    values = with_step(flat(12, NIGHTS), STEP, 1.2, slice(0, 12))
    backends = ["torch", "jax"] * 6
    yardsticks = 5e5 * with_step(flat(1, NIGHTS), STEP, 1.2)[0]
    assert at(history(values, backends=backends), STEP).level is Level.MACHINE_EVENT
    assert at(history(flat(12, NIGHTS), backends=backends, references=yardsticks), STEP).level is Level.MACHINE_EVENT
    found = history(values, backends=backends, references=yardsticks, vs_standard=ratios(12))
    assert at(found, STEP).level is Level.QUIET


def test_another_standard_begins_anew_and_it_is_said():
    beside = with_step(ratios(), 12, 0.9, slice(0, 6))  # the new standard is slower
    found = history(
        flat(6, NIGHTS), vs_standard=beside, standard=lambda night: {"torch": "2.13" if night < 12 else "2.14"}
    )  # fmt: skip
    assert set(at(found, 11).cases["estimator"]) == {"vs_standard"}
    for night in (12, 13, 21):
        judged = at(found, night)
        assert judged.level is Level.QUIET
        assert set(judged.cases["estimator"]) == {"median"}
        told = [reason for reason in judged.reasons if "is another one" in reason]
        assert told == [
            f"the standard pinned is another one since {run_id(12)} (torch 2.13 → 2.14): the ratios of 6 cases to it begin "
            f"anew, with {night - 11} of the 10 nights before they are judged"
        ]
    judged = at(found, 22)
    assert set(judged.cases["estimator"]) == {"vs_standard"}
    assert not any("is another one" in reason for reason in judged.reasons)


def test_a_night_without_the_standard_is_judged_by_the_time_and_says_so():
    beside = ratios()
    beside[2, -1] = np.nan
    judged = at(history(flat(6, NIGHTS), vs_standard=beside), NIGHTS - 1)
    assert judged.cases.set_index("cell")["estimator"][cell_id(2)] == "median"
    assert "1 case without the standard pinned tonight, judged by the time alone" in judged.reasons
    assert "5 cases judged by the ratio to the standard pinned" in judged.reasons


def by_methods(night):
    return {"method_version": 11 if night < STEP else 12}


def test_over_a_change_of_the_method_the_ratios_go_on_and_the_times_do_not():
    values = with_step(with_step(flat(6, NIGHTS), STEP, 1.3, slice(0, 6)), STEP, 1.08)  # the new way reads 30 % more
    found = history(values, vs_standard=with_step(ratios(), STEP, 1.08), of_run=by_methods)
    assert [at(found, night).level for night in (STEP - 1, STEP, STEP + 1)] == [Level.QUIET, Level.SUSPECT, Level.REGRESSION]
    judged = at(found, STEP)
    assert "method 11 → 12: compared by the ratios of 6 cases to the standard pinned" in judged.reasons
    row = judged.cases.iloc[0]
    assert (row["cell"], row["estimator"], row["nights"]) == (cell_id(0), "vs_standard", 20)
    assert np.isnan(row["baseline_ns"])
    assert "against its standard (measured: 1." in judged.sentence
    assert "nan" not in judged.sentence


def test_a_change_of_the_method_without_a_standard_begins_anew_and_says_so():
    found = history(flat(6, 33), of_run=by_methods)
    for night in (STEP, STEP + 9):
        assert at(found, night).reasons[0] == (
            "method 11 → 12: nothing could be compared, since no cell was measured both ways on the first night; "
            f"the history begins anew, with {night - STEP + 1} of the 10 nights before cases are judged"
        )
        assert at(found, night).cases["change"].isna().all()
    assert at(found, STEP + 10).cases["change"].notna().all()
    assert at(found, STEP + 11).reasons == ()


def test_the_twins_are_no_cases():
    values = np.repeat(flat(1, NIGHTS), 2, axis=0)
    found = history(
        values, backends=["torch", "torch@pinned"], vs_standard=np.stack([np.ones(NIGHTS), np.full(NIGHTS, np.nan)])
    )
    (grid,) = grids(found)
    assert list(grid.axes["cell"]) == [cell_id(0)]
    assert list(at(found, NIGHTS - 1).cases["cell"]) == [cell_id(0)]
    assert found.beside.sum() == NIGHTS


def test_the_yardstick_is_judged_by_what_nights_differ_by_and_not_by_equals_that_share_the_hour():
    """Equals that are visited in the same turns differ less by their times than in yardsticks, whatever the hour does."""
    hour = restless(1)[0] / flat(1, NIGHTS)[0]
    times, rng = np.repeat(flat(6, NIGHTS), 2, axis=0), np.random.default_rng(3)
    in_yardsticks = with_step(times * np.exp(rng.normal(0, 0.01, times.shape)), STEP, 1.12, (0, 1))
    found = history(
        with_step(times * hour, STEP, 1.12, (0, 1)), backends=["torch", "torch@aa"] * 6, ratios=in_yardsticks,
        references=5e5 * hour,
    )  # fmt: skip
    assert [at(found, night).level for night in (STEP - 1, STEP, STEP + 1)] == [Level.QUIET, Level.SUSPECT, Level.REGRESSION]
    assert set(at(found, STEP + 1).cases["estimator"]) == {"corrected_median"}
