"""The numbers that the page carries: every figure of every case, as columns for the page's script and as CSV.

A text is stored as an index into a list of the texts that occur, since most of them repeat; a figure has six digits.
"""

import base64
import csv
import gzip
import io
import json
import math
import re
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

import pandas as pd
from markupsafe import Markup

from harness.outcome import Outcome
from harness.page.sections import Given
from harness.page.spark import NIGHTS
from harness.page.svg import clean
from harness.page.tables import STANDINGS, estimator_words, first_line, icon, standing
from harness.page.view import AXES, KERNEL, View, direction_words, told_apart_by, who
from harness.record import Status

_DIGITS = 6  # of a figure in the page; the table shows four
_LOST, _MOST = 0, 2**16 - 1  # a night in the packed history: the value where it is missing, and the largest value
_MARKS = {"tie": 1, "best": 2, "undecided": 3}  # by which the script knows what to write before a factor
_PER_MEDIAN = 10_000  # steps of the packed history per median of the case
# How the time of a call by all its visits was made: by the column `time_method`.
TIMED = {"turns": "all visits, a minute that was slow for all cases taken out", "raw": "all visits as they are"}
_KEYWORD = re.compile(r"[\w.:/@+-]+")  # what `-k` takes as one word
_AFTER_RUN = re.compile(r"convbench run (\S+)(?: -.*)?")  # the run of one suite, with options or without


@dataclass(frozen=True)
class Column:
    """A column of the table: its key in links, its label and unit, how a value is written, and where it is shown.

    `kind` is `text`, `tag`, `backend`, or how a number is written: `4` and `3` significant digits, `x` a factor and `2` one
    of two decimals, `%` a share and `+` a change in percent, `e` an exponent. `table` says whether the table shows it, `case`
    whether the facts of a case do; the CSV has all. `of` names the column of the summary that it shows: a number over `per`,
    a text by its first line. Where it is empty, `frame` says what the column holds.
    """

    key: str
    label: str
    unit: str = ""
    kind: str = "text"
    table: bool = True
    case: bool = False
    of: str = ""
    per: float = 1.0

    @property
    def numeric(self) -> bool:
        """Whether it holds numbers."""
        return self.kind not in ("text", "tag", "backend")


def columns(view: View) -> list[Column]:
    """What the table of all results has: the axes that every run has or that vary here, then the figures."""
    cells = view.cells
    varying = told_apart_by(cells)
    axes = [Column("workload", "Workload"), Column("direction", "Direction"), Column("backend", "Backend", kind="backend")]
    axes += [Column("device", "Device"), *(Column(axis, axis.capitalize()) for axis in varying)]
    return [
        *axes,
        Column("shape", "Shape", table=False, case=True),
        Column("status", "Status", kind="tag"),
        Column("median", "Median", "ms", "4"),
        Column("ci", "95 % interval", "± %", "1"),
        Column("change", "Change", "%", "+"),
        Column("verdict", "Verdict", kind="tag"),
        Column("factor", "÷ lowest", "×", "2", case=True, of="factor"),
        Column("rate", "Rate", "TFLOP/s", "3", case=True, of="flop_per_s", per=1e12),
        Column("ceiling", "Of ceiling", "%", "%", case=True),
        Column("peak", "Peak", "MiB", "3", case=True),
        Column("least", "÷ minimum", "×", "2", case=True),
        Column("energy", "Energy", "mJ/GFLOP", "3", case=True),
        Column("p95", "p95 ÷ median", "×", "2", case=True),
        Column("factor_low", "÷ lowest from", "×", "2", table=False, of="vs_best_low"),
        Column("factor_high", "÷ lowest to", "×", "2", table=False, of="vs_best_high"),
        Column("standing", "Beside the lowest", table=False, case=True),
        Column("low", "95 % interval from", "ms", "4", table=False, of="ci_low_ns", per=1e6),
        Column("high", "95 % interval to", "ms", "4", table=False, of="ci_high_ns", per=1e6),
        Column("time", "Time within this run", "ms", "4", table=False, case=True, of="time_ns", per=1e6),
        Column("time_low", "Time within this run from", "ms", "4", table=False, of="time_low_ns", per=1e6),
        Column("time_high", "Time within this run to", "ms", "4", table=False, of="time_high_ns", per=1e6),
        Column("time_by", "Time within this run by", table=False, case=True),
        Column("baseline", "Baseline", "ms", "4", table=False),
        Column("estimator", "Change by", table=False, case=True),
        Column("ratio_low", "Now ÷ baseline from", "×", "3", table=False),
        Column("ratio_high", "Now ÷ baseline to", "×", "3", table=False),
        Column("severity", "Severity", "×", "2", table=False),
        Column("workspace", "Workspace", "MiB", "3", table=False, case=True, of="workspace_bytes", per=2**20),
        Column("cores", "Cores used", "", "2", table=False, case=True, of="effective_cores"),
        Column("first", "First call", "ms", "4", table=False, case=True, of="first_call_ns", per=1e6),
        Column("check", "Checked by", table=False, case=True, of="check_method"),
        Column("error", "Largest error", "", "e", table=False, case=True, of="max_rel_err"),
        Column("flags", "Flags", table=False, case=True),
        *([Column("kernel", "Kernel", case=True, of=KERNEL)] if (cells[KERNEL] != "").any() else []),
        Column("call", "Call", table=False, case=True, of="op"),
        Column("call_reason", "Why this call", table=False, case=True, of="op_reason"),
        Column("message", "Message", table=False, of="reason"),
    ]


def frame(view: View, given: Given) -> pd.DataFrame:
    """The values of `columns`, a row per case in the order of `i`; text is "" and figures are NaN where there is none."""
    cells = view.cells.sort_values("i", kind="stable").reset_index(drop=True)
    ok = cells["status"] == str(Status.OK)
    median = cells["median_ns"].where(ok)
    least = cells["bytes_min"].where(cells["bytes_min"] > 0)
    peak = _peak(cells)
    changes = _changes(cells, given.changes)
    made = {
        "workload": cells["name"],
        "direction": cells["direction"].map(clean),
        "backend": cells["backend"].map(clean),
        "device": cells["device"].map(clean),
        **{axis: cells[axis].map(str).map(clean) for axis in ("mode", *AXES, "optimizer")},
        "shape": cells["shape"].map(clean),
        "status": cells["status"],
        "median": median / 1e6,
        "ci": 50 * (cells["ci_high_ns"] - cells["ci_low_ns"]) / median.where(median > 0),
        "change": 100 * (changes["ratio"] - 1),
        "verdict": changes["verdict"],
        "standing": [STANDINGS[each] for each in standing(cells)],
        "ceiling": 100 * cells["ceiling_share"],
        "peak": peak / 2**20,
        "least": peak / least,
        "energy": _energy(cells),
        "p95": cells["p95_ns"] / median.where(median > 0),
        "time_by": [
            TIMED[each] if known else "" for each, known in zip(cells["time_method"], cells["time_ns"].notna(), strict=True)
        ],
        "baseline": changes["baseline_ns"] / 1e6,
        "estimator": changes["estimator"].where(changes["ratio"].notna(), ""),
        "ratio_low": changes["ratio_low"],
        "ratio_high": changes["ratio_high"],
        "severity": changes["severity"],
        "flags": cells["flags"].map(lambda text: clean(text.replace(",", ", ").replace("_", " "))),
    }
    for each in columns(view):
        if each.of:
            values = cells[each.of]
            made[each.key] = values.astype("float64") / each.per if each.numeric else values.map(first_line)
    return pd.DataFrame(made)


def as_json(view: View, given: Given, nights: int = NIGHTS) -> Markup:
    """All of it as JSON that the script reads; at most so many nights of history."""
    found, known = frame(view, given), columns(view)
    values = {each.key: _packed(each, found[each.key], view) for each in known}
    everything = {
        "n": len(found),
        "run": clean(given.run.id),
        "columns": [[each.key, each.label, each.unit, each.kind, each.table + 2 * each.case] for each in known],
        "values": values,
        "marks": "".join(str(_MARKS.get(each, 0)) for each in standing(view.cells.sort_values("i", kind="stable"))),
        **_identities(view, found, given),
        "history": _history(view, given, nights),
    }
    return written(everything)


def notes(view: View) -> str:
    """What the marks beside a factor mean, and what stands in brackets behind it: of those that the table has."""
    marks = {"best": "● lowest of its workload and direction", "tie": "○ as good", "undecided": "~ not decided"}
    found = set(standing(view.cells))
    told = [", ".join(words for name, words in marks.items() if name in found)] if found & marks.keys() else []
    if view.cells["vs_best_low"].notna().any():
        told.append("in brackets the interval of the factor, for all competitors at once")
    return f"{'; '.join(told)}." if told else ""


def packed(text: str) -> Markup:
    """The embedded JSON compressed, as base64 of gzip."""
    return Markup(base64.b64encode(gzip.compress(text.encode(), mtime=0)).decode())


def written(found: object) -> Markup:
    """JSON that cannot end the script element it stands in."""
    text = json.dumps(found, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "&<>\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def as_csv(view: View, given: Given) -> str:
    """All columns as CSV by RFC 4180, after the byte order mark by which spreadsheets know UTF-8.

    An apostrophe stands before a text that a spreadsheet would compute as a formula.
    """
    found, known = frame(view, given), columns(view)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow([each.key if not each.unit else f"{each.key} ({each.unit})" for each in known])
    for row in found[[each.key for each in known]].to_dict("records"):
        writer.writerow([_cell(row[each.key], each.numeric) for each in known])
    return "\ufeff" + out.getvalue()


def _cell(value: Any, numeric: bool) -> str:
    if numeric:
        return "" if not math.isfinite(value) else f"{value:.{_DIGITS}g}"
    return f"'{value}" if value[:1] in ("=", "+", "-", "@", "\t", "\r") else value


def case_link(slug: str) -> str:
    """The target of a link to a case: `#case=rn50_conv1/fprop/torch/cpu`."""
    return "#case=" + quote(slug, safe="/")


def table_link(**filters: str) -> str:
    """The target of a link to the table of results under filters: `#results?backend=torch&verdict=slower`."""
    return "#results?" + urlencode({name: value for name, value in filters.items() if value})


# --- how it is packed ------------------------------------------------------------------------------------------------------


def _packed(column: Column, values: pd.Series, view: View) -> Any:
    if column.numeric:
        return [_rounded(value) for value in values]
    known = {text: place for place, text in enumerate(dict.fromkeys(values))}
    coded: dict[str, Any] = {"k": list(known), "v": [known[text] for text in values]}
    if column.key == "direction":
        coded["t"] = [direction_words(text) for text in known]
    elif column.kind == "backend":
        named = {clean(name): name for name in view.looks}
        coded["t"] = [who(view.looks, named[name]) for name in known]
        coded["c"] = [view.looks[named[name]].key for name in known]
        coded["m"] = {mode: icon(view, next(iter(view.looks)), mode).rpartition("-")[2] for mode in view.modes}
    return coded


def _rounded(value: float) -> float | int | None:
    if not math.isfinite(value):
        return None
    short = float(f"{value:.{_DIGITS}g}")
    return int(short) if short.is_integer() and abs(short) < 2**53 else short


def _identities(view: View, found: pd.DataFrame, given: Given) -> dict[str, Any]:
    """What links (`slug`) and the command line (`id`) call each case.

    The script joins a name from the columns given here; `slugs` and `ids` hold, by row, the names that this does not give.
    """
    cells = view.cells.sort_values("i", kind="stable").reset_index(drop=True)
    varying = told_apart_by(cells)
    columns = ["workload", "direction", "backend", "device", *varying]
    slugs = ["/".join(filter(None, row)) for row in found[columns].itertuples(index=False)]
    parts = [_part(name, columns, found) for name in _ID]
    ids = ["/".join(filter(None, (_said(part, row) for part in parts))) for row in found.to_dict("records")]
    wanted = [cell if _KEYWORD.fullmatch(cell) else "" for cell in cells["cell"]]
    return {
        "slug": columns,
        "slugs": {place: text for place, text in enumerate(cells["slug"]) if text != slugs[place]},
        "id": parts,
        "ids": {place: text for place, text in enumerate(wanted) if text != ids[place]},
        "modes": "mode" in varying or clean(str(cells["mode"].iloc[0])),
        "command": _command(given),
    }


_ID = ("workload", "direction", "backend", "mode", "device", "precision", "layout", "cache", "threads", "optimizer")


def _part(name: str, columns: Sequence[str], found: pd.DataFrame) -> dict[str, Any] | str:
    """A part of a cell's id (`spec.Cell`): the column that holds it, or its text where it is the same for every case."""
    how = {"key": name, **({"lower": 1} if name == "layout" else {"before": "t"} if name == "threads" else {})}
    return how if name in columns else _said(how, found.iloc[0].to_dict())


def _said(part: dict[str, Any] | str, row: Mapping[Hashable, Any]) -> str:
    if isinstance(part, str):
        return part
    text = f"{part.get('before', '')}{row[part['key']]}"
    return text.lower() if "lower" in part else text


def _command(given: Given) -> str:
    """The command line that measures single cases again, up to the value of `-k`.

    It is the command of this run where that ran this suite alone, else `convbench run SUITE`.
    """
    said = clean(given.command or given.run.command)
    found = _AFTER_RUN.fullmatch(said)
    mine = found and found[1] == given.run.suite and "--resume" not in said
    return f"{said if mine else f'convbench run {clean(given.run.suite)}'} -k"


def _changes(cells: pd.DataFrame, changes: pd.DataFrame | None) -> pd.DataFrame:
    """Baseline, ratio, verdict and estimator of each cell in their order; "" and NaN where there is no baseline."""
    names, texts = ["baseline_ns", "ratio", "ratio_low", "ratio_high", "severity"], ["verdict", "estimator"]
    if changes is None:
        changes = pd.DataFrame(columns=["cell", *texts, *names])
    found = changes.drop_duplicates("cell").set_index("cell").reindex(cells["cell"]).reset_index(drop=True)
    told = {name: found[name].astype(object).where(found[name].notna(), "") for name in texts}
    verdicts = [Outcome(name).words if name else "" for name in told["verdict"]]
    return found[names].astype("float64").assign(verdict=verdicts, estimator=told["estimator"].map(_named))


def _named(text: str) -> str:
    return clean(estimator_words(text))


def _peak(cells: pd.DataFrame) -> pd.Series:
    """Bytes at the peak of a call beyond what was there before: the tensors and the workspace. NaN where it was not read."""
    return cells["workspace_bytes"] + cells["bytes_min"]


def _energy(cells: pd.DataFrame) -> pd.Series:
    """mJ per GFLOP, which is pJ per FLOP."""
    return 1e12 * cells["energy_per_call_j"] / cells["flop_nominal"].where(cells["flop_nominal"] > 0)


def _history(view: View, given: Given, most: int) -> dict[str, Any] | None:
    """The last `most` nights: each case's times over their median, as 16-bit numbers; None where there is only this night."""
    if given.nights is None or given.nights["run_id"].nunique() < 2:
        return None
    nights = given.nights[given.nights["cell"].isin(view.cells["cell"])]
    runs = nights[["started_at", "run_id"]].drop_duplicates().sort_values(["started_at", "run_id"]).iloc[-most:]
    order = view.cells.sort_values("i", kind="stable")["cell"]
    table = nights.pivot_table(index="cell", columns="run_id", values="median_ns", aggfunc="last", sort=False, observed=True)
    table = table.reindex(index=order, columns=runs["run_id"]).astype("float64")
    scale = table.median(axis=1)
    steps = (table.div(scale, axis=0) * _PER_MEDIAN).round().clip(1, _MOST).fillna(_LOST)
    return {
        "nights": [f"{moment:%Y-%m-%d}" for moment in runs["started_at"]],
        "median": [_rounded(value / 1e6) for value in scale],
        "b64": base64.b64encode(steps.to_numpy().astype("<u2").tobytes()).decode(),
    }


def missing(view: View, given: Given) -> list[str]:
    """The labels of the columns of figures that no case has, so that the page can leave them out and say so."""
    found = frame(view, given)
    return [each.label for each in columns(view) if each.table and each.numeric and found[each.key].isna().all()]
