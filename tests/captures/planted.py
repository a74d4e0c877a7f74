"""Another package that adds a capture: what its installer would have written."""

from pathlib import Path

MODULE = """
from harness.axes import Direction
from harness.calls import Call, Seen, layer
from harness.captures.base import Capture


class Model:
    pass


class Planted(Capture):
    name = "planted"
    suffixes = (".planted",)
    options = frozenset({"real"})

    @classmethod
    def takes(cls, model):
        return isinstance(model, Model)

    def capture(self, model, inputs, request):
        spec = layer((1, 2, *inputs[0].shape), (3, 2, 1, 1), [1], [(0, 0)], [1])
        return Seen(f"planted {type(model).__name__}", (Call(spec, Direction.FPROP, name="mine"),))
"""
POINTS = {"planted": "planted:Planted", "broken": "no_such_module:Broken", "wrong": "json:JSONDecoder"}


def plant(folder: Path, points: dict[str, str] = POINTS) -> None:
    """Install it into a folder of a path of Python's."""
    info = folder / "planted-0.dist-info"
    info.mkdir(parents=True)
    (folder / "planted.py").write_text(MODULE)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: planted\nVersion: 0\n")
    lines = "".join(f"{name} = {target}\n" for name, target in points.items())
    (info / "entry_points.txt").write_text(f"[harness.captures]\n{lines}")
