"""Which samples a throttled GPU has spoiled, and how long it is left to rest."""

import pytest

from harness.measure.gpu import State
from harness.measure.throttling import Throttling

GOOD = State(1950, 1980, (), 60)
HOT = State(1200, 1980, ("SwThermalSlowdown",), 91)


def test_good_batches_stay() -> None:
    rule = Throttling(2.0)
    assert [rule.pause_s(GOOD, GOOD, 0.1) for _ in range(5)] == [None] * 5
    assert (rule.flagged, rule.seen, rule.lost_s) == (False, "", 0.0)


@pytest.mark.parametrize(("before", "after"), [(HOT, GOOD), (GOOD, HOT), (HOT, HOT)])
def test_a_batch_is_discarded_when_it_was_bad_at_either_end(before: State, after: State) -> None:
    rule = Throttling(2.0)
    assert rule.pause_s(before, after, 0.1) == 0.05
    assert rule.seen == "1200 of 1980 MHz, SwThermalSlowdown, 91 degC"
    assert (rule.flagged, rule.discarded) == (False, 1)


def test_pauses_grow_by_half_to_half_a_second_and_begin_anew() -> None:
    rule = Throttling(100.0)
    pauses = [rule.pause_s(HOT, HOT, 0.1) for _ in range(9)]
    assert pauses == pytest.approx([0.05, 0.075, 0.1125, 0.16875, 0.253125, 0.3796875, 0.5, 0.5, 0.5])
    rule.pause_s(GOOD, GOOD, 0.1)
    assert rule.pause_s(HOT, HOT, 0.1) == 0.05


def test_it_gives_up_before_more_than_the_limit_is_lost_and_keeps_everything_then() -> None:
    """No row may be left empty: what is kept is the truth of a GPU that never cooled down."""
    rule = Throttling(0.5)
    pauses = [rule.pause_s(HOT, HOT, 0.1) for _ in range(6)]
    assert [pause_s is None for pause_s in pauses] == [False, False, True, True, True, True]
    assert rule.lost_s == pytest.approx(0.1 + 0.05 + 0.1 + 0.075)
    assert rule.lost_s <= rule.limit_s
    assert rule.flagged
    assert rule.pause_s(GOOD, GOOD, 0.01) is None
    assert rule.pause_s(HOT, HOT, 0.01) is None  # also where another short round would still fit


def test_with_nothing_to_lose_the_first_bad_batch_is_flagged() -> None:
    rule = Throttling(0.0)
    assert rule.pause_s(GOOD, GOOD, 0.1) is None
    assert not rule.flagged
    assert rule.pause_s(GOOD, HOT, 0.1) is None
    assert rule.flagged


def test_a_gpu_that_rested_may_begin_at_a_low_clock_and_not_end_at_one() -> None:
    """Otherwise each pause would make the next batch bad."""
    rested, slow = State(345, 1980, ("GpuIdle",), 40), State(345, 1980, (), 40)
    assert Throttling(2.0).pause_s(rested, GOOD, 0.1) is None
    assert Throttling(2.0).pause_s(slow, GOOD, 0.1) is not None
    assert Throttling(2.0).pause_s(GOOD, rested, 0.1) is not None


def test_what_nvml_does_not_tell_discards_nothing() -> None:
    rule = Throttling(2.0)
    assert rule.pause_s(State(), State(), 0.1) is None
    assert not rule.flagged


def test_what_runs_at_the_power_limit_for_good_stays_and_does_not_rest() -> None:
    """After each rest the first batch would boost and be kept, and the sustained speed be set aside."""
    rule = Throttling(2.0)
    boosted, capped = State(1980, 1980, (), 60), State(1300, 1980, ("SwPowerCap",), 60)
    assert [rule.pause_s(*states, 0.1) for states in ((boosted, capped), (capped, capped))] == [None, None]
    assert not rule.flagged
