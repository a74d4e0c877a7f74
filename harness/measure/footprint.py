"""How much memory a cell needs, computed from its sizes alone, and how much there is. A cell that cannot fit is not tried.

The figure is an upper bound of what the steps of the engine hold at once, but for what the libraries of a GPU take while they
try kernels. It is no estimate of what a framework takes for itself, which is measured (see `memory`). A cell is not simply
tried, since a host that runs out of memory ends a process, and not always the one that asked for it.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from harness import flops, units
from harness.axes import Cache, Direction, Precision
from harness.measure import caches, later, machine, oracle
from harness.measure.gpu import Gpu
from harness.spec import Cell

_DOUBLE = 8  # bytes of an element in the check


class Room(NamedTuple):
    """Bytes of the host's memory and of a GPU's that this process may still take; None: not told, or there is no GPU."""

    host_bytes: int | None
    device_bytes: int | None = None


class Look:
    """Tells how much room there is whenever it is called.

    `idle` gives the bytes that this process's framework holds on the GPU and no array uses (`Backend.idle_bytes`).
    """

    def __init__(self, gpu: Gpu | None = None, root: Path = machine.ROOT, idle: Callable[[], int] = lambda: 0) -> None:
        self.gpu, self.root, self.idle = gpu, root, idle

    def __call__(self) -> Room:
        """The room now. Of a GPU it is what is free, and what the framework took before and gives to its own next calls.

        What the frameworks of other workers hold is missing, though a worker by itself would have it.
        """
        free = self.gpu.free_bytes().value if self.gpu else None
        return Room(machine.memory_left(self.root), None if free is None else free + self._idle_bytes())

    def _idle_bytes(self) -> int:
        try:
            return max(0, self.idle())
        except Exception:  # a counter of the framework, whose failure must not cost a cell
            return 0


@dataclass(frozen=True)
class Need:
    """The bytes that a cell needs at the most, by what they are needed for.

    The call and the check come one after the other, so that only the larger of the two counts.
    """

    operands: int  # host arrays that the operands are drawn into
    tensors: int  # what the framework holds on the cell's device
    workspace: int  # what a call may take beside the tensors; of a GPU no upper bound, see `_workspace`
    check: int  # what the check takes on the host
    copies: int  # what the check takes on a GPU
    on_cpu: bool
    kept: int = 0  # the first result on the host, which later ones are compared with
    evicted: int = 0  # of a GPU: what is overwritten before each call of a cell with cold caches

    @property
    def host_bytes(self) -> int:
        """The bytes on the host, which is also the device where the cell runs on the CPU."""
        return self.operands + self.kept + (self.tensors + max(self.workspace, self.check) if self.on_cpu else self.check)

    @property
    def device_bytes(self) -> int:
        """The bytes on a GPU."""
        return 0 if self.on_cpu else self.tensors + max(self.workspace, self.copies) + self.evicted

    @property
    def prepared_host_bytes(self) -> int:
        """Those of the host's that it holds as long as it is prepared."""
        return self.kept + (self.tensors if self.on_cpu else 0)

    @property
    def prepared_device_bytes(self) -> int:
        """Those of a GPU that it holds as long as it is prepared."""
        return 0 if self.on_cpu else self.tensors

    def lacking(self, room: Room) -> str | None:
        """Why the cell does not fit into the room, with the figures; None where it fits, or where the room is not known."""
        held = f"operands {units.size(self.operands)}, " + (f"first result {units.size(self.kept)}, " if self.kept else "")
        tensors = f"tensors {units.size(self.tensors)}, "
        check = f"check {units.size(self.check)}"
        workspace = f"workspace {units.size(self.workspace)}"
        if room.host_bytes is not None and self.host_bytes > room.host_bytes:
            parts = held + (tensors + max((self.check, check), (self.workspace, workspace))[1] if self.on_cpu else check)
            return _told(self.host_bytes, "memory", parts, room.host_bytes)
        if room.device_bytes is not None and self.device_bytes > room.device_bytes:
            copies = f"check {units.size(self.copies)}"
            parts = tensors + max((self.copies, copies), (self.workspace, f"{workspace} or more"))[1]
            parts += f", cold caches {units.size(self.evicted)}" if self.evicted else ""
            return _told(self.device_bytes, "the GPU's memory", parts, room.device_bytes)
        return None


def _told(needed: int, what: str, parts: str, available: int) -> str:
    return f"needs about {units.size(needed)} of {what} ({parts}); {units.size(available)} are available"


def need(cell: Cell, cores: int, prepadded: bool = False) -> Need:
    """What a cell needs at the most on so many cores. It follows the steps of `engine` and `oracle`: change them together.

    `prepadded`: the backend pads x before the call (see `Backend.pads_beforehand`), so that x has its padding's size on the
    device, and so has the dx that is computed of it.
    """
    x, w, dy, *b = (math.prod(shape) for shape in cell.operand_shapes.values())
    elements, size = x + w + dy + sum(b), cell.precision.itemsize
    margin = cell.spec.padding_elements
    padding = margin if prepadded else 0
    placed = elements + padding
    result_bytes = flops.result_bytes(cell) + (padding * size if cell.direction in _COMPUTE_DX else 0)
    doubles = _DOUBLE * (result_bytes // size)
    on_cpu = cell.device.kind == "cpu"
    sets = 2 if oracle.asks_exact(cell) else 1  # the timed operands, and integers beside them
    # The check holds the result as it was fetched and in canonical order, the operands, and three arrays of the reference: by
    # group, by tap of the filter, and multiplied. Each of these is as large as x or dy, or as both where both are operands.
    check = 2 * doubles
    if cell.spec.computes:  # a copy is compared piece by piece
        check += _DOUBLE * elements
    if cell.is_convolution:
        check += 3 * _DOUBLE * (max(x, dy) if cell.direction in (Direction.FPROP, Direction.DGRAD) else x + dy)
    # cuDNN only takes the same padding on both sides. For any other XLA and TensorFlow pad x within the call.
    within = margin if not on_cpu and not prepadded and margin and not cell.spec.pads_evenly else 0
    return Need(
        operands=sets * elements * (8 if cell.precision is Precision.FP64 else 4),
        # The operands, once more while they change their place or order, x before it was padded, and the results of two calls.
        tensors=2 * placed * size + (x * size if prepadded else 0) + 2 * result_bytes,
        workspace=_workspace(cell, cores, (placed + within) * size + result_bytes),
        check=check,
        copies=doubles,
        on_cpu=on_cpu,
        kept=later.kept_bytes(cell),
        evicted=caches.GPU_BYTES if cell.cache is Cache.COLD and not on_cpu else 0,
    )


_COMPUTE_DX = (Direction.DGRAD, Direction.BPROP, Direction.TRAIN)


def _workspace(cell: Cell, cores: int, blocked: int) -> int:
    """Bytes that one call may take beside its operands and results, which are `blocked` bytes.

    A library may hold operands and results once more in an order of its own, as oneDNN's blocked layouts. On the CPU it may
    instead unfold the images (im2col), and the larger of the two counts: one image for each core, as TensorFlow's gradients do,
    or the whole batch, as PyTorch does where oneDNN may have no kernel. bprop and train also hold the arrays of the loss, each
    as large as y. On a GPU this is no upper bound: while cuDNN and XLA try kernels they may take several times as much, for
    workspaces and for copies of the result with guards around them.
    """
    if cell.device.kind != "cpu" or not cell.is_convolution:
        return blocked
    spec, size = cell.spec, cell.precision.itemsize
    images = min(spec.images, cores) if cell.precision is Precision.FP32 else spec.images
    unfolded = spec.unfolded_elements(images) * size
    kept = 3 * math.prod(cell.operand_shapes["dy"]) * size if cell.direction in (Direction.BPROP, Direction.TRAIN) else 0
    return max(blocked, unfolded) + kept
