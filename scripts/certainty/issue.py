"""The way from a model to the text of an issue, for real: the commands of docs/examples/issue.sh, and what each printed."""

import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scripts.certainty.place import FAILED, HERE, Place

ROOT = HERE.parents[1]
EXAMPLES = ROOT / "docs" / "examples"
MODEL, COMMANDS = EXAMPLES / "grouped_net.py", EXAMPLES / "issue.sh"
WIDTH = 120  # of what a line of the page shows


def commands() -> list[str]:
    """The commands, one after the other."""
    return [line for line in COMMANDS.read_text().splitlines() if line and not line.startswith("#")]


def made(place: Place) -> dict[str, Any]:
    """Each command with what it printed, and the files that they leave. Raises SystemExit where one fails."""
    shutil.copy(MODEL, place.folder / "net.py")
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    environ = {"PATH": path, "PYTHONPATH": str(ROOT)}
    said = []
    for command in commands():
        measures = " run " in command or " profile " in command
        asked = f"{command} --quick" if place.tries and " run " in command else command
        printed = place.started(["bash", "-c", asked], environ, good=(0, FAILED) if measures else (0,))
        said.append({"command": command, "printed": printed})
    files = {name: (place.folder / name).read_text() for name in ("report.py", "issue.md")}
    return {"commands": said, **files}


def sections(found: Mapping[str, Any]) -> dict[str, list[str]]:
    """What each command printed, as Markdown by the section `issue-N` that it belongs in.

    Of what `doctor` finds there is a line each, but for what is fine; of the program its head, and in the text of the issue
    three dots for the program.
    """
    told = {}
    for number, of in enumerate(found["commands"], start=1):
        printed = of["printed"]
        if of["command"] == "convbench doctor":
            printed = "\n".join([*found_lines(printed), "..."])
        elif of["command"].endswith("> report.py"):
            printed = f"{found['report.py'].partition('import os')[0].rstrip()}\n..."
        elif of["command"].endswith("> issue.md"):
            printed = without_program(found["issue.md"])
        lines = [line.rstrip() for line in printed.rstrip().splitlines()]
        told[f"issue-{number}"] = ["````", f"$ {of['command']}", *lines, "````"]
    return told


def found_lines(printed: str) -> list[str]:
    """The first line of each finding in the table of `doctor` that is not fine, cut to WIDTH."""
    first = [line.rstrip() for line in printed.splitlines() if line.split("│")[0].strip() in ("blocking", "warning", "note")]
    return [line if len(line) <= WIDTH else f"{line[: WIDTH - 1]}…" for line in first]


def without_program(issue: str) -> str:
    """The text of an issue with three dots in the place of its program."""
    head, fence, rest = issue.partition("```python\n")
    return f"{head}{fence}...\n```{rest.partition('```')[2]}" if fence else issue
