"""The sentences and tables of a comparison and of an A/A run."""

import io
import math

import pandas as pd
import pytest
from rich.console import Console

from harness.analysis.compare import compare
from harness.analysis.ranking import rank
from harness.cli import tables
from harness.flags import Flag
from harness.record import Status
from tests.analysis.test_compare import BOTH, CALM, LOADED, QUIET, base, new, noise, side
from tests.analysis.test_noise import measured, pair, ratios
from tests.analysis.test_ranking import framed
from tests.builders import cell, failed, record


def shown(table, width: int = 220) -> str:
    console = Console(file=io.StringIO(), width=width)
    console.print(table)
    return console.file.getvalue()


@pytest.mark.parametrize(("trials", "said"), [(1, True), (2, True), (3, False)])
def test_intervals_that_do_not_hold_what_processes_differ_by_are_said_to_be_so(trials, said):
    lines = tables.key(side(*base(*[1_000_000] * trials)).summary)
    assert any("what processes differ by" in line for line in lines) is said


def test_a_comparison_shows_ratio_interval_verdict_and_reason():
    other = cell(backend="jax")
    found = compare(
        side(*base(1000, 1000, 1000), *base(5, 5, 5, of=other)), side(*new(1200, 1210, 1190), *new(5, 9, 7, of=other)), QUIET
    )
    lines = shown(tables.comparison(found)).splitlines()
    assert [part in lines[2] for part in ("1.000 µs", "1.200 µs", "1.20× (1.18 to 1.23)", "slower", "median")] == [True] * 5
    assert lines[3].startswith("  n1 c1 k2 4x4 f3x3 p1x1 ")
    assert "is possible: more trials narrow that" in lines[4]
    assert tables.verdicts(found) == "1 slower, 1 uncertain"
    assert tables.verdicts(found.head(0)) == "no cells"


def test_a_comparison_says_what_ran_under_the_estimator_or_the_reason():
    found = compare(side(*base(1000, 1000, 1000)), side(*new(1200, 1210, 1190)), QUIET)
    lines = shown(tables.comparison(found.assign(what_ran="`ref:any` in new, `brg` in base"))).splitlines()
    assert lines[2].rstrip().endswith("median")
    assert lines[3].rstrip().endswith("`ref:any` in new, `brg` in base")


def test_a_corrected_ratio_is_named_and_the_ratio_of_the_times_stands_under_it():
    lines = shown(tables.comparison(compare(side(*CALM), side(*LOADED), BOTH))).splitlines()
    assert "1.00× (0.999 to 1.00) corrected" in lines[2]
    assert "1.001 µs │ 1.201 µs" in lines[2]
    assert "1.20× of the times" in lines[3]


@pytest.mark.fault("a workload's name says nothing of its shape", "the terminal shows the shape")
def test_every_workload_shows_its_shape_once():
    cells = [cell(workload=name, backend=backend) for name in ("one", "two") for backend in ("jax", "torch")]
    summary = side(*(record(of=each, order=place) for place, each in enumerate(cells))).summary
    for table in (
        tables.cells_table(rank(summary)),
        tables.comparison(compare(side(*(record(of=each) for each in cells)), side())),
    ):
        printed = shown(table)
        assert printed.count("n1 c1 k2 4x4 f3x3 p1x1") == 2
        assert [line.split("/")[0] for line in printed.splitlines()[2:] if "/" in line] == ["one", "one", "two", "two"]
    assert tables.shapes(summary) == ["shape of one  n1 c1 k2 4x4 f3x3 p1x1", "shape of two  n1 c1 k2 4x4 f3x3 p1x1"]


def test_what_was_not_run_stands_after_what_failed_and_in_words():
    records = [
        failed(Status.NOT_RUN, "the run ended", of=cell(), order=0),
        failed(Status.CRASHED, "signal 11", of=cell(workload="other"), order=1),
    ]
    assert tables.failures(side(*records).summary) == [
        "crashed: torch, 1 cell: signal 11", "not run: torch, 1 cell: the run ended",
    ]  # fmt: skip


def test_a_cell_of_one_run_has_a_dash_for_the_other():
    line = shown(tables.comparison(compare(side(*base(1000)), side()))).splitlines()[2]
    assert "–" in line
    assert "only base" in line


def test_the_noise_of_a_machine_is_told_per_estimator_and_in_sentences():
    found = measured(*(pair(name, ratios(0.01, -0.01, 0.01)) for name in "abc"), pair("d", ratios(0.2, 0.21, 0.19)))
    rows = shown(tables.aa_table(found)).splitlines()
    assert rows[2].replace("│", "").split() == ["median", "1.5", "%", "4", "pairs"]
    # Laid on these pairs, 6.0 %, what normal noise asks for, would be found in fewer than 9 of 10.
    assert tables.aa_lines(found) == [
        "A/A: 4 pairs of equals; 1 of 4 were called different (25.0 %)",
        "A slowdown of 9.4 % is found in 9 of 10 comparisons of 3 trials (by cell: 9.4 % to 220.1 %)",
    ]


def test_what_the_correction_is_worth_is_told_beside_what_is_used():
    quiet = (pair(name, ratios(0.01, -0.01, 0.01), [1, 1.2, 0.8]) for name in "ab")
    found = measured(*quiet, pair("c", [1.1, 0.9, 1.05], [1.1, 0.9, 1.05]))
    assert tables.aa_lines(found)[1] == (
        "Corrected by the yardstick these have less noise: the median in 1 of 3 pairs (not used), "
        "the lower quartile in 1 of 3 pairs (not used); two thirds are asked for"
    )
    rows = shown(tables.aa_table(found)).splitlines()
    assert rows[2].rstrip().endswith("3 pairs")
    assert "corrected median" in rows[4]
    assert rows[4].rstrip().endswith("not used")


def test_flagged_pairs_are_told_apart_from_the_others():
    flagged = [pair(name, ratios(0.2, 0.21, 0.19), flags=(Flag.DRIFT,)) for name in "ab"]
    found = measured(*(pair(name, ratios(0.01, -0.01, 0.01)) for name in "cdef"), *flagged)
    assert tables.aa_lines(found)[0] == (
        "A/A: 6 pairs of equals; 0 of 4 were called different (0.0 %); 2 of 2 under a barring flag would have been"
    )


@pytest.mark.parametrize("pairs", [[], [pair("a", [1.1])]])
def test_what_an_aa_run_cannot_say_it_does_not(pairs):
    lines = tables.aa_lines(measured(*pairs))
    assert len(lines) == 1
    assert "none could be judged" in lines[0]


def test_noise_reaches_the_table():
    found = compare(side(*base(1000, 1000, 1000)), side(*new(1200, 1210, 1190)), noise(lower_quartile=0.01))
    assert "lower quartile" in shown(tables.comparison(found))


def compared_run(*factors: float) -> pd.DataFrame:
    """The ranked summary of one comparison of several backends: 1 ms times these, the intervals 3 % to either side."""
    records = [record([round(1e6 * factor)] * 30, of=cell(backend=name)) for factor, name in zip(factors, "abc", strict=False)]
    ranked = rank(side(*records).summary)
    return ranked.assign(
        vs_best_low=[factor / 1.03 for factor in factors], vs_best_high=[factor * 1.03 for factor in factors],
        best=[factor == 1 for factor in factors], decided=[factor > 1.1 for factor in factors],
        vs_best_pairs=[4 * (factor != 1) for factor in factors],
    )  # fmt: skip


def test_a_factor_stands_with_its_interval_in_both_tables_and_the_key_says_what_it_is():
    ranked = compared_run(1.0, 1.25, 1.05)
    for table in (tables.closing(ranked), tables.cells_table(ranked), tables.cells_table(ranked, wide=False)):
        printed = shown(table)
        assert "1.25× (1.21 to 1.29)" in printed
        assert "~1.05× (1.02 to 1.08)" in printed
        assert "~1.25×" not in printed
    told = " ".join(tables.key(ranked))
    assert "visit by visit in the same turn, with an interval for all competitors at once" in told
    assert "~: not decided" in told
    assert "not decided" not in " ".join(tables.key(compared_run(1.0, 1.25, 1.5)))


def test_the_key_says_by_what_times_were_compared():
    ranked = compared_run(1.0, 1.25)
    assert "time over the fastest, trial by trial" in " ".join(tables.key(ranked, visited=False))
    pruned = ranked.assign(vs_best_pairs=0, vs_best_low=math.nan, vs_best_high=math.nan)
    assert "time over the fastest, by medians alone, since the store has no pairs" in tables.key(pruned)[1]


def told(summary: pd.DataFrame) -> tuple[str, str]:
    """The closing table of a summary, and what is said under it."""
    return shown(tables.closing(summary)), " ".join(tables.key(summary))


@pytest.mark.fault("a cell has no competitor", "it has neither a mark nor a factor, and none is explained under the table")
@pytest.mark.parametrize("flags", [(), (Flag.CONTENDED,)])
def test_a_lone_cell_has_neither_mark_nor_factor_nor_legend(flags):
    alone = rank(*framed(*(record([1_000_000] * 30, trial=trial, flags=flags) for trial in range(4))))
    table, legend = told(alone)
    assert not set("●○~×") & set(table + legend)
    assert ("*" in table, "* under a flag" in legend) == (bool(flags), bool(flags))
    assert "×" not in shown(tables.cells_table(alone))


@pytest.mark.fault("a run has one trial", "no cell is marked as the fastest, and each factor has a `~`")
def test_after_one_trial_nobody_is_marked_and_every_factor_is_there():
    records = [record([round(1e6 * factor)] * 30, of=cell(backend=name)) for factor, name in ((1, "a"), (1.25, "b"))]
    table, legend = told(rank(*framed(*records)))
    assert "~1.25×" in table
    assert "●" not in table + legend
    assert "nothing is decided by one" in legend
    assert "×: time over the fastest, visit by visit in the same turn ~: not decided" in legend


def test_in_80_columns_no_name_and_no_figure_is_cut():
    names = ("rn50_res4_1x1_downsample", "rn50_res5_3x3")
    cells = [cell(workload=name, backend=backend) for name in names for backend in ("jax", "tensorflow", "torch")]
    ranked = rank(side(*(record([1234567] * 30, of=each, order=place) for place, each in enumerate(cells))).summary)
    ranked = ranked.assign(vs_best_low=1.01, vs_best_high=1.21, vs_best=1.11, best=False, decided=True)
    for table in (tables.closing(ranked), tables.cells_table(ranked, wide=False)):
        printed = shown(table, 80)
        assert "…" not in printed
        assert max(map(len, printed.splitlines())) <= 80
        letters = "".join(printed.split())
        assert letters.count("1.21)") == 6
        assert letters.count("1.235ms") >= 6 or table.columns[0].header == "workload"
    assert "rn50_res4_1x1_downsample/fprop/jax" in "".join(
        line.split("│")[0].strip() for line in shown(tables.cells_table(ranked, wide=False), 80).splitlines()
    )


def test_calls_that_are_not_the_usual_ones_are_told_with_their_reason_once():
    told = {"op": "the other op", "op_reason": "the usual one lies"}
    cells = [cell(workload=name, backend=backend) for name in ("one", "two") for backend in ("jax", "torch")]
    records = [record(of=each, order=order, **(told if each.backend == "jax" else {})) for order, each in enumerate(cells)]
    assert tables.calls(side(*records).summary) == ["jax, 2 cells by the other op: the usual one lies"]
    assert tables.calls(side(*records[1::2]).summary) == []
