"""The same call in the same process, sampled as convbench samples it and timed in a plain loop."""

import argparse
import os
import random
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from scripts.fidelity.frameworks import CELLS, cell_of, visit_ns


def compare_sampling(options: argparse.Namespace) -> list[str]:
    """Lines of Markdown: what convbench's sampling reads of a call over what a plain loop reads of it in the same process.

    So whatever makes one process differ from another is in neither, and a percent shows in seconds.
    """
    from harness import stats, units

    lines = [
        "| framework | cell | sampled | plain loop | ratio | 95 % interval over pairs of visits |",
        "|---|---|---|---|---|---|",
    ]
    means: dict[str, list[float]] = defaultdict(list)
    for framework in options.frameworks.split(","):
        for cell in (cell for cell in CELLS if cell.startswith(tuple(options.cells.split(",")))):
            rounds = read_in_one_process(framework, cell, options.rounds)
            ratios = [ours / theirs for ours, theirs in rounds]
            ours, theirs = (units.duration(statistics.median(times)) for times in zip(*rounds, strict=True))
            mean, (low, high) = stats.geometric_mean(ratios), stats.log_t_interval(ratios)
            means[framework].append(mean)
            lines.append(f"| {framework} | {cell} | {ours} | {theirs} | {mean:.4f} | {low:.4f} to {high:.4f} |")
            print(lines[-1], file=sys.stderr, flush=True)
    told = ", ".join(f"{framework} {stats.geometric_mean(each):.4f}" for framework, each in means.items())
    return [*lines, "", f"Geometric mean over the cells: {told}. {options.rounds} visits each."]


def read_in_one_process(framework: str, cell: str, rounds: int) -> list[tuple[float, float]]:
    """By round what the sampling and the plain loop read of one call, in ns, from a fresh process as a worker is."""
    asked = [sys.executable, str(Path(__file__).parent), "one-process", framework, cell, str(rounds)]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{cell} in {framework}: {done.stderr[-2000:]}")
    return [(float(ours), float(theirs)) for ours, theirs in map(str.split, done.stdout.splitlines())]


def in_one_process(framework: str, cell: str, rounds: int) -> Iterator[tuple[float, float]]:
    """A round: a visit by the sampling and one by the plain loop, chance says which first; the median time of a call, in ns."""
    from harness.axes import Device
    from harness.backends import registry
    from harness.isolate import worker
    from harness.plan import Budget

    # Before NumPy is imported, which reads what this sets.
    backend = worker.load(registry.find(framework), Device("cpu"), (min(os.sched_getaffinity(0)),))
    from harness.backends.base import ALREADY_DONE
    from harness.measure import clock as clocks
    from harness.measure.engine import checked
    from harness.measure.ledger import Ledger
    from harness.measure.operands import draw
    from harness.measure.sampling import Sampler, Tools
    from harness.measure.witness import Witness
    from harness.measure.yardstick import Yardstick
    from scripts.oracles import Prepared, Waited, loop_of

    asked, clock = cell_of(framework, cell), clocks.system
    operands, rng = draw(asked, 0)
    prepared = backend.prepare(asked, operands)
    handle = prepared.launch()
    prepared.wait(handle)
    _, first = checked(asked, prepared, operands, handle, rng)
    del handle
    call = prepared.launch if prepared.wait is ALREADY_DONE else Waited(prepared.launch, prepared.wait)
    worker.set_aside(0)
    tools = Tools(Budget(), clock, clocks.cost_ns(clock), Ledger(clock), Yardstick())
    sampler, looking = Sampler(tools, asked, prepared, [], first), Witness(clock)
    sampler.warm_up()
    loop = Prepared(call, loop_of(framework))
    chance = random.Random(0)
    for _ in range(rounds):
        before = loop.visit() if chance.random() < 0.5 else None
        ours = visit_ns(sampler.visit(looking))
        yield ours, before or loop.visit()
