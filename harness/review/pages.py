"""What people get of a run: its page with what stands beside it, the index of all runs, and a page of some cells."""

import contextlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from harness import codec, drafts
from harness.analysis.networks import by_pass
from harness.review import comparing
from harness.review import digests as digesting
from harness.review.comparing import Standing
from harness.review.reading import Reading, of_frame
from harness.store import digests

if TYPE_CHECKING:
    from harness.page import html


INDEX = "index.html"


@dataclass(frozen=True)
class Written:
    """A page that was written: where it is, and which of its parts could not be made."""

    path: Path
    broken: tuple[str, ...]


def page(reading: Reading, baseline: Reading | None = None) -> "html.Page":
    """The HTML page of a run, or of the cells that the reading ranks.

    `baseline` is the run that it is held against; None: a night is held against those before it, any other run against none.
    """
    return _page(reading, comparing.standing(reading, baseline), "")


def _page(reading: Reading, standing: Standing, index: str) -> "html.Page":
    ranked, samples = reading.ranking, reading.ranked_samples
    ceilings, networks, beside, worth = reading.ceilings, by_pass(reading.networks), reading.beside, reading.worth
    tuned = {"tuned": reading.tuned, "tuned_networks": reading.tuned_networks} if reading.run.tuned else {}
    profiles, explanations, traces = reading.profiles, reading.explanations, _traces(reading)
    from harness.page import html  # the drawing libraries' 90 MB come after the most that judging needs
    from harness.page.sections import Given, Ran

    return html.build(Given(
        ranked, samples, reading.run, duration_s=reading.run.wall_s, command=reading.run.command, ceilings=ceilings,
        networks=networks, beside=beside, worth=worth, beside_settings=reading.beside_settings if worth else None, **tuned,
        judged=standing.judged, checks=standing.checks, differences=standing.differences, nights=standing.nights,
        breaks=standing.breaks, steps=standing.steps, index=index,
        extent=reading.extent, pruned=reading.pruned, ran=Ran(reading.kernels, profiles, explanations, traces),
    ))  # fmt: skip


def _traces(reading: Reading) -> dict[str, bytes]:
    """The traces of its cells, by the id of the cell; one that cannot be read is left out."""
    found = {}
    for cell, name in zip(reading.profiles["cell"], reading.profiles["trace"], strict=True):
        with contextlib.suppress(OSError):
            if name:
                found[cell] = (reading.folder / name).read_bytes()
    return found


def publish(reading: Reading, reports: str | Path = "reports", baseline: Reading | None = None) -> Written:
    """Write what people get of a run to `reports/<run-id>/`, and the index of all runs again: each file whole, or as it was.

    The page, its table as results.csv, the run as environment.json, and the digest as summary.json: that of the gate where the
    run is a night, else one that says how its cells ended.
    """
    standing = comparing.standing(reading, baseline)
    made = _page(reading, standing, f"../{INDEX}")
    beside = digests.folder(reports, reading.run.id)
    path = beside / digests.PAGE
    drafts.write(path, made.text)
    drafts.write(beside / "results.csv", made.rows)
    drafts.write(beside / "environment.json", json.dumps(codec.encode(reading.run), indent=1) + "\n")
    digests.write(reports, digesting.of_run(reading, standing, len(made.text.encode())))
    return Written(path, (*made.broken, *write_index(reports).broken))


def write_index(reports: str | Path = "reports") -> Written:
    """Write `reports/index.html` from the digests of all runs there."""
    from harness.page import index

    known = digests.read(reports)
    made = index.render(known, [run_id for run_id in known if (Path(reports) / run_id / digests.PAGE).is_file()])
    path = Path(reports) / INDEX
    drafts.sweep(path.parent)
    drafts.write(path, made.text)
    return Written(path, tuple(f"index, {part}" for part in made.broken))


def report(df: pd.DataFrame, path: str | Path) -> Path:
    """Write the page of the one run that `df` holds (records or summary, whole or filtered) to `path`.

    Raises RunNotFoundError where `df` holds no run, or more than one.
    """
    text = page(of_frame(df, "a report shows one run", set(df["cell"]))).text
    path = Path(path)
    drafts.deliver(path, text)
    return path
