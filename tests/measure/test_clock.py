from collections.abc import Sequence
from itertools import accumulate

from harness.measure import clock


def scripted(steps: Sequence[int]) -> clock.Clock:
    readings = iter([0, *accumulate(steps)])
    return lambda: next(readings)


def test_the_cost_is_the_median_step_so_that_an_interruption_does_not_count() -> None:
    assert clock.cost_ns(scripted([40, 40, 1_000_000, 40, 50]), reads=5) == 40


def test_a_clock_too_coarse_to_see_its_own_cost_still_costs_something_to_divide_by() -> None:
    assert clock.cost_ns(lambda: 7) == 1


def test_the_system_clock_counts_nanoseconds_and_never_goes_back() -> None:
    readings = [clock.system() for _ in range(100)]
    assert readings == sorted(readings)
    assert all(isinstance(reading, int) for reading in readings)
