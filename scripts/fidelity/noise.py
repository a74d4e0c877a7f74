"""What equal cells differ by: within one A/A run, and from night to night."""

import argparse
import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


def describe_noise(options: argparse.Namespace) -> list[str]:
    """Lines of Markdown: the A/A noise of a stored run and what it means for verdicts, by its first trials and by all."""
    from harness import units

    found = [noise_of(options.aa_run, first) for first in (options.first, None)]
    counts = [noise.trials for noise in found]

    def line(name: str, told: Callable[[Any], str]) -> str:
        return f"| {name} | {' | '.join(map(told, found))} |"

    def differing(called: int, of: int) -> str:
        return f"{of}, {called}" + (f" ({units.percent(called / of)})" if called else "")

    def effects(noise: Any) -> "pd.Series[float]":
        return noise.cells["smallest_effect"].dropna()  # type: ignore[no-any-return]

    def used(noise: Any, each: Any) -> str:
        return f"{noise.quietest[each]} pairs" if each in noise.quietest else "not used"

    def worth(noise: Any, each: Any) -> str:
        found = noise.corrections[each]
        return f"{found.quieter} of {found.pairs}{'' if found.used else ': not used'}"

    heads = [f"in {count} trials" for count in counts]
    named = " | ".join(f"{head} | quietest in" for head in heads)
    return [
        f"| A/A noise, median over the {len(found[-1].cells)} pairs | {named} |",
        "|---" * (1 + 2 * len(heads)) + "|",
        *(
            line(
                each.replace("_", " "),
                lambda noise, each=each: f"{units.percent(math.expm1(noise.machine[each]))} | {used(noise, each)}",
            )
            for each in found[-1].machine
        ),
        "",
        f"| | {' | '.join(heads)} |",
        "|---" * (1 + len(heads)) + "|",
        line(
            "pairs of equals without a flag that bars a verdict, and of these called different",
            lambda noise: differing(noise.differences, noise.judged),
        ),
        line(
            "pairs with one, and of these would have been called different",
            lambda noise: differing(noise.flagged_differences, noise.flagged),
        ),
        line("slowdown found in 9 of 10 comparisons", lambda noise: units.percent(noise.smallest_effect)),
        line(
            "the same, from the quietest cell to the noisiest",
            lambda noise: f"{units.percent(effects(noise).min())} to {units.percent(effects(noise).max())}",
        ),
        *(
            line(
                f"pairs in which the {each.replace('_', ' ')} has less noise than the raw one",
                lambda noise, each=each: worth(noise, each),
            )
            for each in found[-1].corrections
        ),
        "",
        f"One run, {Path(options.aa_run).name}: by its first {counts[0]} trials and by all.",
    ]


def noise_of(aa_run: str, first: int | None = None) -> Any:
    """The noise by a stored A/A run, or by its first trials."""
    from harness.analysis.compare import Side
    from harness.analysis.noise import measure
    from harness.analysis.summary import summarize
    from harness.analysis.trials import trials
    from harness.store import journal, table

    folder = Path(aa_run)
    records, blocks = table.load(folder), table.samples(folder)
    if first is not None:
        records, blocks = records[records["trial"] < first], blocks[blocks["trial"] < first]
    return measure(Side(summarize(records, blocks), trials(blocks), journal.read_run(folder)))


def describe_nights(options: argparse.Namespace) -> list[str]:
    """Lines of Markdown: by how much the same cells differ from night to night, raw and corrected by the yardstick."""
    import numpy as np

    from harness import stats, units
    from harness.analysis.history import grids
    from harness.analysis.noise import SIGMA_PER_MAD
    from harness.review import nights as nights_of

    history = nights_of.history(options.store, options.suite)
    nights = history.runs[: options.first]
    if not nights:
        raise SystemExit(f"{options.store}: no nights of the suite {options.suite}")
    found = grids(history.until(nights[-1].id))
    if len(found) != 1:
        raise SystemExit(f"{options.store}: nights of {len(found)} machines, and one is needed")
    grid = found[0]
    lines = ["| cell | nights with a figure | noise, raw | corrected | corrected / raw |", "|---|---|---|---|---|"]
    shares = []
    for axes, raw, ratio in zip(grid.axes.itertuples(), grid.raw, grid.ratio, strict=True):
        there = ~np.isnan(raw) & ~np.isnan(ratio)
        noises = [SIGMA_PER_MAD * stats.mad(np.log(values[there])) for values in (raw, ratio)]
        if not noises[0] > 0:  # one night, or none
            continue
        shares.append(noises[1] / noises[0])
        told = " | ".join(units.percent(math.expm1(noise)) for noise in noises)
        lines.append(f"| {axes.cell} | {np.count_nonzero(there)} | {told} | {shares[-1]:.2f} |")
    quieter = sum(share < 1 for share in shares)
    return [
        *lines,
        "",
        f"The corrected time has less noise than the raw one in {quieter} of {len(shares)} cells; "
        f"geometric mean of corrected / raw: {stats.geometric_mean(shares):.2f}. "
        f"{len(grid.runs)} nights of {options.suite}, machine {grid.machine_id}.",
    ]
