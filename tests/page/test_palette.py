"""The palette: contrast on both backgrounds, one look per backend, icons like the charts' markers."""

import pytest

from harness.page import palette
from tests.page.appearance import contrast, nearest

ALL = palette.looks(["tensorflow", "torch", "jax", "numpy", "a", "b", "c", "d"])
THEMES = {"light": palette.LIGHT, "dark": palette.DARK}


def mixed(colour: str, share: float, ground: str) -> str:
    pairs = [(int(colour[i : i + 2], 16), int(ground[i : i + 2], 16)) for i in (1, 3, 5)]
    return "#" + "".join(f"{round(a * share + b * (1 - share)):02x}" for a, b in pairs)


@pytest.mark.parametrize("theme", THEMES)
def test_marks_stand_out_from_the_background(theme):
    tokens = THEMES[theme]
    marks = {look.key: getattr(look, theme) for look in ALL.values()} | {"soft": tokens["soft"]}
    for name, colour in marks.items():
        assert contrast(colour, tokens["bg"]) >= 3, name


@pytest.mark.parametrize("theme", THEMES)
def test_text_reads_on_every_ground_it_stands_on(theme):
    tokens = THEMES[theme]
    pairs = [(text, ground) for text in ("ink", "mut", "link") for ground in ("bg", "panel")]
    pairs += [(tone, tone + "bg") for tone in ("slow", "fast", "warn")] + [(tone, "bg") for tone in ("slow", "fast", "warn")]
    for text, ground in pairs:
        assert contrast(tokens[text], tokens[ground]) >= 4.5, (text, ground)
    strongest = mixed(tokens["heat"], palette.HEAT_STRONGEST, tokens["bg"])
    assert contrast(tokens["ink"], strongest) >= 4.5


def test_the_three_frameworks_keep_their_colours():
    light = {name: (ALL[name].words, ALL[name].light, ALL[name].dark) for name in ("tensorflow", "torch", "jax")}
    assert light == {
        "tensorflow": ("TensorFlow", "#d55e00", "#f0852a"),
        "torch": ("PyTorch", "#882255", "#eab5f2"),
        "jax": ("JAX", "#0072b2", "#4a98e3"),
    }


@pytest.mark.parametrize(("theme", "three"), [("light", 24.3), ("dark", 16.0)])
def test_backends_are_told_apart_by_everyone(theme, three):
    """15 in CAM02-UCS under normal vision and full protanopia, deuteranopia and tritanopia; ink is one of them."""
    frameworks = [getattr(ALL[name], theme) for name in ("tensorflow", "torch", "jax")]
    assert nearest(frameworks) == pytest.approx(three, abs=0.05)
    assert nearest([THEMES[theme]["ink"], *(getattr(look, theme) for look in ALL.values())]) >= 15


def test_the_ruler_of_colours_is_right():
    """Black to white is 100 in lightness; a colour-blind eye cannot tell what only its missing cones could."""
    assert nearest(["#000000", "#ffffff"]) == pytest.approx(100, abs=0.1)
    assert nearest(["#ff0000", "#ff0000"]) == 0
    assert contrast("#000000", "#ffffff") == 21
    assert nearest(["#9a7a00", "#c06000"]) < 15


def test_looks_differ_and_do_not_depend_on_the_order():
    for attribute in ("key", "light", "dark", "marker", "dash"):
        assert len({getattr(look, attribute) for look in ALL.values()}) == len(ALL), attribute
    assert palette.looks(["z", "torch", "y"]) == palette.looks(["y", "z", "torch"])


def test_more_backends_than_colours_still_get_a_look():
    assert len(palette.looks(f"b{i}" for i in range(20))) == 20


def test_every_marker_has_an_icon():
    assert {look.marker for look in ALL.values()} <= set(palette.SHAPES)


def test_css_names_every_class_that_a_chart_may_use():
    css = palette.css(ALL)
    for key in [*palette.DRAWN, *(look.key for look in ALL.values())]:
        assert f".f-{key}{{" in css
        assert f"--{key}:" in css
