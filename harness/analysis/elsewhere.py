"""The cells of a run beside what others have published of the same convolution: times where the batch is the same, else rates.

Nothing here is a verdict: what was published was not measured here, and says nothing of its own spread.
"""

import functools
import re
import statistics
from collections.abc import Iterable, Sequence
from enum import StrEnum

import pandas as pd

from harness import flops
from harness.analysis.rows import Row, dicts_of, framed
from harness.columns import BESIDE_COLUMNS, SUMMARY_COLUMNS, of_convolutions
from harness.record import Status
from harness.spec import WorkloadSpec, parse_workload

_OF_CELL = tuple(name for name in BESIDE_COLUMNS if name in SUMMARY_COLUMNS)
_OF_SOURCE = ("table", "hardware", "math")
_SCALED = re.compile(r"\bn=\d+ for (\d+)")  # in the column `scaled`


class Basis(StrEnum):
    """What may be compared: times, where the batch is the same, or rates, where only the batch differs."""

    TIMES = "times"
    RATES = "rates"


def beside(summary: pd.DataFrame, published: pd.DataFrame) -> pd.DataFrame:
    """One row per cell and published hardware, arithmetic and table that has its shape and direction, with BESIDE_COLUMNS.

    In the order of the summary; of a cell, what is published in its own precision comes first, then by hardware. The batch is
    the cell's own where that is published, else the one that its workload had before it was scaled, else the nearest by factor
    (of two equally near the smaller); all else must be equal. A shape that a table has several times counts with the median of
    its times. Cells without a figure are left out.
    """
    known: dict[tuple[str, str], dict[tuple[str, ...], list[Row]]] = {}
    for row in dicts_of(published):
        sources = known.setdefault((row["direction"], _one_image(row["shape"])), {})
        sources.setdefault(tuple(row[name] for name in _OF_SOURCE), []).append(row)
    figures = (summary["status"] == str(Status.OK)) & (summary["median_ns"] > 0) & of_convolutions(summary)
    rows = []
    for cell in dicts_of(summary[figures]):
        sources = known.get((cell["direction"], _one_image(cell["shape"])), {})
        for _, of_source in sorted(sources.items(), key=lambda item: _place(item[0], cell["precision"])):
            rows.append(_beside(cell, _of_one_batch(of_source, _spec(cell["shape"]).images, cell["scaled"])))
    return framed(rows, BESIDE_COLUMNS)


def _place(source: tuple[str, ...], precision: str) -> tuple[bool, str, str, str]:
    table, hardware, arithmetic = source
    return arithmetic != precision, hardware, arithmetic, table


def _of_one_batch(rows: Sequence[Row], n: int, scaled: str) -> list[Row]:
    """The rows with the batch n, with that before it was scaled (`n=1 for 16`), or with the nearest."""
    stated = _SCALED.search(scaled)
    before = int(stated[1]) if stated else n
    batches = {_spec(row["shape"]).images for row in rows}
    chosen = min(batches, key=lambda batch: (batch != n, batch != before, max(batch / n, n / batch), batch))
    return [row for row in rows if _spec(row["shape"]).images == chosen]


def _beside(cell: Row, rows: Sequence[Row]) -> Row:
    """The row of a cell and of published rows of one shape."""
    spec = _spec(rows[0]["shape"])
    published_ns = statistics.median(row["published_ns"] for row in rows)
    rate = flops.nominal(spec) / published_ns * 1e9
    over = rate / cell["flop_per_s"]
    return {
        **{name: cell[name] for name in _OF_CELL},
        **{name: rows[0][name] for name in _OF_SOURCE},
        **{name: _joined("; ", (row[name] for row in rows)) for name in ("algorithm", "source", "remark")},
        "kind": _joined(",", (row["kind"] for row in rows)),
        "basis": str(Basis.TIMES if spec.images == _spec(cell["shape"]).images else Basis.RATES),
        "published_n": spec.images,
        "published_rows": len(rows),
        "published_ns": published_ns,
        "published_flop_per_s": rate,
        "time_over_published": over,
        "time_over_published_low": over * cell["ci_low_ns"] / cell["median_ns"],
        "time_over_published_high": over * cell["ci_high_ns"] / cell["median_ns"],
    }


def _joined(by: str, texts: Iterable[str]) -> str:
    """What any of the texts says, each once."""
    return by.join(dict.fromkeys(filter(None, texts)))


@functools.lru_cache(maxsize=8192)
def _spec(shape: str) -> WorkloadSpec:
    return parse_workload(shape)


@functools.lru_cache(maxsize=8192)
def _one_image(shape: str) -> str:
    """The shape with a batch of one: what is the same of shapes that differ in the batch alone."""
    return _spec(shape).swept("batch")[0]
