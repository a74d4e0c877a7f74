"""What each section of the page shows: one function per section, from the view and the frames that the page was given."""

import shlex
from collections.abc import Callable, Mapping

from harness import units
from harness.flags import Flag
from harness.outcome import Outcome
from harness.page import elsewhere, embedded, opening, provenance, ran, settings, tables, worth
from harness.page.canvas import Drawn
from harness.page.charts import change, history, latency, ratios, roofline, scaling, stability, standing
from harness.page.charts.layout import each
from harness.page.sections import Content, Given
from harness.page.standings import notes, standings
from harness.page.view import Case, View
from harness.rows import rows_of

EMPTY_RUN = "This run holds no case."
NOT_PROFILED = "What ran inside the calls was not looked at: convbench profile SUITE does that for the cells of a run."


def _verdict(view: View, given: Given) -> Content:
    if given.judged is None:
        return Content({"opening": opening.without_baseline(view, given.duration_s, given.extent, given.pruned), "strip": None})
    beside = opening.beside_baseline(
        view, given.judged, given.checks, given.differences, given.nights, given.extent, given.pruned
    )
    comparable = (given.judged.cases["ratio"] > 0).any() and len(view.cells)
    strip = change.strip(view, given.judged) if comparable else None
    slower = given.judged.count(Outcome.SLOWER)
    return Content(
        {"opening": beside, "strip": strip},
        figures=(strip,) if strip else (),
        count=f"{slower} slower" if slower else "",
        bad=bool(slower),
    )


def _validity(view: View, given: Given) -> Content:
    open_checks = sum(check.result.open for check in given.checks)
    return Content(
        {
            "checks": given.checks,
            "differences": given.differences,
            "compared": given.judged is not None and bool(given.judged.baseline),
            "facts": provenance.of_run(given.run, view, given.duration_s, given.command),
            "machines": provenance.machines(given.run, view),
            "variables": provenance.variables(given.run, view),
            "settings": provenance.settings(view),
            "limits": provenance.ceilings(given.ceilings, given.summary, view),
        },
        count=f"{open_checks} open" if open_checks else "",
        bad=any(check.blocks for check in given.checks),
    )


def _compare(view: View, given: Given) -> Content:
    if given.extent:
        return Content(empty=f"Not compared: {given.extent.words}. What is there stands in the table of all results.")
    found = standings(view)
    if not found:
        return Content(
            empty="No case has a time that could be ranked: there is nothing to compare." if len(view.cells) else EMPTY_RUN
        )
    several = any(one.backends > 1 for one in found)
    figures = [standing.forest(view, found)] if several and any(one.means for one in found) else []
    if given.judged is not None and (faster := standing.speedup(view, given.judged)):
        figures.append(faster)
    if several:
        figures.append(standing.profile(view))
    worths = worth.worth(view, given.worth)
    data = {
        "standings": found if several else [],
        "standings_notes": notes(found),
        "compared_figures": figures,
        "worths": worths,
        "worth_note": worth.note(worths) if worths else "",
        "beside_settings": given.beside_settings and tuple(map(shlex.quote, given.beside_settings)),
    }
    return Content(data, figures=tuple(figures))


def _workloads(view: View, given: Given) -> Content:
    drawn = each("lat", latency.latency, view, view.drawn)
    published = elsewhere.section(view, given.beside)
    heats = [tables.heat(view, device) for device in view.devices]
    short = [(tables.SHORT[status], words) for status, words in opening.FAILURE_WORDS.items() if view.count(status)]
    return Content(
        {
            "heats": heats,
            "heat_notes": tables.heat_notes(view, heats, short, visited=given.run.visited, whole=given.extent is None),
            "heat_barred": any(
                cell.text.endswith("!") for heat in heats for _, lines in heat.rows for _, row in lines for cell in row
            ),
            "networks": tables.networks(view, given.networks),
            "tuned": settings.best(given.tuned, given.run.tuned),
            "tuned_networks": settings.networks(given.tuned_networks),
            "latency": drawn,
            "elsewhere": published,
        },
        figures=(*drawn, *([published.chart] if published else [])),
        empty="" if len(view.cells) else EMPTY_RUN,
    )


def _what_ran(view: View, given: Given) -> Content:
    if given.ran is None or given.ran.profiles.empty:
        return Content(empty=NOT_PROFILED)
    return Content({"ran": ran.section(view, given.ran)})


def _roofline(view: View, given: Given) -> Content:
    rated = view.drawn[(view.drawn["flop_per_s"] > 0) & (view.drawn["intensity_flop_per_byte"] > 0)]

    def chart(view: View, device: str, name: str) -> Drawn:
        return roofline.roofline(view, device, given.ceilings, name)

    drawn = each("roof", chart, view, rated)
    return Content(
        {
            "rooflines": drawn,
            "fastest_rate": _fastest_rate(view),
            "shares": view.ok["ceiling_share"],
            "measured_ceilings": given.ceilings is not None and len(given.ceilings) > 0,
        },
        figures=tuple(drawn),
        empty="" if drawn else "No case has a time: no rate to show.",
    )


def _stability(view: View, given: Given) -> Content:
    worst = stability.unsteady(view, given.samples)
    drawn = None if worst.empty else stability.stability(view, worst, given.run.seed)
    flagged = int((view.ok["flags"] != "").sum())
    return Content(
        {"stability": drawn, "flags": tables.flags(view), "pruned": given.pruned},
        figures=(drawn,) if drawn else (),
        count=f"{flagged} flagged" if flagged else "",
        empty="" if len(view.ok) else "No case has a figure: there is no spread to show.",
    )


def _memory(view: View, given: Given) -> Content:
    known = ratios.with_memory(view)
    drawn = [*each("mem", ratios.memory, view, known), *each("peak", ratios.largest, view, known)]
    return Content(
        {"memory": drawn, "memory_methods": tables.memory_methods(view)},
        figures=tuple(drawn),
        empty="" if len(view.ok) else "No case has a figure: no memory to show.",
    )


def _energy(view: View, given: Given) -> Content:
    known = ratios.with_energy(view)
    drawn = each("energy", ratios.energy, view, known)
    missing = ratios.not_known(view, "energy_per_call_j", "energy_method")
    if not len(view.ok):
        return Content(empty="No case has a figure: no energy to show.")
    return Content({"energy": drawn, "energy_missing": missing}, figures=tuple(drawn))


def _scaling(view: View, given: Given) -> Content:
    found = scaling.sweeps(view)
    if not found:
        return Content(
            empty="No workload of this run was swept over batches or sizes: the suites scaling-batch and scaling-size do that."
        )
    pairs = dict.fromkeys((sweep.axis, sweep.rows["device"].iloc[0]) for sweep in found)
    drawn = [
        scaling.scaling(view, [one for one in found if (one.axis, one.rows["device"].iloc[0]) == pair], f"scale-{place}")
        for place, pair in enumerate(pairs)
    ]
    return Content({"scaling": drawn}, figures=tuple(drawn))


def _history(view: View, given: Given) -> Content:
    if given.nights is None or given.nights["run_id"].nunique() < 2:
        return Content(empty="No earlier night of this suite on this machine is stored: there is no history yet.")
    drawn = history.history(view, given.nights, given.breaks)
    return Content(
        {
            "history": drawn,
            "steps": tables.steps(view, given.steps, given.nights, opening.lines(given.nights)),
            "nights": given.nights["run_id"].nunique(),
        },
        figures=(drawn,) if drawn else (),
    )


def _failures(view: View, given: Given) -> Content:
    columns, counts = tables.matrix(view)
    failed = len(view.failed)
    new = (
        set() if given.judged is None else set(given.judged.cases.loc[given.judged.cases["verdict"] == Outcome.FAILED, "cell"])
    )
    return Content(
        {
            "matrix_columns": columns,
            "matrix": counts,
            "failures": tables.failures(view, new, tables.failing_since(given.nights)),
            "known_before": given.judged is not None,
            "has_nights": given.nights is not None,
        },
        count=str(failed) if failed else "",
        bad=bool(failed),
        empty="" if len(view.cells) else EMPTY_RUN,
    )


def _results(view: View, given: Given) -> Content:
    if not len(view.cells):
        return Content(empty=EMPTY_RUN)
    data = {"left_out": embedded.missing(view, given), "results_notes": embedded.notes(view)}
    return Content(data, count=str(len(view.cells)))


def _method(view: View, given: Given) -> Content:
    visited = given.run.visited
    words = [(str(flag), flag.words, flag.bars_verdict) for flag in Flag if not (visited and flag.without_visits)]
    return Content({"flag_words": words, "method": provenance.method(given.run), "visited": visited})


def _data_files(view: View, given: Given) -> Content:
    return Content()


BUILDERS: Mapping[str, Callable[[View, Given], Content]] = {
    "verdict": _verdict,
    "validity": _validity,
    "compare": _compare,
    "workloads": _workloads,
    "what-ran": _what_ran,
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


def _fastest_rate(view: View) -> list[tuple[str, str, str]]:
    """Per device the highest effective rate and its case."""
    known = view.ok[view.ok["flop_per_s"] > 0]
    first = known.sort_values("flop_per_s", ascending=False, kind="stable").drop_duplicates("device").sort_values("device")
    return [(case.device, units.flop_rate(case.flop_per_s), case.case) for case in rows_of(first, Case)]
