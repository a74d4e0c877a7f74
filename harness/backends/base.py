"""The one seam: what a framework must offer to be measured. Two protocols and the arrays that cross them.

An adapter is one class in one file. It imports its framework in `__init__` only (it may be absent, heavy or broken),
answers `supports` instead of failing, and turns a Cell into a Prepared: a call that can be launched again and again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from harness.spec import Cell, Device, Mode

if TYPE_CHECKING:  # numpy must not be loaded before a worker has set the environment variables that it reads
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.floating[Any]]

LEARNING_RATE = 0.01
ADAM_BETA1, ADAM_BETA2, ADAM_EPSILON = 0.9, 0.999, 1e-8


@dataclass(frozen=True)
class Operands:
    """Host arrays in canonical layout: x [N, C, *spatial], w [K, C/g, *kernel], dy [N, K, *out_spatial], float32 or float64.

    Of a matrix product x is [m, k], w is [k, n] and dy is empty; of a copy x is [elements], w and dy are empty.
    """

    x: Array
    w: Array
    dy: Array


@dataclass(frozen=True)
class Results:
    """What a call left, as float64 host arrays in canonical layout; None for what its direction does not compute.

    fprop: y. dgrad: dx. wgrad: dw. bprop: y, loss, dx, dw. train: those and w, the filter after the optimizer's step.
    A matrix product leaves y [m, n], a copy y [elements].
    """

    y: Array | None = None
    dx: Array | None = None
    dw: Array | None = None
    loss: float | None = None
    w: Array | None = None

    def items(self) -> dict[str, Any]:
        """What was computed, by name."""
        return {field.name: value for field in fields(self) if (value := getattr(self, field.name)) is not None}


# What waits for a call that is done when `launch` returns. Known by its identity, so that the latency loop leaves it out.
ALREADY_DONE: Callable[[Any], object] = id


class Prepared(Protocol):
    """A cell made ready: operands where the device wants them, the call chosen. Only `launch` and `wait` are timed."""

    op: str  # the framework call that is timed, as text
    settings: Mapping[str, str]  # precision, layout and tuning settings as the framework reports them

    def load(self, operands: Operands) -> None:
        """Replace the operands and every state that depends on them, `launch` too; shapes and dtypes stay."""

    def reset(self) -> None:
        """Bring back what a call changes (the filter and the optimizer's slots); nothing for the pure passes."""

    def launch(self) -> Any:
        """Start the call and return a handle that keeps its results alive; it may return before they are there."""

    def wait(self, handle: Any) -> object:
        """Return when the results behind `handle` are there; what is returned means nothing.

        It is `ALREADY_DONE` itself where they are there when `launch` returns.
        """

    def fetch(self, handle: Any) -> Results:
        """The results on the host, in canonical layout."""

    def close(self) -> None:
        """Let go of operands and results."""


class HasDeviceMemory(Protocol):
    """Optional for a Prepared: the framework tells the peak of device memory."""

    def device_memory(self) -> tuple[int, int, str] | None:
        """(bytes in use before, peak bytes) of one call, and the name of the counter; None where there is none."""


class HasFlops(Protocol):
    """Optional for a Prepared: the framework counts FLOP itself."""

    def flops(self) -> float | None:
        """The framework's own count for one call; None where it cannot count this one."""


class HasDeviceTime(Protocol):
    """Optional for a Prepared: the framework has a clock on the device."""

    device_clock: str  # what that clock is: "CUDA events", "XLA's profiler"; empty where this cell has none

    def device_time(self, calls: int) -> float | None:
        """Nanoseconds that `calls` back-to-back calls took on the device's own clock; None where it could not be read."""


class HasCompilations(Protocol):
    """Optional for a Prepared: the framework tells when it compiles."""

    def compilations(self) -> int:
        """How often anything was compiled in this process so far; cheap to ask."""


class IsComposite(Protocol):
    """Optional for a Prepared: whether the call does more than the named operation, as `op` then says."""

    composite: bool


class HasStack(Protocol):
    """Optional for a Prepared: a call may look at the Python frames above it, and takes longer then the more there are."""

    def on_own_stack(self, run: Callable[..., Any], *arguments: Any) -> Any:
        """What `run(*arguments)` returns, with no frames above it, however deep this program is."""


def on_stack_of(prepared: Prepared) -> Callable[..., Any]:
    """What calls a function on the stack that the prepared cell has for it; on this one where it has none."""
    return getattr(prepared, "on_own_stack", lambda run, *arguments: run(*arguments))


class PadsBeforehand(Protocol):
    """Optional for a Backend: a call may not take every padding, and x is padded before the clock starts."""

    def pads_beforehand(self, cell: Cell) -> bool:
        """Whether this cell's x is: the padded one is then in the memory forecast."""


class HasEviction(Protocol):
    """Optional for a Prepared on a GPU: needed for cells with cold caches."""

    def evict(self, nbytes: int) -> None:
        """Overwrite that many bytes of device memory, and wait until it is done."""


class Backend(Protocol):
    """A framework under test, on one kind of device with one number of threads, in a process of its own.

    The constructor takes (device, threads) and may raise anything, ImportError above all: that becomes a row.
    """

    name: ClassVar[str]
    distributions: ClassVar[tuple[str, ...]]  # packages whose versions identify the framework; the first one must be there
    modes: ClassVar[frozenset[Mode]]

    @staticmethod
    def environ(device: Device, threads: int) -> dict[str, str]:
        """Environment variables to set before the framework is imported. `threads` is a concrete number here."""

    def __init__(self, device: Device, threads: int) -> None: ...

    def devices(self) -> tuple[Device, ...]:
        """The devices that this framework sees, as this process was set up."""

    def threads_used(self) -> int | None:
        """How many threads the framework says it uses; None where it does not say."""

    def supports(self, cell: Cell) -> str | None:
        """None where the cell can be measured, else the reason in one sentence."""

    def prepare(self, cell: Cell, operands: Operands) -> Prepared:
        """Operands brought to the device and the call set up. Called for supported cells only."""
