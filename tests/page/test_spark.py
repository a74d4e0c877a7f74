"""The small drawings in the cells of tables."""

import math
import re

from harness.page.spark import interval_bar, sparkline

NAN = math.nan


def test_a_missing_night_is_a_gap_and_the_last_value_a_dot() -> None:
    drawn = sparkline([1.0, 1.1, NAN, 1.0, 1.2])
    assert re.search(r'd="M[^L]*L[^L]*M[^L]*L[^L"]*"', drawn)
    assert drawn.count("<circle") == 1
    assert 'cx="116.0"' in drawn
    assert 'aria-hidden="true"' in drawn


def test_noise_does_not_fill_the_height() -> None:
    heights = [float(y) for y in re.findall(r"[ML][\d.]+ (-?[\d.]+)", sparkline([1.0, 1.001, 0.999, 1.0]))]
    assert max(heights) - min(heights) < 1


def test_only_the_last_thirty_nights() -> None:
    assert sparkline([1.0] * 70).count("L") == 29


def test_nothing_known_draws_nothing() -> None:
    assert sparkline([]) == sparkline([NAN, NAN]) == interval_bar(NAN, NAN, NAN, 0.03, 1.5, "slow") == ""


def test_a_ratio_beyond_the_edge_stays_in_the_box() -> None:
    drawn = interval_bar(9.0, 8.0, 10.0, 0.03, 1.5, "slow")
    assert "M116 9" in drawn
    assert not re.search(r"nan|inf", drawn)
