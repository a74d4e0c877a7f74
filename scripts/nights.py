#!/usr/bin/env -S python3
"""The gate on real nights: N of one suite as they come, then some with one cell slowed by a known factor.

    .venv/bin/python scripts/nights.py --store DIR                                  20 nights, then 2 slowed ones
    .venv/bin/python scripts/nights.py --store DIR --quiet-nights 20 --slowed-nights 0
    ... --write docs/gate.md                                                     keep the table, with machine and versions

Every night is a `convbench nightly` of its own, one after the other. What DIR holds already is not run again, so that a series
that was cut off goes on, and none can be picked: the table has every night of DIR. The slowed cell is PyTorch's, and by default
slower by twice the smallest effect that the gate says it can find there after the quiet nights.

The gate takes no two nights within an hour for independent evidence, so that nights one after the other could never confirm
anything. The table therefore judges each as if it came a day after the one before, by the same rules but for that hour, and
shows the exit code of `convbench nightly` beside it. --apart 3660 makes the slowed nights wait instead.

The slowing needs no change in convbench: a folder with an entry point of the group harness.backends comes first on the path of
the slowed nights, as any other package's would, and names tests/slowed.py as `torch`.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from harness import units
from harness.analysis import validity
from harness.analysis.gate import NightJudgement
from harness.analysis.replay import Rules
from harness.digest import Digest
from harness.record import Run
from harness.review import nights as nights_of
from harness.review.reading import Reading
from harness.store import digests, table
from scripts.pages import keep, machine

SLOWED = "slowed"  # the tag of a night in which a cell was slowed
ENTRY = "[harness.backends]\ntorch = tests.slowed:SlowedTorch\n"


def night(options: argparse.Namespace, slowed: float | None = None) -> int:
    """Run one night and return its exit code; with `slowed` the cell takes that many times as long."""
    command = [sys.executable, "-m", "harness", "nightly", options.suite, "--out", str(options.store / "results")]
    command += ["--reports", str(options.store / "reports"), "--no-ceilings", "--no-report", "--wait", options.wait]
    path = [str(ROOT)]
    with tempfile.TemporaryDirectory() as folder:
        environ = dict(os.environ)
        if slowed is not None:
            info = Path(folder) / "slowed-0.dist-info"
            info.mkdir()
            (info / "METADATA").write_text("Metadata-Version: 2.1\nName: slowed\nVersion: 0\n")
            (info / "entry_points.txt").write_text(ENTRY)
            path.insert(0, folder)
            environ["TEST_SLOWDOWN_FACTORS"] = json.dumps({options.cell: slowed})
            command += ["--tag", SLOWED, "--tag", f"factor-{slowed:.3f}"]
        environ["PYTHONPATH"] = os.pathsep.join([*path, *filter(None, [os.environ.get("PYTHONPATH", "")])])
        return subprocess.run(command, env=environ, stdout=subprocess.DEVNULL, cwd=options.folder, check=False).returncode


def known(store: Path) -> list[tuple[Run, Digest | None]]:
    """The nights of the store, oldest first, each with its digest."""
    found = digests.read(store / "reports")
    return [(run, found.get(run.id)) for run in table.runs(store / "results")]


def factor(options: argparse.Namespace) -> float:
    """What the cell is slowed by: as asked, else twice the smallest effect that the gate finds in it by now."""
    if options.factor:
        return float(options.factor)
    (latest, _) = known(options.store)[-1]
    judged = Reading(options.store / "results" / "runs" / latest.id).night.judge()
    cell = nights_of.find_cell(nights_of.history(options.store / "results", latest.suite), options.cell)
    effect = float(judged.cases.set_index("cell")["smallest_effect"][cell])
    if effect != effect:
        sys.exit(f"nights: {cell} has no baseline yet: give a --factor, or more quiet nights")
    print(f"{cell}: the smallest effect found by the second night is {units.percent(effect)}", file=sys.stderr)
    return 1 + 2 * effect


def a_day_apart(folder: Path) -> NightJudgement:
    """What the gate says of a night by its rules, but for the hour that must lie between two."""
    return Reading(folder).night.judge(validity.blocking(Reading(folder).checks), Rules(apart_s=0.0))


def rows(store: Path, cell: str) -> list[str]:
    """The table of all nights, in Markdown, with what was slowed and what the gate made of it."""
    lines = [
        "| night | run | slowed | exit code | measured | time | a day apart: level | code | what the gate says then |",
        "| ---: | --- | --- | ---: | ---: | ---: | --- | ---: | --- |",
    ]
    for number, (run, digest) in enumerate(known(store), start=1):
        by = next((tag.removeprefix("factor-") for tag in run.tags if tag.startswith("factor-")), "")
        slowed = f"{cell.split('/')[0]} {float(by):.2f}×" if by else ""
        told = "not judged | | | | | it ended before that"
        if digest:
            apart = a_day_apart(store / "results" / "runs" / run.id)
            told = f"{digest.code} | {digest.measured} of {digest.cells} | {units.wall(digest.duration_s)} | "
            told += f"{apart.level.replace('_', ' ')} | {apart.code} | {apart.sentence.replace('|', '/')}"
        lines.append(f"| {number} | {run.id} | {slowed} | {told} |")
    return lines


def upgraded(store: Path) -> list[str]:
    """What the gate says of the slowed nights in a copy of the store that calls PyTorch's version another one there."""
    slowed = [run for run, digest in known(store) if digest and SLOWED in run.tags]
    if not slowed:
        return []
    told = []
    with tempfile.TemporaryDirectory() as copy:
        shutil.copytree(store / "results", Path(copy) / "results")
        for run in slowed:
            folder = Path(copy) / "results" / "runs" / run.id
            content = json.loads((folder / "run.json").read_text())
            for environment in content["environments"]:
                if "torch" in environment["packages"]:
                    environment["packages"]["torch"] = "2.99.0"
            (folder / "run.json").write_text(json.dumps(content))
            apart = a_day_apart(folder)
            told.append(f"- {apart.level.replace('_', ' ')}, code {apart.code}: {apart.sentence}")
    heading = (
        "The slowed nights in a copy that calls PyTorch's version 2.99.0 there, so that they are the first of a new segment:"
    )
    return ["", heading, "", *told]


def main() -> None:
    """Run what is missing and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, required=True, help="holds results/ and reports/; made where it is not there")
    parser.add_argument("--suite", default="short-night")
    parser.add_argument("--quiet-nights", type=int, default=20)
    parser.add_argument("--slowed-nights", type=int, default=2)
    parser.add_argument("--cell", default="rn50_res4_1x1/fprop/torch/", help="the start of the id of the cell that is slowed")
    parser.add_argument("--factor", help="1.2 is 20 %% slower; by default twice the smallest effect")
    parser.add_argument("--apart", type=float, default=0.0, help="seconds from one slowed night to the next, at the least")
    parser.add_argument("--wait", default="30m", help="how long each night waits for a quiet machine")
    parser.add_argument("--write", type=Path, help="the page with the section `nights`")
    options = parser.parse_args()
    options.folder = Path.cwd()
    options.store = options.store.resolve()

    runs = known(options.store)
    done = sum(SLOWED in run.tags for run, _ in runs)
    for number in range(len(runs) - done, options.quiet_nights if not done else 0):
        print(f"quiet night {number + 1} of {options.quiet_nights}: exit code {night(options)}", file=sys.stderr, flush=True)
    by = factor(options) if done < options.slowed_nights else 1.0
    for number in range(done, options.slowed_nights):
        latest, _ = known(options.store)[-1]
        if SLOWED in latest.tags:
            by = next(float(tag.removeprefix("factor-")) for tag in latest.tags if tag.startswith("factor-"))
            left = options.apart - (datetime.now(UTC) - latest.started_at).total_seconds()
            time.sleep(max(0.0, left))
        code = night(options, by)
        print(
            f"slowed night {number + 1} of {options.slowed_nights}, {by:.3f} times: exit code {code}",
            file=sys.stderr,
            flush=True,
        )
    table_of = rows(options.store, options.cell) + upgraded(options.store)
    print("\n".join(table_of))
    if options.write:
        keep(options.write, "nights", [machine(), "", *table_of])


if __name__ == "__main__":
    main()
