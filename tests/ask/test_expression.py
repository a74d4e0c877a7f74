import operator
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.ask import expression

COLUMNS = {"n": int, "groups": int, "kernel": str, "name": str}
ROW = {"n": 16, "groups": 1, "kernel": "3x3", "name": "conv and more"}


def answer(call: Callable[[], object]) -> str:
    """What is said about an expression; nothing about one that is well formed."""
    try:
        call()
    except ValueError as error:
        return str(error)
    return ""


def holds(text: str) -> bool:
    return all(clause.holds(ROW) for clause in expression.where(text, COLUMNS))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("n <= 16 and groups == 1", True),
        ("n<=16 and groups==1", True),
        ("n < 16", False),
        ("n > 15.5", True),
        ("n >= 1.6e1", True),
        ("n != 16", False),
        ("n > -3", True),
        ("kernel == 3x3", True),
        ("kernel == '3x3' and kernel != \"5x5\"", True),
        ('name == "conv and more"', True),
        ("name == conv", False),
        ("groups == 1 and n == 17", False),
    ],
)
def test_where(text: str, expected: bool) -> None:
    assert holds(text) is expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["character 1", "expected a column (n, groups, kernel, name)", "found the end"]),
        ("m == 1", ["character 1", "expected a column", "found 'm'"]),
        ("n == 1 and group == 1", ["character 12", "found 'group'", 'did you mean "groups"?']),
        ("n", ["character 2", "expected an operator", "<=", "found the end"]),
        ("n = 1", ["character 3", "'=' is not expected"]),
        ("n ==", ["character 5", "expected a number, a text in quotes or a word", "found the end"]),
        ("n == and", ["character 6", "found 'and'"]),
        ("n == x", ["character 6", "expected a number, as column n holds numbers", "found 'x'"]),
        ("n == '1'", ["character 6", "expected a number"]),
        ("kernel < 3x3", ["character 8", "expected == or !=, as column kernel holds text", "found '<'"]),
        ("n == 1 or n == 2", ["character 8", "expected `and` or the end", "found 'or'"]),
        ("n == 1 and", ["character 11", "expected a column", "found the end"]),
        ('name == "open', ["character 9", "is not expected here"]),
        ("__import__('os')", ["character 1", "expected a column", "__import__("]),
    ],
)
def test_where_says_what_is_wrong(text: str, words: list[str]) -> None:
    with pytest.raises(ValueError, match="character") as caught:
        expression.where(text, COLUMNS)
    assert all(word in str(caught.value) for word in words), str(caught.value)


@given(st.integers(-(10**17), 10**17), st.integers(-(10**17), 10**17), st.sampled_from(["==", "!=", "<=", ">=", "<", ">"]))
def test_where_compares_whole_numbers_exactly(left: int, right: int, sign: str) -> None:
    names = {"==": operator.eq, "!=": operator.ne, "<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt}
    (clause,) = expression.where(f"n {sign} {right}", COLUMNS)
    assert clause.holds({"n": left}) is names[sign](left, right)


@given(st.text())
def test_where_answers_any_text_with_clauses_or_one_line(text: str) -> None:
    assert "\n" not in answer(lambda: expression.where(text, COLUMNS))


CELL = "rn50_conv1/fprop/torch@old/eager/gpu:0/fp32/nhwc/hot/t0"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("conv1", True),
        ("CONV1", True),
        ("Torch and fprop", True),
        ("torch and wgrad", False),
        ("wgrad or fprop", True),
        ("not wgrad", True),
        ("not (wgrad or fprop)", False),
        ("not wgrad and torch", True),
        ("wgrad and torch or gpu:0", True),
        ("wgrad and (torch or gpu:0)", False),
        ("conv1/fprop/torch@old", True),
        ("not not gpu:0/fp32", True),
        ("order", False),
    ],
)
def test_keyword(text: str, expected: bool) -> None:
    assert expression.keyword(text)(CELL) is expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["character 1", "expected a word, `not` or `(`", "found the end"]),
        ("a b", ["character 3", "expected `and`, `or` or the end", "found 'b'"]),
        ("a and", ["character 6", "found the end"]),
        ("and a", ["character 1", "found 'and'"]),
        ("(a or b", ["character 8", "expected `)`", "found the end"]),
        ("a)", ["character 2", "found ')'"]),
        ("a == b", ["character 3", "'=' is not expected here"]),
        ("not", ["character 4", "found the end"]),
    ],
)
def test_keyword_says_what_is_wrong(text: str, words: list[str]) -> None:
    with pytest.raises(ValueError, match="character") as caught:
        expression.keyword(text)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_keyword_nested_too_deeply_is_no_traceback() -> None:
    with pytest.raises(ValueError, match="nested too deeply"):
        expression.keyword("(" * 100_000)


WORDS = st.text("abcxyz.:-_/@5", min_size=1, max_size=4)
TREES = st.recursive(
    WORDS,
    lambda inner: st.one_of(
        st.tuples(st.just("not"), inner), st.tuples(st.sampled_from(["and", "or"]), inner, inner)
    ),
    max_leaves=8,
)  # fmt: skip


def spoken(tree: object) -> str:
    if isinstance(tree, str):
        return tree
    return f"(not {spoken(tree[1])})" if tree[0] == "not" else f"({spoken(tree[1])} {tree[0]} {spoken(tree[2])})"


def meant(tree: object, name: str) -> bool:
    if isinstance(tree, str):
        return tree in name
    if tree[0] == "not":
        return not meant(tree[1], name)
    parts = [meant(part, name) for part in tree[1:]]
    return all(parts) if tree[0] == "and" else any(parts)


@given(TREES, st.text("abcxyz.:-_/@5", max_size=30))
def test_keyword_means_what_its_tree_means(tree: object, name: str) -> None:
    assert expression.keyword(spoken(tree))(name.upper()) is meant(tree, name)


@given(st.text("ab and or not()!", max_size=20))
def test_keyword_answers_any_text(text: str) -> None:
    assert "\n" not in answer(lambda: expression.keyword(text)("abc"))
