import math
import random
from collections.abc import Iterable
from itertools import count, cycle, repeat

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.measure.stopping import Stopping
from harness.plan import Budget

MS = 1_000_000
S = 1_000 * MS


def draw(rule: Stopping, blocks: Iterable[int | tuple[int, bool]], at_once: int = 1) -> int:
    """How many blocks were drawn until the rule was done, asked after every `at_once` of them."""
    for drawn, block in enumerate(blocks, start=1):
        duration, contended = block if isinstance(block, tuple) else (block, False)
        rule.add(duration, contended)
        if drawn % at_once == 0 and rule.done():
            return drawn
    raise AssertionError("the blocks ran out")


def growing(first_ns: int) -> Iterable[int]:
    """Durations that never settle."""
    return (round(first_ns * 1.02**i) for i in count())


def noisy(middle_ns: int) -> Iterable[int]:
    """Durations anywhere from half to one and a half of the middle."""
    rng = random.Random(5)
    while True:
        yield round(middle_ns * rng.uniform(0.5, 1.5))


def test_a_narrow_interval_ends_it_once_there_are_enough_samples() -> None:
    rule = Stopping(Budget())
    assert draw(rule, repeat(100 * MS)) == 32  # half a second was there after 5, 30 samples at the look at 32
    assert rule.why == "interval"
    assert rule.converged


def test_a_narrow_interval_is_not_enough_before_the_minimum_of_time() -> None:
    rule = Stopping(Budget())
    assert draw(rule, repeat(1 * MS)) == 512  # the first look after 500 of a millisecond
    assert rule.why == "interval"


def test_it_goes_on_while_the_interval_is_too_wide() -> None:
    close, far = Stopping(Budget()), Stopping(Budget())
    draw(close, cycle([100 * MS, 101 * MS]))
    assert (len(close.clean), close.why) == (32, "interval")
    draw(far, cycle([100 * MS, 103 * MS]))
    assert far.why != "interval"


def test_noise_that_has_settled_ends_it_though_the_interval_is_wide() -> None:
    rule = Stopping(Budget())
    drawn = draw(rule, noisy(20 * MS))
    assert rule.why == "noise_settled"
    assert rule.converged
    assert 64 < drawn < 500


def test_the_cap_on_samples() -> None:
    rule = Stopping(Budget(max_samples=40))
    assert draw(rule, cycle([1 * MS, 2 * MS])) == 40
    assert rule.why == "max_samples"
    assert not rule.converged


def test_the_cap_on_time() -> None:
    rule = Stopping(Budget())
    draw(rule, growing(5 * MS))
    assert rule.why == "max_time"
    assert not rule.converged
    assert sum(rule.clean[:-1]) < 10 * S <= sum(rule.clean)


def test_a_call_under_300_ms_gets_no_more_than_10_s() -> None:
    rule = Stopping(Budget())
    draw(rule, cycle([250 * MS, 300 * MS]))
    assert rule.why == "max_time"
    assert 10 * S <= sum(rule.clean) < 10.3 * S


def test_a_slow_call_gets_15_s() -> None:
    rule = Stopping(Budget())
    draw(rule, cycle([400 * MS, 600 * MS]))
    assert rule.why == "max_time"
    assert 15 * S <= sum(rule.clean) < 15.6 * S


def test_a_slow_call_gets_at_least_10_samples_whatever_they_take() -> None:
    rule = Stopping(Budget())
    assert draw(rule, cycle([4 * S, 5 * S])) == 10
    assert rule.why == "max_time"


def test_a_slow_and_steady_call_is_content_at_its_cap_between_two_looks() -> None:
    rule = Stopping(Budget())
    assert draw(rule, repeat(1 * S)) == 15
    assert rule.why == "interval"
    assert rule.converged


def test_a_call_so_slow_that_10_would_take_for_ever_ends_at_the_replacement_cap() -> None:
    rule = Stopping(Budget())
    assert draw(rule, repeat(20 * S)) == 3  # 45 s is three times 15 s
    assert rule.why == "max_time"


def test_slow_is_a_slow_call_not_a_long_block_of_calls() -> None:
    one, many = Stopping(Budget(), iterations=1), Stopping(Budget(), iterations=10)
    draw(one, cycle([1 * S, 2 * S]))
    draw(many, cycle([1 * S, 2 * S]))
    assert sum(one.clean) >= 15 * S
    assert sum(many.clean) < 12 * S


def test_contended_blocks_do_not_reach_the_figure() -> None:
    rule = Stopping(Budget())
    drawn = draw(rule, cycle([(100 * MS, False), (700 * MS, True)]))
    assert set(rule.clean) == {100 * MS}
    assert len(rule.clean) == 32
    assert drawn == 63
    assert rule.why == "interval"


def test_contended_blocks_are_replaced_up_to_three_times_the_samples() -> None:
    rule = Stopping(Budget(max_samples=20))
    assert draw(rule, repeat((1 * MS, True))) == 60
    assert rule.why == "max_samples"
    assert rule.clean == []


def test_contended_blocks_are_replaced_up_to_three_times_the_time() -> None:
    rule = Stopping(Budget())
    assert draw(rule, repeat((200 * MS, True))) == 150  # 30 s
    assert rule.why == "max_time"


def test_contended_blocks_do_not_bring_another_look() -> None:
    rule = Stopping(Budget(max_samples=1000, min_time_s=0))
    for duration in [*range(100 * MS, 116 * MS, MS), *range(100 * MS, 116 * MS, MS)]:
        rule.add(duration)
        rule.done()
    assert rule.why == ""
    rule._content = lambda: pytest.fail("looked again at the same samples")
    rule.add(100 * MS, contended=True)
    assert not rule.done()


def test_samples_that_come_several_at_once_do_not_pass_the_looks_by() -> None:
    rule = Stopping(Budget())
    assert draw(rule, repeat(100 * MS), at_once=5) == 35
    assert rule.why == "interval"


def test_it_is_not_done_before_anything_was_drawn() -> None:
    assert not Stopping(Budget()).done()


blocks = st.lists(st.tuples(st.integers(1, 20 * S), st.booleans()), min_size=1, max_size=40)
budgets = st.builds(
    Budget,
    min_samples=st.integers(1, 50),
    min_time_s=st.floats(0, 2),
    max_samples=st.integers(1, 120),
    max_time_s=st.floats(0.1, 10),
    slow_min_samples=st.integers(1, 12),
    replace_factor=st.floats(1, 4),
)


@settings(deadline=None)
@given(blocks, budgets, st.sampled_from([1, 3, 16]))
def test_it_always_ends_and_never_before_the_minimum_unless_at_a_cap(
    pattern: list[tuple[int, bool]], budget: Budget, at_once: int
) -> None:
    rule = Stopping(budget)
    drawn = draw(rule, cycle(pattern), at_once)
    assert drawn <= math.ceil(budget.replace_factor * budget.max_samples) + at_once
    everything = sum(duration for duration, _ in (pattern[i % len(pattern)] for i in range(drawn)))
    clean_ns = sum(rule.clean)
    slow = (clean_ns / len(rule.clean) if rule.clean else everything / drawn) > budget.slow_call_s * 1e9
    caps_s = budget.slow_max_time_s if slow else budget.max_time_s
    if rule.converged:
        assert len(rule.clean) >= (budget.slow_min_samples if slow else budget.min_samples)
        assert clean_ns >= budget.min_time_s * 1e9 or len(rule.clean) >= budget.max_samples
    elif rule.why == "max_samples":
        assert len(rule.clean) >= budget.max_samples or drawn >= budget.replace_factor * budget.max_samples
    else:
        assert rule.why == "max_time"
        replaced_enough = everything >= budget.replace_factor * caps_s * 1e9
        assert replaced_enough or (clean_ns >= caps_s * 1e9 and (not slow or len(rule.clean) >= budget.slow_min_samples))


@settings(deadline=None)
@given(blocks)
def test_the_clean_blocks_are_kept_in_order_and_nothing_else(pattern: list[tuple[int, bool]]) -> None:
    rule = Stopping(Budget())
    for duration, contended in pattern:
        rule.add(duration, contended)
    assert rule.clean == [duration for duration, contended in pattern if not contended]


def test_calls_too_short_for_the_least_time_are_judged_by_all_the_samples_there_may_be() -> None:
    rule = Stopping(Budget())
    while not rule.done():
        rule.add(60_000)
    assert (len(rule.clean), rule.why) == (Budget().max_samples, "interval")


def test_the_contended_share_is_that_of_the_blocks_so_far() -> None:
    rule = Stopping(Budget())
    assert rule.contended_share == 0
    for contended in (True, False, False, True):
        rule.add(1_000_000, contended=contended)
    assert rule.contended_share == 0.5
