"""convbench's figures beside those of other tools, per framework, per tool and per cell."""

import argparse
import math
import os
import statistics
import sys

from scripts.fidelity.turns import CELLS, IN_PROCESS, MODES, OUTSIDE, Turn, one_turn


def compare_frameworks(options: argparse.Namespace) -> list[str]:
    """Lines of Markdown: per framework and tool the geometric mean, per cell the ratio with its interval and both spreads."""
    from harness import stats

    turns: list[Turn] = []
    for busy, count in ((0, options.turns), (os.cpu_count() or 1, options.busy_turns)):
        for turn in range(count):
            for framework in options.frameworks.split(","):
                with_others = turn < options.pytest_turns, turn < options.pyperf_turns
                turns.append(one_turn(framework, turn, not options.default_allocator, busy, *with_others))
                mean = stats.geometric_mean(_ratios(turns[-1], IN_PROCESS[framework][0]))
                print(f"{'busy ' if busy else ''}turn {turn + 1}/{count} {framework}: {mean:.4f}", file=sys.stderr, flush=True)
    frameworks = list(dict.fromkeys(turn.framework for turn in turns))
    lines = [*_overall(turns, frameworks)]
    for framework in frameworks:
        lines += ["", f"### {framework}", "", *_by_cell([turn for turn in turns if turn.framework == framework])]
    if options.busy_turns:
        lines += ["", "### Beside busy processes", "", *_beside_busy(turns, frameworks)]
    return lines


def _overall(turns: list[Turn], frameworks: list[str]) -> list[str]:
    """Per framework and other tool: the geometric mean of the ratios with its interval over turns, and what each cost."""
    from harness import stats

    lines = [
        "| framework | mode | other tool | turns | convbench / other, geometric mean | 95 % interval over turns "
        "| cells whose interval leaves out 1 | seconds a turn: convbench | other |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for framework in frameworks:
        quiet = [turn for turn in turns if turn.framework == framework and not turn.busy]
        for number, tool in enumerate((*IN_PROCESS[framework], *OUTSIDE)):
            having = [turn for turn in quiet if tool in turn.read_ns]
            if not having:
                continue
            per_turn = [stats.geometric_mean(_ratios(turn, tool)) for turn in having]
            mean = f"{stats.geometric_mean(per_turn):.4f}"
            spread = "{:.4f} to {:.4f}".format(*stats.log_t_interval(per_turn)) if len(having) > 1 else "one turn"
            out = sum(low > 1 or high < 1 for low, high in _cell_intervals(having, tool)) if len(having) > 2 else None
            told = "–" if out is None else f"{out} of {len(CELLS)}"
            walls = " | ".join(f"{statistics.mean(turn.wall_s[name] for turn in having):.0f}" for name in ("convbench", tool))
            mean = f"**{mean}**" if not number else mean
            lines.append(
                f"| {framework} | {MODES[framework]} | {tool} | {len(having)} | {mean} | {spread} | {told} | {walls} |"
            )
    return lines


def _ratios(turn: Turn, tool: str) -> list[float]:
    return [turn.read_ns["convbench"][cell] / turn.read_ns[tool][cell] for cell in CELLS if cell in turn.read_ns[tool]]


def _cell_intervals(turns: list[Turn], tool: str) -> list[tuple[float, float]]:
    from harness import stats

    return [
        stats.log_t_interval([turn.read_ns["convbench"][cell] / turn.read_ns[tool][cell] for turn in turns]) for cell in CELLS
    ]


def _by_cell(turns: list[Turn]) -> list[str]:
    """A line per cell: convbench beside the oracle, in the quiet turns."""
    from harness import units

    quiet = [turn for turn in turns if not turn.busy]
    oracle = IN_PROCESS[turns[0].framework][0]
    lines = [
        f"| cell | convbench | {oracle} | ratio, geometric mean | 95 % interval | spread of convbench | of the other "
        "| every pair | pairs without a barring flag |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    intervals = _cell_intervals(quiet, oracle) if len(quiet) > 1 else [(math.nan, math.nan)] * len(CELLS)
    for cell, (low, high) in zip(CELLS, intervals, strict=True):
        ours, theirs = ([turn.read_ns[tool][cell] for turn in quiet] for tool in ("convbench", oracle))
        each = [a / b for a, b in zip(ours, theirs, strict=True)]
        mean = math.exp(statistics.mean(map(math.log, each)))
        spreads = (f"{100 * (max(times) / min(times) - 1):.0f} %" for times in (ours, theirs))
        middles = (units.duration(statistics.median(times)) for times in (ours, theirs))
        clean = sum(not turn.flags(cell) for turn in quiet)
        lines.append(
            f"| {cell} | {' | '.join(middles)} | {mean:.3f} | {low:.3f} to {high:.3f} | {' | '.join(spreads)} "
            f"| {' '.join(f'{ratio:.3f}' for ratio in each)} | {clean} of {len(quiet)} |"
        )
    return lines


def _beside_busy(turns: list[Turn], frameworks: list[str]) -> list[str]:
    """What a busy process per core makes of every tool's figures, and which of convbench's say so."""
    from harness import stats

    lines = [
        "| framework | tool | figures beside busy processes | not contended | without any barring flag "
        "| busy / quiet, geometric mean | of those not contended | of those without any barring flag "
        "| cells under 2 ms not contended in half of the turns | without any barring flag |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for framework in frameworks:
        quiet, busy = (
            [turn for turn in turns if turn.framework == framework and turn.busy is loaded] for loaded in (False, True)
        )
        for tool in ("convbench", *IN_PROCESS[framework], *OUTSIDE):
            if not any(tool in turn.read_ns for turn in busy):
                continue
            alone = {cell: statistics.median(t.read_ns[tool][cell] for t in quiet if tool in t.read_ns) for cell in CELLS}
            pairs = [
                (turn, cell, turn.read_ns[tool][cell] / alone[cell]) for turn in busy if tool in turn.read_ns for cell in CELLS
            ]
            told = [str(len(pairs)), "–", "–", f"{stats.geometric_mean([ratio for *_, ratio in pairs]):.2f}", *"–" * 4]
            if tool == "convbench":
                short = [cell for cell in CELLS if alone[cell] < 2e6]
                for column, bars in enumerate((lambda flags: "contended" in flags, bool), start=1):
                    kept = [(cell, ratio) for turn, cell, ratio in pairs if not bars(turn.flags(cell))]
                    share = [cell for cell in short if 2 * sum(name == cell for name, _ in kept) >= len(busy)]
                    told[column] = str(len(kept))
                    told[column + 3] = f"**{stats.geometric_mean([ratio for _, ratio in kept]):.2f}**" if kept else "–"
                    told[column + 5] = f"{len(share)} of {len(short)}"
            lines.append(f"| {framework} | {tool} | {' | '.join(told)} |")
    return lines
