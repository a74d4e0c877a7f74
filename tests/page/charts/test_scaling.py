"""Rates of images over batch or size."""

from harness.axes import Device
from harness.page.charts import scaling
from harness.page.view import View, prepare
from tests.page import synthetic
from tests.page.soundness import marks


def swept(sizes=(1, 2, 4, 8), failing=None) -> View:
    cells = [
        synthetic.Cell(
            f"res3_n{n:02}", synthetic.conv(n, 64, 64, 28, 3, 1, 1), direction, backend=backend, device=Device.parse("cpu")
        )
        for n in sizes
        for direction in synthetic.PASSES
        for backend in ("torch", "jax")
    ]
    return prepare(synthetic.make(cells, failing or {}).summary)


def test_a_sweep_needs_three_values_that_differ_in_one_thing(view):
    assert [(one.label, one.axis) for one in scaling.sweeps(swept())] == [
        ("res3 · forward", "batch"), ("res3 · backward input", "batch"), ("res3 · backward filter", "batch"),
    ]  # fmt: skip
    assert scaling.sweeps(swept((1, 2))) == []
    assert scaling.sweeps(view) == []


def test_a_line_ends_before_the_first_value_that_failed():
    view = swept(failing={("jax", "res3_n04", "fprop", "eager"): ("oom", "no memory")})
    (forward, *_) = scaling.sweeps(view)
    drawn = scaling.scaling(view, [forward], "s")
    jax = forward.rows[forward.rows["backend"] == "jax"].set_index("at")["i"]
    # 1 and 2 in a line, 4 as failed; 8 ran, and is in the table: no line bridges the gap.
    assert set(marks(drawn)) == {*forward.rows.loc[forward.rows["backend"] == "torch", "i"], jax[1], jax[2], jax[4]}
    assert "(oom)" in drawn.note
