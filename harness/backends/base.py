"""The one seam: what a framework must offer to be measured. Two base classes and the arrays that cross between them.

An adapter is a Backend and its Prepared in one file. The Backend imports its framework in `__init__` only (it may be absent,
heavy or broken), answers `supports` instead of failing, and turns a Cell into a Prepared: a call that can be launched again
and again. All public names of both are those that stand here, so that a mistyped optional member cannot go unnoticed; what an
adapter keeps for itself begins with an underscore.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from harness.axes import Api, Autotune, Bias, Device, Direction, Epilogue, Mode, Precision, Switch, Values
from harness.profile import Event
from harness.spec import Cell

if TYPE_CHECKING:  # numpy must not be loaded before a worker has set the environment variables that it reads
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.floating[Any]]

T = TypeVar("T")

# How frameworks call the types that arrays have; TF32 is a way to multiply arrays of float32.
DTYPES = {
    Precision.FP64: "float64",
    Precision.FP32: "float32",
    Precision.TF32: "float32",
    Precision.BF16: "bfloat16",
    Precision.FP16: "float16",
}
LEARNING_RATE = 0.01
ADAM_BETA1, ADAM_BETA2, ADAM_EPSILON = 0.9, 0.999, 1e-8


@dataclass(frozen=True)
class Operands:
    """Host arrays in canonical layout: x [N, C, *spatial], w [K, C/g, *kernel], dy [N, K, *out_spatial], float32 or float64.

    b [K] is the bias of a cell that has one, else None. Of a matrix product x is [m, k], w is [k, n] and dy is empty; of a copy
    x is [elements], w and dy are empty.
    """

    x: Array
    w: Array
    dy: Array
    b: Array | None = None


@dataclass(frozen=True)
class Results:
    """What a call left, as float64 host arrays in canonical layout; None for what its direction does not compute.

    fprop: y. dgrad: dx of the given dy. wgrad: dw of the given dy. bprop: y, the loss mean(y^2), and its gradients dx and dw.
    train: those, and w after one step of the cell's optimizer. With a bias there is db [K] wherever dw is, and b wherever w is.
    A matrix product leaves y [m, n], a copy y [elements].
    """

    y: Array | None = None
    dx: Array | None = None
    dw: Array | None = None
    loss: float | None = None
    w: Array | None = None
    db: Array | None = None
    b: Array | None = None

    def items(self) -> dict[str, Any]:
        """What was computed, by name."""
        return {field.name: value for field in fields(self) if (value := getattr(self, field.name)) is not None}


def by_name(cell: Cell, handle: Any) -> dict[str, Any]:
    """What a call gave, by name: one array where it computes one, else as many values as the cell has outputs."""
    names = cell.outputs
    return {names[0]: handle} if len(names) == 1 else dict(zip(names, handle, strict=True))


def impossible(cell: Cell) -> str | None:
    """Why no framework can measure this cell; None where some may."""
    if cell.device.kind == "cpu" and cell.precision is Precision.TF32:
        return "TF32 is a format of NVIDIA GPUs; the CPU has none"
    if cell.device.kind == "cpu" and cell.autotune is not Autotune.DEFAULT:
        return "cuDNN and XLA try kernels on GPUs only; on the CPU there is nothing to choose but autotune=default"
    if cell.device.kind != "cpu" and cell.switch is not Switch.DEFAULT:
        return f"{cell.switch} is a switch of libraries for the CPU"
    if cell.operands is Values.DENORMAL and not cell.direction.single:
        return "denormal operands are for the single passes: the squares that bprop and train take of y would be 0"
    if cell.bias is Bias.CHANNEL and cell.direction is Direction.DGRAD:
        return "a bias changes nothing in the input gradient: measure dgrad with bias=none"
    if cell.epilogue is not Epilogue.NONE and cell.direction is not Direction.FPROP:
        return f"an epilogue belongs to the forward pass: {cell.direction} can be measured with epilogue=none only"
    if cell.api is not Api.DEFAULT and cell.epilogue is not Epilogue.NONE:
        return f"api={cell.api} can be measured with epilogue=none only"
    return None


@dataclass(frozen=True)
class Script:
    """The call of one cell as a program of its own, which needs numpy and the framework alone: lines of Python, by part.

    Around them stands the same frame for every framework (`measure.script`). It has set affinity and environment variables
    before `imports`, and has numpy as `np`, the number of threads as THREADS, and the operands as `x`, `w` and `dy`: arrays in
    canonical layout, of the values that `Operands` has. It makes and times the call as an adapter's is, by the same names.
    """

    imports: tuple[str, ...]  # the framework, and what its process is set to
    operands: tuple[str, ...]  # what brings the operands to the device
    # What defines `launch`, and for a training step `reset`, as `Prepared` has them, with nothing in the call that the adapter
    # does before it.
    call: tuple[str, ...]
    result: tuple[str, ...]  # what defines `result`: of a handle the arrays of `Results` by name, float64, in canonical layout
    op: str  # the text of `Prepared.op`
    wait: str = ""  # an expression for `Prepared.wait`; empty: ALREADY_DONE
    versions: tuple[tuple[str, str], ...] = ()  # of the framework: the name of a package, and an expression for its version


# What waits for a call that is done when `launch` returns. Known by its identity, so that the latency loop leaves it out.
ALREADY_DONE: Callable[[Any], object] = id


class Prepared(ABC):
    """A cell made ready: its operands lie where the device wants them, and its call is chosen.

    Many may stand prepared in one process and be called in turns. Making another one ready, calling it or closing it changes
    nothing in this one: neither its results, nor its program, nor, where `Backend.process_wide` says the same of both, its
    settings.

    Only `launch` and `wait` are timed. An adapter's own class inherits from this one. It sets `op`, `settings`, `launch` and
    `wait`, and it defines `load`, `fetch` and `close`; every other member is optional and has its default here.
    """

    op: str  # the framework call that is timed, as text
    settings: Mapping[str, str]  # precision, layout and tuning settings as `read_settings` told them when this was made ready
    # Starts the call and returns a handle that keeps its results alive until the next call, which may write into the same
    # buffer; it may return before the results are there.
    launch: Callable[[], Any]
    # Returns when the results behind a handle are there; what it returns means nothing. It is `ALREADY_DONE` itself where they
    # are there when `launch` returns.
    wait: Callable[[Any], object]

    # Whether the timed call does more than the named operation, as `op` then says: the gradient of a padded x, for instance,
    # which is cut to the size of x afterwards. How the operation itself is made, in a loop or by one call, is no matter.
    composite: bool = False
    device_clock: str = ""  # the clock that `device_time` reads, "CUDA events"; empty where this cell has none
    # Overwrites that many bytes of a GPU's memory and returns when that is done; cells with cold caches on a GPU need it.
    evict: Callable[[int], None] | None = None
    # What a profile reads of this cell, with versions, "oneDNN 3.12.0 verbose"; empty where nothing watches this backend.
    sources: tuple[str, ...] = ()

    @abstractmethod
    def load(self, operands: Operands) -> None:
        """Replace the operands and every state that depends on them, `launch` too; shapes and dtypes stay as they are."""

    @abstractmethod
    def fetch(self, handle: Any) -> Results:
        """The results behind a handle, on the host and in canonical layout."""

    @abstractmethod
    def close(self) -> None:
        """Let go of operands, results and compiled programs: its own alone."""

    def read_settings(self) -> Mapping[str, str]:
        """The settings as they are now. They differ from `settings` where another cell or program has changed them since."""
        return self.settings

    def reset(self) -> None:  # noqa: B027, the default is to do nothing
        """Bring back what a call changes: the filter and the optimizer's slots. The pure passes change nothing."""

    def device_memory(self) -> tuple[int, int, str] | None:
        """(bytes in use before, peak bytes) of one call, and the name of the counter; None where there is no counter."""
        return None

    def device_time(self, calls: int) -> float | None:
        """Nanoseconds that `calls` calls in a row took on the device's own clock; None where it could not be read."""
        return None

    def flops(self) -> float | None:
        """The FLOP of one call as the framework itself counts them; None where it cannot count this one."""
        return None

    def compilations(self) -> int:
        """How often anything was compiled so far, in this process or for this call; it must be cheap to ask.

        It rises in every call that compiles, and only where something is compiled: other calls in between do not matter where
        it is asked right before and after the calls in question.
        """
        return 0

    def watched(self) -> AbstractContextManager[Callable[[], Iterable[Event]]]:
        """Have what runs in this block watched. What it gives returns, once the block has ended, the events in between.

        It is entered in the child process of a profile alone, once for each cell, whose descriptor 1 is a file: what a library
        printed there through C's stdio can be read back. Times are those of `time.time_ns`.
        """
        return nullcontext(lambda: ())

    def compiled_flops(self) -> float | None:
        """The FLOP of one call of the program as it runs, after optimisation; None where no compiler tells."""
        return None

    def on_own_stack(self, run: Callable[..., T], *arguments: Any) -> T:
        """What `run(*arguments)` returns. Where a call looks at the Python frames above it, `run` gets a stack without any."""
        return run(*arguments)


@dataclass(frozen=True)
class Build:
    """What an installed framework was built to compute on, beside the CPU.

    `cuda` is the version of CUDA, `other` another vendor's devices, as in "AMD's GPUs (ROCm 7.0)"; empty: neither.
    """

    cuda: str = ""
    other: str = ""


class Backend(ABC):
    """A framework under test, on one kind of device with one number of threads, in a process of its own.

    An adapter's own class inherits from this one. What is not abstract is optional and has its default here.
    """

    name: ClassVar[str]
    distributions: ClassVar[tuple[str, ...]]  # packages whose versions identify the framework; the first one must be there
    modes: ClassVar[frozenset[Mode]]
    autotunes: ClassVar[bool] = False  # whether it can have kernels chosen as a cell says that is not at the default
    switches: ClassVar[frozenset[Switch]] = frozenset()  # those that it has beside the default
    biases: ClassVar[bool] = False  # whether its convolutions can have a bias
    epilogues: ClassVar[frozenset[Epilogue]] = frozenset()  # those that its forward passes can have beside none
    apis: ClassVar[frozenset[Api]] = frozenset()  # by which calls it can be asked beside the default

    @staticmethod
    def environ(device: Device, threads: int, cache: str = "") -> dict[str, str]:
        """Environment variables to set before the framework is imported. `threads` is a concrete number here.

        The worker has set its affinity and `OMP_NUM_THREADS`, `OPENBLAS_NUM_THREADS` and `MKL_NUM_THREADS`: what is returned is
        what else the framework reads.

        `cache` is a folder in which compilers may find and leave what they compiled, so that a later process need not compile
        it again. It holds programs of one machine and one set of packages. Without it every process compiles anew, and so it
        does where the adapter cannot show that the same program runs either way, or on a GPU.
        """
        return {}

    @staticmethod
    def profile_environ(device: Device, threads: int) -> dict[str, str]:
        """More variables that are set in the child process of a profile, and in no process that is timed."""
        return {}

    @staticmethod
    def autotuning(choice: Autotune) -> dict[str, str]:
        """Environment variables by which a GPU's kernels are chosen by trying them (on) or not (off); set after `environ`.

        Only such processes measure cells of that choice. It is asked where `autotunes`, and for the default never; what
        needs no variable is for `prepare` to see to.
        """
        return {}

    @staticmethod
    def switching(choice: Switch) -> dict[str, str]:
        """Environment variables that set a switch of `switches`; set after `environ`, and asked for the default never.

        What needs no variable is for `__init__` to see to, which finds the choice in the variable `VARIABLES["switch"]`.
        """
        return {}

    @abstractmethod
    def __init__(self, device: Device, threads: int) -> None:
        """Import the framework. It may raise anything, ImportError above all: that becomes a row."""

    @abstractmethod
    def devices(self) -> tuple[Device, ...]:
        """The devices that this framework sees, as this process was set up."""

    @abstractmethod
    def supports(self, cell: Cell) -> str | None:
        """None where the cell can be measured, else the reason in one sentence. It is asked of what is not `impossible`."""

    @abstractmethod
    def prepare(self, cell: Cell, operands: Operands) -> Prepared:
        """Operands brought to the device, in the cell's layout, and the call set up. It is called for supported cells only."""

    def process_wide(self, cell: Cell) -> str:
        """The settings of the whole process that a cell needs, as one word; it is asked without preparing the cell.

        Only cells of which this is equal may stand prepared in one process at the same time: preparing one of another answer
        changes what the others compute or how.
        """
        return cell.precision

    @staticmethod
    def script(cell: Cell) -> Script | None:
        """The call of a cell as a program of its own; None where there is none for it. It is asked without the framework."""
        return None

    @staticmethod
    def op_reason(cell: Cell) -> str:
        """Why another call is timed than the one that users of the framework make, in a sentence; empty where it is theirs.

        Where theirs does more than was asked for it says what. It is asked without the framework.
        """
        return ""

    def board(self) -> Mapping[str, str]:
        """What the framework tells of the GPU that this process measures on; empty on the CPU.

        `name` and `uuid`, which NVML's are held against where they are told, and the versions of CUDA's libraries that it was
        built for or has loaded: `CUDA`, `cuDNN`, `NCCL`.
        """
        return {}

    def build(self) -> Build | None:
        """What this framework was built for; None where it does not tell. `convbench doctor` says by it why no GPU is seen."""
        return None

    def idle_bytes(self) -> int:
        """Bytes of the GPU's memory that the framework holds for its next calls and no array uses; 0 where it does not tell."""
        return 0

    def threads_used(self) -> int | None:
        """How many threads the framework says it uses; None where it does not say."""
        return None

    def pads_beforehand(self, cell: Cell) -> bool:
        """Whether x is padded before the clock starts, since the call does not take this padding.

        The forecast of the memory that a cell needs then has the padded x. It is asked of every cell; of a matrix product or a
        copy the answer is False, and `cell.conv` raises TypeError there.
        """
        return False


def unsupported(backend: Backend, cell: Cell) -> str | None:
    """Why a backend cannot measure a cell, in one sentence; None where it can.

    An adapter is not asked about what no framework can measure.
    """
    return impossible(cell) or backend.supports(cell) or undeclared(backend, cell)


def undeclared(backend: Backend | type[Backend], cell: Cell) -> str | None:
    """Why a backend cannot measure a cell by what its class says of itself, in one sentence; None where that is no reason.

    It takes no framework: `autotunes`, `switches`, `biases`, `epilogues` and `apis` are those of the class.
    """
    if cell.autotune is not Autotune.DEFAULT and not backend.autotunes:
        return f"{backend.name} does not say how its kernels are chosen: only autotune=default can be measured"
    if cell.switch is not Switch.DEFAULT and cell.switch not in backend.switches:
        return f"{backend.name} has no switch {cell.switch} here, only: {', '.join(sorted(backend.switches)) or 'default'}"
    if cell.bias is not Bias.NONE and not backend.biases:
        return f"{backend.name} has no convolution with a bias here: only bias=none can be measured"
    if cell.epilogue is not Epilogue.NONE and cell.epilogue not in backend.epilogues:
        return f"{backend.name} has no epilogue {cell.epilogue} here, only: {', '.join(sorted(backend.epilogues)) or 'none'}"
    if cell.api is not Api.DEFAULT and cell.api not in backend.apis:
        return f"{backend.name} cannot be asked by api={cell.api}, only by: {', '.join([Api.DEFAULT, *sorted(backend.apis)])}"
    return None
