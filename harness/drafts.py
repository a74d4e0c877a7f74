"""Files that are whole or not there: written beside their place under a name of their own, then renamed into it.

A draft's name cannot be guessed and is never followed where it is a link (O_EXCL, O_NOFOLLOW), so that writing into a folder
that somebody else filled overwrites nothing outside of it.
"""

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_SUFFIX = ".draft"


@contextlib.contextmanager
def replacing(path: Path, *, sync: bool = False) -> Iterator[BinaryIO]:
    """A new file to write into; it takes the place of `path` when the block ends, and is gone where the block raises.

    With `sync` its content is on the disk before it gets the name, which a power cut may otherwise leave on an empty file.
    """
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}{_SUFFIX}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
    try:
        with open(descriptor, "wb") as file:
            yield file
            if sync:
                file.flush()
                os.fsync(descriptor)
        draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def write(path: Path, text: str, *, sync: bool = False) -> None:
    """Put a text, as UTF-8, in the place of `path`: at any moment the old content is there, or the new one."""
    with replacing(path, sync=sync) as file:
        file.write(text.encode())


def sweep(folder: Path) -> None:
    """Remove the drafts that processes left in a folder when they were killed. Nobody may be writing there meanwhile."""
    for draft in folder.glob(f".*{_SUFFIX}"):
        draft.unlink(missing_ok=True)
