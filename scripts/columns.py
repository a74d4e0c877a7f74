#!/usr/bin/env python3
"""Write docs/columns.md from harness.columns.COLUMNS; with --check, exit 1 if the page is not what would be written.

Needs Python 3.11 and nothing else: columns.py imports the standard library only.
"""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from harness.columns import (
    ALONG_COLUMNS,
    BESIDE_COLUMNS,
    CASE_COLUMNS,
    COLUMNS,
    COMPARISON_COLUMNS,
    EXPLANATION_COLUMNS,
    KERNEL_COLUMNS,
    NIGHT_COLUMNS,
    PROFILE_COLUMNS,
    PUBLISHED_COLUMNS,
    RANK_COLUMNS,
    RECORD_COLUMNS,
    SAMPLE_COLUMNS,
    SUM_COLUMNS,
    SUMMARY_COLUMNS,
    TIME_COLUMNS,
    TUNED_COLUMNS,
)

INTRODUCTION = """\
# Columns

<!-- Written by scripts/columns.py from harness/columns.py: change the schema there and run the script. -->

The frames of convbench, and what each column holds. The unit is in the column's name. A missing number is NaN
(float64) or NA (Int64): not measured, never 0. Missing text is empty. Times of a clock are integers in the samples and
float64 elsewhere. `int64` is never missing.
"""

FRAMES = (
    ("Records", "One row per run, trial and cell: what came back. `harness.load()`, `records.parquet`.", RECORD_COLUMNS),
    ("Samples", "One row per sample: a block of calls and one wait. `harness.samples()`, `samples.parquet`.", SAMPLE_COLUMNS),
    ("Summary", "One row per run and cell: figures derived from the other two. `harness.summary(records)`.", SUMMARY_COLUMNS),
    ("Ranking", "What `convbench show` and `export` add to the summary: each cell beside its competitors.", RANK_COLUMNS),
    ("Times", "One row per run and cell: the time of a call, a slow minute taken out. `analysis.times`.", TIME_COLUMNS),
    ("Sums", "One row per network, setting and direction or `passes`, all three. `convbench show --networks`.", SUM_COLUMNS),
    ("Along an axis", "One row per cell with a partner alike in all but one axis. `harness.along(...)`.", ALONG_COLUMNS),
    ("Explanations", "A row per cell and rule that speaks. `harness.explanations()`, `show --explain`.", EXPLANATION_COLUMNS),
    ("Tuned", "Best settings by workload, direction and backend, and these among backends. `harness.tuned`.", TUNED_COLUMNS),
    ("Comparison", "One row per cell of either run. `harness.compare(base, new)`.", COMPARISON_COLUMNS),
    ("Published", "One row per timing of others: `results/published/*.csv` as they are read.", PUBLISHED_COLUMNS),
    ("Beside published", "One row per cell, hardware and arithmetic: `convbench compare RUN published:NAME`.", BESIDE_COLUMNS),
    ("Nights", "One row per cell of a nightly run: what its history keeps of it, `night.parquet`.", NIGHT_COLUMNS),
    ("Cases", "One row per cell and machine: what the gate says of the newest night.", CASE_COLUMNS),
    ("Kernels", "One row per run, cell and kernel: what ran inside a call. `harness.kernels()`.", KERNEL_COLUMNS),
    ("Profiles", "One row per cell of a run that was profiled: how that was seen. `harness.profiles()`.", PROFILE_COLUMNS),
)  # fmt: skip


def page() -> str:
    """The whole page."""
    return "\n".join([INTRODUCTION, *(section(*frame) for frame in FRAMES)])


def section(title: str, sentence: str, names: tuple[str, ...]) -> str:
    """One frame: its heading, what a row is, and its columns."""
    rows = [[f"`{name}`", COLUMNS[name].dtype, COLUMNS[name].unit, COLUMNS[name].meaning] for name in names]
    head = [["Column", "Dtype", "Unit", "Meaning"], ["---"] * 4]
    table = "".join(f"| {' | '.join(cells)} |\n" for cells in [*head, *([escaped(cell) for cell in row] for row in rows)])
    return f"## {title}\n\n{sentence}\n\n{table}"


def escaped(text: str) -> str:
    """Text that Markdown shows as it is: a formula's asterisks are no emphasis."""
    return text.replace("|", "\\|").replace("*", "\\*")


def main() -> int:
    """The exit code: 1 if --check finds a stale page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing, exit 1 if the page is stale")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "columns.md", help="the page (default: docs/columns.md)")
    options = parser.parse_args()
    if not options.check:
        options.out.write_text(page(), encoding="utf-8")
        return 0
    if options.out.exists() and options.out.read_text(encoding="utf-8") == page():
        return 0
    print(f"{options.out} is stale; run scripts/columns.py", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
