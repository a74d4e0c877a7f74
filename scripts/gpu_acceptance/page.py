"""What the checks told, as lines for a terminal and as one page; and all of it in one file."""

import html
import json
import tarfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from scripts.gpu_acceptance.place import BROKEN, HOLDS, Told

_STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 60rem; padding: 0 1rem; }
h2 { font-size: 1.05rem; margin-bottom: .2rem; } li { overflow-wrap: anywhere; }
.holds { color: #17683a; } .broken { color: #b3261e; } .other { color: #6b6b6b; }
"""


def lines(told: Told) -> list[str]:
    """A check as lines: whether it holds and its question, then what it found."""
    head = f"{told.number:>2} {told.outcome}: {told.question} ({told.took_s:.0f} s)"
    return [head, *(f"     {line}" for line in told.lines)]


def summary(all_told: Sequence[Told]) -> str:
    """How many checks hold."""
    counts = {
        outcome: sum(told.outcome == outcome for told in all_told) for outcome in dict.fromkeys(t.outcome for t in all_told)
    }
    return ", ".join(f"{count} {outcome}" for outcome, count in counts.items())


def page(heading: str, all_told: Sequence[Told], reports: Iterable[str]) -> str:
    """One HTML page, of which every text is escaped. `reports` are the pages of the runs, as paths beside it."""
    kinds = {HOLDS: "holds", BROKEN: "broken"}
    parts = [
        f"<h2>{told.number}. {html.escape(told.question)} "
        f'<span class="{kinds.get(told.outcome, "other")}">{html.escape(told.outcome)}</span></h2>'
        f"<ul>{''.join(f'<li>{html.escape(line)}</li>' for line in told.lines)}</ul>"
        for told in all_told
    ]
    links = "".join(f'<li><a href="{html.escape(path, quote=True)}">{html.escape(path)}</a></li>' for path in reports)
    runs = f"<h2>Runs</h2><ul>{links}</ul>" if links else ""
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>GPU acceptance</title><style>{_STYLE}</style>'
        f"<h1>GPU acceptance</h1><p>{html.escape(heading)}; {html.escape(summary(all_told))}</p>{''.join(parts)}{runs}</html>\n"
    )


def pack(out: Path, to: Path, heading: str, all_told: Sequence[Told]) -> None:
    """Write page, lines and figures into the folder of the checks, and the folder into one file."""
    reports = sorted(path.relative_to(out).as_posix() for path in (out / "reports").rglob("*.html"))
    (out / "acceptance.html").write_text(page(heading, all_told, reports), encoding="utf-8")
    text = [heading, *(line for told in all_told for line in lines(told)), summary(all_told)]
    (out / "acceptance.txt").write_text("\n".join(text) + "\n", encoding="utf-8")
    figures = [
        {"number": told.number, "question": told.question, "outcome": told.outcome, "took_s": told.took_s, "lines": told.lines,
         "figures": told.figures}
        for told in all_told
    ]  # fmt: skip
    (out / "acceptance.json").write_text(json.dumps({"heading": heading, "checks": figures}, indent=1), encoding="utf-8")
    draft = to.with_name(f"{to.name}.draft")
    with tarfile.open(draft, "w:gz") as file:
        file.add(out, arcname=to.name.removesuffix(".gz").removesuffix(".tar"))
    draft.rename(to)
