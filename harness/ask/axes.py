"""The axes of a suite: their names, their defaults, and how one value of each is written.

A backend is any name here: which ones are installed is not known before a probe, and an absent one is a row, not an error.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any

from harness.ask.wording import LONGEST, not_one_of, show
from harness.axes import (
    OPTIONS,
    Api,
    Autotune,
    Bias,
    Cache,
    Device,
    Direction,
    Epilogue,
    Layout,
    Mode,
    Optimizer,
    Precision,
    Switch,
    Values,
)

# Takes part only where it is named: the reference checks the others and is never ranked among them.
REFERENCE = "numpy"

MOST_VALUES = 1000  # of one axis

BACKEND_NAME = re.compile(r"[A-Za-z0-9_.@+-]+")  # no "/", which separates the axes in a cell's id


@dataclass(frozen=True)
class Axes:
    """The values of every axis. `backend` and `device` are None where they stand open: whatever is installed and present."""

    direction: tuple[Direction, ...] = (Direction.FPROP, Direction.DGRAD, Direction.WGRAD)
    precision: tuple[Precision, ...] = (Precision.FP32,)
    layout: tuple[Layout, ...] = (Layout.CHANNELS_LAST,)
    backend: tuple[str, ...] | None = None
    mode: tuple[Mode, ...] = (Mode.EAGER,)
    optimizer: tuple[Optimizer, ...] = (Optimizer.SGD,)
    device: tuple[Device, ...] | None = None
    threads: tuple[int, ...] = (0,)
    cache: tuple[Cache, ...] = (Cache.HOT,)
    autotune: tuple[Autotune, ...] = (Autotune.DEFAULT,)
    operands: tuple[Values, ...] = (Values.NORMAL,)
    switch: tuple[Switch, ...] = (Switch.DEFAULT,)
    bias: tuple[Bias, ...] = (Bias.NONE,)
    epilogue: tuple[Epilogue, ...] = (Epilogue.NONE,)
    api: tuple[Api, ...] = (Api.DEFAULT,)


NAMES = tuple(field.name for field in fields(Axes))

_KINDS: dict[str, Iterable[StrEnum]] = {
    # none is what a workload is that is no convolution, and nobody's to choose.
    "direction": [direction for direction in Direction if direction.is_convolution],
    "precision": Precision,
    "mode": Mode,
    "optimizer": Optimizer,
    "cache": Cache,
    **{axis: type(option.default) for axis, option in OPTIONS.items()},
}
_VOCABULARY: dict[str, dict[str, Any]] = {
    **{axis: {member.value: member for member in kind} for axis, kind in _KINDS.items()},
    "layout": {layout.text(dims): layout for dims in (2, 1, 3) for layout in Layout},
}  # fmt: skip


def parse(axis: str, value: object) -> Any:
    """The typed value of an axis for its text (or number). Raises ValueError with what was found and what is allowed."""
    if axis == "device":
        try:
            return Device.parse(str(value))
        except ValueError:
            raise ValueError(f"found {show(value)}; allowed: cpu, gpu (the first one), gpu:1 and so on") from None
    if axis == "threads":
        if re.fullmatch("[0-9]{1,6}", str(value)):
            return int(str(value))
        raise ValueError(f"found {show(value)}; allowed: 0 (every core) or a number of threads")
    if axis == "backend":
        if BACKEND_NAME.fullmatch(str(value)):
            return str(value)
        raise ValueError(f"found {show(value)}; allowed: a name of letters, digits and _ . @ + -")
    # Cell ids carry layouts in lower case, so they are taken so as well.
    text = str(value).upper() if axis == "layout" else str(value)
    if text not in _VOCABULARY[axis]:
        raise ValueError(not_one_of(value, _VOCABULARY[axis]))
    return _VOCABULARY[axis][text]


def parse_all(axis: str, values: list[Any] | tuple[Any, ...]) -> tuple[Any, ...]:
    """The typed values of an axis. Raises ValueError for one that is not allowed, or that stands there twice."""
    if not values:
        raise ValueError("found []; allowed: at least one value")
    if len(values) > MOST_VALUES:
        raise ValueError(f"found {len(values)} values; allowed: {MOST_VALUES}")
    parsed = tuple(parse(axis, value) for value in values)
    seen = set()
    for text, value in zip(values, parsed, strict=True):
        if value in seen:
            raise ValueError(f"found {show(text)} twice (as {str(value)[:LONGEST]}); allowed: each value once")
        seen.add(value)
    return parsed
