"""Calls that were seen -> the layers of a network -> the text of a suite and of its table of shapes.

Equal convolutions are one layer with its count; a suite has one precision and one layout, so where layers differ in these
there are several.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from harness import drafts, flops, units
from harness.ask import files, shapes
from harness.ask.suite import MOST_WORKLOADS, bounded
from harness.axes import PASSES, Direction, Layout, Precision
from harness.calls import STEP, Call, LeftOut, Seen, Timing
from harness.errors import CaptureError
from harness.plain import plain
from harness.spec import ConvSpec, TransposedSpec

HEAD = "# Written by convbench capture"  # a file that begins so may be written again
_LONGEST_NAME, _LONGEST_SOURCE = 80, 300


@dataclass(frozen=True)
class Layer:
    """A distinct convolution of a network: how often each pass over it is made, and the layers that make it."""

    name: str
    spec: ConvSpec | TransposedSpec
    precision: Precision
    layout: Layout
    counts: Mapping[Direction, int]
    names: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """How many layers there are: the forward passes, or of a log without them the most of another."""
        return self.counts.get(Direction.FPROP) or max(self.counts.values())

    @property
    def flop(self) -> int:
        """FLOP of all its passes."""
        return flops.nominal(self.spec) * sum(self.counts.values())


@dataclass(frozen=True)
class Captured:
    """The convolutions of a network, and what else was seen of it. `source` says by what, `target` of what.

    `counts_of` says in what all counts and FLOP are: in a step, or in all of a log in which the steps are not told apart.
    """

    name: str
    source: str
    layers: tuple[Layer, ...]
    left_out: tuple[LeftOut, ...] = ()
    notes: tuple[str, ...] = ()
    timing: Timing | None = None
    target: str = ""
    counts_of: str = STEP

    @property
    def calls(self) -> int:
        """Passes over convolutions."""
        return sum(sum(layer.counts.values()) for layer in self.layers)

    def flop(self, direction: Direction) -> int:
        """FLOP of all passes in this direction."""
        return sum(flops.nominal(layer.spec) * layer.counts.get(direction, 0) for layer in self.layers)

    @property
    def directions(self) -> tuple[Direction, ...]:
        """The passes that are made."""
        return tuple(each for each in PASSES if any(layer.counts.get(each) for layer in self.layers))

    def parts(self) -> list[tuple[Precision, Layout, tuple[Layer, ...]]]:
        """The layers of each precision and layout, those with the most FLOP first."""
        found: dict[tuple[Precision, Layout], list[Layer]] = {}
        for layer in self.layers:
            found.setdefault((layer.precision, layer.layout), []).append(layer)
        ordered = sorted(found.items(), key=lambda part: -sum(layer.flop for layer in part[1]))
        return [(precision, layout, tuple(layers)) for (precision, layout), layers in ordered]

    def texts(self, suite: str = "") -> dict[str, str]:
        """The suites and their tables, by the names of their files; `suite` is that of the first, else the network's name.

        Raises CaptureError for more layers than a suite may have.
        """
        parts, told = self.parts(), {}
        for place, (precision, layout, layers) in enumerate(parts):
            name = (suite or self.name) + (f"-{precision}-{layout.lower()}" if place else "")
            if len(layers) > MOST_WORKLOADS:
                raise CaptureError(f"{name}: found {len(layers)} shapes; allowed in a suite: {MOST_WORKLOADS}")
            alone = "" if len(parts) == 1 else f"its layers in {precision} and {layout}"
            directions = [each for each in PASSES if any(layer.counts.get(each) for layer in layers)]
            rows = [(_row(layer, directions), _source(self.target, layer)) for layer in layers if not layer.spec.transposed]
            axes: dict[str, Sequence[str]] = {"direction": directions, "precision": [precision], "layout": [layout]}
            told[f"{name}.toml"] = self._suite(name, axes, layers, alone)
            if rows:
                told[f"shapes/{name}.csv"] = shapes.text(name, rows)
        return told

    def _suite(self, name: str, axes: Mapping[str, Sequence[str]], layers: Sequence[Layer], alone: str) -> str:
        """The text of a suite."""
        calls = units.many(sum(sum(layer.counts.values()) for layer in layers), "call")
        distinct = units.many(len(layers), "shape")
        left = sum(one.times for one in self.left_out)
        without = f"without {units.many(left, 'call')} left out" if left else ""
        of_step = self.counts_of == STEP
        counted = "" if of_step else f"counts of {self.counts_of.partition(',')[0]}"
        about = ", ".join(filter(None, [alone, counted, without]))
        network = f"{self.name} ({about})" if about else self.name
        lines = [
            f"{HEAD} from {plain(self.target) or 'a model'}, as seen by {plain(self.source)}.",
            *([] if of_step else [f"# Its counts are those of {self.counts_of}."]),
            *(f"# Left out: {line}" for line in told_left_out(self.left_out)), "",
            "[suite]", f"name = {_quoted(name)}",
            f"description = {_quoted(f'The convolutions of {self.name}: {calls} in {self.counts_of}, of {distinct}.')}", "",
            "[axes]", *(f"{axis} = [{', '.join(map(_quoted, values))}]" for axis, values in axes.items()), "",
        ]  # fmt: skip
        if not all(layer.spec.transposed for layer in layers):
            table = _quoted(f"shapes/{name}.csv")
            lines += ["[[workloads_from]]", f"table = {table}", f"network = {_quoted(network)}", ""]
        for layer in layers:
            if isinstance(layer.spec, TransposedSpec):
                lines += _by_hand(layer, layer.spec, axes["direction"], network, _source(self.target, layer))
        return "\n".join(lines)

    def write(self, path: Path | str) -> list[Path]:
        """Write the suite to that file, its table beside it in `shapes/`, and further suites beside it; what was written.

        Raises CaptureError where a file is in the way that was not written so, and for what would be too large for a suite.
        """
        path, written = Path(path), []
        suite = suite_name(path.stem)
        for name, text in self.texts(suite).items():
            file = path if name == f"{suite}.toml" else path.parent / name
            most = files.MOST_SUITE_BYTES if name.endswith(".toml") else files.MOST_TABLE_BYTES
            if (size := len(text.encode())) > most:
                raise CaptureError(f"{file}: would have {units.size(size)}; allowed: {units.size(most)}")
            if name.endswith(".toml"):
                _refuse_to_lose(file)
            written.append((file, text))
        for file, text in written:
            drafts.deliver(file, text)
        return [file for file, _ in written]


def _refuse_to_lose(file: Path) -> None:
    """Raises CaptureError for a file that somebody wrote by hand."""
    if not file.exists():
        return
    try:
        ours = files.read(file, files.MOST_SUITE_BYTES).startswith(HEAD.encode())
    except ValueError:
        ours = False
    if not ours:
        raise CaptureError(f"{file} is there, and was not written by convbench capture; --out names another file")


def collect(name: str, seen: Seen, *, target: str = "", anonymous: bool = False) -> Captured:
    """The layers that the calls are of. With `anonymous` no name of the user's is in it.

    Calls whose tensors fit both layouts have that of most others; those that are too large for a suite are left out. Raises
    CaptureError where none remains.
    """
    usual, left = _usual_layouts(seen.calls), list(seen.left_out)
    found: dict[tuple[ConvSpec | TransposedSpec, Precision, Layout], list[Call]] = {}
    for call in seen.calls:
        if why := _too_large(call.spec):
            left.append(LeftOut(f"{'transposed ' * call.spec.transposed}convolution", why, call.name, call.times))
            continue
        found.setdefault((call.spec, call.precision, call.layout or usual[call.precision]), []).append(call)
    left_out = _together(replace(one, name="") if anonymous else one for one in left)
    if not found:
        told = ", ".join(f"{one.what} x {one.times}: {one.why}" for one in left_out)
        raise CaptureError(f"no convolution that a suite can have; left out: {told}")
    layers, taken = list[Layer](), set[str]()
    for number, ((spec, precision, layout), calls) in enumerate(found.items(), start=1):
        counts = {each: sum(call.times for call in calls if call.direction is each) for each in PASSES}
        counts = {direction: count for direction, count in counts.items() if count}
        names = () if anonymous else tuple(dict.fromkeys(call.name for call in calls if call.name))
        remarks = list(dict.fromkeys(filter(None, (call.remark for call in calls))))
        with_bias = sum(call.times for call in calls if call.bias and call.direction is Direction.FPROP)
        remarks += [f"{with_bias} with bias, which -a bias=none,channel measures, too"] if with_bias else []
        unique = _unique(layer_name(names[0]) if names else f"conv{number}", taken)
        layers.append(Layer(unique, spec, precision, layout, counts, names, tuple(remarks)))
    of = "" if anonymous else target
    return Captured(suite_name(name), seen.source, tuple(layers), left_out, seen.notes, seen.timing, of, seen.counts_of)


def _too_large(spec: ConvSpec | TransposedSpec) -> str:
    """Why a convolution is too large for a suite and its table; empty where it is not."""
    try:
        bounded(spec)
    except ValueError as error:
        return str(error)
    largest = max(map(max, spec.shapes(1)))
    return f"{spec} has a size of {largest}; allowed: below 10^9" if largest >= 10**9 else ""  # as a table writes them


def _usual_layouts(calls: Sequence[Call]) -> dict[Precision, Layout]:
    """The layout of most calls of each precision; channels first where no call tells."""
    usual = {}
    for precision in Precision:
        told = Counter[Layout]()
        for call in calls:
            if call.precision is precision and call.layout is not None:
                told[call.layout] += call.times
        usual[precision] = told.most_common(1)[0][0] if told else Layout.CHANNELS_FIRST
    return usual


def _together(left: Iterable[LeftOut]) -> tuple[LeftOut, ...]:
    """What is left out for the same reason as one, with the names of the layers."""
    times, names = Counter[tuple[str, str]](), dict[tuple[str, str], dict[str, None]]()
    for one in left:
        times[one.what, one.why] += one.times
        names.setdefault((one.what, one.why), {}).update(dict.fromkeys(filter(None, [one.name])))
    return tuple(LeftOut(what, why, ", ".join(names[what, why]), count) for (what, why), count in times.items())


def told_left_out(left: Iterable[LeftOut]) -> list[str]:
    """A line for each: `2 x ConvInteger: quantized (conv1, conv2)`."""
    return [
        plain(f"{one.times} x {one.what}: {one.why}" + (f" ({_cut(one.name, _LONGEST_SOURCE)})" if one.name else ""))
        for one in left
    ]


def suite_name(text: str) -> str:
    """The text as the name of a suite."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-.")[:_LONGEST_NAME] or "model"


def layer_name(text: str) -> str:
    """The text as the name of a workload: `[a-z0-9._-]+`."""
    return re.sub(r"[^a-z0-9._-]+", ".", text.lower()).strip(".-")[:_LONGEST_NAME] or "conv"


def _unique(name: str, taken: set[str]) -> str:
    """The name, with .2, .3 and so on behind it where it is taken; it is taken then."""
    told, number = name, 1
    while told in taken:
        number += 1
        told = f"{name}.{number}"
    taken.add(told)
    return told


def _row(layer: Layer, directions: Sequence[str]) -> shapes.Shape:
    """A layer that is not transposed as a row of the table."""
    assert isinstance(layer.spec, ConvSpec)
    return shapes.Shape(layer.name, layer.spec, layer.count, {}, _differing(layer, directions))


def _differing(layer: Layer, directions: Sequence[str]) -> dict[Direction, int]:
    """The counts of those passes that not all of its layers have."""
    counts = {each: layer.counts.get(each, 0) for each in map(Direction, directions)}
    return {each: count for each, count in counts.items() if count != layer.count}


def _by_hand(layer: Layer, spec: TransposedSpec, directions: Sequence[str], network: str, source: str) -> list[str]:
    """The lines of a `[[workload]]`, since no table has transposed convolutions."""
    order = ("n", "c", "k", "spatial", "kernel", "padding", "stride", "dilation", "groups", "output_padding")
    sizes = {name: json.dumps(spec.sizes[name]) for name in order}
    counts = ", ".join(f"{each} = {count}" for each, count in _differing(layer, directions).items())
    keys = {"name": _quoted(layer.name), **sizes, "transposed": "true", "count": str(layer.count), "network": _quoted(network)}
    lines = [f"{key} = {value}" for key, value in (keys | ({"counts": f"{{ {counts} }}"} if counts else {})).items()]
    return [f"# {source}", "[[workload]]", *lines, ""]


def _source(target: str, layer: Layer) -> str:
    names = _cut(", ".join(layer.names), _LONGEST_SOURCE)
    return plain("; ".join(filter(None, [target, names, *layer.remarks])))


def _quoted(text: str) -> str:
    """The text as TOML writes it."""
    return json.dumps(plain(str(text)), ensure_ascii=False)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[:most]}..."
