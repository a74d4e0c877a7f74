"""convbench's visits beside those of a plain loop, each cell prepared in a process of either at the same time."""

import argparse
import contextlib
import math
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from scripts.oracles import LAYERS

ORACLE = Path(__file__).resolve().parents[1] / "oracles.py"
MODES = {"torch": "eager", "tensorflow": "eager", "jax": "compiled"}
CELLS = (  # every layer, and each pass four times
    "example/fprop", "example/dgrad", "example/wgrad", "rn50_conv1/fprop", "rn50_conv1/wgrad", "rn50_res2_3x3/fprop",
    "rn50_res2_3x3/dgrad", "rn50_res4_1x1/dgrad", "rn50_res4_1x1/wgrad", "rn50_res5_3x3/wgrad", "depthwise/fprop",
    "grouped/dgrad",
)  # fmt: skip
WITHIN = 0.02  # what a ratio may be off by

Ratios = dict[str, np.ndarray]  # by framework: ours over the loop's, (pairs of processes, cells, turns)


def compare_frameworks(options: argparse.Namespace) -> list[str]:
    """Lines of Markdown: what convbench reads over what the loop reads, per framework and per cell."""
    found, times_ns = {}, {}
    for framework in options.frameworks.split(","):
        pairs = [_pair(framework, number, options.turns) for number in range(options.pairs)]
        ours, theirs = np.stack(pairs, axis=1)
        found[framework], times_ns[framework] = ours / theirs, np.nanmedian(theirs, axis=(0, 2))
    return tables(found, times_ns)


def _pair(framework: str, number: int, turns: int) -> np.ndarray:
    """What a fresh pair of processes read, in ns: (ours and the loop's, cells, turns)."""
    with tempfile.TemporaryDirectory() as logs:
        both = visited(framework, CELLS, turns, number, Path(logs))
    ratio = math.exp(np.mean(np.nanmedian(np.log(both[0] / both[1]), axis=1)))
    print(f"{framework} pair {number + 1}: {ratio:.4f}", file=sys.stderr, flush=True)
    return both


def visited(framework: str, cells: tuple[str, ...], turns: int, seed: int, logs: Path) -> np.ndarray:
    """One worker of convbench and one process of the loop, both of which have these cells prepared: what their visits read.

    In ns, (ours and the loop's, cells, turns); NaN for a visit of ours that was void.
    """
    from harness.isolate.launcher import Launcher
    from harness.plan import Budget, Plan, Step
    from harness.record import Environment

    # As in a later trial: what is read of a cell alone would only take time.
    steps = tuple(Step(1, order, cell_of(framework, cell)) for order, cell in enumerate(cells))
    plan = Plan("fidelity", steps, seed, Budget(trials=1, visits=turns))
    both = np.full((2, len(cells), turns), np.nan)
    with (
        contextlib.closing(Loop(framework, cells)) as loop,
        contextlib.closing(Launcher("fidelity", logs).execute(plan)) as answers,
    ):
        ready = next(answers)
        if not isinstance(ready, Environment):  # it could not start
            raise SystemExit(_told(ready))
        loop.wait_ready()
        for turn, order, ours, theirs in beside(plan, answers, lambda order: loop.visit(cells[order])):
            both[:, order, turn] = ours, theirs
    return both


def beside(plan: Any, answers: Iterator[Any], read: Callable[[int], float]) -> Iterator[tuple[int, int, float, float]]:
    """The turn, order of the step, ns of our visit and ns of the loop's right beside it, of all visits of a window.

    Chance says which of the two comes first: `answers` makes our next visit when it is asked for it, `read` the loop's. Before
    our very first visit everything is prepared, so that there the loop's comes after it.
    """
    from harness.isolate.windows import Window

    window, rng = Window(tuple((step,) for step in plan.steps)), random.Random(plan.seed)
    begun = False
    for turn in range(plan.budget.visits):
        for step in window.turn(turn, plan.seed):
            first = begun and rng.random() < 0.5
            theirs = read(step.order) if first else math.nan
            visit = next(answers)
            if not hasattr(visit, "place") or visit.order != step.order:  # a record, since the cell failed; or another's visit
                raise SystemExit(_told(visit))
            begun = True
            yield turn, step.order, visit_ns(visit), theirs if first else read(step.order)


def visit_ns(visit: Any) -> float:
    """The median time of a call by the samples of one visit; NaN for a void one."""
    if not visit.series:
        return math.nan
    series = visit.series[0]
    return statistics.median(series.block_ns) / series.iterations


def _told(answer: Any) -> str:
    return f"{answer.cell}: {answer.status}: {answer.reason}" if hasattr(answer, "cell") else f"not expected here: {answer}"


class Loop:
    """A fresh process of the plain loop, with its cells prepared."""

    def __init__(self, framework: str, cells: tuple[str, ...]) -> None:
        command = [sys.executable, str(ORACLE), framework, *cells]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )

    def wait_ready(self) -> None:
        """Until every cell is prepared."""
        if self._line() != "ready":
            raise SystemExit("the plain loop could not be prepared")

    def visit(self, cell: str) -> float:
        """What it reads of a call in a visit now, in ns."""
        print(cell, file=self.process.stdin, flush=True)
        return float(self._line())

    def _line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def close(self) -> None:
        """Ask the process to end, and wait for that."""
        self.process.communicate()


def cell_of(framework: str, name: str) -> Any:
    """convbench's cell of a name such as `grouped/wgrad`."""
    from harness.axes import Direction, Mode
    from harness.spec import Cell, ConvSpec

    layer, way = name.split("/")
    n, c, k, *rest, groups = LAYERS[layer]
    size, kernel, stride, pad = ((value, value) for value in rest)
    spec = ConvSpec(n, c, k, size, kernel, stride, (1, 1), (pad, pad), groups)
    return Cell(layer, spec, Direction(way), framework, Mode(MODES[framework]), threads=1)


# Tables --------------------------------------------------------------------------------------------------------------------


def by_pair(ratios: np.ndarray) -> np.ndarray:
    """The logs of the ratios of pairs of processes, (pairs, cells): of each the median over its turns."""
    found: np.ndarray = np.nanmedian(np.log(ratios), axis=2)
    return found


def tables(found: Ratios, times_ns: dict[str, np.ndarray]) -> list[str]:
    """Lines of Markdown; `times_ns` are the loop's times of the cells, by framework."""
    from harness import stats, units

    lines = [
        "| framework | mode | pairs of processes | turns | ours / plain loop, geometric mean of the cells "
        "| 95 % interval over pairs | within 2 % | cells within 2 % | cells whose interval leaves out 1 |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    cells = [
        "| framework | cell | plain loop | ours / plain loop | 95 % interval over pairs | each pair |",
        "|---|---|---|---|---|---|",
    ]
    for framework, ratios in found.items():
        logs = by_pair(ratios)
        mean, several = float(np.exp(logs.mean())), len(logs) > 1
        spread = "{:.4f} to {:.4f}".format(*stats.log_t_interval(list(np.exp(logs.mean(axis=1))))) if several else "one pair"
        each, outside = np.exp(logs.mean(axis=0)), 0
        for number, cell in enumerate(CELLS):
            of_cell = np.exp(logs[:, number])
            low, high = stats.log_t_interval(list(of_cell)) if several else (math.nan, math.nan)
            outside += low > 1 or high < 1
            told = f"{units.duration(times_ns[framework][number])} | {each[number]:.4f} | {low:.4f} to {high:.4f}"
            cells.append(f"| {framework} | {cell} | {told} | {' '.join(f'{ratio:.3f}' for ratio in of_cell)} |")
        held = "yes" if abs(mean - 1) <= WITHIN else "NO"
        close = np.count_nonzero(np.abs(each - 1) <= WITHIN)
        lines.append(
            f"| {framework} | {MODES[framework]} | {len(logs)} | {ratios.shape[2]} | **{mean:.4f}** | {spread} | {held} "
            f"| {close} of {len(CELLS)} | {outside} of {len(CELLS)} |"
        )
    return [*lines, "", *cells]
