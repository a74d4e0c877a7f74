"""Small convolutions of every kind, and their definition written out as loops over every index."""

import itertools
from collections.abc import Iterator
from typing import Any

from hypothesis import assume
from hypothesis import strategies as st

from harness.spec import ConvSpec, TransposedSpec

Index = tuple[int, ...]


@st.composite
def small_specs(draw: st.DrawFn, most: int = 4000) -> ConvSpec:
    """1 to 3 dimensions, with groups, strides, dilation and lopsided padding; at most so many multiplications."""
    dims, groups = draw(st.integers(1, 3)), draw(st.integers(1, 3))

    def each(low: int, high: int) -> Index:
        return tuple(draw(st.lists(st.integers(low, high), min_size=dims, max_size=dims)))

    spatial, kernel = each(1, 6), each(1, 4)
    stride, dilation = each(1, 3), each(1, 2)
    padding = tuple(zip(each(0, 3), each(0, 3), strict=True))
    counts: dict[str, Any] = {name: draw(st.integers(1, 2)) for name in ("n", "c", "k")}
    try:
        spec = ConvSpec(
            counts["n"], counts["c"] * groups, counts["k"] * groups, spatial, kernel, stride, dilation, padding, groups
        )
    except ValueError:
        assume(False)
    assume(sum(1 for _ in itertools.islice(products(spec), most + 1)) <= most)
    return spec


def products(spec: ConvSpec) -> Iterator[tuple[Index | None, Index, Index]]:
    """Every multiplication of the definition: index into x (None in the padding), into w and into y."""
    of_group = spec.c // spec.groups, spec.k // spec.groups
    for n, k, c in itertools.product(range(spec.n), range(spec.k), range(of_group[0])):
        channel = k // of_group[1] * of_group[0] + c
        for out in itertools.product(*map(range, spec.out_spatial)):
            for tap in itertools.product(*map(range, spec.kernel)):
                position = tuple(
                    p * s + t * d - lo
                    for p, t, s, d, (lo, _) in zip(out, tap, spec.stride, spec.dilation, spec.padding, strict=True)
                )
                inside = all(0 <= at < size for at, size in zip(position, spec.spatial, strict=True))
                yield ((n, channel, *position) if inside else None), (k, c, *tap), (n, k, *out)


@st.composite
def small_transposed(draw: st.DrawFn, most: int = 4000, evenly: bool = False) -> TransposedSpec:
    """The same for transposed convolutions, with output padding."""
    dims, groups = draw(st.integers(1, 3)), draw(st.integers(1, 3))

    def each(low: int, high: int) -> Index:
        return tuple(draw(st.lists(st.integers(low, high), min_size=dims, max_size=dims)))

    stride, low = each(1, 3), each(0, 3)
    sizes: dict[str, Any] = {
        "n": draw(st.integers(1, 2)), "c": groups * draw(st.integers(1, 2)), "k": groups * draw(st.integers(1, 2)),
        "groups": groups, "spatial": each(1, 4), "kernel": each(1, 4), "stride": stride, "dilation": each(1, 2),
        "padding": tuple(zip(low, low if evenly else each(0, 3), strict=True)),
        "output_padding": tuple(draw(st.integers(0, s - 1)) for s in stride),
    }  # fmt: skip
    try:
        spec = TransposedSpec.of(**sizes)
    except ValueError:
        assume(False)
    assume(sum(1 for _ in itertools.islice(transposed_products(spec), most + 1)) <= most)
    return spec


def transposed_products(spec: TransposedSpec) -> Iterator[tuple[Index, Index, Index | None]]:
    """Every multiplication of the definition: index into x, into w and into y (None where the padding cuts it off)."""
    of, (n, c, *spatial), (_, of_group, *kernel), (_, _, *out) = spec.sizes, *spec.shapes(1)
    for image, channel, k in itertools.product(range(n), range(c), range(of_group)):
        group = channel // (c // of["groups"])
        for position in itertools.product(*map(range, spatial)):
            for tap in itertools.product(*map(range, kernel)):
                to = tuple(
                    p * s + t * d - lo
                    for p, t, s, d, (lo, _) in zip(position, tap, of["stride"], of["dilation"], of["padding"], strict=True)
                )
                inside = all(0 <= at < size for at, size in zip(to, out, strict=True))
                y = (image, group * of_group + k, *to) if inside else None
                yield (image, channel, *position), (channel, k, *tap), y
