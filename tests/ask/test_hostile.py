"""Suites, tables and options of somebody who wishes us ill: a SuiteError or a SelectionError of one line, after little work."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from harness import flops
from harness.ask import axes, expression, planning, shapes, suite
from harness.ask.selection import Selection, narrow, parse_axis, parse_set
from harness.axes import Device
from harness.errors import SelectionError, SuiteError, UserError
from harness.spec import ConvSpec

FOUND = {"numpy": (Device("cpu"),), "torch": (Device("cpu"), Device("gpu", 0))}
CALLS = 600_000  # what is refused "at once" may take: a suite of a hundred cells takes some 20,000

HEAD = '[suite]\nname = "mine"\n'
ROW = "net,conv,1,4,8,1,8x8,3x3,2x2,1x1,0x0,1x1,4x4,9216,7744,3,somewhere:1"
KEYS = {
    "name": '"small"', "n": "2", "c": "4", "k": "8", "spatial": "[8, 8]", "kernel": "[3, 3]", "padding": '"same"',
    "stride": "1", "dilation": "1", "groups": "1", "count": "1",
}  # fmt: skip
LINES = [
    "[suite]", 'name = "mine"', 'description = "x"', "[axes]", 'direction = ["fprop", "train"]', 'mode = ["eager"]',
    'backend = ["torch"]', "threads = [0, 1]", 'optimizer = ["sgd"]', 'device = ["cpu"]',
    "[budget]", "trials = 2", "visit_s = 3.0",
    "[[workload]]", *(f"{key} = {value}" for key, value in KEYS.items()),
    "[[workload]]", 'name = "p"', 'kind = "gemm"', "m = 3", "n = 4", "k = 5", "[[workload]]", 'name = "c"', 'kind = "copy"',
    "nbytes = 64", "[[workloads_from]]", 'table = "shapes.csv"', 'where = "n <= 16"', "set = { n = 1 }", "limit = 10",
    "[[exclude]]", 'workload = "small*"', 'mode = "xla"',
]  # fmt: skip


def workload(**keys: str) -> str:
    """A suite of one convolution, with these keys as TOML."""
    return HEAD + "[[workload]]\n" + "".join(f"{key} = {value}\n" for key, value in {**KEYS, **keys}.items())


def table(*rows: str) -> str:
    return "\n".join([",".join(shapes.COLUMNS), *rows, ""])


@contextlib.contextmanager
def little_work() -> Iterator[None]:
    """Fails where more than CALLS functions are called."""
    left = CALLS

    def count(*_: object) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            sys.setprofile(None)
            raise AssertionError(f"more than {CALLS} calls")

    before = sys.getprofile()
    sys.setprofile(count)
    try:
        yield
    finally:
        sys.setprofile(before)


def ask(path: Path, selection: Selection | None = None) -> planning.Plan | None:
    """The plan of a suite; None where it is refused in one line."""
    try:
        with little_work(), mock.patch.object(planning, "MOST_STEPS", 2000):
            asked = narrow(suite.load(path), selection or Selection())
            planning.refuse_too_many(asked, {})
            plan = planning.plan(asked, FOUND, 0)
            planning.estimate(plan, 2)
            for cell in plan.cells:
                flops.exact(cell.spec)
                flops.least_bytes(cell)
            return plan
    except UserError as error:
        said = str(error)
    assert len(said.splitlines()) == 1
    assert len(said) < 4000
    return None


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile")
    (folder / "shapes.csv").write_text(table(ROW))
    return folder


def refused(folder: Path, text: str | bytes, selection: Selection | None = None) -> str:
    """What is said of a suite."""
    path = folder / "refused.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with little_work(), pytest.raises(UserError) as caught:
        planning.plan(narrow(suite.load(path), selection or Selection()), FOUND, 0)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


# Counted before it is made ------------------------------------------------------------------------------------------------


THREADS = f"[axes]\nthreads = {list(range(1000))}\n"


@pytest.mark.fault("a suite asks for 10^9 cells or trials", "it is counted and refused at once")
@pytest.mark.parametrize(
    ("text", "selection", "words"),
    [
        (workload() + "[budget]\ntrials = 1_000_000_000\n", {}, "x 1000000000 trials; allowed: 100000 in all"),
        (workload(), {"budget": {"trials": 10**9}}, "x 1000000000 trials; allowed: 100000 in all"),
        (workload(), {"budget": {"trials": 10**12}}, "trials: found 1000000000000; allowed: a whole number from 0 to 10^9"),
        (workload() + THREADS + 'layout = ["NCHW", "NHWC"]\nprecision = ["fp64", "fp32", "bf16"]\n', {}, "allowed: 100000"),
        (workload() + f"[axes]\nthreads = {list(range(1001))}\n", {}, "at most 1000"),
        (workload() + f"[axes]\nbackend = {[f'b{i}' for i in range(1001)]}\n".replace("'", '"'), {}, "at most 1000"),
        (workload(), {"axes": {"threads": [str(i) for i in range(2000)]}}, "found 2000 values; allowed: 1000"),
        (workload(), {"axes": {"workload": ["small"] * 2000}}, "found 2000 patterns; allowed: 1000"),
        (workload() + "[[exclude]]\nmode = 'xla'\n" * 1001, {}, "found 1001 values in all of them; allowed: 1000"),
        (HEAD + '[[workloads_from]]\ntable = "many.csv"\n' * 5, {}, "is row 1250 that this suite looks at; allowed: 1000"),
        (HEAD + '[[workloads_from]]\ntable = "many.csv"\n', {}, 'name: found "conv" twice'),
        ("#" * 2**18 + "\n", {}, "has more than the 256 KiB that are allowed"),
        (HEAD + "a." * 2000 + "a = 1\n", {}, "more than 200 dots"),
    ],
)  # fmt: skip
def test_what_is_too_much_is_counted_and_refused(
    place: Path, monkeypatch: pytest.MonkeyPatch, text: str, selection: dict, words: str
) -> None:
    monkeypatch.setattr(suite, "MOST_ROWS", 1000)
    if "many.csv" in text and not (place / "many.csv").exists():
        (place / "many.csv").write_text(table(*[ROW] * 250))
    assert words in refused(place, text, Selection(**selection))


@pytest.mark.fault("a suite of ceilings is too large", "it is counted and refused")
def test_ceilings_are_counted_too(place: Path) -> None:
    (place / "small.toml").write_text(workload(name='"other"') + "[axes]\nthreads = [0, 1, 2, 3]\n")
    (place / "beside.toml").write_text(
        HEAD + "".join(f'[[workload]]\nname = "g{i}"\nkind = "copy"\nnbytes = 64\n' for i in range(4000))
    )
    beside = suite.load(place / "beside.toml")
    wide = suite.load(place / "small.toml")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planning, "MOST_STEPS", 5000)
        with pytest.raises(SelectionError, match="more than 5000 ceilings"):
            planning.plan(wide, {"numpy": (Device("cpu"),), "torch": (Device("cpu"),)}, 0, beside)


def test_a_large_suite_within_the_bound_is_planned(place: Path) -> None:
    (place / "large.toml").write_text(workload() + f"[axes]\nthreads = {list(range(300))}\n")
    plan = planning.plan(suite.load(place / "large.toml"), {"torch": (Device("cpu"),)}, 0)
    assert len(plan) == 300 * 3 * 4


# Files --------------------------------------------------------------------------------------------------------------------


@pytest.mark.fault(
    "a suite names /dev/zero, an absolute path, `..`, a link or a pipe as its table",
    "it is refused, and no line of a foreign file is told",
)
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("/dev/zero", "allowed: a path below the suite's folder, without .."),
        ("/etc/passwd", "allowed: a path below the suite's folder, without .."),
        ("../outside.csv", "allowed: a path below the suite's folder, without .."),
        ("shapes/../../outside.csv", "without .."),
        ("link.csv", "leads out of the suite's folder"),
        ("zero.csv", "leads out of the suite's folder"),
        ("folder/secret.csv", "leads out of the suite's folder"),
        ("pipe.csv", "a pipe or a device; allowed: a file"),
        ("shapes", "cannot be read: Is a directory"),
        ("huge.csv", "has more than the 1.00 MiB that are allowed"),
        ("words.csv", "is no table of shapes"),
        ("absent.csv", "cannot be read: No such file"),
        ("a\\u0000b", "null byte"),
    ],
)
def test_a_table_lies_below_its_suite_and_nothing_of_any_other_file_is_told(tmp_path: Path, name: str, words: str) -> None:
    inside = tmp_path / "suites"
    (inside / "shapes").mkdir(parents=True)
    for outside in (tmp_path / "outside.csv", tmp_path / "secret.csv", inside / "words.csv"):
        outside.write_text("root:SECRET:0:0\n" + ROW + "\n")
    (inside / "link.csv").symlink_to(tmp_path / "outside.csv")
    (inside / "zero.csv").symlink_to("/dev/zero")
    (inside / "folder").symlink_to(tmp_path)
    os.mkfifo(inside / "pipe.csv")
    with (inside / "huge.csv").open("wb") as file:
        file.truncate(2**30)
    said = refused(inside, HEAD + f'[[workloads_from]]\ntable = "{name}"\n')
    assert words in said
    assert "SECRET" not in said
    assert "somewhere" not in said


def test_the_tables_that_come_with_the_package_are_found_from_any_suite(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(HEAD + '[[workloads_from]]\ntable = "shapes/onednn_alexnet.csv"\n')
    assert suite.load(path).workloads


@pytest.mark.fault("a suite is a pipe, a device, a folder or huge", "it is refused at once")
def test_a_suite_is_a_regular_file_of_a_bounded_size(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.toml")
    (tmp_path / "folder.toml").mkdir()
    (tmp_path / "zero.toml").symlink_to("/dev/zero")
    with (tmp_path / "huge.toml").open("wb") as file:
        file.truncate(2**33)
    for name, words in (
        ("pipe", "a pipe"),
        ("folder", "Is a directory"),
        ("zero", "a device"),
        ("huge", "has more than the 256 KiB"),
    ):
        with pytest.raises(SuiteError, match=words):
            suite.load(tmp_path / f"{name}.toml")


# Sizes --------------------------------------------------------------------------------------------------------------------


NEAR = str(2**31 - 1)


@pytest.mark.fault("a size is near 2^31, no number, or no integer", "the message names the bound")
@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"n": str(2**31)}, "n: found 2147483648; allowed: a whole number below 2^31"),
        ({"spatial": f"[{2**31}, 1]"}, "below 2^31"),
        ({"dilation": str(2**31)}, "below 2^31"),
        ({"padding": str(2**31)}, "below 2^31"),
        ({"n": NEAR, "c": NEAR, "k": NEAR}, "elements (padded); allowed: 2^40"),
        ({"spatial": f"[{NEAR}, {NEAR}]"}, "elements (padded); allowed: 2^40"),
        ({"spatial": f"[{NEAR}]", "kernel": f"[{NEAR}]"}, "FLOP; allowed: 10^18"),
        ({"padding": f"[{NEAR}, {NEAR}]", "stride": NEAR}, "elements (padded); allowed: 2^40"),
        ({"n": f"{10**30}"}, "below 2^31"),
        ({"n": "0x" + "f" * 5000}, "n: found a int that is too large to show; allowed: a whole number below 2^31"),
        ({"n": "true"}, "n: found true; allowed: a whole number"),
        ({"n": "nan"}, "n: found NaN; allowed: a whole number"),
        ({"count": "-1"}, "count: found -1; allowed: a whole number from 1"),
        ({"groups": "0"}, "groups is 0; at least 1 is needed"),
        ({"padding": "-1"}, "no entry may be negative"),
        ({"padding": "true"}, "padding: found true"),
        ({"padding": "[[1, 1], 1]"}, "padding: found [[1, 1], 1]"),
        ({"padding": "[]"}, "padding has 0 entries"),
    ],
)
def test_a_size_that_cannot_be_names_the_bound(place: Path, keys: dict[str, str], words: str) -> None:
    assert words in refused(place, workload(**keys))


@pytest.mark.fault("a budget is infinite, negative or a boolean", "it is refused")
@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "-1", "-0.5", "1e300", "10_000_000_000", "true", '"3"', "[3]"])
@pytest.mark.parametrize("key", ["trials", "visits", "visit_s", "timeout_s"])
def test_a_budget_is_of_finite_numbers(place: Path, key: str, value: str) -> None:
    assert f"{key}: found " in refused(place, workload() + f"[budget]\n{key} = {value}\n")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1, 10**10, True, "3", None])
def test_a_budget_from_elsewhere_is_too(place: Path, value: object) -> None:
    assert "timeout_s: found " in refused(place, workload(), Selection(budget={"timeout_s": value}))  # type: ignore[dict-item]


@pytest.mark.fault("a matrix product or a copy is too large", "the message names the bound")
def test_large_matrix_products_and_copies_name_the_bound(place: Path) -> None:
    assert "allowed: 2^40" in refused(place, HEAD + f'[[workload]]\nname = "g"\nkind = "gemm"\nm = {NEAR}\nn = {NEAR}\nk = 1\n')
    assert "up to 2^40" in refused(place, HEAD + f'[[workload]]\nname = "c"\nkind = "copy"\nnbytes = {2**41}\n')
    assert "FLOP" in refused(place, HEAD + '[[workload]]\nname = "g"\nkind = "gemm"\nm = 1048576\nn = 1048576\nk = 1048576\n')


def test_what_is_set_on_the_command_line_is_bounded_as_well(place: Path) -> None:
    assert "allowed: 2^40" in refused(place, workload(), Selection(set={"n": NEAR, "c": NEAR}))


SIZE = st.integers(1, 9)


@given(SIZE, SIZE, SIZE, SIZE, SIZE, st.integers(0, 9), st.integers(0, 9))
def test_taps_are_counted_without_going_through_them(size: int, r: int, s: int, d: int, n: int, lo: int, hi: int) -> None:
    out = (size + lo + hi - d * (r - 1) - 1) // s + 1
    if out < 1:
        return
    spec = ConvSpec(n, 1, 1, (size,), (r,), (s,), (d,), ((lo, hi),))
    assert flops.exact(spec) == 2 * n * sum(0 <= p * s + tap * d - lo < size for p in range(out) for tap in range(r))


@pytest.mark.fault("a convolution has the largest sizes allowed", "its exact FLOP are counted at once")
def test_taps_of_the_largest_sizes_are_counted_at_once() -> None:
    most = 2**31 - 1
    with little_work():
        assert flops.exact(ConvSpec(1, 1, 1, (most,), (most,), (1,), (1,), ((most // 2, most // 2),))) > 2**61


# Text ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.fault("a suite has 10,000 brackets or broken text", "one line says so")
@pytest.mark.parametrize(
    "text",
    [
        "a = " + "[" * 10_000, "a = " + "{a=" * 5_000, workload(spatial="[" * 10_000 + "]" * 10_000),
        workload(spatial="[" * 200 + "]" * 200), workload(name='"\\u001b[31m"'), b"\xff\xfe", b"\x00", "[" * 10_000,
        HEAD + "\n".join(["a." * 190 + f"b{i} = 1" for i in range(100)]), workload(name='"' + "a" * 101 + '"'),
        workload() + f"[{'x' * 100_000}]\n", workload(padding='"' + "s" * 100_000 + '"'), workload(**{"x" * 50_000: "1"}),
        workload() + f"[axes]\nmode = ['{'e' * 100_000}']\n", workload(n="1979-05-27T07:32:00Z"), "suite = 1",
        "workload = [1]",
        HEAD + "workload = [[]]", HEAD + "[workload]\nname = 1", HEAD + "exclude = 1", workload() + "[[exclude]]\n",
    ],
    ids=range(21),
)  # fmt: skip
def test_text_that_is_no_suite(place: Path, text: str | bytes) -> None:
    said = refused(place, text)
    assert len(said) < 3000
    assert said.isprintable()


@pytest.mark.fault("`-k` is nested too deeply", "one line says so")
@pytest.mark.parametrize("text", ["(" * 20_000, "not " * 20_000 + "a", "(" * 40 + "not " * 40 + "a" + ")" * 40])
def test_an_expression_nested_too_deeply(text: str) -> None:
    with pytest.raises(ValueError, match=r"nested too deeply; allowed: 50"):
        expression.keyword(text)


def test_long_expressions_are_answered() -> None:
    words = " or ".join(f"word{i}" for i in range(10_000))
    assert expression.keyword(words)("a/word77")
    assert not expression.keyword("not " * 31 + "a")("a")
    assert expression.keyword("(" * 49 + "a" + ")" * 49)("a")


# Anything -----------------------------------------------------------------------------------------------------------------


ODD = st.one_of(
    st.sampled_from([
        "0", "-1", "1", "3", NEAR, str(2**31), str(2**63), str(10**30), "0x" + "f" * 5000, "nan", "inf", "-0.0", "1e308",
        "true", "[]", "[[]]", "[1]", "[1, 1]", "[[1, 1]]", "[[1, 1], [1, 1]]", "[1, 1, 1]", "{}", "{ a = 1 }", '""', '"a"',
        '"*"', "[0, 0]", '"same"', '["x"]', '["fprop", "fprop"]', "[true]", "[1.5]", "1979-05-27", '"[a-"', '"../x"',
        '"/dev/zero"', '"conv"', '"shapes.csv"', '"gemm"', '"\\u0000"', '"\\uFFFF"', '"n <= "', '"n == 1 and"', '"c >= 1e999"',
        '"Small"', '["gpu:99999999999999999999"]', "[" * 300 + "]" * 300,
    ]),
    st.text(max_size=5), st.integers().map(str), st.floats().map(str),
)  # fmt: skip


@st.composite
def mutated(draw: st.DrawFn) -> str:
    """The lines of a suite that has everything, some of them changed, left out, doubled or moved."""
    lines = list(LINES)
    for _ in range(draw(st.integers(1, 4))):
        index = draw(st.integers(0, len(lines) - 1))
        match draw(st.sampled_from(["value", "value", "value", "drop", "double", "key", "character"])):
            case "value":
                lines[index] = f"{lines[index].partition(' = ')[0]} = {draw(ODD)}"
            case "drop" if len(lines) > 1:
                del lines[index]
            case "double":
                lines.insert(draw(st.integers(0, len(lines))), lines[index])
            case "key":
                lines[index] = f"{draw(st.sampled_from([*KEYS, *axes.NAMES, 'set', 'where', 'kind']))} = {draw(ODD)}"
            case "character":
                place = draw(st.integers(0, len(lines[index])))
                lines[index] = lines[index][:place] + draw(st.characters()) + lines[index][place + draw(st.integers(0, 1)) :]
    return "\n".join(lines)


SEEN = settings(
    deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


def test_the_lines_that_are_changed_are_a_suite(place: Path) -> None:
    (place / "whole.toml").write_text("\n".join(LINES))
    assert ask(place / "whole.toml") is not None


@pytest.mark.fault("a suite is changed at random", "it is planned or refused in one line")
@SEEN
@given(mutated())
@example(workload(n="0x" + "f" * 5000))
@example(workload(spatial="[" * 200 + "]" * 200))
@example(workload(spatial=f"[{NEAR}]", kernel=f"[{NEAR}]", n=NEAR, c=NEAR, k=NEAR))
@example(workload() + "[budget]\ntrials = 1_000_000_000\n")
@example(workload() + "[budget]\ntimeout_s = nan\n")
@example("a = " + "[" * 10_000)
@example(HEAD + "a." * 2000 + "a = 1\n")
@example(HEAD + '[[workloads_from]]\ntable = "/dev/zero"\n')
@example(HEAD + '[[workloads_from]]\ntable = "a\\u0000b"\n')
@example(workload(padding="[1, 1]"))
def test_any_suite_is_planned_or_refused_in_one_line(place: Path, text: str) -> None:
    path = place / "any.toml"
    path.write_bytes(text.encode(errors="surrogatepass"))
    ask(path)


@pytest.mark.fault("a suite is any bytes", "it is planned or refused in one line")
@SEEN
@given(
    st.binary(max_size=200)
    | st.tuples(mutated(), st.binary(max_size=3)).map(lambda both: both[0].encode(errors="surrogatepass") + both[1])
)
@example(b"\xff\xfe")
@example(b"\xef\xbb\xbf[suite]\nname = 'x'\r\n\x00")
def test_any_bytes_are(place: Path, data: bytes) -> None:
    path = place / "bytes.toml"
    path.write_bytes(data)
    ask(path)


FIELDS = ROW.split(",")


@st.composite
def rows(draw: st.DrawFn) -> str:
    """A table of which some fields are changed."""
    fields = list(FIELDS)
    for _ in range(draw(st.integers(1, 3))):
        fields[draw(st.integers(0, len(fields) - 1))] = draw(
            ODD | st.sampled_from(["1x1x1x1", "x", "999999999x999999999", "٣"])
        )
    return draw(st.sampled_from([table, lambda row: row, lambda row: table(ROW, row)]))(",".join(fields))


@pytest.mark.fault("a table of shapes is changed at random", "it is read or refused in one line")
@SEEN
@given(rows() | st.text(max_size=100))
@example(table(ROW.replace("1,4,8", "999999999999999999,4,8")))
@example(table("net,conv,1,1,1,1,999999999,999999999,1,500000000,500000000,1,1000000002,2000000002,1,1,x"))
@example(table(ROW.replace("8x8", "x".join(["9"] * 100_000))))
@example(table(*[ROW] * 3))
@example(table('"' + ROW))
def test_any_table_is_read_or_refused_in_one_line(place: Path, text: str) -> None:
    (place / "any.csv").write_bytes(text.encode(errors="surrogatepass"))
    path = place / "tables.toml"
    path.write_text(HEAD + '[[workloads_from]]\ntable = "any.csv"\nset = { n = 1 }\n')
    ask(path)


WORDS = st.text(max_size=8) | st.sampled_from(
    [
        "small",
        "Small",
        "*",
        "[",
        "fprop",
        "cpu",
        "gpu:1",
        "gpu:99999999999999999999999",
        "0",
        "99",
        "-1",
        "torch@",
        "a" * 10_000,
    ]
)
SET = st.sampled_from(["1", "0", "1x1", "x", "same", "9" * 10, "9" * 5000, "", "1x" * 5000])
NUMBERS = st.integers() | st.floats() | st.booleans()


@SEEN
@given(
    st.dictionaries(st.sampled_from([*axes.NAMES, "workload", "nothing"]), st.lists(WORDS, max_size=3), max_size=3),
    st.none() | st.text(alphabet="not ()and or/ab", max_size=60) | WORDS,
    st.dictionaries(st.sampled_from([*KEYS, "x"]), SET, max_size=2),
    st.dictionaries(st.sampled_from(["trials", "timeout_s", "nothing"]), NUMBERS, max_size=2),
    st.none() | st.integers(),
)
@example({}, "(" * 20_000, {}, {}, None)
@example({}, "not " * 5_000 + "a", {}, {}, None)
@example({"threads": [str(i) for i in range(3000)]}, None, {}, {}, None)
@example({}, None, {"n": "9" * 5000}, {}, None)
@example({}, None, {"padding": "1"}, {"trials": True}, None)
def test_any_selection_is_planned_or_refused_in_one_line(
    place: Path, chosen: dict, keyword: str | None, changes: dict, budget: dict, threads: int | None
) -> None:
    path = place / "selected.toml"
    path.write_text(workload())
    ask(path, Selection(axes=chosen, keyword=keyword, set=changes, budget=budget, threads=threads))


@SEEN
@given(st.text(max_size=50))
@example("a" * 100_000)
def test_any_option_is_parsed_or_refused(text: str) -> None:
    parsers: list[Callable[[str], object]] = [parse_axis, parse_set]
    for parser in parsers:
        with contextlib.suppress(SelectionError):
            parser(text)
