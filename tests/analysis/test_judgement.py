"""Outcomes, groups, level and sentence of a run beside its baseline."""

import math

import numpy as np
import pandas as pd
import pytest

from harness.analysis import judgement
from harness.analysis.gate import NightJudgement
from harness.analysis.judgement import against, family, groups, of_night, sentence, severity
from harness.columns import CASE_COLUMNS, COMPARISON_COLUMNS
from harness.outcome import Level, Outcome


def compared(*rows: dict) -> pd.DataFrame:
    """A comparison; what a row does not name is that of a forward convolution by torch that did not change."""
    plain = {
        "workload": "rn50_conv1", "network": "", "direction": "fprop", "backend": "torch", "mode": "eager", "device": "cpu",
        "verdict": "no_change", "why": "", "ratio": 1.0, "ratio_low": 0.99, "ratio_high": 1.01, "aa_noise": math.nan,
        "base_median_ns": 1e6, "new_median_ns": 1e6, "base_status": "ok", "new_status": "ok",
    }  # fmt: skip
    made = [{**plain, "cell": f"cell{place}", **row} for place, row in enumerate(rows)]
    return pd.DataFrame(made).reindex(columns=list(COMPARISON_COLUMNS))


@pytest.mark.parametrize(
    ("row", "outcome"),
    [
        ({}, "no_change"),
        ({"verdict": "slower", "ratio": 1.2}, "slower"),
        ({"verdict": "uncertain"}, "uncertain"),
        ({"verdict": "uncertain", "new_status": "oom"}, "failed"),
        ({"verdict": "uncertain", "base_status": "oom", "new_status": "oom"}, "failed_known"),
        ({"verdict": "uncertain", "base_status": "crashed"}, "fixed"),
        ({"verdict": "uncertain", "base_status": "unsupported"}, "new"),
        ({"verdict": "uncertain", "new_status": "unsupported"}, "lost"),
        ({"verdict": "uncertain", "base_status": "skipped", "new_status": "skipped"}, "skipped"),
        ({"verdict": "only_base", "new_status": ""}, "lost"),
        ({"verdict": "only_base", "base_status": "oom", "new_status": ""}, "skipped"),
        ({"verdict": "only_new", "base_status": ""}, "new"),
    ],
)
def test_what_became_of_a_case(row: dict, outcome: str) -> None:
    assert against(compared(row), "base").cases["verdict"].to_list() == [outcome]


def test_severity_is_one_just_above_the_noise_and_the_same_both_ways() -> None:
    assert severity(1.03, 0.03) == pytest.approx(1)
    assert severity(1 / 1.03**2, 0.03) == pytest.approx(2)
    assert math.isnan(severity(math.nan, 0.03))
    cases = against(compared({"ratio": 1.1, "aa_noise": 0.1}, {"ratio": 1.1, "aa_noise": 0.001}), "base").cases
    assert cases["threshold"].to_list() == pytest.approx([math.expm1(0.1), judgement.FLOOR])


@pytest.mark.parametrize(
    ("rows", "invalid", "level"),
    [
        ([{}], (), Level.QUIET),
        ([{"verdict": "faster"}], (), Level.IMPROVED),
        ([{"verdict": "faster"}, {"verdict": "slower"}], (), Level.SUSPECT),
        ([{"verdict": "slower"}, {"new_status": "oom"}], (), Level.PARTIAL),
        ([{"verdict": "slower"}], ("another machine",), Level.INVALID),
        ([{"verdict": "uncertain"}, {}], (), Level.QUIET),
        ([{"verdict": "uncertain"}, {"verdict": "uncertain"}], (), Level.INCONCLUSIVE),
        ([], (), Level.INCONCLUSIVE),
    ],
)
def test_the_first_level_that_applies(rows: list[dict], invalid: tuple[str, ...], level: Level) -> None:
    assert against(compared(*rows), "base", invalid).level is level


@pytest.mark.fault("no case of a comparison can be judged", "the sentence says so, at a level of its own")
def test_parts_that_are_zero_are_not_in_the_sentence() -> None:
    assert sentence(against(compared({}), "base").cases) == "1 of 1 comparable case has not changed beyond its noise."
    unsure = against(compared({}, {"verdict": "uncertain"}), "base")
    assert unsure.sentence == "1 of 2 comparable cases has not changed beyond its noise; 1 cannot be judged."
    blind = against(compared({"verdict": "uncertain"}, {"verdict": "uncertain"}), "base")
    assert blind.sentence == "None of 2 comparable cases can be judged."
    slower = against(compared({"verdict": "slower"}, {"verdict": "uncertain"}), "base")
    assert slower.sentence.endswith("own noise; 1 cannot be judged.")
    both = against(compared({"verdict": "slower"}, {"verdict": "faster"}, {"new_status": "oom"}), "base")
    assert both.sentence == (
        "1 case fails that did not fail before. 1 of 2 comparable cases is slower than the baseline beyond its own noise, "
        "1 is faster."
    )
    said = against(compared({"verdict": "slower"}), "base", ("same machine: no",)).sentence
    assert said.startswith("This run is invalid: same machine: no.")


def test_nothing_is_said_of_cases_that_were_measured_on_another_machine() -> None:
    why = "the baseline was measured on AMD EPYC, this run on Intel Xeon"
    found = against(compared({"verdict": "slower"}, {"verdict": "no_change"}, {"new_status": "oom"}), "base", (), why)
    assert found.sentence == f"Not comparable: {why}."
    assert found.level is Level.INCONCLUSIVE
    assert found.cases["verdict"].tolist() == ["uncertain", "uncertain", "failed"]
    assert found.cases["why"].tolist()[:2] == [why, why]
    assert found.groups == ()
    broken = against(compared({"verdict": "slower"}), "base", ("cut off",), why)
    assert (broken.level, broken.sentence) == (
        Level.INVALID,
        f"This run is invalid: cut off. Not comparable: {why}.",
    )


def grid(slow) -> pd.DataFrame:
    """Cases of 3 backends, 2 directions and 4 families of 2 workloads; `slow` says which are slower."""
    rows = [
        {"workload": f"{name}_{place}", "backend": backend, "direction": direction}
        for name in ("dw", "vgg", "rn", "eff")
        for place in range(2)
        for backend in ("torch", "jax", "tensorflow")
        for direction in ("fprop", "wgrad")
    ]
    return against(compared(*({**row, "verdict": "slower" if slow(row) else "no_change"} for row in rows)), "base").cases


def test_the_group_is_the_smallest_combination_that_explains_the_slower_cases() -> None:
    (found,) = groups(grid(lambda row: row["backend"] == "jax" and row["direction"] == "wgrad"))
    assert (found.backend, found.direction, found.device, found.family) == ("jax", "wgrad", "", "")
    assert (found.slower, found.cases) == (8, 8)
    cases = grid(lambda row: row["backend"] == "jax" and row["direction"] == "wgrad")
    assert found.ratio == pytest.approx(cases.loc[cases["verdict"] == "slower", "ratio"].median())


def test_two_causes_are_two_groups() -> None:
    found = groups(grid(lambda row: row["backend"] == "jax" or row["workload"].startswith("dw")))
    assert [(each.backend, each.family) for each in found] == [("jax", ""), ("", "dw")]


def test_what_is_spread_out_has_no_group() -> None:
    scattered = {
        ("dw_0", "torch", "fprop"),
        ("vgg_1", "jax", "wgrad"),
        ("rn_0", "tensorflow", "fprop"),
        ("eff_1", "jax", "fprop"),
    }
    assert groups(grid(lambda row: (row["workload"], row["backend"], row["direction"]) in scattered)) == ()
    assert groups(grid(lambda row: False)) == ()
    assert groups(against(compared(), "base").cases) == ()


def test_a_family_is_the_network_or_the_start_of_the_name() -> None:
    assert family("rn50_conv1") == "rn50"
    assert family("conv", "resnet50") == "resnet50"


def test_the_states_of_a_night_stand_in_the_same_places_by_name() -> None:
    states = ["confirmed", "suspect", "failed", "steady", "insufficient_history", "barred"]
    plain = dict.fromkeys(CASE_COLUMNS, "") | {"threshold": 0.05, "change": 0.1, "baseline_ns": 1e6, "night_ns": 1.1e6}
    cases = pd.DataFrame([{**plain, "cell": state, "workload": "a_b", "state": state} for state in states])
    judged = of_night(
        NightJudgement("run", Level.REGRESSION, "It is slower.", (), cases, (), (), ()), "up to 12 earlier nights"
    )
    assert judged.baseline == "up to 12 earlier nights"
    assert judged.cases["verdict"].to_list() == ["slower", "slower", "failed", "no_change", "new", "uncertain"]
    assert judged.cases["word"].to_list()[:2] == ["confirmed", "suspect"]
    assert judged.level is Level.REGRESSION
    assert judged.cases["severity"].to_numpy() == pytest.approx(np.full(6, math.log(1.1) / math.log(1.05)))
    assert judged.count(Outcome.SLOWER) == 2
