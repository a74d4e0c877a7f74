import math
from collections.abc import Callable

import pytest

from harness import units
from harness.units import MISSING

OF_ONE_NUMBER = [
    units.duration, units.milliseconds, units.size, units.flop, units.flop_rate, units.byte_rate,
    units.teraflops, units.ratio, units.percent, units.wall,
]  # fmt: skip


@pytest.mark.parametrize("text", OF_ONE_NUMBER)
@pytest.mark.parametrize("nothing", [None, math.nan])
def test_a_missing_number_is_a_dash(text: Callable[[float | None], str], nothing: float | None):
    assert text(nothing) == MISSING == "\N{EN DASH}"


@pytest.mark.parametrize(
    ("text", "expected"),
    list(
        zip(
            OF_ONE_NUMBER,
            ["0 ns", "0", "0 B", "0 FLOP", "0 MFLOP/s", "0 MB/s", "0", "0×", "0.0 %", "0 s"],
            strict=True,
        )
    ),
)
def test_nothing_at_all_is_zero_in_the_smallest_unit(text: Callable[[float], str], expected: str):
    assert text(0) == expected
    assert text(0.0) == expected


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (1.234e6, "1.234 ms"), (56_780, "56.78 µs"), (1, "1.000 ns"), (999, "999.0 ns"), (1000, "1.000 µs"),
        (12.3456e9, "12.35 s"), (0.5, "0.5000 ns"), (123_456e9, "123456 s"),
    ],
)  # fmt: skip
def test_a_duration_has_four_digits_and_the_unit_that_fits(ns: float, text: str):
    assert units.duration(ns) == text


@pytest.mark.parametrize(
    ("ns", "text"),
    [
        (9.9994e6, "9.999 ms"), (9.9996e6, "10.00 ms"), (99.996e6, "100.0 ms"),
        (999.94e3, "999.9 µs"), (999.96e3, "1.000 ms"), (999.95e6, "1.000 s"), (999.99, "1.000 µs"),
    ],
)  # fmt: skip
def test_what_rounding_carries_over_takes_one_decimal_less_or_the_next_unit(ns: float, text: str):
    assert units.duration(ns) == text


def test_other_numbers_of_digits():
    assert units.duration(1.23456e6, digits=2) == "1.2 ms"
    assert units.duration(0.996e6, digits=2) == "1.0 ms"
    assert units.ratio(1.23456, digits=2) == "1.2×"


def test_a_negative_number_has_a_minus_sign_and_no_hyphen():
    minus = "\N{MINUS SIGN}"
    assert units.duration(-1.5e3) == f"{minus}1.500 µs"
    assert units.duration(-999.96e3) == f"{minus}1.000 ms"
    assert units.percent(-0.125) == f"{minus}12.5 %"
    assert units.ratio(-2.0) == f"{minus}2.00×"


def test_the_tiny_and_the_huge_stay_readable():
    assert units.duration(1e-3) == "0.001000 ns"
    assert units.duration(1e21) == "1000000000000 s"
    assert units.flop_rate(123.0) == "0.000123 MFLOP/s"
    assert units.size(5 * 2**50) == "5242880 GiB"
    assert units.milliseconds(1) == "0.000001000"


@pytest.mark.parametrize(
    ("nbytes", "text"),
    [(1, "1.00 B"), (1023, "1023 B"), (1024, "1.00 KiB"), (12.3 * 2**20, "12.3 MiB"), (3 * 2**30, "3.00 GiB"),
     (1023.9 * 2**10, "1.00 MiB"), (1000 * 2**10, "1000 KiB")],
)  # fmt: skip
def test_memory_is_binary(nbytes: float, text: str):
    assert units.size(nbytes) == text


def test_columns_without_a_unit_keep_the_one_in_their_header():
    assert units.milliseconds(1.23456e6) == "1.235"
    assert units.milliseconds(12.3456e9) == "12346"
    assert units.teraflops(86.4e9) == "0.0864"


def test_a_rate_is_in_the_unit_that_fits():
    assert [units.flop_rate(rate) for rate in (86.4e9, 1.5e12, 2.5e6)] == ["86.4 GFLOP/s", "1.50 TFLOP/s", "2.50 MFLOP/s"]
    assert [units.byte_rate(rate) for rate in (18.2e9, 3.35e12, 2**20)] == ["18.2 GB/s", "3.35 TB/s", "1.05 MB/s"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(45, "45 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (312, "5 min 12 s"), (3599.7, "1 h 00 min"), (3780, "1 h 03 min"),
     (90_000, "25 h 00 min")],
)  # fmt: skip
def test_a_wait_is_told_as_people_say_it(seconds: float, text: str):
    assert units.wall(seconds) == text


def test_an_interval_is_half_its_width_over_its_centre():
    assert units.interval(100.0, 98.8, 101.2) == "± 1.2 %"
    assert units.interval(100.0, 100.0, 100.0) == "± 0.0 %"


@pytest.mark.fault("an interval is wider than ±30 %", "it is told as low to high")
@pytest.mark.parametrize(
    ("times", "said"),
    [
        ((1e6, 0.7e6, 1.3e6), "1.000 ms ± 30.0 %"),
        ((1e6, 0.6e6, 1.3e6), "1.000 ms (600.0 µs to 1.300 ms)"),
        ((1e6, None, None), "1.000 ms"),
        ((None, None, None), MISSING),
    ],
)
def test_over_30_percent_an_interval_is_told_low_to_high(times: tuple[float | None, ...], said: str):
    assert units.timed(*times) == said


@pytest.mark.parametrize("bounds", [(None, 1, 2), (1, None, 2), (1, 1, None), (math.nan, 1, 2), (1, math.nan, 2), (0, 0, 0)])
def test_an_interval_without_bounds_or_centre_is_missing(bounds: tuple[float | None, ...]):
    assert units.interval(*bounds) == MISSING


def test_a_ratio_stands_with_the_bounds_of_its_interval():
    assert units.ratio_interval(1.25, 1.2, 1.312) == "1.25× (1.20 to 1.31)"
    assert units.ratio_interval(1.3, 3e-17, 7e16) == "1.30× (uncertain by over 10×)"
    assert units.ratio_interval(2.0, None, None) == "2.00×"
    assert units.ratio_interval(2.0, math.nan, math.nan) == "2.00×"
    assert units.ratio_interval(math.nan, math.nan, math.nan) == "–"
