"""Runs -> figures and page: what the command line and the Python interface read from the store."""

from pathlib import Path

import pandas as pd

from harness.analysis import ranking
from harness.analysis.summary import summarize
from harness.errors import RunNotFoundError
from harness.record import Run
from harness.spec import Direction
from harness.store import journal, table
from harness.store.table import load, samples

__all__ = ["load", "page", "report", "samples", "summary", "write_page"]


def summary(records: pd.DataFrame) -> pd.DataFrame:
    """One row per run and cell with its figures: the records of `load`, whole or filtered, joined with their samples."""
    store = records.attrs.get("store", "results")
    blocks = samples(store)
    return summarize(records, blocks[blocks["run_id"].isin(records["run_id"].unique())])


def figures(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The summary of one run, ranked, in an order that people read (the run's own is shuffled), and its samples."""
    blocks = samples(folder)
    summary = ranking.rank(summarize(load(folder), blocks))
    turn = {str(direction): number for number, direction in enumerate(Direction)}
    order = summary.assign(turn=summary["direction"].map(turn)).sort_values(["workload", "turn", "backend", "mode", "cell"])
    return summary.loc[order.index].reset_index(drop=True), blocks


def page(folder: Path) -> str:
    """The HTML page of one run."""
    from harness.page import html

    run = journal.read_run(folder)
    ranked, blocks = figures(folder)
    seconds = (run.finished_at - run.started_at).total_seconds() if run.finished_at else None
    return html.render(ranked, blocks, run, duration_s=seconds, command=run.command)


def write_page(folder: Path, reports: str | Path = "reports") -> Path:
    """Write the page of a run to `reports/<run-id>/report.html`, and return that path."""
    path = Path(reports) / folder.name / "report.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page(folder), encoding="utf-8")
    return path


def report(df: pd.DataFrame, path: str | Path) -> Path:
    """Write the page of the one run that `df` holds (records or summary, whole or filtered) to `path`.

    Raises RunNotFoundError where `df` holds no run, or more than one.
    """
    from harness.page import html

    ids = df["run_id"].unique()
    if len(ids) != 1:
        raise RunNotFoundError(f"a report shows one run; this frame holds {len(ids)}")
    folder = table.find(df.attrs.get("store", "results"), ids[0])
    run: Run = journal.read_run(folder)
    ranked, blocks = figures(folder)
    kept = set(df["cell"])
    text = html.render(ranked[ranked["cell"].isin(kept)], blocks[blocks["cell"].isin(kept)], run, command=run.command)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path
