"""The page: one self-contained HTML text from the frames of a run. Pure; the same run gives the same bytes.

Puts together what the other rooms of the wing make. Every text of the run is hostile: it is cleaned and escaped here, by
the template's own rules, and nothing but the style, the script, the data and the drawings made here goes in raw.
"""

import base64
import functools
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup

from harness import units
from harness.axes import Mode
from harness.outcome import ENOUGH_PAIRS, ENOUGH_TRIALS, EQUIVALENT, TRIALS_FOR_T_INTERVAL, UNCHANGED
from harness.page import builders, canvas, embedded, palette, spark, tables
from harness.page.sections import SECTIONS, Content, Given, Section
from harness.page.standings import FEWEST_FOR_INTERVAL
from harness.page.svg import clean, speakable
from harness.page.view import View, flag_words, prepare, who
from harness.record import CONTENDED_SHARE, CONTENDED_VISIT, Run, Status

# The limits of rules that the templates name.
_LIMITS = {
    "pairs": ENOUGH_PAIRS, "equivalent": EQUIVALENT, "trials": ENOUGH_TRIALS, "unchanged": UNCHANGED,
    "trials_for_t": TRIALS_FOR_T_INTERVAL, "workloads": FEWEST_FOR_INTERVAL,
    "contended": f"{100 * CONTENDED_SHARE:.0f} %", "contended_visit": f"{100 * CONTENDED_VISIT:.0f} %",
}  # fmt: skip
MOST_SCALED = 4  # kinds of scaling that the head of the page names


@dataclass(frozen=True)
class Page:
    """A page, and its table of all results as CSV.

    `broken` names each figure or section that raised, with its exception's type, and says so of a page that is too large.
    """

    text: str
    broken: tuple[str, ...]
    rows: str


@dataclass(frozen=True)
class Thrift:
    """How a page is kept small: the most marks per figure, the nights of history, and whether its data is compressed."""

    marks: int | None = None
    nights: int = spark.NIGHTS
    packed: bool = False


# Tried in this order until the page fits.
_THRIFTS = (Thrift(), Thrift(1500), Thrift(1500, 14), Thrift(1500, 14, packed=True))
_SMALL, _LARGE = (900, 1_500_000), (5400, 4_000_000)  # cases and the bytes of their page; between them on a straight line
MOST_BYTES = 6_000_000


def budget(cases: int) -> float:
    """Bytes that the page of so many cases may have."""
    (few, least), (many, most) = _SMALL, _LARGE
    return least + (most - least) * max(0.0, (cases - few) / (many - few))


def render(summary: pd.DataFrame, samples: pd.DataFrame, run: Run, **more: Any) -> str:
    """The page of one run as HTML; `more` are further fields of `sections.Given`."""
    return build(Given(summary, samples, run, **more)).text


def build(given: Given) -> Page:
    """The page of one run, with a note where a figure or section raised, and with less detail where it would be too large."""
    view = prepare(given.summary)
    found: dict[str, Content] = {}
    for place, thrift in enumerate(_THRIFTS):
        if place == 0 or _THRIFTS[place - 1].marks != thrift.marks:
            with canvas.at_most(thrift.marks):
                found = {section.id: _content(section, view, given) for section in SECTIONS}
        text = _written(view, given, found, thrift)
        if (size := len(text.encode())) <= budget(len(view.cells)):
            break
    broken = _broken(found)
    if size > MOST_BYTES:
        broken.append(f"size: {size / 1e6:.1f} MB, and {MOST_BYTES / 1e6:.0f} are the most")
    return Page(text, tuple(broken), embedded.as_csv(view, given))


def _broken(found: Mapping[str, Content]) -> list[str]:
    figures = [f"{figure.name}: {figure.failure}" for content in found.values() for figure in content.figures if figure.failure]
    return figures + [f"{name}: {content.failure}" for name, content in found.items() if content.failure]


def _written(view: View, given: Given, found: Mapping[str, Content], thrift: Thrift) -> str:
    held = embedded.as_json(view, given, thrift.nights) if len(view.cells) else None
    shown = [section for section in SECTIONS if not (section.optional and found[section.id].empty)]
    context = {
        "run": given.run,
        "view": view,
        "index": given.index,
        "machine": _machine(given.run),
        "sections": [(number, section, found[section.id]) for number, section in enumerate(shown, 1)],
        "numbers": {section.id: number for number, section in enumerate(shown, 1)},
        "not_profiled": found["what-ran"].empty,
        "broken": _broken(found),
        "scaled": _scaled(view),
        "data": embedded.packed(held) if held and thrift.packed else held,
        "packed": thrift.packed,
        **_merged(found),
        **_helpers(view),
    }
    return document("page.html.j2", palette.css(view.looks), ("theme.js", "script.js"), context)


def document(template: str, colours: str, scripts: Sequence[str], context: Mapping[str, Any]) -> str:
    """A page from a template: style and script inlined, and the policy that allows these two and nothing else."""
    environment = _environment()
    style, script = colours + "\n" + _source("style.css"), "".join(map(_source, scripts))
    page = environment.get_template(template).render(
        **context,
        style=Markup(style),
        script=Markup(script),
        style_hash=_sha256(style),
        script_hash=_sha256(script),
    )
    # The page is compared by its bytes, so it has one kind of line end.
    return page.replace("\r\n", "\n")


def _scaled(view: View) -> list[str]:
    """What was changed of the workloads for this run, and of how many: `n=1 for 16 (54 workloads)`; the most frequent first."""
    workloads = view.cells.drop_duplicates("key")["scaled"].map(clean)
    counts = workloads[workloads != ""].value_counts()
    told = [f"{what} ({units.many(count, 'workload')})" for what, count in counts.head(MOST_SCALED).items()]
    return [*told, "others in the column scaled of the data"] if len(counts) > MOST_SCALED else told


def _content(section: Section, view: View, given: Given) -> Content:
    try:
        return builders.BUILDERS[section.id](view, given)
    except Exception as error:  # an unforeseen value may raise anything
        return Content(failure=type(error).__name__)


def _merged(found: Mapping[str, Content]) -> dict[str, Any]:
    """The variables of all sections; a name that two of them use is a mistake."""
    merged: dict[str, Any] = {}
    for name, content in found.items():
        assert not merged.keys() & content.data.keys(), f"{name} uses a name of another section"
        merged.update(content.data)
    return merged


def _machine(run: Run) -> str:
    """The machines of the run in a few words."""
    return "; ".join(dict.fromkeys(each.hardware for each in run.environments))


def _sha256(text: str) -> str:
    return base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def symbols(looks: Mapping[str, palette.Look], kinds: Iterable[str]) -> list[tuple[str, Markup]]:
    """The icons of these backends in these fills (`palette.fill_of`): id and the shape in a 10 x 10 box."""
    found, kinds = [], list(dict.fromkeys(kinds))
    for look in looks.values():
        shape = palette.SHAPES[look.marker]
        full = f'<path d="{shape}" class="f-{look.key}"/>'
        hollow = f'<path d="{shape}" class="f-bg s-{look.key}" stroke-width="1.5" transform="translate(.7 .7) scale(.86)"/>'
        dot = f'<circle cx="5" cy="5" r="1.3" class="f-{look.key}"/>'
        inside = {"full": full, "hollow": hollow, "dotted": hollow + dot}
        found += [(f"k-{look.key}-{kind}", Markup(inside[kind])) for kind in kinds]
    return list(dict.fromkeys(found))


def _helpers(view: View) -> dict[str, object]:
    """What the templates call: names and icons of backends, marks, links, units."""
    several = len(view.modes) > 1
    return {
        "who": lambda backend, mode="": who(view.looks, backend, mode if several else ""),
        "icon": lambda backend, mode=str(Mode.EAGER): tables.icon(view, backend, mode),
        "symbols": symbols(view.looks, (palette.fill_of(mode) for mode in (*view.modes, Mode.EAGER))),
        "units": units,
        "limits_of": _LIMITS,
        "Status": Status,
        "flag_sentence": flag_words,
        "case_link": embedded.case_link,
        "table_link": embedded.table_link,
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
    """A file of templates/ without indentation and lines of comment; no template is made of it."""
    environment = _environment()
    assert environment.loader is not None
    lines = (line.strip() for line in environment.loader.get_source(environment, name)[0].splitlines())
    return "".join(f"{line}\n" for line in lines if line and not line.startswith("//"))
