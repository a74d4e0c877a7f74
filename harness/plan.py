"""In which order and with how much effort cells are measured: Budget, Step and Plan. Pure data, JSON-able through `codec`."""

from collections.abc import Iterator
from dataclasses import dataclass

from harness.spec import Cell


@dataclass(frozen=True)
class Budget:
    """When enough is enough. The defaults are those of docs/method.md, which says where each comes from."""

    trials: int = 3
    warmup_calls: int = 3
    warmup_cpu_s: float = 0.1
    warmup_gpu_s: float = 0.5  # clocks ramp up
    warmup_max_s: float = 5.0
    warmup_agreement: float = 0.05
    block_s: float = 5e-5
    throughput_block_s: float = 0.05  # calls queued together on a GPU
    min_samples: int = 30
    min_time_s: float = 0.5
    max_samples: int = 1000
    max_time_s: float = 10.0
    slow_call_s: float = 0.3  # a call longer than this is allowed slow_max_time_s, and slow_min_samples suffice
    slow_max_time_s: float = 15.0
    slow_min_samples: int = 10
    rel_half_width: float = 0.01
    replace_factor: float = 3.0  # contended blocks are replaced until the whole took this many times the caps
    discard_share: float = 0.2  # of the caps may go to waiting for a throttled GPU
    repeat_share: float = 0.25  # of the cells of a round may be measured once more, those that a flag bars
    energy_window_s: float = 1.0  # back-to-back calls between two readings of an energy counter
    timeout_s: float = 180.0  # one cell in one trial, compilation included; then its worker is killed

    def __post_init__(self) -> None:
        for name in ("trials", "warmup_calls", "min_samples", "max_samples", "slow_min_samples"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; at least 1 is needed")
        for name in (
            "warmup_max_s",
            "block_s",
            "throughput_block_s",
            "max_time_s",
            "slow_call_s",
            "slow_max_time_s",
            "rel_half_width",
            "timeout_s",
        ):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be positive")
        for name in ("warmup_cpu_s", "warmup_gpu_s", "min_time_s", "discard_share", "repeat_share", "energy_window_s"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must not be negative")
        if not self.replace_factor >= 1:
            raise ValueError(f"replace_factor is {self.replace_factor}; at least 1 is needed")


@dataclass(frozen=True)
class Step:
    """One entry of a plan: measure this cell now, in this trial. `order` counts through the whole run."""

    trial: int
    order: int
    cell: Cell


@dataclass(frozen=True)
class Plan:
    """The cells of a run in the order in which they are measured."""

    suite: str
    steps: tuple[Step, ...]
    seed: int
    budget: Budget

    def __iter__(self) -> Iterator[Step]:
        return iter(self.steps)

    def __len__(self) -> int:
        return len(self.steps)

    @property
    def cells(self) -> tuple[Cell, ...]:
        """Each cell once, in the order of the first trial."""
        return tuple(dict.fromkeys(step.cell for step in self.steps))
