"""The programs that `convbench repro` writes, each beside the adapter whose call it has: least times of fresh processes."""

import contextlib
import math
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from scripts.certainty.place import HERE, Place

# The layer, pass and mode of each cell: every pass, eager and compiled, and layers of different sizes. TensorFlow has fewer:
# its processes take 5 s to start. All rounds together take 20 minutes.
CELLS = {
    "torch": (
        "example/fprop/eager", "rn50_res2_3x3/dgrad/eager", "rn50_res4_1x1/wgrad/eager", "depthwise/dgrad/eager",
        "rn50_res2_3x3/wgrad/eager", "depthwise/fprop/eager", "example/wgrad/compiled", "example/bprop/compiled",
        "example/train/eager",
    ),
    "tensorflow": (
        "example/fprop/eager", "rn50_res2_3x3/dgrad/compiled", "rn50_res4_1x1/wgrad/eager", "depthwise/dgrad/eager",
        "example/bprop/compiled", "example/train/eager",
    ),
    "jax": (
        "example/fprop/compiled", "rn50_res2_3x3/dgrad/compiled", "rn50_res4_1x1/wgrad/compiled", "depthwise/dgrad/compiled",
        "rn50_res2_3x3/fprop/compiled", "rn50_res4_1x1/dgrad/compiled", "example/wgrad/compiled", "example/bprop/compiled",
        "example/train/compiled",
    ),
}  # fmt: skip
ROUNDS = 6  # of a process of either, per cell
VISITS = 10  # of 0.05 s each, as in a first trial ...
SECONDS = 0.5  # ... and what a program times
WITHIN = 0.03  # what a geometric mean may be off by
TRIED = 1  # cells of PyTorch in a try
LEAST = re.compile(r"least ([0-9.]+) us")


class Pair(NamedTuple):
    """What a process of the program and one of the adapter read as the least time of a call of one cell, in ns."""

    cell: str
    script_ns: float
    adapter_ns: float


def written(place: Place) -> dict[str, Any]:
    """A run of the cells, and the program of each as a file: by the id of the cell its path below all jobs."""
    from harness.store import journal

    chosen = {"torch": CELLS["torch"][:TRIED]} if place.tries else CELLS
    each = [keyword(framework, cell) for framework, cells in chosen.items() for cell in cells]
    place.convbench("run", HERE / "programs.toml", "-k", " or ".join(each))
    run, programs = place.run(), {}
    for number, cell in enumerate(map(str, journal.read_plan(place.out / run).cells)):
        file = place.folder / f"report-{number}.py"
        file.write_text(place.started([sys.executable, "-P", "-m", "harness", "repro", "latest", cell, "--out", "store"]))
        programs[cell] = str(file.relative_to(place.out))
    return {"run": run, "programs": programs}


def keyword(framework: str, cell: str) -> str:
    """The expression of -k for a cell of CELLS, in brackets."""
    return f"({' and '.join([*cell.split('/'), framework])})"


def in_turns(place: Place, found: Mapping[str, Any], number: int) -> Iterator[Pair]:
    """Of each cell a process of its program and one of its adapter, one right after the other; who is first alternates.

    Compilers keep what they compiled for the next round, as they do in a run for the trials after the first.
    """
    from harness.store import journal

    cells = {str(cell): cell for cell in journal.read_plan(place.out / found["run"]).cells}
    for at, (name, file) in enumerate(found["programs"].items()):
        script = partial(script_ns, place.out / file)
        adapter = partial(adapter_ns, cells[name], place.folder / "logs", place.out / "programs" / "compiled")
        if (number + at) % 2:
            first = script()
            yield Pair(name, first, adapter())
        else:
            first = adapter()
            yield Pair(name, script(), first)


def script_ns(program: Path) -> float:
    """The least time of a call in ns by the program itself, in a fresh process and an empty folder."""
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(program, Path(folder, "report.py"))
        asked = [sys.executable, "report.py", str(SECONDS)]
        done = subprocess.run(asked, cwd=folder, capture_output=True, text=True, check=False)
    least = LEAST.search(done.stdout)
    if done.returncode or "WRONG" in done.stdout or not least:
        raise SystemExit(f"{program.name}: exit code {done.returncode}: {done.stdout[-500:]} {done.stderr[-500:]}")
    return 1e3 * float(least[1])


def adapter_ns(cell: Any, logs: Path, cache: Path) -> float:
    """The least time of a call in ns in the visits of a fresh worker that has this cell prepared and nothing else."""
    from harness.isolate.launcher import Launcher
    from harness.plan import Budget, Plan, Step
    from harness.record import Record, Status, Visit

    # As in a later trial: what is read of a cell alone would only take time.
    plan = Plan("programs", (Step(1, 0, cell),), 0, Budget(trials=1, visits=VISITS))
    least = math.inf
    with contextlib.closing(Launcher("programs", logs, cache=cache).execute(plan)) as answers:
        for answer in answers:
            if isinstance(answer, Record) and answer.status is not Status.OK:
                raise SystemExit(f"{cell}: {answer.status}: {answer.reason}")
            if isinstance(answer, Visit) and answer.series:
                least = min(least, min(answer.series[0].block_ns) / answer.series[0].iterations)
    if not math.isfinite(least):
        raise SystemExit(f"{cell}: no visit brought a time")
    return least


# Tables ---------------------------------------------------------------------------------------------------------------------


class Read(NamedTuple):
    """The least times of all processes of one cell, in ns, and what follows: ratios of the program's to the adapter's."""

    script_ns: list[float]
    adapter_ns: list[float]

    @property
    def of_least(self) -> float:
        """The least of the program's processes over that of the adapter's."""
        return min(self.script_ns) / min(self.adapter_ns)

    @property
    def of_median(self) -> float:
        """The same of the medians of their least times."""
        return statistics.median(self.script_ns) / statistics.median(self.adapter_ns)


def tables(rounds: Sequence[Sequence[Sequence[Any]]]) -> list[str]:
    """Lines of Markdown of these rounds of pairs: the program's time over the adapter's, per framework, then per cell."""
    from harness import stats, units

    cells: dict[str, Read] = defaultdict(lambda: Read([], []))
    for pair in (Pair(*each) for of in rounds for each in of):
        cells[pair.cell].script_ns.append(pair.script_ns)
        cells[pair.cell].adapter_ns.append(pair.adapter_ns)
    frameworks: dict[str, list[Read]] = defaultdict(list)
    for name, read in cells.items():
        frameworks[framework_of(name)].append(read)
    lines = [
        f"| framework | cells | program / adapter, least of {len(rounds)} processes each, geometric mean | within 3 % "
        "| by the median of their least times | cells within 3 % |",
        "|---|---|---|---|---|---|",
    ]
    for framework, reads in frameworks.items():
        mean = stats.geometric_mean([read.of_least for read in reads])
        close = sum(abs(read.of_least - 1) <= WITHIN for read in reads)
        median = stats.geometric_mean([read.of_median for read in reads])
        held = "yes" if abs(mean - 1) <= WITHIN else "NO"
        lines.append(f"| {framework} | {len(reads)} | **{mean:.3f}** | {held} | {median:.3f} | {close} of {len(reads)} |")
    lines += [
        "",
        "| cell | adapter, least | program, least | program / adapter | by medians | each pair of processes |",
        "|---|---|---|---|---|---|",
    ]
    for name, read in sorted(cells.items(), key=lambda item: (list(frameworks).index(framework_of(item[0])), item[0])):
        least = " | ".join(units.duration(min(times)) for times in (read.adapter_ns, read.script_ns))
        each = " ".join(f"{ours / theirs:.3f}" for ours, theirs in zip(read.script_ns, read.adapter_ns, strict=True))
        lines.append(f"| {name} | {least} | {read.of_least:.3f} | {read.of_median:.3f} | {each} |")
    return lines


def framework_of(cell: str) -> str:
    """The backend in the id of a cell."""
    return cell.split("/")[2]
