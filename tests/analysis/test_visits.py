import numpy as np
import pandas as pd
import pytest

from harness.analysis.trials import medians
from harness.analysis.visits import most_frequent, turns, visits
from harness.record import SeriesKind
from tests.analysis.visiting import RUN, Visit, of_cells, samples


def test_a_visit_has_the_median_the_lower_decile_and_the_least_of_its_samples():
    call_ns = [500, 100, 300, 200, 400, 900]
    found = visits(samples([Visit("a", 1, 7, 12, call_ns, place=3, visit=2)]))
    (row,) = found.to_dict("records")
    assert row == {
        "run_id": RUN, "trial": 1, "cell": "a", "process": 7, "turn": 12, "place": 3, "visit": 2, "turned": True, "samples": 6,
        "median_ns": 350, "decile_ns": np.quantile(call_ns, 0.1), "min_ns": 100,
    }  # fmt: skip


def test_times_are_per_call():
    (row,) = visits(samples([Visit("a", 0, 0, 0, [100, 200, 300], iterations=50)])).to_dict("records")
    assert (row["median_ns"], row["min_ns"]) == (200, 100)


@pytest.mark.parametrize("seed", range(3))
def test_many_visits_have_the_figures_that_numpy_gives_each(seed: int):
    rng = np.random.default_rng(seed)
    made = [
        Visit(cell, trial, process, 10 * trial + turn, rng.integers(1000, 9000, rng.integers(1, 40)).tolist(), visit=turn)
        for trial in range(3)
        for turn in range(6)
        for process, cell in enumerate(rng.permutation(["a", "b", "c"]))
    ]
    found = visits(samples(made))
    assert found[["cell", "trial", "turn"]].values.tolist() == [[one.cell, one.trial, one.turn] for one in made]
    assert found["median_ns"].tolist() == pytest.approx([np.median(one.call_ns) for one in made])
    assert found["decile_ns"].tolist() == pytest.approx([np.quantile(one.call_ns, 0.1) for one in made])
    assert found["min_ns"].tolist() == [min(one.call_ns) for one in made]
    shuffled = visits(samples(made).sample(frac=1, random_state=seed))
    order = ["trial", "turn", "cell"]
    pd.testing.assert_frame_equal(
        shuffled.sort_values(order).reset_index(drop=True), found.sort_values(order).reset_index(drop=True)
    )


def test_contended_samples_of_a_visit_count():
    half = Visit("a", 0, 0, 0, [100, 100, 900, 900], contended=[False, False, True, True])
    whole = Visit("a", 0, 0, 1, [800, 800], contended=[True, True])
    found = visits(samples([half, whole]))
    assert found[["turn", "median_ns", "samples"]].values.tolist() == [[0, 500, 4], [1, 800, 2]]


def test_without_visits_contended_samples_count_only_where_a_trial_of_a_cell_has_no_others():
    half = Visit("a", 0, 0, 0, [100, 100, 900, 900], contended=[False, False, True, True])
    whole = Visit("b", 0, 0, 0, [800, 900], contended=[True, True])
    found = visits(samples([half, whole], turned=False))
    assert found[["cell", "median_ns", "samples"]].values.tolist() == [["a", 100, 2], ["b", 850, 2]]


def test_a_run_without_turns_is_one_of_a_visit_per_trial():
    made = [Visit(cell, trial, 0, 0, [100 + trial, 200 + trial, 900]) for trial in range(3) for cell in "ab"]
    frame = samples(made, turned=False)
    found = visits(frame)
    assert found["turn"].tolist() == found["trial"].tolist() == [0, 0, 1, 1, 2, 2]
    assert not found["turned"].any()
    by_key = {(row.run_id, row.trial, row.cell): row.median_ns for row in found.itertuples()}
    assert by_key == medians(frame, SeriesKind.LATENCY)


def test_other_series_are_no_visits():
    made = [Visit("a", 0, 0, 0, [100]), Visit("a", 0, 0, 0, [5], series="device"), Visit("a", 0, 0, 1, [300])]
    assert visits(samples(made))["median_ns"].tolist() == [100, 300]


def test_no_samples_are_no_visits():
    assert visits(samples([])).empty
    assert turns(visits(samples([]))) == {}


def test_a_table_has_a_row_for_each_cell_and_a_column_for_each_turn():
    found = turns(visits(samples(of_cells({"a": [[10], [20]], "b": [[30], []]}))))[RUN]
    assert found.cells == ("a", "b")
    assert np.exp(found.log_ns) == pytest.approx(np.array([[10, 20], [30, np.nan]]), nan_ok=True)
    assert found.process.tolist() == [[0, 0], [1, -1]]
    assert found.places(["b", "c", "a"]).tolist() == [1, -1, 0]
    assert found.turned


def test_a_time_of_zero_has_no_log():
    assert np.isnan(turns(visits(samples([Visit("a", 0, 0, 0, [0])])))[RUN].log_ns).all()


def test_runs_are_kept_apart():
    made = [Visit("a", 0, 0, 0, [100]), Visit("a", 0, 0, 0, [300], run_id="other")]
    assert {run_id: float(np.exp(of.log_ns[0, 0])) for run_id, of in turns(visits(samples(made))).items()} == pytest.approx(
        {RUN: 100, "other": 300}
    )


def test_of_several_values_the_most_frequent_that_counts_is_found():
    values = np.array([[1, 1, 2, 2, 2], [5, 5, 5, 5, 5], [4, 3, 4, 3, 9]])
    counted = np.array([[True, True, True, False, False], [True] * 5, [True] * 5])
    assert most_frequent(values, counted).tolist() == [
        [True, True, False, False, False], [True] * 5, [False, True, False, True, False],
    ]  # fmt: skip
