"""The palette: contrast on both backgrounds, one look per backend, icons like the charts' markers."""

import pytest

from harness.page import palette

ALL = palette.looks(["tensorflow", "torch", "jax", "numpy", "a", "b", "c", "d"])
THEMES = {"light": palette.LIGHT, "dark": palette.DARK}


def luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(weight * c for weight, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one: str, other: str) -> float:
    """By WCAG 2.2, 1.4.3."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


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


def test_looks_differ_and_do_not_depend_on_the_order():
    for attribute in ("key", "light", "dark", "marker"):
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
