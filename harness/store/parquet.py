"""Parquet files that tell when they are damaged, which those of Arrow do not: a bit that flipped may be another figure.

The pages have checksums, for whoever else reads the file; our own is of all of it, headers and footer too. What stands in a
file is the business of `table` and `nights`.
"""

import contextlib
import io
import re
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from harness import codec, drafts
from harness.plain import plain

# The checksum stands among the metadata, as text of a known length, and is computed with NOTHING in its place. Between the
# name and the text are two bytes of Thrift's compact protocol: a field of bytes, and that there are 8 of them.
_NAME, _NOTHING = b"convbench.crc32", b"0" * 8
_PLACE = re.compile(re.escape(_NAME) + rb"\x18\x08([0-9a-f]{8})")

# What reading a damaged file may raise: Arrow's own errors, and what NumPy and pandas say of impossible content.
_BROKEN = (pa.ArrowException, OSError, LookupError, TypeError, ValueError, ArithmeticError, RuntimeError, MemoryError)


class DamagedError(ValueError):
    """A Parquet file that holds something else than what was written."""


def write(path: Path, table: pa.Table, metadata: Mapping[bytes, bytes]) -> None:
    """Put a table, with more metadata, in the place of `path`: the old file or the new one is there at any moment."""
    known = {**(table.schema.metadata or {}), **metadata, _NAME: _NOTHING}
    content = io.BytesIO()
    pq.write_table(table.replace_schema_metadata(known), content, compression="zstd", write_page_checksum=True)
    whole = content.getbuffer()
    place = _place(whole)
    with drafts.replacing(path) as file:
        file.write(whole[:place])
        file.write(b"%08x" % zlib.crc32(whole))
        file.write(whole[place + len(_NOTHING) :])


def _place(content: "bytes | memoryview") -> int:
    """Where the text of the checksum begins."""
    found = [told.start(1) for told in _PLACE.finditer(content)]
    if not found:
        raise ValueError("it has no checksum")
    return found[-1]  # the metadata are the last of a file; before them a text in a cell may look alike


@contextlib.contextmanager
def reading(path: Path) -> Iterator[pq.ParquetFile | None]:
    """A Parquet file, None where there is none; whatever is wrong with it, or in the block, is a DamagedError.

    It is to be read without Arrow's threads: a process that ends while one of them lives may be aborted after all it had to do
    was done (apache/arrow#34314).
    """
    if not path.is_file():
        yield None
        return
    try:
        content = codec.read(path)
        _verify(content)
        with pq.ParquetFile(pa.BufferReader(content), page_checksum_verification=True) as file:
            yield file
    except _BROKEN as error:
        raise DamagedError(plain(str(error))[:200] or type(error).__name__) from None


def metadata(path: Path) -> Mapping[bytes, bytes] | None:
    """What stands beside the table, by the end of a file alone and without its checksum; None where it cannot be read."""
    if not path.is_file():
        return None
    try:
        return pq.read_schema(path).metadata or {}
    except _BROKEN:
        return None


def _verify(content: bytes) -> None:
    """Raise ValueError where the content is not what its checksum was made of; older files have none."""
    if _NAME not in content:
        return
    place, view = _place(content), memoryview(content)
    rest = view[place + len(_NOTHING) :]
    if zlib.crc32(rest, zlib.crc32(_NOTHING, zlib.crc32(view[:place]))) != int(content[place : place + len(_NOTHING)], 16):
        raise ValueError("it is not what its checksum was made of")
