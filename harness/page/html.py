"""The page: one self-contained HTML text from the frames of a run. Pure; the same run gives the same bytes.

Puts together what the other rooms of the wing make. Every text of the run is hostile: it is cleaned and escaped here, by
the template's own rules, and nothing but the style, the script, the data and the drawings made here goes in raw.
"""

import base64
import functools
import hashlib
import json
from collections.abc import Callable
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup

from harness import units
from harness.page import charts, facts, multiples, palette, published, tables
from harness.page.canvas import Drawn
from harness.page.svg import clean, speakable
from harness.page.verdict import FAILURE_WORDS, leads_with, verdict
from harness.page.view import View, flag_words, prepare, who
from harness.record import Flag, Run, Status
from harness.spec import Mode

MOST_STATIC_ROWS = 300  # a table of more is rendered by the script, a page at a time: its nodes would be most of the page's


def render(
    summary: pd.DataFrame, samples: pd.DataFrame, run: Run, *, duration_s: float | None = None, command: str = "",
    ceilings: pd.DataFrame | None = None, networks: pd.DataFrame | None = None, beside: pd.DataFrame | None = None,
) -> str:  # fmt: skip
    """The page of one run as HTML. `summary` has SUMMARY_COLUMNS, and best, tie and vs_best where it was ranked.

    `ceilings` is the frame of `analysis.roofline.ceilings`, `networks` that of `analysis.networks.by_pass`, `beside` that of
    `analysis.published.beside`; None where there is none.
    """
    view = prepare(summary)
    context = {
        "run": run,
        "view": view,
        "verdict": verdict(view, duration_s),
        "machine": _machine(run),
        **_figures(view, samples, run.seed),
        **_tables(view),
        "elsewhere": published.elsewhere(view, beside),
        "facts": facts.of_run(run, view, duration_s, command),
        "method": facts.method(run),
        "machines": facts.machines(run, view),
        "variables": facts.variables(run, view),
        "settings": facts.settings(view),
        "limits": facts.ceilings(ceilings, summary, view),
        "networks": tables.networks(view, networks),
        "flag_words": [(str(flag), flag.words, flag.bars_verdict) for flag in Flag],
        "ceilings": view.ok["ceiling_share"],
    }
    context["broken"] = [figure for figure in _drawn(context) if figure.failure]
    environment = _environment()
    style, script = (_source(name) for name in ("style.css", "script.js"))
    style = palette.css(view.looks) + "\n" + style
    page = environment.get_template("page.html.j2").render(
        **context,
        **_helpers(view),
        style=Markup(style),
        script=Markup(script),
        style_hash=_sha256(style),
        script_hash=_sha256(script),
    )
    # What no UTF-8 may hold has been cleaned away; what is left of other line ends is one kind.
    return page.replace("\r\n", "\n")


def _figures(view: View, samples: pd.DataFrame, seed: int) -> dict[str, Any]:
    drawn, worst = view.drawn, charts.unsteady(view, samples)
    rated, sized = drawn[drawn["flop_per_s"] > 0], drawn[drawn["workspace_bytes"].notna()]

    def each(name: str, chart: Callable[[View, str, str], Drawn], rows: pd.DataFrame) -> list[Drawn]:
        return [chart(view, device, f"{name}-{place}") for place, device in enumerate(sorted(set(rows["device"])))]

    return {
        "latency": each("lat", charts.latency, drawn),
        "rates": each("rate", multiples.rates, rated),
        "memory": each("mem", multiples.memory, sized),
        "stability": None if worst.empty else charts.stability(view, worst, seed),
    }


def _drawn(context: dict[str, Any]) -> list[Drawn]:
    single = [context["stability"]] if context["stability"] else []
    single += [context["elsewhere"].chart] if context["elsewhere"] else []
    return [*context["latency"], *context["rates"], *context["memory"], *single]


def _tables(view: View) -> dict[str, Any]:
    heads, rows = tables.results(view)
    columns, counts = tables.matrix(view)
    return {
        "heats": [tables.heat(view, device) for device in view.devices],
        "most_heat_rows": tables.MOST_HEAT_ROWS,
        "short": [(tables.SHORT[status], words) for status, words in FAILURE_WORDS.items() if view.count(status)],
        "fastest_rate": _fastest_rate(view),
        "largest_memory": tables.largest_memory(view),
        "memory_methods": tables.memory_methods(view),
        "flags": tables.flags(view),
        "matrix_columns": columns,
        "matrix": counts,
        "failures": tables.failures(view),
        "heads": heads,
        "rows": rows if len(rows) <= MOST_STATIC_ROWS else [],
        "data": None if len(rows) <= MOST_STATIC_ROWS else _json(_compact(rows)),
    }


def _fastest_rate(view: View) -> list[tuple[str, str, str]]:
    """Per device the highest effective rate and its case."""
    known = view.ok[view.ok["flop_per_s"] > 0]
    first = known.sort_values("flop_per_s", ascending=False, kind="stable").drop_duplicates("device").sort_values("device")
    return [(row.device, units.flop_rate(row.flop_per_s), row.case) for row in first.itertuples()]


def _machine(run: Run) -> str:
    """The machines of the run in a few words."""
    found = {(each.cpu, each.cores, each.gpu): None for each in run.environments}
    return "; ".join(f"{cpu}, {cores} cores" + (f", {gpu}" if gpu else "") for cpu, cores, gpu in found)


def _compact(rows: list[tables.Row]) -> list[list[Any]]:
    """The table for the script: per row what it is found by, then text, sort value, class and icon of each cell.

    What is empty at the end of a cell is left out.
    """
    shown = []
    for row in rows:
        cells: list[Any] = [row.words]
        for cell in row.cells:
            parts: list[Any] = [clean(cell.text), cell.sort, cell.kind, cell.icon]
            while len(parts) > 1 and not parts[-1] and parts[-1] != 0:
                parts.pop()
            cells.append(parts)
        shown.append(cells)
    return shown


def _json(data: object) -> Markup:
    """JSON that cannot end the script element it stands in."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "&<>\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def _sha256(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _symbols(view: View) -> list[tuple[str, Markup]]:
    """The icons that the page uses: id and the shape in a 10 x 10 box."""
    found = []
    for look in view.looks.values():
        shape = palette.SHAPES[look.marker]
        for kind in dict.fromkeys(palette.fill_of(mode) for mode in (*view.modes, Mode.EAGER)):
            full = f'<path d="{shape}" class="f-{look.key}"/>'
            hollow = f'<path d="{shape}" class="f-bg s-{look.key}" stroke-width="1.5" transform="translate(.7 .7) scale(.86)"/>'
            dot = f'<circle cx="5" cy="5" r="1.3" class="f-{look.key}"/>'
            inside = {"full": full, "hollow": hollow, "dotted": hollow + dot}[kind]
            found.append((f"k-{look.key}-{kind}", Markup(inside)))
    return list(dict.fromkeys(found))


def _helpers(view: View) -> dict[str, Callable[..., Any] | Any]:
    """What the templates call: names and icons of backends, marks, units."""
    several = len(view.modes) > 1
    return {
        "who": lambda backend, mode="": who(view.looks, backend, mode if several else ""),
        "icon": lambda backend, mode=str(Mode.EAGER): tables.icon(view, backend, mode),
        "symbols": _symbols(view),
        "leads": leads_with,
        "units": units,
        "Status": Status,
        "flag_sentence": flag_words,
    }


@functools.cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("harness.page"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: speakable(value) if type(value) is str else value,
    )


def _source(name: str) -> str:
    """A file of templates/ as it is; no template is made of it, so that what is hashed is what is written."""
    environment = _environment()
    assert environment.loader is not None
    return environment.loader.get_source(environment, name)[0]
