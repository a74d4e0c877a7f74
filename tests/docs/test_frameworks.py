"""The page on what frameworks refuse: its calls are calls, and what they raise is what the page says."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "frameworks.md"

# Which kernels a build has depends on the processor too, so a call that does not fail elsewhere is no fault of the page.
TRY_ALL = """
import sys, tensorflow as tf
for line in sys.stdin:
    call, expected = line.rstrip("\\n").split("\\t")
    try:
        eval(call)
    except (tf.errors.OpError, ValueError) as error:
        print("as told" if expected in str(error) else f"{call}: {error}")
    else:
        print("works here")
"""


def rows() -> list[tuple[str, str]]:
    return re.findall(r"^\| [^|]+ \| `(tf\.[^`]+)` \| ([^|]+) \|$", PAGE.read_text(), re.MULTILINE)


@pytest.mark.skipif(importlib.util.find_spec("tensorflow") is None, reason="TensorFlow is not installed")
def test_calls_that_tensorflow_refuses_fail_as_told() -> None:
    found = rows()
    assert len(found) == 8
    done = subprocess.run(
        [sys.executable, "-c", TRY_ALL], input="".join(f"{call}\t{told}\n" for call, told in found), capture_output=True,
        text=True, check=False, env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    answers = done.stdout.splitlines()
    assert len(answers) == len(found)
    assert set(answers) <= {"as told", "works here"}, done.stdout
    assert "as told" in answers


def test_links_lead_somewhere() -> None:
    targets = re.findall(r"\]\(([^)#:]+)\)", PAGE.read_text())
    assert targets
    assert [target for target in targets if not (PAGE.parent / target).exists()] == []
