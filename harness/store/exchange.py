"""A frame of records, samples or figures to the formats that other programs read: CSV, JSON, Parquet and Markdown.

Missing numbers are empty in CSV, null in JSON and an en dash in Markdown. Which rows and columns go out is the caller's choice.
"""

import io
import json
import math
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from pandas.api.types import is_bool_dtype, is_datetime64_any_dtype, is_numeric_dtype

from harness import drafts
from harness.units import MISSING

Format = Literal["csv", "json", "parquet", "md"]

# A spreadsheet takes a cell that begins so for a formula, and runs it. Source: OWASP, CSV Injection.
_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def export(frame: pd.DataFrame, format: Format, path: str | Path) -> None:
    """Write the frame to `path`, whose folder is made if need be. Raises ValueError for another format.

    The old file or the new one is there at any moment; a pipe or a terminal is written directly.
    """
    path, made = Path(path), content(frame, format)
    path.parent.mkdir(parents=True, exist_ok=True)
    with drafts.delivering(path) as file:
        file.write(made)


def content(frame: pd.DataFrame, format: str) -> bytes:
    """What a file of the frame holds: the text in UTF-8, or Parquet. Raises ValueError for another format."""
    if format != "parquet":
        return render(frame, format).encode()
    made = io.BytesIO()  # a pipe cannot tell how far it was written, which a Parquet file asks for
    frame.to_parquet(made, index=False, write_page_checksum=True)
    return made.getvalue()


def render(frame: pd.DataFrame, format: str) -> str:
    """The frame as text: csv (RFC 4180), json (one object per row) or md (a table). Raises ValueError for another format."""
    makers = {"csv": _csv, "json": _json, "md": _markdown}
    if format not in makers:
        raise ValueError(f"{format!r} is no text format; {', '.join(makers)} are")
    return makers[format](frame)


def _plain(value: Any) -> Any:
    """A scalar of JSON: missing and infinite numbers, which JSON cannot say, are None; a time is ISO 8601 text."""
    if value is None or value is pd.NA or value is pd.NaT:
        return None
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, pd.Timestamp):
        return value.isoformat()
    return value


def _rows(frame: pd.DataFrame) -> list[dict[str, Any]]:
    columns = {str(name): [_plain(value) for value in frame[name].tolist()] for name in frame.columns}
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _json(frame: pd.DataFrame) -> str:
    # A row a line: still one JSON document, and it can be searched and compared by lines.
    rows = [json.dumps(row, allow_nan=False) for row in _rows(frame)]
    return "[\n" + ",\n".join(rows) + "\n]\n" if rows else "[]\n"


def _csv(frame: pd.DataFrame) -> str:
    safe = frame.copy()
    for name in frame.columns:
        if not is_numeric_dtype(frame[name]) and not is_datetime64_any_dtype(frame[name]):
            safe[name] = frame[name].map(_disarm)
    return safe.to_csv(index=False, lineterminator="\r\n", date_format="%Y-%m-%dT%H:%M:%S.%f%z")


def _disarm(value: Any) -> Any:
    """Text that a spreadsheet would run, made text by a leading quote; everything else as it is."""
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA_STARTS) else value


def _markdown(frame: pd.DataFrame) -> str:
    right = [is_numeric_dtype(frame[name]) and not is_bool_dtype(frame[name]) for name in frame.columns]
    head = [escaped(str(name)) for name in frame.columns]
    rule = ["---:" if number else "---" for number in right]
    body = [[_cell(value) for value in row.values()] for row in _rows(frame)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in [head, rule, *body])


def _cell(value: Any) -> str:
    if value is None:
        return MISSING
    if isinstance(value, float):
        # Four significant digits, but no exponent for a time in ns or a count of bytes: those keep all their digits.
        return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return escaped(str(value))


def escaped(text: str) -> str:
    """Text on one line that Markdown shows as it is."""
    for mark in "\\|<*`":
        text = text.replace(mark, f"\\{mark}")
    return " ".join(text.split())
