#!/usr/bin/env python3
"""Prints constraints for pip: every direct dependency at its lower bound in pyproject.toml, the rest as in constraints.txt.

Needs Python 3.11 and nothing else. A dependency without a bound is a mistake, except the tools of the extra `dev`.
"""

import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENT = re.compile(r"(?P<name>[\w.-]+)(\[[\w,-]+\])?\s*>=\s*(?P<version>[\w.]+)(\s*,.*)?")
DEV = "dev"  # these tools are used as constraints.txt has them, by nobody but the project


def lower_bounds(project: dict) -> Iterator[tuple[str, str]]:
    """Name and lowest version of every dependency. Raises SystemExit where one has no lower bound."""
    extras = project["optional-dependencies"]
    named = (requirement for extra, listed in extras.items() if extra != DEV for requirement in listed)
    for requirement in (*project["dependencies"], *named):
        if requirement.startswith(f"{project['name']}["):
            continue  # an extra that consists of others
        found = REQUIREMENT.fullmatch(requirement)
        if not found:
            raise SystemExit(f"pyproject.toml: {requirement!r} has no lower bound; write {requirement}>=VERSION")
        yield normalized(found["name"]), found["version"]


def normalized(name: str) -> str:
    """One spelling of a distribution's name."""
    return re.sub(r"[-_.]+", "-", name).lower()


def constraints(root: Path = ROOT) -> list[str]:
    """The lines of the file. What bears a dependency's name, as pydantic_core and jaxlib do, is left to that dependency."""
    lowest = dict(lower_bounds(tomllib.loads((root / "pyproject.toml").read_text())["project"]))
    pinned = [line for line in (root / "constraints.txt").read_text().splitlines() if "==" in line]
    others = [line for line in pinned if not normalized(line.partition("==")[0]).startswith(tuple(lowest))]
    return [*(f"{name}=={version}" for name, version in lowest.items()), *others]


if __name__ == "__main__":
    sys.stdout.write("\n".join(constraints()) + "\n")
