"""How scripts/fidelity reads other tools beside convbench; what it reads is no matter of tests."""

from argparse import Namespace
from pathlib import Path
from types import ModuleType

import pytest

from tests import scripts


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return scripts.load("fidelity")


def test_other_tools_are_read_on_both_sides_of_convbench(script: ModuleType) -> None:
    """A machine that gets slower with every reading favours nobody: all see the same time in the middle."""
    told: list[str] = []

    def read(tool: str) -> tuple[float, float]:
        told.append(tool)
        return 100.0 * 2.0 ** len(told), float(len(told))

    found = script.bracketed(("loop", "timer"), read, lambda: told.append("convbench"))
    assert told == ["loop", "timer", "convbench", "timer", "loop"]
    assert {tool: ns for tool, (ns, _) in found.items()} == pytest.approx(dict.fromkeys(("loop", "timer"), 100.0 * 2.0**3))
    assert {tool: seconds for tool, (_, seconds) in found.items()} == {"loop": 3.0, "timer": 3.0}


def test_what_the_correction_is_worth_between_nights_is_what_the_kept_nights_say(script: ModuleType) -> None:
    root = Path(script.__file__).parents[1]
    asked = Namespace(store=root / "results" / "samples" / "short-nights", suite="short-night", first=20)
    assert "\n".join(script.describe_nights(asked)) in (root / "docs" / "fidelity.md").read_text()
