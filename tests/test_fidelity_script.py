"""How scripts/fidelity reads other tools beside convbench; what it reads is no matter of tests."""

import importlib.util
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[1] / "scripts" / "fidelity"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    loader = SourceFileLoader("fidelity_script", str(SCRIPT))
    spec = importlib.util.spec_from_loader("fidelity_script", loader)
    assert spec is not None
    module = sys.modules["fidelity_script"] = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


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
