"""The section on what others have published of the same convolutions: one chart, and tables of times and of rates.

Every figure of others is shown as such: published, not measured here, without an interval, and without a verdict.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pandas as pd
from matplotlib.axes import Axes

from harness import units
from harness.axes import Mode
from harness.page import tables
from harness.page.canvas import Canvas, Drawn, draw, fitted, label_width, log_axis
from harness.page.palette import DARK, LIGHT, Look, sentinel
from harness.page.provenance import cut
from harness.page.svg import clean
from harness.page.view import View, short
from harness.rows import rows_of
from harness.spec import parse_workload

MOST_ROWS = 300  # of a table; all are what `convbench compare RUN published:all` prints
MOST_SOURCES = 24  # rows of the chart
HERE, THERE = "measured in this run", "published, not measured here"

_PUBLISHED = Look("published", "mut", LIGHT["mut"], DARK["mut"], "d", "-")
_PITCH, _HEAD = 20.0, 26.0  # px from row to row, and for a heading
_TERA = 1e12
_QUANTILES = (0.0, 0.25, 0.5, 0.75, 1.0)

Source = tuple[str, str, str]  # hardware, math and, where there are several, the table


@dataclass(frozen=True)
class Figure:
    """What is published for a row: time in ms, rate in TFLOP/s, whether its printed rate is missing, and more in words.

    `span` is the number of neighbouring sources without a figure that share one dash.
    """

    time: str
    rate: str
    doubt: bool = False
    title: str = ""
    span: int = 1


@dataclass(frozen=True)
class Published:
    """A published time beside a cell: a row of `analysis.elsewhere.beside` with the key of its source."""

    source_key: Source
    algorithm: str
    remark: str
    published_rows: int
    published_ns: float
    published_flop_per_s: float


@dataclass(frozen=True)
class Line:
    """A row of a table: workload, direction and device, both batches, the lowest time of the run, a figure per source."""

    name: str
    shape: str
    words: str
    device: str
    n: int
    published_n: int
    ours: tables.Named
    time: str
    rate: str
    figures: list[Figure]


@dataclass(frozen=True)
class Table:
    """Rows of one basis, `times` or `rates`; `sources` head the columns, `total` counts the rows that there are."""

    basis: str
    sources: list[Source]
    lines: list[Line]
    total: int

    @property
    def doubt(self) -> bool:
        """Whether any figure has no printed rate of its own."""
        return any(figure.doubt for line in self.lines for figure in line.figures)


@dataclass(frozen=True)
class Elsewhere:
    """The section: how many workloads and directions are published, the chart, the tables, each source and where it stands."""

    shapes: int
    chart: Drawn
    tables: list[Table]
    sources: list[tuple[str, str]]


def section(view: View, beside: pd.DataFrame | None) -> Elsewhere | None:
    """The section for the frame of `analysis.elsewhere.beside`; None where none of the cells that are drawn is published."""
    if beside is None or beside.empty:
        return None
    rows = _joined(view, beside)
    if rows.empty:
        return None
    found = [_table(view, rows[rows["basis"] == basis], basis) for basis in ("times", "rates")]
    return Elsewhere(
        shapes=rows.groupby(["key", "words"]).ngroups,
        chart=_chart(view, rows),
        tables=[table for table in found if table.lines],
        sources=_sources(rows),
    )


def _joined(view: View, beside: pd.DataFrame) -> pd.DataFrame:
    """The rows of the frame whose cells are drawn, in the order of the page, with the page's names and `source_key`."""
    names = view.drawn[["cell", "key", "row", "words", "who", "order_in_group"]]
    rows = names.merge(beside.astype({"cell": object}), on="cell")
    several = rows["table"].nunique() > 1
    parts = zip(rows["hardware"], rows["math"], rows["table"], strict=True)
    rows["source_key"] = [(short(hardware), short(math), short(table) if several else "") for hardware, math, table in parts]
    workloads = list(view.cells["key"].drop_duplicates())
    place = rows["key"].map(workloads.index), rows["words"].map(view.directions.index)
    return rows.assign(at=place[0], pass_at=place[1]).sort_values(["at", "pass_at", "device"], kind="stable")


def _ordered(rows: pd.DataFrame) -> list[Source]:
    """The sources of the rows: what is in a precision of the run first, then by hardware."""
    precisions = set(rows["precision"])
    return sorted(set(rows["source_key"]), key=lambda source: (source[1] not in precisions, source))


def _label(source: Source) -> str:
    return " · ".join(filter(None, source))


# --- tables ------------------------------------------------------------------------------------------------------------


def _table(view: View, rows: pd.DataFrame, basis: str) -> Table:
    sources, lines = _ordered(rows), []
    groups = [same for _, same in rows.groupby(["key", "words", "device", "published_n"], sort=False)]
    for same in groups[:MOST_ROWS]:
        # Of the run, the cell with the lowest time stands for all: the others are in the table of results.
        first = same.iloc[int(same["median_ns"].argmin())]
        published = {row.source_key: row for row in rows_of(same[same["cell"] == first["cell"]], Published)}
        lines.append(
            Line(
                name=first["row"],
                shape=clean(first["shape"]),
                words=first["words"],
                device=first["device"] if len(view.devices) > 1 else "",
                n=parse_workload(first["shape"]).images,
                published_n=int(first["published_n"]),
                ours=tables.named(view, first["backend"], first["mode"]),
                time=units.milliseconds(first["median_ns"]),
                rate=units.teraflops(first["flop_per_s"]),
                figures=_folded([_figure(published.get(source)) for source in sources]),
            )
        )
    return Table(basis, sources, lines, len(groups))


def _figure(row: Published | None) -> Figure:
    if row is None:
        return Figure(units.MISSING, units.MISSING)
    many = f"median of {row.published_rows} rows" if row.published_rows > 1 else ""
    title = clean("; ".join(filter(None, (row.algorithm, row.remark, many))))
    return Figure(units.milliseconds(row.published_ns), units.teraflops(row.published_flop_per_s), bool(row.remark), title)


def _folded(figures: Sequence[Figure]) -> list[Figure]:
    """The figures with neighbours that are empty joined into one: most sources lack most shapes."""
    found: list[Figure] = []
    for figure in figures:
        empty = figure.time == figure.rate == units.MISSING
        if empty and found and found[-1].time == found[-1].rate == units.MISSING:
            found[-1] = replace(found[-1], span=found[-1].span + 1)
        else:
            found.append(figure)
    return found


def _sources(rows: pd.DataFrame) -> list[tuple[str, str]]:
    """Each source in words, and where its timings stand: the references without their last part, the row, each once."""
    found = []
    for source in _ordered(rows):
        texts = rows.loc[[key == source for key in rows["source_key"]], "source"].drop_duplicates()
        places = dict.fromkeys(one.rpartition(":")[0] or one for text in texts for one in text.split("; "))
        found.append((_label(source), cut(clean("; ".join(places)))))
    return found


# --- chart -------------------------------------------------------------------------------------------------------------


def _chart(view: View, rows: pd.DataFrame) -> Drawn:
    """Rates over the shapes, a column per direction, a row per backend and mode of the run and per source."""
    ours, theirs = rows.drop_duplicates("cell"), rows.drop_duplicates(["source_key", "words", "shape", "published_n"])
    device = ours["device"] if len(view.devices) > 1 else [""] * len(ours)
    labels = [" · ".join(filter(None, pair)) for pair in zip(ours["who"], device, strict=True)]
    ours = ours.assign(block=HERE, label=labels, value=ours["flop_per_s"])
    labels = [_label(source) for source in theirs["source_key"]]
    theirs = theirs.assign(block=THERE, label=labels, value=theirs["published_flop_per_s"])
    rates = pd.concat([ours, theirs], ignore_index=True)
    # The highest rate first, over all directions; in a block of its own what was measured here.
    places = rates.groupby(["block", "label"], sort=False)["value"].median().sort_values(ascending=False, kind="stable")
    here, there = ([label for block, label in places.index if block == wanted] for wanted in (HERE, THERE))
    note = (
        "Marker: the median over the shapes that a row has; thick line: half of them, thin line: all. Further right is faster. "
        "Not every source has every shape."
    )
    if len(there) > MOST_SOURCES:
        note += f" The {MOST_SOURCES} of {len(there)} sources with the highest rates."
        there = there[:MOST_SOURCES]
    tera = rates["value"].max() >= _TERA
    unit, factor = ("TFLOP/s", _TERA) if tera else ("GFLOP/s", _TERA / 1000)
    rates = rates.assign(value=rates["value"] / factor)
    blocks = [(HERE, here), (THERE, there)]
    caption = f"Rates of this run beside published ones, the same shapes, in {unit}"
    desc = f"A column per direction, a row per backend and per published hardware, a marker at the median rate in {unit}."
    return draw("elsewhere", caption, desc, lambda: _ranges(view, rates, blocks, unit), note=note)


def _ranges(view: View, rates: pd.DataFrame, blocks: Sequence[tuple[str, list[str]]], unit: str) -> Canvas:
    directions = [words for words in view.directions if words in set(rates["words"])]
    left, gap = label_width([label for _, labels in blocks for label in labels], 260), 22.0
    height = sum(_HEAD + _PITCH * len(labels) for _, labels in blocks)
    canvas = Canvas(_HEAD + height + 46)
    width = (canvas.width - left - 12 - gap * (len(directions) - 1)) / len(directions)
    y, at = 0.0, {}
    for block, labels in blocks:
        canvas.text(left - 10, _HEAD + y + _HEAD / 2, block, ha="right", fontweight="bold")
        y += _HEAD
        for label in labels:
            at[block, label] = y + _PITCH / 2
            canvas.text(left - 10, _HEAD + at[block, label], fitted(label, left), ha="right")
            y += _PITCH
    low, high = rates["value"].min() / 1.3, rates["value"].max() * 1.3
    for column, words in enumerate(directions):
        x = left + column * (width + gap)
        axes = canvas.axes(x, _HEAD, width, height)
        canvas.text(x, _HEAD / 2, fitted(words, width + gap + 12), fontweight="bold")
        axes.set_ylim(height, 0)
        axes.set_yticks([])
        log_axis(axes, low, high, max(3, int(width / 48)), lambda value: f"{value:.6g}")
        axes.set(xlabel=f"{unit}, log", ylabel="")
        _rows(canvas, axes, rates[rates["words"] == words], view, at)
    return canvas


def _rows(canvas: Canvas, axes: Axes, rates: pd.DataFrame, view: View, at: dict[tuple[str, str], float]) -> None:
    """The lines and markers of one column; `at` is the y of each block and label."""
    for _, same in rates.groupby(["block", "label"], sort=False):
        first = same.iloc[0]
        block, label = first["block"], first["label"]
        if (block, label) not in at:
            continue
        y = at[block, label]
        look, mode = (view.looks[first["backend"]], first["mode"]) if block == HERE else (_PUBLISHED, str(Mode.EAGER))
        least, lower, median, upper, most = same["value"].quantile(_QUANTILES)
        axes.plot([least, most], [y, y], color=sentinel("line"), lw=2, zorder=2)
        axes.plot([lower, upper], [y, y], color=look.sentinel(), lw=2, zorder=3)
        words = f"{label}, {block}: median {median:.3g} over {units.many(len(same), 'shape')}, from {least:.3g} to {most:.3g}"
        canvas.dots(axes, look, mode, [median], [y], [words])
