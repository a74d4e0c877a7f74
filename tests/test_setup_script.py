"""scripts/setup and scripts/bench, with programs that only note what they are asked for in place of Python and its pip."""

import re
import shutil
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PYTHON = """#!/bin/sh
case "$1 $2" in
    "-c "*) exit 0 ;;
    "-m venv") mkdir -p "$3/bin"; cp "$0" "$3/bin/python"; cp "{convbench}" "$3/bin/convbench" ;;
    "-m pip") for last; do :; done; echo "$(basename "$(dirname "$(dirname "$0")")") $last" >> "{log}" ;;
    *) echo "Python 3.11.7" ;;
esac
"""


@pytest.fixture
def script(tmp_path: Path) -> Callable[..., list[str]]:
    """Runs a script in a folder of its own; what was installed where, and what was run."""
    place, tools, log = tmp_path / "place", tmp_path / "tools", tmp_path / "log"
    (place / "scripts").mkdir(parents=True)
    tools.mkdir()
    for name in ("setup", "bench", "lower_bounds.py"):
        shutil.copy(ROOT / "scripts" / name, place / "scripts" / name)
    for name in ("pyproject.toml", "setup.py", "constraints.txt"):
        shutil.copy(ROOT / name, place / name)

    def tool(name: str, text: str) -> Path:
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
        return tools / name

    convbench = tool("convbench", f'#!/bin/sh\necho "convbench $*" >> "{log}"\n')
    python = tool("fake-python", PYTHON.format(convbench=convbench, log=log))

    def run(name: str, *arguments: str, driver: bool = False) -> list[str]:
        tool("nvidia-smi", f"#!/bin/sh\nexit {0 if driver else 9}\n")
        log.write_text("")
        environ = {"PATH": f"{tools}:/usr/bin:/bin", "PYTHON": str(python)}
        subprocess.run([place / "scripts" / name, *arguments], check=True, env=environ, capture_output=True)
        return log.read_text().splitlines()

    return run


def test_setup_installs_once_what_is_asked_for(script: Callable[..., list[str]]) -> None:
    assert script("setup", "all,dev") == [".venv .[all,dev]"]
    assert script("setup", "all,dev") == []


def test_for_a_gpu_tensorflow_has_an_environment_of_its_own(script: Callable[..., list[str]]) -> None:
    assert script("setup", "cuda,dev") == [".venv .[cuda,dev]", ".venv-tensorflow .[cuda-tensorflow]"]
    assert script("setup", "cuda,dev") == []


def test_bench_does_so_where_a_driver_answers(script: Callable[..., list[str]]) -> None:
    assert script("bench", "--quick") == [".venv .[all]", "convbench run first --quick"]
    assert script("bench", "--quick", driver=True) == [
        ".venv .[cuda]",
        ".venv-tensorflow .[cuda-tensorflow]",
        "convbench run first --python tensorflow=.venv-tensorflow/bin/python --quick",
    ]


def test_no_extra_brings_the_libraries_of_two_cudas() -> None:
    """Both write their cuDNN into one folder, and the last one installed breaks the other."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]

    def whole(extra: str) -> set[str]:
        found: set[str] = set()
        for requirement in extras[extra]:
            if inner := re.fullmatch(r"convbench\[([^]]+)\]", requirement):
                found |= {each for name in inner[1].split(",") for each in whole(name)}
            else:
                found.add(requirement)
        return found

    for extra in extras:
        builds = [build for build in ("tensorflow[and-cuda]", "jax[cuda13]") if any(r.startswith(build) for r in whole(extra))]
        assert len(builds) < 2, extra
    assert any(requirement.startswith("tensorflow[and-cuda]") for requirement in whole("cuda-tensorflow"))
    assert any(requirement.startswith("jax[cuda13]") for requirement in whole("cuda"))
