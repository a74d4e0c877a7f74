"""In which order and with how much effort cells are measured: Budget, Step and Plan. Pure data, JSON-able through `codec`."""

import re
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field

from harness.axes import COMPETING, NO_COMPETITOR, OPTIONS, Device, Precision
from harness.spec import Cell

FIRST_VISITS = 10  # of a trial of which nothing is known yet
STAY_S = 1.0  # of a long stay; method version 11 took half of it at least, and more where that told too little


@dataclass(frozen=True)
class Budget:
    """When enough is enough. The defaults are those of docs/method.md, which says where each comes from."""

    trials: int = 4
    visits: int = 0  # of each cell in each trial; 0: as many as tell most for their time, by what was measured so far
    visit_s: float = 0.05  # what counts of a visit
    stay_s: float = 0.0  # before the visits of each trial in one stretch, as up to method version 11; 0: not at all
    prepared: int = 20  # cells that a worker holds at once
    until: float = 0.0  # further trials until every comparison is decided, or known to this share; 0: no more than `trials`
    time_s: float = 0.0  # so many seconds of trials, one after the other; 0: as many as `trials` says, or `until` asks for
    most_trials: int = 12  # however little is decided by then
    warmup_calls: int = 3
    warmup_cpu_s: float = 0.1
    warmup_gpu_s: float = 0.5  # clocks ramp up
    warmup_max_s: float = 5.0
    warmup_agreement: float = 0.05
    block_s: float = 5e-5
    throughput_block_s: float = 0.05  # calls queued together on a GPU
    throttled_s: float = 2.0  # that a cell may wait in a trial for a throttled GPU
    energy_window_s: float = 1.0  # back-to-back calls between two readings of an energy counter
    timeout_s: float = 180.0  # preparing a cell, compilation included, or one visit to it; then its worker is killed
    preparing_gpu_s: float = 600.0  # preparing a cell on a GPU, where it is more: a driver may compile the kernels of a library

    def __post_init__(self) -> None:
        for name in ("trials", "prepared", "most_trials", "warmup_calls"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; at least 1 is needed")
        for name in ("visit_s", "warmup_max_s", "block_s", "throughput_block_s", "timeout_s", "preparing_gpu_s"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be positive")
        for name in ("visits", "stay_s", "until", "time_s", "warmup_cpu_s", "warmup_gpu_s", "throttled_s", "energy_window_s"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must not be negative")

    def preparing_s(self, device: Device) -> float:
        """How long preparing a cell may take, its first call and its check included, before its worker is killed."""
        return self.timeout_s if device.kind == "cpu" else max(self.timeout_s, self.preparing_gpu_s)

    @property
    def races(self) -> bool:
        """Whether the run is looked at after each trial, to see which cells are measured further."""
        return self.until > 0 or self.time_s > 0

    @property
    def planned_trials(self) -> int:
        """How many trials are planned before anything is measured."""
        return 1 if self.time_s else self.trials


@dataclass(frozen=True)
class Step:
    """One entry of a plan: measure this cell now, in this trial. `order` counts through the whole run."""

    trial: int
    order: int
    cell: Cell


# What may differ between cells that stand next to each other in every turn, where a suite does not say.
COMPARED = ("backend", "mode", "precision", "layout", "cache", "optimizer", *OPTIONS)


@dataclass(frozen=True)
class Plan:
    """The cells of a run in the order in which they are prepared.

    `compare` are the axes along which cells are compared: those that differ in these alone are visited one after the other.
    `tuned` are the axes of which the best setting is looked for, each with the text of its value in the default setting; empty:
    those of COMPETING compete. `interpreters` are the paths of the Python interpreters of backends that have one of their own.
    `profile` is an expression of -k: convolutions whose id fits it are profiled after the last trial; empty: all, None: none.
    `absent` are the backends that are not installed, each with the command that installs it: their cells stand in the first
    trial alone, and become rows that say so.
    """

    suite: str
    steps: tuple[Step, ...]
    seed: int
    budget: Budget
    compare: tuple[str, ...] = COMPARED
    tuned: dict[str, str] = field(default_factory=dict)
    interpreters: dict[str, str] = field(default_factory=dict)
    profile: str | None = None
    absent: dict[str, str] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Step]:
        return iter(self.steps)

    def __len__(self) -> int:
        return len(self.steps)

    @property
    def cells(self) -> tuple[Cell, ...]:
        """Each cell once, in the order of the first trial."""
        return tuple(dict.fromkeys(step.cell for step in self.steps))

    @property
    def measurable(self) -> tuple[Step, ...]:
        """The steps of backends that are installed."""
        return tuple(step for step in self.steps if step.cell.backend not in self.absent)

    @property
    def profilable(self) -> tuple[Cell, ...]:
        """The convolutions that can be profiled: of what is installed, without the twins to be held against."""
        cells = dict.fromkeys(step.cell for step in self.measurable)
        return tuple(cell for cell in cells if cell.is_convolution and not re.search(NO_COMPETITOR, cell.backend))

    @property
    def stays_s(self) -> float:
        """The seconds of its long stays together."""
        return self.budget.stay_s * len(self.measurable)

    @property
    def competing(self) -> tuple[str, ...]:
        """The axes in which cells differ that compete for the least time."""
        return tuple(self.tuned) or COMPETING

    def interpreter(self, backend: str) -> str | None:
        """The path of the interpreter of a backend; None: this process's. One with a label has its own, else its adapter's."""
        return interpreter(self.interpreters, backend)

    def is_default(self, cell: Cell) -> bool:
        """Whether a cell of a tuning has the default setting, which all others are held against."""
        return bool(self.tuned) and all(str(getattr(cell, axis)) == value for axis, value in self.tuned.items())

    def group(self, cell: Cell) -> tuple[Hashable, ...]:
        """What cells have in common that are visited one after the other."""
        return tuple(getattr(cell, axis) for axis in _GROUPED if axis not in self.compare)

    def round(self, cell: Cell) -> tuple[Hashable, ...]:
        """What cells have in common whose workers are alive together."""
        return cell.device, None if "threads" in self.compare else cell.threads


def interpreter(interpreters: Mapping[str, str], backend: str) -> str | None:
    """The path that a backend has among these by its whole name, `torch@old`, else by its adapter's; None where it has none."""
    return interpreters.get(backend) or interpreters.get(backend.partition("@")[0])


def own_process(cell: Cell) -> str:
    """The settings of the process for which a cell never shares a worker, not even one after the other; empty for none.

    On a GPU those are the cells in TF32. TensorFlow keeps the plan that cuDNN was found fastest with by shape and type, and not
    by whether TF32 was allowed (`core/util/autotune_maps/conv_parameters.h`): whichever precision came first would decide how
    both are computed. What the environment of a process says of a cell (`autotune`) keeps it apart as well, by itself.
    """
    return cell.precision.value if cell.precision is Precision.TF32 and cell.device.kind != "cpu" else ""


def setting(values: Mapping[str, object]) -> str:
    """A setting as people read it, by its values on some axes: `NCHW compiled 1 thread`, `all cores NHWC`."""
    threads = {"0": "all cores", "1": "1 thread"}

    def words(axis: str, text: str) -> str:
        if axis == "threads":
            return threads.get(text, f"{text} threads")
        return f"{axis} {text}" if axis in OPTIONS else text

    return " ".join(words(axis, str(value)) for axis, value in values.items())


_GROUPED = ("workload", "direction", *COMPARED, "threads")
