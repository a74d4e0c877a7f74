#!/usr/bin/env -S python3
"""How long do gate and index take over a year? Synthetic nights as a store of run folders, judged in fresh processes.

    .venv/bin/python scripts/gate_bench.py                              30 and 365 nights of 1,500 cells
    .venv/bin/python scripts/gate_bench.py --nights 365 --keep DIR      keep the store, to try other things with it
    ... --write docs/gate.md                                         keep the table, with machine and versions

The last two nights hold an upgrade that slows a fifth of the cells: those are dated, which is the dear part.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).parents[1]))
from scripts.pages import keep, machine

SUITE = "synthetic"
BACKENDS = ("torch", "tensorflow", "jax", "torch@aa")
SHARES = (0.4, 0.3, 0.28, 0.02)
DIGESTED = tuple(zip(BACKENDS[:3], SHARES[:3], strict=True))  # the digest of a night leaves equals out
CHECKS = 14  # about as many as there are


def reports_of(store: Path) -> Path:
    """Where the digests and pages of a store are."""
    return store.with_name(f"{store.name}-reports")


def generate(store: Path, nights: int, cells: int) -> None:
    """Write the run folders (run.json and night.parquet, what a pruned run consists of) and the digests beside their pages."""
    from harness.analysis.history import FIGURES
    from harness.columns import NIGHT_COLUMNS
    from harness.digest import SCHEMA, Digest, Ratio, Validity
    from harness.record import METHOD_VERSION, NIGHTLY, Environment, Run
    from harness.store import digests, journal
    from harness.store import nights as tables

    rng = np.random.default_rng(0)
    backends = np.repeat(BACKENDS, [round(share * cells) for share in SHARES])[:cells].astype(object)
    number = np.arange(len(backends))
    number[backends == "torch@aa"] = np.arange((backends == "torch@aa").sum())
    frame = pd.DataFrame(
        {
            "workload": [f"layer-{each}" for each in number],
            "shape": [f"n1 c{each % 512 + 1} k64 56x56 f3x3 p1x1" for each in number],
            "direction": "fprop", "backend": backends, "mode": "eager", "device": "cpu", "threads": 2, "status": "ok",
            "reason": "", "barred_by": "", "environment_id": backends, "standard_environment_id": "", "machine_id": "machine",
            "cell": [f"layer-{at}/fprop/{name}/eager/cpu/fp32/nchw/hot/t2" for at, name in zip(number, backends, strict=True)],
        }
    )  # fmt: skip
    usual = np.exp(rng.normal(15, 1, len(frame)))
    usual[backends == "torch@aa"] = usual[: (backends == "torch@aa").sum()]  # the equals of the first of torch
    started = datetime(2025, 1, 1, 2, 0, tzinfo=UTC)
    for night in range(nights):
        upgraded = night >= nights - 2
        packages = {"torch": "2.14.0" if upgraded else "2.13.0", "tensorflow": "2.21.0", "jax": "0.10.0", "numpy": "2.4.6"}
        environments = tuple(
            Environment(
                id=name, machine_id="machine", backend=name, host="here", os="Linux-6.1", cpu="CPU", cores=2, affinity=(0, 1),
                memory_bytes=2**34, gpu="", driver="", python="CPython 3.11.7", environ={},
                packages={key: packages[key] for key in (name.partition("@")[0], "numpy")},
            )
            for name in BACKENDS
        )  # fmt: skip
        at = started + timedelta(days=night)
        run = Run(
            f"{at:%Y%m%d-%H%M%S}-aaaa", SUITE, "00", "", "", "0", METHOD_VERSION, 0, "", at, at + timedelta(hours=3),
            (NIGHTLY,), environments,
        )  # fmt: skip
        slow = np.where(upgraded & np.isin(backends, ("torch", "torch@aa")) & (number < cells // 5), 1.08, 1.0)
        ratio = usual / 5e5 * slow * np.exp(rng.normal(0, 0.008, len(frame)))
        speed = np.exp(rng.normal(0, 0.01))
        figures = {"run_id": run.id, "yardstick_ratio": ratio, "reference_ns": 5e5 * speed, "median_ns": ratio * 5e5 * speed}
        kept = frame.assign(**figures).reindex(columns=list(NIGHT_COLUMNS))
        tables.write(journal.create(store, run), kept, FIGURES)
        over = tuple(Ratio(name, float(np.exp(rng.normal(0, 0.01))), round(share * cells)) for name, share in DIGESTED)
        digest = Digest(
            schema=SCHEMA, run_id=run.id, suite=SUITE, started_at=at, duration_s=3 * 3600.0, machine_id="machine",
            machine="CPU, 2 cores", commit="", baseline_id="", level="quiet", code=0,
            sentence=f"Quiet: {cells} cases as before.", verdicts={"steady": cells}, statuses={"ok": cells}, new_failures=0,
            over_baseline=over, over_first=over, report_bytes=10**6,
            validity=tuple(Validity(f"check {number}", "pass", "all as it should be") for number in range(CHECKS)),
        )  # fmt: skip
        digests.write(reports_of(store), digest).with_name(digests.PAGE).touch()


def measure(store: Path) -> None:
    """Read, judge, and write digest and index, in this process; print what it took."""
    began = time.perf_counter()
    from harness.analysis import gate
    from harness.review import digests as digesting
    from harness.review import nights as nights_of
    from harness.review import pages
    from harness.review.nights import Night
    from harness.store import digests

    imported = time.perf_counter()
    history = nights_of.history(store, SUITE)
    read = time.perf_counter()
    judgement = gate.judge(history)
    judged = time.perf_counter()
    newest = history.runs[-1]
    digests.write(reports_of(store), digesting.of_night(Night(newest, history), judgement))
    index = pages.write_index(reports_of(store))
    written = time.perf_counter()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    seconds = (imported - began, read - imported, judged - read, written - judged, written - began)
    told = " | ".join(f"{each:.1f}" for each in seconds)
    print(f"| {len(history.runs)} | {len(history.cells):,} | {told} | {peak:.0f} | {index.path.stat().st_size / 1024:.0f} |")
    print(judgement.sentence, *index.broken, file=sys.stderr)


def main() -> None:
    """Print a table with a line per number of nights."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nights", type=int, nargs="+", default=[30, 365])
    parser.add_argument("--cells", type=int, default=1500)
    parser.add_argument("--keep", type=Path, help="a folder for the stores; without it they are removed")
    parser.add_argument("--write", type=Path, help="the page that keeps the table")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(options.measure)
        return
    names = ("nights", "rows", "import, s", "read, s", "judge, s", "index, s", "all, s", "peak, MiB", "index, KiB")
    lines = [f"| {' | '.join(names)} |", "|---" * len(names) + "|"]
    print("\n".join(lines), flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        for nights in options.nights:
            store = (options.keep or Path(scratch)) / f"{nights}-nights"
            if not store.exists():
                generate(store, nights, options.cells)
            command = [sys.executable, __file__, "--measure", str(store)]
            lines.append(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.strip())
            print(lines[-1], flush=True)
    if options.write:
        keep(options.write, "speed", [machine(), "", *lines])


if __name__ == "__main__":
    main()
