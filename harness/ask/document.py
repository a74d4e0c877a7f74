"""A suite's TOML as typed tables, nothing more: which tables and keys there are, and of what type. Unknown ones are errors.

Each field's description is the "allowed" of its error message. What a value means (an axis, a shape) is not judged here.
"""

import re
import tomllib
import typing
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError, create_model

from harness.ask import axes
from harness.ask.wording import hint, not_one_of, show
from harness.axes import PASSES
from harness.plan import COMPARED, Budget

MOST_DOTS = 200  # in a line


class Table(BaseModel):
    """Strict: no key that is not listed, no text where a number belongs."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


# No framework indexes further, and a product of such numbers still fits a float.
Index = Annotated[int, Field(le=2**31 - 1)]
Whole = Annotated[int, Field(le=2**31 - 1, description="a whole number below 2^31")]
Sizes = Annotated[list[Index], Field(description="a whole number per dimension, as in [56, 56], below 2^31")]
PerDimension = Annotated[
    Index | list[Index],
    Field(description="a whole number per dimension, as in [3, 3], or one number for all of them, below 2^31"),
]
Padding = Annotated[
    Literal["same", "valid"] | Index | list[Index] | list[Annotated[list[Index], Field(min_length=2, max_length=2)]],
    Field(
        description='"same", "valid" or a [low, high] pair per dimension, as in [[1, 1], [1, 1]]; a number below 2^31 for both '
        "sides, as in [1, 1], or of all dimensions, as in 1"
    ),
]
_Several = Field(min_length=1, max_length=axes.MOST_VALUES)
Texts = Annotated[list[str], _Several, Field(description='a list of at least one text (and at most 1000), as in ["a", "b"]')]
Numbers = Annotated[
    list[int], _Several, Field(description="a list of at least one whole number (and at most 1000), as in [1, 2]")
]
Pick = Annotated[str | Texts, Field(description='a text or a list of texts, as in "a" or ["a", "b"]')]
PickNumber = Annotated[int | Numbers, Field(description="a whole number or a list of them, as in 1 or [1, 2]")]


class SuiteTable(Table):
    """`[suite]`."""

    name: Annotated[str, Field(description="a text")]
    description: Annotated[str, Field(description="a text")] = ""
    compare: Annotated[
        list[Literal["threads", "direction", "workload"]],
        Field(description='a list of "threads", "direction" and "workload": axes along which cells are compared, beside '
                          f"{', '.join(COMPARED)}"),
    ] = []  # fmt: skip
    standard: Annotated[str, Field(description='a label that begins with "pinned"')] = ""


def _table(name: str, keys: dict[str, Any]) -> Any:
    """A table all of whose keys may be left out; `stated` tells which were not, so a default of None never shows."""
    return create_model(name, __base__=Table, **keys)


AxesTable = _table("AxesTable", {name: (Numbers if name == "threads" else Texts, None) for name in axes.NAMES})
ExcludeTable = _table(
    "ExcludeTable",
    {"workload": (Pick, None), **{name: (PickNumber if name == "threads" else Pick, None) for name in axes.NAMES}},
)


# How many of `count` layers have a pass, where that is another number: a first layer has no input gradient.
CountsTable = _table(
    "CountsTable",
    {str(each): (Annotated[int, Field(ge=0, le=10**9, description="a whole number from 0 to 10^9")], None) for each in PASSES},
)


class ConvTable(Table):
    """`[[workload]]`: a convolution by hand; with `transposed` c, k and spatial are those of the transposed one."""

    name: Annotated[str, Field(description="a text")]
    kind: Literal["conv"] = "conv"
    n: Whole
    c: Whole
    k: Whole
    spatial: Sizes
    kernel: PerDimension
    padding: Padding
    stride: PerDimension = 1
    dilation: PerDimension = 1
    groups: Whole = 1
    transposed: Annotated[bool, Field(description="true or false")] = False
    output_padding: PerDimension = 0
    count: Annotated[int, Field(ge=1, le=10**9, description="a whole number from 1 to 10^9")] = 1
    counts: Annotated[
        CountsTable,  # type: ignore[valid-type]
        Field(description="a table of passes, as in { dgrad = 2 }: how many of the layers have them"),
    ] = CountsTable()
    network: Annotated[str, Field(description="a text: the network that this is one of all the convolutions of")] = ""


class GemmTable(Table):
    """`[[workload]]` of kind "gemm": a matrix product, [m, k] times [k, n]."""

    name: Annotated[str, Field(description="a text")]
    kind: Literal["gemm"]
    m: Whole
    n: Whole
    k: Whole


class CopyTable(Table):
    """`[[workload]]` of kind "copy": so many bytes from one buffer to another."""

    name: Annotated[str, Field(description="a text")]
    kind: Literal["copy"]
    nbytes: Annotated[int, Field(le=2**40, description="a whole number of bytes, a multiple of 16 up to 2^40")]


# What a `[[workload]]` may be, by its key `kind`.
KINDS: dict[str, type[Table]] = {"conv": ConvTable, "gemm": GemmTable, "copy": CopyTable}


def _kind(table: Any) -> str | None:
    """The kind that a `[[workload]]` says it is, None where that is no text; what is no table passes for a convolution."""
    kind = table.get("kind", "conv") if isinstance(table, dict) else "conv"
    return kind if isinstance(kind, str) else None


WorkloadTable = Annotated[
    Annotated[ConvTable, Tag("conv")] | Annotated[GemmTable, Tag("gemm")] | Annotated[CopyTable, Tag("copy")],
    Discriminator(_kind),
]

# `set` of `[[workloads_from]]`: keys of a workload that replace what its table says.
SetTable = _table(
    "SetTable",
    {
        name: (kind, None)
        for name, kind in typing.get_type_hints(ConvTable, include_extras=True).items()
        if name in ConvTable.model_fields
        and name not in ("name", "kind", "count", "counts", "network", "transposed", "output_padding")
    },
)


def budget(values: Mapping[str, Any]) -> Budget:
    """A budget with these fields. Raises ValueError for one that is not known, of another type, or out of range."""
    try:
        return Budget(**stated(BudgetTable.model_validate(values)))
    except ValidationError as invalid:
        key = str(invalid.errors()[0]["loc"][0])
        raise ValueError(f"{key}: found {show(values[key])}; allowed: {BudgetTable.model_fields[key].description}") from None


def changes(texts: Mapping[str, str]) -> dict[str, Any]:
    """Keys of `set` as a command line writes them: `n=1`, `spatial=28x28`. Raises ValueError for an unknown or wrong one."""
    raw: dict[str, Any] = {}
    for key, text in texts.items():
        parts = [int(part) if re.fullmatch("[0-9]{1,10}", part) else part for part in text.split("x")]
        raw[key] = parts[0] if len(parts) == 1 and key != "spatial" else parts
    try:
        return stated(SetTable.model_validate(raw))
    except ValidationError as invalid:
        key = str(invalid.errors()[0]["loc"][0])
        if key not in SetTable.model_fields:
            raise ValueError(f"key: {not_one_of(key, SetTable.model_fields)}") from None
        raise ValueError(f"{key}: found {show(texts[key])}; allowed: {SetTable.model_fields[key].description}") from None


class FromTable(Table):
    """`[[workloads_from]]`: shapes out of a CSV table beside the suite."""

    table: Annotated[str, Field(description="the path of a CSV table, relative to the suite's folder")]
    where: Annotated[
        str | None, Field(max_length=1000, description="a text of up to 1000 characters, as in 'n <= 16 and groups == 1'")
    ] = None
    set: Annotated[SetTable, Field(description="a table of a workload's keys, as in { n = 8 }")] = SetTable()  # type: ignore[valid-type]
    network: Annotated[str, Field(description="a text: the network that these rows are all the convolutions of")] = ""
    limit: Annotated[int | None, Field(ge=1, le=10**9, description="a whole number from 1 to 10^9")] = None


# The fields of Budget are listed there and nowhere else.
BudgetTable = _table(
    "BudgetTable",
    {
        name: (
            kind,
            Field(default=None, ge=0, le=10**9, description=f"a {'whole ' if kind is int else ''}number from 0 to 10^9"),
        )
        for name, kind in typing.get_type_hints(Budget).items()
    },
)


class Document(Table):
    """A whole suite."""

    suite: Annotated[SuiteTable, Field(description="a table [suite] with a name")]
    axes: Annotated[AxesTable, Field(description="a table [axes]")] = AxesTable()  # type: ignore[valid-type]
    budget: Annotated[BudgetTable, Field(description="a table [budget]")] = BudgetTable()  # type: ignore[valid-type]
    workload: Annotated[list[WorkloadTable], Field(description="tables headed [[workload]]")] = []
    workloads_from: Annotated[list[FromTable], Field(description="tables headed [[workloads_from]]")] = []
    python: Annotated[
        dict[str, Any], Field(max_length=100, description='a table [python], as in "torch@old" = "old/bin/python"')
    ] = {}
    exclude: Annotated[list[ExcludeTable], Field(description="tables headed [[exclude]]")] = []  # type: ignore[valid-type]


_NESTED: dict[str, type[Table]] = {"set": SetTable, "counts": CountsTable}  # tables within others

# What stands under a top-level key, for the messages; a `[[workload]]` is one of KINDS.
_TABLES: dict[str, type[Table]] = {
    "suite": SuiteTable, "axes": AxesTable, "budget": BudgetTable, "workloads_from": FromTable, "exclude": ExcludeTable,
}  # fmt: skip


def stated(table: Table) -> dict[str, Any]:
    """The keys that the suite itself states, with their values."""
    return table.model_dump(exclude_unset=True)


def parse(text: str) -> Document:
    """The tables of a suite. Raises ValueError, one line, for what is not TOML and for the first key that is wrong."""
    # The library's reader takes time by the square of the parts of a key.
    if any(line.count(".") > MOST_DOTS for line in text.splitlines()):
        raise ValueError(f"is not a suite: a line has more than {MOST_DOTS} dots")
    try:
        raw = tomllib.loads(text)
    except RecursionError:
        raise ValueError("is not TOML: nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"is not TOML: {error}") from None
    try:
        return Document.model_validate(raw)
    except ValidationError as invalid:
        # A key misspelt is also a key missing; the spelling is what helps.
        errors = sorted(invalid.errors(), key=lambda error: error["type"] != "extra_forbidden")
        raise ValueError(_told(raw, errors[0]["type"], errors[0]["loc"])) from None


def heading(table: str, index: int, name: object = None) -> str:
    """How a table of an array is called: `[[workload]] 2 "conv2_3x3"`, counted from 1."""
    return f"[[{table}]] {index + 1}" + (f" {show(name)}" if isinstance(name, str) else "")


def _told(raw: dict[str, Any], problem: str, location: tuple[int | str, ...]) -> str:
    """One line for an error of pydantic's: table, key, what was found and what is allowed."""
    model: type[Table] = Document
    unknown_kind = problem.startswith("union_tag")
    if unknown_kind:
        location = (*location, "kind")
    elif location[0] == "workload" and len(location) > 2:  # (table, index, kind, key, ...): the kind is no key of its own
        location = (*location[:2], *location[3:])
    place, found, rest = [], raw, list(location)
    # (table, key, ...) or (table, index, key, ...); a shorter one is about the table itself.
    depth = 2 if len(rest) > 1 and isinstance(rest[1], int) else 1
    if len(rest) > depth:
        table, index = str(rest[0]), rest[1]
        found, rest = raw[table], rest[depth:]
        place.append(f"[{table}]")
        if isinstance(index, int):
            found = found[index]
            place = [heading(table, index, found.get("name", found.get("table")))]
        model = _TABLES.get(table) or KINDS.get(_kind(found) or "", ConvTable)
    if len(rest) > 1 and (nested := _NESTED.get(str(rest[0]))) and isinstance(found[str(rest[0])], dict):
        model, found = nested, found[str(rest[0])]
        place.append(str(rest.pop(0)))
    key = str(rest[0])
    if unknown_kind:
        told = f"kind: {not_one_of(found['kind'], KINDS)}"
    elif problem == "extra_forbidden":
        near = hint(key, model.model_fields)
        what = "table" if model is Document else "key"
        told = f"unknown {what} {show(key)}{near}{'' if near else ';'} allowed: {', '.join(model.model_fields)}"
    else:
        allowed = model.model_fields[key].description
        told = f"{key}: {f'found {show(found[key])}' if key in found else 'is missing'}; allowed: {allowed}"
    return ": ".join([*place, told])
