"""A way to write a suite into a folder of its own."""

from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Writes a text to suites/mine.toml under an empty working directory; returns its path, relative as a user sees it."""
    monkeypatch.chdir(tmp_path)
    Path("suites").mkdir()

    def written(text: str) -> Path:
        path = Path("suites/mine.toml")
        path.write_text(text, encoding="utf-8")
        return path

    return written
