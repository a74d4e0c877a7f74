"""Which Python interpreter a backend has of its own, as `--python` and `[python]` of a suite name it."""

import os
import re
from collections.abc import Iterable
from pathlib import Path

from harness.ask.wording import show
from harness.axes import LABEL
from harness.errors import SelectionError
from harness.record import AA

_NAME = re.compile(r"[A-Za-z0-9_.+-]+")
_LABEL = re.compile(r"[a-z0-9._-]+")
_ALLOWED = f"NAME or NAME{LABEL}LABEL, the label of a-z 0-9 . _ -, and not {AA}"
ALLOWED = "the path of a Python interpreter, as in env/bin/python"


def checked(name: str, path: object, folder: Path) -> str:
    """The absolute path of the interpreter of a backend, relative to a folder where it is relative. Raises ValueError."""
    backend, at, label = name.partition(LABEL)
    if not _NAME.fullmatch(backend) or bool(at) != bool(_LABEL.fullmatch(label)) or label == AA:
        raise ValueError(f"backend: found {show(name)}; allowed: {_ALLOWED}")
    if not isinstance(path, str) or not path.strip() or "\0" in path:
        raise ValueError(f"{name}: found {show(path)}; allowed: {ALLOWED}")
    return os.path.abspath(folder / Path(path).expanduser())


def unusable(path: str) -> str:
    """Why nothing can be started from a path, as in `is no file`; empty where nothing is known that is in the way."""
    if not os.path.isfile(path):
        return "is no file"
    return "" if os.access(path, os.X_OK) else "may not be executed"


def parse(texts: Iterable[str]) -> dict[str, str]:
    """The paths of interpreters by backend from texts such as `torch@old=PATH`, the form of --python. Raises SelectionError."""
    found: dict[str, str] = {}
    for text in texts:
        name, equals, path = text.partition("=")
        if not equals:
            raise SelectionError(f"--python: found {show(text)}; allowed: NAME=PATH or NAME{LABEL}LABEL=PATH")
        if name in found:
            raise SelectionError(f"--python: {name} is named twice; write NAME{LABEL}LABEL=PATH for the second")
        try:
            found[name] = checked(name, path, Path.cwd())
        except ValueError as error:
            raise SelectionError(f"--python: {error}") from None
    return found
