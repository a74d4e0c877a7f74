"""What a cell needs, by hand and held against what is really allocated; what there is, from files of our own making."""

import gc
import subprocess
import sys
import tracemalloc
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.axes import Cache, Device, Direction, Optimizer, Precision
from harness.backends.numpy import NumpyBackend, NumpyConvolution
from harness.measure import footprint
from harness.measure.engine import Engine
from harness.measure.footprint import Look, Need, Room
from harness.plan import Budget
from harness.record import Record, Status
from harness.spec import Cell, ConvSpec, CopySpec, GemmSpec
from tests import builders
from tests.measure.scripted import step
from tests.tree import Tree

ROOT = Path(__file__).parents[2]
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


def allocated(backend: NumpyBackend, cell: Cell) -> tuple[Record, int]:
    """The record of a cell, and the most bytes of numpy's arrays that there were at once."""
    tiny = Budget(warmup_cpu_s=0, warmup_max_s=0.001, visits=1, visit_s=1e-6)
    engine = Engine(backend, tiny, 1, "run", "env")
    engine.measure(step(backend="numpy"))  # what is imported by the first cell is none of the second's
    gc.collect()
    tracemalloc.start()
    try:
        record = engine.measure(replace(step(), cell=cell))
        return record, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("precision", [Precision.FP32, Precision.FP64])
@pytest.mark.parametrize(
    ("spec", "direction"),
    [
        *[(ConvSpec.parse("n2 c32 k32 20x20 f3x3 p1x1"), direction) for direction in DIRECTIONS],
        *[(ConvSpec.parse("n4 c64 k16 32x32 f1x1"), direction) for direction in DIRECTIONS[:3]],
        (ConvSpec.parse("n2 c64 k64 16x16x4 f3x3x3 s2x2x2 p1x1x1 g64"), Direction.WGRAD),
        (ConvSpec.parse("n2 c16 k256 6000 f1"), Direction.FPROP),
        (GemmSpec(512, 512, 512), Direction.NONE),
        (CopySpec(2**22), Direction.NONE),
    ],
    ids=str,
)  # fmt: skip
def test_what_is_allocated_stays_below_it_and_is_no_small_part(spec: Any, direction: Direction, precision: Precision) -> None:
    """numpy tells tracemalloc of every array, so this sees all that the engine, the oracle and the reference hold."""
    optimizer = Optimizer.SGD if direction is Direction.TRAIN else None
    cell = of(spec, direction=direction, precision=precision, optimizer=optimizer, backend="numpy")
    record, peak = allocated(NumpyBackend(Device("cpu"), 1), cell)
    assert record.status is Status.OK, record.reason
    needed = footprint.need(cell, cores=1).host_bytes
    assert needed / 4 < peak <= needed


# Padding done beforehand --------------------------------------------------------------------------------------------------

WIDE = ConvSpec.parse("n1 c4 k4 8x8 f3x3 s64x64 p0-700x0-700")


def test_a_backend_that_pads_beforehand_needs_the_padded_x_and_its_dx_and_the_host_does_not() -> None:
    x, padded = 4 * 64, 4 * 708 * 708
    plain, found = (footprint.need(of(WIDE, direction=Direction.DGRAD), 1, prepadded) for prepadded in (False, True))
    assert found.operands == plain.operands
    assert found.kept == plain.kept == x * 4
    assert found.tensors == plain.tensors + 4 * (2 * (padded - x) + x + 2 * (padded - x))
    assert found.check == plain.check + 2 * 8 * (padded - x)
    assert found.workspace >= plain.workspace + 4 * 2 * (padded - x) - plain.workspace
    forward = footprint.need(of(WIDE), 1, True)
    assert forward.check == footprint.need(of(WIDE), 1).check


def test_of_a_gpu_uneven_padding_is_in_the_workspace_whoever_pads() -> None:
    even = replace(WIDE, padding=((350, 350), (350, 350)))
    uneven, same = (footprint.need(of(spec, device=GPU), 1) for spec in (WIDE, even))
    assert uneven.workspace - same.workspace == 4 * 4 * (708 * 708 - 64)


class Padding(NumpyBackend):
    """Pads as other adapters do: x once when it is loaded, and what is computed is the gradient of the padded x."""

    def pads_beforehand(self, cell: Cell) -> bool:
        return True

    def prepare(self, cell: Cell, operands: Any) -> Any:
        np, spec = self._np, cell.conv
        padded = replace(spec, spatial=tuple(n + lo + hi for n, (lo, hi) in zip(spec.spatial, spec.padding, strict=True)),
                         padding=((0, 0),) * spec.ndim)  # fmt: skip
        inside = (..., *(slice(lo, lo + n) for n, (lo, _) in zip(spec.spatial, spec.padding, strict=True)))

        class Padded(NumpyConvolution):
            def load(self, operands: Any) -> None:
                super().load(replace(operands, x=np.pad(operands.x, [(0, 0), (0, 0), *spec.padding])))

            def fetch(self, handle: Any) -> Any:
                results = super().fetch(handle)
                return results if results.dx is None else replace(results, dx=results.dx[inside])

        return Padded(np, replace(cell, spec=padded), operands)


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_what_a_padded_cell_takes_stays_below_its_forecast(direction: Direction) -> None:
    optimizer = Optimizer.SGD if direction is Direction.TRAIN else None
    cell = of(WIDE, direction=direction, optimizer=optimizer, backend="numpy")
    record, peak = allocated(Padding(Device("cpu"), 1), cell)
    assert record.status is Status.OK, record.reason
    unpadded, needed = (footprint.need(cell, 1, prepadded).host_bytes for prepadded in (False, True))
    assert 10 * unpadded < peak <= needed + 2**17  # Python's own objects are none of it


BESIDE = [("torch", "dgrad"), ("tensorflow", "dgrad")]
MORE = [(name, direction) for name in ("torch", "tensorflow") for direction in ("fprop", "wgrad", "bprop", "train")]


@pytest.mark.parametrize(
    ("name", "direction"), [*BESIDE, *(pytest.param(*rest, marks=pytest.mark.long) for rest in MORE)]
)  # fmt: skip
def test_what_a_framework_takes_of_the_system_for_a_padded_cell_stays_below_its_forecast(name: str, direction: str) -> None:
    pytest.importorskip(name)
    command = [sys.executable, "-m", "tests.measure.padded", name, direction]
    told = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout.splitlines()[-1]
    status, taken, forecast, *_ = told.split()
    assert status == "ok"
    assert 2**25 < int(taken) <= int(forecast)


@pytest.mark.fault("a convolution is padded beforehand by more than fits", "it is in the forecast, and the cell is skipped")
def test_a_cell_whose_padding_does_not_fit_is_skipped_before_it_is_padded() -> None:
    cell = of(ConvSpec.parse("n1 c1 k1 4x4 f3x3 s100000x100000 p0-99999x0-99999"), backend="numpy")
    tiny = Budget(warmup_cpu_s=0, visits=1, visit_s=1e-6)
    backend = Padding(Device("cpu"), 1)
    record = Engine(backend, tiny, 1, "run", "env", room=lambda: Room(2**30)).measure(replace(step(), cell=cell))
    assert record.status is Status.SKIPPED
    assert "GiB of memory" in record.reason


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
        "needs about 3.00 GiB of the GPU's memory (tensors 2.00 GiB, workspace 1.00 GiB or more); 1.00 GiB are available"
    )
    assert str(need.lacking(Room(2**30, 2**40))).startswith("needs about 5.00 GiB of memory (operands 1.00 GiB, ch")


def test_where_nobody_tells_nothing_is_skipped() -> None:
    huge = Need(operands=2**60, tensors=0, workspace=0, check=0, copies=0, on_cpu=True)
    assert huge.lacking(Room(None)) is None
    assert replace(huge, on_cpu=False, tensors=2**60).lacking(Room(None, None)) is None


def test_the_room_is_what_is_free_now_and_what_the_framework_keeps_for_itself(tmp_path: Path) -> None:
    tree, free, idle = Tree(tmp_path), [300, 100, None, 200], [0, 50, 7]
    tree.memory(MemTotal=8, MemAvailable=4)
    gpu: Any = SimpleNamespace(free_bytes=lambda: SimpleNamespace(value=free.pop(0)))
    look = Look(gpu, tmp_path, lambda: idle.pop(0))
    assert look() == Room(4096, 300)
    tree.memory(MemTotal=8, MemAvailable=2)
    assert look() == Room(2048, 150)  # what others have taken since is gone, whatever was free before
    assert look() == Room(2048, None)
    assert look() == Room(2048, 207)
    assert Look(None, tmp_path)() == Room(2048, None)


def test_a_counter_of_the_framework_that_fails_costs_no_cell(tmp_path: Path) -> None:
    def fails() -> int:
        raise RuntimeError("no such counter")

    Tree(tmp_path).memory(MemTotal=8, MemAvailable=4)
    gpu: Any = SimpleNamespace(free_bytes=lambda: SimpleNamespace(value=300))
    assert Look(gpu, tmp_path, fails)() == Room(4096, 300)
    assert Look(gpu, tmp_path, lambda: -5)() == Room(4096, 300)


def test_a_cell_with_cold_caches_needs_what_is_overwritten_on_a_gpu_as_well() -> None:
    hot, cold = (footprint.need(of(device=GPU, cache=cache), cores=1) for cache in Cache)
    assert cold.device_bytes - hot.device_bytes == 256 * 2**20
    assert cold.prepared_device_bytes == hot.prepared_device_bytes
    assert "cold caches 256 MiB" in str(cold.lacking(Room(None, 2**20)))
    assert footprint.need(of(cache=Cache.COLD), cores=1).device_bytes == 0
