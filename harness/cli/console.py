"""Rich's console for data: what is printed by it is shown as it is, and steers neither rich nor the terminal."""

import sys
from collections.abc import Iterable
from typing import Any

import rich.console
from rich.console import ConsoleOptions, RenderableType
from rich.segment import Segment

from harness.cli.terminal import plain_lines
from harness.plain import plain

WIDE = 200  # columns where nobody looks, so that no line is folded


class Console(rich.console.Console):
    """A console without markup, emoji and highlighting. A text that is printed by itself is one line."""

    def __init__(self, stderr: bool = False, width: int | None = None) -> None:
        stream = sys.stderr if stderr else sys.stdout
        file = getattr(stream, "styled", stream)
        super().__init__(file=file, stderr=stderr, width=width, markup=False, highlight=False, emoji=False)

    def print(self, *objects: Any, **options: Any) -> None:
        """Print texts, each on one line, and what rich renders."""
        super().print(*(plain(each) if isinstance(each, str) else each for each in objects), **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """What rich makes of it, its own control codes and styles, and texts without any."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=plain_lines(segment.text))


def stdout() -> Console:
    """Standard output: wide where nobody looks."""
    console = Console()
    return console if console.is_terminal else Console(width=WIDE)
