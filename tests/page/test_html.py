"""The whole page: what it says, that it says it twice alike, and that nothing in the frame can break out of it."""

import base64
import dataclasses
import hashlib
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from harness import units
from harness.axes import Direction, Mode, Precision
from harness.columns import RANK_COLUMNS, SAMPLE_COLUMNS, SUMMARY_COLUMNS
from harness.flags import Flag
from harness.outcome import Level
from harness.page import embedded, html, sections, standings, view
from harness.page.charts import latency
from harness.record import VISITS_SINCE
from harness.review import pages
from harness.review.reading import Reading
from harness.spec import Cell
from tests import builders, settings
from tests.page import synthetic
from tests.page.soundness import HOSTILE, SECTIONS, rows_of, sound


def rendered(made: synthetic.Made, **more) -> str:
    return html.render(made.summary, made.samples, made.run, **more)


@pytest.fixture(scope="module")
def text(made) -> str:
    return rendered(made, duration_s=312.0)


@pytest.fixture(scope="module")
def beside(made) -> str:
    """The page beside a baseline and with thirty nights."""
    return compared(made, nights=synthetic.nights(made), breaks=((made.run.id, "jax 1 → 2"),))


def test_the_page_is_sound_and_complete(text):
    page = sound(text)
    assert [attributes["id"] for tag, attributes in page.tags if tag == "section"] == SECTIONS
    assert "figure failed" not in text
    assert len([tag for tag, _ in page.tags if tag == "h1"]) == 1


def test_the_page_with_what_settings_are_worth_is_sound(made):
    text = rendered(made, worth=synthetic.modes(made))
    sound(text)
    assert text.index('id="worth"') < text.index('id="workloads"')
    assert f"Of {len(synthetic.modes(made)['mode'])} cases beside eager: " in text


def test_how_a_run_was_measured_is_said_as_its_method_had_it(made, text, undrawn):
    visits = html.render(made.summary, made.samples, dataclasses.replace(made.run, method_version=VISITS_SINCE))
    of_visits = (
        "In every turn each prepared case is visited once", "over 20 % of the block while", "it counts as all others do",
        "median of the process's visits", "visit by visit in the same turn",
    )  # fmt: skip
    of_trials = (
        "One cell is measured after the other", "over 1 % of the block while", "no figure counts them",
        "the trial's clean samples", "trial by trial", "<dt>bimodal</dt>",
    )  # fmt: skip
    for one, other, words in ((visits, text, of_visits), (text, visits, of_trials)):
        for told in words:
            assert told in one
            assert told not in other


def test_the_policy_names_what_stands_in_the_page(text):
    page = sound(text)
    policy = next(a["content"] for tag, a in page.tags if tag == "meta" and a.get("http-equiv") == "Content-Security-Policy")
    for kind in ("script", "style"):
        digest = base64.b64encode(hashlib.sha256("".join(page.raw[kind]).encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert "unsafe" not in policy
    assert policy.startswith("default-src 'none'")


_CHILD = (
    "import sys; sys.path.insert(0, sys.argv[1]); from tests.page import synthetic; from harness.page import html;"
    "m = synthetic.make(); import hashlib;"
    "print(hashlib.sha256(html.render(m.summary, m.samples, m.run, duration_s=312.0).encode()).hexdigest())"
)


def test_the_same_run_gives_the_same_bytes(text):
    root = str(Path(__file__).parents[2])
    here = hashlib.sha256(text.encode()).hexdigest()
    environment = {**os.environ, "PYTHONHASHSEED": "1", "TZ": "Asia/Tokyo", "LC_ALL": "C"}
    done = subprocess.run([sys.executable, "-c", _CHILD, root], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == here


def test_nothing_is_read_from_the_users_matplotlib(made, text):
    import matplotlib as mpl

    with mpl.rc_context({"font.size": 30, "axes.facecolor": "red", "svg.fonttype": "path"}):
        assert rendered(made, duration_s=312.0) == text
        assert mpl.rcParams["font.size"] == 30


# --- truth ---------------------------------------------------------------------------------------------------------------


def test_every_number_is_that_of_the_frame(made, text):
    shown = rows_of(text)
    assert len(shown) == len(made.summary) == 66
    found = {(row["workload"], row["direction"], row["backend"], row["mode"]): row for row in shown}
    numbers = {
        "median": lambda row: row["median_ns"] / 1e6,
        "low": lambda row: row["ci_low_ns"] / 1e6,
        "ci": lambda row: 50 * (row["ci_high_ns"] - row["ci_low_ns"]) / row["median_ns"],
        "factor": lambda row: row["vs_best"] if row["competitors"] else np.nan,
        "rate": lambda row: row["flop_per_s"] / 1e12,
        "ceiling": lambda row: 100 * row["ceiling_share"],
        "peak": lambda row: (row["workspace_bytes"] + row["bytes_min"]) / 2**20,
        "least": lambda row: (row["workspace_bytes"] + row["bytes_min"]) / row["bytes_min"],
        "workspace": lambda row: row["workspace_bytes"] / 2**20,
        "p95": lambda row: row["p95_ns"] / row["median_ns"],
        "first": lambda row: row["first_call_ns"] / 1e6,
        "cores": lambda row: row["effective_cores"],
    }
    for row in made.summary.to_dict("records"):
        line = found[row["workload"], row["direction"], row["backend"], row["mode"]]
        assert line["status"] == row["status"]
        assert line["message"] == (row["reason"] if row["status"] != "ok" else "")
        for key, number in numbers.items():
            value = number(row)
            assert (line[key] is None) if np.isnan(value) else line[key] == pytest.approx(value, rel=1e-5), key


def test_marks_of_the_lowest_of_ties_and_of_what_is_not_decided(made, text):
    shown = Counter(row["mark"] for row in rows_of(text))
    assert shown["2"] == int(made.summary["best"].sum())
    assert shown["1"] == int(made.summary["tie"].sum()) > 0
    undecided = (made.summary["competitors"] > 0) & ~made.summary[["best", "tie", "decided"]].any(axis=1)
    assert shown["3"] == int(undecided.sum()) > 0


def test_the_head_says_what_was_scaled(made, text, undrawn):
    summary = made.summary.assign(scaled=made.summary["workload"].map(lambda name: "n=1 for 16" if name == "example" else ""))
    assert "Scaled for this run: n=1 for 16 (1 workload)." in html.render(summary, made.samples, made.run)
    assert "Scaled for this run" not in text


def test_a_flag_says_of_which_runs_it_is():
    assert {flag for flag in Flag if flag.without_visits} == {
        flag for flag in Flag if flag.words.startswith("In a run without")
    }


NOUNS = "case|cell|check|layer|measurement|night|pair|process|row|run|sample|shape|thread|trial|turn|visit|window|workload"


def test_one_of_anything_is_no_plural(tmp_path):
    """The page of a single cell that was visited once in its only trial, as it is stored."""
    only = Reading(settings.run(tmp_path, [builders.cell()], trials=1, turns=1))
    shown = re.sub(r"<[^>]+>", "", pages.page(only).text)
    assert re.findall(rf"(?<![\d.,–-])1 (?:{NOUNS})e?s\b", shown) == []
    assert re.search(r"\b1 cell\b", shown)


def test_a_mark_that_stands_nowhere_is_not_explained(made, undrawn):
    plain = made.summary.assign(best=False, tie=False, decided=False, vs_best_low=np.nan, vs_best_high=np.nan)
    text = html.render(plain, made.samples, made.run)
    for id in ("results", "workloads"):
        assert not set("●○") & set(re.sub(r"<svg.*?</svg>", "", section(text, id)))
    assert "in brackets" not in text


def test_no_interval_is_spoken_of_where_there_is_none():
    made = few()
    text = rendered(dataclasses.replace(made, summary=made.summary.assign(ci_low_ns=np.nan, ci_high_ns=np.nan)))
    assert "Median latency, cpu" in text
    assert "through a marker" not in text
    assert "through a marker is its 95 % interval" in rendered(made)


def test_the_head_counts_right(text):
    assert "60 of 66 cells have a checked figure; 1 gave a wrong result, 2 ran out of memory" in text
    assert "No baseline: nothing to compare" in text
    assert "<b>5 min 12 s</b>" in text


def test_the_head_names_no_winner_where_there_is_none(made, text, undrawn):
    assert "nobody is called fastest in forward + both gradients and training step: that takes 3 workloads" in text
    assert "Left out, since a flag bars a verdict on one of the times: 1 workload in forward" in text
    one = synthetic.make([cell for cell in synthetic.cells(("torch",)) if cell.mode is Mode.EAGER])
    alone = html.render(one.summary, one.samples, one.run)
    assert "one backend has times: there is no other to compare it with" in alone
    assert "No device has ranked times of two backends" in section(alone, "compare")
    assert "eometric mean" not in section(alone, "compare")
    assert ">Time, cpu<" in section(alone, "workloads")
    assert ">Time ÷ lowest, cpu<" in section(text, "workloads")
    assert "No device has ranked times of two backends" not in text


def two_ways(cells: list[Cell]) -> list[Cell]:
    """The cells of two of the five directions: they have something for every section and chart."""
    return [cell for cell in cells if cell.direction in (Direction.FPROP, Direction.DGRAD)]


def few() -> synthetic.Made:
    return synthetic.make(two_ways(synthetic.cells()))


# --- hostile text ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("nasty", HOSTILE)
def test_hostile_text_stays_text(nasty):
    made = synthetic.make(two_ways(synthetic.cells(("torch", "jax"))))
    summary, held = made.summary.copy(), nasty
    nasty = nasty.replace("\ud800", "")  # no frame can hold half of a pair, but the run's own texts can
    for column in ("reason", "op", "op_reason", "memory_method", "check_method", "settings"):
        summary[column] = nasty
    summary["workload"] = summary["workload"].replace("rn50_conv1", nasty)
    summary["backend"] = summary["backend"].replace("jax", nasty)
    summary["flags"] = nasty
    environments = tuple(
        dataclasses.replace(each, backend=name, cpu=nasty, os=nasty, packages={nasty: nasty}, environ={nasty: nasty})
        for each, name in zip(made.run.environments, (nasty, "torch"), strict=True)
    )
    run = dataclasses.replace(
        made.run, suite=held, description=held, commit=held, command=held, tags=(nasty, nasty), environments=environments
    )
    text = html.render(summary, made.samples, run)
    page = sound(text)
    assert len([tag for tag, _ in page.tags if tag == "script"]) == 2
    assert not set("<>&\u2028\u2029") & set(re.search(r'id="data">(.*?)</script>', text, re.S)[1])
    assert len(rows_of(text)) == len(summary)
    assert "failed:" not in text
    assert "<img" not in text
    assert "49{%" not in text
    assert not re.search("[\u2028\u2029\ud800-\udfff]", text)
    assert len(text) < 1_500_000


# --- shapes of data --------------------------------------------------------------------------------------------------------


def only(made: synthetic.Made, keep: pd.Series) -> synthetic.Made:
    return dataclasses.replace(made, summary=made.summary[keep])


def no_ok() -> synthetic.Made:
    failing = {(c.backend, c.workload, str(c.direction), str(c.mode)): ("error", "it broke") for c in synthetic.cells()}
    return synthetic.make(failing=failing)


def many(workloads: int) -> synthetic.Made:
    cells = [
        dataclasses.replace(cell, workload=f"layer{i:03}")
        for i in range(workloads)
        for cell in synthetic.cells()
        if cell.workload == "rn50_res5_3x3"
    ]
    return synthetic.make(cells, {})


def four_backends() -> synthetic.Made:
    return synthetic.make(two_ways(synthetic.cells(("tensorflow", "torch", "jax", "numpy", "nobody_knows"))))


def two_devices() -> synthetic.Made:
    return synthetic.make(two_ways(synthetic.cells() + synthetic.cells(("torch", "jax"), "gpu:0")), {})


def no_memory() -> synthetic.Made:
    made = synthetic.make()
    unknown = {name: np.nan for name in SUMMARY_COLUMNS if name.endswith("_bytes")}
    return dataclasses.replace(made, summary=made.summary.assign(**unknown, memory_method="not measured: no clear_refs"))


def unranked() -> synthetic.Made:
    made = few()
    return dataclasses.replace(made, summary=made.summary.drop(columns=list(RANK_COLUMNS)))


def three_modes_two_precisions() -> synthetic.Made:
    cells = two_ways(synthetic.cells())
    more = [dataclasses.replace(c, mode=Mode.XLA) for c in cells if c.mode is Mode.COMPILED and c.backend == "tensorflow"]
    half = [dataclasses.replace(c, precision=Precision.BF16) for c in cells if c.workload.startswith("rn50")]
    return synthetic.make(cells + more + half, {})


def zero_times() -> synthetic.Made:
    made = few()
    summary = made.summary.copy()
    summary.loc[:3, ["median_ns", "ci_low_ns", "ci_high_ns"]] = 0.0
    summary.loc[:3, ["flop_per_s", "vs_best"]] = np.nan
    summary.loc[4:6, ["ci_low_ns", "ci_high_ns"]] = np.nan
    return dataclasses.replace(made, summary=summary)


SHAPES = {
    "no cell": lambda: only(synthetic.make(), pd.Series(False, index=range(66))),
    "no ok cell": no_ok,
    "one cell": lambda: synthetic.make(synthetic.cells()[:1]),
    "one failed cell": lambda: only(synthetic.make(), pd.Series(range(66)).eq(11)),
    "one backend": lambda: synthetic.make(two_ways(synthetic.cells(("jax",)))),
    "only the reference": lambda: synthetic.make(two_ways(synthetic.cells(("numpy",))), {}),
    "four backends": four_backends,
    "two devices": two_devices,
    "no memory": no_memory,
    "no samples": lambda: dataclasses.replace(few(), samples=synthetic.frame([], SAMPLE_COLUMNS)),
    "no environment": lambda: (lambda m: dataclasses.replace(m, run=dataclasses.replace(m.run, environments=())))(few()),
    "no ranking": unranked,
    "three modes, two precisions": three_modes_two_precisions,
    "times of zero, no intervals": zero_times,
}


@pytest.mark.parametrize("shape", SHAPES)
def test_odd_shapes_of_data(shape):
    text = rendered(SHAPES[shape]())
    sound(text)
    assert "figure failed" not in text
    assert ">nan" not in text.lower()
    assert "<b>–</b>" in text  # no wall time given


def test_the_reference_is_shown_and_never_ranked(undrawn):
    made = four_backends()
    assert all("numpy" not in [mean.backend for mean in s.means] for s in standings.standings(view.prepare(made.summary)))
    mine = [row for row in rows_of(rendered(made)) if row["backend"] == "numpy"]
    assert mine
    assert all(row["factor"] is None and row["median"] is not None for row in mine)


def test_what_was_not_measured_is_said(undrawn):
    text = rendered(no_memory())
    assert "cpu: 60 cells not measured: no clear_refs." in text
    assert "Ceilings were not measured in this run" in text
    assert "Workspace beside the tensors" not in text


@pytest.mark.parametrize("workloads", [70, pytest.param(300, marks=pytest.mark.long)])
def test_more_workloads_than_a_page_can_draw(workloads):
    text = rendered(many(workloads))
    sound(text)
    assert f"The 24 of {3 * workloads} groups" in text
    assert f"60 of {workloads} workloads" in text
    assert len(rows_of(text)) == 9 * workloads
    assert len(text) < 2_500_000


def with_ceilings(made: synthetic.Made) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The summary with two ceilings among its rows, one of which failed, and the frame of the best."""
    rows = made.summary.iloc[:2].assign(
        workload=["product_xyz", "move_xyz"], direction="none", shape=["gemm m9 n9 k9", "copy 64 bytes"], layout="",
        cell=["product_xyz/none", "move_xyz/none"], status=["ok", "oom"], reason=["", "no memory for it"], op="torch.mm",
        best=False, tie=False, vs_best=np.nan,
    )  # fmt: skip
    best = pd.DataFrame(
        {"device": ["cpu", "cpu"], "threads": [0, 1], "precision": ["fp32", ""], "workload": ["product_xyz", "move_xyz"],
         "backend": ["torch", "jax"], "mode": ["eager", "compiled"], "op": ["torch.mm", "jax.jit(jnp.copy)"],
         "flop_per_s": [123e9, np.nan], "bytes_per_s": [np.nan, 45.6e9]}
    )  # fmt: skip
    summary = made.summary.assign(ceiling_share=made.summary["flop_per_s"] / 123e9)
    return pd.concat([summary, rows], ignore_index=True).astype(made.summary.dtypes.to_dict()), best


def test_ceilings_are_facts_and_no_cases(made, text):
    without = text
    summary, best = with_ceilings(made)
    text = html.render(summary, made.samples, made.run, ceilings=best)
    sound(text)
    environment = text[text.index('<section id="validity"') : text.index('<section id="compare"')]
    assert "<dt>Best matrix product on cpu in fp32</dt><dd>123 GFLOP/s, product_xyz by PyTorch: torch.mm</dd>" in environment
    assert "<dt>Best copy on cpu, 1 thread</dt><dd>45.6 GB/s, move_xyz by JAX: jax.jit(jnp.copy)</dd>" in environment
    assert "<dt>Not measured: move_xyz</dt>" in environment
    assert "no memory for it" in environment
    elsewhere = text.replace(environment, "")
    assert "product_xyz" not in elsewhere
    assert "move_xyz" not in elsewhere
    assert len(rows_of(text)) == len(made.summary)
    assert "What this machine can do" not in without


def test_the_share_of_the_ceiling_is_a_column_of_the_results(made, undrawn):
    summary, best = with_ceilings(made)
    text = html.render(summary, made.samples, made.run, ceilings=best)
    convolutions = summary[summary["direction"] != "none"]
    shown = sorted(row["ceiling"] for row in rows_of(text) if row["ceiling"] is not None)
    assert shown == pytest.approx(sorted(100 * convolutions["ceiling_share"].dropna()), rel=1e-5)
    assert f"The best cell reaches {units.percent(convolutions['ceiling_share'].max())}" in text


def test_a_figure_that_raises_does_not_lose_the_page(made, monkeypatch):
    def broken(*_):
        raise RuntimeError("no ink")

    monkeypatch.setattr(latency, "_latency", broken)
    page = html.build(sections.Given(made.summary, made.samples, made.run))
    text = page.text
    sound(text)
    assert "figure failed: RuntimeError" in text
    assert "no ink" not in text
    assert "1 part of this page could not be made" in text
    assert page.broken == ("lat-0: RuntimeError",)
    assert "Effective rate" in text


def test_charts_leave_no_figure_behind(text):
    import matplotlib.pyplot as plt

    assert plt.get_fignums() == []


# --- beside a baseline -----------------------------------------------------------------------------------------------------


def compared(made: synthetic.Made, **more) -> str:
    judged = synthetic.judged(made, {"torch": 1.2, "jax rn50_conv1": 0.8})
    return rendered(made, judged=judged, checks=synthetic.CHECKS, differences=synthetic.DIFFERENCES, **more)


def section(text: str, id: str) -> str:
    start = text.index(f'<section id="{id}"')
    return text[start : text.index("</section>", start)]


def test_what_changed_stands_first(beside):
    text = beside
    sound(text)
    head = section(text, "verdict")
    assert "▲ suspect" in head
    assert "JAX, backward filter, rn50" in head
    assert "(3 of 4, +15.0 %)" in head
    assert "Held against 20260228-023000-0001. Changed since: jax 0.10.1 → 0.10.2" in head
    assert head.count('<tr><th scope="row">') == 1 + 1 + 10 + 2  # failed, lost, slower, faster
    assert re.search(r"10 of \d+ slower", head)
    assert "gone" in head
    assert "Every case against the baseline" in head
    assert "time now ÷ baseline" in section(text, "compare")
    assert "<td" in section(text, "validity")


def test_the_checks_say_what_they_do_to_the_report(beside):
    shown = section(beside, "validity")
    for check in synthetic.CHECKS:
        assert check.name in shown
        assert check.effect in shown
    assert "0.10.1" in shown


def test_thirty_nights_and_one(made, beside, undrawn):
    assert "30 nights" in section(beside, "verdict")
    assert "Geometric mean over 29 nights" in section(beside, "history")
    nights = synthetic.nights(made)
    alone = rendered(made, nights=nights[nights["run_id"] == made.run.id])
    sound(alone)
    assert "there is no history yet" in section(alone, "history")


@pytest.mark.parametrize("shape", [name for name in SHAPES if name != "no cell"])
def test_odd_shapes_beside_a_baseline(shape, undrawn):
    made = SHAPES[shape]()
    text = compared(made)
    sound(text)
    assert "figure failed" not in text
    assert "section failed" not in text
    assert not re.search(r">\s*nan|nan ", text.lower())


def test_the_banner_says_the_word_of_its_tag_once(made, undrawn):
    judged = dataclasses.replace(synthetic.judged(made, {}), level=Level.REGRESSION, sentence="Regression: one is slower.")
    text = rendered(made, judged=judged, checks=synthetic.CHECKS, differences=synthetic.DIFFERENCES)
    assert '<span class="tag slow">▲ regression</span> one is slower.</p>' in text


def test_numbers_that_are_none_are_dashes(made, undrawn):
    judged = synthetic.judged(made, {})
    cases = judged.cases.assign(ratio=np.nan, ratio_low=np.inf, ratio_high=np.nan, severity=np.nan, baseline_ns=np.nan)
    text = rendered(made, judged=dataclasses.replace(judged, cases=cases.assign(verdict="slower", word="slower")))
    sound(text)
    assert "section failed" not in text
    assert "nan" not in section(text, "verdict").lower()


@pytest.mark.fault("a workload's name says nothing of its shape", "the page shows the shape")
def test_every_workload_shows_its_shape(made, beside):
    text = beside
    shape = '<span class="shape">n1 c64 k64 56x56 f3x3 p1x1</span>'
    for name in ("verdict", "workloads"):
        assert shape in section(text, name)
    assert section(text, "workloads").count('<span class="shape">') == 5
    assert {row["shape"] for row in rows_of(text)} == set(made.summary["shape"])
    rows = embedded.as_csv(view.prepare(made.summary), sections.Given(made.summary, made.samples, made.run))
    assert "shape" in rows.splitlines()[0].split(",")
    assert rows.count(",n1 c64 k64 56x56 f3x3 p1x1,") == 9


def test_ratios_stand_on_log_axes(beside):
    text = beside
    for label in (
        "geometric mean of time ÷ lowest, log", "time now ÷ baseline, log", "peak ÷ tensors, log",
        "time of one call over the cell&#39;s median, log", "time ÷ first night, log",
    ):  # fmt: skip
        assert label in text or label.replace("&#39;", "'") in text


def test_no_chart_and_no_table_has_times_of_the_device(made, text):
    """They are of several kinds, which are no one quantity: the page compares none of them, and says the same without."""
    ways = np.resize(["CUDA events", "the profiler's kernels"], len(made.summary))
    told = made.summary.assign(device_ns=np.linspace(1e3, 1e9, len(made.summary)), device_method=ways)
    assert rendered(dataclasses.replace(made, summary=told), duration_s=312.0) == text
