"""Timings that others have published: tables of them in a store and in the package, read strictly, imported with care.

A table is CSV with COLUMNS, a timing a row. A rate stands there only where it is what the time says; on import one that
contradicts its own time is dropped, and the row says why. What is compared with them is the business of `analysis`.
"""

import csv
import functools
import io
import math
import re
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from harness import codec, drafts, flops
from harness.axes import Direction
from harness.columns import PUBLISHED_COLUMNS
from harness.errors import PublishedError, UserError
from harness.spec import ConvSpec
from harness.store import deepbench, frames

COLUMNS = (
    "hardware", "math", "kind", "direction", "n", "c", "k", "spatial", "kernel", "stride", "padding", "time_ms",
    "tflop_per_s", "algorithm", "source", "remark",
)  # fmt: skip
DIRECTIONS = (Direction.FPROP, Direction.DGRAD, Direction.WGRAD)

AGREE = 1e-6  # a printed rate is that of its time if they differ by no more; spreadsheets print 16 digits
NOT_PRINTED = "no rate is printed"
UNROUNDED = "the printed rate contradicts the time: its output sizes were not rounded"
CONTRADICTS = "the printed rate contradicts the time"

_NAME = re.compile(r"[a-z0-9._-]{1,100}")


@dataclass(frozen=True)
class Timing:
    """One published time of one pass: groups and dilation are 1, padding is alike on both sides."""

    hardware: str
    math: str
    kind: str
    direction: Direction
    spec: ConvSpec
    time_ms: float
    tflop_per_s: float | None
    algorithm: str
    source: str
    remark: str

    def implies(self, flop: float) -> bool:
        """Whether the printed rate is that of so many FLOP in the time."""
        return self.tflop_per_s is not None and abs(self.tflop_per_s * self.time_ms * 1e9 / flop - 1) <= AGREE


@dataclass(frozen=True)
class Imported:
    """What an import brought in: where it stands now, its rows, on how many devices, and rows without a rate by the reason."""

    path: Path
    rows: int
    devices: int
    without_rate: Mapping[str, int]


def shipped() -> Path:
    """The folder of the tables that come with the package: inside it in a wheel, beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "published"
    return inside if inside.is_dir() else package.parent / "results" / "published"


def available(store: str | Path = "results") -> dict[str, Path]:
    """Tables by name, sorted: those of a store, then the package's that they do not hide."""
    found: dict[str, Path] = {}
    for folder in (Path(store) / "published", shipped()):
        for path in folder.glob("*.csv"):
            found.setdefault(path.stem, path)
    return dict(sorted(found.items()))


def load(store: str | Path = "results") -> pd.DataFrame:
    """The timings of every table, with PUBLISHED_COLUMNS. A table that cannot be read is left out with a warning."""
    parts = []
    for path in available(store).values():
        try:
            parts.append(read(path))
        except UserError as error:
            warnings.warn(f"left out: {error}", stacklevel=2)
    filled = [part for part in parts if len(part)]
    return pd.concat(filled, ignore_index=True) if filled else frames.empty(PUBLISHED_COLUMNS)


def read(path: str | Path) -> pd.DataFrame:
    """The timings of one table, with PUBLISHED_COLUMNS, in its order.

    Raises PublishedError, which names file, row (from 1) and column, for what is not allowed: a rate that the row's own
    time contradicts among them.
    """
    path = Path(path)
    rows = []
    for number, timing in _timings(path, {COLUMNS: dict}):
        if timing.tflop_per_s is not None and not timing.implies(flops.nominal(timing.spec)):
            expected = flops.nominal(timing.spec) / timing.time_ms / 1e9
            raise PublishedError(
                f"{path}: row {number}: tflop_per_s: found {timing.tflop_per_s:g}; computed from the row: {expected:.10g}"
            )
        rows.append(
            {
                "table": path.stem, "hardware": timing.hardware, "math": timing.math, "kind": timing.kind,
                "direction": str(timing.direction), "shape": str(timing.spec), "published_ns": timing.time_ms * 1e6,
                "printed_flop_per_s": None if timing.tflop_per_s is None else timing.tflop_per_s * 1e12,
                "algorithm": timing.algorithm, "source": timing.source, "remark": timing.remark,
            }
        )  # fmt: skip
    return frames.conform(pd.DataFrame(rows, columns=list(PUBLISHED_COLUMNS)), PUBLISHED_COLUMNS)


def import_table(path: str | Path, store: str | Path = "results", name: str | None = None) -> Imported:
    """Bring a table, or DeepBench's spreadsheets put together, into a store as `published/<name>.csv`, and say what came of it.

    The name is that of the file unless another is given; a table of that name is replaced. A printed rate that its own time
    contradicts is dropped. Raises PublishedError for whatever is wrong with the file, and nothing is written.
    """
    path = Path(path)
    name = path.stem.lower() if name is None else name
    if not _NAME.fullmatch(name):
        raise PublishedError(f"--name: found {name!r:.60}; allowed: lower-case letters, digits and . _ -")
    timings = [_checked(timing) for _, timing in _timings(path, {COLUMNS: dict, deepbench.COLUMNS: deepbench.translated})]
    target = Path(store) / "published" / f"{name}.csv"
    target.parent.mkdir(parents=True, exist_ok=True)
    text = io.StringIO(newline="")
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(COLUMNS)
    lines.writerows(map(_line, timings))
    drafts.write(target, text.getvalue())
    without = Counter(timing.remark for timing in timings if timing.tflop_per_s is None)
    return Imported(target, len(timings), len({timing.hardware for timing in timings}), dict(without))


def _checked(timing: Timing) -> Timing:
    """The timing without a rate that its own time contradicts, and with the reason."""
    if timing.tflop_per_s is None:
        return timing if timing.remark else replace(timing, remark=NOT_PRINTED)
    if timing.implies(flops.nominal(timing.spec)):
        return timing
    wrong = UNROUNDED if timing.implies(_flop_unrounded(timing.spec)) else CONTRADICTS
    return replace(timing, tflop_per_s=None, remark="; ".join(filter(None, [timing.remark, wrong])))


def _flop_unrounded(spec: ConvSpec) -> float:
    """FLOP as some of DeepBench's sheets count them: with (size + 2 * pad - kernel + 1) / stride outputs, not rounded up."""
    out = [
        (size + low + high - taps + 1) / step
        for size, (low, high), taps, step in zip(spec.spatial, spec.padding, spec.kernel, spec.stride, strict=True)
    ]
    return 2 * spec.n * spec.k * spec.c * math.prod(spec.kernel) * math.prod(out)


# Text to timings and back -------------------------------------------------------------------------------------------------

Translation = Callable[[Mapping[str, str]], Mapping[str, str]]


def _timings(path: Path, layouts: Mapping[tuple[str, ...], Translation]) -> Iterator[tuple[int, Timing]]:
    """The rows of a file, numbered from 1, whose header is that of one of the layouts. Raises PublishedError."""
    try:
        lines = list(csv.reader(io.StringIO(codec.read(path).decode("utf-8-sig"), newline=""), strict=True))
    except OSError as error:
        raise PublishedError(f"{path}: cannot be read: {error.strerror or error}") from None
    except (csv.Error, ValueError) as error:
        raise PublishedError(f"{path}: is no CSV in UTF-8: {error}") from None
    header = tuple(lines[0]) if lines else ()
    if header not in layouts:
        allowed = ", or ".join(",".join(layout) for layout in layouts)
        raise PublishedError(f"{path}: header: found {','.join(header)!r:.60}; allowed: {allowed}")
    for number, line in enumerate(filter(None, lines[1:]), start=1):
        try:
            if len(line) != len(header):
                raise ValueError(f"found {len(line)} columns; allowed: {len(header)}")
            yield number, _timing(layouts[header](dict(zip(header, line, strict=True))))
        except ValueError as error:
            raise PublishedError(f"{path}: row {number}: {error}") from None


def _timing(row: Mapping[str, str]) -> Timing:
    for column, text in row.items():
        if not text.isprintable() or (not text and column in ("hardware", "math", "kind", "source")):
            raise ValueError(f"{column}: found {text!r:.60}; allowed: printable text")
    if row["direction"] not in map(str, DIRECTIONS):
        raise ValueError(f"direction: found {row['direction']!r:.60}; allowed: {', '.join(DIRECTIONS)}")
    rate = row["tflop_per_s"]
    return Timing(
        **{name: row[name] for name in ("hardware", "math", "kind", "algorithm", "source", "remark")},
        direction=Direction(row["direction"]),
        spec=_spec(*(row[name] for name in ("n", "c", "k", "spatial", "kernel", "stride", "padding"))),
        time_ms=_positive("time_ms", row["time_ms"]),
        tflop_per_s=_positive("tflop_per_s", rate) if rate else None,
    )


@functools.lru_cache(maxsize=1024)  # a table has few shapes and many rows
def _spec(n: str, c: str, k: str, spatial: str, kernel: str, stride: str, padding: str) -> ConvSpec:
    pads = _sizes("padding", padding)
    return ConvSpec(
        n=_whole("n", n), c=_whole("c", c), k=_whole("k", k), spatial=_sizes("spatial", spatial),
        kernel=_sizes("kernel", kernel), stride=_sizes("stride", stride), dilation=(1,) * len(pads),
        padding=tuple((pad, pad) for pad in pads),
    )  # fmt: skip


def _line(timing: Timing) -> list[str]:
    """The row of a timing. Spreadsheets hold doubles: 12 digits of a time are without their noise, 10 of a rate enough."""
    spec = timing.spec
    pads = tuple(low for low, _ in spec.padding)
    sizes = ["x".join(map(str, values)) for values in (spec.spatial, spec.kernel, spec.stride, pads)]
    rate = "" if timing.tflop_per_s is None else f"{timing.tflop_per_s:.10g}"
    numbers = [str(number) for number in (spec.n, spec.c, spec.k)]
    return [
        timing.hardware, timing.math, timing.kind, str(timing.direction), *numbers, *sizes, f"{timing.time_ms:.12g}", rate,
        timing.algorithm, timing.source, timing.remark,
    ]  # fmt: skip


def _whole(column: str, text: str) -> int:
    if not re.fullmatch("[0-9]{1,9}", text):
        raise ValueError(f"{column}: found {text!r:.60}; allowed: a whole number")
    return int(text)


def _sizes(column: str, text: str) -> tuple[int, ...]:
    if not re.fullmatch("[0-9]{1,9}(x[0-9]{1,9}){0,2}", text):
        raise ValueError(f"{column}: found {text!r:.60}; allowed: a size per dimension, as in 56x56")
    return tuple(map(int, text.split("x")))


def _positive(column: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{column}: found {text!r:.60}; allowed: a positive number")
    return value
