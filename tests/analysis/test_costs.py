"""Steps of the first call and of memory: two nights tell them, one does not, noise does not, and times are judged as before."""

import dataclasses
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from harness.analysis import costs as costs_of
from harness.analysis import history as figures
from harness.analysis.costs import Cost
from harness.analysis.gate import NightJudgement, judge
from harness.analysis.history import History
from harness.analysis.replay import Rules
from harness.analysis.summary import summarize
from harness.outcome import Level, State
from harness.review import nights as nights_of
from harness.store import table
from tests.builders import START
from tests.histories import acknowledgement, cell_id, flat, history, run_id, with_step

NIGHTS, STEP = 26, 20
CASES = 6
MIB = 2.0**20
FIRST_S = 2.0  # of a program that is compiled


def noisy(cases: int = CASES, nights: int = NIGHTS, seed: int = 3) -> dict[Cost, np.ndarray]:
    """Costs that nothing happens to: first calls within 8 %, one in 50 by 40 % too long, memory within 100 KiB."""
    rng = np.random.default_rng(seed)
    first = FIRST_S * 1e9 * np.exp(rng.normal(0, 0.08, (cases, nights))) * np.where(rng.random((cases, nights)) < 0.02, 1.4, 1)
    return {Cost.FIRST_CALL: first, Cost.MEMORY: 20 * MIB + rng.uniform(0, 0.1 * MIB, (cases, nights))}


def nights(costs: dict[Cost, np.ndarray], values: np.ndarray | None = None, **overrides) -> History:
    cases, count = next(iter(costs.values())).shape
    times = flat(cases, count) if values is None else values
    return history(times, row=lambda case, night: {str(cost): of[case, night] for cost, of in costs.items()}, **overrides)


def stepped(cost: Cost, factor: float, night: int = STEP, **overrides) -> History:
    costs = noisy()
    return nights({**costs, cost: with_step(costs[cost], night, factor)}, **overrides)


def at(found: History, night: int, *said) -> NightJudgement:
    return judge(found.until(run_id(night)), said)


@pytest.mark.parametrize("cost", list(Cost))
def test_a_step_is_told_by_the_second_night_and_stays_open(cost: Cost):
    found = stepped(cost, 2.0)
    assert at(found, STEP).costs == ()
    assert at(found, STEP).level is Level.QUIET
    confirmed, later = at(found, STEP + 1), at(found, STEP + 4)
    assert [(step.cell, step.cost, step.state, step.since) for step in confirmed.costs] == [
        (cell_id(0), cost, State.CONFIRMED, run_id(STEP))
    ]
    assert [step.state for step in later.costs] == [State.OPEN]
    assert (confirmed.level, confirmed.code, later.level) == (Level.REGRESSION, 3, Level.REGRESSION)
    assert confirmed.costs[0].change == pytest.approx(1.0, abs=0.35)
    assert set(confirmed.cases["state"]) == {"steady"}  # of the times nothing else is said


def test_it_is_said_in_a_sentence_with_its_cause():
    upgraded = lambda night: {"torch": "2.14"} if night >= STEP else {}  # noqa: E731
    costs = noisy()
    costs[Cost.MEMORY][:] = 20 * MIB
    costs[Cost.MEMORY] = with_step(costs[Cost.MEMORY], STEP, 1.5)
    found = nights(costs, packages=upgraded)
    said = (
        f"the memory of a call of conv0 forward, torch eager on cpu is 50.0 % more (20.0 MiB → 30.0 MiB) since {run_id(STEP)}, "
        "with torch 2.13 → 2.14"
    )
    assert at(found, STEP + 1).sentence == f"Regression: {said}."
    assert said in at(found, STEP + 1).reasons
    costs = {Cost.FIRST_CALL: np.full((CASES, NIGHTS), 2e9), Cost.MEMORY: costs[Cost.MEMORY][:, :1].repeat(NIGHTS, axis=1)}
    costs[Cost.FIRST_CALL] = with_step(costs[Cost.FIRST_CALL], STEP, 1.75)
    (step,) = at(nights(costs), STEP + 1).costs
    assert step.words == (
        "the first call of conv0 forward, torch eager on cpu, compilation included, takes 75.0 % longer (2.000 s → 3.500 s) "
        f"since {run_id(STEP)}"
    )


def test_what_is_less_is_good_news_once():
    found = stepped(Cost.MEMORY, 0.5)
    better = at(found, STEP + 1)
    assert [(step.state, step.level) for step in better.costs] == [(State.IMPROVED, Level.QUIET)]
    assert better.level is Level.QUIET
    assert "is 50.0 % less (20.0 MiB → 10.0 MiB)" in better.costs[0].words
    assert at(found, STEP + 2).costs == ()


@pytest.mark.parametrize(("cost", "factor"), [(Cost.MEMORY, 1.03), (Cost.FIRST_CALL, 1.3)])
def test_small_steps_are_nothing(cost: Cost, factor: float):
    assert [at(stepped(cost, factor), night).costs for night in range(STEP, NIGHTS)] == [()] * (NIGHTS - STEP)


def test_less_than_the_least_is_nothing_however_many_times_it_is():
    costs = {Cost.FIRST_CALL: np.full((CASES, NIGHTS), 1e6), Cost.MEMORY: np.full((CASES, NIGHTS), 1e5)}
    costs = {cost: with_step(values, STEP, 9.0) for cost, values in costs.items()}  # by 8 ms and by 800 kB
    assert at(nights(costs), STEP + 2).costs == ()


def test_one_night_that_is_off_is_nothing():
    costs = noisy()
    costs[Cost.FIRST_CALL][:, STEP] *= 4
    costs[Cost.MEMORY][:, STEP] *= 4
    found = nights(costs)
    assert [at(found, night).costs for night in range(STEP, NIGHTS)] == [()] * (NIGHTS - STEP)


def test_noise_alone_is_never_told():
    found = nights(noisy(20, 40))
    # What is confirmed stays so for two nights at the least: every other night would tell.
    assert [at(found, night).costs for night in range(11, 40, 2)] == [()] * 15


def test_times_are_judged_as_they_are_without_costs():
    values = with_step(flat(CASES, NIGHTS), STEP, 1.3, (2,))
    costs = {cost: with_step(of, STEP, 2.0) for cost, of in noisy().items()}
    for night in range(STEP - 1, NIGHTS):
        plain, beside = at(history(values), night), at(nights(costs, values), night)
        assert plain.cases.equals(beside.cases)
        assert set(plain.reasons) <= set(beside.reasons)
        assert plain.costs == ()


def test_an_acknowledgement_makes_a_new_baseline_of_the_costs_too():
    found = stepped(Cost.MEMORY, 2.0)
    assert at(found, STEP + 3, acknowledgement(night=STEP)).costs == ()
    assert at(found, STEP + 3, acknowledgement(cell_id(1), night=STEP)).level is Level.REGRESSION


def test_what_is_gone_for_two_nights_is_resolved():
    costs = noisy()
    costs[Cost.MEMORY] = with_step(with_step(costs[Cost.MEMORY], STEP, 2.0), STEP + 3, 0.5)
    found = nights(costs)
    assert [len(at(found, night).costs) for night in range(STEP, STEP + 6)] == [0, 1, 1, 1, 0, 0]


def test_a_night_on_which_the_machine_moved_says_nothing_of_the_first_call():
    backends = ["torch", "torch", "torch", "jax", "jax", "jax"]
    values, costs = flat(CASES, NIGHTS), noisy()
    values[:, STEP : STEP + 2] *= 1.3  # all of them, by two backends
    costs[Cost.FIRST_CALL][:, STEP : STEP + 2] *= 2
    found = nights(costs, values, backends=backends)
    assert at(found, STEP + 1).level is Level.MACHINE_EVENT
    assert [at(found, night).costs for night in range(STEP, NIGHTS)] == [()] * (NIGHTS - STEP)


def test_a_cell_that_failed_says_nothing():
    costs = noisy()
    costs[Cost.MEMORY] = with_step(costs[Cost.MEMORY], STEP, 2.0)
    found = history(flat(CASES, NIGHTS), row=lambda case, night: {
        **{str(cost): of[case, night] for cost, of in costs.items()},
        **({"status": "incorrect"} if night >= STEP and case == 0 else {}),
    })  # fmt: skip
    assert at(found, STEP + 2).costs == ()


def test_what_is_open_and_has_no_figure_tonight_stays_open():
    costs = noisy()
    costs[Cost.MEMORY] = with_step(costs[Cost.MEMORY], STEP, 2.0)
    costs[Cost.MEMORY][0, STEP + 2] = np.nan
    (step,) = at(nights(costs), STEP + 2).costs
    assert step.words.endswith(f" is open, since {run_id(STEP)}; it has no figure tonight")


def real() -> History:
    """The short nights of the samples, a day apart, with the first calls and the memory that their records hold."""
    store = Path(__file__).resolve().parents[2] / "results" / "samples" / "short-nights"
    known = nights_of.history(store, "short-night")
    kept = [figures.night(summarize(table.records_of(of), table.samples_of(of))) for of in table.stored(store)]
    names = [str(cost) for cost in Cost]
    by_cell = pd.concat(kept).set_index(["run_id", "cell"])[names]
    keys = pd.MultiIndex.from_arrays([known.cells["run_id"].astype(str), known.cells["cell"].astype(str)])
    runs = tuple(
        dataclasses.replace(run, started_at=START + timedelta(days=day), placed_at=None) for day, run in enumerate(known.runs)
    )
    return History(runs, known.cells.assign(**{name: by_cell[name].reindex(keys).to_numpy() for name in names}))


def test_real_nights_tell_of_no_step_and_would_by_narrow_limits(monkeypatch: pytest.MonkeyPatch):
    found = real()
    assert found.cells[[str(cost) for cost in Cost]].notna().all(axis=None)
    ids = [run.id for run in found.runs]
    assert [judge(found.until(run_id)).costs for run_id in ids[11::2]] == [()] * len(ids[11::2])
    narrow = Rules(floor=0.01, z=1.0, cpu_ns=1.0)
    monkeypatch.setattr(costs_of, "RULES", dict.fromkeys(Cost, narrow))
    assert any(judge(found.until(run_id)).costs for run_id in ids[11::2])
