"""What a cell needs, by hand and held against what is really allocated; what there is, from files of our own making."""

import gc
import tracemalloc
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.backends.numpy import NumpyBackend
from harness.measure import footprint
from harness.measure.engine import Engine
from harness.measure.footprint import Look, Need, Room
from harness.record import Status
from harness.spec import Budget, Cell, ConvSpec, CopySpec, Device, Direction, GemmSpec, Optimizer, Precision
from tests import builders
from tests.measure.scripted import step
from tests.tree import Tree

GPU = Device("gpu")
DIRECTIONS = [direction for direction in Direction if direction is not Direction.NONE]


def of(spec: Any = builders.CONV, **axes: Any) -> Cell:
    direction = Direction.FPROP if isinstance(spec, ConvSpec) else Direction.NONE
    return builders.cell(**{"spec": spec, "direction": direction, **axes})


# What is needed -----------------------------------------------------------------------------------------------------------


def test_the_parts_of_a_small_convolution_by_hand() -> None:
    # x has 16 elements, w 18, y 32: 66 together. Unfolded, 9 taps at 16 positions.
    found = footprint.need(of(), cores=2)
    assert found.operands == 2 * 66 * 4
    assert found.tensors == 2 * 66 * 4 + 2 * 32 * 4
    assert found.workspace == 9 * 16 * 4
    assert found.check == 2 * 32 * 8 + 66 * 8 + 3 * 32 * 8
    assert found.kept == 32 * 4
    assert found.host_bytes == found.operands + found.kept + found.tensors + found.check
    assert found.device_bytes == 0


def test_a_gpu_has_its_tensors_of_its_own_and_the_host_the_check() -> None:
    found = footprint.need(of(device=GPU), cores=2)
    assert found.host_bytes == found.operands + found.kept + found.check
    assert found.workspace == 66 * 4 + 32 * 4
    assert found.device_bytes == found.tensors + found.workspace


def test_images_are_unfolded_one_per_core_or_all_where_there_may_be_no_kernel() -> None:
    wide = ConvSpec(8, 4, 4, (32, 32), (7, 7), (1, 1), (1, 1), ((3, 3), (3, 3)))
    image = 4 * 49 * 32 * 32
    assert footprint.need(of(wide), cores=2).workspace == 2 * image * 4
    assert footprint.need(of(wide), cores=64).workspace == 8 * image * 4
    assert footprint.need(of(wide, precision=Precision.FP64), cores=2).workspace == 8 * image * 8
    assert footprint.need(of(wide, precision=Precision.BF16), cores=2).workspace == 8 * image * 2


def test_the_directions_that_are_asked_one_question_draw_operands_once() -> None:
    both = footprint.need(of(direction=Direction.TRAIN, optimizer=Optimizer.SGD), cores=1)
    assert both.operands == footprint.need(of(), cores=1).operands / 2
    assert both.check > footprint.need(of(), cores=1).check


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.FP64])
@pytest.mark.parametrize(
    ("spec", "direction"),
    [
        *[(ConvSpec.parse("n4 c32 k32 28x28 f3x3 p1x1"), direction) for direction in DIRECTIONS],
        *[(ConvSpec.parse("n4 c64 k16 32x32 f1x1"), direction) for direction in DIRECTIONS[:3]],
        (ConvSpec.parse("n2 c64 k64 16x16x4 f3x3x3 s2x2x2 p1x1x1 g64"), Direction.WGRAD),
        (ConvSpec.parse("n2 c16 k256 60000 f1"), Direction.FPROP),
        (GemmSpec(512, 512, 512), Direction.NONE),
        (CopySpec(2**22), Direction.NONE),
    ],
    ids=str,
)  # fmt: skip
def test_what_is_allocated_stays_below_it_and_is_no_small_part(spec: Any, direction: Direction, precision: Precision) -> None:
    """numpy tells tracemalloc of every array, so this sees all that the engine, the oracle and the reference hold."""
    optimizer = Optimizer.SGD if direction is Direction.TRAIN else None
    cell = of(spec, direction=direction, precision=precision, optimizer=optimizer, backend="numpy")
    tiny = Budget(warmup_cpu_s=0, warmup_max_s=0.001, min_samples=1, min_time_s=0, max_samples=1, max_time_s=0.001)
    engine = Engine(NumpyBackend(Device("cpu"), 1), tiny, 1, "run", "env")
    engine.measure(step(backend="numpy"))  # what is imported by the first cell is none of the second's
    gc.collect()
    tracemalloc.start()
    try:
        record = engine.measure(replace(step(), cell=cell))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert record.status is Status.OK, record.reason
    needed = footprint.need(cell, cores=1).host_bytes
    assert needed / 4 < peak <= needed


# What there is ------------------------------------------------------------------------------------------------------------


def test_what_fits_exactly_fits_and_a_byte_less_is_told_with_its_figures() -> None:
    need = Need(operands=2**30, tensors=2**31, workspace=2**30, check=2**32, copies=0, on_cpu=True)
    assert need.host_bytes == 7 * 2**30
    assert need.lacking(Room(7 * 2**30)) is None
    assert need.lacking(Room(7 * 2**30 - 1)) == (
        "needs about 7.00 GiB of memory (operands 1.00 GiB, tensors 2.00 GiB, check 4.00 GiB); 7.00 GiB are available"
    )
    larger = replace(need, workspace=2**33)
    assert "(operands 1.00 GiB, tensors 2.00 GiB, workspace 8.00 GiB); 5.00 GiB are" in str(larger.lacking(Room(5 * 2**30)))


def test_a_gpu_is_asked_for_its_own_memory_and_the_host_for_its() -> None:
    need = Need(operands=2**30, tensors=2**31, workspace=2**30, check=2**32, copies=2**29, on_cpu=False)
    assert need.lacking(Room(5 * 2**30, 3 * 2**30)) is None
    assert str(need.lacking(Room(5 * 2**30, 2**30))) == (
        "needs about 3.00 GiB of the GPU's memory (tensors 2.00 GiB, workspace 1.00 GiB); 1.00 GiB are available"
    )
    assert str(need.lacking(Room(2**30, 2**40))).startswith("needs about 5.00 GiB of memory (operands 1.00 GiB, ch")


def test_where_nobody_tells_nothing_is_skipped() -> None:
    huge = Need(operands=2**60, tensors=0, workspace=0, check=0, copies=0, on_cpu=True)
    assert huge.lacking(Room(None)) is None
    assert replace(huge, on_cpu=False, tensors=2**60).lacking(Room(None, None)) is None


def test_the_room_is_what_the_machine_has_now_and_a_gpu_had_at_most(tmp_path: Path) -> None:
    tree, free = Tree(tmp_path), [100, 300, None, 200]
    tree.memory(MemTotal=8, MemAvailable=4)
    gpu: Any = SimpleNamespace(free_bytes=lambda: SimpleNamespace(value=free.pop(0)))
    look = Look(gpu, tmp_path)
    assert look() == Room(4096, 300)
    tree.memory(MemTotal=8, MemAvailable=2)
    assert look() == look() == Room(2048, 300)
    assert Look(None, tmp_path)() == Room(2048, None)
