"""Memory over the tensors, and energy per unit of work."""

from harness.page.charts import ratios
from harness.page.view import prepare
from tests.page.soundness import marks


def test_memory_and_energy_have_a_mark_per_cell(made, view):
    assert marks(ratios.memory(view, "cpu", "m")) == sorted(ratios.with_memory(view)["i"])
    assert (ratios.with_memory(view)["memory_factor"] >= 1).all()
    assert len(marks(ratios.largest(view, "cpu", "p"))) == ratios.LARGEST
    powered = prepare(made.summary.assign(energy_per_call_j=0.002, energy_method="RAPL package"))
    drawn = ratios.energy(powered, "cpu", "e")
    assert marks(drawn) == sorted(powered.ok["i"])
    assert "Counter: RAPL package" in drawn.note


def test_what_has_no_energy_says_why(made):
    view = prepare(made.summary.assign(energy_method="not measured (no counter here)"))
    assert ratios.not_known(view, "energy_per_call_j", "energy_method") == [("cpu", "no counter here", 60)]
