"""Points of a sweep are one workload in whatever is said of all workloads."""

import dataclasses

import numpy as np
import pytest

from harness.axes import Device, Direction
from harness.page.charts import standing
from harness.page.standings import standings
from harness.page.view import prepare
from harness.spec import Cell
from tests.page import synthetic
from tests.page.test_html import rendered, section


def cells(threads=(0,), batches=(1,), workload="layer", spec=synthetic.LAYERS["rn50_res2_3x3"]) -> list[Cell]:
    return [
        Cell(
            f"{workload}_n{n}" if len(batches) > 1 else workload, dataclasses.replace(spec, n=n), Direction.FPROP,
            backend=backend, device=Device("cpu"), threads=count,
        )
        for backend in ("torch", "jax") for count in threads for n in batches
    ]  # fmt: skip


def counted(asked: list[Cell]) -> set[str]:
    shown = prepare(synthetic.make(asked, {}).summary).cells
    return set(shown.loc[shown["counted"], "workload"] + " t" + shown.loc[shown["counted"], "threads"].astype(str))


@pytest.mark.fault("threads, batch or size are swept", "a sweep counts as one workload")
@pytest.mark.parametrize(
    ("asked", "left"),
    [
        (cells(threads=(1, 2, 4)), {"layer t4"}),
        (cells(threads=(1, 0, 2)), {"layer t0"}),
        (cells(batches=(1, 2, 4)), {"layer_n4 t0"}),
        (cells(batches=(1, 2)), {"layer_n1 t0", "layer_n2 t0"}),
        (cells() + cells(workload="other", spec=synthetic.LAYERS["rn50_conv1"]), {"layer t0", "other t0"}),
        (cells(threads=(1, 2)) + cells(workload="other", spec=synthetic.LAYERS["rn50_conv1"]), {"layer t2", "other t0"}),
    ],
)
def test_of_a_sweep_the_largest_value_counts(asked: list[Cell], left: set[str]) -> None:
    assert counted(asked) == left


@pytest.mark.fault("only the number of threads varies", "no backend is ranked over it")
def test_no_backend_is_ranked_over_thread_counts() -> None:
    asked = [each for name, spec in synthetic.LAYERS.items() for each in cells((1, 2, 4), workload=name, spec=spec)]
    shown = prepare(synthetic.make(asked, {}).summary.assign(flags="", barred_by=""))
    (found,) = standings(shown)
    assert (found.common, found.total) == (4, 4)
    profile = standing.profiles(shown)
    assert profile.groupby("backend").size().to_dict() == {"jax": 4, "torch": 4}
    at_most = shown.cells[(shown.cells["threads"] == 4) & (shown.cells["backend"] == "torch")]["vs_best"]
    value = next(mean.value for mean in found.means if mean.backend == "torch")
    assert value == pytest.approx(np.exp(np.log(at_most).mean()))


def test_the_page_says_that_a_sweep_counts_once() -> None:
    made = synthetic.make(
        [each for name, spec in synthetic.LAYERS.items() for each in cells((1, 2), workload=name, spec=spec)], {}
    )
    text = rendered(made)
    assert "counts once, at its largest value" in section(text, "verdict")
    assert "counts once, at its largest value" in section(text, "compare")
    assert "A workload counts once for each threads" not in text
    assert "counts once" not in section(rendered(synthetic.make(cells(), {})), "verdict")
    alone = [each for each in cells((1, 2)) if each.backend == "torch"]  # there is no mean over workloads
    for name in ("verdict", "compare"):
        assert "counts once" not in section(rendered(synthetic.make(alone, {})), name)


@pytest.mark.fault("a foreign shape cannot be read", "the page is made all the same")
def test_a_shape_that_nobody_can_read_costs_no_page() -> None:
    made = synthetic.make(cells(), {})
    shown = prepare(made.summary.assign(shape="what?"))
    assert shown.cells["counted"].all()
