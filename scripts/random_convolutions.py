"""Random convolutions from a seed, small enough to be checked in full: what no table of standard shapes would ask for.

Pure: the same seed gives the same convolutions, and more of them begin with those of fewer. How they are measured is not
this room's business.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

from harness import flops
from harness.spec import ConvSpec, TransposedSpec

MOST_FLOP = 10_000_000  # of one pass: some ms in the reference, which computes every element
MOST_ELEMENTS = 300_000  # of x, w or y

_CHANNELS = (1, 2, 3, 4, 5, 7, 8, 12, 16, 17, 24, 32)  # of a group; most are no multiple of a vector's length
_LARGEST = {1: 96, 2: 24, 3: 10}  # size of a dimension, by how many there are
_FILTERS = (1, 1, 2, 3, 3, 3, 4, 5, 7)

T = TypeVar("T")


def specs(seed: int, count: int) -> tuple[ConvSpec, ...]:
    """`count` different convolutions of 1 to 3 dimensions, each of at most MOST_FLOP and MOST_ELEMENTS.

    Filters, strides, dilations, paddings and groups are drawn independently of each other, so that they meet in every
    combination; `traits` says which a convolution has.
    """
    rng = random.Random(seed)
    found: dict[ConvSpec, None] = {}
    while len(found) < count:
        spec = _spec(rng)
        if spec is not None and _small(spec):
            found[spec] = None
    return tuple(found)


def traits(spec: ConvSpec | TransposedSpec) -> tuple[str, ...]:
    """What is special about a convolution, in words: a framework that fails on some of them fails on what they share.

    Of a transposed one they are those of the convolution that it mirrors.
    """
    if isinstance(spec, TransposedSpec):
        return ("transposed", *traits(spec.mirrored))
    reach = [d * (r - 1) for r, d in zip(spec.kernel, spec.dilation, strict=True)]
    left_over = [
        (size + lo + hi - reached - 1) % s
        for size, (lo, hi), reached, s in zip(spec.spatial, spec.padding, reach, spec.stride, strict=True)
    ]
    told = {
        f"{spec.ndim}-D": True,
        "batch of 1": spec.n == 1,
        "grouped": spec.groups > 1 and not spec.depthwise,
        "depthwise": spec.depthwise,
        "depth multiplier": spec.depthwise and spec.k > spec.c,
        "strided": max(spec.stride) > 1,
        "strides differ": len(set(spec.stride)) > 1,
        "stride over the filter": any(s > reached + 1 for s, reached in zip(spec.stride, reach, strict=True)),
        "dilated": any(d > 1 and r > 1 for d, r in zip(spec.dilation, spec.kernel, strict=True)),
        "dilated filter of 1": any(d > 1 and r == 1 for d, r in zip(spec.dilation, spec.kernel, strict=True)),
        "padded": any(map(any, spec.padding)),
        "lopsided padding": not spec.pads_evenly,
        "padding over the filter": any(max(pair) > reached for pair, reached in zip(spec.padding, reach, strict=True)),
        "filter over the image": any(reached + 1 > size for reached, size in zip(reach, spec.spatial, strict=True)),
        "even filter": any(r % 2 == 0 for r in spec.kernel),
        "input left over": any(left_over),
        "size of 1": min(spec.spatial) == 1,
        "output of 1": min(spec.out_spatial) == 1,
        "one channel": spec.c == 1,
        "one filter": spec.k == 1,
    }
    return tuple(name for name, applies in told.items() if applies)


def _small(spec: ConvSpec) -> bool:
    largest = max(math.prod(shape) for shape in (spec.x_shape, spec.w_shape, spec.y_shape))
    return flops.nominal(spec) <= MOST_FLOP and largest <= MOST_ELEMENTS


def _spec(rng: random.Random) -> ConvSpec | None:
    """One convolution; None where what was drawn leaves no output."""
    dims = _pick(rng, (1, 2, 2, 3))
    c, k, groups = _channels(rng)
    strided, dilated, square = _chance(rng, 0.5), _chance(rng, 0.35), _chance(rng, 0.6)
    spatial = tuple(1 if _chance(rng, 0.12) else _between(rng, 1, _LARGEST[dims]) for _ in range(dims))
    kernel = _each(rng, _FILTERS, dims, square)
    stride = _each(rng, (2, 2, 3, 4), dims, square) if strided else (1,) * dims
    dilation = _each(rng, (2, 2, 3), dims, square) if dilated else (1,) * dims
    # Any spec with this much padding has an output, and the rule of SAME needs a spec to be asked.
    roomy = tuple((d * (r - 1),) * 2 for r, d in zip(kernel, dilation, strict=True))
    spec = ConvSpec(_pick(rng, (1, 1, 2, 3, 5)), c, k, spatial, kernel, stride, dilation, roomy, groups)
    try:
        return replace(spec, padding=_padding(rng, spec))
    except ValueError:
        return None


def _channels(rng: random.Random) -> tuple[int, int, int]:
    """c, k and groups: half of them without groups, a quarter depthwise, with one filter a channel or several."""
    c, k = _pick(rng, _CHANNELS), _pick(rng, _CHANNELS)
    kind = _pick(rng, ("plain", "plain", "grouped", "depthwise"))
    if kind == "grouped":
        groups = _between(rng, 2, 5)
        return c * groups, k * groups, groups
    if kind == "depthwise":
        c = max(2, c)
        return c, c * _pick(rng, (1, 1, 2, 3)), c
    return c, k, 1


def _padding(rng: random.Random, spec: ConvSpec) -> tuple[tuple[int, int], ...]:
    """None, SAME, up to what the filter reaches (alike on both sides or not), or more than it reaches."""
    reach = [d * (r - 1) for r, d in zip(spec.kernel, spec.dilation, strict=True)]
    kind = _pick(rng, ("none", "same", "alike", "alike", "lopsided", "lopsided", "beyond"))
    if kind == "none":
        return ((0, 0),) * spec.ndim
    if kind == "same":
        return spec.same_padding()
    if kind == "alike":
        return tuple((_between(rng, 0, reached),) * 2 for reached in reach)
    more = 2 if kind == "beyond" else 0
    return tuple((_between(rng, 0, reached + more), _between(rng, 0, reached + more)) for reached in reach)


# Of the standard library's generator only `random` is promised to give the same numbers in every version of Python.


def _pick(rng: random.Random, values: Sequence[T]) -> T:
    return values[int(rng.random() * len(values))]


def _between(rng: random.Random, low: int, high: int) -> int:
    return low + int(rng.random() * (high - low + 1))


def _chance(rng: random.Random, share: float) -> bool:
    return rng.random() < share


def _each(rng: random.Random, values: Sequence[int], dims: int, alike: bool) -> tuple[int, ...]:
    """A value for every dimension, or one for all of them."""
    return (_pick(rng, values),) * dims if alike else tuple(_pick(rng, values) for _ in range(dims))
