import numpy as np
import pytest

from harness.analysis.pairs import log_ratios, pools
from harness.analysis.visits import turns, visits
from tests.analysis.visiting import RUN, Visit, of_cells, samples


def ratios(made: list[Visit], one: str, other: str) -> list[float]:
    """The ratios of two cells by pairs of processes, trial by trial."""
    table = turns(visits(samples(made)))[RUN]
    return np.exp(log_ratios(table, table.places([one]), table.places([other])))[0].tolist()


def test_a_pair_of_processes_has_the_median_of_its_paired_visits():
    made = of_cells({"a": [[100], [100], [100]], "b": [[200], [210], [900]]})
    made += of_cells({"a": [[100], [100], [100]], "b": [[220], [50], [230]]}, trial=1, first_turn=3)
    assert ratios(made, "b", "a") == pytest.approx([2.1, 2.2])


@pytest.mark.fault("the machine is slow for a minute", "neighbours in time are compared, and their ratio does not move")
def test_the_wander_of_the_machine_falls_out_of_a_ratio():
    speed = [1.0, 1.0, 1.7, 1.8, 1.9, 1.0, 2.5]
    made = of_cells({"a": [[1000 * each] for each in speed], "b": [[1030 * each] for each in speed]})
    assert ratios(made, "b", "a") == pytest.approx([1.03], rel=1e-3)


def test_only_turns_that_have_both_count():
    made = of_cells({"a": [[100], [100], [], [7]], "b": [[200], [], [900], []]})
    assert ratios(made, "b", "a") == pytest.approx([2])


def test_a_trial_in_which_the_two_never_met_has_no_pair():
    made = of_cells({"a": [[100], []], "b": [[], [200]]})
    made += of_cells({"a": [[100]], "b": [[300]]}, trial=1, first_turn=2)
    assert ratios(made, "b", "a") == pytest.approx([np.nan, 3], nan_ok=True)
    assert np.isnan(ratios(made, "c", "a")).all()


@pytest.mark.fault("a worker died in the middle of a trial", "visits of two lives are not mixed: one pair stands for the trial")
def test_where_a_worker_was_started_anew_one_pair_stands_for_the_trial():
    before = [Visit("a", 0, 0, turn, [100]) for turn in range(2)]
    after = [Visit("a", 0, 5, turn, [150]) for turn in range(2, 5)]
    other = [Visit("b", 0, 1, turn, [time]) for turn, time in enumerate((300, 300, 300, 330, 360))]
    assert ratios([*before, *after, *other], "b", "a") == pytest.approx([2.2])


def test_cells_of_one_process_are_pairs_too():
    made = of_cells({"NCHW": [[100], [130]], "NHWC": [[200], [260]]}, backends=["torch", "torch"])
    assert ratios(made, "NHWC", "NCHW") == pytest.approx([2])


def test_comparisons_of_the_same_two_backends_share_a_pool():
    left, right = np.array(["torch", "jax", "torch", "torch"]), np.array(["jax", "torch", "torch", "tensorflow"])
    found = pools(left, right)
    assert found[0] == found[1]
    assert len(set(found.tolist())) == 3
    assert pools(left[:0], right[:0]).tolist() == []
