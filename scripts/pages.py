"""What scripts/fidelity and scripts/fuzz.py do alike: name the machine, and keep tables in a page of docs/."""

import platform
import time
from pathlib import Path


def machine() -> str:
    """CPU, cores, Python, the frameworks' versions and the day, in one sentence."""
    from harness.measure.environment import describe

    here = describe("", ("torch", "tensorflow", "jax"))
    versions = ", ".join(f"{name} {version}" for name, version in here.packages.items())
    day = time.strftime("%Y-%m-%d", time.gmtime())
    return f"{here.cpu}, {here.cores} cores, {platform.system()}; {here.python}; {versions}; {day}."


def keep(path: Path, section: str, lines: list[str]) -> None:
    """Replace what stands between the section's two marker comments."""
    text = path.read_text()
    begin, end = f"<!-- {section}: begin -->\n", f"<!-- {section}: end -->"
    head, rest = text.split(begin)
    _, tail = rest.split(end)
    path.write_text(head + begin + "\n".join(lines) + "\n" + end + tail)
