"""Real nights whose kernels change: profiled, and named on the page's first screen and in what people are told."""

import importlib.util
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from harness.analysis import due
from harness.backends import registry
from harness.cli import app
from harness.execution import host
from harness.nights import nightly, notify
from harness.review.reading import Reading
from harness.store import table
from tests import halved

ROOT = Path(__file__).resolve().parents[2]
SUITE = """
[suite]
name = "kernels"
description = "One filter gradient, for tests."
[axes]
direction = ["wgrad"]
backend = ["{backend}"]
precision = ["{precision}"]
layout = ["NHWC"]
threads = [1]
[budget]
trials = 1
visits = 3
visit_s = 0.01
warmup_cpu_s = 0.01
warmup_max_s = 0.2
[[workload]]
name = "small"
n = 1
c = 16
k = 32
spatial = [14, 14]
kernel = [3, 3]
padding = "same"
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory for nights on a machine that is always quiet, with all the time for profiles that they take."""
    monkeypatch.chdir(tmp_path)
    for name in (notify.URL, notify.FORMAT, notify.TOKEN, notify.JOB_SUMMARY):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(host.VARIABLE, str(tmp_path / "lock"))
    monkeypatch.setattr(nightly, "look", lambda lock: "")
    monkeypatch.setattr(due, "SHARE", 1e3)
    return tmp_path


def night(backend: str, precision: str = "fp32", *options: str) -> Result:
    """A night of the suite by the command line, its page included."""
    Path("kernels.toml").write_text(SUITE.format(backend=backend, precision=precision))
    return CliRunner().invoke(app, ["nightly", "kernels.toml", "--no-ceilings", *options])


def profiled(backend: str, precision: str = "fp32") -> Result:
    """A night with a profile: on a busy machine there may be no undisturbed call to tell of, and the next night has to."""
    for _ in range(5):
        said = night(backend, precision)
        reading = Reading(table.find("results", "latest"))
        if len(reading.kernels):
            return said
    (problem,) = reading.profiles["problem"]
    assert problem.startswith("contended: ")
    pytest.skip(f"needs a machine that is less busy: {problem}")


def first_screen(said: Result) -> str:
    text = Path("reports", said.stdout.splitlines()[-1], "report.html").read_text()
    return text[text.index('id="verdict"') : text.index('id="validity"')]


def named(said: Result) -> tuple[str, str]:
    """The kernels of the newest night and of the one before, which page and message must both name."""
    folder = table.find("results", "latest")
    (case,) = Reading(folder).judgement.cases.to_dict("records")
    assert case["another_kernel"], case["what_ran"]
    assert f"runs another kernel: {case['what_ran']}" in said.stdout
    for name in (case["ran_now"], case["ran_before"]):
        assert f"<code>{name.split('; ')[0]}</code>" in first_screen(said)
    return case["ran_now"], case["ran_before"]


def test_a_night_says_what_its_profiles_took_and_none_are_made_where_nobody_wants_them(place: Path) -> None:
    assert "profiled" not in night("numpy", "fp32", "--no-profiles").stderr
    said = night("numpy")
    assert "profiled 1 cell in " in said.stderr
    assert "1 not profiled with its versions" in said.stderr
    (profile,) = Reading(table.find("results", "latest")).profiles.to_dict("records")
    assert profile["problem"] == "nothing watches this backend"
    dry = night("numpy", "fp32", "--dry-run")
    assert "and profiles of some cells, for up to " in dry.stderr


@pytest.mark.fault("profiling a night fails", "the night is judged and told, and a line says why it was not profiled")
def test_profiles_that_cannot_be_made_cost_no_night(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise OSError("no room")

    monkeypatch.setattr(nightly, "profile", broken)
    said = night("numpy")
    assert "not profiled: no room" in said.stderr
    assert said.stdout.startswith("## convbench: kernels ")
    assert said.stdout.splitlines()[-1] == Reading(table.find("results", "latest")).run.id


@pytest.mark.long
@pytest.mark.skipif(importlib.util.find_spec("tensorflow") is None, reason="needs TensorFlow")
def test_tensorflow_without_onednn_is_another_kernel(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "1")
    profiled("tensorflow")
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    now, before = named(profiled("tensorflow"))
    assert "jit" in before or "brg" in before
    assert "jit:avx" not in now
    assert "brgconv" not in now


@pytest.mark.long
@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="needs PyTorch")
def test_fp16_in_the_place_of_bf16_is_another_kernel(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    points = [EntryPoint("torch", f"{halved.__name__}:HalvedTorch", registry.GROUP)]
    monkeypatch.setattr(registry.metadata, "entry_points", lambda group: points if group == registry.GROUP else [])
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    profiled("torch", "bf16")
    monkeypatch.setenv(halved.HALVED, "1")
    now, before = named(profiled("torch", "bf16"))
    assert now != before
