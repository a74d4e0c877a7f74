"""Frozen dataclasses to plain JSON data and back, by their type hints: what the wire, the journal and run.json share.

Knows dataclasses, StrEnums, tuples, optional and union members, dicts with text keys, datetimes and the JSON scalars.
A union of dataclasses is told apart by the names of the fields. Nothing here is lenient: data that does not fit its
type raises ValueError, and so does whatever else a file from elsewhere may hold in the place of JSON.
"""

import dataclasses
import functools
import json
import math
import os
import re
import reprlib
import stat
import types
import typing
from datetime import UTC, datetime
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

_SCALARS = (int, float, str, bool, type(None))
_LARGEST = 2**63  # what a column of a table can hold, and thereby any whole number here
# The times that a table can hold, in UTC and in ns, with room to count on from the last of them.
EARLIEST, LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)

_HALF_ESCAPED = re.compile(r"\\u[dD][89a-fA-F]")  # an escape of half a surrogate pair; its other half may follow
_HALF = re.compile("[\ud800-\udfff]")
_SHOWN = reprlib.Repr()
_SHOWN.maxlevel, _SHOWN.maxdict, _SHOWN.maxlist, _SHOWN.maxstring, _SHOWN.maxlong = 2, 3, 4, 80, 60


def encode(value: Any) -> Any:
    """Plain JSON data (dicts, lists, scalars) for a dataclass or any member of one."""
    if type(value) in _SCALARS:  # first, because a record is mostly numbers
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: encode(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, list | tuple | frozenset):
        return [encode(item) for item in value]
    if isinstance(value, dict):
        return {key: encode(item) for key, item in value.items()}
    return value


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind)


def _shown(data: Any) -> str:
    """Foreign data in a few words: a message about a file must not hold all of it, nor follow it as deep as it goes."""
    return _SHOWN.repr(data)


def _expect(kind: type, data: Any, words: str) -> None:
    if not isinstance(data, kind):
        raise ValueError(f"expected {words}, found {_shown(data)}")


def _decode_dataclass(kind: Any, data: Any) -> Any:
    _expect(dict, data, f"an object for {kind.__name__}")
    hints = _hints(kind)
    if unknown := data.keys() - hints.keys():
        raise ValueError(f"{kind.__name__}: unknown field {_shown(min(unknown))}")
    values = {}
    for name, item in data.items():
        try:
            values[name] = decode(hints[name], item)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    try:
        return kind(**values)
    except (TypeError, ArithmeticError) as error:  # a required field is missing, or its own rules cannot be computed
        raise ValueError(f"{kind.__name__}: {error}") from None


def _decode_union(members: tuple[Any, ...], data: Any) -> Any:
    if data is None and type(None) in members:
        return None
    concrete = [member for member in members if member is not type(None)]
    if len(concrete) == 1:
        return decode(concrete[0], data)
    for member in concrete:
        if dataclasses.is_dataclass(member) and isinstance(data, dict) and data.keys() == _hints(member).keys():  # type: ignore[arg-type]
            return decode(member, data)
    raise ValueError(f"no member of {members} fits {_shown(data)}")


def _decode_datetime(data: Any) -> datetime:
    """A moment with its zone, since only such can be compared with others, that any table can hold."""
    _expect(str, data, "a date and time")
    moment = datetime.fromisoformat(data)
    if moment.tzinfo is None:
        raise ValueError(f"expected a time with its zone, found {_shown(data)}")
    if not EARLIEST <= moment <= LATEST:
        raise ValueError(f"expected a time of the years {EARLIEST.year} to {LATEST.year}, found {_shown(data)}")
    return moment


def _decode_scalar(kind: Any, data: Any) -> Any:
    if kind is float and type(data) is int:
        if not -_LARGEST <= data < _LARGEST:
            raise ValueError(f"expected a number within 64 bits, found {_shown(data)}")
        return float(data)
    if type(data) is not kind:
        raise ValueError(f"expected {kind.__name__}, found {_shown(data)}")
    if type(data) is int and not -_LARGEST <= data < _LARGEST:
        raise ValueError(f"expected a whole number within 64 bits, found {_shown(data)}")
    return data


def decode(kind: type[T] | Any, data: Any) -> T | Any:
    """The value of type `kind` that `encode` turned into `data`. Raises ValueError where they do not fit."""
    if kind in _SCALARS and kind is not type(None):  # first, because a record is mostly numbers
        return _decode_scalar(kind, data)
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        return _decode_union(typing.get_args(kind), data)
    if origin is tuple:
        _expect(list, data, "a list")
        members = typing.get_args(kind)
        if len(members) == 2 and members[1] is Ellipsis:
            return tuple(decode(members[0], item) for item in data)
        if len(members) != len(data):
            raise ValueError(f"expected {len(members)} items, found {_shown(data)}")
        return tuple(decode(member, item) for member, item in zip(members, data, strict=True))
    if origin is dict:
        _expect(dict, data, "an object")
        return {key: decode(typing.get_args(kind)[1], item) for key, item in data.items()}
    if dataclasses.is_dataclass(kind):
        return _decode_dataclass(kind, data)
    if isinstance(kind, type) and issubclass(kind, Enum):
        _expect(str, data, f"a {kind.__name__}")
        try:
            return kind(data)
        except ValueError:
            raise ValueError(f"{_shown(data)} is not a valid {kind.__name__}") from None
    return _decode_datetime(data) if kind is datetime else data


def dumps(value: Any) -> str:
    """JSON text on one line."""
    return json.dumps(encode(value))


def loads(kind: type[T] | Any, text: str | bytes) -> T | Any:
    """The value of type `kind` behind JSON text. Raises ValueError where they do not fit."""
    return decode(kind, parse(text))


def parse(text: str | bytes, *, finite: bool = False) -> Any:
    """What JSON text from elsewhere says, as dicts, lists and scalars. Raises ValueError for all that can be wrong with it.

    Half a surrogate pair, which no UTF-8 may hold and no table takes, becomes U+FFFD. With `finite` a number that is none, or
    has no end, is wrong too: Python writes and reads them, other programs and most figures do not.
    """
    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8-sig")  # strictly, where json.loads would let halves of surrogate pairs pass
        data = json.loads(text, parse_constant=_finite, parse_float=_finite) if finite else json.loads(text)
        halves = ("\\u" in text and _HALF_ESCAPED.search(text)) or (not text.isascii() and _HALF.search(text))
        return _whole(data) if halves else data
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except MemoryError:
        raise ValueError("it takes more memory than there is") from None


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"expected a number with an end, found {text[:30]}")
    return number


def _whole(data: Any) -> Any:
    """The same data with no half of a surrogate pair in any text."""
    if isinstance(data, str):
        return _HALF.sub("\ufffd", data)
    if isinstance(data, list):
        return [_whole(item) for item in data]
    return {_whole(key): _whole(item) for key, item in data.items()} if isinstance(data, dict) else data


def read(path: str | Path) -> bytes:
    """What a regular file holds. Raises OSError where it cannot be read, ValueError for what is no file: a pipe, a device."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # else a pipe is waited for
    with open(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError("it is no file")
        try:
            return file.read()
        except MemoryError:
            raise ValueError("it takes more memory than there is") from None
