"""A drawing in pixels: a matplotlib figure with its settings, axes placed by pixel, and axes with round numbers at their ticks.

All charts draw with it. It knows nothing of what they show.
"""

import io
import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import matplotlib as mpl
import pandas as pd
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, DateFormatter
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from harness.page import svg
from harness.page.palette import Look, fill_of, sentinel

WIDTH = 1010
TEXT = 12  # px, as large as the tables' text at full width
_PER_INCH = 72  # matplotlib's SVG counts in points, which the page takes as pixels
# Markers that matplotlib draws at the same size look differently large: these factors even that out.
_AREA = {"^": 1.45, "v": 1.45, "D": 0.8, "X": 1.35, "p": 1.3, "h": 1.25}
_LEAST_SPAN = 1 / 24  # days: nights may follow one another within minutes, where somebody tries a suite
_NARROW = 4.0  # an axis of ratios that spans less than this factor has too few ticks at 1, 2 and 5 times powers of ten
_CHARACTER = 6.7  # mean width of a character at TEXT px, a little more than measured


_most_marks: ContextVar[int | None] = ContextVar("most_marks", default=None)


@contextmanager
def at_most(marks: int | None) -> Iterator[None]:
    """Inside this context each figure keeps at most `marks` marks, chosen by lot; None sets no limit."""
    token = _most_marks.set(marks)
    try:
        yield
    finally:
        _most_marks.reset(token)


@dataclass
class Canvas:
    """A figure of `width` x `height` px, whose upper left corner is the origin of `axes` and `text`.

    `marks` maps the id of a drawn group (`set_gid`) to what its marks stand for, in the order of drawing: the `i` of a case,
    or a line of words.
    """

    height: float
    width: float = WIDTH
    marks: dict[str, list[str | int]] = field(default_factory=dict)
    figure: Figure = field(init=False)

    def __post_init__(self) -> None:
        self.figure = Figure(figsize=(self.width / _PER_INCH, self.height / _PER_INCH), facecolor="none")

    def axes(self, left: float, top: float, width: float, height: float) -> Axes:
        """Axes without a frame, with a line below and vertical grid lines."""
        box = (left / self.width, 1 - (top + height) / self.height, width / self.width, height / self.height)
        axes = self.figure.add_axes(box, facecolor="none")
        for side in ("left", "right", "top"):
            axes.spines[side].set_visible(False)
        axes.set_axisbelow(True)
        return axes

    def text(self, x: float, y: float, words: str, **how: object) -> None:
        """Write words at a place of the figure, in px from its upper left corner; `how` are settings of matplotlib's text."""
        settings: dict[str, Any] = {"color": sentinel("ink"), "va": "center", **how}
        self.figure.text(x / self.width, 1 - y / self.height, words, **settings)

    def dots(
        self, axes: Axes, look: Look, mode: str, x: Sequence[float], y: Sequence[float], marks: Sequence[str | int]
    ) -> None:
        """Draw a marker per point, in the look of a backend and the fill of a mode; `marks` says what each stands for."""
        kind, gid = fill_of(mode), f"marks-{len(self.marks)}"
        colour = look.sentinel()
        full = kind == "full"
        face = colour if full else sentinel("bg")
        edge = sentinel("bg") if full else colour
        size = (46 if full else 34) * _AREA.get(look.marker, 1.0)
        # seaborn's scatterplot makes several frames in each call, of which a page has a hundred.
        axes.scatter(
            x, y, s=size, color=face, edgecolor=edge, linewidth=0.8 if full else 1.6, marker=look.marker, zorder=4,
            clip_on=False, gid=gid,
        )  # fmt: skip
        self.marks[gid] = list(marks)
        if kind == "dotted":
            axes.scatter(x, y, s=5, color=colour, linewidth=0, marker="o", zorder=5)

    def svg(self, name: str, title: str, desc: str) -> Markup:
        """The drawing as SVG for the page, with no more marks than `at_most` allows."""
        buffer = io.StringIO()
        self.figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
        return Markup(svg.post(buffer.getvalue(), name, title, desc, self.marks, most=_most_marks.get()))


@dataclass(frozen=True)
class Drawn:
    """A chart for the page: its SVG, or the type of the exception that kept it from being drawn."""

    name: str
    caption: str
    svg: str = ""
    note: str = ""
    failure: str = ""
    legend: tuple[tuple[str, str], ...] = ()  # backend and mode of each entry


def draw(
    name: str, caption: str, desc: str, build: Callable[[], Canvas], note: str = "", legend: tuple[tuple[str, str], ...] = ()
) -> Drawn:
    """The chart that `build` draws; where it raises, a chart with the type of the exception as its `failure`."""
    try:
        with _settings(name):
            canvas = build()
            drawn, most = canvas.svg(name, caption, desc), _most_marks.get()
            total = sum(map(len, canvas.marks.values()))
            if most is not None and total > most:
                note = f"{note} {most} of {total} marks drawn, chosen by lot.".strip()
            return Drawn(name, caption, drawn, note, legend=legend)
    except Exception as error:  # an unforeseen value may raise anything, in matplotlib too
        return Drawn(name, caption, failure=type(error).__name__)


@contextmanager
def _settings(salt: str) -> Iterator[None]:
    """Inside this context matplotlib has its defaults, whatever the user's own file says, and the settings of the page."""
    with mpl.rc_context(), warnings.catch_warnings():
        # A name in a script that the measuring font lacks is still shown: the reader's fonts draw it.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        # seaborn 0.13 still calls matplotlib's boxplot by the old name of an argument, which goes in matplotlib 3.13.
        warnings.filterwarnings("ignore", message="vert: bool was deprecated", category=mpl.MatplotlibDeprecationWarning)
        mpl.rcdefaults()
        mpl.rcParams.update(
            {
                "svg.fonttype": "none", "svg.hashsalt": salt, "text.parse_math": False, "font.family": ["DejaVu Sans"],
                "font.size": TEXT, "axes.titlesize": TEXT, "axes.labelsize": TEXT, "xtick.labelsize": TEXT - 1,
                "ytick.labelsize": TEXT, "text.color": sentinel("ink"), "axes.labelcolor": sentinel("mut"),
                "axes.edgecolor": sentinel("soft"), "xtick.color": sentinel("soft"), "xtick.labelcolor": sentinel("ink"),
                "ytick.color": sentinel("soft"), "ytick.labelcolor": sentinel("ink"), "grid.color": sentinel("grid"),
                "axes.linewidth": 1.0, "grid.linewidth": 1.0, "xtick.major.size": 4, "ytick.major.size": 0, "axes.grid": True,
                "axes.grid.axis": "x", "axes.unicode_minus": True, "path.simplify": False,
            }
        )  # fmt: skip
        yield


def label_width(labels: Iterable[str], most: float = 250) -> float:
    """Pixels that the longest label takes, up to `most`."""
    return min(most, max((len(label) for label in labels), default=0) * _CHARACTER + 12)


def fitted(label: str, width: float) -> str:
    """The label, with its middle left out where it is longer than `width` px, since names tend to differ at their ends."""
    room = int((width - 12) / _CHARACTER + 0.5)
    if len(label) <= room:
        return label
    head = (room - 1) // 2
    return f"{label[:head]}…{label[len(label) - (room - 1 - head) :]}"


def decades(low: float, high: float, steps: Sequence[float]) -> list[float]:
    """The numbers of `steps` times powers of ten between low and high."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    ticks = [step * 10.0**power for power in range(first, last + 1) for step in steps]
    return [tick for tick in ticks if low * 0.999 <= tick <= high * 1.001]


def log_axis(axes: Axes, low: float, high: float, most: int, label: Callable[[float], str]) -> None:
    """A logarithmic x axis with at most about `most` round numbers."""
    axes.set_xscale("log")
    axes.set_xlim(low, high)
    choices = [decades(low, high, steps) for steps in ((1, 2, 3, 5), (1, 2, 5), (1, 3), (1,))]
    ticks = next((ticks for ticks in choices if len(ticks) <= most), choices[-1][:: max(1, len(choices[-1]) // most)])
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: label(value)))


def ratio_axis(axes: Axes, low: float, high: float, most: int, label: Callable[[float], str]) -> None:
    """A logarithmic x axis of ratios: ticks at equal steps where it spans less than a factor of 4, else as in `log_axis`."""
    if high / low >= _NARROW:
        log_axis(axes, low, high, most, label)
        return
    axes.set_xscale("log")
    linear_axis(axes, low, high, most, label)


def night_axis(axes: Axes, first: float, last: float) -> None:
    """An x axis from one night to another, in matplotlib's days: with the time of day where they lie within two days."""
    span = max(last - first, _LEAST_SPAN)
    axes.set_xlim(first - 0.02 * span, first + 1.02 * span)
    by_clock = span < 2
    fewest = 2 if span < 10 else 5  # ticks: to ask for more over a few days would mark the same date twice
    axes.xaxis.set_major_locator(AutoDateLocator(minticks=fewest, maxticks=6 if by_clock else 9, interval_multiples=by_clock))
    form = "%m-%d %H:%M" if by_clock else "%m-%d" if span <= 300 else "%Y-%m-%d"
    axes.xaxis.set_major_formatter(DateFormatter(form))


def nightly_ratios(axes: Axes, values: pd.Series, least: float, label: Callable[[float], str]) -> None:
    """A logarithmic y axis of ratios to the first night, that shows at least from 1 - `least` to 1 + `least`."""
    low, high = min(float(values.min()), 1 - least), max(float(values.max()), 1 + least)
    room = (high / low) ** 0.08
    axes.set_yscale("log")
    axes.set_ylim(low / room, high * room)
    if high / low >= _NARROW:
        axes.yaxis.set_major_locator(FixedLocator(decades(low, high, (1, 2, 5))))
    else:
        axes.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: label(value)))


def linear_axis(axes: Axes, low: float, high: float, most: int, label: Callable[[float], str]) -> None:
    """A linear x axis with at most about `most` round numbers."""
    axes.set_xlim(low, high)
    power = 10.0 ** math.floor(math.log10((high - low) / most))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if (high - low) / (power * factor) <= most)
    first = math.ceil(low / step - 1e-9)
    axes.xaxis.set_major_locator(FixedLocator([i * step for i in range(first, math.floor(high / step + 1e-9) + 1)]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: label(value)))
