#!/usr/bin/env -S python3
"""Are the frameworks right, and our adapters honest, about convolutions that nobody asks for? Random ones, each checked.

    .venv/bin/python scripts/fuzz.py                               300 convolutions, three passes, both layouts, all frameworks
    .venv/bin/python scripts/fuzz.py --seed 7 --count 50 -a backend=torch -a direction=wgrad
    .venv/bin/python scripts/fuzz.py --shape "n1 c4 k4 7x7 f3x3 p0-1x1"      this one alone; may be repeated
    .venv/bin/python scripts/fuzz.py --transposed                            the transposed convolutions that these mirror
    ... --write docs/frameworks.md                                 keep the tables, with machine and versions

An ordinary run without the sampling: cells in worker processes, each result held against the reference, rows in the store
(`convbench show` prints them one by one). PyTorch and TensorFlow run eagerly, JAX compiled; `-a mode=compiled` asks for others.
Exit code 5 if any cell failed, 2 for what cannot be asked.
"""

import argparse
import hashlib
import math
import re
import shlex
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
from scripts.pages import keep, machine

FAILED_CELLS, USAGE = 5, 2
MODES = {"torch": "eager", "tensorflow": "eager", "jax": "compiled", "numpy": "eager"}
EXACT, INEXACT = "exact", "right, not to the last bit"
OUTCOMES = (EXACT, INEXACT, "unsupported", "incorrect", "error", "crashed", "timeout", "oom", "skipped", "not_run")


def suite(specs: tuple[Any, ...], prefix: str, axes: dict[str, Any]) -> Any:
    """The convolutions as a suite: every framework in its mode and both layouts, timed as little as can be."""
    from harness.ask.axes import Axes
    from harness.ask.suite import Exclude, Suite, Workload
    from harness.axes import Layout, Mode
    from harness.plan import Budget

    tiny = Budget(
        trials=1, warmup_calls=1, warmup_cpu_s=0, warmup_gpu_s=0, warmup_max_s=0.001, block_s=1e-6, throughput_block_s=1e-3,
        visits=1, visit_s=1e-6, energy_window_s=0, timeout_s=60,
    )  # fmt: skip
    others = () if "mode" in axes else [(name, tuple({"eager", "compiled"} - {mode})) for name, mode in MODES.items()]
    return Suite(
        name="fuzz", description="Random convolutions, checked and not timed.", path=Path(__file__).resolve(),
        sha256=hashlib.sha256("\n".join(map(str, specs)).encode()).hexdigest(),
        workloads=tuple(Workload(f"{prefix}-{number:03}", spec) for number, spec in enumerate(specs)),
        axes=Axes(layout=tuple(Layout), mode=(Mode.EAGER, Mode.COMPILED)), stated=frozenset(), budget=tiny,
        excludes=tuple(Exclude((("backend", (name,)), ("mode", modes))) for name, modes in others),
    )  # fmt: skip


def tables(records: Any) -> list[str]:
    """Lines of Markdown: how many cells came out how, then what was not exact, alike ones together."""
    records = records.assign(
        outcome=[_outcome(*row) for row in zip(records["status"], records["check_method"], strict=True)],
        why=[re.sub(r"\b\d[\d.]*(?:e[+-]?\d+)?", "#", reason) for reason in records["reason"]],
        order_of=["channels first" if layout.startswith("NC") else "channels last" for layout in records["layout"]],
    )
    present = [outcome for outcome in OUTCOMES if (records["outcome"] == outcome).any()]
    lines = [f"| framework | mode | layout | pass | cells | {' | '.join(present)} |", "|" + "---|" * (5 + len(present))]
    for key, group in records.groupby(["backend", "mode", "order_of", "direction"], sort=True):
        counts = group["outcome"].value_counts()
        lines.append(f"| {' | '.join(key)} | {len(group)} | {' | '.join(str(counts.get(name, 0)) for name in present)} |")
    return [*lines, "", *_findings(records[records["outcome"] != EXACT])]


def _outcome(status: str, check_method: str) -> str:
    """The status, and for ok whether every element was exact."""
    if status != "ok":
        return status
    return EXACT if "exact" in check_method else INEXACT


def _findings(found: Any) -> Iterator[str]:
    """One line per framework, outcome and reason (numbers aside): how many, the smallest, and what all of them have."""
    from harness import flops
    from harness.spec import parse_workload
    from scripts.random_convolutions import traits

    if found.empty:
        yield "Every cell was exact."
        return
    yield "| framework | mode | outcome | reason of the smallest | cells | layouts | passes | the smallest | what all have |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for (backend, mode, outcome, _), group in found.groupby(["backend", "mode", "outcome", "why"], sort=True):
        specs = {text: parse_workload(text) for text in group["shape"]}
        smallest = min(specs, key=lambda text: (flops.nominal(specs[text]), text))
        shared = [name for name in traits(specs[smallest]) if all(name in traits(spec) for spec in specs.values())]
        reason = group.loc[group["shape"] == smallest, "reason"].iloc[0].replace("|", "\\|")
        where = (", ".join(sorted(set(group[column]))) for column in ("order_of", "direction"))
        yield (
            f"| {backend} | {mode} | {outcome} | {reason or '–'} | {len(group)} | {' | '.join(where)} "
            f"| `{smallest}` | {', '.join(shared) or '–'} |"
        )


def main() -> int:
    """The exit code: run them, print the tables, and keep them where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0, help="of the convolutions and of their operands")
    parser.add_argument("--count", type=int, default=300, help="how many convolutions")
    parser.add_argument("--shape", action="append", default=[], help="one convolution in the words of the column `shape`")
    parser.add_argument("--transposed", action="store_true", help="transposed convolutions instead")
    parser.add_argument("-a", "--axis", action="append", default=[], help="narrow any axis, as convbench run does")
    parser.add_argument("--out", type=Path, default=Path("results"), help="the store of runs")
    parser.add_argument("--write", type=Path, help="a Markdown file whose section `fuzz`, or `fuzz-transposed`, is replaced")
    options = parser.parse_args()

    from harness import load
    from harness.ask.selection import Selection, parse_axis
    from harness.errors import UserError
    from harness.execution import execute
    from harness.spec import TransposedSpec, parse_workload
    from scripts import random_convolutions

    if options.seed < 0 or options.count < 1:
        parser.error(f"--seed {options.seed} --count {options.count}: allowed: a seed from 0, a count from 1")
    begun = time.monotonic()
    try:
        axes = dict(map(parse_axis, options.axis))
        drawn = () if options.shape else random_convolutions.specs(options.seed, options.count)
        specs = tuple(map(parse_workload, options.shape)) or (
            tuple(map(TransposedSpec, drawn)) if options.transposed else drawn
        )
        asked = suite(specs, "shape" if options.shape else f"seed{options.seed}", axes)
        command = shlex.join(["scripts/fuzz.py", *sys.argv[1:]])
        run = execute.execute(
            asked, Selection(axes), out=options.out, seed=options.seed, command=command, ceilings=False, watcher=_watcher()
        )
    except (UserError, ValueError) as error:
        print(error, file=sys.stderr)
        return USAGE
    records = load(options.out / "runs" / run.id)
    lines = tables(records)
    print("\n".join(lines), run.id, sep="\n\n")
    if options.write:
        told = f"{machine()} Seed {options.seed}, {len(specs)} convolutions, {math.ceil((time.monotonic() - begun) / 60)} min."
        keep(options.write, "fuzz-transposed" if options.transposed else "fuzz", [*lines, "", told])
    return FAILED_CELLS if set(records["status"]) - {"ok", "unsupported", "skipped"} else 0


def _watcher() -> Any:
    """Tells on standard error what failed, and now and then how far it is."""
    from harness.execution.watcher import Watcher

    class Telling(Watcher):
        done = total = 0

        def planned(self, plan: Any, seconds: float) -> None:
            self.total = len(plan)

        def recorded(self, record: Any) -> None:
            self.done += 1
            if record.status.failed:
                print(f"{record.status}: {record.cell} [{record.cell.spec}]: {record.reason}", file=sys.stderr)
            if self.done % 500 == 0 or self.done == self.total:
                print(f"{self.done} of {self.total}", file=sys.stderr)

    return Telling()


if __name__ == "__main__":
    sys.exit(main())
