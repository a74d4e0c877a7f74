import numpy as np
import pytest

from harness.analysis.inference import moderated
from harness.analysis.times import common_parts, times
from harness.analysis.visits import median_of_rows, visits
from tests.analysis.machine import table, visits_of, wander
from tests.analysis.visiting import Visit, of_cells, samples

CELLS, BACKENDS, TRIALS, VISITS = 12, 3, 4, 10
BACKEND = np.arange(CELLS) % BACKENDS


def of_turns(by_cell: dict[str, list[list[float]]], backends: dict[str, str], **options: bool):
    """The times of one trial's visits, by cell."""
    return times(visits(samples(of_cells(by_cell), **options)), backends).set_index("cell")


def test_a_slow_minute_is_the_turn_s():
    speed = [1.0, 1.0, 1.0, 2.0, 2.0]
    missed = {"a": [[100 * each] for each in speed], "b": [[300 * each] for each in speed], "c": [[70], [70], [], [140], [140]]}
    found = of_turns(missed, {"a": "torch", "b": "jax", "c": "tensorflow"})
    assert found["time_ns"].tolist() == pytest.approx([100, 300, 70], rel=0.02)  # the raw median of c is 105
    assert set(found["time_method"]) == {"turns"}
    assert found["processes"].tolist() == [1, 1, 1]
    assert found["time_low_ns"].isna().all()


def test_with_one_backend_alone_the_turn_has_no_common_part():
    alone = of_turns({"a": [[100], [100], [200]], "b": [[300], [300], [600]]}, {"a": "torch", "b": "torch"})
    assert alone["time_ns"].tolist() == pytest.approx([100, 300])
    assert set(alone["time_method"]) == {"raw"}
    one = of_turns({"a": [[100], [200], [900]]}, {"a": "torch"})
    assert one[["time_ns", "time_method"]].values.tolist() == [[pytest.approx(200), "raw"]]


def test_a_run_without_turns_has_its_raw_figures():
    made = [
        Visit(cell, trial, 0, 0, [time * factor])
        for trial, factor in enumerate((1, 2, 4))
        for cell, time in (("a", 100), ("b", 900))
    ]
    found = times(visits(samples(made, turned=False)), {"a": "torch", "b": "jax"})
    assert found["time_ns"].tolist() == pytest.approx([200, 1800])
    assert found["time_method"].tolist() == ["raw", "raw"]
    assert found["processes"].tolist() == [3, 3]
    assert (found["time_low_ns"] < found["time_ns"] / 2).all()


def test_another_figure_may_stand_for_a_visit():
    found = times(visits(samples([Visit("a", 0, 0, 0, [100, 900, 900])])), {"a": "torch"}, "min_ns")
    assert found["time_ns"].tolist() == pytest.approx([100])


def test_no_visits_have_no_times():
    assert times(visits(samples([])), {}).empty


def test_windows_do_not_set_each_other_s_level():
    log_ns = np.full((6, 8), np.nan)
    log_ns[:3, :4], log_ns[3:, 4:] = np.log([[100], [200], [300]]), np.log([[300], [400], [900]]) + 0.5
    common = common_parts(log_ns, np.array([0, 1, 2, 0, 1, 2]))
    assert common.connected.tolist() == [0] * 4 + [1] * 4
    assert common.part == pytest.approx(np.zeros(8), abs=1e-9)
    assert common.error == pytest.approx([0, 0], abs=1e-9)


@pytest.mark.fault("the processes of a call are of two speeds", "the time says so")
def test_processes_of_two_kinds_are_told():
    for cells, backends, method in ((6, "ab", "turns"), (3, "abc", "turns"), (2, "ab", "raw")):
        level = np.zeros((cells, 8))
        level[0] = np.log([1, 1, 1.8, 1, 1.8, 1.8, 1, 1.8])
        log_ns = np.repeat(level, VISITS, axis=1) + 0.03 * np.random.default_rng(1).standard_normal((cells, 8 * VISITS))
        names = {f"cell-{place}": backends[place % len(backends)] for place in range(cells)}
        found = times(visits_of(table(log_ns, 8)), names)
        assert found["two_kinds"].tolist() == [True] + [False] * (cells - 1)  # it does not spoil the times of the others
        assert set(found["time_method"]) == {method}


def covered(rng: np.random.Generator, leaving: float, runs: int) -> tuple[float, float]:
    """How often the interval of a time holds the median visit of the run, and its width over that of the raw figures.

    In slow turns half of the cells take 1.3 times as long, the other half 1.1 times. That share of the cells leaves for good
    after one of the trials. The true median is that of a mixture of fast and slow visits, found from many.
    """
    slower = np.log(np.where(np.arange(CELLS) < CELLS // 2, 1.3, 1.1))
    many = 0.05 * rng.standard_t(3, 20_001)
    held, narrower = [], []
    for _ in range(runs):
        slow = wander(rng, TRIALS * VISITS)
        level = rng.standard_normal(CELLS)
        log_ns = level[:, None] + slower[:, None] * slow + 0.05 * rng.standard_t(3, (CELLS, TRIALS * VISITS))
        log_ns += np.repeat(0.015 * rng.standard_normal((CELLS, TRIALS)), VISITS, axis=1)
        for cell in np.flatnonzero(rng.random(CELLS) < leaving):
            log_ns[cell, rng.integers(2, TRIALS) * VISITS :] = np.nan
        of_run = table(log_ns, TRIALS)
        found = times(visits_of(of_run), {name: str(BACKEND[place]) for place, name in enumerate(of_run.cells)})
        share = np.arange(len(many)) < slow.mean() * len(many)
        true = level + np.array([np.median(many + share * each) for each in slower])
        held.append(np.log(found["time_low_ns"]).to_numpy() <= true)
        held[-1] &= true <= np.log(found["time_high_ns"]).to_numpy()
        raw = moderated(of_run.by_trial(log_ns), BACKEND).half()
        narrower.append(np.median(np.log(found["time_high_ns"] / found["time_low_ns"]) / 2 / raw))
    return float(np.mean(held)), float(np.median(narrower))


@pytest.mark.fault(
    "the machine slows half of the cells 1.3 times and the others 1.1 times, and cells leave",
    "the interval of a time holds the median visit of the run all the same",
)
@pytest.mark.parametrize("runs", [60, pytest.param(1000, marks=pytest.mark.long)])
@pytest.mark.parametrize("leaving", [0.0, 0.5])
def test_turns_whose_cells_change(leaving: float, runs: int):
    held, narrower = covered(np.random.default_rng(2), leaving, runs)
    assert held > 0.9
    assert narrower < 0.75


@pytest.mark.fault(
    "the common part of the turns is taken out of a time", "its interval holds within the run, not for another hour"
)
def test_the_hour_is_not_in_the_interval():
    rng = np.random.default_rng(3)
    here, anywhere = [], []
    for _ in range(60):
        hour = 0.1 * rng.standard_normal()
        log_ns = hour + 0.02 * rng.standard_normal((6, 40)) + 0.1 * wander(rng, 40)
        found = times(visits_of(table(log_ns, 4)), {f"cell-{place}": "ab"[place % 2] for place in range(6)})
        low, high = np.log(found["time_low_ns"]), np.log(found["time_high_ns"])
        middle = np.median(log_ns)
        here.append(((low <= middle) & (middle <= high)).mean())
        anywhere.append(((low <= 0) & (high >= 0)).mean())
    assert np.mean(here) > 0.85
    assert np.mean(anywhere) < 0.5


def test_the_common_part_does_not_move_when_cells_leave():
    rng = np.random.default_rng(4)
    level = np.linspace(0, 3, 9)
    log_ns = level[:, None] + 0.01 * rng.standard_normal((9, 40)) + np.repeat([0.0, 0.3, 0.0, 0.3], 10)
    log_ns[4:, 10:] = np.nan  # the five that take longest are gone from the second trial on
    common = common_parts(log_ns, np.arange(9) % 3).part
    assert np.diff(median_of_rows(common.reshape(4, 10))) == pytest.approx([0.3, -0.3, 0.3], abs=0.02)
