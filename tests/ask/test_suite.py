import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.ask import axes, planning, shapes, suite
from harness.ask.selection import Selection, narrow
from harness.axes import OPTIONS, Device, Direction, Layout, Mode, Optimizer, Precision
from harness.errors import SelectionError, SuiteError
from harness.plan import Budget
from harness.spec import ConvSpec, CopySpec, GemmSpec

Write = Callable[[str], Path]

HEAD = '[suite]\nname = "mine"\ndescription = "For the tests."\n'
WORKLOAD = """
[[workload]]
name = "small"
n = 2
c = 4
k = 8
spatial = [8, 8]
kernel = [3, 3]
padding = "same"
"""
GEMM = '[[workload]]\nname = "product"\nkind = "gemm"\nm = 3\nn = 4\nk = 5\n'
COPY = '[[workload]]\nname = "move"\nkind = "copy"\nnbytes = 64\n'
ROW = "net,conv,1,4,8,1,8x8,3x3,2x2,1x1,0x0,1x1,4x4,9216,7744,3,somewhere:1"


def table(*rows: str) -> str:
    return "\n".join([",".join(shapes.COLUMNS), *rows, ""])


def test_a_minimal_suite_has_the_defaults(write: Write) -> None:
    path = write(HEAD + WORKLOAD)
    loaded = suite.load("mine")
    assert loaded == suite.load(path) == suite.load("suites/mine.toml")
    assert (loaded.name, loaded.description, loaded.path) == ("mine", "For the tests.", path)
    assert loaded.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert loaded.axes == axes.Axes()
    assert loaded.axes.direction == (Direction.FPROP, Direction.DGRAD, Direction.WGRAD)
    assert loaded.axes.backend is loaded.axes.device is None
    assert loaded.budget == Budget()
    assert not loaded.stated
    spec = ConvSpec(2, 4, 8, (8, 8), (3, 3), (1, 1), (1, 1), ((1, 1), (1, 1)))
    assert loaded.workloads == (suite.Workload("small", spec, 1),)


def test_axes_and_budget_are_typed(write: Write) -> None:
    write(
        HEAD + '[axes]\ndirection = ["train"]\nprecision = ["tf32"]\nlayout = ["NCW", "NDHWC"]\nbackend = ["torch"]\n'
        'mode = ["xla"]\noptimizer = ["adam"]\ndevice = ["gpu", "gpu:1"]\nthreads = [0, 2]\n'
        "[budget]\ntrials = 5\nvisit_s = 3\n" + WORKLOAD
    )
    loaded = suite.load("mine")
    assert loaded.axes == axes.Axes(
        direction=(Direction.TRAIN,),
        precision=(Precision.TF32,),
        layout=(Layout.CHANNELS_FIRST, Layout.CHANNELS_LAST),
        backend=("torch",),
        mode=(Mode.XLA,),
        optimizer=(Optimizer.ADAM,),
        device=(Device("gpu"), Device("gpu", 1)),
        threads=(0, 2),
    )
    assert loaded.stated == frozenset(axes.NAMES) - {"cache", *OPTIONS}
    assert loaded.budget == Budget(trials=5, visit_s=3.0)


@pytest.mark.fault("a workload's name has capitals", "it is accepted, and found by `-k` in any case")
def test_a_name_may_have_capitals_and_is_found_in_any_case_by_a_keyword(write: Write) -> None:
    write(
        HEAD.replace('"mine"', '"Mine"')
        + WORKLOAD.replace('"small"', '"Conv2.A_3x3-B"')
        + '[[exclude]]\nworkload = "Conv2*"\nmode = "xla"\n'
    )
    loaded = suite.load("mine")
    assert (loaded.name, loaded.workloads[0].name) == ("Mine", "Conv2.A_3x3-B")
    chosen = planning.plan(narrow(loaded, Selection(keyword="conv2.a and fprop")), {"torch": (Device("cpu"),)}, 0)
    assert [str(cell) for cell in chosen.cells] == ["Conv2.A_3x3-B/fprop/torch/eager/cpu/fp32/nhwc/hot/t0"]
    with pytest.raises(SelectionError, match=r'found "conv2\*"; did you mean "Conv2.A_3x3-B"\?|allowed: Conv2.A_3x3-B'):
        narrow(loaded, Selection(axes={"workload": ["conv2*"]}))


@pytest.mark.parametrize(
    ("keys", "padding", "out"),
    [
        ('spatial = [7, 8]\nkernel = 3\nstride = 2\npadding = "same"', ((1, 1), (0, 1)), (4, 4)),
        ('spatial = [7, 8]\nkernel = [3, 3]\nstride = [2, 1]\npadding = "valid"', ((0, 0), (0, 0)), (3, 6)),
        ("spatial = [7, 8]\nkernel = [3, 3]\npadding = [[0, 1], [2, 0]]", ((0, 1), (2, 0)), (6, 8)),
        ("spatial = [7, 8]\nkernel = [3, 3]\npadding = 1", ((1, 1), (1, 1)), (7, 8)),
        ("spatial = [7, 8]\nkernel = [3, 3]\npadding = 0", ((0, 0), (0, 0)), (5, 6)),
        ("spatial = [7, 8]\nkernel = [3, 3]\npadding = [1, 1]", ((1, 1), (1, 1)), (7, 8)),
        ("spatial = [7, 8]\nkernel = [3, 3]\npadding = [0, 2]", ((0, 0), (2, 2)), (5, 10)),
        ("spatial = [9]\nkernel = [3]\npadding = [1]", ((1, 1),), (9,)),
        ("spatial = [9]\nkernel = [3]\npadding = 2", ((2, 2),), (11,)),
        ("spatial = [4, 5, 6]\nkernel = 3\npadding = [1, 0, 1]", ((1, 1), (0, 0), (1, 1)), (4, 3, 6)),
        ('spatial = [3, 3]\nkernel = [7, 5]\npadding = "same"', ((3, 3), (2, 2)), (3, 3)),
        ('spatial = [9]\nkernel = [3]\ndilation = 2\npadding = "same"', ((2, 2),), (9,)),
        ('spatial = [4, 5, 6]\nkernel = 1\ndilation = [1, 2, 3]\npadding = "valid"', ((0, 0),) * 3, (4, 5, 6)),
    ],
)
def test_forms_of_sizes_and_padding(write: Write, keys: str, padding: object, out: object) -> None:
    write(HEAD + f'[[workload]]\nname = "w"\nn = 1\nc = 2\nk = 2\ngroups = 2\ncount = 4\n{keys}\n')
    (workload,) = suite.load("mine").workloads
    assert (workload.spec.padding, workload.spec.out_spatial, workload.count) == (padding, out, 4)
    assert workload.spec.groups == 2


@pytest.mark.parametrize(
    ("keys", "text"),
    [
        ("spatial = [7, 7]\nkernel = 4\nstride = 2\npadding = 1", "transposed n1 c4 k2 7x7 f4x4 s2x2 p1x1"),
        ('spatial = [7]\nkernel = 4\nstride = 2\npadding = "valid"\noutput_padding = 1', "transposed n1 c4 k2 7 f4 s2 o1"),
        ('spatial = [7, 7]\nkernel = 3\nstride = 2\npadding = "same"', "transposed n1 c4 k2 7x7 f3x3 s2x2 p0-1x0-1"),
        ('spatial = [7, 5]\nkernel = 2\nstride = [3, 2]\npadding = "same"', "transposed n1 c4 k2 7x5 f2x2 s3x2 o1x0"),
        ("spatial = [7, 7]\nkernel = 3\npadding = 1\ngroups = 2", "transposed n1 c4 k2 7x7 f3x3 p1x1 g2"),
    ],
)
def test_transposed_convolutions(write: Write, keys: str, text: str) -> None:
    write(HEAD + f'[[workload]]\nname = "up"\nn = 1\nc = 4\nk = 2\ntransposed = true\n{keys}\n')
    (workload,) = suite.load("mine").workloads
    assert str(workload.spec) == text
    if "same" in keys:
        sizes = workload.spec.sizes
        assert workload.spec.shapes(4).y[2:] == tuple(
            size * s for size, s in zip(sizes["spatial"], sizes["stride"], strict=True)
        )
    altered = workload.altered({"n": 8})
    assert (str(altered.spec), altered.scaled) == (text.replace("n1", "n8"), "n=8 for 1")


def test_ceilings_are_workloads_too(write: Write) -> None:
    write(HEAD + WORKLOAD.replace("n = 2", 'kind = "conv"\nn = 2') + GEMM + COPY)
    small, product, move = suite.load("mine").workloads
    assert isinstance(small.spec, ConvSpec)
    assert product == suite.Workload("product", GemmSpec(m=3, n=4, k=5))
    assert move == suite.Workload("move", CopySpec(64))


def test_shapes_from_a_table(write: Write) -> None:
    path = write(HEAD + '[[workloads_from]]\ntable = "t.csv"\nwhere = "n == 1"\nset = { n = 8 }\nlimit = 1\n')
    Path("suites/t.csv").write_text(table(ROW, ROW.replace("conv", "other")))
    loaded = suite.load("mine")
    expected = ConvSpec(8, 4, 8, (8, 8), (3, 3), (2, 2), (1, 1), ((1, 0), (1, 0)))
    assert loaded.workloads == (suite.Workload("conv", expected, 3, scaled="n=8 for 1"),)
    assert loaded.sha256 == hashlib.sha256(path.read_bytes() + Path("suites/t.csv").read_bytes()).hexdigest()


def test_set_derives_what_follows_from_it(write: Write) -> None:
    write(HEAD + '[[workloads_from]]\ntable = "t.csv"\nset = { spatial = [16, 16], padding = "valid", stride = 1 }\n')
    Path("suites/t.csv").write_text(table(ROW))
    (workload,) = suite.load("mine").workloads
    assert workload.spec.out_spatial == (14, 14)


SECOND = WORKLOAD.replace('"small"', '"second"')
FROM = '[[workloads_from]]\ntable = "t.csv"\n'

# What is added to the head of a suite, and the words that must stand in the answer.
WRONG = {
    "no toml": ("axes = \n", ["is not TOML", "line 4"]),
    "no workload": ("", ["no workload", "[[workload]]", "[[workloads_from]]"]),
    "unknown table": ("[axis]\n" + WORKLOAD, ["unknown table", '"axis"', 'did you mean "axes"?', "workloads_from"]),
    "table of the wrong type": ("axes = 3\n", ["[suite]", "unknown key", '"axes"', "name, description"]),
    "array instead of table": ("[[axes]]\nmode = []\n" + WORKLOAD, ["axes", "found [{", "a table [axes]"]),
    "table instead of array": ("[workload]\nn = 1\n", ["workload", 'found {"n": 1}', "[[workload]]"]),
    "unknown key": (
        WORKLOAD + SECOND.replace("kernel", "kernl"),
        ['[[workload]] 2 "second"', "unknown key", '"kernl"', 'did you mean "kernel"?', "spatial, kernel, padding"],
    ),
    "missing key": (SECOND.replace("n = 2", ""), ['[[workload]] 1 "second"', "n: is missing", "a whole number"]),
    "no padding": (WORKLOAD.replace('padding = "same"', ""), ["padding: is missing", '"same", "valid"']),
    "text for a number": (WORKLOAD.replace("n = 2", 'n = "2"'), ['"small"', 'n: found "2"', "a whole number"]),
    "truth for a number": (WORKLOAD.replace("n = 2", "n = true"), ["n: found true", "a whole number"]),
    "fraction for a number": (WORKLOAD.replace("n = 2", "n = 2.0"), ["n: found 2.0", "a whole number"]),
    "a number too large": (WORKLOAD.replace("n = 2", "n = 2147483648"), ["n: found 2147483648", "2^31"]),
    "size of the wrong type": (WORKLOAD.replace("[3, 3]", '[3, "x"]'), ['kernel: found [3, "x"]', "one number for all"]),
    "padding misspelt": (
        WORKLOAD.replace('"same"', '"sane"'),
        ['padding: found "sane"', '"same", "valid" or a [low, high] pair'],
    ),
    "padding no pair": (WORKLOAD.replace('"same"', "[[1], [1]]"), ["padding: found [[1], [1]]", "pair"]),
    "unknown kind": (
        WORKLOAD + 'kind = "gem"\n',
        ['[[workload]] 1 "small"', 'kind: found "gem"', 'did you mean "gemm"?', "conv, gemm, copy"],
    ),
    "kind that is no text": (WORKLOAD + "kind = [1]\n", ['"small"', "kind: found [1]", "conv, gemm, copy"]),
    "key of another kind": (
        WORKLOAD + GEMM + "stride = 2\n",
        ['[[workload]] 2 "product"', 'unknown key "stride"', "allowed: name, kind, m, n, k"],
    ),
    "layers of a gemm": (GEMM + "count = 2\n", ['"product"', 'unknown key "count"', "name, kind, m, n, k"]),
    "gemm without a size": (GEMM.replace("k = 5", ""), ['[[workload]] 1 "product"', "k: is missing", "a whole number"]),
    "gemm of nothing": (GEMM.replace("k = 5", "k = 0"), ['"product"', "k is 0", "at least 1"]),
    "gemm of text": (GEMM.replace("k = 5", 'k = "5"'), ['"product"', 'k: found "5"', "below 2^31"]),
    "copy by another name": (COPY.replace("nbytes", "bytes"), ['"move"', 'unknown key "bytes"', 'did you mean "nbytes"?']),
    "copy of a fraction": (COPY.replace("64", "64.0"), ['"move"', "nbytes: found 64.0", "a multiple of 16"]),
    "copy of odd bytes": (COPY.replace("64", "65"), ['[[workload]] 1 "move"', "nbytes is 65", "multiple of 16"]),
    "copy without end": (COPY.replace("64", "1099511627792"), ['"move"', "nbytes: found 1099511627792", "2^40"]),
    "no direction to choose": (
        '[axes]\ndirection = ["none"]\n' + GEMM,
        ["[axes]", 'direction: found "none"', "allowed: fprop, dgrad, wgrad, bprop, train"],
    ),
    "no direction to exclude": (GEMM + '[[exclude]]\ndirection = "none"\n', ["[[exclude]] 1", 'direction: found "none"']),
    "bad name": (
        WORKLOAD.replace('"small"', '"Small one"'),
        ['name: found "Small one"', "letters, digits and . _ -"],
    ),
    "empty name": (WORKLOAD.replace('"small"', '""'), ['name: found ""', "up to 100 letters"]),
    "name in another case": (
        WORKLOAD + WORKLOAD.replace('"small"', '"Small"'),
        ['[[workload]] 2 "Small"', 'found "Small" beside "small", which differs by case alone', "once"],
    ),
    "low and high without brackets": (
        WORKLOAD.replace("[8, 8]", "[8]").replace("[3, 3]", "[3]").replace('"same"', "[1, 1]"),
        ["padding: found [1, 1]", "one number for each of the 1 dimensions of spatial", "or [[1, 1]] for low and high"],
    ),
    "padding of another dimension": (
        WORKLOAD.replace('"same"', "[1, 1, 1]"),
        ["padding: found [1, 1, 1]", "each of the 2 dimensions of spatial"],
    ),
    "padding of both forms": (WORKLOAD.replace('"same"', "[1, [1, 1]]"), ["padding: found [1, [1, 1]]", "a number below 2^31"]),
    "duplicate name": (WORKLOAD + WORKLOAD, ['[[workload]] 2 "small"', "twice", 'first in [[workload]] 1 "small"', "once"]),
    "output padding of a plain convolution": (
        WORKLOAD + "output_padding = 1\n",
        ['"small"', "output_padding: found [1, 1] without transposed", "transposed = true"],
    ),
    "output padding beside a rule": (
        WORKLOAD + "transposed = true\nstride = 2\noutput_padding = 1\n",
        ['"small"', 'output_padding: found [1, 1] beside padding "same"'],
    ),
    "transposed by a word": (WORKLOAD + 'transposed = "yes"\n', ['"small"', 'transposed: found "yes"', "true or false"]),
    "no output": (
        WORKLOAD.replace('"same"', '"valid"').replace("[3, 3]", "[9, 9]"),
        ['"small"', "kernel [9, 9]", "no output is left"],
    ),
    "groups that do not divide": (WORKLOAD + "groups = 3\n", ['"small"', "c is 4", "3 groups"]),
    "other dimensions": (WORKLOAD.replace("[3, 3]", "[3]"), ['"small"', "kernel has 1 entries, spatial has 2"]),
    "no dimension": (WORKLOAD.replace("[8, 8]", "[]"), ['"small"', "spatial has 0 dimensions", "1, 2 or 3"]),
    "kernel of nothing": (WORKLOAD.replace("[3, 3]", "0"), ['"small"', "kernel is [0, 0]", "at least 1"]),
    "count of nothing": (WORKLOAD + "count = 0\n", ["count: found 0", "from 1"]),
    "unknown direction": (
        '[axes]\ndirection = ["fprop", "wgard"]\n' + WORKLOAD,
        ["[axes]", "direction", 'found "wgard"', 'did you mean "wgrad"?', "fprop, dgrad, wgrad, bprop, train"],
    ),
    "unknown mode": ('[axes]\nmode = ["jit"]\n' + WORKLOAD, ["[axes]", 'mode: found "jit"', "allowed: eager, compiled, xla"]),
    "unknown precision": ('[axes]\nprecision = ["f32"]\n' + WORKLOAD, ["precision", 'found "f32"', 'did you mean "fp32"?']),
    "unknown layout": ('[axes]\nlayout = ["CHWN"]\n' + WORKLOAD, ["layout", 'found "CHWN"', "NCHW, NHWC, NCW"]),
    "layout with two letters in each other's place": ('[axes]\nlayout = ["NCWH"]\n' + WORKLOAD, ['did you mean "NCHW"?']),
    "unknown device": ('[axes]\ndevice = ["tpu"]\n' + WORKLOAD, ["device", 'found "tpu"', "cpu, gpu"]),
    "unknown optimizer": ('[axes]\noptimizer = ["adamw"]\n' + WORKLOAD, ["optimizer", 'did you mean "adam"?', "sgd, adam"]),
    "unknown cache": ('[axes]\ncache = ["warm"]\n' + WORKLOAD, ["cache", 'found "warm"', "hot, cold"]),
    "bad backend": ('[axes]\nbackend = ["a/b"]\n' + WORKLOAD, ["backend", 'found "a/b"', "letters, digits"]),
    "negative threads": ("[axes]\nthreads = [-1]\n" + WORKLOAD, ["threads", "found -1", "0 (every core)"]),
    "unknown axis": ('[axes]\ndirections = ["fprop"]\n' + WORKLOAD, ["[axes]", '"directions"', 'did you mean "direction"?']),
    "empty axis": ("[axes]\nmode = []\n" + WORKLOAD, ["[axes]", "mode: found []", "at least one"]),
    "axis without a list": ('[axes]\nmode = "eager"\n' + WORKLOAD, ['mode: found "eager"', "a list of at least one text"]),
    "value twice": ('[axes]\ndevice = ["gpu", "gpu:0"]\n' + WORKLOAD, ["device", 'found "gpu:0" twice', "each value once"]),
    "layout twice": ('[axes]\nlayout = ["NCHW", "NCW"]\n' + WORKLOAD, ["layout", 'found "NCW" twice (as NCHW)']),
    "unknown budget": ("[budget]\ntrails = 3\n" + WORKLOAD, ["[budget]", '"trails"', 'did you mean "trials"?', "timeout_s"]),
    "budget of the wrong type": ("[budget]\ntrials = 1.5\n" + WORKLOAD, ["[budget]", "trials: found 1.5", "whole number"]),
    "budget of nothing": ("[budget]\ntrials = 0\n" + WORKLOAD, ["[budget]", "trials is 0", "at least 1"]),
    "budget below nothing": ("[budget]\nwarmup_cpu_s = -1.0\n" + WORKLOAD, ["[budget]", "warmup_cpu_s: found -1.0", "from 0"]),
    "budget without end": ("[budget]\nvisit_s = inf\n" + WORKLOAD, ["[budget]", "visit_s: found Infinity", "10^9"]),
    "budget that is no number": ("[budget]\nvisit_s = nan\n" + WORKLOAD, ["[budget]", "visit_s: found NaN", "10^9"]),
    "exclude of nothing": (WORKLOAD + "[[exclude]]\n", ["[[exclude]] 1", "found no key", "workload, direction"]),
    "exclude of an unknown axis": (
        WORKLOAD + '[[exclude]]\nlayuot = "NCHW"\n',
        ["[[exclude]] 1", '"layuot"', 'did you mean "layout"?', "workload"],
    ),
    "exclude of an unknown value": (
        WORKLOAD + '[[exclude]]\nmode = "xla"\n[[exclude]]\nmode = ["xla", "eagr"]\n',
        ["[[exclude]] 2", "mode", 'found "eagr"', 'did you mean "eager"?', "compiled"],
    ),
    "exclude of an unknown workload": (
        WORKLOAD + SECOND + '[[exclude]]\nworkload = "smal"\n',
        ["[[exclude]] 1", "workload", 'found "smal"', 'did you mean "small"?', "small, second"],
    ),
    "exclude of a pattern without match": (
        WORKLOAD + '[[exclude]]\nworkload = "rn50_*"\n',
        ['found "rn50_*"', "allowed: small"],
    ),
    "exclude of an unknown backend": (
        '[axes]\nbackend = ["torch", "jax"]\n' + WORKLOAD + '[[exclude]]\nbackend = "troch"\n',
        ["[[exclude]] 1", "backend", 'found "troch"', 'did you mean "torch"?', "torch, jax"],
    ),
    "exclude of an empty list": (WORKLOAD + "[[exclude]]\nmode = []\n", ["[[exclude]] 1", "mode: found []", "a list of texts"]),
    "no such table": (
        '[[workloads_from]]\ntable = "u.csv"\n',
        ['[[workloads_from]] 1 "u.csv"', "suites/u.csv", "cannot be read", "No such file"],
    ),
    "unknown column": (
        FROM + 'where = "m == 1"\n',
        ['[[workloads_from]] 1 "t.csv"', "where", "character 1", "expected a column", "groups"],
    ),
    "nothing left": (FROM + 'where = "n > 99"\n', ["where", 'found "n > 99"', "none of 1 rows"]),
    "limit of nothing": (FROM + "limit = 0\n", ["limit: found 0", "from 1"]),
    "unknown set": (FROM + "set = { m = 1 }\n", ['"t.csv"', "set", 'unknown key "m"', "n, c, k, spatial"]),
    "set of the wrong type": (FROM + 'set = { n = "8" }\n', ['"t.csv": set: n: found "8"', "a whole number"]),
    "set that is no table": (FROM + "set = 8\n", ['"t.csv": set: found 8', "{ n = 8 }"]),
    "set that is impossible": (FROM + "set = { spatial = [1, 1] }\n", ['"t.csv"', '"conv"', "no output is left"]),
    "duplicate name over tables": (
        FROM + FROM,
        ['[[workloads_from]] 2 "t.csv"', 'found "conv" twice', 'in [[workloads_from]] 1 "t.csv"'],
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_answered_in_one_line(write: Write, case: str) -> None:
    text, words = WRONG[case]
    write(HEAD + text)
    Path("suites/t.csv").write_text(table(ROW))
    with pytest.raises(SuiteError) as caught:
        suite.load("mine")
    message = str(caught.value)
    assert message.startswith("suites/mine.toml: ")
    assert "\n" not in message
    assert [word for word in words if word not in message] == [], message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (WORKLOAD, ["suite: is missing", "[suite] with a name"]),
        ('[suite]\nnmae = "mine"\n' + WORKLOAD, ["[suite]", '"nmae"', 'did you mean "name"?']),
        ('[suite]\ndescription = "x"\n' + WORKLOAD, ["[suite]", "name: is missing", "a text"]),
        ('[suite]\nname = "My suite"\n' + WORKLOAD, ["[suite]", 'name: found "My suite"', "up to 100 letters"]),
        ('suite = "mine"\n', ["suite: found", "[suite] with a name"]),
        ("workload = [1]\n" + HEAD, ["workload: found [1]", "[[workload]]"]),
        ("x = " + "[" * 5000, ["is not TOML"]),
        ("x = " + "9" * 5000, ["is not TOML"]),
    ],
)
def test_a_head_that_is_wrong(write: Write, text: str, words: list[str]) -> None:
    write(text)
    with pytest.raises(SuiteError) as caught:
        suite.load("mine")
    assert [word for word in ["suites/mine.toml: ", *words] if word not in str(caught.value)] == [], str(caught.value)


def test_a_row_that_disagrees_with_its_table_names_suite_file_and_row(write: Write) -> None:
    write(HEAD + '[[workloads_from]]\ntable = "t.csv"\n')
    Path("suites/t.csv").write_text(table(ROW, ROW.replace("conv", "other").replace("7744", "7745")))
    with pytest.raises(SuiteError) as caught:
        suite.load("mine")
    assert str(caught.value) == (
        'suites/mine.toml: [[workloads_from]] 1 "t.csv": suites/t.csv: row 2 "other": '
        "flop_exact: found 7745; computed from the row: 7744"
    )


def test_names_that_no_suite_bears(write: Write) -> None:
    write(HEAD + WORKLOAD)
    with pytest.raises(SuiteError, match=r'no suite "mien"; did you mean "mine"\? known: .*mine.*resnet50') as caught:
        suite.load("mien")
    assert "\n" not in str(caught.value)
    with pytest.raises(SuiteError, match=r"no suite \"zzzzzz\"; known: .*; or give a path to a .toml file"):
        suite.load("zzzzzz")


@pytest.mark.parametrize("name", ["nowhere/x.toml", "x.toml", Path("x"), "suites/", "a/\0b"])
def test_files_that_cannot_be_read(write: Write, name: str | Path) -> None:
    write(HEAD)
    with pytest.raises(SuiteError, match="cannot be read: "):
        suite.load(name)


def test_bytes_that_are_no_text(write: Write) -> None:
    write(HEAD).write_bytes(b"\xff\xfe")
    with pytest.raises(SuiteError, match=r"suites/mine.toml: .*utf-8"):
        suite.load("mine")


def test_the_working_directory_comes_first(write: Write) -> None:
    shipped = suite.available()
    assert {"first", "smoke", "resnet50", "ceilings"} <= shipped.keys()
    assert list(shipped) == sorted(shipped)
    write(HEAD + WORKLOAD)
    Path("suites/smoke.toml").write_text(HEAD + WORKLOAD)
    found = suite.available()
    assert found["mine"] == Path("suites/mine.toml")
    assert found["smoke"] == Path("suites/smoke.toml")
    assert found["first"] == shipped["first"]
    assert suite.load("smoke").name == "mine"


FOUND = {"torch": (Device("cpu"), Device("gpu", 0), Device("gpu", 1)), "jax": (Device("cpu"),), "torch@old": (Device("cpu"),)}


@pytest.mark.parametrize(
    ("exclude", "left"),
    [
        ('workload = "small"', lambda cell: cell.workload != "small"),
        ('workload = "s*"', lambda cell: False),
        ('workload = "s*d"\nmode = "compiled"', lambda cell: cell.workload == "small" or cell.mode == "eager"),
        ('direction = ["dgrad", "wgrad"]', lambda cell: cell.direction == "fprop"),
        ('device = "gpu"', lambda cell: cell.device.kind == "cpu"),
        ('device = "gpu:1"', lambda cell: str(cell.device) != "gpu:1"),
        ('backend = "torch"', lambda cell: cell.backend == "jax"),
        ('backend = "torch@old"', lambda cell: cell.backend != "torch@old"),
        ('layout = "NCW"\nthreads = 0', lambda cell: cell.layout != "NCHW" or cell.threads != 0),
        ('optimizer = "sgd"', lambda cell: True),
    ],
)
def test_exclude(write: Write, exclude: str, left: object) -> None:
    write(HEAD + '[axes]\nmode = ["eager", "compiled"]\nlayout = ["NCHW", "NHWC"]\nthreads = [0, 1]\n' + WORKLOAD + SECOND)
    every = planning.cells(suite.load("mine"), FOUND)
    write(Path("suites/mine.toml").read_text() + "[[exclude]]\n" + exclude + "\n")
    loaded = suite.load("mine")
    kept = [cell for cell in every if not any(rule.covers(cell) for rule in loaded.excludes)]
    assert kept == [cell for cell in every if left(cell)]
    if kept:
        assert list(planning.cells(loaded, FOUND)) == kept


TOML_VALUES = st.one_of(
    st.sampled_from(['""', '"same"', '"x"', "true", "1979-05-27", "inf", "nan", "-1", "0", "3", "1.5", "[]", "[[]]", "{}"]),
    st.sampled_from(
        ["[1, 2]", "[[1, 1], [1, 1]]", '["eager"]', '[{ name = "x" }]', "[3, [4]]", "{ n = 1 }", "99999999999999999999"]
    ),
)
KEYS = st.sampled_from(
    [
        "name",
        "n",
        "k",
        "kernel",
        "padding",
        "spatial",
        "mode",
        "threads",
        "device",
        "trials",
        "set",
        "table",
        "where",
        "limit",
        "x",
    ]
)
TABLES = st.sampled_from(
    ["[axes]", "[budget]", "[[workload]]", "[[workloads_from]]", "[[exclude]]", "[[axes]]", "[workload]", "[y]", "[axes.mode]"]
)


def answer(name: str) -> str:
    """What is said about a suite; nothing about one that loads."""
    try:
        assert suite.load(name).workloads
    except SuiteError as error:
        return str(error)
    return ""


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.tuples(TABLES, KEYS, TOML_VALUES), max_size=4))
def test_any_suite_is_loaded_or_answered_in_one_line(write: Write, lines: list[tuple[str, str, str]]) -> None:
    Path("suites/mine.toml").write_text(
        HEAD + WORKLOAD + "".join(f"{table}\n{key} = {value}\n" for table, key, value in lines), encoding="utf-8"
    )
    assert "\n" not in answer("suites/mine.toml")


def test_passes_that_not_all_layers_have(write: Write) -> None:
    more = 'count = 3\ncounts = { dgrad = 2, wgrad = 0 }\nnetwork = "net"\n'
    write(HEAD + '[axes]\ndirection = ["fprop", "dgrad", "wgrad", "train"]\n' + WORKLOAD + more)
    (workload,) = suite.load("mine").workloads
    assert (workload.count, workload.network) == (3, "net")
    cells = planning.cells(suite.load("mine"), {"torch": (Device("cpu"),)})
    assert {str(cell.direction): cell.count for cell in cells} == {"fprop": 3, "dgrad": 2, "train": 3}
    assert {cell.network for cell in cells} == {"net"}
    scaled = narrow(suite.load("mine"), Selection(set={"n": "1"}))
    assert scaled.workloads[0].counts == workload.counts


def test_passes_of_a_table(write: Write) -> None:
    write(HEAD + FROM)
    Path("suites/t.csv").write_text(f"{table(ROW).splitlines()[0]},count_dgrad\n{ROW},0\n{ROW.replace('conv', 'more')},\n")
    cells = planning.cells(suite.load("mine"), {"torch": (Device("cpu"),)})
    assert [(cell.workload, str(cell.direction)) for cell in cells] == [
        ("conv", "fprop"), ("conv", "wgrad"), ("more", "fprop"), ("more", "dgrad"), ("more", "wgrad"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("counts = { dgrad = -1 }", "counts: dgrad: found -1; allowed: a whole number from 0 to 10^9"),
        ("counts = { train = 1 }", 'counts: unknown key "train"; allowed: fprop, dgrad, wgrad'),
        ("counts = { dgrad = true }", "counts: dgrad: found true"),
        ("counts = 3", "counts: found 3; allowed: a table of passes"),
        ("network = 3", "network: found 3; allowed: a text"),
    ],
)
def test_counts_that_are_wrong(write: Write, key: str, words: str) -> None:
    write(HEAD + WORKLOAD + key + "\n")
    with pytest.raises(SuiteError) as caught:
        suite.load("mine")
    assert f'[[workload]] 1 "small": {words}' in str(caught.value)


def test_what_no_suite_says_stands_in_no_cell(write: Write) -> None:
    write(HEAD + WORKLOAD)
    before = planning.plan(suite.load("mine"), {"torch": (Device("cpu"),)}, 0)
    write(HEAD + WORKLOAD + 'counts = { dgrad = 1 }\nnetwork = ""\n')
    assert planning.plan(suite.load("mine"), {"torch": (Device("cpu"),)}, 0) == before
