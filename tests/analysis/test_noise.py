"""What equals differ by, on scripted pairs; the rates and the smallest effect by simulation."""

import math

import numpy as np
import pytest
from scipy.stats import nct, t

from harness.analysis import noise as noises
from harness.analysis.compare import judge, noise_column
from harness.analysis.noise import SIGMA_PER_MAD, measure, smallest_effect
from harness.analysis.trials import Estimator
from harness.flags import Flag
from harness.outcome import Outcome
from harness.record import Status
from tests.analysis.test_compare import side
from tests.builders import cell, failed, record, samples, series

MEDIAN = Estimator.MEDIAN
SCALE = 10**7  # of the times in ns, so that their rounding is no matter


def pair(name, ratios, yardsticks=None, **overrides):
    """A cell and its twin: a trial per ratio, the twin that much slower, its yardstick too if told."""
    found = []
    for backend, factors, beside in (("torch", [1.0] * len(ratios), None), ("torch@aa", ratios, yardsticks)):
        for trial, factor in enumerate(factors):
            known = yardsticks is not None
            reading = [round(500 * (beside[trial] if beside else 1) * 1000)] * 30 if known else ()
            block = series([round(SCALE * factor)] * 30, yardstick_ns=reading)
            of = cell(workload=name, backend=backend)
            found.append(record(trial=trial, order=trial, of=of, samples=samples(block), **overrides))
    return found


def measured(*pairs):
    return measure(side(*(record for records in pairs for record in records)))


def ratios(*logs):
    return [math.exp(log) for log in logs]


def row(found, name):
    rows = found.cells[found.cells["cell"].str.startswith(f"{name}/")]
    assert len(rows) == 1
    return rows.iloc[0]


def test_the_noise_of_a_cell_is_the_median_deviation_from_equality():
    found = measured(pair("a", ratios(0.01, -0.03, 0.02)))
    a = row(found, "a")
    assert a["own_median"] == pytest.approx(1.4826 * 0.02, rel=1e-5)
    assert a["cell"] == str(cell(workload="a"))
    assert a[["machine_id", "trials", "barred"]].tolist() == ["machine-1", 3, False]
    assert a["ratio"] == pytest.approx(math.exp(0.01))
    # Three values lie closer to their own median than to the truth: from there it would be 1.4826 * 0.01.
    lots = np.random.default_rng(1).normal(0, 1, (4000, 3))
    assert np.median(SIGMA_PER_MAD * np.median(np.abs(lots), axis=1)) == pytest.approx(1, abs=0.05)
    own = np.abs(lots - np.median(lots, axis=1, keepdims=True))
    assert np.median(SIGMA_PER_MAD * np.median(own, axis=1)) == pytest.approx(0.54, abs=0.03)


def test_what_counts_for_a_cell_is_at_least_the_median_of_the_machine():
    found = measured(*(pair(name, ratios(width, -width, width)) for name, width in (("a", 0.01), ("b", 0.02), ("c", 0.05))))
    assert found.machine[MEDIAN] == pytest.approx(1.4826 * 0.02, rel=1e-4)
    column = noise_column(MEDIAN)
    assert [row(found, name)[column] for name in "abc"] == pytest.approx([1.4826 * w for w in (0.02, 0.02, 0.05)], rel=1e-4)


def test_the_quietest_estimator_is_counted():
    drifting = [1.1, 0.9, 1.05]  # the yardstick drifts with the machine, so the corrected ratio is 1
    found = measured(*(pair(name, drifting, drifting) for name in "ab"), pair("c", ratios(0.01, -0.01, 0.01), [1, 1.2, 0.8]))
    assert set(found.machine) == set(Estimator)
    assert sum(count for each, count in found.quietest.items() if each.corrected) == 2
    assert found.quietest[MEDIAN] == 1
    assert row(found, "a")["own_corrected_median"] == pytest.approx(0, abs=1e-6)
    assert row(found, "a")["own_median"] == pytest.approx(1.4826 * math.log(1 / 0.9), rel=0.1)


def drifting_and_steady(drifting, steady):
    """So many pairs whose yardstick drifts with the machine, and so many beside which it has noise of its own."""
    drift, own = [1.1, 0.9, 1.05], [1, 1.2, 0.8]
    return measured(
        *(pair(f"a{at}", drift, drift) for at in range(drifting)),
        *(pair(f"b{at}", ratios(0.01, -0.01, 0.01), own) for at in range(steady)),
    )


@pytest.mark.parametrize(("drifting", "steady", "used"), [(4, 2, True), (3, 2, False), (0, 1, False), (1, 0, True)])
def test_a_correction_is_used_where_it_has_less_noise_in_two_thirds_of_the_pairs(drifting, steady, used):
    found = drifting_and_steady(drifting, steady)
    assert found.corrections[Estimator.CORRECTED_MEDIAN] == noises.Correction(drifting, drifting + steady)
    assert found.corrections[Estimator.CORRECTED_MEDIAN].used is used
    assert (Estimator.CORRECTED_MEDIAN in found.quietest) is used
    assert found.cells[noise_column(Estimator.CORRECTED_MEDIAN)].notna().all() == used
    assert found.cells["own_corrected_median"].notna().all()  # it is still told


def test_what_is_not_used_makes_no_smallest_effect():
    found = drifting_and_steady(3, 2)
    assert not any(Estimator(each).corrected for each in found.cells["estimator"])
    of_raw = min(value for each, value in found.machine.items() if not each.corrected)
    assert found.machine[Estimator.CORRECTED_MEDIAN] < of_raw
    assert found.smallest_effect >= smallest_effect(of_raw, 3)


@pytest.mark.parametrize(("steady", "verdict"), [(2, Outcome.SLOWER), (3, Outcome.UNCERTAIN)])
def test_what_is_not_used_makes_no_verdict(steady, verdict):
    """One pair is 10 % slower, as only the corrected ratio tells; in 5 of 7 pairs it is worth using, in 5 of 8 it is not."""
    drift, own = [1.1, 0.9, 1.05], [1, 1.2, 0.8]
    drifting = [pair(f"a{at}", drift, drift) for at in range(4)]
    slower = pair("c", [1.1 * each for each in drift], drift)
    found = measured(*drifting, slower, *(pair(f"b{at}", ratios(0.01, -0.01, 0.01), own) for at in range(steady)))
    assert row(found, "c")["verdict"] == verdict


def test_without_yardsticks_nothing_is_corrected():
    found = measured(pair("a", ratios(0.01, -0.03, 0.02)))
    assert set(found.machine) == {MEDIAN, Estimator.LOWER_QUARTILE}
    assert math.isnan(row(found, "a")["noise_corrected_median"])


def test_a_pair_is_judged_by_the_noise_of_the_others():
    steady = [pair(name, ratios(0.01, -0.01, 0.01)) for name in "abc"]
    biased = pair("d", ratios(0.2, 0.21, 0.19))
    found = measured(*steady, biased)
    assert row(found, "d")["verdict"] == Outcome.SLOWER
    assert (found.judged, found.differences) == (4, 1)
    # By its own noise it would be none: the ratios cannot lie beyond their own median.
    assert judge(ratios(0.2, 0.21, 0.19), row(found, "d")["own_median"])[0] == Outcome.UNCERTAIN


def test_a_pair_alone_can_be_judged_from_five_trials_on():
    assert measured(pair("a", ratios(0.1, 0.1, 0.1))).judged == 0
    found = measured(pair("a", ratios(0.1, 0.101, 0.1, 0.099, 0.1)))
    assert (found.judged, found.differences) == (1, 1)


def test_flagged_pairs_make_the_noise_but_have_no_verdict():
    found = measured(
        pair("a", ratios(0.01, -0.01, 0.01)), pair("b", ratios(0.01, -0.01, 0.01)),
        pair("c", ratios(0.5, 0.5, 0.5), flags=(Flag.CONTENDED,)),
    )  # fmt: skip
    assert row(found, "c")["barred"]
    assert (found.judged, found.differences, found.flagged, found.flagged_differences) == (2, 0, 1, 1)
    assert sum(found.quietest.values()) == 3
    alone = measured(*(pair(name, ratios(0.02, -0.02, 0.02), flags=(Flag.DRIFT,)) for name in "ab"))
    assert alone.machine[MEDIAN] == pytest.approx(1.4826 * 0.02, rel=1e-3)
    assert (alone.judged, alone.flagged, alone.flagged_differences) == (0, 2, 0)


def test_what_has_no_twin_or_no_figure_is_no_pair():
    lonely = [record(of=cell(workload="a"))]
    broken = [
        record(of=cell(workload="b")),
        failed(Status.OOM, "no memory", order=1, of=cell(workload="b", backend="torch@aa")),
    ]
    other = [record(of=cell(workload="c")), record(order=1, of=cell(workload="c", backend="torch@old"))]
    found = measured(lonely, broken, other)
    assert len(found.cells) == 0
    assert (found.machine, found.judged, found.smallest_effect) == ({}, 0, None)


def test_one_trial_tells_a_noise_but_no_verdict():
    found = measured(pair("a", [1.1]), pair("b", [0.9]))
    assert (found.judged, found.smallest_effect, found.trials) == (0, None, 1)
    assert found.machine[MEDIAN] > 0


def test_times_of_zero_have_no_noise():
    blank = [record([0] * 30, of=cell(workload="a", backend=backend)) for backend in ("torch", "torch@aa")]
    found = measured(blank)
    assert math.isnan(row(found, "a")["noise"])


# By simulation ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("trials", "at_most"), [(3, 0.05), (5, 0.04)])
def test_the_rate_of_false_differences(trials, at_most):
    rng = np.random.default_rng(31)
    found = measured(*(pair(f"w{at}", np.exp(rng.normal(0, 0.05, trials))) for at in range(300)))
    assert found.judged == 300
    assert 0 < found.differences / found.judged <= at_most
    assert found.machine[MEDIAN] == pytest.approx(0.05, rel=0.1)


@pytest.mark.parametrize("trials", [2, 3, 5, 10])
@pytest.mark.parametrize("noise", [0.02, 0.1])
def test_the_smallest_effect_is_found_in_nine_of_ten(trials, noise):
    effect = smallest_effect(noise, trials)
    drawn = np.exp(np.random.default_rng(32).normal(math.log1p(effect), noise, (4000, trials)))
    said = np.array([judge(list(each), noise)[0] for each in drawn])
    assert np.mean(said == Outcome.SLOWER) == pytest.approx(0.9, abs=0.02)


def test_without_the_noise_condition_the_power_is_that_of_the_t_test():
    """With 3 trials the interval decides almost alone, so a noncentral t must come out."""
    ncp = 8.0
    power = nct.sf(t.ppf(0.975, 2), 2, ncp)
    assert noises.found(ncp / math.sqrt(3), 3) == pytest.approx(power, abs=0.002)


def test_more_trials_and_less_noise_show_smaller_effects():
    by_trials = [smallest_effect(0.05, trials) for trials in (2, 3, 5, 10, 30)]
    assert by_trials == sorted(by_trials, reverse=True)
    assert smallest_effect(0.01, 5) < smallest_effect(0.05, 5)
    assert smallest_effect(0.05, 3) == pytest.approx(math.expm1(3.92 * 0.05), rel=0.01)
    assert (smallest_effect(None, 5), smallest_effect(math.nan, 5), smallest_effect(0.05, 1)) == (None, None, None)


def test_single_trials_far_off_make_the_smallest_effect_what_is_found_in_nine_of_ten_pairs_all_the_same():
    """Noise that is wild in one trial of ten: the median deviation is blind to it, the t-interval is not."""
    rng = np.random.default_rng(33)

    def drawn(count):
        return np.where(rng.random((count, 3)) < 0.1, rng.normal(0, 0.2, (count, 3)), rng.normal(0, 0.02, (count, 3)))

    found = measured(*(pair(f"w{at}", np.exp(logs)) for at, logs in enumerate(drawn(400))))
    noise = found.machine[MEDIAN]
    slowed = np.exp(drawn(4000) + math.log1p(found.smallest_effect))
    said = np.array([judge(list(each), noise)[0] for each in slowed])
    assert np.mean(said == Outcome.SLOWER) == pytest.approx(0.9, abs=0.03)
    assert found.smallest_effect > 1.5 * smallest_effect(noise, 3)


def test_what_a_flag_bars_does_not_make_the_smallest_effect_larger():
    quiet = [pair(f"w{at}", ratios(0.01, -0.01, 0.012)) for at in range(9)]
    wild = [pair(f"x{at}", ratios(0.01, -0.01, 2.0), flags=(Flag.DRIFT,)) for at in range(8)]
    assert measured(*quiet, *wild).smallest_effect == pytest.approx(measured(*quiet).smallest_effect, rel=0.02)
