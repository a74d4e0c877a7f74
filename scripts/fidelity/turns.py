"""One turn: every cell measured by convbench and by other tools, each by fresh processes."""

import contextlib
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scripts.oracles import LAYERS, PASSES

ROOT = Path(__file__).resolve().parents[2]
ORACLES = ROOT / "scripts" / "oracles.py"
MODES = {"torch": "eager", "tensorflow": "eager", "jax": "compiled"}
IN_PROCESS = {
    "torch": ("plain loop", "torch.utils.benchmark"),
    "tensorflow": ("plain loop",),
    "jax": ("plain loop",),
}  # the first is the oracle
OUTSIDE = ("pytest-benchmark", "pyperf")
CELLS = tuple(f"{layer}/{direction}" for layer in LAYERS for direction in PASSES)


@dataclass
class Turn:
    """What was read of every cell in one turn: convbench's records, and ns and seconds by tool and cell."""

    framework: str
    busy: bool
    records: dict[str, Any] = field(default_factory=dict)
    read_ns: dict[str, dict[str, float]] = field(default_factory=lambda: defaultdict(dict))
    wall_s: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    def flags(self, cell: str) -> tuple[str, ...]:
        """The flags of convbench's figure that bar a verdict: stored ones and those that the samples show."""
        return tuple(str(flag) for flag in _all_flags(self.records[cell]) if flag.bars_verdict)


@contextlib.contextmanager
def busy_processes(count: int, cores: set[int]) -> Iterator[None]:
    """As many processes that do nothing but spin, on any of these cores."""
    spin = [sys.executable, "-c", f"import os; os.sched_setaffinity(0, {cores or {0}})\nwhile True: pass"]
    processes = [subprocess.Popen(spin) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def one_turn(framework: str, turn: int, settled: bool, busy: int, with_pytest: bool, with_pyperf: bool) -> Turn:
    """Every cell in random order, each by fresh processes. `busy` processes spin beside them."""
    rng, found = random.Random(turn), Turn(framework, bool(busy))
    with tempfile.TemporaryDirectory() as logs:
        for cell in rng.sample(CELLS, len(CELLS)):
            tools = rng.sample(IN_PROCESS[framework], len(IN_PROCESS[framework]))
            one_cell(found, cell, turn, tools, settled, busy, Path(logs))
    with busy_processes(busy, os.sched_getaffinity(0)), tempfile.TemporaryDirectory() as folder:
        if with_pytest:
            _outside(found, "pytest-benchmark", Path(folder) / "pytest.json")
        if with_pyperf:
            _outside(found, "pyperf", Path(folder) / "pyperf.json")
    return found


def one_cell(found: Turn, cell: str, seed: int, tools: Sequence[str], settled: bool, busy: int, logs: Path) -> None:
    """A fresh worker of convbench measures one cell, and a fresh process of the other tools before and after it.

    So neither has the quieter half of a change of speed. Both start at the same time; nothing is measured while they do.
    """
    from harness.isolate.launcher import Launcher
    from harness.plan import Budget, Plan, Step
    from harness.record import Record

    plan = Plan("fidelity", (Step(0, 0, cell_of(found.framework, cell)),), seed, Budget(trials=1))
    with (
        contextlib.closing(OtherTools(found.framework, cell, settled)) as other,
        contextlib.closing(Launcher("fidelity", logs).execute(plan)) as answers,
    ):
        ready = next(answers)  # the worker's environment
        if isinstance(ready, Record):  # instead of one: it could not start
            raise SystemExit(f"{ready.cell}: {ready.status}: {ready.reason}")
        other.wait_ready()

        def measured() -> None:
            begun = time.perf_counter()
            record = next(answer for answer in answers if isinstance(answer, Record))  # after its visits
            found.wall_s["convbench"] += time.perf_counter() - begun
            found.records[cell], found.read_ns["convbench"][cell] = record, median_ns(record)

        with busy_processes(busy, os.sched_getaffinity(0)):
            both = bracketed(tools, other.read, measured)
    for tool, (ns, seconds) in both.items():
        found.read_ns[tool][cell] = ns
        found.wall_s[tool] += seconds
    told = (f"{found.read_ns['convbench'][cell] / ns:.3f} of {tool}" for tool, (ns, _) in both.items())
    print(f"{cell} {found.read_ns['convbench'][cell] / 1e6:.4f} ms, {', '.join(told)}", file=sys.stderr, flush=True)


def cell_of(framework: str, name: str) -> Any:
    """convbench's cell of a name such as `grouped/wgrad`."""
    from harness.axes import Direction, Mode
    from harness.spec import Cell, ConvSpec

    layer, way = name.split("/")
    n, c, k, *rest, groups = LAYERS[layer]
    size, kernel, stride, pad = ((value, value) for value in rest)
    spec = ConvSpec(n, c, k, size, kernel, stride, (1, 1), (pad, pad), groups)
    return Cell(layer, spec, Direction(way), framework, Mode(MODES[framework]), threads=1)


class OtherTools:
    """A fresh process that measures one cell with the other tools, whichever it is asked for."""

    def __init__(self, framework: str, cell: str, settled: bool) -> None:
        child = [sys.executable, str(ORACLES), "serve", framework, *(["--default-allocator"] if not settled else [])]
        self.process = subprocess.Popen(
            child, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self.cell = cell

    def wait_ready(self) -> None:
        """Until the framework is imported."""
        assert self.process.stdout is not None
        self.process.stdout.readline()

    def read(self, tool: str) -> tuple[float, float]:
        """The tool's median in ns, and the seconds that it took."""
        assert self.process.stdout is not None
        print(f"{tool}\t{self.cell}", file=self.process.stdin, flush=True)
        median, seconds = map(float, self.process.stdout.readline().split())
        return median, seconds

    def close(self) -> None:
        """Ask the process to end, and wait for that."""
        self.process.communicate()


def bracketed(
    tools: Sequence[str], read: Callable[[str], tuple[float, float]], between: Callable[[], None]
) -> dict[str, tuple[float, float]]:
    """What `read` says of each tool, in ns and seconds, before `between` and after it in the opposite order.

    The geometric mean of the two readings counts, and the mean of the seconds, since one reading is what the tool would take.
    """
    before = {tool: read(tool) for tool in tools}
    between()
    after = {tool: read(tool) for tool in reversed(tools)}
    both = {tool: zip(before[tool], after[tool], strict=True) for tool in tools}
    return {tool: (statistics.geometric_mean(ns), statistics.mean(seconds)) for tool, (ns, seconds) in both.items()}


def _outside(found: Turn, tool: str, path: Path) -> None:
    """The medians of a tool that starts processes of its own, into `found`."""
    environ = os.environ | {"ORACLE_CELLS": ",".join(CELLS), "ORACLE_FRAMEWORK": found.framework}
    command = {
        "pytest-benchmark": ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", os.devnull, "--rootdir", str(path.parent),
                             "--benchmark-min-time=0.0001", f"--benchmark-json={path}", str(ORACLES)],
        "pyperf": [str(ORACLES), "pyperf", found.framework, "--quiet", "--inherit-environ", ",".join(environ), "-o", str(path)],
    }[tool]  # fmt: skip
    begun = time.perf_counter()
    done = subprocess.run([sys.executable, *command], env=environ, capture_output=True, text=True, check=False)
    found.wall_s[tool] += time.perf_counter() - begun
    if not path.exists():
        raise SystemExit(f"{tool} on {found.framework} failed: {(done.stdout + done.stderr)[-2000:]}")
    data = json.loads(path.read_text())
    for benchmark in data["benchmarks"]:
        if tool == "pytest-benchmark":
            found.read_ns[tool][benchmark["params"]["cell"]] = benchmark["stats"]["median"] * 1e9
        else:
            name = benchmark.get("metadata", data["metadata"]).get("name", data["metadata"].get("name"))
            values = [value for run in benchmark["runs"] for value in run.get("values", ())]
            found.read_ns[tool][name] = statistics.median(values) * 1e9


def _trial(record: Any) -> Any:
    from harness.analysis.trials import trials
    from harness.store.frames import samples_frame

    if record.samples is None:
        raise SystemExit(f"{record.cell}: {record.status}: {record.reason}")
    return next(iter(trials(samples_frame([record])).values()))


def median_ns(record: Any) -> float:
    """The figure that convbench gives for one record."""
    return float(_trial(record).median_ns)


def _all_flags(record: Any) -> set[Any]:
    return set(record.flags) | set(_trial(record).flags)
