"""Interpreters of other environments, made without a network: what is needed is linked, or written as an installer would."""

import os
import sys
import sysconfig
import venv
from pathlib import Path

import numpy

# An adapter for a stand-in framework, which computes what the reference does.
STANDIN = """
from harness.backends.numpy import NumpyBackend

__version__ = "{version}"


class Backend(NumpyBackend):
    name = "standin"
    distributions = ("standin",)
"""


def environment(folder: Path, *, packages: tuple[str, ...] = ("numpy",), standin: str = "") -> Path:
    """A fresh environment in this folder: the path of its interpreter.

    `packages` of this environment are linked into it, each with the folders that its installer made beside it. With a version
    it has the stand-in framework `standin` in that version.
    """
    venv.create(folder, with_pip=False, symlinks=True)
    site = Path(sysconfig.get_path("purelib", "venv", {"base": str(folder), "platbase": str(folder)}))
    ours = Path(numpy.__file__).parents[1]
    for package in packages:
        for path in [ours / package, ours / f"{package}.libs", *ours.glob(f"{package}-*.dist-info")]:
            if path.exists():
                (site / path.name).symlink_to(path)
    if standin:
        (site / "standin.py").write_text(STANDIN.format(version=standin))
        metadata = site / f"standin-{standin}.dist-info"
        metadata.mkdir()
        (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: standin\nVersion: {standin}\n")
    return folder / "bin" / "python"


def script(path: Path, *lines: str) -> Path:
    """An executable shell script, which stands for an interpreter."""
    path.write_text("\n".join(["#!/bin/sh", *lines, ""]))
    path.chmod(0o755)
    return path


def old_python(path: Path) -> Path:
    """What stands for Python 3.10: this interpreter, which says so of itself."""
    pretend = "import sys; sys.version_info = (3, 10, 4); code = sys.argv[2]; exec(code)"
    return script(path, 'test "$1" = -c || exit 9', f'exec {sys.executable} -c "{pretend}" "$@"')


def told_of(path: Path, text: str) -> list[str]:
    """The names of the files below a folder that hold a text."""
    found = []
    for folder, _, names in os.walk(path):
        found += [name for name in names if text.encode() in Path(folder, name).read_bytes()]
    return sorted(found)
