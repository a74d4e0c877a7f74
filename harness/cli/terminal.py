"""Where text leaves for the terminal. What a framework printed, a store holds or a path is called never steers it from here.

Messages and tables are for people, and always harmless. What is for other programs (CSV, JSON, a path on standard output) is
made harmless where a terminal shows it, and goes out as it is where a file or a program takes it.
"""

import codecs
import contextlib
import errno
import io
import os
import select
import sys
import unicodedata
from typing import Any

from harness.plain import plain

_GONE = (errno.EPIPE, errno.EIO)  # whoever listened has closed the pipe, or the terminal

# What an encoding without these has in their place. "*" is taken by the closing table.
_READABLE = {
    "±": "+/-", "×": "x", "÷": "/", "µ": "u", "−": "-", "–": "-", "—": "-", "·": "-", "…": "...", "→": "->", "←": "<-",
    "●": "#", "○": "o", "•": "-", "≤": "<=", "≥": ">=", "✓": "ok", "▲": "^", "▼": "v", "“": '"', "”": '"', "’": "'",
}  # fmt: skip


def _readable(error: UnicodeError) -> tuple[bytes, int]:
    """What stands for characters that the encoding of a stream lacks, none of which may end a command."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return b"".join(map(_substitute, error.object[error.start : error.end])), error.end


def _substitute(letter: str) -> bytes:
    if "\udc80" <= letter <= "\udcff":  # a byte of a path, which is no text in any encoding: for a program that opens it
        return bytes([ord(letter) - 0xDC00])
    told = _READABLE.get(letter) or unicodedata.normalize("NFKD", letter)
    return told.encode("ascii", "ignore") or b"?"


codecs.register_error("readable", _readable)


def plain_lines(text: str) -> str:
    """A text of several lines, each of them plain."""
    return "\n".join(map(plain, text.replace("\r\n", "\n").split("\n")))


class _Descriptor(io.FileIO):
    """A standard stream that may fail without costing a run its report.

    A reader may go, as that of `convbench ... | head` does; a disk may be full, which `failure` tells in the end.
    """

    lost = False
    failure = ""

    def write(self, data: Any, /) -> int:
        """Write, or drop what can no longer be written."""
        if self.lost:
            return len(data)
        try:
            # None: whoever started us made the stream non-blocking, and its reader is behind.
            while (written := super().write(data)) is None:
                select.select([], [self], [])
            return written
        except OSError as error:
            self.lost = True
            self.failure = "" if error.errno in _GONE else error.strerror or str(error)
            return len(data)


class _Stream(io.TextIOWrapper):
    """A standard stream as everything has it but rich, whose escapes it would take out: that has `styled`."""

    def __init__(self, before: Any, *, harmless: bool) -> None:
        self._descriptor = _Descriptor(before.fileno(), "wb", closefd=False)
        self.harmless = harmless or self._descriptor.isatty()
        super().__init__(io.BufferedWriter(self._descriptor), before.encoding, "readable", line_buffering=before.line_buffering)

    def write(self, text: str) -> int:
        """Write a text, harmless where people read it."""
        super().write(plain_lines(text) if self.harmless else text)
        return len(text)

    @property
    def failure(self) -> str:
        """Why a text could not be written, where that is nobody's wish; empty: none failed. Whoever asks has flushed."""
        return self._descriptor.failure

    @property
    def styled(self) -> "_Styled":
        """The stream for text that has been made harmless, and styled after that."""
        return _Styled(self)


class _Styled:
    """What rich writes to."""

    def __init__(self, stream: _Stream) -> None:
        self.encoding, self.fileno, self.flush, self.isatty = stream.encoding, stream.fileno, stream.flush, stream.isatty
        self._stream = stream

    def write(self, text: str) -> int:
        """Write as it is."""
        return io.TextIOWrapper.write(self._stream, text)


def take_over() -> None:
    """Have every text of this process leave through this room."""
    for number in range(3):  # what whoever started us has closed is opened, so that no file of ours gets its number
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
    for name, harmless in (("stdout", False), ("stderr", True)):
        before = getattr(sys, name)
        if before is None:  # closed by who started us
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115  for as long as the process lives
        elif not isinstance(before, _Stream):
            with contextlib.suppress(io.UnsupportedOperation):  # a stream that is no file belongs to who put it there
                setattr(sys, name, _Stream(before, harmless=harmless))
