"""A suite: its name looked up, its TOML and its tables of shapes turned into typed, frozen data, and whatever is wrong told.

Every mistake is one SuiteError of one line: file, table, key, what was found and what is allowed. Which cells follow from
a suite, and in what order, is the business of `planning`; what the command line changes, of `selection`.
"""

import hashlib
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, TypeVar

from harness import flops
from harness.ask import axes as axis_values
from harness.ask import document, files, interpreters, shape_line, shapes
from harness.ask.axes import Axes
from harness.ask.wording import hint, not_one_of, show
from harness.axes import OPTIONS, PINNED, Direction, Layout
from harness.errors import SelectionError, SuiteError
from harness.plan import COMPARED, Budget
from harness.spec import Cell, ConvSpec, CopySpec, GemmSpec, TransposedSpec, WorkloadSpec

NAME = re.compile(r"[A-Za-z0-9._-]+")  # a suite's and a workload's

# What no machine measures and what no file needs: a suite that asks for more is a mistake, or somebody's mischief.
MOST_WORKLOADS = 10_000
MOST_ROWS = 20_000  # of tables, each counted as often as a [[workloads_from]] looks at it
MOST_EXCLUDED = 1_000  # values in all [[exclude]] together
MOST_ELEMENTS = 2**40  # of one tensor
MOST_FLOP = 10**18  # of one pass


@dataclass(frozen=True)
class Workload:
    """A convolution, a matrix product or a copy under its name.

    `count` layers of the network that a convolution was taken from have this shape, of which `counts` have a pass where that is
    another number (a first layer has no input gradient, and its `dgrad` is not measured). `network` names it where the suite
    has all of its convolutions; `scaled` says what was changed.
    """

    name: str
    spec: WorkloadSpec
    count: int = 1
    network: str = ""
    scaled: str = ""
    counts: Mapping[Direction, int] = field(default_factory=dict)

    def layers(self, direction: Direction) -> int:
        """How many layers have that pass. What stands for several passes is of all layers."""
        return self.counts.get(direction, self.count)

    def altered(self, keys: Mapping[str, Any]) -> "Workload":
        """The convolution with these keys of a `[[workload]]` replaced. Raises ValueError for an impossible one."""
        before = _keys(self.spec)
        spec = _conv(before | dict(keys))
        after = _keys(spec)
        changes = [f"{name}={_sizes(after[name])} for {_sizes(old)}" for name, old in before.items() if after[name] != old]
        return replace(self, spec=spec, scaled=", ".join(filter(None, [self.scaled, *changes])))


def _keys(spec: WorkloadSpec) -> dict[str, Any]:
    """The keys of a `[[workload]]` that a convolution follows from."""
    if isinstance(spec, TransposedSpec):
        return {**spec.sizes, "transposed": True}
    assert isinstance(spec, ConvSpec)
    return vars(spec).copy()


def _sizes(value: Any) -> str:
    """A size as a table writes it: 16, 28x28; padding as 1-1x1-1."""
    if isinstance(value, int):
        return str(value)
    return "x".join("-".join(map(str, entry)) if isinstance(entry, tuple) else str(entry) for entry in value)


@dataclass(frozen=True)
class Exclude:
    """What is left out: cells that fit every condition, which is an axis (or `workload`) and the values it may have."""

    conditions: tuple[tuple[str, tuple[str, ...]], ...]

    def covers(self, cell: Cell) -> bool:
        """Whether the cell is left out."""
        return all(_fits(axis, values, cell) for axis, values in self.conditions)


def _fits(axis: str, values: tuple[str, ...], cell: Cell) -> bool:
    if axis == "workload":
        return any(fnmatchcase(cell.workload, pattern) for pattern in values)
    # A matrix product and a copy have none of these, and a copy moves bytes of no precision.
    if not cell.is_convolution and axis in ("direction", "layout", "optimizer", "cache", *OPTIONS):
        return False
    if not cell.spec.computes and axis == "precision":
        return False
    names = {str(getattr(cell, axis))}
    # `gpu` means every GPU; `torch` also means torch@old, the same adapter under another interpreter.
    names |= {cell.device.kind} if axis == "device" else {cell.backend.partition("@")[0]} if axis == "backend" else set()
    return not names.isdisjoint(values)


@dataclass(frozen=True)
class Suite:
    """What a suite asks for. `stated` are the axes that it (or the command line) names, the others are at their default.

    `also` are backends that join whatever the suite states, `keyword` is a `-k` expression over the ids of its cells, `compare`
    are the axes along which cells are compared, `tuned` those of which the best setting is looked for, as `plan.Plan` has them.
    With a `standard` every cell is visited beside its twin of that label. `interpreters` are the absolute paths of the Python
    interpreters of backends that have one of their own.
    `sha256` is that of the text and of the tables it names, as they lie on disk.
    """

    name: str
    description: str
    path: Path
    sha256: str
    workloads: tuple[Workload, ...]
    axes: Axes
    stated: frozenset[str]
    budget: Budget
    excludes: tuple[Exclude, ...]
    also: tuple[str, ...] = ()
    keyword: str | None = None
    compare: tuple[str, ...] = COMPARED
    standard: str = ""
    tuned: Mapping[str, str] = field(default_factory=dict)
    interpreters: Mapping[str, str] = field(default_factory=dict)


def shipped() -> Path:
    """The folder of the suites that come with the package: inside it in a wheel, beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    inside = package / "suites"
    return inside if inside.is_dir() else package.parent / "suites"


def available() -> dict[str, Path]:
    """Suites by name, sorted: those of the working directory's `suites/`, then the package's that they do not hide."""
    found: dict[str, Path] = {}
    for folder in (Path("suites"), shipped()):
        for path in folder.glob("*.toml"):
            found.setdefault(path.stem, path)
    return dict(sorted(found.items()))


def load(name_or_path: str | Path) -> Suite:
    """The suite of that name, or in that file. Raises SuiteError for whatever is wrong with it."""
    path = _find(name_or_path)
    with _at(path):
        data = files.read(path, files.MOST_SUITE_BYTES)
        parsed = document.parse(data.decode("utf-8-sig"))
    digest = hashlib.sha256(data)
    with _at(path, "[suite]"):
        name = _name(parsed.suite.name)
        standard = _standard(parsed.suite.standard)
    workloads = _unique(path, [*_by_hand(path, parsed), *_from_tables(path, parsed, digest)])
    axes = {}
    for axis, values in document.stated(parsed.axes).items():
        with _at(path, "[axes]", axis):
            axes[axis] = axis_values.parse_all(axis, values)
    with _at(path, "[python]"):
        pythons = {backend: interpreters.checked(backend, python, path.parent) for backend, python in parsed.python.items()}
    with _at(path, "[budget]"):
        budget = Budget(**document.stated(parsed.budget))
    return Suite(
        name=name,
        description=parsed.suite.description,
        path=path,
        sha256=digest.hexdigest(),
        workloads=workloads,
        axes=Axes(**axes),
        stated=frozenset(axes),
        budget=budget,
        excludes=_excludes(path, parsed, workloads, axes.get("backend")),
        compare=(*COMPARED, *dict.fromkeys(parsed.suite.compare)),
        standard=standard,
        interpreters=pythons,
    )


def of_lines(lines: Sequence[str]) -> Suite:
    """A suite of the convolutions that these lines describe, each named after its shape. Raises SelectionError.

    `shape_line` says what a line may be. All axes stand open, and nothing is excluded. The layout is channels last, and
    channels first where every line is of a call that has no other.
    """
    named: dict[str, WorkloadSpec] = {}
    for line in lines:
        try:
            spec = _conv(shape_line.keys(line))
        except ValueError as error:
            raise SelectionError(f"--conv: {show(line)}: {error}") from None
        named[str(spec).replace(" ", "_")] = spec
    layout = Layout.CHANNELS_FIRST if all(map(shape_line.has_channels_first_alone, lines)) else Layout.CHANNELS_LAST
    return Suite(
        name="conv",
        description=", ".join(map(str, named.values())),
        path=Path("conv"),  # in the working directory: whose commit it is
        sha256=hashlib.sha256("\n".join(named).encode()).hexdigest(),
        workloads=tuple(Workload(name, spec) for name, spec in named.items()),
        axes=Axes(layout=(layout,)),
        stated=frozenset(),
        budget=Budget(),
        excludes=(),
    )


@contextmanager
def _at(*place: object) -> Iterator[None]:
    """Give what is wrong its place: ValueError becomes SuiteError."""
    try:
        yield
    except ValueError as error:
        raise SuiteError(": ".join([*map(str, place), str(error)])) from None


def _find(name_or_path: str | Path) -> Path:
    text = str(name_or_path)
    known = available()
    if text in known:
        return known[text]
    if isinstance(name_or_path, Path) or "/" in text or text.endswith(".toml"):
        return Path(name_or_path)
    near = hint(text, known)
    raise SuiteError(
        f"no suite {show(text)}{near}{'' if near else ';'} known: {', '.join(known)}; or give a path to a .toml file"
    )


def _name(text: str) -> str:
    if not NAME.fullmatch(text) or len(text) > 100:
        raise ValueError(f"name: found {show(text)}; allowed: up to 100 letters, digits and . _ -")
    return text


def _standard(label: str) -> str:
    if label and not (label.startswith(PINNED) and NAME.fullmatch(label) and len(label) <= 20):
        raise ValueError(f"standard: found {show(label)}; allowed: {PINNED}, and up to 14 letters, digits and . _ - behind it")
    return label


def _conv(keys: Mapping[str, Any]) -> ConvSpec | TransposedSpec:
    """The convolution that the keys of a `[[workload]]` describe. Raises ValueError for an impossible one."""
    dims = len(keys["spatial"])
    sizes: dict[str, Any] = {
        name: (keys[name],) * dims if isinstance(keys[name], int) else tuple(keys[name])
        for name in ("spatial", "kernel", "stride", "dilation")
    }
    numbers = {name: keys[name] for name in ("n", "c", "k", "groups")}
    padding, more = _pairs(keys["padding"], dims), keys.get("output_padding", 0)
    more = (more,) * dims if isinstance(more, int) else tuple(more)
    if keys.get("transposed"):
        return bounded(_transposed(numbers | sizes, padding, more))
    if any(more):
        raise ValueError(f"output_padding: found {show(list(more))} without transposed; allowed: with transposed = true")
    if padding == "valid":
        return bounded(ConvSpec(**numbers, **sizes, padding=((0, 0),) * dims))
    if padding == "same":
        # The rule needs a spec to be asked, and any spec with this much padding has an output.
        roomy = tuple((d * (r - 1),) * 2 for r, d in zip(sizes["kernel"], sizes["dilation"], strict=False))
        padding = ConvSpec(**numbers, **sizes, padding=roomy).same_padding()
    return bounded(ConvSpec(**numbers, **sizes, padding=tuple((low, high) for low, high in padding)))


def _transposed(sizes: Mapping[str, Any], padding: Any, more: tuple[int, ...]) -> TransposedSpec:
    """The transposed convolution of these sizes; `same` gives an output of size * stride, as in TensorFlow and Keras."""
    dims = len(sizes["spatial"])
    if padding == "valid":
        padding = ((0, 0),) * dims
    if padding != "same":
        return TransposedSpec.of(**sizes, padding=tuple((low, high) for low, high in padding), output_padding=more)
    if any(more):
        raise ValueError(f'output_padding: found {show(list(more))} beside padding "same", which says how large the output is')
    plain = TransposedSpec.of(**sizes, padding=((0, 0),) * dims).mirrored  # to be asked by the rule
    out = tuple(size * s for size, s in zip(sizes["spatial"], sizes["stride"], strict=True))
    roomy = tuple((d * (r - 1),) * 2 for r, d in zip(sizes["kernel"], sizes["dilation"], strict=True))
    return TransposedSpec(replace(plain, spatial=out, padding=replace(plain, spatial=out, padding=roomy).same_padding()))


def _pairs(padding: Any, dims: int) -> Any:
    """A rule by its name, or (low, high) per dimension: one number stands for both sides, of every dimension if alone."""
    if isinstance(padding, int):
        return ((padding, padding),) * dims
    if isinstance(padding, str) or not padding or not isinstance(padding[0], int):
        return padding
    if len(padding) != dims:
        told = f"padding: found {show(padding)}; allowed: one number for each of the {dims} dimensions of spatial"
        raise ValueError(told + (f", or [{show(padding)}] for low and high" if dims == 1 and len(padding) == 2 else ""))
    return tuple((both, both) for both in padding)


AnySpec = TypeVar("AnySpec", bound=WorkloadSpec)


def bounded(spec: AnySpec) -> AnySpec:
    """The same, if a computer could ever hold and compute it. Raises ValueError, which says what is the most."""
    x, w, y = map(math.prod, spec.shapes(1))
    most = max(x + spec.padding_elements, w, y)
    if most > MOST_ELEMENTS:
        raise ValueError(f"{spec} has a tensor of {most:.3g} elements (padded); allowed: 2^40")
    if flops.nominal(spec) > MOST_FLOP:
        raise ValueError(f"{spec} takes {flops.nominal(spec):.3g} FLOP; allowed: 10^18")
    return spec


def _by_hand(path: Path, parsed: document.Document) -> Iterator[tuple[str, Workload]]:
    """The `[[workload]]` tables, each with its place in the file."""
    for index, table in enumerate(parsed.workload):
        place = document.heading("workload", index, table.name)
        with _at(path, place):
            name = _name(table.name)
            match table:
                case document.ConvTable():
                    yield place, Workload(name, _conv(dict(table)), table.count, table.network, counts=_counts(table.counts))
                case document.GemmTable():
                    yield place, Workload(name, bounded(GemmSpec(table.m, table.n, table.k)))
                case document.CopyTable():
                    yield place, Workload(name, CopySpec(table.nbytes))


def _counts(table: document.Table) -> dict[Direction, int]:
    """How many layers have each of the passes that `counts` names."""
    return {Direction(name): count for name, count in document.stated(table).items()}


def _from_tables(path: Path, parsed: document.Document, digest: Any) -> Iterator[tuple[str, Workload]]:
    """The shapes of the `[[workloads_from]]` tables, each with its place; `digest` takes in what was read."""
    known: dict[Path, tuple[shapes.Shape, ...]] = {}
    left_bytes, looked = files.MOST_TABLE_BYTES, 0
    for index, table in enumerate(parsed.workloads_from):
        place = document.heading("workloads_from", index, table.table)
        with _at(path, place, "table"):
            file = files.find(table.table, (path.parent, shipped()))
        with _at(path, place, file):
            data = files.read(file, left_bytes)
            digest.update(data)
            if file not in known:
                left_bytes -= len(data)
                known[file] = shapes.rows(data.decode("utf-8-sig"))
            rows = known[file]
            looked += len(rows)
            if looked > MOST_ROWS:
                raise ValueError(f"is row {looked} that this suite looks at; allowed: {MOST_ROWS}")
        with _at(path, place, "where"):
            chosen = shapes.choose(rows, table.where, table.limit)
        for shape in chosen:
            with _at(path, place, show(shape.name)):
                workload = Workload(_name(shape.name), shape.spec, shape.count, table.network, counts=shape.counts)
                yield place, workload.altered(document.stated(table.set))


def _unique(path: Path, placed: list[tuple[str, Workload]]) -> tuple[Workload, ...]:
    """The workloads, if there are any and no two bear one name, in any case: `-k` and some file systems tell none apart."""
    if not placed:
        raise SuiteError(f"{path}: no workload; allowed: at least one [[workload]] or [[workloads_from]]")
    if len(placed) > MOST_WORKLOADS:
        raise SuiteError(f"{path}: found {len(placed)} workloads; allowed: {MOST_WORKLOADS}")
    places: dict[str, tuple[str, str]] = {}
    for place, workload in placed:
        key = workload.name.lower()
        if key in places:
            first, name = places[key]
            found = "twice" if name == workload.name else f"beside {show(name)}, which differs by case alone"
            raise SuiteError(
                f"{path}: {place}: name: found {show(workload.name)} {found}, first in {first}; allowed: once in a suite"
            )
        places[key] = (place, workload.name)
    return tuple(workload for _, workload in placed)


def _excludes(
    path: Path, parsed: document.Document, workloads: tuple[Workload, ...], backends: tuple[str, ...] | None
) -> tuple[Exclude, ...]:
    excludes, known = [], [workload.name for workload in workloads]
    values = [found for table in parsed.exclude for found in document.stated(table).values()]
    asked = sum(len(found) if isinstance(found, list) else 1 for found in values)
    if asked > MOST_EXCLUDED:
        raise SuiteError(f"{path}: [[exclude]]: found {asked} values in all of them; allowed: {MOST_EXCLUDED}")
    for index, table in enumerate(parsed.exclude):
        place = document.heading("exclude", index)
        stated = document.stated(table)
        if not stated:
            raise SuiteError(f"{path}: {place}: found no key; allowed: workload, {', '.join(axis_values.NAMES)}")
        conditions = []
        for axis, found in stated.items():
            values = found if isinstance(found, list) else [found]
            with _at(path, place, axis):
                conditions.append((axis, tuple(_condition(axis, value, known, backends) for value in values)))
        excludes.append(Exclude(tuple(conditions)))
    return tuple(excludes)


def _condition(axis: str, value: str | int, names: Sequence[str], backends: tuple[str, ...] | None) -> str:
    """The text that a cell's value is compared with. Raises ValueError for what can fit no cell, and so is a typo."""
    if axis == "workload":
        if not any(fnmatchcase(name, str(value)) for name in names):
            raise ValueError(not_one_of(value, names))
        return str(value)
    parsed = axis_values.parse(axis, value)
    if (
        axis == "backend"
        and backends is not None
        and value not in {name.partition("@")[0] for name in backends} | set(backends)
    ):
        raise ValueError(not_one_of(value, backends))
    return str(value) if axis == "device" and ":" not in str(value) else str(parsed)
