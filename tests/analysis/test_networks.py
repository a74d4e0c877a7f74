import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from harness import stats
from harness.analysis.networks import Sum, by_pass, networks
from harness.analysis.times import Figures, figures
from harness.axes import OPTIONS, Direction
from tests import builders
from tests.analysis.machine import table, visits_of, wander
from tests.analysis.visiting import RUN


def frame(*rows: dict[str, object]) -> pd.DataFrame:
    """Summary rows of one network, as far as the sums read them."""
    usual = {
        "run_id": RUN, "network": "Net", "scaled": "", "workload": "w", "backend": "torch", "mode": "eager", "optimizer": "",
        "device": "cpu", "precision": "fp32", "layout": "NHWC", "cache": "hot", "threads": 0,
        **dict.fromkeys(OPTIONS, ""), "direction": "fprop",
        "status": "ok", "count": 1, "median_ns": 1.0, "cell": "",
    }  # fmt: skip
    return pd.DataFrame([{**usual, **row} for row in rows])


def figured(log_ns: np.ndarray, backends: str = "a") -> dict[str, Figures]:
    """The figures of a run with these visits, (cells, turns), in four trials; the cells' backends in turn."""
    of_run = table(log_ns, 4)
    return figures(visits_of(of_run), {cell: backends[place % len(backends)] for place, cell in enumerate(of_run.cells)})


def test_layers_times_count_are_the_time_of_the_network() -> None:
    cells = frame({"cell": "cell-0", "count": 3}, {"cell": "cell-1", "count": 2, "workload": "v"})
    log_ns = np.log([[5, 10, 5, 2], [7, 14, 7, 5.5]])  # the sums are 29, 58, 29 and 17
    (row,) = networks(cells, figured(log_ns)).itertuples()
    assert (row.network, row.direction, row.shapes, row.layers, row.missing, row.sum_trials) == ("Net", "fprop", 2, 5, 0, 4)
    assert row.sum_ns == pytest.approx(stats.geometric_mean([29, 58, 29, 17]))
    assert (row.sum_low_ns, row.sum_high_ns) == pytest.approx(stats.log_t_interval([29, 58, 29, 17]))


def test_a_sum_is_over_the_trials_that_have_all_of_its_cells() -> None:
    cells = frame({"cell": "cell-0"}, {"cell": "cell-1", "workload": "v"})
    (row,) = networks(cells, figured(np.log([[5, 10, 5, 2], [7, 14, np.nan, np.nan]]))).itertuples()
    assert (row.sum_trials, row.sum_ns) == (2, pytest.approx(stats.geometric_mean([12, 24])))
    (row,) = networks(cells, figured(np.log([[5, 10, 5, 2], [7, np.nan, np.nan, np.nan]]))).itertuples()
    assert (row.sum_trials, row.sum_ns, math.isnan(row.sum_low_ns)) == (1, pytest.approx(12), True)


def test_without_its_samples_the_sum_is_that_of_the_medians() -> None:
    (row,) = networks(frame({"count": 3, "median_ns": 5.0}, {"count": 2, "median_ns": 7.0}), {}).itertuples()
    assert (row.sum_ns, row.sum_trials, math.isnan(row.sum_low_ns)) == (29.0, 0, True)


def test_a_layer_without_a_figure_leaves_the_network_without_one() -> None:
    cells = frame({"cell": "cell-0"}, {"cell": "cell-1", "status": "oom", "median_ns": math.nan})
    (row,) = networks(cells, figured(np.zeros((2, 4)))).itertuples()
    assert math.isnan(row.sum_ns)
    assert (row.missing, row.sum_trials) == (1, 0)


def test_settings_are_summed_up_apart_and_dimensions_are_no_setting() -> None:
    found = networks(
        frame({"mode": "compiled"}, {}, {"layout": "NDHWC", "workload": "v"}, {"layout": "NCHW"}, {"backend": "jax"}), {}
    )
    assert sorted(zip(found["backend"], found["mode"], found["layout"], found["shapes"], strict=True)) == [
        ("jax", "eager", "last", 1), ("torch", "compiled", "last", 1), ("torch", "eager", "first", 1),
        ("torch", "eager", "last", 2),
    ]  # fmt: skip


def test_a_first_layer_has_no_input_gradient_and_the_network_is_one_row() -> None:
    first = [{"workload": "stem", "direction": each, "median_ns": 100.0} for each in ("fprop", "wgrad")]
    rest = [{"count": 3 - (each == "dgrad"), "direction": each, "median_ns": 10.0} for each in ("dgrad", "fprop", "wgrad")]
    found = networks(frame(*rest, *first), {})
    told = {row.direction: (row.sum_ns, row.shapes, row.layers) for row in found.itertuples()}
    assert told == {"fprop": (130.0, 2, 4), "wgrad": (130.0, 2, 4), "dgrad": (20.0, 1, 2), "passes": (280.0, 2, 4)}
    (row,) = by_pass(found).itertuples()
    assert (row.shapes, row.layers, row.fprop_ns, row.dgrad_ns, row.passes_ns) == (2, 4, 130.0, 20.0, 280.0)


def test_what_belongs_to_no_network_is_left_out() -> None:
    assert networks(frame({"network": ""}, {"direction": str(Direction.NONE)}), {}).empty
    assert by_pass(networks(frame({"network": ""}), {})).empty


@pytest.mark.parametrize(
    ("texts", "told"), [(["n=1 for 16"] * 2, "n=1 for 16"), (["n=1 for 16", "n=1 for 8"], "differs by shape")]
)
def test_what_was_scaled_is_said_where_it_is_one_thing(texts: list[str], told: str) -> None:
    assert list(networks(frame(*({"scaled": text} for text in texts)), {})["scaled"]) == [told]


def test_three_passes_stand_side_by_side_and_their_sum_needs_all() -> None:
    ways = {"fprop": 2.0, "dgrad": 3.0, "wgrad": 4.0}
    cells = frame(*({"direction": way, "cell": f"cell-{place}"} for place, way in enumerate(ways)))
    log_ns = np.log([[time * speed for speed in (1, 1.1, 0.9, 1)] for time in ways.values()])
    found = networks(cells, figured(log_ns))
    assert list(found["direction"]) == ["fprop", "dgrad", "wgrad", "passes"]
    assert found["layers"].tolist() == [1, 1, 1, 1]
    (whole,) = by_pass(found).itertuples()
    mean = stats.geometric_mean([1, 1.1, 0.9, 1])
    assert (whole.fprop_ns, whole.dgrad_ns, whole.wgrad_ns, whole.passes_ns) == pytest.approx(
        (2 * mean, 3 * mean, 4 * mean, 9 * mean)
    )
    assert whole.passes_low_ns < whole.passes_ns < whole.passes_high_ns
    half = by_pass(networks(cells[cells["direction"] == "wgrad"], figured(log_ns)))
    assert "passes_ns" not in half
    assert half["wgrad_ns"].tolist() == pytest.approx([4 * mean])


# How far an interval holds ------------------------------------------------------------------------------------------------

TRIALS, VISITS = 4, 10
WINDOWS = slice(0, 6), slice(6, 12)  # cells of two windows, each visited in turns of its own
COUNT = np.array([1, 2, 3] * 4)


def run(rng: np.random.Generator, hours: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The visits of a run whose machine is slower by `hours` (windows, trials), and each cell's median visit of it, as logs.

    For minutes it is slower by 10 % more, in all cells alike; processes differ by 2 % and visits by 5 %.
    """
    log_ns, median = np.full((12, TRIALS, 2, VISITS), np.nan), np.empty(12)
    for place, cells in enumerate(WINDOWS):
        speed = hours[place][:, None] + 0.1 * wander(rng, TRIALS * VISITS).reshape(TRIALS, VISITS)
        level = rng.standard_normal(6)
        median[cells] = level + np.median(np.add.outer(0.05 * rng.standard_normal(500), speed.ravel()))
        process = 0.02 * rng.standard_normal((6, TRIALS, 1))
        log_ns[cells, :, place] = level[:, None, None] + speed + process + 0.05 * rng.standard_normal((6, TRIALS, VISITS))
    return log_ns.reshape(12, -1), median


def covered(backends: str, slower: float, runs: int) -> tuple[float, float, float]:
    """How often the intervals of a sum over two windows and of a ratio of two sums hold the run's; and how wide the first is.

    The machine is slower in the hour of one window of one trial. The width is the median of half the log of high over low.
    """
    rng, cells = np.random.default_rng(7), [f"cell-{place}" for place in range(12)]
    held, wide = [], []
    for _ in range(runs):
        hours = np.zeros((2, TRIALS))
        hours[rng.integers(2), rng.integers(TRIALS)] = slower
        log_ns, median = run(rng, hours)
        (of_run,) = figured(log_ns, backends).values()
        total = Sum.of(of_run, cells, COUNT)
        ratio = Sum.of(of_run, cells[::2], COUNT[::2]).over(Sum.of(of_run, cells[1::2], COUNT[1::2]))
        of = COUNT * np.exp(median)
        for each, true in ((total, of.sum()), (ratio, of[::2].sum() / of[1::2].sum())):
            _, low, high = each.interval()
            held.append(low <= true <= high)
        _, low, high = total.interval()
        wide.append(np.log(high / low) / 2)
    return float(np.mean(held[::2])), float(np.mean(held[1::2])), float(np.median(wide))


@pytest.mark.fault(
    "the machine is slower in the hour of one window of a trial",
    "the interval of a sum over windows holds that of the run's median visits, and so does that of a ratio of two sums",
)
@pytest.mark.parametrize("runs", [60, pytest.param(1000, marks=pytest.mark.long)])
@pytest.mark.parametrize(("backends", "widest"), [("a", 0.20), ("abc", 0.02)])  # of one backend an hour cannot be told
def test_a_sum_holds_where_one_window_was_slower(backends: str, widest: float, runs: int) -> None:
    of_sum, of_ratio, wide = covered(backends, 0.3, runs)
    assert of_sum > 0.9
    assert of_ratio > 0.9
    assert wide < widest


def test_a_level_that_two_sums_share_falls_out_of_their_ratio() -> None:
    log_ns = np.log([[1.0, 1.1], [1.0, 1.0], [2.0, 2.0]])
    of_run = Figures(("a", "b", "c"), log_ns, np.array([0, 0, 1]), np.array([0.1, 0.2]))
    one, both = Sum.of(of_run, ["a"], np.ones(1)), Sum.of(of_run, ["b", "c"], np.ones(2))
    assert one.shares.tolist() == [1, 0]
    assert both.shares == pytest.approx([1 / 3, 2 / 3])
    quantile = stats.t_quantile(0.975, 1)
    _, low, high = both.interval()  # its trials agree: only the levels are in doubt
    assert math.log(high / low) / 2 == pytest.approx(quantile * math.hypot(0.1 / 3, 0.2 * 2 / 3))
    _, low, high = one.over(one).interval()
    assert (low, high) == pytest.approx((1, 1))


def test_a_cell_carries_its_network_into_its_row() -> None:
    cell = replace(builders.cell(), network="Net", scaled="n=1 for 2", count=3)
    assert (cell.network, cell.scaled, str(cell)) == ("Net", "n=1 for 2", str(builders.cell()))
