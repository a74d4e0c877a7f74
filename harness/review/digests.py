"""What `reports/<run-id>/summary.json` holds of a run: made here, of a night and of any other run."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC

import numpy as np
import pandas as pd

from harness import units
from harness.analysis import roofline
from harness.analysis.gate import NightJudgement
from harness.analysis.history import History
from harness.axes import NO_COMPETITOR
from harness.digest import SCHEMA, Digest, Ratio, Validity
from harness.outcome import Check, Outcome, State
from harness.record import Run, Status
from harness.review.comparing import Standing
from harness.review.nights import Night, changed
from harness.review.reading import Reading


def of_run(reading: Reading, standing: Standing, report_bytes: int | None = None) -> Digest:
    """The digest of a run: of a night that stands among others what the gate says, of any other how its cells ended."""
    if standing.nights is not None:
        digest = of_night(reading.night, reading.judgement, standing.checks)
    else:
        digest = _ended(reading, standing)
    return replace(digest, report_bytes=report_bytes, unfinished=reading.extent.words if reading.extent else "")


def of_night(night: Night, judgement: NightJudgement, checks: Sequence[Check] = ()) -> Digest:
    """The digest of a night by the gate's judgement; a night that was not measured has the machine of the one before."""
    run, before = night.run, night.before
    cells = night.history.cells[night.history.cells["run_id"] == run.id]
    states = judgement.cases["state"].value_counts()
    return replace(
        _begun(run, run.machines or (before.machines if before else {}), checks),
        baseline_id=before.id if before and (judgement.cases["nights"] > 0).any() else "",
        level=str(judgement.level), code=judgement.code, sentence=judgement.sentence,
        verdicts={str(name): int(count) for name, count in states.items() if count},
        statuses={str(name): int(count) for name, count in cells["status"].value_counts().items() if count},
        new_failures=int(states.get(str(State.FAILED), 0)),
        over_baseline=_over(judgement.cases.assign(ratio=judgement.cases["change"] + 1.0)),
        over_first=_over(_over_first(night.history, run.id)), changes=changed(before, run) if before else (),
    )  # fmt: skip


def _ended(reading: Reading, standing: Standing) -> Digest:
    """The digest of a run that no gate has judged: its level is that of the comparison with a baseline, "" without one."""
    judged = standing.judged
    asked = roofline.asked_for(reading.ranking)
    counts = {str(status): int(count) for status, count in asked["status"].value_counts(sort=False).items()}
    ends = ", ".join(f"{count} {status.replace('_', ' ')}" for status, count in sorted(counts.items()) if status != Status.OK)
    failed = any(Status(status).failed for status in counts)
    counted = {} if judged is None else judged.cases["verdict"].value_counts().to_dict()
    verdicts = {Outcome(str(name)).words: int(count) for name, count in counted.items()}
    cells = f"{units.many(len(asked), 'cell')} {'has' if len(asked) == 1 else 'have'}"
    plain = f"{counts.get(Status.OK, 0)} of {cells} a checked figure" + (f"; {ends}." if ends else ".")
    if reading.extent:
        failed, plain = True, f"{reading.extent.words.capitalize()}. {plain}"
    return replace(
        _begun(reading.run, reading.run.machines, standing.checks),
        baseline_id=judged.baseline if judged else "", level=str(judged.level) if judged else "",
        code=judged.level.code if judged else 5 if failed or not counts.get(Status.OK) else 0,
        sentence=judged.sentence if judged else plain,
        verdicts=dict(sorted(verdicts.items())), statuses=dict(sorted(counts.items())),
        new_failures=verdicts.get(Outcome.FAILED.words, 0), changes=tuple(one.words for one in standing.differences),
    )  # fmt: skip


def _begun(run: Run, machines: dict[str, str], checks: Sequence[Check]) -> Digest:
    """What a digest says of a run whatever came of it: which, when, where, and whether its figures can be trusted."""
    machine_id, machine = next(iter(machines.items()), ("", ""))
    return Digest(
        schema=SCHEMA, run_id=run.id, suite=run.suite, started_at=run.place[0].astimezone(UTC), duration_s=run.wall_s or 0.0,
        machine_id=machine_id, machine=machine, commit=run.commit, baseline_id="", level="", code=0, sentence="", verdicts={},
        statuses={}, new_failures=0,
        validity=tuple(map(Validity.of, checks)),
    )  # fmt: skip


def _over(frame: pd.DataFrame) -> tuple[Ratio, ...]:
    """The geometric mean of the column `ratio` for each backend that has any, twins left out."""
    known = frame[frame["ratio"].notna() & ~frame["backend"].astype("string").str.contains(NO_COMPETITOR)]
    groups = known.groupby(known["backend"].astype("string"), sort=True)["ratio"]
    return tuple(Ratio(str(backend), float(np.exp(np.log(ratios).mean())), len(ratios)) for backend, ratios in groups)


def _over_first(known: History, run_id: str) -> pd.DataFrame:
    """The cells of a run with `ratio`: time over that of the first night on their machine which has a figure of any."""
    cells = known.cells.astype(dict.fromkeys(("run_id", "cell", "backend", "machine_id", "status", "barred_by"), "string"))
    good = cells[(cells["status"] == str(Status.OK)) & (cells["barred_by"] == "") & (cells["median_ns"] > 0)]
    place = good["run_id"].map({run.id: number for number, run in enumerate(known.runs)})
    first = good[place == place.groupby(good["machine_id"]).transform("min")]
    both = good[good["run_id"] == run_id].merge(first, on=["cell", "machine_id"], suffixes=("", "_first"))
    return both.assign(ratio=both["median_ns"] / both["median_ns_first"])
