"""Every check on a frame in which the thing is well, and on one in which it is not."""

import dataclasses
import math
import re
from collections.abc import Callable
from datetime import timedelta

import pandas as pd
import pytest

from harness.analysis import validity
from harness.analysis.noise import Noise
from harness.analysis.validity import blocking, checks, incomparable, machines_differ
from harness.columns import RANK_COLUMNS, SUMMARY_COLUMNS
from harness.outcome import Check, Result
from harness.record import VISITS_SINCE
from tests.builders import START, environment, run

RUN = run(finished_at=START + timedelta(minutes=1), environments=(environment(),))


def summary(count: int = 20, **columns) -> pd.DataFrame:
    """Cells that went well; `columns` overrides the first of them (a value) or all (a list)."""
    plain = {
        "direction": "fprop", "status": "ok", "flags": "", "barred_by": "", "check_method": "integer", "trials": 5,
        "samples": 100, "device": "cpu", "contended_share": 0.0, "energy_per_call_j": 0.1, "energy_method": "RAPL",
        "gpu_clock_mhz": math.nan, "gpu_throttle_reasons": "",
    }  # fmt: skip
    frame = pd.DataFrame([plain] * count).reindex(columns=list(SUMMARY_COLUMNS))
    for name, value in columns.items():
        if isinstance(value, list):
            frame[name] = value
        else:
            frame.loc[0, name] = value
    return frame


def samples() -> pd.DataFrame:
    return pd.DataFrame({"series": "latency", "block_ns": [1_000_000, 1_000_003, 1_000_100]})


def found(frame: pd.DataFrame, of=RUN, **more) -> dict[str, Check]:
    return {check.name: check for check in checks(frame, samples(), of, **more)}


def test_a_good_run_passes_all_that_can_be_told() -> None:
    results = {name: check.result for name, check in found(summary()).items()}
    assert {name for name, result in results.items() if result is not Result.PASS} == {
        "No thermal or power throttling", "A/A control: equals called different",
    }  # fmt: skip
    assert blocking(tuple(found(summary()).values())) == ()


@pytest.mark.parametrize(
    ("name", "frame", "result", "blocks"),
    [
        ("Results match the reference", summary(status="incorrect"), Result.WARNING, False),
        ("Results match the reference", summary(check_method=""), Result.WARNING, False),
        ("Results match the reference", summary(check_method=[""] * 20), Result.FAILED, True),
        ("Run complete", summary(status="not_run"), Result.WARNING, False),
        ("Run complete", summary(status=["not_run"] * 3 + ["ok"] * 17), Result.FAILED, True),
        ("No drift of the clocks within a trial", summary(flags=["drift"] * 2 + [""] * 18), Result.WARNING, False),
        ("Nobody else on the cores", summary(flags=["contended,noisy"] * 2 + [""] * 18), Result.WARNING, False),
        ("Nobody else on the cores", summary(contended_share=[math.nan] * 20), Result.UNKNOWN, False),
        ("Warm-up reached a plateau", summary(flags=["unsteady_warmup"] * 2 + [""] * 18), Result.WARNING, False),
        ("Enough samples", summary(flags="few_samples"), Result.WARNING, False),
        ("Enough samples", summary(trials=1), Result.WARNING, False),
        ("Nothing was compiled while it was timed", summary(flags=["recompiled"] * 2 + [""] * 18), Result.WARNING, False),
        ("Energy counter readable", summary(energy_per_call_j=[math.nan] * 20), Result.UNKNOWN, False),
        ("Energy counter readable", summary(energy_per_call_j=math.nan), Result.WARNING, False),
        ("No thermal or power throttling", summary(device=["gpu:0"] * 20, flags="throttled"), Result.WARNING, False),
        ("Clock of gpu:0 locked", summary(device=["gpu:0"] * 20, gpu_clock_mhz=[1500.0, 1900.0] * 10), Result.WARNING, False),
        ("Clock of gpu:0 locked", summary(device=["gpu:0"] * 20, gpu_clock_mhz=[1900.0] * 20), Result.PASS, False),
    ],
)
def test_what_is_wrong_is_told_with_its_effect(name: str, frame: pd.DataFrame, result: Result, blocks: bool) -> None:
    check = found(frame)[name]
    assert (check.result, check.blocks) == (result, blocks)
    assert result is Result.PASS or len(check.effect) > 1


@pytest.mark.parametrize("barred", [0, 2, 3])
@pytest.mark.parametrize("name", ["contended", "drift", "unsteady_warmup", "recompiled", "throttled", "few_samples"])
def test_of_a_flag_it_is_said_how_many_cells_it_bars_and_that_it_bars_only_those(name: str, barred: int) -> None:
    flags, bars = [name] * 3 + [""] * 17, [name] * barred + [""] * (20 - barred)
    checks_of = found(summary(device=["gpu:0"] * 20, flags=flags, barred_by=bars)).values()
    (effect,) = [check.effect for check in checks_of if " barred: " in check.effect]
    assert effect.startswith(
        f"{barred} of 3 cells barred: a cell is never called slower or faster where over half of its trials"
    )


def test_one_cell_is_no_cells() -> None:
    told = " ".join(check.measured for check in found(summary(1, flags="drift", barred_by="drift", trials=1)).values())
    assert "1 of 1 cell under drift" in told
    assert "; 1 trial" in told
    assert not re.search(r"\b1 \w+s\b", told)


def test_no_cell_at_all_is_an_incomplete_run() -> None:
    assert found(summary(0))["Run complete"].blocks


def test_another_machine_is_named_and_is_no_fault_of_the_run() -> None:
    other = run(environments=(environment(machine_id="machine-2", cpu="Intel Xeon", cores=8),))
    check = found(summary(), base=other)["Same machine as the baseline"]
    assert (check.result, check.blocks) == (Result.FAILED, False)
    assert check.measured == "the baseline was measured on Intel Xeon, 8 cores, this run on Some CPU, 2 cores"
    assert incomparable(other, RUN) == machines_differ(other, RUN) == check.measured
    assert found(summary(), base=RUN)["Same machine as the baseline"].result is Result.PASS
    assert incomparable(RUN, RUN) == machines_differ(RUN, RUN) == ""


def test_machines_whose_words_are_the_same_are_told_apart_by_their_ids() -> None:
    other = run(environments=(environment(machine_id="machine-2"),))
    told = machines_differ(other, RUN)
    assert "Some CPU, 2 cores (machine-2), this run on Some CPU, 2 cores (machine-1)" in told
    named = run(environments=(environment(machine_id="machine-3", machine="beta"),))
    assert machines_differ(named, RUN).startswith("the baseline was measured on beta: Some CPU, 2 cores, this run on Some CPU")


def test_a_run_that_has_a_machine_in_common_with_the_baseline_is_comparable_and_the_rest_is_said() -> None:
    both = run(environments=(environment(), environment(machine_id="machine-2")))
    assert incomparable(both, RUN) == ""
    assert found(summary(), base=both)["Same machine as the baseline"].result is Result.FAILED


def test_a_machine_that_is_not_told_is_said() -> None:
    assert found(summary(), base=run())["Same machine as the baseline"].result is Result.WARNING
    assert machines_differ(run(), RUN) == ""
    refused = run(planned_on=environment(machine_id="machine-2", cpu="Intel Xeon"))
    assert "Intel Xeon" in incomparable(refused, RUN)


HIDDEN = "/proc hides the processes of other users (mounted with hidepid=2)"


@pytest.mark.fault("others could not be seen", 'the check on others is "not measured"')
@pytest.mark.parametrize(
    ("frame", "result", "words"),
    [
        (summary(contended_share=[math.nan] * 20), Result.UNKNOWN, HIDDEN),
        (summary(), Result.UNKNOWN, f"0.0 % of the samples contended; not seen: {HIDDEN}"),
        (summary(flags=["contended"] * 2 + [""] * 18), Result.WARNING, "2 of 20 cells under contended"),
    ],
)
def test_others_that_could_not_be_seen_are_not_nobody(frame: pd.DataFrame, result: Result, words: str) -> None:
    blind = run(finished_at=RUN.finished_at, environments=(environment(unseen=HIDDEN), environment(id="2", unseen=HIDDEN)))
    check = found(frame, blind)["Nobody else on the cores"]
    assert check.result is result
    assert words in check.measured
    assert check.measured.count("/proc hides") <= 1
    assert result is Result.WARNING or "convbench doctor" in check.effect


@pytest.mark.parametrize(
    ("slower", "faster", "packages", "result"),
    [
        (12, 1, {"torch": "2.13"}, Result.WARNING),
        (12, 1, {"torch": "2.12"}, Result.PASS),  # something changed that may explain it
        (6, 6, {"torch": "2.13"}, Result.PASS),
        (8, 1, {"torch": "2.13"}, Result.PASS),  # too few to tell
    ],
)
def test_changes_to_one_side_that_nothing_explains(slower: int, faster: int, packages: dict, result: Result) -> None:
    cases = pd.DataFrame({"verdict": ["slower"] * slower + ["faster"] * faster})
    base = dataclasses.replace(RUN, environments=(environment(packages=packages),))
    assert found(summary(), base=base, cases=cases)["Changes are not one-sided"].result is result


@pytest.mark.fault("more equals are called different than the limit says", "the control is a warning that names the pair")
@pytest.mark.parametrize(
    ("differences", "judged", "result"),
    [(0, 4, Result.PASS), (1, 4, Result.WARNING), (2, 12, Result.WARNING), (3, 60, Result.PASS), (4, 63, Result.WARNING)],
)
def test_more_equals_called_different_than_the_limit_says_are_a_warning(differences: int, judged: int, result: Result) -> None:
    pairs = pd.DataFrame({
        "cell": [f"conv{place}" for place in range(judged)], "ratio": 1.25, "barred": False,
        "verdict": ["slower"] * differences + ["no_change"] * (judged - differences),
    })  # fmt: skip
    known = Noise(pairs, {}, {}, {}, judged, differences, 0, 0, 3, None)
    check = found(summary(), noise=known)["A/A control: equals called different"]
    assert (check.result, check.measured.split(" (")[0]) == (result, f"{differences} of {judged} pairs")
    assert ("conv0 +25.0 %" in check.effect) is (result is Result.WARNING)


# A run of visits ------------------------------------------------------------------------------------------------------------

VISITED = dataclasses.replace(RUN, method_version=VISITS_SINCE)


def of_visits(frame: pd.DataFrame, missing: int = 0, **more) -> dict[str, Check]:
    """The checks of a run of two windows of ten cells and five turns, in two trials; the first cell lacks so many visits."""
    frame = frame.assign(cell=[f"cell{place}" for place in range(len(frame))])
    rows = [
        {
            "trial": trial, "cell": f"cell{10 * window + place}", "turn": 10 * trial + 5 * window + turn,
            "block_ns": 1_000_000 + turn, "series": "latency",
        }
        for trial in range(2) for window in range(2) for turn in range(5) for place in range(10)
        if not (window == 0 and place == 0 and turn < missing)
    ]  # fmt: skip
    return {check.name: check for check in checks(frame, pd.DataFrame(rows), VISITED, **more)}


def test_a_good_run_of_visits_passes_all_that_can_be_told() -> None:
    results = {name: check.result for name, check in of_visits(summary()).items()}
    assert {name for name, result in results.items() if result is not Result.PASS} == {
        "No thermal or power throttling", "A/A control: equals called different",
    }  # fmt: skip
    assert "No drift of the clocks within a trial" not in results
    assert "drift" not in of_visits(summary())["No thermal or power throttling"].measured


@pytest.mark.fault("visits were lost with their worker, or are void", "the check says how many of how many")
def test_visits_that_windows_lack_are_counted() -> None:
    few, many = (of_visits(summary(), missing)["No visit was lost"] for missing in (1, 5))
    assert (few.result, few.measured) == (Result.PASS, "20 turns of 4 windows; 2 of 200 visits void or lost")
    assert many.measured == "20 turns of 4 windows; 0 of 190 visits void or lost"  # a cell that was never there is none of it
    fewer = summary(10)
    found = of_visits(fewer, 4)["No visit was lost"]
    assert (found.result, found.measured) == (Result.WARNING, "10 turns of 2 windows; 8 of 100 visits void or lost")
    assert "not kept" not in found.effect
    assert "No visit was lost" not in of_visits(summary(), pruned=True)


@pytest.mark.parametrize(
    ("flags", "result", "told"),
    [
        (["trials_disagree"] * 2 + [""] * 18, Result.WARNING, "2 of 20 cells under trials disagree"),
        (["trials_disagree,two_kinds"] + [""] * 19, Result.PASS, "processes of two speeds in 1, whose time is that of neither"),
    ],
)
def test_processes_that_differ_are_told(flags: list[str], result: Result, told: str) -> None:
    check = of_visits(summary(flags=flags))["Fresh processes agree"]
    assert check.result is result
    assert told in check.measured
    assert of_visits(summary(flags=flags), pruned=True)["Fresh processes agree"].result is Result.UNKNOWN


@pytest.mark.parametrize("of", [found, of_visits])
def test_under_four_trials_nothing_is_decided(of: Callable[..., dict[str, Check]], monkeypatch: pytest.MonkeyPatch) -> None:
    check = of(summary(trials=[3] * 20))["Enough samples"]
    assert (check.result, check.limit.rpartition(", ")[2]) == (Result.WARNING, "4 trials")
    assert "; 3 trials" in check.measured
    assert check.effect == "Under 4 trials a cell is told from no other of the run."
    some = of(summary(trials=[1] + [9] * 19))["Enough samples"]
    assert "; 1 to 9 trials" in some.measured
    assert some.effect == f"{check.effect} Of one trial it is not known by how much fresh processes differ."
    assert of(summary(trials=[4] * 20))["Enough samples"].result is Result.PASS
    monkeypatch.setattr(validity, "ENOUGH_PAIRS", 6)
    assert "Under 6 trials" in of(summary(trials=[4] * 20))["Enough samples"].effect


def test_without_equals_the_control_says_what_two_runs_need_and_nothing_of_this_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(validity, "ENOUGH_TRIALS", 7)
    effect = of_visits(summary(trials=[4] * 20))["A/A control: equals called different"].effect
    assert "a comparison of two runs calls nothing slower or faster by under 7 trials" in effect
    assert effect.endswith("Comparisons within this run need no A/A run.")


@pytest.mark.parametrize(
    ("width", "result", "told"),
    [
        (1.04, Result.PASS, "comparisons known to ±4.0 % in the median, 5 of 10 decided"),
        (1.08, Result.WARNING, "comparisons known to ±8.0 % in the median, 5 of 10 decided"),
        (math.nan, Result.UNKNOWN, "no comparison has an interval"),
    ],
)
def test_how_sure_the_comparisons_are(width: float, result: Result, told: str) -> None:
    frame = summary(workload=[f"conv{place // 2}" for place in range(20)]).assign(
        best=[True, False] * 10, tie=False, decided=[True] * 10 + [False] * 10, vs_best=[1.0, 1.5] * 10,
        vs_best_pairs=[0, 4] * 10, vs_best_low=[1.0, 1.5 / width] * 10, vs_best_high=[1.0, 1.5 * width] * 10,
        tuning_differs=False, competitors=1,
    )  # fmt: skip
    frame = frame.assign(**dict.fromkeys(["run_id", "precision", "layout", "cache", "optimizer"], "x"), threads=0)
    assert set(RANK_COLUMNS) <= set(frame.columns)
    check = of_visits(frame)["Comparisons are sure"]
    assert (check.result, check.measured) == (result, told)
    assert ("run --more" in check.effect) is (result is Result.WARNING)
    cut = found(frame.assign(cell="x"), dataclasses.replace(VISITED, finished_at=None, method_version=VISITS_SINCE - 1))
    assert ("before the run has ended" in cut["Comparisons are sure"].effect) is (result is not Result.UNKNOWN)
    assert "Comparisons are sure" not in of_visits(frame.assign(workload=[f"conv{place}" for place in range(20)]))
