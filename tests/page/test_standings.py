"""Who is fastest over all workloads."""

import pytest

from harness.axes import Direction, Mode
from harness.page.standings import FEWEST_FOR_VERDICT, Standing, standings
from harness.page.view import prepare
from tests.page import synthetic


def test_the_geometric_mean_is_over_common_workloads(made):
    found = standings(prepare(made.summary.assign(barred_by="")))
    by_direction = {standing.direction: standing for standing in found}
    passes = ("forward", "backward input", "backward filter", "training step")
    assert [by_direction[name].common for name in passes] == [5, 4, 3, 1]
    assert by_direction["forward"].means[0].interval
    assert not by_direction["backward input"].means[0].interval
    # One workload, two modes: a backend stands in its fastest.
    train = made.summary[(made.summary["direction"] == "train") & (made.summary["status"] == "ok")]
    expected = train.groupby("backend")["vs_best"].min().sort_values()
    assert {mean.backend: mean.value for mean in by_direction["training step"].means} == pytest.approx(expected.to_dict())


def standing_of(times: dict[str, list[float]], barred: str = "") -> Standing:
    """The standing of these backends in one direction, a workload for each time; the first time of `barred` is under a flag."""
    cells = [cell for cell in synthetic.cells(tuple(times)) if cell.direction is Direction.FPROP and cell.mode is Mode.EAGER]
    names = sorted({cell.workload for cell in cells})[: len(next(iter(times.values())))]
    summary = synthetic.make([cell for cell in cells if cell.workload in names], {}).summary
    place = [times[row.backend][names.index(row.workload)] for row in summary.itertuples()]
    flagged = (summary["backend"] == barred) & (summary["workload"] == names[0])
    summary = summary.assign(median_ns=place, barred_by=flagged.map({True: "drift", False: ""}))
    (found,) = standings(prepare(synthetic.ranked(summary)))
    return found


def test_who_leads_is_told_by_the_ratios_over_the_workloads():
    apart = standing_of({"torch": [1e6, 9e6, 2e6, 5e6], "jax": [1.1e6, 10e6, 2.2e6, 5.6e6]})
    assert [(mean.backend, mean.leads) for mean in apart.means] == [("torch", True), ("jax", False)]
    alike = standing_of({"torch": [1e6, 9e6, 2e6, 5e6], "jax": [0.8e6, 12e6, 1.7e6, 6e6]})
    assert [mean.leads for mean in alike.means] == [True, True]
    assert apart.decidable
    assert alike.decidable


@pytest.mark.fault("a direction has fewer than three workloads", "nobody is called fastest in it")
def test_nobody_is_fastest_over_fewer_than_three_workloads():
    assert not standing_of({"torch": [1e6, 9e6], "jax": [2e6, 18e6]}).decidable
    found = standing_of({"torch": [1e6, 9e6, 3e6], "jax": [2e6, 18e6, 6e6]})
    assert found.decidable
    doubtful = standing_of({"torch": [1e6, 9e6, 3e6], "jax": [2e6, 18e6, 6e6]}, barred="jax")
    assert (doubtful.common, doubtful.barred, doubtful.decidable) == (2, 1, False)


def test_nobody_is_fastest_by_one_trial(made):
    found = standings(prepare(made.summary.assign(trials=1, barred_by="")))
    assert any(standing.common >= FEWEST_FOR_VERDICT for standing in found)
    assert not any(standing.decidable for standing in found)
