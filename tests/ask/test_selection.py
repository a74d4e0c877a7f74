from dataclasses import replace

import pytest

from harness.ask import axes, planning, suite
from harness.ask.selection import Selection, narrow, parse_axis, parse_set
from harness.ask.suite import Suite
from harness.axes import Device, Direction, Layout, Mode
from harness.errors import SelectionError
from harness.plan import Budget

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
    assert (Budget().trials, Budget().visits, Budget().races) == (4, 0, False)


# What is set in every convolution ------------------------------------------------------------------------------------------


def test_set_scales_every_convolution_and_says_so(first: Suite) -> None:
    narrowed = narrow(first, Selection(set={"n": "2", "spatial": "14x14"}))
    assert {(w.spec.n, w.spec.spatial) for w in narrowed.workloads} == {(2, (14, 14))}
    assert [w.scaled for w in narrowed.workloads][:2] == [
        "n=2 for 1, spatial=14x14 for 28x28", "n=2 for 1, spatial=14x14 for 224x224",
    ]  # fmt: skip
    assert {cell.scaled for cell in planning.cells(narrowed, FOUND)} == {w.scaled for w in narrowed.workloads}


def test_what_is_set_to_what_it_is_was_not_scaled(first: Suite) -> None:
    assert {w.scaled for w in narrow(first, Selection(set={"n": "1"})).workloads} == {""}


def test_set_comes_after_what_the_suite_has_set() -> None:
    narrowed = narrow(suite.load("resnet50"), Selection(set={"n": "1"}))
    assert {w.scaled for w in narrowed.workloads} == {"n=4 for 50, n=1 for 4"}
    assert {w.network for w in narrowed.workloads} == {"ResNet-50"}


def test_set_leaves_matrix_products_alone() -> None:
    ceilings = suite.load("ceilings")
    assert narrow(ceilings, Selection(set={"n": "1"})) == ceilings


def test_padding_may_be_set_to_a_rule(first: Suite) -> None:
    narrowed = narrow(first, Selection(set={"padding": "valid"}))
    assert narrowed.workloads[0].scaled == "padding=0-0x0-0 for 2-2x2-2"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"batch": "1"}, '--set: key: found "batch"'),
        ({"n": "many"}, '--set: n: found "many"; allowed: a whole number'),
        ({"spatial": "28"}, '--set: "example": '),
        ({"spatial": "28xfour"}, "--set: spatial: found"),
        ({"n": "0"}, '--set: "example": n is 0'),
        ({"kernel": "99x99", "padding": "valid"}, '--set: "example": '),
    ],
)
def test_what_cannot_be_set_is_one_line(first: Suite, changes: dict[str, str], told: str) -> None:
    with pytest.raises(SelectionError) as caught:
        narrow(first, Selection(set=changes))
    assert str(caught.value).startswith(told)
    assert "\n" not in str(caught.value)


def test_set_on_the_command_line() -> None:
    assert parse_set("n=1") == ("n", "1")
    for text in ("n", "=1", "n=", ""):
        with pytest.raises(SelectionError, match="--set: found"):
            parse_set(text)
