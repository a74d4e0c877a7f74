import pytest

from harness.ask import shapes
from harness.axes import Direction
from harness.spec import ConvSpec

HEADER = ",".join(shapes.COLUMNS)
GOOD = "net,conv,1,4,8,1,8x8,3x3,2x2,1x1,0x0,1x1,4x4,9216,7744,3,somewhere:1"  # 11 of 12 taps per dimension lie inside


def table(*lines: str) -> str:
    return "\n".join([HEADER, *lines, ""])


def changed(column: str, value: str) -> str:
    cells = GOOD.split(",")
    cells[list(shapes.COLUMNS).index(column)] = value
    return ",".join(cells)


def test_a_row_becomes_a_shape() -> None:
    (shape,) = shapes.rows(table(GOOD))
    expected = ConvSpec(1, 4, 8, (8, 8), (3, 3), (2, 2), (1, 1), ((1, 0), (1, 0)))
    assert (shape.name, shape.spec, shape.count) == ("conv", expected, 3)
    assert shape.columns["kernel"] == "3x3"
    assert shape.columns["flop_nominal"] == 9216


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("out", "5x4", ["out", "found 5x4", "computed from the row: 4x4"]),
        ("flop_nominal", "9217", ["flop_nominal", "found 9217", "computed from the row: 9216"]),
        ("flop_exact", "9216", ["flop_exact", "found 9216", "computed from the row: 7744"]),
        ("n", "one", ["n: ", 'found "one"', "whole number"]),
        ("n", "0", ["n is 0", "at least 1"]),
        ("count", "0", ["count", "at least 1"]),
        ("count", "", ["count", 'found ""', "whole number"]),
        ("kernel", "3*3", ["kernel", 'found "3*3"', "56x56"]),
        ("kernel", "11x11", ["kernel [11, 11]", "no output is left"]),
        ("pad_hi", "0", ["pad_hi", "found 0", "pad_lo"]),
        ("groups", "3", ["3 groups do not divide"]),
    ],
)
def test_a_row_that_is_wrong_is_named(column: str, value: str, words: list[str]) -> None:
    with pytest.raises(ValueError, match='row 2 "conv"') as caught:
        shapes.rows(table(GOOD, changed(column, value)))
    assert all(word in str(caught.value) for word in words), str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["is no table of shapes", "suite,name,n,c,k"]),
        ("a,b\n", ["is no table of shapes", "its first line is not suite,name"]),
        (table("1,2"), ['row 1 "2"', "found 2 columns", "allowed: 17"]),
        (table('"open'), ["is not CSV"]),
    ],
)
def test_a_table_that_is_none(text: str, words: list[str]) -> None:
    with pytest.raises(ValueError, match=words[0]) as caught:
        shapes.rows(text)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_choose() -> None:
    rows = shapes.rows(table(GOOD, GOOD.replace("conv", "conv2")))
    assert shapes.choose(rows, None, None) == rows
    assert shapes.choose(rows, None, 1) == rows[:1]
    assert shapes.choose(rows, "name == conv2 and stride == 2x2", None) == rows[1:]
    with pytest.raises(ValueError, match='found "n > 1", which none of 2 rows fits'):
        shapes.choose(rows, "n > 1", None)


def test_a_table_may_say_how_many_layers_have_a_pass() -> None:
    more = f"{HEADER},count_dgrad,count_wgrad\n{GOOD},2,\n{GOOD},,0\n"
    first, second = shapes.rows(more)
    assert (dict(first.counts), dict(second.counts)) == ({Direction.DGRAD: 2}, {Direction.WGRAD: 0})
    for header in ("count_wgrad,count_dgrad", "count_train", "more"):
        with pytest.raises(ValueError, match="is no table of shapes"):
            shapes.rows(more.replace("count_dgrad,count_wgrad", header))
    with pytest.raises(ValueError, match='row 1 "conv": count_dgrad: found "-2"'):
        shapes.rows(more.replace(",2,\n", ",-2,\n"))


def test_what_is_written_is_read() -> None:
    odd = shapes.Shape("odd", ConvSpec(2, 4, 6, (7,), (3,), (2,), (2,), ((1, 0),), 2), 5, {}, {Direction.FPROP: 1})
    known = [*shapes.rows(table(GOOD)), odd]
    read = shapes.rows(shapes.text("mine", [(shape, 'a, "b"') for shape in known]))
    assert [(shape.name, shape.spec, shape.count, dict(shape.counts)) for shape in read] == [
        (shape.name, shape.spec, shape.count, dict(shape.counts)) for shape in known
    ]
    assert {shape.columns["source"] for shape in read} == {'a, "b"'}
    assert shapes.text("net", [(known[0], "somewhere:1")]) == table(GOOD)
