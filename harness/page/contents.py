"""What each section of the page shows: one function per section, from the view and the frames that the page was given."""

from collections.abc import Callable, Mapping

import pandas as pd

from harness import units
from harness.page import charts, data, facts, multiples, published, tables
from harness.page.canvas import Drawn
from harness.page.sections import Content, Given
from harness.page.verdict import FAILURE_WORDS, verdict
from harness.page.view import View
from harness.record import Flag

EMPTY_RUN = "This run holds no case."


def _verdict(view: View, given: Given) -> Content:
    return Content({"verdict": verdict(view, given.duration_s)})


def _validity(view: View, given: Given) -> Content:
    return Content(
        {
            "facts": facts.of_run(given.run, view, given.duration_s, given.command),
            "machines": facts.machines(given.run, view),
            "variables": facts.variables(given.run, view),
            "settings": facts.settings(view),
            "limits": facts.ceilings(given.ceilings, given.summary, view),
        }
    )


def _compare(view: View, given: Given) -> Content:
    return Content(empty="" if len(view.cells) else EMPTY_RUN)


def _workloads(view: View, given: Given) -> Content:
    drawn = view.drawn
    latency = _each("lat", charts.latency, view, drawn)
    elsewhere = published.elsewhere(view, given.beside)
    return Content(
        {
            "heats": [tables.heat(view, device) for device in view.devices],
            "short": [(tables.SHORT[status], words) for status, words in FAILURE_WORDS.items() if view.count(status)],
            "networks": tables.networks(view, given.networks),
            "latency": latency,
            "elsewhere": elsewhere,
        },
        figures=(*latency, *([elsewhere.chart] if elsewhere else [])),
        empty="" if len(view.cells) else EMPTY_RUN,
    )


def _roofline(view: View, given: Given) -> Content:
    rates = _each("rate", multiples.rates, view, view.drawn[view.drawn["flop_per_s"] > 0])
    return Content(
        {"rates": rates, "fastest_rate": _fastest_rate(view), "ceilings": view.ok["ceiling_share"]},
        figures=tuple(rates),
        empty="" if rates else "No case has a time: no rate to show.",
    )


def _stability(view: View, given: Given) -> Content:
    worst = charts.unsteady(view, given.samples)
    stability = None if worst.empty else charts.stability(view, worst, given.run.seed)
    flagged = int((view.ok["flags"] != "").sum())
    return Content(
        {"stability": stability, "flags": tables.flags(view)},
        figures=(stability,) if stability else (),
        count=f"{flagged} flagged" if flagged else "",
        empty="" if len(view.ok) else "No case has a figure: there is no spread to show.",
    )


def _memory(view: View, given: Given) -> Content:
    memory = _each("mem", multiples.memory, view, view.drawn[view.drawn["workspace_bytes"].notna()])
    return Content(
        {"memory": memory, "largest_memory": tables.largest_memory(view), "memory_methods": tables.memory_methods(view)},
        figures=tuple(memory),
        empty="" if len(view.ok) else "No case has a figure: no memory to show.",
    )


def _energy(view: View, given: Given) -> Content:
    return Content(empty="No case has an energy reading.")


def _scaling(view: View, given: Given) -> Content:
    return Content(empty="No workload of this run was swept over batches or sizes.")


def _history(view: View, given: Given) -> Content:
    return Content(empty="This is the first run of the suite on this machine: there is no history.")


def _failures(view: View, given: Given) -> Content:
    columns, counts = tables.matrix(view)
    failed = len(view.failed)
    return Content(
        {"matrix_columns": columns, "matrix": counts, "failures": tables.failures(view)},
        count=str(failed) if failed else "",
        bad=bool(failed),
        empty="" if len(view.cells) else EMPTY_RUN,
    )


def _results(view: View, given: Given) -> Content:
    if not len(view.cells):
        return Content(empty=EMPTY_RUN)
    return Content({"left_out": data.missing(view, given)}, count=str(len(view.cells)))


def _method(view: View, given: Given) -> Content:
    return Content(
        {"flag_words": [(str(flag), flag.words, flag.bars_verdict) for flag in Flag], "method": facts.method(given.run)}
    )


def _data_files(view: View, given: Given) -> Content:
    return Content()


BUILDERS: Mapping[str, Callable[[View, Given], Content]] = {
    "verdict": _verdict,
    "validity": _validity,
    "compare": _compare,
    "workloads": _workloads,
    "roofline": _roofline,
    "stability": _stability,
    "memory": _memory,
    "energy": _energy,
    "scaling": _scaling,
    "history": _history,
    "failures": _failures,
    "results": _results,
    "method": _method,
    "data-files": _data_files,
}


def _each(name: str, chart: Callable[[View, str, str], Drawn], view: View, rows: pd.DataFrame) -> list[Drawn]:
    """One chart per device that has rows."""
    return [chart(view, device, f"{name}-{place}") for place, device in enumerate(sorted(set(rows["device"])))]


def _fastest_rate(view: View) -> list[tuple[str, str, str]]:
    """Per device the highest effective rate and its case."""
    known = view.ok[view.ok["flop_per_s"] > 0]
    first = known.sort_values("flop_per_s", ascending=False, kind="stable").drop_duplicates("device").sort_values("device")
    return [(row.device, units.flop_rate(row.flop_per_s), row.case) for row in first.itertuples()]
