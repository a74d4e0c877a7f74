"""Which cells a night profiles: what is slower first, then other versions, then a tenth of the rest, within the time."""

import pytest

from harness.analysis.due import GUESS_S, Candidate, Profiled, Why, candidates, due
from harness.analysis.gate import judge
from tests.histories import cell_id, flat, history, run_id, with_step


def cell(name: str, slower: bool = False, ago: int | None = 5, new: bool = False, cost_s: float = 1.0) -> Candidate:
    return Candidate(name, slower, ago, new, cost_s)


def test_the_reasons_come_in_order_and_within_one_what_waited_longest():
    found = due(
        [cell("old", ago=9), cell("new", new=True), cell("never", ago=None, new=True), cell("slow", slower=True, new=True)], 99
    )
    assert list(found.items()) == [("slow", Why.SLOWER), ("never", Why.NEW), ("new", Why.NEW), ("old", Why.TURN)]


def test_no_more_than_the_time_allows_and_what_is_too_dear_keeps_no_other_out():
    asked = [
        cell("a", slower=True, cost_s=4),
        cell("b", slower=True, cost_s=9),
        cell("c", new=True, cost_s=5),
        cell("d", new=True),
    ]
    assert list(due(asked, 9)) == ["a", "c"]
    assert list(due(asked, 10)) == ["a", "c", "d"]
    assert due(asked, 0.5) == {}


def test_a_process_starts_once_for_each_reason_and_backend():
    asked = [Candidate(name, name == "s", 5, name != "s", 1.0, process) for name, process in zip("sabc", "xxxy", strict=True)]
    assert list(due(asked, 14.9, 4.0)) == ["s", "a", "b"]  # 5, 5 and 1
    assert list(due(asked, 16.0, 4.0)) == ["s", "a", "b", "c"]


@pytest.mark.parametrize("count", [1, 9, 10, 37, 100])
def test_each_cell_has_its_turn_within_ten_nights(count: int):
    names = [f"cell {number}" for number in range(count)]
    last, number = dict.fromkeys(names, 0), 0
    for number in range(1, 41):
        tonight = due([cell(name, ago=number - last[name]) for name in names], 1e9)
        assert len(tonight) == -(-count // 10)
        last |= dict.fromkeys(tonight, number)
        assert all(number - night < 10 for night in last.values()) or number < 10
    assert set(last.values()) <= set(range(31, 41))


# From the nights ----------------------------------------------------------------------------------------------------------


def known(values, night: int, spent: dict[int, dict[int, float]], possible=None, **overrides) -> dict[str, Candidate]:
    """The candidates of a night by cell; `spent` are the seconds of each case's profile by the number of the night."""
    found = history(values, **overrides).until(run_id(night))
    number = {run.id: place for place, run in enumerate(found.runs)}

    def spent_s(run):
        return {cell_id(case): took for case, took in spent.get(number[run.id], {}).items()}

    cases = judge(found).cases
    names = set(cases["cell"]) if possible is None else possible
    return {each.cell: each for each in candidates(cases, found, names, spent_s)}


def test_what_is_suspect_or_confirmed_is_slower_and_what_is_open_is_not():
    values = with_step(flat(6, 25), 20, 1.3)
    assert [known(values, night, {})[cell_id(0)].slower for night in (19, 20, 21, 22)] == [False, True, True, False]
    assert not known(values, 20, {})[cell_id(1)].slower


def test_a_cell_is_new_until_it_was_profiled_with_the_versions_that_it_has():
    upgraded = lambda night: {"torch": "2.14"} if night >= 8 else {}  # noqa: E731
    spent = {3: {0: 1.0, 1: 1.0}, 9: {1: 1.0}}
    found = known(flat(6, 12), 11, spent, packages=upgraded)
    assert [(found[cell_id(case)].new, found[cell_id(case)].ago) for case in range(3)] == [(True, 8), (False, 2), (True, None)]


def test_what_it_takes_is_known_by_the_cell_or_else_by_its_backend_or_guessed():
    backends = ["torch", "torch", "torch", "torch", "jax", "jax"]
    found = history(flat(6, 4), backends=backends)
    spent = {2: {0: 3.0, 1: 5.0, 2: 100.0}, 1: {0: 50.0}}
    number = {run.id: place for place, run in enumerate(found.runs)}
    cases = judge(found).cases
    told = candidates(cases, found, set(cases["cell"]), lambda run: {
        cell_id(case, backends[case]): took for case, took in spent.get(number[run.id], {}).items()
    })  # fmt: skip
    costs = {each.cell: each.cost_s for each in told}
    assert [costs[cell_id(case, backends[case])] for case in range(6)] == [3.0, 5.0, 100.0, 5.0, GUESS_S, GUESS_S]


def test_only_what_was_measured_tonight_and_is_in_the_plan_is_profiled():
    failed = lambda case, night: {"status": "oom", "median_ns": float("nan")} if (case, night) == (2, 3) else {}  # noqa: E731
    assert set(known(flat(4, 4), 3, {}, row=failed)) == {cell_id(0), cell_id(1), cell_id(3)}
    assert set(known(flat(4, 4), 3, {}, possible={cell_id(1)})) == {cell_id(1)}


def test_a_night_that_was_resumed_does_not_profile_again_what_it_has():
    assert set(known(flat(3, 4), 3, {3: {1: 2.0}})) == {cell_id(0), cell_id(2)}


def test_a_profile_that_another_machine_made_is_none_of_its_own():
    values = flat(2, 4)
    values[0, 2] = values[1, 3] = float("nan")  # a night of the other machine alone, and one of this machine alone
    found = known(values, 3, {1: {0: 2.0}, 2: {0: 1.0}}, machines=["machine-1", "machine-2"])
    assert [(each.cell, each.ago, each.cost_s) for each in found.values()] == [(cell_id(0), 2, 2.0)]


def test_it_says_what_it_spent_and_what_had_to_wait():
    made = {"a": Why.SLOWER, "b": Why.TURN, "c": Why.TURN}
    assert Profiled(made, 3, 30.0, 600.0).words == (
        "profiled 3 cells in 30 s, 5.0 % of the time of measuring: 1 slower, 2 in turn"
    )
    assert Profiled({}, 12, 0.0, 60.0).words == (
        "profiled 0 cells in 0 s, 0.0 % of the time of measuring; 12 more had to wait, since profiles get at most 10 % of it"
    )
