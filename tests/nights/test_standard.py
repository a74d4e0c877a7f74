"""A real night beside a standard, with the numpy backend: what is measured, kept, judged and shown."""

import pytest

from harness.ask import suite
from harness.ask.selection import Selection
from harness.errors import SuiteError
from harness.execution import execute
from harness.nights import nightly
from harness.record import NIGHTLY
from harness.review import nights as nights_of
from harness.review.reading import Reading
from harness.store import journal, table

SUITE = """
[suite]
name = "tiny"
standard = "pinned"

[axes]
backend = ["numpy"]
direction = ["fprop", "wgrad"]
threads = [1]

[budget]
trials = 2
visits = 3
visit_s = 0.002
warmup_cpu_s = 0.01
warmup_max_s = 0.1

[[workload]]
name = "small"
n = 1
c = 2
k = 2
spatial = [8, 8]
kernel = [3, 3]
padding = "same"
"""


def test_each_cell_is_visited_beside_its_twin_and_the_ratio_is_kept(tmp_path):
    path = tmp_path / "tiny.toml"
    path.write_text(SUITE)
    run = execute.execute(suite.load(path), Selection(), out=tmp_path / "results", tags=(NIGHTLY,), ceilings=False)
    assert run.standard == journal.read_run(tmp_path / "results" / "runs" / run.id).standard == "pinned"
    folder = tmp_path / "results" / "runs" / run.id
    samples = table.samples_of(table.Stored(folder, run))
    visited = samples.drop_duplicates(["cell", "turn"])
    for _, of_turn in visited.assign(group=visited["cell"].str.split("/").str[:2].str.join("/")).groupby(["turn", "group"]):
        assert set(of_turn["cell"].str.split("/").str[2]) == {"numpy", "numpy@pinned"}
        assert of_turn["place"].max() - of_turn["place"].min() == 1
        assert of_turn["process"].nunique() == 2
    night = nightly.conclude(folder, tmp_path / "reports")
    assert (night.error, night.broken) == (None, ())
    kept = nights_of.history(tmp_path / "results", "tiny").cells.astype({"backend": str}).set_index("backend")
    assert kept.loc["numpy", "vs_standard"].between(0.2, 5).all()
    assert (kept.loc["numpy", "vs_standard_low"] <= kept.loc["numpy", "vs_standard"]).all()
    assert kept.loc["numpy@pinned", "vs_standard"].isna().all()
    assert set(night.judgement.cases["backend"]) == {"numpy"}
    assert not Reading(folder).ranking["best"].any()


@pytest.mark.parametrize("label", ["old", "aa", "pinned/x", "pinned" + "x" * 15])
def test_a_label_that_is_no_standards_is_refused(tmp_path, label):
    path = tmp_path / "tiny.toml"
    path.write_text(SUITE.replace('"pinned"', f'"{label}"'))
    with pytest.raises(SuiteError, match=r"standard: found .*; allowed: pinned, and up to 14"):
        suite.load(path)
