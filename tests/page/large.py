"""Runs as large as a page must bear: of 900 and of 5,400 cases, with a baseline, thirty nights and ceilings."""

import dataclasses
from datetime import timedelta

import numpy as np
import pandas as pd

from harness.analysis import judgement
from harness.columns import COMPARISON_COLUMNS
from harness.page.sections import Given
from tests.page import synthetic

CASES_PER_WORKLOAD = 18  # three directions, three backends, two devices
FAMILIES = ("resnet50", "mobilenet", "vgg16", "unet", "efficientnet", "resnext")


def given(cases: int, nights: int = 30) -> Given:
    """What the page of such a run is made of; `cases` is rounded to whole workloads."""
    specs = list(synthetic.LAYERS.values())
    found = [cell for cell in synthetic.cells() if cell.workload == "rn50_res2_3x3"]
    found += [cell for cell in synthetic.cells(device="gpu:0") if cell.workload == "rn50_res2_3x3"]
    cells = [
        dataclasses.replace(cell, workload=f"{FAMILIES[at % len(FAMILIES)]}.layer{at:03}", spec=specs[at % len(specs)])
        for at in range(round(cases / CASES_PER_WORKLOAD))
        for cell in found
    ]
    failing = {
        (cell.backend, cell.workload, str(cell.direction), str(cell.mode)): ("oom", "Out of memory.") for cell in cells[::40]
    }
    made = synthetic.make(cells, failing)
    lots = np.random.default_rng(3)
    return Given(
        made.summary, made.samples, made.run, duration_s=6720.0, command=made.run.command, index="../index.html",
        judged=judgement.against(comparison(made.summary, lots), "an earlier run"), nights=history(made, nights, lots),
    )  # fmt: skip


def comparison(summary: pd.DataFrame, lots: np.random.Generator) -> pd.DataFrame:
    """This run beside one before it: one case in fifty slower, one in sixty faster."""
    ratio = lots.lognormal(0, 0.008, len(summary))
    ratio[::50] *= 1.15
    ratio[::60] /= 1.2
    moved = np.abs(np.log(ratio)) > 0.05
    ok = (summary["status"] == "ok").to_numpy()
    frame = summary.assign(
        base_run_id="before", new_run_id=summary["run_id"], base_median_ns=summary["median_ns"] / ratio,
        new_median_ns=summary["median_ns"], base_status="ok", new_status=summary["status"], base_flags="",
        new_flags=summary["flags"], ratio=np.where(ok, ratio, np.nan), ratio_low=np.where(ok, ratio * 0.99, np.nan),
        ratio_high=np.where(ok, ratio * 1.01, np.nan), pairs=3, estimator="median", aa_noise=0.01,
        verdict=np.where(~ok, "uncertain", np.where(moved, np.where(ratio > 1, "slower", "faster"), "no_change")), why="",
    )  # fmt: skip
    return frame.reindex(columns=list(COMPARISON_COLUMNS))


def history(made: synthetic.Made, nights: int, lots: np.random.Generator) -> pd.DataFrame:
    """So many nights of every case, the last of which is the run."""
    known = made.summary[["cell", "backend", "device", "status", "median_ns"]]
    frames = []
    for back in range(nights - 1, -1, -1):
        run_id = made.run.id if not back else f"night-{back:02}"
        night = known["median_ns"] * lots.lognormal(0, 0.01, len(known))
        frames.append(
            known.assign(run_id=run_id, started_at=made.run.started_at - timedelta(days=back), median_ns=night, night_ns=night)
        )
    return pd.concat(frames, ignore_index=True)
