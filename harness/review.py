"""Runs -> figures and page: what the command line and the Python interface read from the store."""

from collections.abc import Collection
from pathlib import Path

import pandas as pd

from harness.analysis import ranking, roofline
from harness.analysis.summary import summarize
from harness.errors import RunNotFoundError
from harness.spec import Direction
from harness.store import journal, table
from harness.store.table import load, samples

__all__ = ["load", "page", "report", "samples", "summary", "write_page"]


def summary(records: pd.DataFrame) -> pd.DataFrame:
    """One row per run and cell with its figures: the records of `load`, whole or filtered, joined with their samples."""
    store = records.attrs.get("store", "results")
    blocks = samples(store)
    return summarize(records, blocks[blocks["run_id"].isin(records["run_id"].unique())])


def figures(folder: Path, cells: Collection[str] | None = None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The summary of one run or of some of its cells, ranked, in an order that people read, and its samples.

    The run's own order is shuffled; this one is by workload, direction, backend and mode.
    """
    records, blocks = load(folder), samples(folder)
    summary = summarize(records, blocks)
    if cells is not None:  # the ceilings stay, since the cells are held against them
        kept = summary["cell"].isin(cells) | (summary["direction"] == str(Direction.NONE))
        summary, blocks = summary[kept], blocks[blocks["cell"].isin(cells)]
    summary = ranking.rank(summary)
    turn = {str(direction): number for number, direction in enumerate(Direction)}
    order = summary.assign(turn=summary["direction"].map(turn)).sort_values(["workload", "turn", "backend", "mode", "cell"])
    return summary.loc[order.index].reset_index(drop=True), blocks


def page(folder: Path, cells: Collection[str] | None = None) -> str:
    """The HTML page of one run, or of some of its cells: those are ranked among themselves."""
    from harness.page import html

    run = journal.read_run(folder)
    ranked, blocks = figures(folder, cells)
    seconds = (run.finished_at - run.started_at).total_seconds() if run.finished_at else None
    return html.render(ranked, blocks, run, duration_s=seconds, command=run.command, ceilings=roofline.ceilings(ranked))


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
    ids = df["run_id"].unique()
    if len(ids) != 1:
        raise RunNotFoundError(f"a report shows one run; this frame holds {len(ids)}")
    text = page(table.find(df.attrs.get("store", "results"), ids[0]), set(df["cell"]))
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path
