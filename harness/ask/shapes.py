"""Tables of standard shapes: CSV text to rows, each recomputed and compared with what its table says. No axes, no TOML.

A table states the output size and the FLOP of every shape, from its source. Ours are derived from the shape, so a row in
which the two differ was misread by one of them, and measuring it would put a wrong number under a well-known name.
"""

import csv
import io
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from harness import flops
from harness.ask import expression
from harness.ask.wording import show
from harness.axes import PASSES, Direction
from harness.spec import ConvSpec

# What a row holds, in the order of the tables: numbers, and texts (`56x56` is a text: one size per dimension).
COLUMNS: dict[str, type[int] | type[str]] = {
    "suite": str, "name": str, "n": int, "c": int, "k": int, "groups": int, "spatial": str, "kernel": str, "stride": str,
    "pad_lo": str, "pad_hi": str, "dilation": str, "out": str, "flop_nominal": int, "flop_exact": int, "count": int,
    "source": str,
}  # fmt: skip
# What may follow them, in this order: how many of `count` layers have a pass; an empty cell says all of them.
COUNTS = {f"count_{direction}": direction for direction in PASSES}


@dataclass(frozen=True)
class Shape:
    """A row of a table: the convolution, how many layers of the network have it, and the row's cells for `where`.

    `counts` has how many of them have a pass, where the table says so.
    """

    name: str
    spec: ConvSpec
    count: int
    columns: Mapping[str, int | str]
    counts: Mapping[Direction, int] = field(default_factory=dict)


def rows(text: str) -> tuple[Shape, ...]:
    """The shapes of a table. Raises ValueError that names row (from 1) and column, what was found and what is allowed."""
    try:
        lines = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except csv.Error as error:
        raise ValueError(f"is not CSV: {error}") from None
    header = lines[0] if lines else []
    if header != [*COLUMNS, *(name for name in COUNTS if name in header)]:
        # What stands there is not told: it may be any file, and no table at all.
        raise ValueError(f"is no table of shapes: its first line is not {','.join(COLUMNS)}")
    shapes = []
    for number, line in enumerate(filter(None, lines[1:]), start=1):
        try:
            shapes.append(_shape(header, line))
        except ValueError as error:
            name = f" {show(line[1])}" if len(line) > 1 else ""
            raise ValueError(f"row {number}{name}: {error}") from None
    return tuple(shapes)


def text(suite: str, shapes: Iterable[tuple[Shape, str]]) -> str:
    """The table that `rows` reads as these shapes, whose `columns` are not looked at, each with its source."""
    known = list(shapes)
    counted = {name: direction for name, direction in COUNTS.items() if any(direction in shape.counts for shape, _ in known)}
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*COLUMNS, *counted])
    for shape, source in known:
        spec, (low, high) = shape.spec, zip(*shape.spec.padding, strict=True)
        sizes = [spec.spatial, spec.kernel, spec.stride, low, high, spec.dilation, spec.out_spatial]
        line = [suite, shape.name, spec.n, spec.c, spec.k, spec.groups, *("x".join(map(str, each)) for each in sizes)]
        line += [flops.nominal(spec), flops.exact(spec), shape.count, source]
        writer.writerow([*line, *(shape.counts.get(direction, "") for direction in counted.values())])
    return out.getvalue()


def choose(shapes: tuple[Shape, ...], where: str | None, limit: int | None) -> tuple[Shape, ...]:
    """The first `limit` of the shapes that fit the expression. Raises ValueError for a malformed one, or where none is left."""
    clauses = expression.where(where, COLUMNS) if where is not None else ()
    chosen = tuple(shape for shape in shapes if all(clause.holds(shape.columns) for clause in clauses))[:limit]
    if not chosen:
        raise ValueError(f"found {show(where)}, which none of {len(shapes)} rows fits; allowed: what leaves at least one row")
    return chosen


def _shape(header: list[str], line: list[str]) -> Shape:
    if len(line) != len(header):
        raise ValueError(f"found {len(line)} columns; allowed: {len(header)}")
    found = dict(zip(header, line, strict=True))
    columns = {name: found[name] if kind is str else _number(name, found[name]) for name, kind in COLUMNS.items()}
    numbers: dict[str, Any] = {name: _number(name, found[name]) for name in ("n", "c", "k", "groups")}
    sizes: dict[str, Any] = {
        name: _sizes(name, found[name]) for name in ("spatial", "kernel", "stride", "dilation", "pad_lo", "pad_hi", "out")
    }
    low, high, out = sizes.pop("pad_lo"), sizes.pop("pad_hi"), sizes.pop("out")
    if len(low) != len(high):
        raise ValueError(f"pad_hi: found {found['pad_hi']}; allowed: as many entries as pad_lo, which is {found['pad_lo']}")
    spec = ConvSpec(**numbers, **sizes, padding=tuple(zip(low, high, strict=True)))
    if spec.out_spatial != out:
        raise ValueError(f"out: found {found['out']}; computed from the row: {'x'.join(map(str, spec.out_spatial))}")
    for name, count in (("flop_nominal", flops.nominal), ("flop_exact", flops.exact)):
        if columns[name] != count(spec):
            raise ValueError(f"{name}: found {found[name]}; computed from the row: {count(spec)}")
    if columns["count"] == 0:
        raise ValueError("count: found 0; allowed: at least 1")
    counts = {direction: _number(name, found[name]) for name, direction in COUNTS.items() if found.get(name)}
    return Shape(found["name"], spec, _number("count", found["count"]), columns, counts)


def _number(column: str, text: str) -> int:
    digits = 18 if column.startswith("flop") else 9
    if not re.fullmatch(f"[0-9]{{1,{digits}}}", text):
        raise ValueError(f"{column}: found {show(text)}; allowed: a whole number of up to {digits} digits")
    return int(text)


def _sizes(column: str, text: str) -> tuple[int, ...]:
    if not re.fullmatch("[0-9]{1,9}(x[0-9]{1,9}){0,2}", text):
        raise ValueError(f"{column}: found {show(text)}; allowed: a size per dimension of up to 9 digits, as in 56x56")
    return tuple(map(int, text.split("x")))
