"""Which steps are prepared together, and the order of a turn."""

from collections import Counter
from dataclasses import replace
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from harness.isolate.windows import ROOM_SHARE, Window, windows
from harness.measure.footprint import Need, Room
from harness.plan import Budget, Plan, Step
from tests import builders

ROOMY = Room(10**12, 10**12)


def need(held: int = 0, beside: int = 0, *, on_cpu: bool = True) -> Need:
    """Of a cell that holds so much as long as it is prepared, and takes so much more at its peak."""
    return Need(operands=0, tensors=held, workspace=beside, check=0, copies=0, on_cpu=on_cpu)


def plan_of(groups: list[list[str]], **budget: int) -> Plan:
    """A group for each list of backends, each of a workload of its own."""
    cells = [builders.cell(workload=f"w{number}", backend=backend) for number, group in enumerate(groups) for backend in group]
    return Plan("tests", tuple(Step(0, order, cell) for order, cell in enumerate(cells)), 7, Budget(**budget))


def cut(plan: Plan, needs: list[Need] | None = None, room: Room = ROOMY) -> list[list[list[int]]]:
    """The orders of the steps, by group and window."""
    by_order = dict(enumerate(needs or [need()] * len(plan)))
    return [[[step.order for step in group] for group in window.groups] for window in windows(plan, plan.steps, by_order, room)]


def test_what_fits_is_one_window_of_whole_groups() -> None:
    assert cut(plan_of([["a", "b"], ["a", "b"], ["a"]])) == [[[0, 1], [2, 3], [4]]]
    assert cut(plan_of([])) == []


def test_no_more_cells_than_allowed_are_prepared_by_one_worker_and_groups_stay_whole() -> None:
    groups = [["a", "b"], ["a", "b"], ["a", "b"], ["a"]]
    assert cut(plan_of(groups, prepared=2)) == [[[0, 1], [2, 3]], [[4, 5], [6]]]
    assert cut(plan_of(groups, prepared=1)) == [[[0, 1]], [[2, 3]], [[4, 5]], [[6]]]


def test_cells_are_counted_by_worker_which_has_one_number_of_threads() -> None:
    cells = [builders.cell(threads=threads) for threads in (1, 2, 3)]
    steps = tuple(Step(0, order, cell) for order, cell in enumerate(cells))
    plan = Plan("tests", steps, 7, Budget(prepared=1), compare=("threads",))
    assert cut(plan) == [[[0, 1, 2]]]


def test_a_group_that_does_not_fit_by_itself_is_cut_and_its_rest_is_joined_by_the_next() -> None:
    assert cut(plan_of([["a"], ["b"] * 5, ["c"]], prepared=2)) == [[[0]], [[1, 2]], [[3, 4]], [[5], [6]]]


def test_memory_bounds_a_window_and_a_step_that_does_not_fit_alone_has_its_own() -> None:
    room = Room(int(100 / ROOM_SHARE))
    plan = plan_of([["a"], ["b"], ["c"], ["d"]])
    assert cut(plan, [need(50), need(50), need(1), need(99)], room) == [[[0], [1]], [[2], [3]]]
    assert cut(plan, [need(101), need(1), need(500), need(1)], room) == [[[0]], [[1]], [[2]], [[3]]]
    assert cut(plan, [need(101)] * 4, Room(None)) == [[[0], [1], [2], [3]]]


def test_what_a_call_takes_beside_counts_once_since_one_cell_is_called_at_a_time() -> None:
    room = Room(int(100 / ROOM_SHARE))
    plan = plan_of([["a"], ["b"], ["c"]])
    assert cut(plan, [need(20, 40)] * 3, room) == [[[0], [1], [2]]]
    assert cut(plan, [need(20, 41)] * 3, room) == [[[0], [1]], [[2]]]
    assert cut(plan, [need(20, 10), need(20, 61), need(20, 10)], room) == [[[0]], [[1]], [[2]]]


def test_a_gpus_memory_bounds_it_too() -> None:
    room = Room(10**12, int(100 / ROOM_SHARE))
    assert cut(plan_of([["a"], ["b"], ["c"]]), [need(50, on_cpu=False)] * 3, room) == [[[0], [1]], [[2]]]


groups = st.lists(st.lists(st.sampled_from("abc"), min_size=1, max_size=6), max_size=8)


@given(groups=groups, prepared=st.integers(1, 4), sizes=st.lists(st.integers(0, 60), min_size=48, max_size=48))
def test_every_step_is_in_one_window_in_the_order_of_the_plan_and_no_window_is_too_large(
    groups: list[list[str]], prepared: int, sizes: list[int]
) -> None:
    plan, room = plan_of(groups, prepared=prepared), Room(int(100 / ROOM_SHARE))
    needs = {step.order: need(sizes[step.order], 10) for step in plan}
    found = windows(plan, plan.steps, needs, room)
    assert [step for window in found for step in window] == list(plan)
    for window in found:
        steps = list(window)
        assert max(Counter(step.cell.backend for step in steps).values()) <= prepared
        assert len(steps) == 1 or sum(sizes[step.order] for step in steps) + 10 <= 100
        assert all(len({plan.group(step.cell) for step in group}) == 1 for group in window.groups)
        assert all(window.groups)


@given(groups=groups, number=st.integers(0, 99), seed=st.integers(0, 99))
def test_a_turn_visits_each_step_once_and_groups_stand_together(groups: list[list[str]], number: int, seed: int) -> None:
    plan = plan_of(groups, prepared=99)
    for window in windows(plan, plan.steps, {step.order: need() for step in plan}, ROOMY):
        turn = window.turn(number, seed)
        assert sorted(turn, key=lambda step: step.order) == list(window)
        assert turn == window.turn(number, seed)
        stand = [step.cell.workload for step in turn]
        assert sum(one != other for one, other in pairwise(stand)) == len(set(stand)) - 1


def test_turns_and_seeds_differ() -> None:
    plan = plan_of([["a", "b", "c"]] * 4)
    window = Window(tuple(plan.steps[place : place + 3] for place in range(0, 12, 3)))
    turns = {tuple(step.order for step in window.turn(number, seed)) for number in range(10) for seed in range(5)}
    assert len(turns) == 50
    firsts = Counter(window.turn(number, 7)[0].order for number in range(600))
    assert set(firsts) == set(range(12))
    assert max(firsts.values()) < 100  # 50 each on average


def test_a_plan_says_what_stands_together() -> None:
    plan, one = plan_of([]), builders.cell()
    assert plan.group(one) == plan.group(replace(one, backend="jax"))
    assert plan.group(one) != plan.group(replace(one, workload="other"))
    assert plan.group(one) != plan.group(replace(one, threads=3))
    assert plan.round(one) != plan.round(replace(one, threads=3))
    over_threads = replace(plan, compare=("threads",))
    assert over_threads.group(one) == over_threads.group(replace(one, threads=3))
    assert over_threads.group(one) != over_threads.group(replace(one, backend="jax"))
    assert over_threads.round(one) == over_threads.round(replace(one, threads=3))
