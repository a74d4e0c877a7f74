"""Slowdowns of a known size, and how often `compare` finds them."""

import argparse
import json
import os
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from scripts.fidelity.noise import noise_of

ROOT = Path(__file__).resolve().parents[2]


def find_effects(options: argparse.Namespace) -> list[str]:
    """Lines of Markdown: how often `compare` finds a slowdown of so many times the smallest effect of an A/A run.

    Each try is two runs, one after the other, of PyTorch's eager cells of that run; in the second every cell is slowed by a
    wrapper (tests/slowed.py), by a factor of its own.
    """
    import pandas as pd

    from harness import units
    from harness.analysis import compare

    noise = noise_of(options.aa_run, options.first)
    known = noise.cells[noise.cells["cell"].str.contains("/torch/eager/", regex=False) & noise.cells["smallest_effect"].notna()]
    sizes = {row.cell: options.times * row.smallest_effect for row in known.itertuples() if row.cell.startswith(options.cells)}
    plan = _plan_of(sizes, noise.trials)
    tries = []
    for number in range(options.tries):
        base = _measured(plan, number, {})
        new = _measured(plan, number, {cell: 1 + size for cell, size in sizes.items()})
        found = compare.compare(base, new, noise.cells)
        tries.append(found)
        print(f"try {number + 1}/{options.tries}: {found['verdict'].value_counts().to_dict()}", file=sys.stderr)
    every = pd.concat(tries)
    lines = ["| cell | injected | found | not told | called faster | ratios |", "|---|---|---|---|---|---|"]
    for cell, size in sizes.items():
        of_cell = every[every["cell"] == cell]
        counts = of_cell["verdict"].value_counts()
        ratios = " ".join(f"{ratio:.2f}" for ratio in of_cell["ratio"])
        slower, faster = counts.get("slower", 0), counts.get("faster", 0)
        told = f"{slower} of {len(of_cell)} | {len(of_cell) - slower - faster} | {faster} | {ratios}"
        lines.append(f"| {cell.rsplit('/torch/', 1)[0]} | {units.percent(size)} | {told} |")
    found = (every["verdict"] == "slower").sum()
    unflagged = every[~every["why"].str.startswith("flagged")]
    among = (unflagged["verdict"] == "slower").sum()
    told = f"Found {found} of {len(every)}; among those without a flag that bars a verdict, {among} of {len(unflagged)}."
    return [
        *lines,
        "",
        f"{told} Sizes: {options.times:g} times the smallest effect by the A/A run above, {noise.trials} trials.",
    ]


def _plan_of(sizes: dict[str, float], trials: int) -> Any:
    from harness.ask import suite
    from harness.ask.planning import plan
    from harness.ask.selection import Selection, narrow

    chosen = Selection(axes={"backend": ["torch"]}, budget={"trials": trials})
    whole = plan(narrow(suite.load("noise"), chosen), {"torch": ()}, 0)
    return replace(whole, steps=tuple(step for step in whole.steps if str(step.cell) in sizes))


def _measured(plan: Any, number: int, factors: dict[str, float]) -> Any:
    """The plan, measured with every cell slowed by its factor, as one side of a comparison."""
    from datetime import UTC, datetime

    from harness.analysis.compare import Side
    from harness.analysis.summary import summarize
    from harness.analysis.trials import trials
    from harness.isolate.launcher import Launcher
    from harness.record import METHOD_VERSION, Environment, Record, Run
    from harness.store.frames import records_frame, samples_frame
    from harness.store.latest import latest

    run_id = f"{'slowed' if factors else 'plain'}-{number}"
    os.environ["TEST_SLOWDOWN_FACTORS"] = json.dumps(factors)
    os.environ["PYTHONPATH"] = str(ROOT)
    with tempfile.TemporaryDirectory() as logs:
        answers = list(Launcher(run_id, Path(logs), targets={"torch": "tests.slowed:SlowedTorch"}).execute(plan))
    environments = [answer for answer in answers if isinstance(answer, Environment)]
    records = latest(answer for answer in answers if isinstance(answer, Record))
    now = datetime.now(UTC)
    run = Run(run_id, plan.suite, "", "", "", "", METHOD_VERSION, 0, "", now, now, (), tuple(environments))
    samples = samples_frame(records)
    return Side(summarize(records_frame(records, environments, plan.suite), samples), trials(samples), run)
