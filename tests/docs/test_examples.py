"""The examples run, and the page shows the one that it prints in full."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).resolve().parents[2] / "docs"
EXAMPLES = DOCS / "examples"

# What each example must have verified, by a part of the line that says so.
VERIFIED = {
    "tensorflow": ("Conv2DBackpropFilter == GradientTape", "Conv2DBackpropInput == GradientTape"),
    "torch": ("mask dw == autograd", "mask dx == autograd"),
    "jax": ("linear_transpose in w == jax.grad", "linear_transpose in x == jax.grad"),
}
ALWAYS = ("<x, dgrad> == <y, dy>", "<w, wgrad> == <y, dy>", "SGD: w - 0.01 * dw", "Adam, first step")


@pytest.mark.parametrize("framework", VERIFIED)
def test_example_runs_and_verifies(framework: str) -> None:
    if importlib.util.find_spec(framework) is None:
        pytest.skip(f"{framework} is not installed")
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / f"three_passes_{framework}.py")],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1", "JAX_PLATFORMS": "cpu", "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    assert any(line.startswith("shapes: x") for line in lines)
    passed = [line for line in lines if line.startswith("ok ")]
    for claim in (*VERIFIED[framework], *ALWAYS):
        assert any(claim in line for line in passed), f"not verified: {claim}\n{done.stdout}"


def test_page_shows_the_file() -> None:
    blocks = re.findall(r"^```python\n(.*?)^```$", (DOCS / "three-passes.md").read_text(), re.DOTALL | re.MULTILINE)
    assert blocks == [(EXAMPLES / "three_passes_tensorflow.py").read_text()]


@pytest.mark.parametrize("page", ["three-passes.md", "glossary.md"])
def test_links_lead_somewhere(page: str) -> None:
    targets = re.findall(r"\]\(([^)#:]+)\)", (DOCS / page).read_text())
    assert targets
    assert [target for target in targets if not (DOCS / target).exists()] == []


def test_glossary_knows_every_direction_status_and_flag() -> None:
    from harness.axes import Direction
    from harness.flags import Flag
    from harness.record import Status

    text = (DOCS / "glossary.md").read_text()
    assert [word for word in (*Status, *Flag) if f"`{word}`" not in text] == []
    assert [word for word in Direction if not re.search(rf"\b{word}\b", text)] == []
