"""Is what convbench reads true? Its figures beside those of independent tools, on the same operations.

    .venv/bin/python scripts/fidelity clock           a call that spins for a known time, hot and cold
    .venv/bin/python scripts/fidelity frameworks      convolutions, three passes, one thread, beside a plain loop
    .venv/bin/python scripts/fidelity sampling        the same call in the same process, sampled and in a plain loop
    .venv/bin/python scripts/fidelity noise AA-RUN    what the equals of a run with --aa differ by
    .venv/bin/python scripts/fidelity nights STORE    what the same cells differ by from night to night
    .venv/bin/python scripts/fidelity effect AA-RUN   slowdowns of a known size: does compare find them?
    ... --write docs/fidelity.md                      keep the tables, with machine and versions

`frameworks` takes fresh pairs of processes, one of convbench and one of the plain loop, which have the same cells prepared. In
every turn each visit of ours has one of the loop right beside it: a machine's speed wanders more in seconds than they differ.
The loop stands in scripts/oracles.py and shares no code with convbench, not even the operands.
"""

import argparse
import math
import os
import sys
import time
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[2])  # not this folder, whose rooms have names that others may have
from scripts.fidelity.clock import busy_processes, compare_clock
from scripts.fidelity.effects import find_effects
from scripts.fidelity.frameworks import compare_frameworks
from scripts.fidelity.noise import describe_nights, describe_noise
from scripts.fidelity.sampling import compare_sampling, in_one_process
from scripts.pages import keep, machine


def parser() -> argparse.ArgumentParser:
    """One command per comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="what", required=True)
    clock = commands.add_parser("clock")
    clock.add_argument("--busy", type=int, default=0, help="processes that spin on the other cores meanwhile")
    clock.add_argument("--wait", action="store_true", help="by the loop that waits for each call, as it does for JAX's")
    clock.add_argument("--rounds", type=int, default=0, help="of each kind; by default 5 from hot caches and 15 from cold ones")
    frameworks = commands.add_parser("frameworks")
    frameworks.add_argument("--frameworks", default="torch,tensorflow,jax")
    frameworks.add_argument("--pairs", type=int, default=6, help="pairs of processes")
    frameworks.add_argument("--turns", type=int, default=10)
    sampling = commands.add_parser("sampling")
    sampling.add_argument("--frameworks", default="torch,tensorflow,jax")
    sampling.add_argument("--cells", default="example,depthwise,grouped", help="the beginnings of their names")
    sampling.add_argument("--rounds", type=int, default=30)
    alone = commands.add_parser("one-process")  # what `sampling` starts for each cell
    alone.add_argument("framework")
    alone.add_argument("cell")
    alone.add_argument("rounds", type=int)
    noise = commands.add_parser("noise")
    noise.add_argument("aa_run", help="the folder of a run of the suite `noise` with --aa")
    noise.add_argument("--first", type=int, default=3, help="trials of the other column")
    nights = commands.add_parser("nights")
    nights.add_argument("store", help="where the nights are")
    nights.add_argument("--suite", default="short-night")
    nights.add_argument("--first", type=int, help="take only so many of them: those before something was slowed")
    effect = commands.add_parser("effect")
    effect.add_argument("aa_run", help="the folder of a run of the suite `noise` with --aa --threads 1")
    effect.add_argument("--first", type=int, help="take only so many of its trials, and as many in each try; by default all")
    effect.add_argument("--tries", type=int, default=10)
    effect.add_argument("--times", type=float, default=1.5, help="the injected slowdown, in smallest effects")
    effect.add_argument("--cells", default="rn50_res", help="the beginning of the names of the cells to slow")
    for command in (clock, frameworks, sampling, noise, nights, effect):
        command.add_argument("--write", type=Path, help="a Markdown file whose section of that name is replaced")
        command.add_argument("--section", help="the section's name; by default that of the command")
    return parser


def lines_of(options: argparse.Namespace) -> list[str]:
    """The comparison that was asked for, as lines of Markdown."""
    match options.what:
        case "clock":
            first, *others = sorted(os.sched_getaffinity(0))
            os.sched_setaffinity(0, {first})
            with busy_processes(options.busy, set(others)):
                return compare_clock(options.wait, options.rounds)
        case "sampling":
            return compare_sampling(options)
        case "noise":
            return describe_noise(options)
        case "nights":
            return describe_nights(options)
        case "effect":
            return find_effects(options)
        case _:
            return compare_frameworks(options)


def main() -> None:
    """Run one comparison, print it, and keep it where asked."""
    options = parser().parse_args()
    if options.what == "one-process":
        for ours, theirs in in_one_process(options.framework, options.cell, options.rounds):
            print(ours, theirs, flush=True)
        return
    begun = time.monotonic()
    lines = lines_of(options)
    seconds = time.monotonic() - begun
    print("\n".join(lines))
    if options.write:
        took = "" if options.what == "noise" else f" Measured in {math.ceil(seconds / 60)} min."
        told = lines if options.what == "nights" else [*lines, "", f"{machine()}{took}"]
        keep(options.write, options.section or options.what, told)


if __name__ == "__main__":
    main()
