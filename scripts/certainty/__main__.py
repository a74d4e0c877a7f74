"""All measurements of how sure a run is: made one after the other, each once, going on where they were cut off.

    .venv/bin/python scripts/certainty --out FOLDER             make what is not there yet
    .venv/bin/python scripts/certainty --out FOLDER JOB ...     only these
    .venv/bin/python scripts/certainty --out FOLDER --list      the jobs, what each is expected to take, and which are done
    .venv/bin/python scripts/certainty --out FOLDER --report    what is there so far, as Markdown; behind it a part: certainty,
                                                                which is the default, programs, axes or issue
    ... --try                                                   the least that shows that a job's code works, in seconds

What is measured, how often and in which order stands in scripts/certainty/jobs.py. A job begins once others use less than a
part of a core.
"""

import argparse
import json
import shutil
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parents[2])  # not this folder, whose rooms have names that others may have
from scripts.certainty.jobs import JOBS, PARTS, Job, done, is_done
from scripts.certainty.place import Others, Place, wait_for_quiet


def parser() -> argparse.ArgumentParser:
    """Its options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("jobs", nargs="*", help="by default all")
    parser.add_argument("--out", type=Path, required=True, help="a folder for results and runs")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--report", nargs="?", const=PARTS[0], choices=PARTS, help="what is there of a part, as Markdown")
    parser.add_argument("--write", type=Path, help="with --report: a Markdown file whose marked sections of it are replaced")
    parser.add_argument("--try", action="store_true", dest="tries", help="seconds instead of minutes; waits for nobody")
    return parser


def make(job: Job, out: Path, tries: bool) -> None:
    """Make a job, and keep its result; whatever an earlier attempt left is gone. Raises RefusedError."""
    if job.after:
        done(out, job.after)
    folder = out / job.name
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    before = 0.0 if tries else wait_for_quiet()
    started_at, begun, others = datetime.now(UTC), time.monotonic(), Others()
    result = job.make(Place(folder, out, tries))
    told = {"started_at": f"{started_at:%Y-%m-%d %H:%M}", "took_s": time.monotonic() - begun, "others_before": before,
            "others": others.cores(), "tried": tries}  # fmt: skip
    draft = folder / "result.draft"
    draft.write_text(json.dumps({**result, **told}, indent=1))
    draft.rename(folder / "result.json")


def listing(out: Path) -> list[str]:
    """A line per job, and what is left in all."""
    lines = []
    for job in JOBS.values():
        if is_done(out, job.name):
            found = done(out, job.name)
            told = f"{found['took_s'] / 60:5.1f} min on {found['started_at']}, others {found['others']:.2f} cores"
            told += ", a try" if found["tried"] else ""
        else:
            told = f"about {job.minutes:.0f} min"
        lines.append(f"{job.name:<12} {told}")
    left = sum(job.minutes for job in JOBS.values() if not is_done(out, job.name))
    return [*lines, f"left: about {left / 60:.1f} of {sum(job.minutes for job in JOBS.values()) / 60:.1f} h"]


def main() -> None:
    """List, report, or make what is not there."""
    options = parser().parse_args()
    out = options.out.resolve()
    if unknown := [name for name in options.jobs if name not in JOBS]:
        raise SystemExit(f"{unknown[0]}: no such job; there are {', '.join(JOBS)}")
    if options.list:
        print("\n".join(listing(out)))
        return
    if options.report:
        from scripts.certainty.report import report
        from scripts.pages import keep

        for section, lines in report(out, options.report).items():
            print("\n".join(lines))
            if options.write:
                keep(options.write, section, lines)
        return
    failed = []
    for name in options.jobs or JOBS:
        if is_done(out, name):
            continue
        print(f"{datetime.now(UTC):%H:%M} {name}, about {JOBS[name].minutes:.0f} min", file=sys.stderr, flush=True)
        try:
            make(JOBS[name], out, options.tries)
        except (SystemExit, Exception) as why:  # the others are made all the same
            failed.append(name)
            print(f"{name} was not made: {why}", file=sys.stderr, flush=True)
    if failed:
        raise SystemExit(f"not made: {', '.join(failed)}")


if __name__ == "__main__":
    main()
