from dataclasses import replace

import pytest

from harness.ask import axes, planning, suite
from harness.ask.selection import Selection, narrow, parse_axis
from harness.ask.suite import Suite
from harness.errors import SelectionError
from harness.spec import Budget, Device, Direction, Layout, Mode

CPU = (Device("cpu"),)
FOUND = {"jax": CPU, "numpy": CPU, "torch": CPU}


@pytest.fixture(scope="module")
def first() -> Suite:
    return suite.load("first")


def test_nothing_selected_changes_nothing(first: Suite) -> None:
    assert narrow(first, Selection()) == first


def test_a_stated_axis_gives_its_own_values_only(first: Suite) -> None:
    narrowed = narrow(first, Selection(axes={"backend": ["torch", "jax"], "mode": ["compiled"]}))
    assert (narrowed.axes.backend, narrowed.axes.mode) == (("torch", "jax"), (Mode.COMPILED,))
    assert {cell.backend for cell in planning.cells(narrowed, {})} == {"torch", "jax"}


def test_an_axis_at_its_default_takes_any_value() -> None:
    resnet = suite.load("resnet50")
    chosen = {"layout": ["nchw"], "device": ["gpu:1", "cpu"], "backend": ["numpy"], "cache": ["cold"]}
    narrowed = narrow(resnet, Selection(axes=chosen))
    assert narrowed.axes.layout == (Layout.CHANNELS_FIRST,)
    assert narrowed.axes.device == (Device("gpu", 1), Device("cpu"))
    assert narrowed.axes.backend == ("numpy",)
    assert narrowed.stated >= chosen.keys()
    assert len(planning.cells(narrowed, FOUND)) == 20 * 3 * 2


def test_a_second_narrowing_stays_within_the_first() -> None:
    once = narrow(suite.load("resnet50"), Selection(axes={"layout": ["NCHW"]}))
    with pytest.raises(SelectionError, match='layout: found "NHWC"'):
        narrow(once, Selection(axes={"layout": ["NHWC"]}))


def test_workloads_keyword_threads_budget_and_more_backends(first: Suite) -> None:
    selection = Selection(
        axes={"workload": ["example", "rn50_res?_*"], "direction": ["wgrad"]},
        keyword="torch and not compiled",
        backends=("torch@old",),
        budget={"trials": 1, "timeout_s": 5.0},
        threads=2,
    )
    narrowed = narrow(first, selection)
    assert [workload.name for workload in narrowed.workloads] == ["example", "rn50_res2_3x3", "rn50_res4_1x1", "rn50_res5_3x3"]
    assert narrowed.budget == replace(first.budget, trials=1, timeout_s=5.0)
    cells = planning.cells(narrowed, FOUND)
    assert [str(cell) for cell in cells[:2]] == [
        "example/wgrad/torch/eager/cpu/fp32/nhwc/hot/t2",
        "example/wgrad/torch@old/eager/cpu/fp32/nhwc/hot/t2",
    ]
    assert len(cells) == 4 * 2


def test_a_backend_that_the_suite_does_not_state_stands_in_for_those_it_does(first: Suite) -> None:
    narrowed = narrow(first, Selection(axes={"backend": ["numpy", "elsewhere"]}))
    assert {cell.backend for cell in planning.cells(narrowed, FOUND)} == {"numpy", "elsewhere"}


def test_direction_narrows_to_one(first: Suite) -> None:
    narrowed = narrow(first, Selection(axes={"direction": ["train"]}))
    assert narrowed.axes.direction == (Direction.TRAIN,)
    assert {cell.workload for cell in planning.cells(narrowed, FOUND)} == {"example"}


@pytest.mark.parametrize(
    ("selection", "words"),
    [
        (Selection(axes={"mode": ["xla"]}), ["mode", 'found "xla"', "allowed: eager, compiled (what suite"]),
        (Selection(axes={"mode": ["egaer"]}), ["mode", 'found "egaer"', 'did you mean "eager"?']),
        (Selection(axes={"mdoe": ["eager"]}), ["axis", 'found "mdoe"', 'did you mean "mode"?', "workload, direction"]),
        (Selection(axes={"device": ["gpu0"]}), ["device", 'found "gpu0"', "gpu:1"]),
        (Selection(axes={"mode": []}), ["mode", "found []", "at least one"]),
        (Selection(axes={"mode": ["eager", "eager"]}), ["mode", 'found "eager" twice']),
        (Selection(axes={"workload": ["exampel"]}), ["workload", 'found "exampel"', 'did you mean "example"?', "rn50_conv1"]),
        (Selection(keyword="torch and"), ["-k", "'torch and'", "character 10", "expected a word"]),
        (Selection(threads=-1), ["threads", 'found "-1"', "0 (every core)"]),
        (Selection(backends=("torch/old",)), ["backend", 'found "torch/old"', "letters"]),
        (Selection(budget={"trails": 1}), ["budget", '"trails"', 'did you mean "trials"?', "timeout_s"]),
        (Selection(budget={"trials": 0}), ["budget", "trials is 0", "at least 1"]),
    ],
)
def test_what_is_wrong_is_answered_in_one_line(first: Suite, selection: Selection, words: list[str]) -> None:
    with pytest.raises(SelectionError) as caught:
        narrow(first, selection)
    assert "\n" not in str(caught.value)
    assert [word for word in words if word not in str(caught.value)] == [], str(caught.value)


def test_the_form_of_an_axis_option() -> None:
    assert parse_axis("mode=eager, xla") == ("mode", ("eager", "xla"))
    for text in ("mode", "=x", "mode=", "mode=a,,b"):
        with pytest.raises(SelectionError, match="allowed: axis=value or axis=value,value"):
            parse_axis(text)


def test_defaults_are_those_of_the_contract() -> None:
    default = axes.Axes()
    assert [str(value) for value in default.direction] == ["fprop", "dgrad", "wgrad"]
    assert (default.precision, default.layout, default.mode, default.optimizer, default.threads, default.cache) == (
        ("fp32",), ("NHWC",), ("eager",), ("sgd",), (0,), ("hot",),
    )  # fmt: skip
    assert Budget().trials == 3
