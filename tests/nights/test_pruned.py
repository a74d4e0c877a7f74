"""A run whose samples were removed shows what was kept of it, says once what was not, and nothing that is not so."""

import re
from datetime import timedelta
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from harness.cli import app
from harness.nights import retention
from harness.review import comparing, pages
from harness.review.reading import Reading, summary
from harness.store import nights, table
from tests import builders, stored


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """Two nights, the first without its samples and its journal."""
    first, second = stored.night(tmp_path, 0), stored.night(tmp_path, 1, {stored.SLOW: 1.5})
    (old,) = retention.plan(tmp_path, builders.START + timedelta(hours=1)).old
    retention.prune(old)
    return first, second


def section(text: str, name: str) -> str:
    start = text.index(f'<section id="{name}"')
    return text[start : text.index("</section>", start)]


@pytest.mark.fault("the samples of a run were pruned", "its medians are those that it had")
def test_its_medians_are_those_that_it_had(tmp_path: Path) -> None:
    folder = stored.night(tmp_path, 0)
    before = Reading(folder).ranking
    (old,) = retention.plan(tmp_path, builders.START + timedelta(hours=1)).old
    retention.prune(old)
    after = Reading(folder).ranking
    same = ["cell", "status", "median_ns", "trials", "flop_per_s", "bytes_per_s", "workspace_bytes", "flags"]
    pd.testing.assert_frame_equal(after[[*same, "barred_by"]], before[[*same, "barred_by"]])
    assert after["vs_best"].tolist() == pytest.approx(before["vs_best"].tolist(), rel=1e-3)
    assert after[["samples", "ci_low_ns", "p95_ns", "contended_share"]].isna().all(axis=None)
    assert not after[["best", "tie", "decided"]].any(axis=None)
    whole = summary(table.load(tmp_path))
    assert whole["median_ns"].tolist() == summary(table.load(folder))["median_ns"].tolist()


@pytest.mark.fault("a page is made of a run that was pruned", "it uses what is kept, and says once what is not")
def test_the_page_uses_what_is_kept_and_says_once_what_is_not(pair: tuple[Path, Path]) -> None:
    text = pages.page(Reading(pair[0]), Reading(pair[1])).text
    assert text.count("The samples of this run are not in the store") == 1
    assert "Peak memory of a call" in section(text, "memory")
    assert "No case has a figure" not in text
    assert "fewer;" not in section(text, "validity")
    checks = {check.name: check for check in Reading(pair[0]).checks}
    for name in ("Blocks dwarf the clock", "Enough samples"):
        assert (str(checks[name].result), checks[name].measured) == ("not measured", "not kept")
    assert "the kernel does not tell" not in checks["Nobody else on the cores"].measured
    assert "The spread is not kept" in section(text, "stability")
    assert not re.search(r'<td class="[^"]*"[^>]*>–</td>', section(text, "workloads").split("<table", 2)[1])
    factors = re.findall(r'<td class="h[^"]*"[^>]*>([^<]*)</td>', section(text, "workloads"))
    assert factors
    assert all(factor.startswith("~") for factor in factors)
    alone = section(pages.page(Reading(pair[0])).text, "verdict")
    assert "cannot be told apart" not in alone
    assert "is fastest" not in alone


@pytest.mark.fault("nothing of a run's figures was kept", "it says so")
def test_a_run_of_which_no_figure_was_kept_says_so(pair: tuple[Path, Path]) -> None:
    (pair[0] / nights.NIGHT).unlink()
    text = pages.page(Reading(pair[0])).text
    assert section(text, "workloads").count(">n/k</td>") == 6
    assert "n/k its figure is not kept" in text
    assert "no figure of it is kept." in section(text, "verdict")
    assert "medians are kept" not in text
    assert Reading(pair[0]).remark.endswith(": no figure of it is kept")


def test_show_says_it_first_and_prints_the_medians(pair: tuple[Path, Path], tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["show", pair[0].name, "--out", str(tmp_path)])
    assert done.exit_code == 0
    lines = done.output.splitlines()
    assert lines[0].startswith(f"{pair[0].name}: samples not in the store (convbench prune removes those of old runs): medians")
    assert sum("1.0" in line and " ms" in line for line in lines[3:]) >= 4
    assert "few_samples" not in done.output
    by_backend = CliRunner().invoke(app, ["show", pair[0].name, "--by", "backend", "--out", str(tmp_path)]).output
    assert "ms –" not in by_backend


@pytest.mark.fault("a run that was pruned is compared", "the ratio of the medians, and no verdict")
def test_compare_gives_the_ratio_of_the_medians_and_no_verdict(pair: tuple[Path, Path]) -> None:
    found = comparing.compare(*map(table.load, pair)).set_index("cell")
    row = found.loc[stored.SLOW]
    assert row["verdict"] == "uncertain"
    assert row["why"] == "samples of base not in the store: no interval is kept, the ratio is that of the medians"
    assert row["ratio"] == row["new_ns"] / row["base_ns"] == pytest.approx(1.5, rel=0.02)
    assert pd.isna(row["ratio_low"])


def test_a_run_with_its_journal_is_not_pruned(tmp_path: Path) -> None:
    folder = stored.night(tmp_path, 0)
    (folder / table.SAMPLES).unlink()
    assert not table.pruned(folder)
    assert Reading(folder).remark == ""
