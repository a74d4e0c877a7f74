"""The README's commands, by a wheel in a fresh environment, from an empty folder, with the oldest and the newest packages."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import venv
from pathlib import Path

import pytest

from scripts import lower_bounds
from tests.test_wheel import ROOT, built, copied

README = (ROOT / "README.md").read_text(encoding="utf-8")
# A command stands first in its line, before two spaces, or within what is said of another.
COMMAND = re.compile(r"^((?:convbench|pytest) .+?)(?:  |$)|(?<=; )(convbench \w+(?: [A-Z]+| --\w+)+)", re.MULTILINE)

QUICK = "--backend numpy --quick -k tiny_1x1 --no-ceilings"
NIGHTS = "--out nights"  # a copy of results/samples/short-nights: one night has no history
CELL = "rn50_res2_3x3_28/fprop/torch/eager"

# What is run in the place of each: numpy for the frameworks, which are not installed here, small suites for large ones, and
# nothing that changes the machine's own schedule.
INSTEAD: dict[str, list[str]] = {
    "convbench run first": [
        f"convbench run smoke {QUICK}",
        "convbench run first --backend numpy --dry-run",
    ],
    'convbench run first --backend torch,jax -k "rn50 and wgrad"': [
        'convbench run smoke --backend numpy --quick --no-ceilings -k "tiny and wgrad"',
    ],
    "convbench run mine.toml --threads 1 -a mode=eager": [
        "convbench run mine.toml --threads 1 -a mode=eager --backend numpy --quick --no-ceilings --set n=1 -k fprop",
    ],
    'convbench run --conv "n32 c64 k64 56x56 f3x3 p1"': [
        'convbench run --conv "n1 c2 k3 8x8 f3x3 p1" --backend numpy --quick --no-ceilings',
    ],
    "convbench run --resume latest": ["convbench run --resume latest"],
    "convbench run first --until 3%": [f"convbench run smoke {QUICK} --until 50% --time 20s"],
    "convbench run --more latest --time 5m": ["convbench run --more latest --time 5s"],
    "convbench run first --wait 30m": [f"convbench run smoke {QUICK} --wait 30m"],
    "convbench run deepbench-train --set n=1": [
        "convbench run deepbench-train --set n=1 --backend numpy --quick --no-ceilings -k deepbench_train_012",
    ],
    "convbench run first --no-ceilings": [f"convbench run smoke {QUICK}"],
    "convbench list suites|workloads|backends|devices|cells": [
        "convbench list suites",
        "convbench list workloads first",
        "convbench list backends",
        "convbench list devices",
        "convbench list cells first",
    ],
    "convbench show latest --side-by-side": ["convbench show latest --side-by-side"],
    "convbench show latest --by mode": ["convbench show latest --by mode"],
    "convbench show latest --follow": ["convbench show latest --follow"],
    "convbench show latest --networks": [
        'convbench run resnet50 --set n=1 --backend numpy --quick --no-ceilings -k "res5b_branch2a and fprop"',
        "convbench show latest --networks",
    ],
    "convbench show latest --explain": [
        f"convbench run smoke {QUICK} --profile",
        "convbench show latest --explain",
    ],
    "convbench run first --aa": [f"convbench run smoke {QUICK} --aa"],
    "convbench capture ./net.py:build --input 8,3,224,224": ["convbench capture layers.log"],
    # No framework is installed there, so that no step can be timed: another capture stands for it.
    "convbench capture keras.applications:ResNet50 --input 8,224,224,3 --time": [
        "convbench capture layers.log --out again.toml"
    ],
    "convbench tune resnet50 --over layout,mode": [f"convbench tune smoke {QUICK} --over layout"],
    'convbench profile first -k "rn50 and wgrad"': [
        'convbench profile smoke --backend numpy -k "tiny_1x1 and wgrad"',
        'convbench profile first -k "rn50 and wgrad" --print-command perf',
    ],
    "convbench compare latest~1 latest": [f"convbench run smoke {QUICK}", "convbench compare latest~1 latest"],
    "convbench compare latest published:V100": ["convbench compare latest published:V100"],
    "convbench repro latest CELL --markdown": [f"convbench repro latest {CELL}/cpu/fp32/nhwc/hot/t1 --markdown {NIGHTS}"],
    "convbench export latest --to first.parquet": ["convbench export latest --to first.parquet"],
    "convbench report latest --open": ["convbench report latest --open"],
    "convbench report latest --baseline latest~1": ["convbench report latest --baseline latest~1"],
    "convbench list runs": ["convbench list runs"],
    "convbench nightly nightly": [f"convbench nightly smoke {QUICK} --wait 0s"],
    "convbench schedule install systemd nightly": [
        "convbench schedule install systemd nightly --dry-run",
        "convbench schedule show cron nightly",
        "convbench schedule show github nightly",
        "convbench schedule show kubernetes nightly",
    ],
    "convbench history CELL": [f"convbench history {CELL} {NIGHTS}"],
    "convbench ack CELL --reason TEXT": [f"convbench ack {CELL} --reason TEXT {NIGHTS}"],
    "convbench --version": ["convbench --version"],
    "convbench doctor": ["convbench doctor"],
    "pytest --convbench first --benchmark-json=out.json": [
        "pytest --convbench smoke --convbench-backend numpy -k tiny_1x1 --benchmark-max-time=0.01 --benchmark-json=out.json",
    ],
    "convbench import out.json": ["convbench import out.json"],
}
# Exit codes beside 0, where they are the machine's affair, or numpy's, which nothing watches.
RIGHT = {"compare": (0, 4), "nightly": (0, 3, 4, 5), "profile": (0, 5)}
IN_PYTHON = {
    '"first", backend=["torch"]': '"smoke", backend=["numpy"]',
    'keyword="rn50"': 'keyword="tiny"',
    "results/runs/20261101T030000-first-a1b2": "OLDER",
    # No framework is installed there, so that there is no model.
    'harness.capture(model, (8, 3, 224, 224)).write("suites/mine.toml")': "harness.capture",
}
TIMEOUT_S = 600


def fenced(language: str) -> str:
    """The README's first block in that language."""
    return README.partition(f"```{language}\n")[2].partition("```")[0]


def commands() -> list[str]:
    """Every command of the README's list of what one can do, in its order."""
    block = README.partition("## What you can do")[2].partition("```\n")[2].partition("```")[0]
    return [first or within for first, within in COMMAND.findall(block)]


def test_every_command_of_the_readme_is_run_by_the_test_of_installed_wheels() -> None:
    assert commands() == list(INSTEAD)
    assert [old for old in IN_PYTHON if old not in fenced("python")] == []


class Place:
    """A fresh environment with the wheel, and an empty folder to work from."""

    def __init__(self, root: Path, wheel: Path, constraints: list[str]) -> None:
        self.folder, self.bin = root / "empty", root / "venv" / "bin"
        self.folder.mkdir()
        venv.create(root / "venv", with_pip=True, symlinks=True)
        (root / "constraints.txt").write_text("\n".join(constraints) + "\n")
        kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        # No browser is opened, and no home directory is written to.
        self.environ = {**kept, "PATH": f"{self.bin}:/usr/bin:/bin", "HOME": str(root), "TMPDIR": str(root), "BROWSER": "true"}
        self.environ["CONVBENCH_LOCK"] = str(root / "convbench.lock")
        said = self.run(
            "pip", "install", "--quiet", "--constraint", str(root / "constraints.txt"), f"convbench[pytest] @ {wheel.as_uri()}"
        )
        assert said.returncode == 0, said.stderr

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            words, cwd=self.folder, env=self.environ, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )

    def cut_off(self) -> None:
        """A run that is killed once its first cell is told."""
        words = shlex.split("convbench run smoke --backend numpy --no-ceilings -k tiny_1x1")
        with subprocess.Popen(words, cwd=self.folder, env=self.environ, stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr is not None
            assert any(line.startswith("[1/") for line in process.stderr)
            process.send_signal(signal.SIGKILL)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tree = copied(tmp_path_factory.mktemp("tree"))
    return built("wheel", tree, tree / "wheel")


@pytest.mark.fault("the environment is fresh, its versions the lowest or the newest", "every command of the README runs")
@pytest.mark.long
@pytest.mark.parametrize("versions", ["lowest", "newest"])
def test_every_command_of_the_readme_runs_in_a_fresh_environment_from_an_empty_folder(
    versions: str, wheel: Path, tmp_path: Path
) -> None:
    place = Place(tmp_path, wheel, lower_bounds.constraints() if versions == "lowest" else [])
    (place.folder / "mine.toml").write_text(fenced("toml"))
    (place.folder / "layers.log").write_text("--conv --dir=FWD_D mb1ic2ih8oc3oh8kh3ph1\n")
    shutil.copytree(ROOT / "results" / "samples" / "short-nights", place.folder / "nights")
    wrong = []
    for command, instead in INSTEAD.items():
        if "--resume" in command:
            place.cut_off()
        for words in instead:
            said = place.run(*shlex.split(words))
            if said.returncode not in RIGHT.get(words.split()[1], (0,)) or "Traceback" in said.stdout + said.stderr:
                wrong.append(f"{words}: exit code {said.returncode}\n{said.stdout[-500:]}{said.stderr[-2000:]}")
    assert wrong == [], "\n".join(wrong)
    assert (place.folder / "first.parquet").is_file()

    code = fenced("python")
    for old, new in IN_PYTHON.items():
        code = code.replace(old, new)
    older = place.run("convbench", "run", "smoke", *shlex.split(QUICK), "--no-report").stdout.splitlines()[-1]
    said = place.run("python", "-c", code.replace("OLDER", f"results/runs/{older}"))
    assert said.returncode == 0, said.stderr
    assert "</html>" in (place.folder / "wgrad.html").read_text()
