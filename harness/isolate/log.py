"""What a worker prints: kept in a file of its backend, at most so much of it, and quoted where the worker died.

The file is cut whenever the worker says something (at each step of the engine, about once a second while it samples, after each
record), since nobody may look while the clock runs. What is printed in between is bounded by the disk and the timeout alone.
"""

import contextlib
import os
import re
from collections.abc import Callable
from pathlib import Path

from harness import drafts
from harness.plain import plain

LIMIT_BYTES = 16 * 2**20
_KEPT_BYTES = 2**20
_QUOTED_BYTES = 2**16
_QUOTED_LETTERS = 200

# What differs from one time to the next and says nothing: dates, process ids, and the places in the source that glog and absl
# print ("2026-11-29 18:04:01.123456: E external/a.cc:12] ", "I0000 00:00:1764439441.123456    1234 a.cc:12] ", "[W1129 ... ").
_PREFIX = re.compile(
    r"^(?:"
    r"\[?[IWEF]\d{4} \d\d:\d\d:[\d.]+ +(?:\d+ )?\S+:\d+\] *"
    r"|\d{4}-\d\d-\d\d[ T]\d\d:\d\d:\d\d(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d)?:? *(?:[IWEF] \S+:\d+\] *)?(?:- +)?"
    r"|==\d+== *"
    r"|\[?\w+\[\d+\]: *"
    r")"
)
_NO_NEWS = re.compile(r"^WARNING: All log messages before absl::InitializeLog\(\) is called are written to STDERR$")


class Log:
    """The file of one backend's output, and where in it that begins which is quoted."""

    def __init__(self, path: Path) -> None:
        """Raises OSError where the file cannot be opened, or is a link to another place."""
        self._open = drafts.appending(path)
        self._file = self._open.fileno()
        self._begin = 0
        self.mark()

    def fileno(self) -> int:
        """What a worker writes to; it appends, so that cutting the file does not leave a hole."""
        return self._file

    def mark(self) -> None:
        """Quote nothing of what stands there now: it was printed by other workers, or for another cell."""
        self._begin = os.fstat(self._file).st_size

    def cut(self) -> None:
        """Keep the last of a file that has become too large."""
        size = os.fstat(self._file).st_size
        if size <= LIMIT_BYTES:
            return
        with contextlib.suppress(OSError):  # a full disk: there is room again, which was the purpose
            kept = os.pread(self._file, _KEPT_BYTES, size - _KEPT_BYTES)
            os.ftruncate(self._file, 0)
            os.write(self._file, kept)
        self._begin = max(0, self._begin - (size - _KEPT_BYTES))

    def last_line(self) -> str:
        """The last line since the mark that says something, made harmless; empty where there is none."""
        size = os.fstat(self._file).st_size
        begin = max(self._begin, size - _QUOTED_BYTES)
        printed = os.pread(self._file, max(size - begin, 0), begin).decode(errors="replace")
        lines = (plain(_PREFIX.sub("", line)).strip() for line in reversed(printed.splitlines()) if not _NO_NEWS.match(line))
        return next(filter(None, lines), "")[:_QUOTED_LETTERS]

    def hide(self, told: Callable[[str], str]) -> None:
        """Put in place of what stands there what `told` makes of it, where that is something else; nobody prints meanwhile."""
        printed = os.pread(self._file, LIMIT_BYTES, 0)
        instead = told(printed.decode(errors="surrogateescape")).encode(errors="surrogateescape")
        if instead != printed:
            with contextlib.suppress(OSError):  # a full disk
                os.ftruncate(self._file, 0)
                os.write(self._file, instead)

    def close(self) -> None:
        """Let go of the file; the worker has one of its own."""
        self._open.close()
