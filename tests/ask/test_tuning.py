"""Which settings compete in a tuning: the axes of `--over`, their values, and the default that stands first."""

from dataclasses import replace
from pathlib import Path

import pytest

from harness.ask import suite as suites
from harness.ask import tuning
from harness.ask.planning import plan
from harness.ask.suite import Suite
from harness.axes import Device, Layout, Mode, Precision
from harness.errors import SelectionError

CPU = (Device("cpu"),)
MODES = {"torch": (Mode.COMPILED, Mode.EAGER), "tensorflow": (Mode.COMPILED, Mode.EAGER, Mode.XLA)}
WORKLOAD = '[[workload]]\nname = "w"\nn = 1\nc = 2\nk = 2\nspatial = [4, 4]\nkernel = [3, 3]\npadding = "same"\n'


def suite(folder: Path, axes: str = "", more: str = "", workload: str = WORKLOAD) -> Suite:
    path = folder / "small.toml"
    path.write_text(f'[suite]\nname = "small"\n[axes]\ndirection = ["fprop"]\n{axes}\n{workload}{more}')
    return suites.load(path)


def settings(tuned: Suite) -> list[tuple[str, str, str, int]]:
    cells = plan(tuned, {"torch": CPU, "tensorflow": CPU}, 0).cells
    return sorted((cell.backend, cell.layout_text, str(cell.mode), cell.threads) for cell in cells)


@pytest.mark.parametrize(
    ("texts", "axes"),
    [
        (["layout,mode"], {"layout": (), "mode": ()}),
        (["layout, precision=fp32,bf16 ,threads"], {"layout": (), "precision": ("fp32", "bf16"), "threads": ()}),
        (["threads=1,2", "mode"], {"threads": ("1", "2"), "mode": ()}),
    ],
)
def test_axes_stand_beside_each_other_with_their_values(texts: list[str], axes: dict) -> None:
    assert tuning.parse(texts) == axes


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("layuot", '--over: found "layuot"; did you mean "layout"? allowed: layout, mode, precision, threads'),
        ("backend", "--over: found"),
        ("layout,NCHW", '--over: found "NCHW"'),
        ("mode,mode", '--over: axis "mode" is named twice'),
        ("mode=eager,", "--over: found an empty value"),
        ("", "--over: found"),
    ],
)
def test_what_is_no_axis_is_told_on_one_line(text: str, told: str) -> None:
    with pytest.raises(SelectionError) as raised:
        tuning.parse([text])
    assert told in str(raised.value)
    assert "\n" not in str(raised.value)


def test_what_a_suite_leaves_open_takes_every_value_and_a_backend_has_its_own_modes(tmp_path: Path) -> None:
    tuned = tuning.tuned(suite(tmp_path), tuning.parse(["layout,mode,threads"]), MODES, 6)
    assert tuned.axes.layout == (Layout.CHANNELS_LAST, Layout.CHANNELS_FIRST)
    assert tuned.axes.threads == (0, 4, 2, 1)
    assert tuned.tuned == {"layout": "NHWC", "mode": "eager", "threads": "0"}
    assert "threads" in tuned.compare
    found = settings(tuned)
    assert len(found) == 2 * 2 * 4 + 2 * 3 * 4
    assert {mode for backend, _, mode, _ in found if backend == "torch"} == {"eager", "compiled"}


def test_a_suite_that_states_values_means_them_but_those_named_replace_them(tmp_path: Path) -> None:
    stated = suite(tmp_path, 'layout = ["NCHW", "NHWC"]\nmode = ["compiled", "eager"]\nprecision = ["bf16", "fp32"]')
    tuned = tuning.tuned(stated, tuning.parse(["layout,mode,precision"]), MODES, 2)
    assert (tuned.axes.layout[0], tuned.axes.mode, tuned.axes.precision) == (
        Layout.CHANNELS_FIRST, (Mode.EAGER, Mode.COMPILED), (Precision.FP32, Precision.BF16),
    )  # fmt: skip
    assert tuning.tuned(stated, tuning.parse(["mode=xla,eager"]), MODES, 2).axes.mode == (Mode.EAGER, Mode.XLA)


def test_what_is_excluded_by_a_tuned_axis_competes_and_other_excludes_stay(tmp_path: Path) -> None:
    more = '[[exclude]]\nbackend = "torch"\nmode = "compiled"\n[[exclude]]\nbackend = "tensorflow"\n'
    tuned = tuning.tuned(suite(tmp_path, more=more), tuning.parse(["mode"]), MODES, 2)
    assert settings(tuned) == [("torch", "NHWC", "compiled", 0), ("torch", "NHWC", "eager", 0)]


@pytest.mark.parametrize(
    ("over", "axes", "told"),
    [
        ("threads", "", "--over threads: found 0: nothing to choose from"),
        ("layout", 'layout = ["NCHW"]', "--over layout: found NCHW: nothing to choose from"),
        ("mode=xla,eager", "", "--over mode: found eager: nothing to choose from"),
        ("precision", "", "--over precision: results of several precisions are not equally exact"),
        ("precision=fp32,fp23", "", '--over precision: found "fp23"'),
    ],
)
def test_an_axis_that_leaves_no_choice_is_told_on_one_line(tmp_path: Path, over: str, axes: str, told: str) -> None:
    with pytest.raises(SelectionError) as raised:
        tuning.tuned(suite(tmp_path, axes), tuning.parse([over]), {"torch": MODES["torch"]}, 1)
    assert str(raised.value).startswith(told)
    assert "\n" not in str(raised.value)


def test_a_suite_without_convolutions_has_nothing_to_tune(tmp_path: Path) -> None:
    product = '[[workload]]\nname = "g"\nkind = "gemm"\nm = 2\nn = 2\nk = 2\n'
    with pytest.raises(SelectionError, match="holds no convolution"):
        tuning.tuned(suite(tmp_path, workload=product), tuning.parse(["mode"]), MODES, 2)


def test_a_race_has_an_aim_and_no_more_trials_than_were_asked_for(tmp_path: Path) -> None:
    plain = suite(tmp_path)
    assert tuning.budget(plain, None).budget == replace(plain.budget, until=0.02)
    asked = tuning.budget(plain, 6).budget
    assert (asked.trials, asked.most_trials, asked.until) == (4, 6, 0.02)
    timed = replace(plain, budget=replace(plain.budget, time_s=60.0))
    assert tuning.budget(timed, None) == timed
