"""The page on bug reports: its commands are commands, its links lead somewhere, and a stored run gives what it promises."""

import ast
import csv
import re
import shlex
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from harness.cli import app

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "bug-report.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^(convbench .+?)(?: > report\.py)?(?: {2,}.*)?$", PAGE.partition("```\n")[2].partition("```")[0], re.M)
ISSUE = ROOT / "docs" / "examples" / "issue.sh"
TEN = re.findall(r"^(convbench .+?)(?: > [a-z.]+)?$", ISSUE.read_text(encoding="utf-8"), re.M)
SAMPLE = str(ROOT / "results" / "samples" / "first-cpu-2-cores")


@pytest.mark.parametrize("command", [*COMMANDS, *TEN])
def test_its_commands_have_the_options_that_it_names(command: str) -> None:
    group = typer.main.get_command(app)
    words = shlex.split(command)[1:]
    with group.make_context("convbench", words) as context:
        name, found, rest = group.resolve_command(context, words)
        assert found.make_context(name, rest).params


def test_it_has_the_whole_way() -> None:
    assert {shlex.split(command)[1] for command in COMMANDS} == {"doctor", "run", "show", "repro"}


def test_links_lead_somewhere() -> None:
    targets = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", PAGE)
    assert targets
    assert [target for target in targets if not (ROOT / "docs" / target).exists()] == []
    assert "## One shape without a file" in (ROOT / "suites" / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("backend", ["torch", "jax", "tensorflow"])
@pytest.mark.parametrize("direction", ["fprop", "dgrad", "wgrad"])
def test_a_run_that_is_older_than_scripts_gives_one_too(backend: str, direction: str) -> None:
    said = CliRunner().invoke(app, ["repro", SAMPLE, "-k", f"rn50_res2_3x3/{direction}/{backend}/eager"])
    assert said.exit_code == 0, said.output
    assert ast.parse(said.stdout)
    assert f"rn50_res2_3x3/{direction}/{backend}" in said.stdout


def test_the_model_of_the_issue_has_the_layers_that_its_commands_name(tmp_path: Path) -> None:
    pytest.importorskip("jax")
    model = str(ROOT / "docs" / "examples" / "grouped_net.py")
    said = CliRunner().invoke(app, ["capture", f"{model}:build", "--framework", "jax", "--out", str(tmp_path / "net.toml")])
    assert said.exit_code == 0, said.output
    with (tmp_path / "shapes" / "net.csv").open() as file:
        rows = {row["name"]: row for row in csv.DictReader(line for line in file if not line.startswith("#"))}
    assert list(rows) == ["stem", "dense", "grouped", "expand"]
    assert {name: row["groups"] for name, row in rows.items()} == {"stem": "1", "dense": "1", "grouped": "8", "expand": "1"}
    assert rows["stem"]["count_dgrad"] == "0"
    for size in ("n", "c", "k", "spatial", "kernel", "stride", "pad_lo", "pad_hi"):
        assert rows["dense"][size] == rows["grouped"][size]
    assert len(TEN) == 9  # and the program
