#!/usr/bin/env python3
"""Searches colours for backends that have none: as far as possible from those that are fixed and from each other.

Run from the root of the project with its Python: .venv/bin/python scripts/palette.py 4. What it prints for `light` and `dark`
are the spare colours of harness/page/palette.py. Every colour has a contrast of 3 to its background and is not taken for
ink; distances are in CAM02-UCS, the smallest over normal vision and full protanopia, deuteranopia and tritanopia.
"""

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))
from harness.page import palette
from tests.page import appearance

STEPS, STARTS, ROUNDS = 26, 300, 40  # levels per channel, random starts, rounds of improvement
COLOURFUL = 16.0  # a spare colour is no grey, which is the reference's


def search(fixed: list[str], ground: str, count: int) -> tuple[list[str], float]:
    """`count` colours beside the fixed ones, and the distance of the two nearest of all."""
    levels = np.round(np.linspace(0, 255, STEPS)) / 255
    grid = np.array(np.meshgrid(levels, levels, levels)).reshape(3, -1).T
    shine, back = appearance.luminance(grid), float(appearance.luminance(appearance.rgb([ground]))[0])
    contrast = (np.maximum(shine, back) + 0.05) / (np.minimum(shine, back) + 0.05)
    grid = grid[contrast >= 3.02]
    grid = grid[np.hypot(*appearance.seen(grid, "normal")[:, 1:].T) >= COLOURFUL]
    views = [appearance.seen(np.vstack([appearance.rgb(fixed), grid]), vision) for vision in appearance.VISIONS]

    def to(place: int) -> np.ndarray:
        return np.min([np.sqrt(((view - view[place]) ** 2).sum(1)) for view in views], axis=0)

    held = np.min([to(place) for place in range(len(fixed))], axis=0)
    lots, best, found = np.random.default_rng(0), 0.0, []
    for _ in range(STARTS):
        chosen = list(lots.integers(len(fixed), len(held), count))
        columns = [to(place) for place in chosen]
        for _ in range(ROUNDS):
            before = list(chosen)
            for at in range(count):
                others = np.min([held, *columns[:at], *columns[at + 1 :]], axis=0)
                others[: len(fixed)] = 0
                chosen[at] = int(others.argmax())
                columns[at] = to(chosen[at])
            if chosen == before:
                break
        worst = min(min(held[place] for place in chosen), *(columns[i][chosen[j]] for i in range(count) for j in range(i)), 1e9)
        if worst > best:
            best, found = worst, [grid[place - len(fixed)] for place in chosen]
    return ["#" + "".join(f"{round(255 * c):02x}" for c in colour) for colour in found], best


if __name__ == "__main__":
    wanted = int(sys.argv[1]) if len(sys.argv) > 1 else 4
    known = [look for name, look in palette.looks(["tensorflow", "torch", "jax", "numpy"]).items()]
    for theme, tokens in (("light", palette.LIGHT), ("dark", palette.DARK)):
        # Ink is what text and lines are drawn in: no backend may be taken for it.
        fixed = [tokens["ink"], *(getattr(look, theme) for look in known)]
        for count in range(1, wanted + 1):
            colours, apart = search(fixed, tokens["bg"], count)
            whole = appearance.nearest([*fixed, *colours])
            told = f"{theme}, ink and {len(known)} fixed + {count}: {' '.join(colours)}"
            print(f"{told}, {apart:.1f} from all others, {whole:.1f} over all")
