"""scripts/lower_bounds.py: what it pins, and what it refuses."""

from pathlib import Path

import pytest

from scripts import lower_bounds

PROJECT = """
[project]
name = "some"
dependencies = ["plain>=1.2", "Dotted.Name[extra]>=3,<4", {more}]
[project.optional-dependencies]
own = ["framework>=5"]
all = ["some[own]"]
dev = ["tool", "linter>=1"]
"""


def test_each_dependency_stands_at_its_lower_bound_and_the_rest_as_it_was_tested(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(PROJECT.format(more=""))
    (tmp_path / "constraints.txt").write_text("# tested\nplain==9\nplain_core==8\ndotted-name==7\nbeneath==6\nlinter==5\n")
    found = lower_bounds.constraints(tmp_path)
    assert found == ["plain==1.2", "dotted-name==3", "framework==5", "beneath==6", "linter==5"]


@pytest.mark.parametrize("requirement", ["bare", "capped<2", "pinned==1"])
def test_a_dependency_without_a_lower_bound_is_refused(tmp_path: Path, requirement: str) -> None:
    (tmp_path / "pyproject.toml").write_text(PROJECT.format(more=f'"{requirement}"'))
    (tmp_path / "constraints.txt").write_text("")
    with pytest.raises(SystemExit, match=f"'{requirement}' has no lower bound"):
        lower_bounds.constraints(tmp_path)


@pytest.mark.fault("a dependency has no lower bound", "it is refused")
def test_every_dependency_of_this_project_has_a_lower_bound() -> None:
    pins = dict(line.split("==") for line in lower_bounds.constraints())
    assert {"pandas", "typer", "pytest", "torch", "click"} <= set(pins)
