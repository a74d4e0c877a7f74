"""The gate on scripted nights: every rule, every state, every level, and that nothing said of a night changes afterwards."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness import units
from harness.analysis.gate import judge
from harness.analysis.history import History, grids
from harness.analysis.reasons import name
from harness.analysis.replay import Rules, replay
from harness.columns import CASE_COLUMNS, COLUMNS
from harness.outcome import Level, State
from harness.record import EVERY_CASE, YARDSTICK_SINCE
from tests.histories import acknowledgement, cell_id, flat, history, run_id, with_step

NIGHTS = 25
STEP = 20  # the night of a step in most tests: there are 20 nights before it


def stepped(factor=1.08, nights=NIGHTS, cases=(0,), of=12, **overrides):
    return history(with_step(flat(of, nights), STEP, factor, cases), **overrides)


def at(found: History, night: int, *said, **overrides):
    return judge(found.until(run_id(night)), said, **overrides)


def states(judgement, state=None):
    frame = judgement.cases.set_index("cell")["state"]
    return frame.to_dict() if state is None else sorted(frame[frame == str(state)].index)


def case(judgement, number=0, backend="torch"):
    return judgement.cases.set_index("cell").loc[cell_id(number, backend)]


# Suspect, confirmed, open, resolved ---------------------------------------------------------------------------------------


def test_a_step_is_suspect_then_confirmed_then_open():
    found = stepped()
    levels = [(at(found, night).level, at(found, night).code) for night in range(STEP - 1, STEP + 4)]
    assert levels == [("quiet", 0), ("suspect", 4), ("regression", 3), ("regression", 3), ("regression", 3)]
    assert [states(at(found, night))[cell_id(0)] for night in range(STEP, STEP + 3)] == ["suspect", "confirmed", "open"]
    confirmed = at(found, STEP + 1)
    assert states(confirmed, State.CONFIRMED) == [cell_id(0)]
    assert set(states(confirmed).values()) == {"confirmed", "steady"}
    row = case(confirmed)
    assert row["since"] == row["dated"] == run_id(STEP)
    assert row["change"] == pytest.approx(0.08, abs=0.02)
    assert row["nights"] == STEP
    assert confirmed.cases["cell"].iloc[0] == cell_id(0)
    assert "conv0 forward, torch eager on cpu" in confirmed.sentence
    assert "slower" in confirmed.sentence


def test_a_suspect_is_not_dated_by_the_noise_before_it_and_keeps_its_cause():
    values = with_step(flat(3, NIGHTS), STEP, 1.2)
    values[0] *= 1 + 0.012 * (-1) ** np.arange(NIGHTS)
    values[0, STEP - 2 : STEP] = 1.06  # a level of two nights by chance, of which the suspect night would be the third
    upgraded = lambda night: {"torch": "2.14"} if night >= STEP else {}  # noqa: E731
    row = case(at(history(values, packages=upgraded), STEP))
    assert (row["state"], row["since"], row["dated"], row["cause"]) == ("suspect", run_id(STEP), "", "torch 2.13 → 2.14")


@pytest.mark.parametrize("upgrade", [STEP - 3, STEP], ids=["at the date", "at the first bad night"])
def test_what_changed_between_the_date_and_the_alarm_is_the_cause(upgrade):
    values = flat(3, NIGHTS)
    values[0] = 1 + 0.015 * np.cos(2.4 * np.arange(NIGHTS))
    values[0, STEP - 3 : STEP], values[0, STEP:] = 1.055, 1.082  # one level, whose first nights are under the threshold
    upgraded = lambda night: {"torch": "2.14"} if night >= upgrade else {}  # noqa: E731
    row = case(at(history(values, packages=upgraded), STEP + 1))
    assert (row["state"], row["since"], row["dated"]) == ("confirmed", run_id(STEP), run_id(STEP - 3))
    assert row["cause"] == "torch 2.13 → 2.14"


def test_the_frame_has_the_columns_and_dtypes_of_the_schema():
    for judgement in (at(stepped(), STEP), judge(History(stepped().runs, stepped().cells[:0]))):
        dtypes = {column: str(dtype) for column, dtype in judgement.cases.dtypes.items()}
        assert dtypes == {column: COLUMNS[column].dtype for column in CASE_COLUMNS}


def test_what_is_not_resolved_stays_open_for_sixty_nights_and_its_baseline_stands():
    found = stepped(nights=STEP + 62)
    judgement = judge(found)
    assert judgement.level is Level.REGRESSION
    row = case(judgement)
    assert (row["state"], row["since"], row["nights"]) == ("open", run_id(STEP), STEP)
    assert row["change"] == pytest.approx(0.08, abs=0.02)


def test_two_nights_under_the_threshold_resolve():
    values = with_step(with_step(flat(12, 30), STEP, 1.08), STEP + 4, 1 / 1.08)
    found = history(values)
    assert states(at(found, STEP + 4))[cell_id(0)] == "open"
    resolved = at(found, STEP + 5)
    assert (states(resolved)[cell_id(0)], resolved.level) == ("resolved", "quiet")
    assert any("back under its threshold" in reason for reason in resolved.reasons)
    assert states(at(found, STEP + 6))[cell_id(0)] == "steady"
    assert case(judge(found), 0)["nights"] < 30 - 5  # the bad nights stay out


def test_one_night_that_is_off_is_suspect_and_nothing_more():
    values = flat(12, NIGHTS)
    values[0, STEP] *= 1.15
    found = history(values)
    assert at(found, STEP).level is Level.SUSPECT
    assert at(found, STEP + 1).level is Level.QUIET
    assert case(at(found, STEP + 2))["nights"] == STEP + 2  # it counts afterwards


def test_a_rerun_in_the_same_hour_confirms_nothing():
    soon = stepped(hours=0.3)
    assert at(soon, STEP + 1).level is Level.SUSPECT
    assert at(soon, STEP + 4).level is Level.REGRESSION  # 4 x 18 minutes
    assert at(soon, STEP + 1, rules=Rules(apart_s=0)).level is Level.REGRESSION


def test_under_ten_nights_nothing_is_judged():
    values = with_step(flat(12, 12), 9, 1.5)
    found = history(values)
    short = at(found, 9)
    assert (short.level, short.code) == ("quiet", 0)
    assert set(states(short).values()) == {"insufficient_history"}
    assert "12 with too few nights" in short.sentence
    assert at(history(with_step(flat(12, 12), 10, 1.5)), 10).level is Level.SUSPECT


def test_a_baseline_is_of_thirty_nights_at_most():
    assert case(judge(history(flat(6, 80))))["nights"] == 30


# Thresholds ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("factor", "level"), [(1.02, "quiet"), (1.028, "quiet"), (1.034, "suspect"), (0.96, "quiet")])
def test_less_than_three_percent_is_nothing(factor, level):
    values = with_step(flat(12, STEP + 1, noise=0), STEP, factor)
    judgement = judge(history(values))
    assert judgement.level == level
    assert case(judgement)["threshold"] == pytest.approx(0.03)


def test_four_scales_of_the_baseline_are_needed():
    noisy = flat(6, STEP, noise=0.03, seed=1)
    scale = 1.4826 * np.median(np.abs(noisy[0] - np.median(noisy[0])))
    for scales, state in ((3.9, "steady"), (4.1, "suspect")):
        last = np.median(noisy, axis=1, keepdims=True)
        last[0] += scales * scale
        judgement = judge(history(np.hstack([noisy, last])))
        assert states(judgement)[cell_id(0)] == state
        assert case(judgement)["z"] == pytest.approx(scales)


@pytest.mark.parametrize(("device", "level"), [("cpu", "quiet"), ("gpu:0", "suspect")])
def test_a_few_microseconds_are_nothing_on_a_cpu(device, level):
    values = with_step(flat(6, STEP + 1, noise=0) / 20, STEP, 1.2)  # 50 us + 10 us
    assert judge(history(values, row=lambda case, night: {"device": device})).level == level


def equals(noise, nights=STEP + 1, pairs=3, seed=3):
    """Pairs of a case and its equal that differ by noise of their own."""
    rng = np.random.default_rng(seed)
    values = np.ones((2 * pairs, nights)) * np.exp(rng.normal(0, 0.002, (2 * pairs, nights)))
    values[1::2] *= np.exp(rng.normal(0, noise, (pairs, nights)))
    return values, ["torch", "torch@aa"] * pairs


def test_three_times_what_equals_differ_by_is_needed():
    values, backends = equals(0.04)
    far = with_step(values, STEP, 1.06, (0, 1))
    judgement = judge(history(far, backends=backends))
    noise = judgement.machines[0].aa_noise
    assert 0.01 < noise < 0.05
    assert case(judgement)["threshold"] >= 3 * noise
    assert judgement.level is Level.QUIET
    assert judge(history(far[::2])).level is Level.SUSPECT  # without its equals nothing is known of the noise


# Improvements -------------------------------------------------------------------------------------------------------------


def test_an_improvement_is_told_and_becomes_the_baseline_after_ten_nights():
    faster = with_step(flat(12, 50), STEP, 0.9)
    found = history(with_step(faster, 40, 1 / 0.9))
    assert (at(found, STEP).level, states(at(found, STEP))[cell_id(0)]) == ("quiet", "improving")
    improved = at(found, STEP + 1)
    assert (improved.level, improved.code, states(improved)[cell_id(0)]) == ("improved", 0, "improved")
    assert "faster" in improved.sentence
    assert states(at(found, STEP + 8))[cell_id(0)] == "improved"
    assert (at(found, STEP + 10).level, case(at(found, STEP + 10))["nights"]) == ("quiet", 10)
    assert at(found, 41).level is Level.REGRESSION  # back to where it was


def test_an_improvement_that_does_not_last_is_no_baseline():
    values = with_step(with_step(flat(12, 40), STEP, 0.9), STEP + 4, 1 / 0.9)
    judgement = judge(history(values))
    assert states(judgement)[cell_id(0)] == "steady"
    assert case(judgement)["baseline_ns"] == pytest.approx(1e6, rel=0.01)


# Acknowledgements ---------------------------------------------------------------------------------------------------------


def test_an_acknowledgement_starts_a_new_baseline():
    found = stepped(nights=50)
    said = acknowledgement(night=STEP)
    told = at(found, STEP + 3, said)
    assert (told.level, told.code, states(told)[cell_id(0)]) == ("quiet", 0, "acknowledged")
    assert case(told)["note"] == "acknowledged by someone: known"
    after = judge(found, [said])
    assert (states(after)[cell_id(0)], case(after)["nights"]) == ("steady", 29)
    assert case(after)["baseline_ns"] == pytest.approx(1.08e6, rel=0.01)
    worse = history(with_step(with_step(flat(12, 50), STEP, 1.08), 40, 1.06))
    assert at(worse, 41, said).level is Level.REGRESSION
    assert case(at(worse, 41, said))["since"] == run_id(40)


def test_an_acknowledgement_holds_for_its_case_and_its_machine():
    found = stepped(cases=(0, 1))
    assert states(judge(found, [acknowledgement(night=STEP)]), State.OPEN) == [cell_id(1)]
    assert judge(found, [acknowledgement(EVERY_CASE, STEP)]).level is Level.QUIET
    elsewhere = acknowledgement(EVERY_CASE, STEP, machine_id="another")
    assert judge(found, [elsewhere]).level is Level.REGRESSION
    assert judge(found, [acknowledgement("no such cell", STEP)]).level is Level.REGRESSION


def test_an_acknowledgement_of_a_run_to_come_waits_for_it():
    found = stepped()
    assert at(found, STEP + 2, acknowledgement(night=STEP + 3)).level is Level.REGRESSION
    assert at(found, STEP + 3, acknowledgement(night=STEP + 3)).level is Level.QUIET


# Versions -----------------------------------------------------------------------------------------------------------------


def upgraded(night):
    return {"torch": "2.14"} if night >= STEP else {}


def test_an_upgrade_that_slows_every_cell_of_one_framework_is_a_regression_with_its_cause():
    backends = ["torch"] * 6 + ["jax"] * 6
    found = stepped(cases=range(6), backends=backends, packages=upgraded)
    suspect, confirmed = at(found, STEP), at(found, STEP + 1)
    assert (suspect.level, suspect.events) == ("suspect", ())
    assert (confirmed.level, confirmed.events) == ("regression", ())
    assert states(confirmed, State.CONFIRMED) == sorted(cell_id(number) for number in range(6))
    assert set(confirmed.cases["cause"][:6]) == {"torch 2.13 → 2.14"}
    assert "with torch 2.13 → 2.14" in confirmed.sentence


def test_a_new_kernel_may_slow_everything_and_is_a_regression():
    found = stepped(cases=range(12), backends=["torch", "jax"] * 6, facts=lambda night: {"os": f"Linux {6 + (night >= STEP)}"})
    assert at(found, STEP + 1).level is Level.REGRESSION
    assert set(at(found, STEP + 1).cases["cause"]) == {"operating system Linux 6 → Linux 7"}


def test_a_segment_is_held_against_the_one_before_until_it_has_ten_nights_of_its_own():
    found = stepped(factor=1.01, nights=50, packages=upgraded, cases=range(12))
    assert case(at(found, STEP))["nights"] == STEP
    assert case(at(found, STEP + 10))["nights"] == 10
    assert case(at(found, STEP + 10))["baseline_ns"] == pytest.approx(1.01e6, rel=0.005)
    assert judge(found).level is Level.QUIET


def test_an_unresolved_regression_of_an_upgrade_does_not_become_its_baseline():
    judgement = judge(stepped(nights=STEP + 62, packages=upgraded))
    assert (judgement.level, case(judgement)["nights"]) == ("regression", STEP)


def test_a_new_version_every_night_is_held_against_the_versions_before():
    found = stepped(packages=lambda night: {"torch": f"2.14.dev{night}"})
    assert at(found, STEP + 1).level is Level.REGRESSION
    assert case(at(found, STEP + 1))["cause"] == f"torch 2.14.dev{STEP - 1} → 2.14.dev{STEP}"


@pytest.mark.parametrize("cut", ["method", "shape"])
def test_another_method_or_shape_cuts_the_comparison(cut):
    methods = {"of_run": lambda night: {"method_version": 1 + (night >= STEP)}}
    shapes = {"row": lambda case, night: {"shape": f"n{1 + (night >= STEP)} c1 k1 4x4 f3x3"}}
    found = stepped(factor=3, nights=40, **(methods if cut == "method" else shapes))
    assert states(at(found, STEP))[cell_id(0)] == "insufficient_history"
    assert (judge(found).level, case(judge(found))["nights"]) == ("quiet", 19)


def test_the_harness_is_named_among_the_causes():
    found = stepped(of_run=lambda night: {"commit": "b" * 40 if night >= STEP else "a" * 40})
    assert case(at(found, STEP + 1))["cause"] == "convbench aaaaaaaaaa → bbbbbbbbbb"


# Machine events -----------------------------------------------------------------------------------------------------------


def test_five_cells_of_two_backends_that_move_together_are_the_machine():
    backends = ["torch", "jax"] * 6
    event = at(stepped(cases=range(5), backends=backends), STEP)
    assert (event.level, event.code) == ("machine_event", 4)
    assert event.events[0].why == "5 of 12 cases with unchanged versions are slower, from 2 backends"
    assert set(states(event).values()) == {"machine_event"}
    assert at(stepped(cases=range(4), backends=backends), STEP).level is Level.SUSPECT
    assert at(stepped(cases=range(5), backends=["torch"] * 12), STEP).level is Level.SUSPECT
    assert at(stepped(cases=range(5), backends=["torch", "jax"] * 20, of=40), STEP).level is Level.SUSPECT  # 12.5 %
    assert at(stepped(factor=0.9, cases=range(5), backends=backends), STEP).level is Level.MACHINE_EVENT


def test_a_night_of_a_machine_event_confirms_nothing_and_stays_out_of_baselines():
    values = flat(12, NIGHTS)
    values[:, STEP] *= 1.2
    values[0, STEP + 1 :] *= 1.1
    found = history(values, backends=["torch", "jax"] * 6)
    assert at(found, STEP).level is Level.MACHINE_EVENT
    assert at(found, STEP + 1).level is Level.SUSPECT
    assert case(at(found, STEP + 1), 2)["nights"] == STEP
    assert at(found, STEP + 2).level is Level.REGRESSION


def test_an_open_regression_outlives_a_machine_event():
    values = with_step(flat(12, NIGHTS), STEP, 1.1)
    values[:, STEP + 2] *= 1.2
    judgement = at(history(values, backends=["torch", "jax"] * 6), STEP + 2)
    assert (judgement.level, len(judgement.events)) == ("regression", 1)


def test_the_yardstick_shows_that_the_machine_moved():
    rng = np.random.default_rng(0)
    references = 5e5 * np.exp(rng.normal(0, 0.005, NIGHTS))
    references[STEP] *= 1.05
    found = history(flat(3, NIGHTS), references=references)
    assert at(found, STEP).level is Level.MACHINE_EVENT
    assert "the yardstick was off by" in at(found, STEP).sentence
    assert at(found, STEP + 1).level is Level.QUIET


def test_a_yardstick_that_is_timed_in_another_way_has_not_moved():
    references = 5e5 * np.exp(np.random.default_rng(0).normal(0, 0.005, NIGHTS))
    references[STEP:] *= 0.93
    for before, now, level in ((YARDSTICK_SINCE - 1, YARDSTICK_SINCE, "quiet"), (1, 2, "machine_event")):
        methods = {"of_run": lambda night, before=before, now=now: {"method_version": now if night >= STEP else before}}
        assert at(history(flat(3, NIGHTS), references=references, **methods), STEP).level == level


def test_a_yardstick_that_moved_is_taken_out_of_figures_in_yardsticks():
    rng = np.random.default_rng(1)
    speed = np.exp(rng.normal(0, 0.004, NIGHTS))
    speed[STEP] *= 1.1
    ratios = np.exp(rng.normal(0, 0.004, (12, NIGHTS)))
    values = ratios * speed * np.exp(rng.normal(0, 0.03, (12, NIGHTS)))
    given = {"backends": ["torch", "torch@aa"] * 3 + ["jax", "jax@aa"] * 3, "references": 1e6 * speed}
    assert at(history(values, ratios=ratios, **given), STEP).level is Level.QUIET
    # Where cases are too few, or of one backend, that they all moved would show nowhere.
    for backends in (["torch", "torch@aa"] * 6, ["torch", "torch@aa"] * 2 + ["jax", "jax@aa"] * 2):
        some, rows = given | {"backends": backends}, slice(0, len(backends))
        assert at(history(values[rows], ratios=ratios[rows], **some), STEP).level is Level.MACHINE_EVENT
    # A night before there is anything to judge by stays out of the baselines that begin.
    renewed = {"of_run": lambda night: {"method_version": 1 + (night >= STEP - 3)}}
    assert at(history(values, ratios=ratios, **given, **renewed), STEP).level is Level.MACHINE_EVENT
    # Nor where most of the figures are no ratios.
    ratios[:8, :5] = np.nan
    assert at(history(values, ratios=ratios, **given), STEP).level is Level.MACHINE_EVENT
    ratios[:8, :5] = 1.0
    ratios[:, STEP] /= 1.1  # the yardstick is slower and the cases are not
    alone = at(history(values, ratios=ratios, **given), STEP)
    assert alone.level is Level.MACHINE_EVENT
    assert "6 of 6 cases with unchanged versions are faster" in alone.sentence


def test_equals_that_differ_show_that_the_machine_moved():
    values, backends = equals(0.005)
    values[1::2, STEP] *= 1.05
    judgement = judge(history(values, backends=backends))
    assert judgement.level is Level.MACHINE_EVENT
    assert "cells measured twice differ" in judgement.sentence
    one = equals(0.005)[0]
    one[1, STEP] *= 1.05
    assert judge(history(one, backends=backends)).level is Level.QUIET  # of three, one is off


# Failures, losses, levels -------------------------------------------------------------------------------------------------


def broken(which, status="crashed", nights=NIGHTS, **overrides):
    return history(
        flat(12, nights),
        row=lambda case, night: {"status": status, "reason": "signal 11"} if (case, night) in which else {},
        **overrides,
    )


def test_a_failure_that_was_not_there_before_makes_the_night_partial():
    found = broken({(3, STEP), (3, STEP + 1), (3, STEP + 2)})
    first = at(found, STEP)
    assert (first.level, first.code, states(first, State.FAILED)) == ("partial", 5, [cell_id(3)])
    assert case(first, 3)["note"] == "signal 11"
    assert cell_id(3) in first.sentence
    second = at(found, STEP + 1)
    assert (second.level, states(second, State.FAILING)) == ("quiet", [cell_id(3)])
    assert (judge(found).level, case(judge(found), 3)["state"]) == ("quiet", "steady")
    assert case(judge(found), 3)["nights"] == NIGHTS - 1 - 3


def test_a_cell_that_is_not_measured_is_lost_until_the_suite_says_so():
    values = flat(12, NIGHTS)
    values[3, STEP:] = np.nan
    lost = at(history(values), STEP + 1)
    assert (lost.level, states(lost, State.LOST)) == ("partial", [cell_id(3)])
    assert judge(history(values), [acknowledgement(cell_id(3), STEP)]).level is Level.QUIET
    changed = history(values, of_run=lambda night: {"suite_sha256": str(night >= STEP)})
    assert (at(changed, STEP).level, states(at(changed, STEP), State.GONE)) == ("quiet", [cell_id(3)])
    assert cell_id(3) not in states(judge(changed))
    unsupported = broken({(3, STEP), (3, STEP + 1)}, "unsupported")
    assert at(unsupported, STEP).level is Level.PARTIAL
    assert at(unsupported, STEP + 1).level is Level.QUIET


def test_half_a_night_is_invalid_and_spoils_nothing():
    values = flat(12, NIGHTS)
    values[4:, STEP] = np.nan
    found = history(values)
    half = at(found, STEP)
    assert (half.level, half.code, half.invalid) == ("invalid", 5, ("only 4 of 12 cells were measured",))
    assert at(found, STEP + 1).level is Level.QUIET
    nothing = flat(12, NIGHTS)
    nothing[:, STEP] = np.nan
    assert at(history(nothing), STEP).invalid == ("nothing was measured",)
    assert at(history(nothing), STEP + 1).level is Level.QUIET


def test_a_regression_stays_open_over_a_night_without_figures():
    values = with_step(flat(12, NIGHTS), STEP, 1.1)
    values[:, STEP + 2] = np.nan
    found = history(values)
    assert states(at(found, STEP + 2), State.OPEN) == [cell_id(0)]
    assert at(found, STEP + 3).level is Level.REGRESSION


def test_a_machine_that_did_not_report():
    values = flat(12, NIGHTS)
    values[6:, STEP] = np.nan
    found = history(values, machines=["machine-1"] * 6 + ["machine-2"] * 6)
    judgement = at(found, STEP)
    assert (judgement.level, judgement.reasons[0]) == ("partial", "machine machine-2 did not report")
    assert [machine.machine_id for machine in at(found, STEP + 1).machines] == ["machine-1", "machine-2"]


def test_machines_that_take_turns_are_judged_each_on_its_own_night():
    values = flat(12, 2 * NIGHTS)
    values[:6, ::2], values[6:, 1::2] = np.nan, np.nan
    judgement = judge(history(values, machines=["machine-1"] * 6 + ["machine-2"] * 6))
    assert (judgement.level, [machine.machine_id for machine in judgement.machines]) == ("quiet", ["machine-1"])


def test_a_worker_that_never_came_up_tells_no_machine_and_is_still_of_this_one():
    found = broken({(3, NIGHTS - 1)})
    lost = (found.cells["status"] == "crashed").to_numpy()
    found.cells.loc[lost, ["machine_id", "environment_id"]] = ""
    judgement = judge(found)
    assert states(judgement, State.FAILED) == [cell_id(3)]
    assert judgement.cases["machine_id"].unique().tolist() == ["machine-1"]


def test_a_flag_that_bars_a_verdict_neither_confirms_nor_clears():
    values = with_step(flat(12, NIGHTS), STEP, 1.1)
    flagged = lambda case, night: {"barred_by": "contended"} if (case, night) == (0, STEP + 1) else {}  # noqa: E731
    found = history(values, row=flagged)
    assert [at(found, night).level for night in (STEP, STEP + 1, STEP + 2)] == ["suspect", "suspect", "regression"]
    assert case(at(found, STEP + 2))["since"] == run_id(STEP)
    assert case(at(history(flat(12, NIGHTS), row=flagged), STEP + 1))["state"] == "barred"


def test_a_night_with_flags_on_most_cells_is_inconclusive():
    flagged = lambda case, night: {"barred_by": "contended"} if case < 7 and night == NIGHTS - 1 else {}  # noqa: E731
    judgement = judge(history(flat(12, NIGHTS), row=flagged))
    assert (judgement.level, judgement.code) == ("inconclusive", 4)
    assert judgement.sentence == "Inconclusive: a flag bars the verdict on 7 of 12 cells."


def test_the_first_level_that_applies_is_that_of_the_night():
    assert [level.code for level in Level] == [5, 3, 5, 4, 4, 4, 0, 0]
    values = with_step(flat(12, NIGHTS), STEP, 1.1)
    found = history(values, row=lambda case, night: {"status": "oom"} if (case, night) == (4, STEP + 1) else {})
    both = at(found, STEP + 1)
    assert (both.level, len(both.reasons)) == ("regression", 2)
    assert at(found, STEP + 1, invalid=["the reference is missing"]).level is Level.INVALID


def test_a_history_without_runs_is_refused():
    with pytest.raises(ValueError, match="without runs"):
        judge(History((), history(flat(1, 1)).cells[:0]))


# The yardstick, large families, the gate's own record ---------------------------------------------------------------------


def drifting(seed=5):
    """Equals on a machine whose speed wanders, and the same in yardsticks, which do not."""
    rng = np.random.default_rng(seed)
    speed = np.exp(rng.normal(0, 0.03, (8, NIGHTS)))
    ratios = np.exp(rng.normal(0, 0.004, (8, NIGHTS)))
    return ratios * speed, ratios, ["torch", "torch@aa"] * 4


@pytest.mark.fault(
    "a change is corrected by the yardstick",
    "the times beside it are those measured, and the correction is named",
)
def test_the_corrected_figure_counts_where_nights_differ_less_by_it():
    values, ratios, backends = drifting()
    ratios[:2, STEP:] *= 1.06
    values[:2, STEP:] *= 1.06
    given = {"backends": backends, "references": [1e6] * NIGHTS}
    corrected = at(history(values, ratios=ratios, **given), STEP + 1)
    assert (corrected.level, case(corrected)["estimator"]) == ("regression", "corrected_median")
    # The times are those that were measured; the change is by yardsticks, and the sentence says both.
    measured = values[0] * 1e6
    row = case(corrected)
    assert row["night_ns"] == pytest.approx(measured[STEP + 1])
    assert row["baseline_ns"] == pytest.approx(np.median(measured[:STEP]))
    assert row["change"] == pytest.approx(0.06, abs=0.01)
    assert abs(row["night_ns"] / row["baseline_ns"] - 1 - row["change"]) > 0.005
    moved = units.change(row["night_ns"] / row["baseline_ns"])
    assert "slower corrected by the yardstick (measured: " in corrected.sentence
    assert f" → {units.duration(row['night_ns'])}, {moved}) since" in corrected.sentence
    raw = at(history(values, **given), STEP + 1)
    assert (raw.level, case(raw)["estimator"]) == ("quiet", "median")
    assert corrected.machines[0].smallest_effect < raw.machines[0].smallest_effect


def test_a_flag_bars_the_corrected_figure_too():
    values, ratios, backends = drifting()
    flagged = lambda case, night: {"barred_by": "drift"} if (case, night) == (0, NIGHTS - 1) else {}  # noqa: E731
    judgement = judge(history(values, ratios=ratios, backends=backends, references=[1e6] * NIGHTS, row=flagged))
    assert states(judgement)[cell_id(0)] == "barred"
    assert judgement.machines[0].judged == 3


def test_ratios_to_the_yardstick_of_another_numpy_are_not_compared():
    values, ratios, backends = drifting()
    found = history(
        values, ratios=np.where(np.arange(NIGHTS) >= STEP, 2, 1) * ratios, backends=backends, references=[1e6] * NIGHTS,
        packages=lambda night: {"numpy": "2.5"} if night >= STEP else {},
    )  # fmt: skip
    assert case(at(found, STEP - 1))["estimator"] == "corrected_median"
    assert (at(found, STEP + 1).level, case(at(found, STEP + 1))["estimator"]) == ("quiet", "median")


def test_in_a_large_family_few_are_called_by_chance_and_a_change_is_still_found():
    values = 2 * np.exp(np.random.default_rng(0).normal(0, 0.012, (1500, 14)))  # short baselines: some scales are too small
    values[7, 12:] = 2 * 1.15
    found = history(values)
    moved = replay(grids(found)[0]).moved[:, 12] > 0
    first, second = at(found, 12), at(found, 13)
    assert moved.sum() >= 5
    assert cell_id(7) in states(first, State.SUSPECT)
    assert len(states(first, State.SUSPECT)) < moved.sum() / 2
    assert states(second, State.CONFIRMED) == [cell_id(7)]
    assert (
        sum(found == "suspect" for found in states(judge(history(values[:150]).until(run_id(12)))).values())
        == moved[:150].sum()
    )


def test_in_a_large_family_a_change_just_over_its_threshold_is_confirmed_without_having_been_called():
    values = flat(1500, 32, noise=0.001)
    values[7, :30] = 2 * (1 + np.where(np.arange(30) % 2, 1, -1) * 0.01 / 1.4826)
    values[7, 30:] = 2 * 1.043  # 4.3 scales: of 1,500 cells that are quiet one is, every few nights
    found = history(values)
    assert at(found, 30).level is Level.QUIET
    assert states(at(found, 31), State.CONFIRMED) == [cell_id(7)]
    assert states(judge(history(values[:150]).until(run_id(30))), State.SUSPECT) == [cell_id(7)]


def test_the_record_counts_alarms_that_an_equal_contradicts():
    values, backends = equals(0.004, nights=NIGHTS)
    quiet = judge(history(values, backends=backends)).machines[0]
    assert (quiet.aa_nights, quiet.aa_suspects, quiet.aa_confirmed) == (2 * 3 * (NIGHTS - 10), 0, 0)
    values[0, STEP : STEP + 2] *= 1.2
    alarmed = judge(history(values, backends=backends)).machines[0]
    assert (alarmed.aa_suspects, alarmed.aa_confirmed) == (2, 1)
    both = equals(0.004, nights=NIGHTS)[0]
    both[:2, STEP : STEP + 2] *= 1.2  # both of a pair: the case is slower
    assert judge(history(both, backends=backends)).machines[0].aa_confirmed == 0
    assert judge(history(values[::2])).machines[0].aa_nights == 0


def test_the_equal_of_an_acknowledged_case_is_acknowledged_with_it():
    values, backends = equals(0.004, nights=50)
    values[:2, STEP:] *= 1.1
    values[:2, 40:] *= 1.1
    found = history(values, backends=backends)
    record = at(found, 42, acknowledgement(night=STEP)).machines[0]
    assert states(at(found, 42, acknowledgement(night=STEP)))[cell_id(0)] == "open"
    assert record.aa_confirmed == 0


def test_equals_are_no_cases():
    values, backends = equals(0.004)
    judgement = judge(history(values, backends=backends))
    assert judgement.cases["backend"].unique().tolist() == ["torch"]
    assert judgement.machines[0].cases == 3


def test_the_smallest_effect_is_found_in_nineteen_of_twenty():
    found, trials = 0, 300
    rng = np.random.default_rng(0)
    effects = []
    for _ in range(trials // 50):
        values = 2 * np.exp(rng.normal(0, 0.01, (50, 32)))
        effect = case(judge(history(values[:, :31])))["smallest_effect"]
        effects.append(effect)
        values[:, 30:] *= 1 + 0.06
        found += int((replay(grids(history(values))[0]).confirmed[:, 31] > 0).sum())
    assert 0.05 < np.median(effects) < 0.07
    assert found / trials > 0.9


# Drift and words ----------------------------------------------------------------------------------------------------------


def test_slow_drift_is_a_notice():
    creeping = flat(6, 70, noise=0.003)
    creeping[0] *= np.linspace(1, 1.05, 70)
    judgement = judge(history(creeping))
    assert judgement.level is Level.QUIET
    assert case(judgement)["drift"] == pytest.approx(0.042, abs=0.01)
    assert [reason for reason in judgement.reasons if "drifts" in reason] == [
        f"conv0 forward, torch eager on cpu drifts: {100 * case(judgement)['drift']:.1f} % over the last 60 nights"
    ]


def test_a_case_has_a_name_that_people_know():
    assert name(case(judge(stepped()))) == "conv0 forward, torch eager on cpu"


# What must always hold ----------------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(13, 30))
def test_what_is_said_of_a_night_does_not_change_with_later_nights(seed, night):
    rng = np.random.default_rng(seed)
    values = flat(8, 32, noise=0.01, seed=seed) * np.where(rng.random((8, 32)) < 0.05, 1.2, 1)
    values[rng.random((8, 32)) < 0.05] = np.nan
    values[0, rng.integers(10, 30) :] *= rng.choice([0.9, 1.1])
    backends = ["torch", "torch@aa", "jax", "jax@aa"] * 2
    ratios = values * np.exp(rng.normal(0, 0.005, values.shape))
    found = history(values, backends=backends, ratios=ratios, references=list(1e6 * np.exp(rng.normal(0, 0.01, 32))))
    whole, part = (replay(grids(each)[0]) for each in (found, found.until(run_id(night))))
    for matrix in ("moved", "suspect", "confirmed", "judged"):
        known = getattr(part, matrix)
        assert np.array_equal(getattr(whole, matrix)[: len(known), : night + 1], known), matrix
    assert {night_: why for night_, why in whole.events.items() if night_ <= night} == part.events


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000))
def test_the_order_of_rows_does_not_matter_nor_does_the_dtype_of_text(seed):
    found = stepped(backends=["torch", "jax"] * 6, cases=range(0, 6, 2))
    shuffled = found.cells.sample(frac=1, random_state=seed).reset_index(drop=True)
    shuffled = shuffled.astype(dict.fromkeys(shuffled.columns[shuffled.dtypes == found.cells["cell"].dtype], "category"))
    one, other = judge(found), judge(History(found.runs, shuffled))
    assert (one.sentence, one.reasons) == (other.sentence, other.reasons)
    assert one.cases.equals(other.cases)


@settings(max_examples=10, deadline=None)
@given(st.floats(0.5, 1000))
def test_a_unit_of_time_does_not_matter_to_slow_cells(factor):
    values = with_step(flat(6, NIGHTS), STEP, 1.06) * 10
    one, other = judge(history(values)), judge(history(values * factor))
    assert states(one) == states(other)
