"""How much memory a cell needs, from its sizes alone, and how much there is: what cannot fit is not tried.

An upper bound of what the steps of the engine hold at once, not an estimate of what a framework takes for itself: that is
measured (see `memory`). What runs out on a host ends a process, and not always the one that asked.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from harness import flops, units
from harness.measure import later, machine, oracle
from harness.measure.gpu import Gpu
from harness.measure.operands import operand_shapes
from harness.spec import Cell, ConvSpec, CopySpec, Direction, Precision

_DOUBLE = 8  # bytes of an element in the check


class Room(NamedTuple):
    """Bytes that this process may still take of the host's memory and of its GPU's; None: not told, or no GPU."""

    host_bytes: int | None
    device_bytes: int | None = None


class Look:
    """Asks how much room there is, now and again."""

    def __init__(self, gpu: Gpu | None = None, root: Path = machine.ROOT) -> None:
        self.gpu, self.root = gpu, root
        self.device_bytes: int | None = None
        self()

    def __call__(self) -> Room:
        """The room now. Of a GPU the most that was ever free since this began.

        Frameworks keep what they took on a GPU for their next call, and containers do not tell what of it is this
        process's. So what others took meanwhile is not seen; there a call fails by itself, and harms nobody.
        """
        free = self.gpu.free_bytes().value if self.gpu else None
        if free is not None:
            self.device_bytes = max(free, self.device_bytes or 0)
        return Room(machine.memory_left(self.root), self.device_bytes)


@dataclass(frozen=True)
class Need:
    """Bytes that a cell needs at the most, by what for.

    `operands`: host arrays that the operands are drawn into. `kept`: the first result on the host, which later ones are held
    against. `tensors`: what the framework holds on the cell's device.
    `workspace`: what a call may take beside. `check`: of the check, on the host; `copies`: of the check, on a GPU.
    Call and check come one after the other, so the larger counts.
    """

    operands: int
    tensors: int
    workspace: int
    check: int
    copies: int
    on_cpu: bool
    kept: int = 0

    @property
    def host_bytes(self) -> int:
        """On the host, which is the device too where the cell runs on the CPU."""
        return self.operands + self.kept + (self.tensors + max(self.workspace, self.check) if self.on_cpu else self.check)

    @property
    def device_bytes(self) -> int:
        """On a GPU."""
        return 0 if self.on_cpu else self.tensors + max(self.workspace, self.copies)

    def lacking(self, room: Room) -> str | None:
        """Why it does not fit, with the figures; None where it does, or where nobody tells how much there is."""
        held = f"operands {units.size(self.operands)}, " + (f"first result {units.size(self.kept)}, " if self.kept else "")
        tensors = f"tensors {units.size(self.tensors)}, "
        check = f"check {units.size(self.check)}"
        workspace = f"workspace {units.size(self.workspace)}"
        if room.host_bytes is not None and self.host_bytes > room.host_bytes:
            parts = held + (tensors + max((self.check, check), (self.workspace, workspace))[1] if self.on_cpu else check)
            return _told(self.host_bytes, "memory", parts, room.host_bytes)
        if room.device_bytes is not None and self.device_bytes > room.device_bytes:
            copies = f"check {units.size(self.copies)}"
            parts = tensors + max((self.copies, copies), (self.workspace, workspace))[1]
            return _told(self.device_bytes, "the GPU's memory", parts, room.device_bytes)
        return None


def _told(needed: int, what: str, parts: str, available: int) -> str:
    return f"needs about {units.size(needed)} of {what} ({parts}); {units.size(available)} are available"


def need(cell: Cell, cores: int, prepadded: bool = False) -> Need:
    """What a cell needs at the most on this many cores. Follows the steps of `engine` and `oracle`; change them together.

    `prepadded`: the backend pads x before the call (see `Backend.pads_beforehand`), so that x has its padding's size on the
    device, and so has the dx that is computed of it.
    """
    x, w, dy = (math.prod(shape) for shape in operand_shapes(cell))
    elements, size = x + w + dy, cell.precision.itemsize
    margin = _padding(cell)
    padding = margin if prepadded else 0
    placed = elements + padding
    result_bytes = flops.result_bytes(cell) + (padding * size if cell.direction in _COMPUTE_DX else 0)
    doubles = _DOUBLE * (result_bytes // size)
    on_cpu = cell.device.kind == "cpu"
    sets = 2 if oracle.asks_exact(cell) else 1  # the timed operands, and integers beside them
    # The check: the result as it was fetched and in canonical order, the operands, and three arrays of the reference, by
    # group, by tap of the filter, and multiplied: as large as x or dy, as both where both are operands.
    check = 2 * doubles
    if not isinstance(cell.spec, CopySpec):  # which is compared piece by piece
        check += _DOUBLE * elements
    if isinstance(cell.spec, ConvSpec):
        check += 3 * _DOUBLE * (max(x, dy) if cell.direction in (Direction.FPROP, Direction.DGRAD) else x + dy)
    # cuDNN takes the same padding on both sides only: for any other XLA and TensorFlow pad in the call.
    within = margin if not on_cpu and not prepadded and margin and not cell.conv.symmetric else 0
    return Need(
        operands=sets * elements * (8 if cell.precision is Precision.FP64 else 4),
        # Operands, the same once more while they change places or order, x as it was before it is padded, two calls' results.
        tensors=2 * placed * size + (x * size if prepadded else 0) + 2 * result_bytes,
        workspace=_workspace(cell, cores, (placed + within) * size + result_bytes),
        check=check,
        copies=doubles,
        on_cpu=on_cpu,
        kept=later.kept_bytes(cell),
    )


_COMPUTE_DX = (Direction.DGRAD, Direction.BPROP, Direction.TRAIN)


def _padding(cell: Cell) -> int:
    """Elements of the padding around x."""
    if not isinstance(cell.spec, ConvSpec):
        return 0
    spec, sides = cell.spec, zip(cell.spec.spatial, cell.spec.padding, strict=True)
    padded = spec.n * spec.c * math.prod(size + low + high for size, (low, high) in sides)
    return padded - math.prod(spec.x_shape)


def _workspace(cell: Cell, cores: int, blocked: int) -> int:
    """Bytes that one call may take beside operands and results, which are `blocked` bytes.

    Operands and results once more, in an order of the library's own (oneDNN's blocked ones). On the CPU the images unfolded
    (im2col) instead, where that is more: one per core, as TensorFlow's gradients do it; all at once where oneDNN may have no
    kernel, which PyTorch unfolds whole batches for. bprop and train hold the loss's own arrays too, each as large as y.
    """
    if cell.device.kind != "cpu" or not isinstance(cell.spec, ConvSpec):
        return blocked
    spec, size = cell.spec, cell.precision.itemsize
    images = min(spec.n, cores) if cell.precision is Precision.FP32 else spec.n
    unfolded = images * spec.c * math.prod(spec.kernel) * math.prod(spec.out_spatial) * size
    kept = 3 * math.prod(spec.y_shape) * size if cell.direction in (Direction.BPROP, Direction.TRAIN) else 0
    return max(blocked, unfolded) + kept
