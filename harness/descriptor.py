"""The sizes of a convolution, transposed or not: whether they describe one, and the text of one line that says them."""

import re
from typing import Any


def must_describe(
    n: int, c: int, k: int, spatial: tuple[int, ...], kernel: tuple[int, ...], stride: tuple[int, ...],
    dilation: tuple[int, ...], padding: tuple[tuple[int, int], ...], groups: int,
) -> None:  # fmt: skip
    """Raises ValueError where such numbers describe no convolution, transposed or not."""
    dims = len(spatial)
    if dims not in (1, 2, 3):
        raise ValueError(f"spatial has {dims} dimensions; 1, 2 or 3 are allowed")
    per_dimension = {"kernel": kernel, "stride": stride, "dilation": dilation}
    for name, entries in {**per_dimension, "padding": padding}.items():
        if len(entries) != dims:
            raise ValueError(f"{name} has {len(entries)} entries, spatial has {dims}")
    for name, number in {"n": n, "c": c, "k": k, "groups": groups}.items():
        if number < 1:
            raise ValueError(f"{name} is {number}; at least 1 is needed")
    for name, sizes in {"spatial": spatial, **per_dimension}.items():
        if min(sizes) < 1:
            raise ValueError(f"{name} is {list(sizes)}; every entry must be at least 1")
    if min(min(pair) for pair in padding) < 0:
        raise ValueError(f"padding is {[list(pair) for pair in padding]}; no entry may be negative")
    for name, channels in {"c": c, "k": k}.items():
        if channels % groups:
            raise ValueError(f"{name} is {channels}, which {groups} groups do not divide")


def described(
    n: int, c: int, k: int, spatial: tuple[int, ...], kernel: tuple[int, ...], stride: tuple[int, ...],
    dilation: tuple[int, ...], padding: tuple[tuple[int, int], ...], groups: int, output_padding: tuple[int, ...] = (),
) -> str:  # fmt: skip
    """The descriptor of such numbers, what is trivial left out."""

    def sizes(values: tuple[int, ...]) -> str:
        return "x".join(map(str, values))

    parts = [f"n{n}", f"c{c}", f"k{k}", sizes(spatial), f"f{sizes(kernel)}"]
    if set(stride) != {1}:
        parts.append(f"s{sizes(stride)}")
    if any(map(any, padding)):
        parts.append("p" + "x".join(str(lo) if lo == hi else f"{lo}-{hi}" for lo, hi in padding))
    if any(output_padding):
        parts.append(f"o{sizes(output_padding)}")
    if set(dilation) != {1}:
        parts.append(f"d{sizes(dilation)}")
    if groups > 1:
        parts.append(f"g{groups}")
    return " ".join(parts)


_SIZES = r"\d+(?:x\d+)*"
_DESCRIPTOR = re.compile(
    rf"n(?P<n>\d+) c(?P<c>\d+) k(?P<k>\d+) (?P<spatial>{_SIZES}) f(?P<kernel>{_SIZES})(?: s(?P<stride>{_SIZES}))?"
    rf"(?: p(?P<padding>\d+(?:-\d+)?(?:x\d+(?:-\d+)?)*))?(?: o(?P<output_padding>{_SIZES}))?"
    rf"(?: d(?P<dilation>{_SIZES}))?(?: g(?P<groups>\d+))?"
)


def parsed(text: str) -> dict[str, Any] | None:
    """The numbers behind a descriptor, by name; None where it is none."""
    found = _DESCRIPTOR.fullmatch(text)
    if not found:
        return None
    dims = len(found["spatial"].split("x"))

    def sizes(name: str, trivial: int = 1) -> tuple[int, ...]:
        return tuple(map(int, found[name].split("x"))) if found[name] else (trivial,) * dims

    pads = [pad.partition("-") for pad in (found["padding"] or "x".join("0" * dims)).split("x")]
    return {
        **{name: int(found[name] or 1) for name in ("n", "c", "k", "groups")},
        **{name: sizes(name) for name in ("spatial", "kernel", "stride", "dilation")},
        "padding": tuple((int(lo), int(hi or lo)) for lo, _, hi in pads),
        "output_padding": sizes("output_padding", 0),
    }
