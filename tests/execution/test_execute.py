"""A whole run, from a suite to sealed files, on the numpy reference in real worker processes."""

import dataclasses
import errno
import json
import os
import resource
import shutil
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from importlib.metadata import EntryPoint
from pathlib import Path
from random import Random
from typing import Any

import pandas as pd
import pytest
from rich.console import Console

import harness
from harness import codec
from harness.analysis.ranking import Sureness
from harness.ask import suite as suites
from harness.ask.selection import Selection
from harness.cli.progress import Screen
from harness.errors import BusyError, MachineError, RunNotFoundError, SelectionError, StoreError, SuiteError, UserError
from harness.execution import afterwards, discovery, execute, host
from harness.execution.watcher import Watcher
from harness.isolate import launcher
from harness.plan import Plan
from harness.record import Environment, Progress, Record, Run, Status, Visit
from harness.review import pages
from harness.review.reading import Reading
from harness.store import digests, journal, table
from tests import builders

SUITE = """
[suite]
name = "tiny"
description = "Two convolutions, for tests."
[axes]
direction = ["fprop", "wgrad", "train"]
backend = ["numpy"]
[budget]
trials = 3
visits = 2
visit_s = 0.001
warmup_cpu_s = 0.0
warmup_calls = 1
[[workload]]
name = "plain"
n = 1
c = 2
k = 3
spatial = [5, 5]
kernel = [3, 3]
padding = "same"
[[workload]]
name = "line"
n = 2
c = 2
k = 2
spatial = [7]
kernel = [3]
padding = "valid"
"""


CEILINGS = """
[suite]
name = "ceilings"
[[workload]]
name = "product"
kind = "gemm"
m = 64
n = 64
k = 64
[[workload]]
name = "move"
kind = "copy"
nbytes = 65536
"""
NO_CEILINGS = CEILINGS + '[[exclude]]\ndevice = "cpu"\n'


@pytest.fixture(autouse=True)
def ceilings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The ceilings of these tests, which hide those that are shipped; nothing joins a run here until CEILINGS is written."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "suites" / "ceilings.toml"
    path.parent.mkdir()
    path.write_text(NO_CEILINGS)
    return path


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(SUITE)
    return path


@pytest.fixture
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A lock of this test's own."""
    monkeypatch.setenv(host.VARIABLE, str(tmp_path / "convbench.lock"))
    return tmp_path / "convbench.lock"


def test_a_run_has_a_row_for_every_cell_and_trial_each_with_its_witnesses(tiny: Path, alone: Path, tmp_path: Path) -> None:
    run = harness.run(tiny, out=tmp_path / "results", tags=["nightly"], seed=7)
    records = harness.load(tmp_path / "results")
    assert len(records) == 2 * 3 * 3
    assert run.finished_at is not None
    assert (run.suite, run.seed, run.tags) == ("tiny", 7, ("nightly",))
    assert set(records["status"]) == {"ok"}
    assert (records["check_method"].str.contains("spot")).all()
    assert (records["stopped_by"] != "").all()
    assert set(records["environment_id"]) == {environment.id for environment in run.environments}
    assert records["order"].tolist() == list(range(18))
    samples = harness.samples(tmp_path / "results")
    assert set(samples.groupby(["trial", "cell"]).size().index) == set(zip(records["trial"], records["cell"], strict=True))
    visits = samples.drop_duplicates(["trial", "cell", "process", "turn", "place", "visit"])
    assert (visits.groupby(["trial", "cell"])["visit"].agg(sorted).map(tuple) == (0, 1)).all()
    assert visits.groupby("turn")["place"].agg(sorted).map(tuple).tolist() == [tuple(range(6))] * 6
    assert visits.groupby("trial")["process"].agg(set).tolist() == [{0}, {1}, {2}]


def test_the_summary_has_one_row_per_cell_over_all_trials(tiny: Path, alone: Path, tmp_path: Path) -> None:
    harness.run(tiny, out=tmp_path / "results")
    summary = harness.summary(harness.load(tmp_path / "results"))
    assert len(summary) == 6
    assert (summary["trials"] == 3).all()
    assert (summary["ci_method"] == "trials").all()
    assert (summary["ci_low_ns"] <= summary["median_ns"]).all()
    assert (summary["median_ns"] <= summary["ci_high_ns"]).all()
    only_plain = harness.summary(harness.load(tmp_path / "results").query("workload == 'plain'"))
    assert set(only_plain["workload"]) == {"plain"}


def test_overrides_narrow_the_suite(tiny: Path, alone: Path, tmp_path: Path) -> None:
    harness.run(tiny, out=tmp_path, direction="wgrad", keyword="plain", trials=1)
    assert harness.load(tmp_path)["cell"].tolist() == ["plain/wgrad/numpy/eager/cpu/fp32/nhwc/hot/t0"]


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        ({"backend": "torhc"}, ["backend", "torhc", '"torch"']),
        ({"trails": 1}, ["trails", "trials"]),
        ({"backends": ["numpy"]}, ["run", "backends", 'did you mean "backend"?']),
        ({"mode": "fast"}, ["mode"]),
    ],
)
def test_what_cannot_be_asked_for_measures_nothing(
    tiny: Path, alone: Path, tmp_path: Path, overrides: dict[str, object], words: list[str]
) -> None:
    with pytest.raises(SelectionError) as caught:
        harness.run(tiny, out=tmp_path / "results", **overrides)
    assert [word for word in words if word not in str(caught.value)] == []
    assert not (tmp_path / "results").exists()


def test_a_suite_that_is_not_there_is_named(alone: Path) -> None:
    with pytest.raises(SuiteError, match="nowhere"):
        harness.run("nowhere")


def test_a_second_run_on_the_host_is_refused(tiny: Path, alone: Path, tmp_path: Path) -> None:
    with host.alone(), pytest.raises(BusyError, match="another run"):
        harness.run(tiny, out=tmp_path / "results")


@pytest.fixture
def absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There are two backends: numpy, and torch, whose package is not installed."""
    (tmp_path / "absent.py").write_text('class Absent:\n    distributions = ("no_such_package_anywhere",)\n')
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    point = EntryPoint("torch", "absent:Absent", discovery.registry.GROUP)
    mine = EntryPoint("numpy", "harness.backends.numpy:NumpyBackend", discovery.registry.GROUP)
    monkeypatch.setattr(discovery.registry.metadata, "entry_points", lambda group: [point, mine])


def test_a_backend_that_is_not_installed_gives_a_row_for_each_cell_that_says_how_to_get_it(
    tiny: Path, alone: Path, tmp_path: Path, absent: None, capsys: pytest.CaptureFixture[str]
) -> None:
    selection = execute.select({"backend": ["numpy", "torch"], "trials": 2, "direction": "fprop"})
    with Screen(Console(stderr=True, width=200)) as watcher:
        execute.execute(suites.load(tiny), selection, out=tmp_path, watcher=watcher)
    rows = harness.load(tmp_path).set_index("backend")
    assert set(rows.loc["torch", "status"]) == {"skipped"}
    assert set(rows.loc["torch", "reason"]) == {"torch is not installed: pip install no_such_package_anywhere"}
    assert set(rows.loc["torch", "trial"]) == {0}
    assert set(rows.loc["numpy", "status"]) == {"ok"}
    assert (len(rows.loc["torch"]), len(rows.loc["numpy"])) == (2, 4)
    told = capsys.readouterr().err.splitlines()
    assert told[0].startswith("tiny: 2 of 4 cells x 2 trials, since torch is not installed: about ")
    assert [line for line in told[1:] if "torch" in line] == ["  torch: not installed: pip install no_such_package_anywhere"]
    assert [line.partition("]")[0] for line in told if line.startswith("[")] == ["[1/4", "[2/4", "[3/4", "[4/4"]


@pytest.mark.fault("no framework of a run is installed", "one line names the command that installs it, and nothing is stored")
def test_a_run_of_what_is_not_installed_is_refused(tiny: Path, alone: Path, tmp_path: Path, absent: None) -> None:
    told = "no cell can be measured: torch is not installed: pip install no_such_package_anywhere$"
    with pytest.raises(SelectionError, match=told):
        harness.run(tiny, out=tmp_path / "results", backend="torch")
    with pytest.raises(SelectionError, match=told):
        afterwards.profile(suites.load(tiny), execute.select({"backend": "torch"}), out=tmp_path / "results")
    assert not (tmp_path / "results").exists()
    plan, seconds = execute.prepare(suites.load(tiny), execute.select({"backend": "torch"}), 0, listing=True)
    assert (len(plan.cells), seconds) == (6, 0)


def test_more_trials_are_made_of_what_is_installed(tiny: Path, alone: Path, tmp_path: Path, absent: None) -> None:
    selection = execute.select({"backend": ["numpy", "torch"], "direction": "fprop", "time_s": 1e-9})
    run = execute.execute(suites.load(tiny), selection, out=tmp_path)
    execute.more(tmp_path / "runs" / run.id, time_s=20.0)
    rows = harness.load(tmp_path)
    assert rows.loc[rows["backend"] == "torch", "trial"].tolist() == [0, 0]
    assert rows.loc[rows["backend"] == "numpy", "trial"].max() > 0


@pytest.mark.fault("a plug-in crashes in a run", "its own rows are errors, the others are measured")
def test_a_backend_of_another_package_that_crashes_when_it_is_imported_costs_its_own_rows_only(
    tiny: Path, alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "crashing.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path))  # so that this process would find it too
    targets = {"numpy": "harness.backends.numpy:NumpyBackend", "other": "crashing:Backend"}
    points = [EntryPoint(name, target, discovery.registry.GROUP) for name, target in targets.items()]
    monkeypatch.setattr(discovery.registry.metadata, "entry_points", lambda group: points)
    harness.run(tiny, out=tmp_path / "results", backend=["numpy", "other"], trials=1, direction="fprop")
    rows = harness.load(tmp_path / "results").set_index("backend")
    assert set(rows.loc["numpy", "status"]) == {"ok"}
    assert set(rows.loc["other", "status"]) == {"error"}
    assert set(rows.loc["other", "reason"]) == {"other could not be set up: killed by SIGSEGV"}


class Interrupting(Watcher):
    """Presses Ctrl-C after some records."""

    def __init__(self, after: int) -> None:
        self.left = after

    def recorded(self, record: Record) -> None:
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt


def test_an_interrupted_run_keeps_what_it_has_and_can_be_gone_on_with(
    tiny: Path, alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(KeyboardInterrupt, match=r"^interrupted; what was measured is kept"):
        execute.execute(suites.load(tiny), Selection(), out=tmp_path, watcher=Interrupting(5))
    folder = table.find(tmp_path, "latest")
    cut = table.load(folder)
    assert cut["status"].value_counts().to_dict() == {"ok": 5, "not_run": 13}
    assert journal.read_run(folder).finished_at is None

    run = execute.resume(folder)
    whole = table.load(folder)
    assert run.finished_at is not None
    assert whole["status"].value_counts().to_dict() == {"ok": 18}
    kept = whole[whole["order"].isin(cut.loc[cut["status"] == "ok", "order"])]
    assert kept["started_at"].tolist() == cut.loc[cut["status"] == "ok", "started_at"].tolist()


@pytest.mark.fault(
    "Ctrl-C is pressed amid the visits of a run",
    "each visit that was made is kept, its row says how many there were, and `--resume` makes the rest",
)
def test_a_run_that_is_interrupted_amid_its_visits_keeps_them_and_makes_the_rest(
    tiny: Path, alone: Path, tmp_path: Path
) -> None:
    class Stopping(Watcher):
        """Presses Ctrl-C after the eighth visit: the second of the second turn."""

        left = 8

        def visited(self, visit: Visit) -> None:
            self.left -= 1
            if not self.left:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        execute.execute(suites.load(tiny), Selection(budget={"trials": 1}), out=tmp_path, watcher=Stopping())
    folder = table.find(tmp_path, "latest")
    cut = table.load(folder)
    assert (
        sorted(cut["reason"])
        == ["the run ended after 1 visit to this cell"] * 4 + ["the run ended after 2 visits to this cell"] * 2
    )
    assert table.samples(folder).empty
    kept = journal.scan(folder).visits
    assert sum(map(len, kept.values())) == 8

    run = execute.resume(folder)
    assert run.finished_at
    assert table.load(folder)["status"].tolist() == ["ok"] * 6
    made = journal.scan(folder).visits
    assert all(made[order][: len(visits)] == visits for order, visits in kept.items())
    # Those that had two already are visited beside the others in the turn that makes up for the one that was cut off.
    assert sorted(map(len, made.values())) == [2] * 4 + [3] * 2
    assert {(visit.process, visit.turn) for visits in made.values() for visit in visits} == {(0, 0), (0, 1), (1, 2)}
    samples = table.samples(folder)
    assert len(samples.drop_duplicates(["cell", "turn"])) == 14


def test_a_refused_run_has_a_row_for_every_cell_that_says_why(tiny: Path, alone: Path, tmp_path: Path) -> None:
    with host.alone():  # whoever measures there: nothing is measured here
        run = execute.execute(suites.load(tiny), Selection(), out=tmp_path, tags=["nightly"], refusal="the machine was busy")
    records = harness.load(tmp_path)
    assert len(records) == 18
    assert set(records["status"]) == {"not_run"}
    assert set(records["reason"]) == {"the machine was busy"}
    assert run.finished_at is not None  # it is over: there is nothing to resume
    assert run.environments == ()


def test_a_run_carries_the_machine_that_it_was_planned_on_and_its_name(tiny: Path, alone: Path, tmp_path: Path) -> None:
    out = tmp_path / "results"
    plain = harness.run(tiny, out=out, keyword="plain and fprop", trials=1)
    named = harness.run(tiny, out=out, keyword="plain and fprop", trials=1, machine="alpha")
    for run, name in ((plain, ""), (named, "alpha")):
        (worker,) = run.environments
        assert run.planned_on is not None
        assert (run.planned_on.machine, worker.machine) == (name, name)
        assert run.planned_on.machine_id == worker.machine_id
    assert plain.machines.keys() != named.machines.keys()
    assert harness.load(out)["machine_id"].nunique() == 2


def test_a_refused_run_is_of_its_machine(tiny: Path, alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVBENCH_MACHINE", "beta")
    run = execute.execute(suites.load(tiny), Selection(), out=tmp_path / "results", refusal="busy")
    assert run.environments == ()
    assert [words.partition(":")[0] for words in run.machines.values()] == ["beta"]
    assert set(harness.load(tmp_path / "results")["machine_id"]) == set(run.machines)


@pytest.mark.fault("a machine's name is malformed", "one line says so, and nothing is measured")
def test_a_name_that_is_not_allowed_measures_nothing(tiny: Path, alone: Path, tmp_path: Path) -> None:
    with pytest.raises(MachineError, match="--machine: found 'a b'"):
        harness.run(tiny, out=tmp_path / "results", machine="a b")
    assert not (tmp_path / "results").exists()


@pytest.mark.fault("a run is resumed on another machine", "it is refused, and both are named")
def test_a_run_is_resumed_on_its_own_machine_only(
    tiny: Path, alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(KeyboardInterrupt):
        execute.execute(suites.load(tiny), Selection(), out=tmp_path, watcher=Interrupting(2), machine="alpha")
    (folder,) = (tmp_path / "runs").iterdir()
    monkeypatch.setenv("CONVBENCH_MACHINE", "beta")
    with pytest.raises(MachineError, match="begun on alpha: "):
        execute.resume(folder)
    monkeypatch.delenv("CONVBENCH_MACHINE")
    run = execute.resume(folder)  # whoever says nothing means the machine that it was begun on
    assert len(run.machines) == 1
    assert {each.machine for each in run.environments} == {"alpha"}


def test_ceilings_join_a_run_and_its_convolutions_are_held_against_them(
    tiny: Path, alone: Path, ceilings: Path, tmp_path: Path
) -> None:
    ceilings.write_text(CEILINGS)
    run = harness.run(tiny, out=tmp_path, trials=2, direction="fprop", keyword="plain")
    records = harness.load(tmp_path)
    assert sorted(records["cell"]) == sorted(
        ["move/none/numpy/eager/cpu/fp32/nhwc/hot/t0", "product/none/numpy/eager/cpu/fp32/nhwc/hot/t0",
         *["plain/fprop/numpy/eager/cpu/fp32/nhwc/hot/t0"] * 2]
    )  # fmt: skip
    assert set(records["status"]) == {"ok"}
    assert set(records["suite"]) == {run.suite} == {"tiny"}
    summary = harness.summary(records).set_index("workload")
    assert summary["ceiling_share"].notna().to_dict() == {"plain": True, "product": False, "move": False}
    rates = summary["flop_per_s"]
    assert summary.loc["plain", "ceiling_share"] == pytest.approx(rates["plain"] / rates["product"])
    page = harness.report(records.query("workload == 'plain'"), tmp_path / "page.html").read_text()
    assert "What this machine can do" in page
    assert "Best copy on cpu" in page


def test_ceilings_may_be_left_out(tiny: Path, alone: Path, ceilings: Path, tmp_path: Path) -> None:
    ceilings.write_text(CEILINGS)
    harness.run(tiny, out=tmp_path, trials=1, direction="fprop", ceilings=False)
    records = harness.load(tmp_path)
    assert set(records["direction"]) == {"fprop"}
    assert harness.summary(records)["ceiling_share"].isna().all()
    assert "What this machine can do" not in harness.report(records, tmp_path / "page.html").read_text()


def test_a_suite_of_ceilings_is_joined_by_none(ceilings: Path) -> None:
    ceilings.write_text(CEILINGS)
    plan, _ = execute.prepare(suites.load("ceilings"), Selection(axes={"backend": ["numpy"]}), 0)
    assert len(plan.cells) == 2
    without, _ = execute.prepare(suites.load("ceilings"), Selection(axes={"backend": ["numpy"]}), 0, ceilings=False)
    assert plan == without


def test_a_mistake_in_the_ceilings_is_told_before_anything_is_measured(
    tiny: Path, alone: Path, ceilings: Path, tmp_path: Path
) -> None:
    ceilings.write_text(CEILINGS.replace("gemm", "gem"))
    with pytest.raises(SuiteError, match=r'suites/ceilings.toml: \[\[workload\]\] 1 "product": kind: found "gem"'):
        harness.run(tiny, out=tmp_path / "results")
    assert not (tmp_path / "results").exists()
    assert harness.run(tiny, out=tmp_path / "results", trials=1, keyword="plain and fprop", ceilings=False).finished_at


def test_a_run_with_ceilings_can_be_gone_on_with(tiny: Path, alone: Path, ceilings: Path, tmp_path: Path) -> None:
    """They are in the plan that is stored: what stands in the suites by then is not looked at."""
    ceilings.write_text(CEILINGS)
    with pytest.raises(KeyboardInterrupt):
        execute.execute(suites.load(tiny), Selection(budget={"trials": 1}), out=tmp_path, watcher=Interrupting(1))
    ceilings.unlink()
    folder = table.find(tmp_path, "latest")
    assert execute.resume(folder).finished_at is not None
    whole = table.load(folder)
    assert whole["status"].value_counts().to_dict() == {"ok": 8}
    assert set(whole.loc[whole["direction"] == "none", "workload"]) == {"product", "move"}


def test_the_plan_is_the_same_for_the_same_seed(tiny: Path) -> None:
    first, _ = execute.prepare(suites.load(tiny), Selection(), 3)
    again, _ = execute.prepare(suites.load(tiny), Selection(), 3)
    other, _ = execute.prepare(suites.load(tiny), Selection(), 4)
    assert first == again
    assert first.steps != other.steps
    assert set(first.cells) == set(other.cells)


def test_the_page_is_made_from_what_is_stored_and_the_frame_chooses(tiny: Path, alone: Path, tmp_path: Path) -> None:
    run = harness.run(tiny, out=tmp_path / "results", trials=1)
    records = harness.load(tmp_path / "results")
    path = harness.report(records.query("workload == 'plain'"), tmp_path / "deep" / "page.html")
    text = path.read_text()
    assert run.id in text
    assert "plain" in text
    assert "n2 c2 k2 7 f3" not in text
    written = pages.publish(Reading(tmp_path / "results" / "runs" / run.id), tmp_path / "reports").path
    assert written == tmp_path / "reports" / run.id / "report.html"
    beside = {path.name for path in written.parent.iterdir()}
    assert beside == {"report.html", "results.csv", "environment.json", "summary.json"}
    assert codec.decode(Run, json.loads((written.parent / "environment.json").read_text())) == journal.read_run(
        tmp_path / "results" / "runs" / run.id
    )
    digest = digests.read(tmp_path / "reports")[run.id]
    assert digest.report_bytes == written.stat().st_size
    assert (digest.cells, digest.level) == (len(harness.summary(records)), "")
    assert f'href="{run.id}/report.html"' in (tmp_path / "reports" / "index.html").read_text()


def test_a_worker_that_dies_costs_its_own_cell_only(
    tiny: Path, alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine is told to crash on one cell by an environment variable that only the test's backend reads."""
    module = tmp_path / "dying.py"
    module.write_text(
        "import os, signal\nfrom harness.backends.numpy import NumpyBackend\n"
        "class Dying(NumpyBackend):\n    def prepare(self, cell, operands):\n"
        "        if cell.workload == 'line' and cell.direction == 'wgrad': os.kill(os.getpid(), signal.SIGSEGV)\n"
        "        return super().prepare(cell, operands)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(execute.launcher.Launcher, "target", lambda self, backend: "dying:Dying")
    harness.run(tiny, out=tmp_path / "results", trials=1)
    rows = harness.load(tmp_path / "results").set_index(["workload", "direction"])
    assert rows.loc[("line", "wgrad"), "status"] == Status.CRASHED
    assert "SIGSEGV" in rows.loc[("line", "wgrad"), "reason"]
    assert (rows["status"] == "ok").sum() == len(rows) - 1


WRONG_OR_WORSE = """
import os, signal
from dataclasses import replace
from harness.backends.numpy import NumpyBackend

class Mixed(NumpyBackend):
    def supports(self, cell):
        return "there is no such kernel" if (cell.workload, cell.direction) == ("plain", "train") else super().supports(cell)

    def prepare(self, cell, operands):
        prepared = super().prepare(cell, operands)
        match cell.workload, cell.direction:
            case "line", "wgrad":
                os.kill(os.getpid(), signal.SIGSEGV)
            case "line", "train":
                raise MemoryError("out of memory")
            case "plain", "wgrad":
                fetch = prepared.fetch
                prepared.fetch = lambda handle: replace(fetch(handle), dw=fetch(handle).dw + 1)
        return prepared
"""


def test_no_figure_stands_in_a_row_without_its_check_its_environment_and_its_reason_to_stop(
    tiny: Path, alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every row of a run with good, unsupported, wrong, starved and crashed cells."""
    (tmp_path / "mixed.py").write_text(WRONG_OR_WORSE)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])]))
    monkeypatch.setattr(execute.launcher.Launcher, "target", lambda self, backend: "mixed:Mixed")
    run = harness.run(tiny, out=tmp_path / "results", trials=2)
    records, samples = harness.load(tmp_path / "results"), harness.samples(tmp_path / "results")
    assert set(records["status"]) == {"ok", "unsupported", "incorrect", "oom", "crashed"}
    known = {environment.id for environment in run.environments}
    of_samples = samples.groupby(["trial", "cell"])
    for row in records.itertuples():
        timed = (row.trial, row.cell) in of_samples.groups
        assert timed == (row.status == "ok"), row.cell
        if not timed:
            assert row.reason
            assert row.stopped_by == ""
            assert pd.isna([row.first_call_ns, row.wall_ns, row.cpu_ns, row.iterations]).all()
            continue
        assert row.reason == ""
        assert row.check_method
        assert row.max_rel_err <= row.tolerance
        assert row.environment_id in known
        assert row.stopped_by == "visits"
        assert row.op
        assert bool(row.memory_method) == bool(row.energy_method) == (row.trial == 0)
        assert row.spent_sampling_ns > 0
        assert of_samples.get_group((row.trial, row.cell))["block_ns"].gt(0).all()
    figures = ["median_ns", "ci_low_ns", "ci_high_ns", "min_ns", "flop_per_s", "bytes_per_s", "corrected_ns", "ceiling_share"]
    for row in harness.summary(records).to_dict("records"):
        assert pd.isna([row[name] for name in figures]).all() == (row["status"] != "ok"), row["cell"]
        assert bool(row["reason"]) == (row["status"] != "ok")
        if row["status"] == "ok":
            assert row["check_method"]
            assert row["environment_id"] in known


def test_an_aa_run_measures_every_cell_twice_and_says_what_equals_differ_by(tiny: Path, alone: Path, tmp_path: Path) -> None:
    run = harness.run(tiny, out=tmp_path, direction="fprop", aa=True, tags=["nightly"])
    assert run.tags == ("nightly", "aa")
    records = harness.load(tmp_path)
    assert records.groupby(["workload", "backend"]).size().to_dict() == {
        (workload, backend): 3 for workload in ("line", "plain") for backend in ("numpy", "numpy@aa")
    }
    assert set(records["status"]) == {"ok"}
    assert len({environment.id for environment in run.environments}) == 2
    found = Reading(tmp_path / "runs" / run.id).aa
    assert found is not None
    assert found[0].id == run.id
    assert found[1].cells["cell"].str.contains("/numpy/").all()
    assert len(found[1].cells) == 2
    page = pages.publish(Reading(tmp_path / "runs" / run.id), tmp_path / "reports").path
    assert "numpy@aa" in page.read_text()


def test_equals_in_a_run_of_any_kind_control_it(tiny: Path, alone: Path, tmp_path: Path) -> None:
    """A suite may have one backend measured twice, as that of short nights does."""
    said = []
    for backends in (["numpy"], ["numpy", "numpy@aa"]):
        run = harness.run(tiny, out=tmp_path, direction="fprop", backend=backends, visits=1, visit_s=1e-9)
        found = Reading(tmp_path / "runs" / run.id).checks
        said += [check.measured for check in found if check.name.startswith("A/A control")]
    assert said[0] == "no A/A run of this machine by this method, no equals in this run"
    assert said[1] == "no pair could be judged"  # few samples bar them
    assert Reading(tmp_path / "runs" / run.id).aa is None


def test_two_runs_are_compared_cell_by_cell_with_the_noise_of_the_latest_aa_run(
    tiny: Path, alone: Path, tmp_path: Path
) -> None:
    first = harness.run(tiny, out=tmp_path, direction="fprop")
    second = harness.run(tiny, out=tmp_path, keyword="plain and fprop")
    base, new = (harness.load(tmp_path / "runs" / each.id) for each in (first, second))
    alone_together = harness.compare(base, new)
    assert alone_together.attrs == {"base": first.id, "new": second.id, "noise": "", "machines": ""}
    assert alone_together["aa_noise"].isna().all()
    assert dict(zip(alone_together["workload"], alone_together["pairs"], strict=True)) == {"line": 0, "plain": 3}
    assert alone_together.set_index("workload").loc["line", "verdict"] == "only_base"

    harness.run(tiny, out=tmp_path, direction="fprop", tags=["aa"])  # a tag alone makes no pairs
    aa = harness.run(tiny, out=tmp_path, direction="fprop", aa=True)
    everything = harness.load(tmp_path)
    found = harness.compare(*(everything[everything["run_id"] == each.id] for each in (first, second)))
    assert found.attrs["noise"] == aa.id
    assert found.set_index("workload").loc["plain", "aa_noise"] > 0
    only_line = harness.compare(base[base["workload"] == "line"], new)
    assert set(only_line["verdict"]) == {"only_base", "only_new"}
    with pytest.raises(RunNotFoundError, match="a comparison is of one run with another; this frame holds 4"):
        harness.compare(everything, new)


def test_run_json_says_what_was_asked(tiny: Path, alone: Path, tmp_path: Path) -> None:
    run = harness.run(tiny, out=tmp_path, trials=1)
    stored = json.loads((tmp_path / "runs" / run.id / "run.json").read_text())
    assert stored["suite_sha256"] == suites.load(tiny).sha256
    assert stored["harness_version"] == execute.version()
    assert dataclasses.asdict(run).keys() == stored.keys()
    assert pd.Timestamp(stored["started_at"]).tzinfo is not None


# What ends a run from outside -----------------------------------------------------------------------------------------------


FINISH = journal.finish


@pytest.fixture
def hearing() -> Iterator[None]:
    """SIGTERM and SIGHUP are heard, whoever started the tests: `nohup` makes deaf to the latter."""
    before = {number: signal.signal(number, signal.SIG_DFL) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def scripted(tiny: Path, alone: Path, hearing: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Run]:
    """Runs six cells of `tiny` without a worker; `at` is called with the order of a cell before its record comes.

    Each has two visits, `visiting` being called before each of them, and the record right after them.
    """

    def run(
        at: Callable[[int], object] = lambda order: None, visiting: Callable[[int], object] = lambda turn: None, **more: Any
    ) -> Run:
        def cells(
            of: launcher.Launcher, plan: Plan, visits: Mapping[int, Sequence[Visit]]
        ) -> Iterator[Record | Environment | Visit]:
            yield from [builders.environment()][: len(plan)]
            for step in plan:
                made = list(visits.get(step.order, ()))
                for number in range(len(made), 2):
                    visiting(2 * step.order + number)
                    made.append(builders.visit(step.order, turn=2 * step.order + number, spent_ns={"sampling": 10**9}))
                    yield made[-1]
                at(step.order)
                yield builders.visited(*made, trial=step.trial, of=step.cell, run_id=of.run_id)
                of.observe(Progress(1, 1, 1, step.order + 1, 6))

        monkeypatch.setattr(launcher.Launcher, "execute", cells)
        if "resume" in more:
            return execute.resume(more["resume"])
        return execute.execute(suites.load(tiny), Selection(budget={"trials": 1}), out=tmp_path / "results", **more)

    return run


def statuses(folder: Path) -> dict[str, int]:
    return table.load(folder)["status"].value_counts().to_dict()


def on(order: int, do: Callable[[], object]) -> Callable[[int], object]:
    return lambda asked: do() if asked == order else None


def folder_of(tmp_path: Path) -> Path:
    return table.find(tmp_path / "results", "latest")


@pytest.mark.fault(
    "SIGTERM or SIGHUP ends a run",
    "it is sealed with a row for every cell, and says how to go on",
)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_ends_processes_leaves_a_sealed_run_with_a_row_for_every_cell(
    scripted, tmp_path: Path, number: signal.Signals
) -> None:
    with pytest.raises(execute.Interrupted) as said:
        scripted(on(2, lambda: os.kill(os.getpid(), number)))
    folder = folder_of(tmp_path)
    assert str(said.value) == (
        f"interrupted by {number.name}; what was measured is kept: convbench run --resume {folder} resumes it"
    )
    assert statuses(folder) == {"ok": 2, "not_run": 4}
    assert (folder / "records.parquet").is_file()
    assert scripted(resume=folder).finished_at
    assert statuses(folder) == {"ok": 6}


@pytest.mark.fault(
    "Ctrl-C is pressed again while an interrupted run is sealed",
    "it is sealed whole",
)
def test_a_second_interruption_while_the_run_is_sealed_costs_nothing(
    scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seal = table.seal

    def sealing(folder: Path) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        seal(folder)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(table, "seal", sealing)
    with pytest.raises(execute.Interrupted, match="interrupted"):
        scripted(on(2, lambda: os.kill(os.getpid(), signal.SIGTERM)))
    assert statuses(folder_of(tmp_path)) == {"ok": 2, "not_run": 4}


@pytest.mark.fault(
    "an interruption comes while a whole run is sealed",
    "it is sealed first",
)
def test_an_interruption_while_a_whole_run_is_sealed_comes_after_it(
    scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "finish", lambda *what: os.kill(os.getpid(), signal.SIGTERM) or FINISH(*what))
    with pytest.raises(execute.Interrupted, match="SIGTERM"):
        scripted()
    assert journal.read_run(folder_of(tmp_path)).finished_at
    assert (folder_of(tmp_path) / "samples.parquet").is_file()
    assert statuses(folder_of(tmp_path)) == {"ok": 6}


@pytest.mark.fault(
    "an interruption comes while a record is written",
    "the record is kept, and not called not run",
)
def test_a_record_that_is_being_kept_when_the_interruption_comes_is_kept_and_counted(
    scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = journal.Journal.append

    def appending(book: journal.Journal, event: Record | Environment) -> None:
        append(book, event)
        if isinstance(event, Record) and event.order == 2 and event.status is Status.OK:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(journal.Journal, "append", appending)
    with pytest.raises(execute.Interrupted):
        scripted()
    assert [record.order for record in journal.read(folder_of(tmp_path))[0]] == [0, 1, 2, 3, 4, 5]
    assert statuses(folder_of(tmp_path)) == {"ok": 3, "not_run": 3}


@pytest.mark.fault(
    "a run is cut off after its last record",
    "`--resume` seals it",
)
def test_a_run_that_lacks_nothing_but_its_seal_is_sealed(scripted, tmp_path: Path) -> None:
    id = scripted().id
    folder = folder_of(tmp_path)
    whole, run = table.load(folder), journal.read_run(folder)
    journal.finish(folder, dataclasses.replace(run, finished_at=None, environments=()))
    for file in folder.glob("*.parquet"):
        file.unlink()
    resumed = scripted(lambda order: 1 / 0, resume=folder)
    assert (resumed.id, resumed.environments) == (id, run.environments)
    assert resumed.finished_at
    pd.testing.assert_frame_equal(pd.read_parquet(folder / "records.parquet"), whole, check_dtype=False)
    assert scripted(lambda order: 1 / 0, resume=folder) == resumed  # and once more, which changes nothing


@pytest.mark.fault(
    "plan.json is gone or damaged",
    "the run is sealed with what it has, and one line says what can be done",
)
@pytest.mark.parametrize(
    ("text", "why"), [(None, "it holds no plan.json"), ("[" * 9999, "plan.json is damaged"), ("{}", "damaged")]
)
def test_a_run_without_its_plan_is_sealed_with_what_it_has_and_says_what_can_be_done(
    scripted, tmp_path: Path, text: str | None, why: str
) -> None:
    with pytest.raises(ZeroDivisionError):
        scripted(on(2, lambda: 1 / 0), command="convbench run tiny")
    folder = folder_of(tmp_path)
    for file in (folder / execute.PLAN, folder / "records.parquet"):
        file.unlink()
    if text:
        (folder / execute.PLAN).write_text(text)
    with pytest.raises(UserError, match=f"{why}.*sealed with the 6 records .* a run of its own: convbench run tiny$") as said:
        scripted(resume=folder)
    assert len(str(said.value).splitlines()) == 1
    assert statuses(folder) == {"ok": 2, "not_run": 4}
    assert (folder / "records.parquet").is_file()


@pytest.mark.fault(
    "a run that was cut off is of another method version",
    "it is sealed with what it has, and nothing is measured into it",
)
def test_a_run_by_another_method_is_sealed_with_what_it_has(scripted, tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        scripted(on(2, lambda: 1 / 0))
    folder = folder_of(tmp_path)
    journal.finish(folder, dataclasses.replace(journal.read_run(folder), method_version=1))
    (folder / "records.parquet").unlink()
    with pytest.raises(UserError, match="measured by method version 1, and this is"):
        scripted(resume=folder)
    assert (folder / "records.parquet").is_file()


@pytest.mark.fault(
    "a pruned run is resumed",
    "nothing of it changes",
)
def test_a_run_that_was_trimmed_to_its_tables_is_left_alone(scripted, tmp_path: Path) -> None:
    scripted()
    folder = folder_of(tmp_path)
    (folder / journal.JOURNAL).unlink()
    files = {file: file.read_bytes() for file in folder.iterdir() if file.is_file()}
    assert scripted(lambda order: 1 / 0, resume=folder).finished_at
    assert {file: file.read_bytes() for file in folder.iterdir() if file.is_file()} == files


# Where a run is kept ------------------------------------------------------------------------------------------------------


@pytest.mark.fault(
    "the folder of a run is removed while it goes on",
    "noticed at the next record; what was measured is written there again",
)
def test_a_folder_that_is_removed_is_noticed_and_what_was_measured_is_written_again(scripted, tmp_path: Path) -> None:
    with pytest.raises(StoreError) as said:
        scripted(on(3, lambda: shutil.rmtree(tmp_path / "results")))
    folder = folder_of(tmp_path)
    assert str(said.value) == (
        f"{folder} was removed while the run went on; what was measured is written there again: "
        f"convbench run --resume {folder} resumes it"
    )
    assert statuses(folder) == {"ok": 4, "not_run": 2}
    assert scripted(resume=folder).finished_at
    assert statuses(folder) == {"ok": 6}


@pytest.mark.fault(
    "the folder of a run is moved while it goes on",
    "noticed at the next record, and the new place named",
)
def test_a_folder_that_is_moved_is_noticed_and_its_new_place_named(scripted, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="was moved to") as said:
        scripted(on(3, lambda: (tmp_path / "results").rename(tmp_path / "else where")))
    folder = table.find(tmp_path / "else where", "latest")
    assert str(said.value).endswith(f"convbench run --resume '{folder}'")
    assert not (tmp_path / "results").exists()
    assert statuses(folder) == {"ok": 4, "not_run": 2}
    assert scripted(resume=folder).finished_at


@pytest.mark.fault(
    "the disk fills up while a run goes on",
    "said with path and remedy; half a line is taken back, and the run is resumed later",
)
def test_a_disk_that_fills_up_is_noticed_and_the_run_gone_on_with_when_there_is_room(scripted, tmp_path: Path) -> None:
    """By a limit on the size of files: a part of the line is written, then none."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def full() -> None:
        size = (folder_of(tmp_path) / journal.JOURNAL).stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, limits[1]))

    try:
        with pytest.raises(StoreError) as said:
            scripted(on(3, full))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    folder = folder_of(tmp_path)
    assert [word for word in (f"{folder / journal.JOURNAL} cannot be written: File too large", "are kept", f"--resume {folder}")
            if word not in str(said.value)] == []  # fmt: skip
    assert statuses(folder) == {"ok": 3, "not_run": 3}
    assert scripted(resume=folder).finished_at
    assert statuses(folder) == {"ok": 6}


@pytest.mark.fault(
    "the disk is full when a run is sealed",
    "said with path and remedy; `--resume` seals it",
)
def test_a_seal_that_finds_no_room_is_made_up_for(scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(folder: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder / "samples.parquet"))

    with monkeypatch.context() as patch:
        patch.setattr(table, "seal", full)
        with pytest.raises(StoreError, match=r"No space left on device.*are kept.*--resume"):
            scripted()
    assert scripted(lambda order: 1 / 0, resume=folder_of(tmp_path)).finished_at
    assert (folder_of(tmp_path) / "samples.parquet").is_file()


# Watchers -----------------------------------------------------------------------------------------------------------------


@pytest.mark.fault(
    "who watches a run fails: a terminal that is gone, a closed stream, an error",
    "the run goes on unwatched",
)
@pytest.mark.parametrize("method", ["planned", "progress", "sure", "visited", "recorded", "environment", "discovered"])
@pytest.mark.parametrize("error", [BrokenPipeError(), ValueError("I/O operation on closed file."), ZeroDivisionError()])
def test_a_watcher_that_fails_is_asked_no_more_and_the_run_goes_on(scripted, tmp_path: Path, method: str, error) -> None:
    asked = []

    class Failing(Watcher):
        pass

    def fails(self: Watcher, *news: object) -> None:
        asked.append(news)
        raise error

    setattr(Failing, method, fails)
    with pytest.warns(UserWarning, match="goes on unwatched"):
        assert scripted(watcher=Failing()).finished_at
    assert statuses(folder_of(tmp_path)) == {"ok": 6}
    assert len(asked) == 1


def test_a_watcher_is_told_of_every_visit_record_and_turn(scripted, tmp_path: Path) -> None:
    told: list[tuple[str, int]] = []

    class Noting(Watcher):
        def visited(self, visit: Visit) -> None:
            told.append(("visit", visit.turn))

        def recorded(self, record: Record) -> None:
            told.append(("record", record.order))

        def progress(self, progress: Progress) -> None:
            told.append(("turn", progress.turn))

        def sure(self, trials: int, sureness: Sureness) -> None:
            told.append(("sure", trials))

    scripted(watcher=Noting())
    assert told[:4] == [("visit", 0), ("visit", 1), ("record", 0), ("turn", 1)]
    assert Counter(what for what, _ in told) == {"visit": 12, "record": 6, "turn": 6, "sure": 1}


# What stands on disk ------------------------------------------------------------------------------------------------------


@pytest.mark.fault("a run with a damaged line is resumed", "the cell is measured anew")
def test_a_record_whose_line_is_damaged_is_measured_anew_by_resume(tiny: Path, alone: Path, tmp_path: Path) -> None:
    chosen = Selection(budget={"trials": 1})
    run = execute.execute(suites.load(tiny), chosen, out=tmp_path)
    folder = table.find(tmp_path, run.id)
    for path in folder.glob("*.parquet"):
        path.unlink()
    path = folder / journal.JOURNAL
    lines = path.read_bytes().splitlines(keepends=True)
    (place,) = [number for number, line in enumerate(lines) if b'"record":' in line[:12] and b'"order":2,' in line]
    path.write_bytes(b"".join([*lines[:place], lines[place].replace(b'"ok"', b'"oom"'), *lines[place + 1 :]]))
    with pytest.warns(UserWarning, match=f"line {place + 1} is damaged"):
        lost = table.load(folder)
    assert lost.loc[lost["status"] != "ok", ["order", "status"]].to_numpy().tolist() == [[2, "not_run"]]
    with pytest.warns(UserWarning, match=f"line {place + 1} is damaged"):
        execute.resume(folder)
    assert table.load(folder)[["order", "status"]].to_numpy().tolist() == [[order, "ok"] for order in range(6)]


def test_a_finished_run_that_is_measured_further_counts_its_processes_and_turns_on(
    tiny: Path, alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = execute.execute(suites.load(tiny), Selection(budget={"trials": 1}, keyword="plain and fprop"), out=tmp_path)
    folder = table.find(tmp_path, run.id)
    grown = iter([execute.planning.extended(journal.read_plan(folder), journal.read_plan(folder).cells, Random(1)), None])
    monkeypatch.setattr(execute.growth, "grown", lambda *asked: next(grown))
    again = execute.more(folder, time_s=60.0)
    assert again.finished_at
    rows = table.load(folder)
    assert rows[["trial", "order", "status"]].to_numpy().tolist() == [[0, 0, "ok"], [1, 1, "ok"]]
    told = [(visit.order, visit.process, visit.turn) for made in journal.scan(folder).visits.values() for visit in made]
    assert told == [(0, 0, 0), (0, 0, 1), (1, 1, 2), (1, 1, 3)]


@pytest.mark.fault("the clock is set back in a run", "its duration is monotonic and never negative")
def test_a_run_says_how_long_it_took_by_a_clock_that_nobody_sets(
    tiny: Path, alone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Back(datetime):
        """A clock that is set back by a year whenever it is read."""

        left = iter(range(2026, 2000, -1))

        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return datetime(next(cls.left), 3, 1, tzinfo=tz)

    monkeypatch.setattr(execute, "datetime", Back)
    chosen = Selection(budget={"trials": 1}, keyword="plain and fprop")
    runs = [execute.execute(suites.load(tiny), chosen, out=tmp_path) for _ in range(2)]
    assert all(run.finished_at and run.finished_at < run.started_at for run in runs)
    assert all(run.wall_s and 0 < run.wall_s < 600 for run in runs)
    assert runs[1].started_at < runs[0].started_at
    assert table.find(tmp_path, "latest").name == runs[1].id
    assert [run.id for run in table.runs(tmp_path)] == [run.id for run in runs]


def test_a_killed_run_that_is_gone_on_with_took_what_its_records_say_and_the_rest(
    tiny: Path, alone: Path, tmp_path: Path
) -> None:
    run = execute.execute(suites.load(tiny), Selection(budget={"trials": 1}), out=tmp_path)
    folder = table.find(tmp_path, run.id)
    path = folder / journal.JOURNAL
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-3]))
    journal.finish(folder, dataclasses.replace(run, finished_at=None, took_s=None))
    kept, _ = journal.read(folder)
    spent_s = sum(sum(record.spent_ns.values()) for record in kept if record.spent_ns) / 1e9
    again = execute.resume(folder)
    assert again.took_s is not None
    assert again.took_s > spent_s > 0


def test_the_visits_of_a_killed_run_to_cells_without_a_record_are_a_part_of_what_it_took(scripted, tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        scripted(visiting=on(5, lambda: 1 / 0))  # two cells have their record, the third one visit of a second
    folder = folder_of(tmp_path)
    journal.finish(folder, dataclasses.replace(journal.read_run(folder), took_s=None))
    assert table.load(folder)["reason"].tolist() == [
        "", "", "the run ended after 1 visit to this cell", *["the run ended before this cell"] * 3
    ]  # fmt: skip
    took_s = scripted(resume=folder).took_s
    assert took_s is not None
    assert 1 <= took_s < 60


@pytest.mark.fault("plan.json is damaged", "it is named")
@pytest.mark.parametrize("text", ["", "[" * 10_000, "{}", '{"suite": "x", "steps": [], "seed": NaN, "budget": {}}'])
def test_a_plan_that_is_damaged_is_named(tiny: Path, alone: Path, tmp_path: Path, text: str) -> None:
    folder = journal.create(tmp_path, builders.run())
    (folder / execute.PLAN).write_text(text)
    with pytest.raises(UserError, match=r"plan\.json is damaged: \S"):
        execute.resume(folder)


@pytest.mark.parametrize(
    "asked", [{"backend": ["nope"]}, {"direction": "bogus"}, {"keyword": "no_such_cell", "backend": ["numpy"]}]
)
def test_a_mistake_is_told_at_once_while_another_run_measures(tiny: Path, alone: Path, tmp_path: Path, asked: dict) -> None:
    with host.alone(), pytest.raises(SelectionError):
        harness.run(tiny, out=tmp_path, **asked)
