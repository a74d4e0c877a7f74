"""One convolution on one line: convbench's own words, benchdnn's descriptor, or a framework's call with shapes in it.

    n32 c64 k64 56x56 f3x3 s2 p1 d1 g1
    transposed n32 c64 k64 28x28 f3x3 s2 p1 o1
    mb32ic64ih56oc64oh56kh3ph1
    F.conv2d(x[32, 64, 56, 56], w[64, 64, 3, 3], stride=1, padding=1)
    lax.conv_general_dilated(x[32, 56, 56, 64], w[3, 3, 64, 64], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    tf.nn.conv2d(x[32, 56, 56, 64], w[3, 3, 64, 64], strides=1, padding="SAME")

A line is read and never evaluated. What it says becomes the keys of a `[[workload]]`; whether they describe a convolution is
judged where those of a suite are.
"""

import ast
import contextlib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from harness.ask.wording import not_one_of, show

LONGEST_LINE = 1000
FORMS = (
    '"n32 c64 k64 56x56 f3x3 s1 p1", "mb32ic64ih56oc64oh56kh3ph1", or a call of F.conv2d, lax.conv_general_dilated or '
    "tf.nn.conv2d with shapes, as in F.conv2d(x[32, 64, 56, 56], w[64, 64, 3, 3], padding=1)"
)
_MOST = 2**31 - 1  # as in a suite

Keys = dict[str, Any]


def keys(line: str) -> Keys:
    """The keys of a `[[workload]]` that a line stands for. Raises ValueError, one line, for what is in none of the forms."""
    text = line.strip()
    if not text or len(text) > LONGEST_LINE:
        raise ValueError(f"found {len(text)} characters; allowed: {FORMS}")
    read = _of_a_call if "(" in text else _of_words if any(map(str.isspace, text)) else _of_benchdnn
    try:
        return read(text)
    except (RecursionError, MemoryError):
        raise ValueError(f"is nested too deeply; allowed: {FORMS}") from None


def has_channels_first_alone(line: str) -> bool:
    """Whether a line is a call of F.conv1d, for which PyTorch has no layout with channels last."""
    of_torch, *_ = _CALLS[0]
    found = of_torch.fullmatch(line.partition("(")[0].strip())
    return bool(found and found[1] == "1")


def _must_be_sizes(word: str, numbers: Sequence[str]) -> None:
    """Raises ValueError where one of the numbers in a word is larger than any size may be."""
    if any(int(number) > _MOST for number in numbers):
        raise ValueError(f"found {show(word)}; allowed: whole numbers below 2^31")


# convbench's words ----------------------------------------------------------------------------------------------------------

_WORD = re.compile(r"([nckfspodg]?)([0-9]+(?:[x-][0-9]+){0,5})", re.ASCII)
# What each letter stands for; the word without one is the size of the images.
_MEANING = {
    "n": "n", "c": "c", "k": "k", "": "spatial", "f": "kernel", "s": "stride", "p": "padding", "o": "output_padding",
    "d": "dilation", "g": "groups",
}  # fmt: skip
_OPTIONAL: Keys = {"stride": 1, "padding": 0, "dilation": 1, "groups": 1, "output_padding": 0}


def _of_words(text: str) -> Keys:
    """`n32 c64 k64 56x56 f3x3 p1`, in any order; a filter, stride, padding or dilation of one number is of all dimensions.

    With `transposed` before them they are those of a transposed convolution, `o1` being its output padding.
    """
    words = text.split()
    found: Keys = {"transposed": True} if words[0] == "transposed" else {}
    for word in words[len(found) :]:
        match = _WORD.fullmatch(word)
        if not match:
            raise ValueError(f"found {show(word)}; allowed: words as in n32 c64 k64 56x56 f3x3 s1 p1 d1 g1")
        name, value = _MEANING[match[1]], match[2]
        _must_be_sizes(word, re.findall("[0-9]+", value))
        if name in found:
            raise ValueError(f"found {show(word)} after another {name}; allowed: each once")
        found[name] = _pads(value) if name == "padding" else _numbers(value, word, name)
    for letter, name in _MEANING.items():
        if name not in found and name not in _OPTIONAL:
            like = {"spatial": "56x56", "kernel": "f3x3"}.get(name, f"{letter}32")
            raise ValueError(f"{name} is missing; allowed: a word for it, as in {like}")
    return {**_OPTIONAL, **found}


def _numbers(value: str, word: str, name: str) -> Any:
    """`3x3` as [3, 3]; `3` as 3, but for the size of the images, which is a list of one then."""
    alone = name in ("n", "c", "k", "groups")
    if "-" in value or ("x" in value and alone):
        raise ValueError(f"found {show(word)}; allowed: {'one number' if alone else 'sizes, as in 3x3,'} for {name}")
    sizes = [int(size) for size in value.split("x")]
    return sizes if len(sizes) > 1 or name == "spatial" else sizes[0]


def _pads(value: str) -> Any:
    """`1` for both sides of all dimensions, `1x2` for both sides of each, `0-1x2-1` for low and high of each."""
    if value.isdecimal():
        return int(value)
    pairs = [tuple(map(int, pad.split("-"))) for pad in value.split("x")]
    if any(len(pair) > 2 for pair in pairs):
        raise ValueError(f"found {show(f'p{value}')}; allowed: padding as in p1, p1x2 or p0-1x2-1")
    return [[pair[0], pair[-1]] for pair in pairs]


# benchdnn's descriptor ------------------------------------------------------------------------------------------------------

_TOKEN = re.compile(r"(g|mb|[io]c|[iokspd][dhw])([0-9]+)", re.ASCII)


def _of_benchdnn(text: str) -> Keys:
    """`mb32ic64ih56oc64oh56kh3ph1`, by the rules of oneDNN's tests/benchdnn/conv/conv_aux.cpp (`str2desc`).

    A dimension of which nothing is said is like the one before it, mb is 2, a dilation of 0 is none, `_` means nothing, an n
    begins a name. Where padding is left out the output says it, half of it before; where the output is left out, the
    padding is on both sides.
    """
    described = text.replace("_", "").partition("n")[0]
    tokens = _TOKEN.findall(described)
    if not tokens or "".join(map("".join, tokens)) != described:
        raise ValueError(f"is no convolution that can be read; allowed: {FORMS}")
    found: dict[str, int] = {}
    for name, value in tokens:
        if name in found:
            raise ValueError(f"found {name} twice; allowed: once")
        _must_be_sizes(f"{name}{value}", [value])
        found[name] = int(value)
    told = [dim for dim in "dhw" if any(letter + dim in found for letter in "iokspd")] or ["h"]
    for name in ("ic", "oc", *(letter + dim for dim in told for letter in "ik")):
        if name not in found:
            raise ValueError(f"{name} is missing; allowed: ic, oc, and of each dimension d, h, w its i and k, and o, s, p, d")
    sizes: dict[str, list[int]] = {"spatial": [], "kernel": [], "stride": [], "dilation": []}
    padding: list[list[int]] = []
    like = told[0]
    for dim in "dhw"["dhw".index(told[0]) :]:
        like = dim if dim in told else like
        size, taps, step = found[f"i{like}"], found[f"k{like}"], found.get(f"s{like}", 1)
        dilation = found.get(f"d{like}", 0) + 1
        for of_all, number in zip(sizes.values(), (size, taps, step, dilation), strict=True):
            of_all.append(number)
        padding.append(_sides(like, (size, taps, step, dilation), found.get(f"o{like}"), found.get(f"p{like}")))
    numbers = {"n": found.get("mb", 2), "c": found["ic"], "k": found["oc"], "groups": found.get("g", 1)}
    return {**numbers, **sizes, "padding": padding}


def _sides(dim: str, sizes: tuple[int, int, int, int], out: int | None, pad: int | None) -> list[int]:
    """The zeros before and after one dimension. Raises ValueError where no padding gives the output that is asked for.

    `sizes` are those of image, filter, stride and dilation.
    """
    size, taps, step, dilation = sizes
    if out is None:
        return [pad or 0, pad or 0]
    reach = dilation * (taps - 1) + 1
    total = (out - 1) * step + reach - size  # what the outputs need beside the input

    def outputs(low: int, high: int) -> int:
        return (size + low + high - reach) // max(step, 1) + 1

    if pad is None:
        low, high = max(total, 0) // 2, max(total, 0) - max(total, 0) // 2
    else:
        low, high = pad, pad if outputs(pad, pad) == out else total - pad
    if min(low, high) < 0 or outputs(low, high) != out:
        given = "" if pad is None else f" and p{dim}{pad}"
        raise ValueError(f"o{dim}{out}: no padding gives so many outputs of i{dim}{size}, k{dim}{taps} and s{dim}{step}{given}")
    return [low, high]


# A call ---------------------------------------------------------------------------------------------------------------------

_SHAPES = "a shape, as in x[8, 3, 224, 224], (8, 3, 224, 224) or torch.randn(8, 3, 224, 224)"


def _of_a_call(text: str) -> Keys:
    call: ast.expr | None = None
    with contextlib.suppress(SyntaxError, ValueError):
        call = ast.parse(text, mode="eval").body
    if not isinstance(call, ast.Call):
        raise ValueError(f"is no call that can be read; allowed: {FORMS}")
    name = ast.unparse(call.func)
    fitting = [(found, known, read) for pattern, known, read in _CALLS if (found := pattern.fullmatch(name))]
    if not fitting:
        allowed = "F.conv2d, lax.conv_general_dilated, tf.nn.conv2d, or of another number of dimensions"
        raise ValueError(f"found a call of {show(name)}; allowed: {allowed}")
    found, known, read = fitting[0]
    if len(call.args) < 2:
        raise ValueError(f"found {len(call.args)} arguments before the first with a name; allowed: {_SHAPES}, for x and for w")
    x, w, dims = _shape(call.args[0], "x"), _shape(call.args[1], "w"), int(found[1] or 0)
    if len(x) != len(w) or not 3 <= len(x) <= 5 or (dims and len(x) != dims + 2):
        wanted = f"{dims + 2} sizes" if dims else "3 to 5 sizes"
        raise ValueError(f"found {len(x)} sizes of x and {len(w)} of w; allowed: {wanted} of each")
    return read(x, w, _told(call, known))


def _shape(node: ast.expr, name: str) -> list[int]:
    """The whole numbers of a shape: a tuple or list of them, or the numbers in the brackets behind a name."""
    match node:
        case ast.Tuple(elts=parts) | ast.List(elts=parts) | ast.Subscript(slice=ast.Tuple(elts=parts)):
            sizes = parts
        case ast.Call(args=[ast.Tuple(elts=parts) | ast.List(elts=parts), *_]) | ast.Call(args=parts):
            sizes = parts
        case _:
            sizes = []
    numbers = [size.value for size in sizes if isinstance(size, ast.Constant) and type(size.value) is int]
    if not numbers or len(numbers) != len(sizes):
        raise ValueError(f"{name}: found {show(ast.unparse(node))}; allowed: {_SHAPES}")
    return [_whole(number, name) for number in numbers]


def _told(call: ast.Call, known: Sequence[str]) -> Keys:
    """The arguments behind the shapes, by name. Raises ValueError for an unknown one, one twice, a bias, or no literal."""
    if len(call.args) - 2 > len(known):
        raise ValueError(f"found {len(call.args)} arguments without a name; allowed: x, w, {', '.join(known)}")
    given: list[tuple[str | None, ast.expr]] = list(zip(known, call.args[2:], strict=False))
    given += [(keyword.arg, keyword.value) for keyword in call.keywords]
    told: Keys = {}
    for name, node in given:
        if name is None or name not in known:
            raise ValueError(f"argument: {not_one_of(name or '**', known)}")
        if name in told:
            raise ValueError(f"argument: found {name} twice; allowed: once")
        if name == "bias" and not (isinstance(node, ast.Constant) and node.value is None):
            allowed = "None, since a bias is an axis: -a bias=channel"
            raise ValueError(f"bias: found {show(ast.unparse(node))}; allowed: {allowed}")
        try:
            told[name] = ast.literal_eval(node)
        except (ValueError, TypeError):
            raise ValueError(f"{name}: found {show(ast.unparse(node))}; allowed: numbers, tuples and texts") from None
    return told


def _of_torch(x: list[int], w: list[int], told: Keys) -> Keys:
    """x [N, C, *spatial] and w [K, C/groups, *kernel]."""
    groups = _whole(told.get("groups", 1), "groups")
    padding = told.get("padding", 0)
    stride = _sizes(told.get("stride", 1), "stride")
    if padding == "same" and stride not in (1, [1] * (len(x) - 2)):
        raise ValueError('padding: found "same" beside a stride, which PyTorch refuses; allowed: numbers')
    _must_fit(x[1], w[1], groups, "groups")
    return {
        "n": x[0], "c": x[1], "k": w[0], "groups": groups, "spatial": x[2:], "kernel": w[2:], "stride": stride,
        "dilation": _sizes(told.get("dilation", 1), "dilation"),
        "padding": padding if padding in ("same", "valid") else _sizes(padding, "padding"),
    }  # fmt: skip


def _of_lax(x: list[int], w: list[int], told: Keys) -> Keys:
    """x and w in the order that `dimension_numbers` says, channels first where they are left out."""
    for name in ("window_strides", "padding"):
        if name not in told:
            raise ValueError(f"{name} is missing; allowed: lax.conv_general_dilated(x, w, window_strides, padding, ...)")
    dims, groups = len(x) - 2, _whole(told.get("feature_group_count", 1), "feature_group_count")
    letters = {1: "W", 2: "HW", 3: "DHW"}[dims]
    numbers = told.get("dimension_numbers") or (f"NC{letters}", f"OI{letters}", f"NC{letters}")
    if not isinstance(numbers, tuple | list) or len(numbers) != 3 or not all(isinstance(text, str) for text in numbers):
        raise ValueError('dimension_numbers: allowed: three texts, as in ("NHWC", "HWIO", "NHWC")')
    images, filters = _by_letter("dimension_numbers", x, numbers[0], "NC"), _by_letter("dimension_numbers", w, numbers[1], "OI")
    spatial = [letter for letter in numbers[0] if letter not in "NC"]
    if set(images) - {*"NC"} != set(filters) - {*"OI"}:
        told_both = f"{show(numbers[0])} and {show(numbers[1])}"
        raise ValueError(f"dimension_numbers: found {told_both}; allowed: the same spatial letters")
    if told.get("lhs_dilation") not in (None, (1,) * dims, [1] * dims):
        raise ValueError("lhs_dilation: found one, which makes it another operation; allowed: 1 in every dimension")
    _must_fit(images["C"], filters["I"], groups, "feature_group_count")
    return {
        "n": images["N"], "c": images["C"], "k": filters["O"], "groups": groups,
        "spatial": [images[letter] for letter in spatial], "kernel": [filters[letter] for letter in spatial],
        "stride": _sizes(told["window_strides"], "window_strides"),
        "dilation": _sizes(told.get("rhs_dilation") or 1, "rhs_dilation"), "padding": _rule_or_sides(told["padding"], dims),
    }  # fmt: skip


def _of_tensorflow(x: list[int], w: list[int], told: Keys) -> Keys:
    """x in the order that `data_format` says, channels last where it is left out, and w [*kernel, C/groups, K]."""
    dims = len(x) - 2
    for name in ("strides", "padding"):
        if name not in told:
            raise ValueError(f"{name} is missing; allowed: tf.nn.conv{dims}d(x, w, strides, padding, ...)")
    letters = told.get("data_format") or {2: "NHWC", 3: "NDHWC"}[dims]
    if not isinstance(letters, str):
        raise ValueError(f'data_format: found {show(letters)}; allowed: a text, as in "NHWC"')
    images, (of_group, filters) = _by_letter("data_format", x, letters, "NC"), w[-2:]
    inner = [place for place, letter in enumerate(letters) if letter not in "NC"]
    groups = images["C"] // max(of_group, 1)
    _must_fit(images["C"], of_group, groups, "groups")

    def of_space(name: str) -> Any:
        """A size for each spatial dimension, where sizes of all dimensions may stand as well."""
        found = _sizes(told.get(name, 1), name)
        if not isinstance(found, list) or len(found) == dims:
            return found
        if len(found) != dims + 2 or any(found[place] != 1 for place in range(dims + 2) if place not in inner):
            allowed = f"{dims} sizes, or {dims + 2} with 1 for images and channels"
            raise ValueError(f"{name}: found {show(found)}; allowed: {allowed}")
        return [found[place] for place in inner]

    padding = _rule_or_sides(told["padding"], dims + 2)
    if not isinstance(padding, str) and any(any(padding[place]) for place in range(dims + 2) if place not in inner):
        raise ValueError(f"padding: found {show(padding)}; allowed: none of images and channels")
    return {
        "n": images["N"], "c": images["C"], "k": filters, "groups": groups, "spatial": [x[place] for place in inner],
        "kernel": w[:-2], "stride": of_space("strides"), "dilation": of_space("dilations"),
        "padding": padding if isinstance(padding, str) else [padding[place] for place in inner],
    }  # fmt: skip


def _rule_or_sides(padding: object, dims: int) -> Any:
    """`"same"`, `"valid"`, or [low, high] for each of so many dimensions. Raises ValueError."""
    if isinstance(padding, str):
        if padding.upper() not in ("SAME", "VALID"):
            raise ValueError(f"padding: {not_one_of(padding, ['SAME', 'VALID'])}")
        return padding.lower()
    sides = [_sizes(pair, "padding") for pair in padding] if isinstance(padding, tuple | list) else []
    if len(sides) != dims or any(not isinstance(pair, list) or len(pair) != 2 for pair in sides):
        allowed = f'"SAME", "VALID", or (low, high) for each of {dims} dimensions'
        raise ValueError(f"padding: found {show(padding)}; allowed: {allowed}")
    return sides


def _by_letter(name: str, shape: Sequence[int], letters: str, needed: str) -> Mapping[str, int]:
    if len(letters) != len(shape) or len(set(letters)) != len(letters) or not set(needed) <= set(letters):
        allowed = f"{len(shape)} different letters, {needed[0]} and {needed[1]} among them"
        raise ValueError(f"{name}: found {show(letters)}; allowed: {allowed}")
    return dict(zip(letters, shape, strict=True))


def _must_fit(channels: int, of_group: int, groups: int, name: str) -> None:
    """Raises ValueError where the filter is of other channels than x."""
    if channels != of_group * groups:
        raise ValueError(f"x has {channels} channels and w {of_group} of a group; with {name}={groups} these do not fit")


def _sizes(value: object, name: str) -> Any:
    """A whole number, or a list of them for a tuple. Raises ValueError."""
    if isinstance(value, tuple | list):
        return [_whole(each, name) for each in value]
    return _whole(value, name)


def _whole(value: object, name: str) -> int:
    if type(value) is not int or not 0 <= value <= _MOST:
        raise ValueError(f"{name}: found {show(value)}; allowed: whole numbers below 2^31")
    return value


# By the name of the function: what may follow the two shapes, in the order of its own parameters, and what reads it.
_CALLS = (
    (
        re.compile(r"(?:F|torch|nn\.functional|torch\.nn\.functional)\.conv([123])d"),
        ("bias", "stride", "padding", "dilation", "groups"),
        _of_torch,
    ),
    (
        re.compile(r"(?:jax\.)?lax\.conv_general_dilated()"),
        ("window_strides", "padding", "lhs_dilation", "rhs_dilation", "dimension_numbers", "feature_group_count"),
        _of_lax,
    ),
    (re.compile(r"(?:tf|tensorflow)\.nn\.conv([23])d"), ("strides", "padding", "data_format", "dilations"), _of_tensorflow),
)
