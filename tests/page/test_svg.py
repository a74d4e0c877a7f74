"""What becomes of matplotlib's SVG."""

import re

import pytest
from matplotlib.figure import Figure

from harness.page import canvas, svg
from harness.page.palette import looks, sentinel

TORCH = looks(["torch"])["torch"]


def dots(words=("one", "two"), **more) -> str:
    drawing = canvas.Canvas(100)
    axes = drawing.axes(10, 10, 900, 60)
    drawing.dots(axes, TORCH, more.get("mode", "eager"), [1, 2], [1, 2], words)
    with canvas._settings("t"):
        return str(drawing.svg("t", "Title <b>", "What it shows"))


def test_no_style_no_prolog_no_metadata():
    text = dots()
    assert text.startswith("<svg ")
    for word in ("style", "<?xml", "DOCTYPE", "metadata", "xlink", "#0a"):
        assert word not in text


def test_title_and_desc_label_the_drawing():
    assert 'role="img" aria-labelledby="t-t t-d"><title id="t-t">Title &lt;b&gt;</title><desc id="t-d">' in dots()


def test_sentinels_become_classes():
    assert f"f-{TORCH.key} s-bg" in dots()
    assert f"f-bg s-{TORCH.key}" in dots(mode="compiled")


def test_coordinates_have_one_decimal():
    assert not re.search(r'[ "]-?\d+\.\d{2,}', re.sub(r'stroke-width="[^"]*"', "", dots()))


def test_marks_carry_their_words_escaped():
    assert "<title>&lt;script&gt; a &amp; b</title>" in dots(("<script> a & b", "two"))


def test_marks_and_words_must_be_as_many():
    figure = Figure()
    figure.add_subplot().scatter([1], [1]).set_gid("marks-0")
    import io

    buffer = io.StringIO()
    figure.savefig(buffer, format="svg")
    with pytest.raises(ValueError, match="1 marks drawn in marks-0, 2 meant"):
        svg.post(buffer.getvalue(), "t", "", "", {"marks-0": ["a", "b"]})


def test_every_reference_points_into_the_drawing():
    text = dots(mode="xla")
    ids = re.findall(r' id="([^"]*)"', text)
    assert len(ids) == len(set(ids))
    used = set(re.findall(r'href="#([^"]*)"', text)) | set(re.findall(r"url\(#([^)]*)\)", text))
    assert used <= set(ids)
    assert all(name.startswith("t") for name in ids)


def test_clean_takes_out_what_xml_forbids():
    assert svg.clean("a\x00b\u2028c\ud800d\u202ee\n f") == "a b c d e f"


def test_a_dollar_is_a_dollar():
    drawing = canvas.Canvas(40)
    with canvas._settings("t"):
        drawing.text(10, 10, r"$\frac{", color=sentinel("ink"))
        assert r"$\frac{" in drawing.svg("t", "", "")
