"""Verdicts on scripted runs: every rule, and how often the interval and the verdict are wrong."""

import math

import numpy as np
import pandas as pd
import pytest

from harness import stats
from harness.analysis.compare import REMEDY, Side, compare, judge, noise_column
from harness.analysis.summary import summarize
from harness.analysis.trials import Estimator, trials
from harness.axes import Direction
from harness.columns import COLUMNS, COMPARISON_COLUMNS
from harness.flags import Flag
from harness.outcome import Outcome
from harness.record import OTHERS_METHOD, Status
from harness.store import frames
from tests.builders import cell, environment, failed, record, run, samples, series

NEW = "20260302-023000-bbbb"
CELL = str(cell())


def side(*records, environments=None, **overrides):
    environments = (environment(packages={"torch": "2.13", "numpy": "2.4"}),) if environments is None else environments
    sampled = frames.samples_frame(records)
    summary = summarize(frames.records_frame(records, environments, "small"), sampled)
    id = records[0].run_id if records else NEW
    return Side(summary, trials(sampled), run(id, environments=environments, **overrides))


def base(*medians, **overrides):
    """Records of a run with one trial of 30 equal samples per median."""
    return [record([median] * 30, trial=trial, order=trial, **overrides) for trial, median in enumerate(medians)]


def new(*medians, **overrides):
    return base(*medians, run_id=NEW, **overrides)


def noise(machine_id="machine-1", of=CELL, **values):
    """A noise frame of one cell; what is not named is not known."""
    named = {noise_column(each): values.get(each, math.nan) for each in Estimator}
    return pd.DataFrame([{"cell": of, "machine_id": machine_id, **named}])


QUIET = noise(median=0.01)


def row(before, after, known=QUIET, **overrides):
    found = compare(side(*before), side(*after, **overrides), known)
    assert len(found) == 1
    return found.iloc[0]


def verdict(before, after, known=QUIET):
    found = row(before, after, known)
    return found["verdict"], found["why"]


# The figures --------------------------------------------------------------------------------------------------------------


def test_columns_and_dtypes_are_those_of_the_schema():
    for found in (compare(side(), side()), compare(side(*base(1, 2, 3)), side(*new(3, 4, 5))), compare(side(*base(1)), side())):
        assert {name: str(dtype) for name, dtype in found.dtypes.items()} == {
            name: COLUMNS[name].dtype for name in COMPARISON_COLUMNS
        }


def test_the_interval_is_a_t_interval_on_the_logs_paired_by_trial():
    # Each trial doubles, give or take 10 %, though the trials themselves differ by a factor of ten.
    found = row(base(1000, 10_000, 5000), new(2000, 22_000, 9000))
    logs = [math.log(2), math.log(2.2), math.log(1.8)]
    centre, deviation = sum(logs) / 3, np.std(logs, ddof=1)
    half = 4.302652729911275 * deviation / math.sqrt(3)  # t at 97.5 % with 2 degrees of freedom, from a table
    assert found["ratio"] == pytest.approx(math.exp(centre))
    assert found["ratio_low"] == pytest.approx(math.exp(centre - half))
    assert found["ratio_high"] == pytest.approx(math.exp(centre + half))
    assert found[["pairs", "base_median_ns", "new_median_ns"]].tolist() == [3, 5000, 9000]
    assert found[["estimator", "aa_noise", "base_run_id", "new_run_id"]].tolist() == [
        "median", 0.01, "20260301-023000-aaaa", NEW,
    ]  # fmt: skip


def test_trials_that_one_run_lacks_are_not_paired():
    found = row(base(1000, 1001, 1002, 1003, 1004), new(1000, 1001, 1002))
    assert (found["pairs"], found["ratio"], found["verdict"]) == (3, 1, "no_change")


def test_cells_of_one_run_are_listed_after_those_of_base():
    other = cell(backend="jax")
    found = compare(
        side(*base(1000, 1000, 1000), *base(5, 5, 5, of=cell(direction=Direction.WGRAD))),
        side(*new(1000, 1000, 1000), *new(7, 7, 7, of=other)),
    ).set_index("cell")
    assert found["verdict"].tolist() == ["no_change", "only_base", "only_new"]
    assert found.index[2] == str(other)
    assert found["why"].tolist() == ["", "new lacks it", "base lacks it"]
    assert found["backend"].tolist() == ["torch", "torch", "jax"]
    assert found["new_median_ns"].isna().tolist() == [False, True, False]
    assert found["base_status"].tolist() == ["ok", "ok", ""]
    assert found["ratio"].isna().tolist() == [False, True, True]


# The verdicts -------------------------------------------------------------------------------------------------------------


def test_beyond_interval_and_noise_it_is_slower_or_faster():
    slower = row(base(1000, 1000, 1000), new(1200, 1210, 1190))
    faster = row(base(1200, 1210, 1190), new(1000, 1000, 1000))
    assert (slower["verdict"], slower["why"]) == ("slower", "")
    assert (faster["verdict"], faster["why"]) == ("faster", "")
    assert faster["ratio"] == pytest.approx(1 / slower["ratio"])


def test_under_five_trials_a_verdict_needs_the_noise():
    told = verdict(base(1000, 1000, 1000), new(1200, 1210, 1190), None)
    assert told == ("uncertain", f"under 5 trials, and no A/A noise is known for this machine: {REMEDY}")
    told = verdict(base(1000, 1000, 1000), new(1200, 1210, 1190), noise(of="another", median=0.01))
    assert told == ("uncertain", f"under 5 trials, and no A/A noise is known for this cell: {REMEDY}")
    assert verdict(base(*[1000] * 5), new(1200, 1210, 1190, 1205, 1195), None) == ("slower", "")
    assert verdict(base(*[1000] * 3), new(1001, 1000, 1002), None) == ("no_change", "")


def test_a_difference_within_the_noise_is_none_to_be_called():
    told = verdict(base(1000, 1000, 1000), new(1200, 1210, 1190), noise(median=0.2))
    assert told == ("uncertain", "20.0 % is within the A/A noise of 22.1 %")
    five = base(*[1000] * 5), new(1200, 1210, 1190, 1205, 1195)
    assert verdict(*five, noise(median=0.2))[0] == "uncertain"
    assert verdict(*five, noise(median=0.17))[0] == "slower"


@pytest.mark.parametrize(
    ("after", "found"),
    [((1000, 1010, 990), "no_change"), ((1000, 1030, 970), "uncertain"), ((1010, 1011, 1012), "no_change")],
)
def test_no_change_is_an_interval_about_one_within_five_percent(after, found):
    # Half-widths of 2.5 % and 7.5 %; the last is a difference for sure, but within the noise.
    assert verdict(base(1000, 1000, 1000), new(*after), noise(median=0.02))[0] == found


def test_a_wide_interval_says_what_is_possible():
    told = verdict(base(1000, 1000, 1000), new(1000, 1030, 970))
    assert told == ("uncertain", "−7.2 % to 7.7 % is possible: more trials narrow that")


def test_a_sure_difference_too_small_to_matter_is_no_change_where_it_is_within_the_noise():
    sure = [1.02, 1.021, 1.019]
    assert judge(sure, 0.03) == ("no_change", "")
    assert judge(sure, 0.01)[0] == "slower"
    assert judge([1.08, 1.081, 1.079], 0.10)[0] == "uncertain"


def test_one_trial_gives_no_verdict():
    found = row(base(1000), new(2000))
    assert (found["verdict"], found["ratio"], found["pairs"]) == ("uncertain", 2, 1)
    assert found["why"] == "under 2 trials in common: how much processes differ is not known"
    assert found[["ratio_low", "ratio_high"]].isna().all()


def test_a_flag_that_bars_a_verdict_does_so_on_either_side():
    flagged = {"flags": (Flag.CONTENDED,)}
    far = (1200, 1210, 1190)
    assert verdict(base(1000, 1000, 1000, **flagged), new(*far)) == ("uncertain", "flagged contended in base")
    assert verdict(base(1000, 1000, 1000), new(*far, **flagged)) == ("uncertain", "flagged contended in new")
    assert verdict(base(1000, 1000, 1000), new(*far, flags=(Flag.COMPOSITE,)))[0] == "slower"


def test_what_failed_is_said():
    bad = failed(Status.OOM, "no memory", run_id=NEW, trial=2, order=2)
    found = row(base(1000, 1000, 1000), [*new(1200, 1210), bad])
    assert found[["verdict", "why", "new_status", "pairs"]].tolist() == ["uncertain", "oom in new: no memory", "oom", 0]
    assert math.isnan(found["ratio"])
    assert verdict(base(1000, samples=None), new(1000))[1] == "ok in base: no samples"


def test_other_methods_and_shapes_are_not_compared():
    found = row(base(1000, 1000, 1000), new(1200, 1210, 1190), method_version=9)
    assert found[["verdict", "why"]].tolist() == ["uncertain", "measured by different versions of the method"]
    foreign = row(base(1000, 1000, 1000), new(1200, 1210, 1190), method_version=OTHERS_METHOD)
    assert foreign[["verdict", "why"]].tolist() == ["uncertain", "measured by another program, by rules of its own"]
    assert foreign["ratio"] == pytest.approx(1.2, rel=0.01)
    wider = cell(spec=cell().spec.__class__(2, 1, 2, (4, 4), (3, 3), (1, 1), (1, 1), ((1, 1), (1, 1))))
    told = verdict(base(1000, 1000, 1000), new(1200, 1210, 1190, of=wider))
    assert told == ("uncertain", "another shape: n1 c1 k2 4x4 f3x3 p1x1 in base, n2 c1 k2 4x4 f3x3 p1x1 in new")


def test_times_of_zero_end_in_no_verdict():
    assert verdict(base(0, 0, 0), new(5, 5, 5))[0] == "uncertain"


# The estimator ------------------------------------------------------------------------------------------------------------


def beside(factor, yardstick_ns, run_id):
    """Three trials of 1000 ns, `factor` as slow, beside a yardstick of that time."""
    blocks = [series([round(1000 * factor) + trial] * 30, yardstick_ns=[yardstick_ns] * 30) for trial in range(3)]
    return [record(trial=trial, order=trial, run_id=run_id, samples=samples(block)) for trial, block in enumerate(blocks)]


BOTH = noise(median=0.03, corrected_median=0.01)
CALM, LOADED = beside(1, 500, "20260301-023000-aaaa"), beside(1.2, 600, NEW)


def test_a_loaded_machine_is_corrected_for_where_that_is_quieter():
    raw, corrected = row(CALM, LOADED, noise(median=0.01, corrected_median=0.03)), row(CALM, LOADED, BOTH)
    assert raw[["verdict", "estimator"]].tolist() == ["slower", "median"]
    assert corrected[["verdict", "estimator", "aa_noise"]].tolist() == ["no_change", "corrected_median", 0.01]
    assert corrected["ratio"] == pytest.approx(1, abs=0.001)
    assert row(CALM, LOADED, None)["estimator"] == "median"
    assert row(CALM, LOADED, noise(median=0.01, corrected_median=0.01))["estimator"] == "median"


@pytest.mark.fault("a ratio is not that of the medians", "the times beside it are those that it is of")
@pytest.mark.parametrize("known", [noise(median=0.01, lower_quartile=0.03), noise(median=0.03, lower_quartile=0.01), None])
def test_the_two_times_of_a_ratio_are_those_that_it_is_of(known):
    # Medians of 1000 and 1100 are of other trials than those that both runs have.
    found = row(base(1000, 1010, 990), new(1200, 1180, 1250, 10, 20), known)
    assert found["new_ns"] / found["base_ns"] == pytest.approx(found["ratio"], rel=1e-12)
    assert found["new_median_ns"] / found["base_median_ns"] != pytest.approx(found["ratio"], rel=1e-3)


def test_beside_a_corrected_ratio_stand_the_times_as_they_were_measured():
    found = row(CALM, LOADED, BOTH)
    assert found["ratio"] == pytest.approx(1, abs=0.001)
    assert found["new_ns"] / found["base_ns"] == pytest.approx(1.2, abs=0.001)


def test_a_cell_of_one_run_has_its_median_for_a_time():
    found = row(base(1000), ())
    assert found["base_ns"] == 1000
    assert math.isnan(found["new_ns"])


def test_corrected_times_of_another_numpy_are_not_compared():
    newer = (environment(packages={"torch": "2.13", "numpy": "2.5"}),)
    found = row(CALM, LOADED, BOTH, environments=newer)
    assert found[["verdict", "estimator", "aa_noise"]].tolist() == ["slower", "median", 0.03]


def test_two_machines_have_no_noise_in_common():
    elsewhere = (environment(machine_id="machine-2", packages={"torch": "2.13", "numpy": "2.4"}),)
    found = row(CALM, LOADED, BOTH, environments=elsewhere)
    assert found[["verdict", "estimator"]].tolist() == ["uncertain", "median"]
    assert found["why"] == "under 5 trials, and the runs come from different machines, so no A/A noise holds for both"


def test_the_noise_of_another_machine_is_not_this_one_s():
    found = row(CALM, LOADED, noise(machine_id="machine-2", median=0.01))
    assert found["why"].endswith(f"no A/A noise is known for this machine: {REMEDY}")


def test_where_one_run_has_no_yardstick_the_raw_time_is_compared():
    found = row(CALM, new(1200, 1201, 1202), BOTH)
    assert found[["verdict", "estimator"]].tolist() == ["slower", "median"]


# How often it is wrong ----------------------------------------------------------------------------------------------------


def drawn(count, pairs, effect=0.0, seed=21):
    """Ratios of trials whose logs are normal about `effect` with a deviation of 0.04, a row per comparison."""
    return np.exp(np.random.default_rng(seed).normal(effect, 0.04, (count, pairs)))


@pytest.mark.parametrize("pairs", [2, 3, 5, 10])
def test_the_interval_covers_the_true_ratio_as_often_as_it_says(pairs):
    truth = math.exp(0.1)
    hits = [low <= truth <= high for low, high in map(stats.log_t_interval, drawn(4000, pairs, effect=0.1))]
    assert 0.94 <= np.mean(hits) <= 0.96


@pytest.mark.parametrize(("pairs", "at_most"), [(3, 0.05), (5, 0.03)])
def test_equals_are_seldom_told_apart(pairs, at_most):
    alone = np.mean([judge(list(ratios), None, "")[0] in ("slower", "faster") for ratios in drawn(4000, max(pairs, 5))])
    assert 0.04 <= alone <= 0.06  # the interval alone errs as often as its 95 % say
    backed = np.mean([judge(list(ratios), 0.04)[0] in ("slower", "faster") for ratios in drawn(4000, pairs)])
    assert backed <= at_most


def test_no_change_is_seldom_said_of_a_change_of_five_percent():
    said = [judge(list(ratios), 0.04)[0] is Outcome.NO_CHANGE for ratios in drawn(4000, 5, effect=math.log(1.05))]
    assert np.mean(said) <= 0.03
