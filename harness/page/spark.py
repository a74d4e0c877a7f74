"""Small drawings in the cells of tables. They are written as SVG directly, since a page holds hundreds of them.

What they show stands in words in the same row, so screen readers leave them out.
"""

import math
from collections.abc import Sequence

from markupsafe import Markup

_WIDTH, _HEIGHT, _MIDDLE = 120, 18, 9
NIGHTS = 30  # the most that the history of a case shows
_LEAST_RANGE = 0.06  # a sparkline is at least this share of its values high: less is noise, and must not look like a change


def interval_bar(ratio: float, low: float, high: float, threshold: float, edge: float, tone: str) -> Markup:
    """A ratio with its interval on a log axis from 1 / `edge` to `edge`, before a band of the case's own noise.

    The band reaches from 1 / (1 + `threshold`) to 1 + `threshold`. What lies beyond an edge is drawn at the edge. Empty where
    there is no ratio.
    """
    if not (math.isfinite(ratio) and ratio > 0):
        return Markup("")

    def x(value: float) -> float:
        return round(_WIDTH * (0.5 + 0.5 * max(-1.0, min(1.0, math.log(value) / math.log(edge)))), 1)

    band = x(1 / (1 + threshold)), x(1 + threshold)
    parts = [
        f'<path d="M{band[0]} 1V17H{band[1]}V1Z" class="f-line"/>',
        f'<path d="M{_WIDTH / 2:g} 0V{_HEIGHT}" class="s-soft"/>',
    ]
    if math.isfinite(low) and math.isfinite(high) and low > 0:
        parts.append(f'<path d="M{x(low)} {_MIDDLE}H{x(high)}" class="s-{tone}" stroke-width="2"/>')
    at = x(ratio)
    parts.append(f'<path d="M{at - 4:g} {_MIDDLE}l4-4 4 4-4 4Z" class="f-{tone}"/>')
    return _svg("".join(parts))


def sparkline(values: Sequence[float], tone: str = "ink") -> Markup:
    """The last 30 of the values as a line with a dot at its end; NaN, a missing night, is a gap. Empty where none is known.

    The height is the range of the values, but at least 6 % of them.
    """
    values = list(values)[-NIGHTS:]
    known = [value for value in values if math.isfinite(value)]
    if not known:
        return Markup("")
    middle = (min(known) + max(known)) / 2
    half = max((max(known) - min(known)) / 2, _LEAST_RANGE / 2 * middle) or 1.0
    step = (_WIDTH - 8) / max(1, len(values) - 1)

    def point(place: int) -> str:
        return f"{4 + step * place:.1f} {_MIDDLE - 7 * (values[place] - middle) / half:.1f}"

    path, pen = "", "M"
    for place, value in enumerate(values):
        if math.isfinite(value):
            path += pen + point(place)
            pen = "L"
        else:
            pen = "M"  # a missing night is a gap
    last = max(place for place, value in enumerate(values) if math.isfinite(value))
    x, _, y = point(last).partition(" ")
    return _svg(
        f'<path d="{path}" class="s-mut" fill="none" stroke-width="1.3"/><circle cx="{x}" cy="{y}" r="2.3" class="f-{tone}"/>'
    )


def _svg(inside: str) -> Markup:
    return Markup(
        f'<svg class="spark" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}" aria-hidden="true">'
        f"{inside}</svg>"
    )
