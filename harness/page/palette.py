"""Every colour, marker and dash of the page, in one place: the tokens of both themes and the looks of the backends.

Charts are drawn in sentinel colours, one per token, which `svg` turns into the classes that `css` themes: so one drawing
serves light, dark and print.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from harness.axes import Mode

LIGHT = {
    "bg": "#ffffff", "panel": "#f6f7f9", "ink": "#1b1f24", "mut": "#59636e", "grid": "#e4e7eb", "line": "#cfd5db",
    "soft": "#8b95a1", "link": "#0b5cad", "slow": "#b3261e", "fast": "#0a6b5c", "warn": "#8a5a00", "heat": "#c2410c",
    "slowbg": "#fdecea", "fastbg": "#e3f4f0", "warnbg": "#fff4d6", "focus": "#0b5cad",
}  # fmt: skip
DARK = {
    "bg": "#14181d", "panel": "#1c2229", "ink": "#e6e9ee", "mut": "#9aa4b0", "grid": "#2b323a", "line": "#3a434d",
    "soft": "#6f7a86", "link": "#7db8f5", "slow": "#ff8a80", "fast": "#4fd1b8", "warn": "#e8b84a", "heat": "#f0703a",
    "slowbg": "#3b1d1b", "fastbg": "#12322c", "warnbg": "#372c10", "focus": "#7db8f5",
}  # fmt: skip
DRAWN = ("bg", "panel", "ink", "mut", "grid", "line", "soft", "slow", "fast", "warn", "heat")  # tokens that a chart may use

HEAT_STEPS = 12
HEAT_WEAKEST, HEAT_STRONGEST = 0.02, 0.62  # shares of the heat colour; ink on the strongest still reads at 4.5 to 1


Dash = str | tuple[int, tuple[int, ...]]  # a line style of matplotlib


@dataclass(frozen=True)
class Look:
    """How a backend appears in every chart and table: its name in words, its class, colours, marker and dash."""

    words: str
    key: str
    light: str
    dark: str
    marker: str
    dash: Dash

    def sentinel(self) -> str:
        """The colour it is drawn in before the theme is known."""
        return sentinel(self.key)


# Fixed for ever. Smallest pairwise CAM02-UCS distance of the first three, full colour blindness included: 24.3 and 16.0.
_KNOWN = {
    "tensorflow": Look("TensorFlow", "tf", "#d55e00", "#f0852a", "o", "-"),
    "torch": Look("PyTorch", "pt", "#882255", "#eab5f2", "s", "--"),
    "jax": Look("JAX", "jx", "#0072b2", "#4a98e3", "^", ":"),
    "numpy": Look("NumPy", "np", "#747d87", "#8a939d", "X", "-."),
}
# Looks of backends that have no fixed one, given out in the order of their names; scripts/palette.py found them. Of all eight
# colours and ink the two nearest are 15.3 apart in light and 16.0 in dark. A fifth such backend gets the last look again: names
# stand beside all marks.
_SPARE: tuple[tuple[str, str, str, str, Dash], ...] = (
    ("x1", "#0000b8", "#47668f", "D", (0, (9, 3))),
    ("x2", "#c28570", "#99525c", "v", (0, (6, 2, 2, 2))),
    ("x3", "#5c4700", "#85ff8f", "p", (0, (3, 2, 1, 2, 1, 2))),
    ("x4", "#3d1400", "#cc2900", "h", (0, (2, 4))),
)

# The markers of the charts as paths in a 10 x 10 box, for the icons in text and tables.
SHAPES = {
    "o": "M5 .9A4.1 4.1 0 1 1 5 9.1A4.1 4.1 0 1 1 5 .9Z",
    "s": "M1.3 1.3H8.7V8.7H1.3Z",
    "^": "M5 .8 9.4 9H.6Z",
    "v": "M5 9.2 9.4 1H.6Z",
    "D": "M5 .3 9.7 5 5 9.7 .3 5Z",
    "p": "M5 .5 9.6 3.9 7.9 9.3H2.1L.4 3.9Z",
    "h": "M5 .4 9.1 2.7V7.3L5 9.6 .9 7.3V2.7Z",
    "X": "M2.7 .6 5 2.9 7.3 .6 9.4 2.7 7.1 5 9.4 7.3 7.3 9.4 5 7.1 2.7 9.4 .6 7.3 2.9 5 .6 2.7Z",
}


def looks(backends: Iterable[str]) -> dict[str, Look]:
    """A look for each name, those with a fixed one first; the same names get the same looks in any order."""
    names = set(backends)
    found = {name: look for name, look in _KNOWN.items() if name in names}
    for place, name in enumerate(sorted(names - set(_KNOWN))):
        found[name] = Look(name, *_SPARE[min(place, len(_SPARE) - 1)])
    return found


def sentinel(key: str) -> str:
    """The colour that stands for a token or a look's key until `svg` makes a class of it."""
    return _SENTINELS[key]


_KEYS = (*DRAWN, *(look.key for look in _KNOWN.values()), *(spare[0] for spare in _SPARE))
_SENTINELS = {key: f"#0a{place:02x}b5" for place, key in enumerate(_KEYS)}
KEY_OF_SENTINEL = {colour: key for key, colour in _SENTINELS.items()}


def fill_of(mode: str) -> str:
    """How a marker is filled in a mode: `full` for eager, `hollow` for compiled, `dotted` (hollow with a dot) for others."""
    return {str(Mode.EAGER): "full", str(Mode.COMPILED): "hollow"}.get(mode, "dotted")


def css(found: Mapping[str, Look]) -> str:
    """Custom properties of both themes, the classes that charts are painted with, and the steps of the heat table."""
    light = {**LIGHT, **{look.key: look.light for look in found.values()}}
    dark = {**DARK, **{look.key: look.dark for look in found.values()}}
    keys = [*DRAWN, *dict.fromkeys(look.key for look in found.values())]
    classes = "".join(f".f-{key}{{fill:var(--{key})}}.s-{key}{{stroke:var(--{key})}}" for key in keys)
    shares = [HEAT_WEAKEST + (HEAT_STRONGEST - HEAT_WEAKEST) * step / HEAT_STEPS for step in range(HEAT_STEPS + 1)]
    heat = "".join(f".h{i}{{background:color-mix(in srgb,var(--heat) {100 * s:.0f}%,var(--bg))}}" for i, s in enumerate(shares))
    return "\n".join(
        [
            f":root{{color-scheme:light;{_properties(light)}}}",
            f":root[data-theme=dark]{{color-scheme:dark;{_properties(dark)}}}",
            f"@media (prefers-color-scheme:dark){{:root:not([data-theme=light]){{color-scheme:dark;{_properties(dark)}}}}}",
            # On paper the ground is white and the ink black, whatever the theme on the screen is.
            f"@media print{{:root:root:root{{color-scheme:light;{_properties({**light, **_PRINT})}}}}}",
            classes,
            heat,
        ]
    )


_PRINT = {"panel": "#ffffff", "ink": "#000000", "mut": "#444444", "link": "#000000"}


def _properties(colours: Mapping[str, str]) -> str:
    return ";".join(f"--{name}:{value}" for name, value in colours.items())
