"""The files that a suite is made of, read without trusting them: regular ones of a bounded size, tables where they belong."""

import os
import stat
from collections.abc import Iterable
from pathlib import Path

from harness import units

MOST_SUITE_BYTES = 2**18
MOST_TABLE_BYTES = 2**20  # of all tables of a suite together


def read(path: Path, most: int) -> bytes:
    """The content of a regular file of at most that many bytes. Raises ValueError for any other, and waits for none."""
    try:
        with open(path, "rb", opener=_at_once) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):  # a device may never end
                raise ValueError("it is a pipe or a device; allowed: a file")
            data = file.read(most + 1)
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        raise ValueError(f"cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if len(data) > most:
        raise ValueError(f"has more than the {units.size(most)} that are allowed")
    return data


def _at_once(path: str, flags: int) -> int:
    """Opens without waiting for somebody who writes into a pipe, and without a terminal becoming ours."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY)


def find(name: str, folders: Iterable[Path]) -> Path:
    """The file of that name below the first of the folders that has it. Raises ValueError for a name that leads elsewhere."""
    roots = list(folders)
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise ValueError("allowed: a path below the suite's folder, without ..")
    path = next((root / name for root in roots if (root / name).exists()), roots[0] / name)
    if not any(path.resolve().is_relative_to(root.resolve()) for root in roots):
        raise ValueError("leads out of the suite's folder; allowed: a table below it")
    return path
