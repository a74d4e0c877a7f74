"""How a worker is started: by this interpreter, or by a foreign one, which is shown this package and nothing else from here."""

import atexit
import functools
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

# Before anything of this package is imported, which an older Python could not even read. Without -P, which it does not know.
_BEGIN = """import sys
if sys.version_info < (3, 11):
    sys.exit("convbench needs Python 3.11 or newer, and this is %d.%d" % tuple(sys.version_info[:2]))
import runpy
runpy.run_module("MODULE", run_name="__main__", alter_sys=True)
"""
_OURS = ("PYTHONHOME", "PYTHONEXECUTABLE", "VIRTUAL_ENV")  # they say where this interpreter has its packages


def command(python: str | None, module: str = "harness.isolate.worker") -> list[str]:
    """What starts a module of this package as a program, but for its arguments: a worker, unless another one is named.

    `python` is the path of a foreign interpreter; None: this one.
    """
    if python:
        return [python, "-c", _BEGIN.replace("MODULE", module)]
    # -P: a numpy.py in the user's folder must not shadow anything.
    return [sys.executable or "", "-P", "-m", module]


def environ(python: str | None, own: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment variables of a worker: for a foreign interpreter those of this process that cannot mislead it."""
    if not python:
        return dict(own)
    kept = {name: value for name, value in own.items() if name not in _OURS}
    return {**kept, "PYTHONPATH": _shown(), "PYTHONNOUSERSITE": "1", "PYTHONSAFEPATH": "1"}


@functools.cache
def _shown() -> str:
    """A temporary folder that holds a link to this package and nothing else; it is removed when this process ends."""
    folder = tempfile.mkdtemp(prefix="convbench-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    Path(folder, "harness").symlink_to(Path(__file__).absolute().parents[1], target_is_directory=True)
    return folder


def hidden(text: str, python: str | None) -> str:
    """The text without the path of a foreign interpreter and that of its environment: rows and logs are shown to others."""
    if not python:
        return text
    path = Path(os.path.abspath(python))
    text = text.replace(str(path), "its interpreter")
    folder = path.parent.parent
    if path.parent.name == "bin" and folder != Path(folder.anchor):
        text = text.replace(str(folder), "(its environment)")
    return text


def outside(module: str) -> bool:
    """Whether an imported module was loaded from outside the prefixes of this interpreter: it is another one's then."""
    file = getattr(sys.modules.get(module), "__file__", None)
    if not file:
        return False
    prefixes = {sys.prefix, sys.exec_prefix, sys.base_prefix}
    return not any(Path(os.path.abspath(file)).is_relative_to(os.path.abspath(prefix)) for prefix in prefixes)
