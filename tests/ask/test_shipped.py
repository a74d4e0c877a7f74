"""The suites that come with the package: each loads, and asks for what it says."""

import re
from dataclasses import replace

import pytest

from harness import flops
from harness.ask import planning, shapes, suite
from harness.axes import Autotune, Device, Direction, Mode, Precision
from harness.spec import CopySpec, GemmSpec

FOUND = {name: (Device("cpu"),) for name in ("tensorflow", "torch", "jax", "numpy")}


@pytest.mark.parametrize(
    ("name", "cells", "steps"),
    [("first", 102, 408), ("smoke", 45, 45), ("resnet50", 180, 720), ("ceilings", 9, 36), ("nightly", 180, 720)],
)
def test_a_shipped_suite_has_its_cells(name: str, cells: int, steps: int) -> None:
    loaded = suite.load(name)
    assert loaded.name == name
    assert loaded.description.endswith(".")
    assert len(planning.cells(loaded, FOUND)) == cells
    assert len(planning.plan(loaded, FOUND, 1)) == steps


def test_every_shipped_suite_loads() -> None:
    folder = suite.shipped()
    for path in folder.glob("*.toml"):
        assert suite.load(path).name == path.stem


def test_every_table_loads_and_says_what_was_counted_from_it() -> None:
    """Loading recomputes output size and both FLOP counts of every row; the page beside the tables counts them."""
    folder = suite.shipped() / "shapes"
    tables = {path.name: shapes.rows(path.read_text()) for path in folder.glob("*.csv")}
    assert sum(map(len, tables.values())) == 1128
    listed = re.findall(r"^\| `(\S+\.csv)` \| (\d+) \| (\d+) \|", (folder / "README.md").read_text(), re.MULTILINE)
    assert {name: (int(rows), int(layers)) for name, rows, layers in listed} == {
        name: (len(rows), sum(row.count for row in rows)) for name, rows in tables.items()
    }


def test_every_suite_is_listed_with_its_purpose() -> None:
    listed = set(re.findall(r"^\| `(\S+)` \|", (suite.shipped() / "README.md").read_text(), re.MULTILINE))
    assert listed == {path.stem for path in suite.shipped().glob("*.toml")}


KINDS = {
    "grouped": lambda spec: spec.groups > 1,
    "dilated": lambda spec: set(spec.dilation) != {1},
    "conv1d": lambda spec: spec.ndim == 1,
    "conv3d": lambda spec: spec.ndim == 3,
}


@pytest.mark.parametrize("name", KINDS)
def test_a_suite_of_a_kind_holds_that_kind_only(name: str) -> None:
    workloads = suite.load(name).workloads
    assert len(workloads) >= 8
    assert all(KINDS[name](workload.spec) for workload in workloads)


def test_nightly_covers_every_kind_of_the_shapes() -> None:
    specs = [workload.spec for workload in suite.load("nightly").workloads]
    assert len(specs) == 20
    for kind in (
        *KINDS.values(),
        lambda spec: spec.depthwise,
        lambda spec: 1 < spec.groups < spec.c,
        lambda spec: set(spec.kernel) == {1},
        lambda spec: max(spec.stride) > 1,
        lambda spec: not spec.pads_evenly,
        lambda spec: len(set(spec.kernel)) > 1,
        lambda spec: spec.n > 1,
        lambda spec: spec.c <= 3,
    ):
        assert any(map(kind, specs))


@pytest.mark.parametrize(("name", "axis", "values"), [
    ("layouts", "layout", 2), ("precisions", "precision", 5), ("threads", "threads", 7), ("cold-cache", "cache", 2),
])  # fmt: skip
def test_a_suite_about_an_axis_has_its_values(name: str, axis: str, values: int) -> None:
    assert len(getattr(suite.load(name).axes, axis)) == values


@pytest.mark.parametrize(("name", "field"), [("scaling-batch", "n"), ("scaling-size", "spatial")])
def test_a_scaling_suite_varies_one_thing(name: str, field: str) -> None:
    rest = {replace(workload.spec, **{field: 1 if field == "n" else (64, 64)}) for workload in suite.load(name).workloads}
    assert len(rest) == (2 if name == "scaling-batch" else 1)


def test_deepbench_is_all_of_it() -> None:
    assert [len(suite.load(f"deepbench-{name}").workloads) for name in ("train", "inference")] == [94, 123]
    assert {cell.direction for cell in planning.cells(suite.load("deepbench-inference"), FOUND)} == {Direction.FPROP}


def test_networks_are_whole() -> None:
    by_network: dict[str, int] = {}
    for workload in suite.load("networks").workloads:
        by_network[workload.network] = by_network.get(workload.network, 0) + workload.count
    assert by_network == {"ResNet-50": 53, "VGG-19": 16, "AlexNet": 5, "GoogLeNet v3": 94, "ResNeXt-101": 104}


def test_first_is_the_example_and_four_layers_of_the_table() -> None:
    loaded = suite.load("first")
    example, *layers = loaded.workloads
    assert (example.spec.x_shape, example.spec.w_shape, example.spec.y_shape) == (
        (1, 3, 28, 28),
        (64, 3, 5, 5),
        (1, 64, 28, 28),
    )
    rows = shapes.rows((suite.shipped() / "shapes/onednn_resnet_50.csv").read_text())
    table = {(replace(row.spec, n=1), row.count) for row in rows}
    assert len(layers) == 4
    stem, *others = layers
    assert {(layer.spec, layer.count) for layer in others} <= table
    # The stem's padding is said as networks say it: one more row and column that no output reads.
    assert stem.spec.padding == ((3, 3), (3, 3))
    assert (replace(stem.spec, padding=((3, 2), (3, 2))), stem.count) in table
    cells = planning.cells(loaded, FOUND)
    assert {cell.mode for cell in cells} == {Mode.EAGER, Mode.COMPILED}
    assert {str(cell.direction) for cell in cells if cell.workload != "example"} == {"fprop", "dgrad", "wgrad"}


@pytest.mark.parametrize(
    ("device", "workloads"), [("cpu", {"gemm_1024", "gemm_2048", "copy_256mib"}), ("gpu", {"gemm_8192", "copy_1gib"})]
)
def test_ceilings_are_sized_for_their_device(device: str, workloads: set[str]) -> None:
    cells = planning.cells(suite.load("ceilings"), {name: (Device(device),) for name in FOUND})
    assert {cell.workload for cell in cells} == workloads
    assert {cell.backend for cell in cells} == {"tensorflow", "torch", "jax"}
    assert {type(cell.spec) for cell in cells} == {GemmSpec, CopySpec}
    # Every one that is asked for can be had: no cell is there to say that a backend has no such mode.
    assert {(cell.backend, cell.mode) for cell in cells} == {
        ("tensorflow", Mode.EAGER), ("torch", Mode.EAGER), ("jax", Mode.COMPILED),
    }  # fmt: skip


def test_first_measures_pytorch_both_ways_on_a_gpu_and_nothing_else() -> None:
    """TensorFlow and JAX try kernels by default, and on a CPU there is nothing to try."""
    cells = planning.cells(suite.load("first"), dict.fromkeys(FOUND, (Device("cpu"), Device("gpu"))))
    tuned = {cell for cell in cells if cell.autotune is not Autotune.DEFAULT}
    of_torch = {cell for cell in cells if (cell.backend, cell.device.kind) == ("torch", "gpu")}
    assert tuned == {replace(cell, autotune=Autotune.ON) for cell in of_torch}
    assert len(of_torch) == 2 * len(tuned)


def test_ceilings_join_first() -> None:
    alone = planning.plan(suite.load("first"), FOUND, 1)
    plan = planning.plan(suite.load("first"), FOUND, 1, suite.load("ceilings"))
    joined = [cell for cell in plan.cells if cell.direction is Direction.NONE]
    assert set(plan.cells) - set(joined) == set(alone.cells)
    assert len(joined) == 9
    assert {cell.precision for cell in joined} == {Precision.FP32}
    assert plan.budget == alone.budget


def test_first_takes_some_minutes() -> None:
    assert 120 < planning.estimate(planning.plan(suite.load("first"), FOUND, 1), 2) < 900


def test_smoke_takes_seconds() -> None:
    assert planning.estimate(planning.plan(suite.load("smoke"), FOUND, 1), 2) < 40


def test_resnet50_is_the_whole_network() -> None:
    workloads = suite.load("resnet50").workloads
    assert (len(workloads), sum(workload.count for workload in workloads)) == (20, 53)
    assert {workload.spec.n for workload in workloads} == {4}
    # ResNet-50 v1 as published: 3.86 billion multiply-adds an image, the last layer's 2 million apart.
    assert sum(flops.nominal(workload.spec) * workload.count for workload in workloads) / 4 == pytest.approx(
        2 * 3.86e9, rel=0.02
    )
