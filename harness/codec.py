"""Frozen dataclasses to plain JSON data and back, by their type hints: what the wire, the journal and run.json share.

Knows dataclasses, StrEnums, tuples, optional and union members, dicts with text keys, datetimes and the JSON scalars.
A union of dataclasses is told apart by the names of the fields. Nothing here is lenient: data that does not fit its
type raises ValueError.
"""

import dataclasses
import functools
import json
import types
import typing
from datetime import datetime
from enum import Enum
from typing import Any, TypeVar

T = TypeVar("T")

_SCALARS = (int, float, str, bool, type(None))


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


def _expect(kind: type, data: Any, words: str) -> None:
    if not isinstance(data, kind):
        raise ValueError(f"expected {words}, found {data!r}")


def _decode_dataclass(kind: Any, data: Any) -> Any:
    _expect(dict, data, f"an object for {kind.__name__}")
    hints = _hints(kind)
    if unknown := data.keys() - hints.keys():
        raise ValueError(f"{kind.__name__}: unknown field {sorted(unknown)[0]!r}")
    try:
        return kind(**{name: decode(hints[name], item) for name, item in data.items()})
    except TypeError as error:  # a required field is missing
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
    raise ValueError(f"no member of {members} fits {data!r}")


def decode(kind: type[T] | Any, data: Any) -> T | Any:
    """The value of type `kind` that `encode` turned into `data`. Raises ValueError where they do not fit."""
    if type(data) is kind and kind in _SCALARS:  # first, because a record is mostly numbers
        return data
    origin = typing.get_origin(kind)
    if origin in (typing.Union, types.UnionType):
        return _decode_union(typing.get_args(kind), data)
    if origin is tuple:
        _expect(list, data, "a list")
        members = typing.get_args(kind)
        if len(members) == 2 and members[1] is Ellipsis:
            return tuple(decode(members[0], item) for item in data)
        if len(members) != len(data):
            raise ValueError(f"expected {len(members)} items, found {data!r}")
        return tuple(decode(member, item) for member, item in zip(members, data, strict=True))
    if origin is dict:
        _expect(dict, data, "an object")
        return {key: decode(typing.get_args(kind)[1], item) for key, item in data.items()}
    if dataclasses.is_dataclass(kind):
        return _decode_dataclass(kind, data)
    if isinstance(kind, type) and issubclass(kind, Enum):
        return kind(data)
    if kind is datetime:
        _expect(str, data, "a date and time")
        return datetime.fromisoformat(data)
    if kind is float and isinstance(data, int) and not isinstance(data, bool):
        return float(data)
    if kind in (int, float, str, bool) and type(data) is not kind:
        raise ValueError(f"expected {kind.__name__}, found {data!r}")
    return data


def dumps(value: Any) -> str:
    """JSON text on one line."""
    return json.dumps(encode(value))


def loads(kind: type[T] | Any, text: str) -> T | Any:
    """The value of type `kind` behind JSON text. Raises ValueError where they do not fit."""
    return decode(kind, json.loads(text))
