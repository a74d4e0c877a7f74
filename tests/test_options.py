"""Axes whose default leaves no trace: what was stored before there was such an axis is read, and goes on, as if by now."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest

from harness import codec
from harness.analysis.ranking import rank
from harness.axes import OPTIONS, Api, Autotune, Bias, Device, Direction, Epilogue, Optimizer
from harness.outcome import TUNING_DIFFERS
from harness.page.standings import standings
from harness.page.view import prepare
from harness.plan import COMPARED, Budget, Plan, Step
from harness.review import pages
from harness.review.reading import Reading
from harness.spec import Cell
from harness.store import journal, pytest_json, table
from tests import settings
from tests.builders import START, cell

GPU = Device("gpu")
TRAIN = {"direction": Direction.TRAIN, "optimizer": Optimizer.ADAM}


@pytest.mark.parametrize(
    ("of", "expected"),
    [
        ({}, "conv/fprop/torch/eager/cpu/fp32/nchw/hot/t0"),
        (TRAIN, "conv/train/torch/eager/cpu/fp32/nchw/hot/t0/adam"),
        ({"device": GPU, "autotune": Autotune.ON}, "conv/fprop/torch/eager/gpu:0/fp32/nchw/hot/t0/autotune:on"),
        ({**TRAIN, "autotune": Autotune.OFF}, "conv/train/torch/eager/cpu/fp32/nchw/hot/t0/adam/autotune:off"),
        ({**TRAIN, "bias": Bias.CHANNEL}, "conv/train/torch/eager/cpu/fp32/nchw/hot/t0/adam/bias:channel"),
        (
            {"bias": Bias.CHANNEL, "epilogue": Epilogue.RELU},
            "conv/fprop/torch/eager/cpu/fp32/nchw/hot/t0/bias:channel/epilogue:relu",
        ),
        ({"api": Api.DEFAULT}, "conv/fprop/torch/eager/cpu/fp32/nchw/hot/t0"),
        ({"api": Api.LAYER}, "conv/fprop/torch/eager/cpu/fp32/nchw/hot/t0/api:layer"),
    ],
)
def test_the_id_of_a_cell_names_an_option_where_it_is_not_at_its_default(of: dict[str, Any], expected: str) -> None:
    assert str(cell(**of)) == expected


def test_every_option_has_a_field_an_axis_of_suites_and_a_column() -> None:
    """Whoever adds one is told what is missing."""
    from harness.ask.axes import Axes
    from harness.columns import COLUMNS, RECORD_COLUMNS, SUM_COLUMNS, SUMMARY_COLUMNS

    for name, option in OPTIONS.items():
        assert getattr(cell(), name) == option.default
        assert getattr(Axes(), name) == (option.default,)
        assert name in vars(pytest_json.Row.of(cell(), "small", START))
        assert COLUMNS[name].meaning == option.meaning
        assert all(name in columns for columns in (RECORD_COLUMNS, SUMMARY_COLUMNS, SUM_COLUMNS, COMPARED))
    assert cell().options == {}


def older(value: Any) -> Any:
    """The JSON data of an older version, which knew none of these axes."""
    if isinstance(value, dict):
        return {name: older(item) for name, item in value.items() if name not in OPTIONS}
    if isinstance(value, list):
        return [older(item) for item in value if not (isinstance(item, str) and item in OPTIONS)]
    return value


def aged(folder: Path) -> None:
    """Make the journal of a run one of an older version."""
    path = folder / journal.JOURNAL
    lines = [older(json.loads(line)) for line in path.read_text().splitlines()]
    for line in lines:
        del line["crc32"]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def sealed_by_an_older_version(folder: Path) -> None:
    """Nothing is left of a run but its tables, of an older version."""
    (folder / journal.JOURNAL).unlink()
    for path in folder.glob("*.parquet"):
        content = pq.read_table(path)
        content = content.drop_columns([name for name in OPTIONS if name in content.column_names])
        kept = {name: value for name, value in content.schema.metadata.items() if name != b"convbench.crc32"}
        pq.write_table(content.replace_schema_metadata(kept), path)


@pytest.mark.fault("a run was stored before there was an axis", "its cells are at the default, with the ids that they had")
@pytest.mark.parametrize("age", [aged, sealed_by_an_older_version])
def test_a_run_of_before_is_read_as_one_of_now(tmp_path: Path, age: Callable[[Path], None]) -> None:
    of = settings.cells(backend=("jax", "torch"))
    now, before = (settings.run(tmp_path / name, of) for name in ("now", "before"))
    age(before)
    pd.testing.assert_frame_equal(table.load(now), table.load(before))
    pd.testing.assert_frame_equal(table.samples(now), table.samples(before))
    assert table.load(before)["cell"].unique().tolist() == [str(each) for each in of]
    assert set(table.load(before)["autotune"]) == {""}


def test_a_plan_of_before_goes_on_with_the_same_cells_in_the_same_groups(tmp_path: Path) -> None:
    cells = settings.cells(backend=("jax", "torch"), direction=(Direction.FPROP, Direction.WGRAD))
    plan = Plan("small", tuple(Step(0, order, each) for order, each in enumerate(cells)), 7, Budget())
    (tmp_path / journal.PLAN).write_text(json.dumps(older(codec.encode(plan))))
    found = journal.read_plan(tmp_path)
    assert found.steps == plan.steps
    assert set(OPTIONS).isdisjoint(found.compare)

    def partition(of: Plan) -> set[frozenset[int]]:
        groups = {of.group(step.cell): set[int]() for step in of}
        for step in of:
            groups[of.group(step.cell)].add(step.order)
        return set(map(frozenset, groups.values()))

    assert partition(found) == partition(plan)


def test_a_column_of_an_option_holds_what_is_not_the_default(tmp_path: Path) -> None:
    of = settings.cells(backend=("jax", "torch"), device=(GPU,), autotune=(Autotune.DEFAULT, Autotune.ON))
    rows = table.load(settings.run(tmp_path, of)).drop_duplicates("cell")
    assert rows["autotune"].tolist() == [each.options.get("autotune", "") for each in of] == ["", "on"] * 2
    assert [name.endswith("/autotune:on") for name in rows["cell"]] == [False, True] * 2


def test_a_cell_comes_back_from_a_file_of_pytest_benchmark() -> None:
    for autotune in Autotune:
        of = cell(device=GPU, autotune=autotune)
        row = pytest_json.Row.of(of, "small", START)
        assert row.autotune == of.options.get("autotune", "")
        assert row.typed() == of
    with pytest.raises(ValueError, match="'maybe'"):
        replace(row, autotune="maybe").typed()
    stored = codec.encode(pytest_json.Row.of(cell(), "small", START))
    del stored["autotune"]  # as of an older version
    assert codec.decode(pytest_json.Row, stored).typed() == cell()


def test_cells_that_differ_in_an_option_are_visited_side_by_side() -> None:
    plan = Plan("small", (), 7, Budget())
    assert plan.group(cell(autotune=Autotune.ON)) == plan.group(cell())
    assert plan.competing == ("backend", "mode", "autotune")


# What competes ------------------------------------------------------------------------------------------------------------


def ranking(folder: Path) -> pd.DataFrame:
    return Reading(folder).ranking


def test_the_fastest_is_looked_for_among_tuned_and_untuned_and_that_is_said(tmp_path: Path) -> None:
    of = [cell(backend="torch", device=GPU), cell(backend="torch", device=GPU, autotune=Autotune.ON)]
    of += [cell(backend="jax", device=GPU), cell(backend="jax", device=GPU, direction=Direction.WGRAD)]
    found = ranking(settings.run(tmp_path, of)).set_index("cell")
    assert found["best"].sum() == 1  # one of the three forward; the one of the other has nobody beside it
    assert found.loc[[str(each) for each in of], "tuning_differs"].tolist() == [True, True, True, False]


def test_on_the_cpu_and_among_equals_nothing_is_said(tmp_path: Path) -> None:
    on_cpu = settings.cells(backend=("jax", "torch"))
    assert not ranking(settings.run(tmp_path / "cpu", on_cpu))["tuning_differs"].any()
    tuned = [cell(backend="torch", device=GPU, autotune=Autotune.ON), cell(backend="jax", device=GPU)]
    assert not ranking(settings.run(tmp_path / "gpu", tuned))["tuning_differs"].any()


def test_of_no_cell_nothing_is_said(tmp_path: Path) -> None:
    empty = ranking(settings.run(tmp_path, settings.cells())).head(0)
    assert rank(empty)["tuning_differs"].tolist() == []


def test_the_json_of_a_cell_needs_no_option() -> None:
    data = codec.encode(cell())
    assert codec.decode(Cell, older(data)) == cell()


# What people are told -----------------------------------------------------------------------------------------------------

WORKLOADS = ("one", "two", "three")
UNTUNED = settings.cells(workload=WORKLOADS, device=(GPU,), backend=("jax", "torch"))


def both_ways() -> list[Cell]:
    """JAX as it is, which tries kernels, and PyTorch in both ways."""
    return [*UNTUNED, *(replace(each, autotune=Autotune.ON) for each in UNTUNED if each.backend == "torch")]


def of_sections(text: str) -> dict[str, str]:
    """The sections of a page by their ids."""
    return {re.search(r'id="([\w-]+)"', part)[1]: part for part in text.split("<section")[1:]}  # type: ignore[index]


@pytest.mark.fault(
    "frameworks are compared on a GPU, some of which choose kernels by trying them",
    "wherever the page or the terminal says who is faster, it says that too",
)
def test_wherever_tuned_and_untuned_are_compared_it_is_said(tmp_path: Path) -> None:
    from harness.cli import along as lines_of
    from harness.cli import tables

    reading = Reading(settings.run(tmp_path, UNTUNED))
    sections = of_sections(pages.page(reading).text)
    assert {name for name, part in sections.items() if TUNING_DIFFERS in part} >= {"verdict", "compare", "workloads", "results"}
    assert TUNING_DIFFERS in tables.key(reading.ranking)
    beside = reading.along("backend", "torch")
    assert TUNING_DIFFERS in lines_of.lines(beside, "backend", "torch")


def test_where_all_are_tuned_nothing_is_said(tmp_path: Path) -> None:
    from harness.cli import along as lines_of
    from harness.cli import tables

    tuned = [each for each in both_ways() if each.backend == "jax" or each.autotune is Autotune.ON]
    reading = Reading(settings.run(tmp_path, tuned))
    assert TUNING_DIFFERS not in pages.page(reading).text
    assert TUNING_DIFFERS not in tables.key(reading.ranking)
    assert not [line for line in lines_of.lines(reading.along("workload"), "workload", "one") if line == TUNING_DIFFERS]


def test_both_ways_stand_in_rows_of_their_own_and_a_backend_in_its_faster_one(tmp_path: Path) -> None:
    reading = Reading(settings.run(tmp_path, both_ways()))
    view = prepare(reading.ranking)
    assert (view.axes, view.apart) == (("autotune",), [])
    assert set(view.cells["row"]) == {f"{name} · autotune {way}" for name in WORKLOADS for way in ("default", "on")}
    (found,) = standings(view)
    assert (found.common, found.total, len(found.means)) == (3, 3, 2)
    assert view.cells["slug"].is_unique
    assert TUNING_DIFFERS in pages.page(reading).text


def test_what_a_bias_costs_is_held_against_none(tmp_path: Path) -> None:
    of = settings.cells(backend=("jax", "torch"), bias=tuple(Bias))
    frame = Reading(settings.run(tmp_path, of)).along("bias")
    assert (frame.attrs["base"], set(frame["bias"])) == ("none", {"channel"})
    assert frame["cell"].tolist() == [f"{base}/bias:channel" for base in frame["base_cell"]]


def test_what_trying_is_worth_is_held_against_the_default(tmp_path: Path) -> None:
    reading = Reading(settings.run(tmp_path, both_ways()))
    frame = reading.worth["autotune"]
    assert (frame.attrs["base"], frame.attrs["tuning_differs"], set(frame["autotune"])) == ("default", False, {"on"})
    assert frame["cell"].tolist() == [f"{base}/autotune:on" for base in frame["base_cell"]]
    assert reading.along("autotune", "on")["autotune"].tolist() == ["default"] * 3


def test_what_a_layer_adds_is_held_against_the_default_and_competes_with_none(tmp_path: Path) -> None:
    of = [cell(backend="torch"), cell(backend="torch", api=Api.LAYER)]
    reading = Reading(settings.run(tmp_path, of))
    assert reading.ranking["best"].tolist() == [False, False]  # each is alone
    found = reading.along("api")
    assert (found.attrs["base"], found["api"].tolist(), found["base_cell"].tolist()) == ("default", ["layer"], [str(of[0])])
    assert "api" in reading.worth
