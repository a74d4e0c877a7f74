"""Files that are whole or not there: written beside their place under a name of their own, then renamed into it.

A draft's name cannot be guessed and is never followed where it is a link (O_EXCL, O_NOFOLLOW), so that writing into a folder
that somebody else filled overwrites nothing outside of it. What only grows, a journal or a log, is not followed either.
"""

import contextlib
import errno
import fcntl
import os
import secrets
import stat
from collections.abc import Iterator
from io import BufferedRandom
from pathlib import Path
from typing import BinaryIO

_SUFFIX = ".draft"
_LONGEST = 100  # bytes of the name in its draft's: the whole must stay under the 255 of a file system


@contextlib.contextmanager
def replacing(path: Path, *, sync: bool = False, mode: int | None = None) -> Iterator[BinaryIO]:
    """A new file to write into; it takes the place of `path` when the block ends, and is gone where the block raises.

    With `sync` its content is on the disk before it gets the name, which a power cut may otherwise leave on an empty file.
    `mode` are its permissions, by default those of any new file.
    """
    with _named(path):
        draft, descriptor = _draft(path)
        try:
            with open(descriptor, "wb") as file:
                if mode is not None:
                    os.fchmod(descriptor, mode)
                yield file
                file.flush()
                if sync:
                    os.fsync(descriptor)
                draft.replace(path)  # while the lock on it tells `sweep` that somebody is here
        except BaseException:
            draft.unlink(missing_ok=True)
            raise


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """Have what the system refuses told of `path`, where it is told of no file (the disk is full) or of the draft."""
    try:
        yield
    except OSError as error:
        if not error.strerror or not (error.filename is None or str(error.filename).endswith(_SUFFIX)):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


def _draft(path: Path) -> tuple[Path, int]:
    """A new draft beside `path`, open for writing and locked."""
    name = os.fsdecode(os.fsencode(path.name)[:_LONGEST])
    while True:
        draft = path.with_name(f".{name}.{secrets.token_hex(4)}{_SUFFIX}")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:  # else it was swept before it was locked
            return draft, descriptor
        os.close(descriptor)


def write(path: Path, text: str, *, sync: bool = False) -> None:
    """Put a text, as UTF-8, in the place of `path`: at any moment the old content is there, or the new one."""
    with replacing(path, sync=sync) as file:
        file.write(text.encode())


@contextlib.contextmanager
def delivering(path: Path) -> Iterator[BinaryIO]:
    """A file to write into at a place that a user named: whole in the end, with the permissions of the one it replaces.

    A user's own link is followed, and stays. What is no regular file, such as a pipe or a terminal, and a file that a process
    has open, such as /dev/stdout, are written directly.
    """
    try:
        status = path.stat()
    except FileNotFoundError:
        status = None
    opened = path.absolute().parts[1:2] in (("dev",), ("proc",))
    if status and (opened or not stat.S_ISREG(status.st_mode)):
        with path.open("wb") as file:  # by the name given: a pipe has no other
            yield file
        return
    with replacing(path.resolve(), mode=stat.S_IMODE(status.st_mode) if status else None) as file:
        yield file


def deliver(path: Path, text: str) -> None:
    """Put a text, as UTF-8, at a place that a user named, whose folder is made if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with delivering(path) as file:
        file.write(text.encode())


def appending(path: Path) -> BufferedRandom:
    """A file open for appending and reading, made if need be. Raises OSError where a link or no regular file stands there."""
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags, 0o666)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise OSError(f"{path} is a link, and is not written through") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(f"{path} is no regular file")
    return open(descriptor, "a+b")


def sweep(folder: Path) -> None:
    """Remove the drafts that processes left in a folder when they were killed, but none that is being written."""
    for draft in folder.glob(f".*{_SUFFIX}"):
        with contextlib.suppress(OSError):  # somebody else's, being written, or gone by now
            descriptor = os.open(draft, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                draft.unlink(missing_ok=True)
            finally:
                os.close(descriptor)
