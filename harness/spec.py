"""What is asked: workloads, and Cell, one workload under one setting of every axis.

Pure data, immutable, JSON-able by `codec`. Nothing here says how a framework does it (backends) or what came back (record).
"""

import math
import re
from dataclasses import dataclass, replace
from typing import Self

from harness.axes import CPU, Cache, Device, Direction, Layout, Mode, Optimizer, Precision
from harness.counting import taps_below
from harness.workload import Shape, Shapes, Spec


@dataclass(frozen=True)
class ConvSpec(Spec):
    """A convolution of 1, 2 or 3 spatial dimensions: x [N, C, *spatial], w [K, C/groups, *kernel], y [N, K, *out_spatial].

    As in every deep-learning framework this is a cross-correlation. `padding` is (low, high) per dimension, so it may be
    asymmetric. Raises ValueError where the numbers do not describe a convolution with at least one output.
    """

    n: int
    c: int
    k: int
    spatial: tuple[int, ...]
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    padding: tuple[tuple[int, int], ...]
    groups: int = 1

    def __post_init__(self) -> None:
        dims = self.ndim
        if dims not in (1, 2, 3):
            raise ValueError(f"spatial has {dims} dimensions; 1, 2 or 3 are allowed")
        for name in ("kernel", "stride", "dilation", "padding"):
            if len(getattr(self, name)) != dims:
                raise ValueError(f"{name} has {len(getattr(self, name))} entries, spatial has {dims}")
        for name in ("n", "c", "k", "groups"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; at least 1 is needed")
        for name in ("spatial", "kernel", "stride", "dilation"):
            if min(getattr(self, name)) < 1:
                raise ValueError(f"{name} is {list(getattr(self, name))}; every entry must be at least 1")
        if min(min(pair) for pair in self.padding) < 0:
            raise ValueError(f"padding is {[list(pair) for pair in self.padding]}; no entry may be negative")
        for name in ("c", "k"):
            if getattr(self, name) % self.groups:
                raise ValueError(f"{name} is {getattr(self, name)}, which {self.groups} groups do not divide")
        if min(self.out_spatial) < 1:
            raise ValueError(
                f"kernel {list(self.kernel)} with dilation {list(self.dilation)} does not fit into spatial "
                f"{list(self.spatial)} with padding {[list(pair) for pair in self.padding]}: no output is left"
            )

    @property
    def ndim(self) -> int:
        """Spatial dimensions: 1, 2 or 3."""
        return len(self.spatial)

    @property
    def out_spatial(self) -> tuple[int, ...]:
        """Output positions per dimension: floor((size + lo + hi - dilation * (kernel - 1) - 1) / stride) + 1."""
        return tuple(
            (size + lo + hi - d * (r - 1) - 1) // s + 1
            for size, r, s, d, (lo, hi) in zip(self.spatial, self.kernel, self.stride, self.dilation, self.padding, strict=True)
        )

    @property
    def x_shape(self) -> tuple[int, ...]:
        """Canonical shape of the input, [N, C, *spatial]."""
        return (self.n, self.c, *self.spatial)

    @property
    def w_shape(self) -> tuple[int, ...]:
        """Canonical shape of the filter, [K, C/groups, *kernel]."""
        return (self.k, self.c // self.groups, *self.kernel)

    @property
    def y_shape(self) -> tuple[int, ...]:
        """Canonical shape of the output and of its gradient, [N, K, *out_spatial]."""
        return (self.n, self.k, *self.out_spatial)

    def shapes(self, itemsize: int) -> Shapes:
        """Those of x, w and y."""
        return Shapes(self.x_shape, self.w_shape, self.y_shape)

    def products(self, direction: Direction) -> int:
        """Taps and channels of a group for y and dx, images and positions for dw."""
        return {
            Direction.FPROP: self.c // self.groups * math.prod(self.kernel),
            Direction.DGRAD: self.k // self.groups * math.prod(self.kernel),
            Direction.WGRAD: self.n * math.prod(self.out_spatial),
        }[direction]

    @property
    def multiply_adds_inside(self) -> int:
        """Without the taps that fall into the padding; separable, so a product of counts per dimension.

        Source: oneDNN's benchdnn (tests/benchdnn/conv/conv_aux.cpp) and XLA's cost analysis count so.
        """
        taps = 1
        for size, out, r, s, d, (lo, _) in zip(
            self.spatial, self.out_spatial, self.kernel, self.stride, self.dilation, self.padding, strict=True
        ):
            # A tap meets the input where 0 <= p * s + tap * d - lo < size: those before its end less those before its start.
            taps *= taps_below(size + lo, out, s, r, d) - taps_below(lo, out, s, r, d)
        return self.n * self.k * (self.c // self.groups) * taps

    @property
    def padding_elements(self) -> int:
        """Elements of x with its padding, less those of x."""
        sides = zip(self.spatial, self.padding, strict=True)
        return self.n * self.c * math.prod(size + low + high for size, (low, high) in sides) - math.prod(self.x_shape)

    @property
    def pads_evenly(self) -> bool:
        """Whether every dimension is padded alike on both sides."""
        return all(lo == hi for lo, hi in self.padding)

    @property
    def images(self) -> int:
        """Images in a batch: n."""
        return self.n

    def unfolded_elements(self, images: int) -> int:
        """For each output position the taps of every channel."""
        return images * self.c * math.prod(self.kernel) * math.prod(self.out_spatial)

    def swept(self, axis: str) -> tuple[str, int]:
        """The shape without its batch or its size, and that: n, or the first spatial dimension."""
        if axis == "batch":
            return str(replace(self, n=1)), self.n
        return str(replace(self, spatial=tuple(64 * taps for taps in self.kernel))), self.spatial[0]

    def layout_text(self, layout: Layout) -> str:
        """Its name for 1, 2 or 3 spatial dimensions: `NCW`, `NHWC`, `NDHWC`."""
        return layout.text(self.ndim)

    @property
    def depthwise(self) -> bool:
        """Whether each input channel is a group of its own (and there are several)."""
        return self.groups == self.c > 1

    def same_padding(self) -> tuple[tuple[int, int], ...]:
        """The padding that TensorFlow calls SAME for this size: out = ceil(size / stride), the odd one at the end.

        Source: https://www.tensorflow.org/api_docs/python/tf/nn#notes_on_padding_2
        """
        pairs = []
        for size, r, s, d in zip(self.spatial, self.kernel, self.stride, self.dilation, strict=True):
            total = max((math.ceil(size / s) - 1) * s + d * (r - 1) + 1 - size, 0)
            pairs.append((total // 2, total - total // 2))
        return tuple(pairs)

    def __str__(self) -> str:
        """A descriptor on one line: `n1 c3 k64 28x28 f5x5 p2x2`, what is trivial left out, `2-1` an asymmetric pad."""

        def sizes(values: tuple[int, ...]) -> str:
            return "x".join(map(str, values))

        parts = [f"n{self.n}", f"c{self.c}", f"k{self.k}", sizes(self.spatial), f"f{sizes(self.kernel)}"]
        if set(self.stride) != {1}:
            parts.append(f"s{sizes(self.stride)}")
        if any(map(any, self.padding)):
            parts.append("p" + "x".join(str(lo) if lo == hi else f"{lo}-{hi}" for lo, hi in self.padding))
        if set(self.dilation) != {1}:
            parts.append(f"d{sizes(self.dilation)}")
        if self.groups > 1:
            parts.append(f"g{self.groups}")
        return " ".join(parts)

    @classmethod
    def parse(cls, text: str) -> Self:
        """The convolution whose `str` is `text`, so that a frame, which holds only that text, can be computed with.

        Raises ValueError for anything else.
        """
        found = _DESCRIPTOR.fullmatch(text)
        if not found:
            raise ValueError(f"{text!r} describes no convolution; it reads like 'n1 c3 k64 28x28 f5x5 p2x2'")

        def sizes(values: str) -> tuple[int, ...]:
            return tuple(map(int, values.split("x")))

        spatial = sizes(found["spatial"])
        ones = "x".join("1" * len(spatial))
        pads = [pad.partition("-") for pad in (found["padding"] or "x".join("0" * len(spatial))).split("x")]
        return cls(
            n=int(found["n"]),
            c=int(found["c"]),
            k=int(found["k"]),
            spatial=spatial,
            kernel=sizes(found["kernel"]),
            stride=sizes(found["stride"] or ones),
            dilation=sizes(found["dilation"] or ones),
            padding=tuple((int(lo), int(hi or lo)) for lo, _, hi in pads),
            groups=int(found["groups"] or 1),
        )


_SIZES = r"\d+(?:x\d+)*"
_DESCRIPTOR = re.compile(
    rf"n(?P<n>\d+) c(?P<c>\d+) k(?P<k>\d+) (?P<spatial>{_SIZES}) f(?P<kernel>{_SIZES})(?: s(?P<stride>{_SIZES}))?"
    rf"(?: p(?P<padding>\d+(?:-\d+)?(?:x\d+(?:-\d+)?)*))?(?: d(?P<dilation>{_SIZES}))?(?: g(?P<groups>\d+))?"
)


@dataclass(frozen=True)
class GemmSpec(Spec):
    """A matrix product, [m, k] times [k, n]: its rate is the ceiling of the arithmetic. Raises ValueError for sizes under 1."""

    m: int
    n: int
    k: int

    is_convolution = False

    def __post_init__(self) -> None:
        for name in ("m", "n", "k"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; at least 1 is needed")

    def shapes(self, itemsize: int) -> Shapes:
        """[m, k], [k, n] and [m, n]."""
        return Shapes((self.m, self.k), (self.k, self.n), (self.m, self.n))

    def products(self, direction: Direction) -> int:
        """k of them."""
        return self.k

    def __str__(self) -> str:
        """`gemm m2048 n2048 k2048`."""
        return f"gemm m{self.m} n{self.n} k{self.k}"


@dataclass(frozen=True)
class CopySpec(Spec):
    """A copy of nbytes from one buffer to another: its rate is the ceiling of the memory. Raises ValueError under 16 bytes.

    nbytes must be a multiple of 16, so that it is a whole number of elements in every precision.
    """

    nbytes: int

    is_convolution = False
    computes = False

    def __post_init__(self) -> None:
        if self.nbytes < 16 or self.nbytes % 16:
            raise ValueError(f"nbytes is {self.nbytes}; a positive multiple of 16 is needed")

    def shapes(self, itemsize: int) -> Shapes:
        """Elements of x and as many of y."""
        return Shapes((self.nbytes // itemsize,), (0,), (self.nbytes // itemsize,))

    def products(self, direction: Direction) -> int:
        """None."""
        return 0

    def __str__(self) -> str:
        """`copy 268435456 bytes`."""
        return f"copy {self.nbytes} bytes"


WorkloadSpec = ConvSpec | GemmSpec | CopySpec

_GEMM = re.compile(r"gemm m(\d+) n(\d+) k(\d+)")
_COPY = re.compile(r"copy (\d+) bytes")


def parse_workload(text: str) -> WorkloadSpec:
    """The workload whose `str` is `text`. Raises ValueError where it is none."""
    if found := _GEMM.fullmatch(text):
        return GemmSpec(*map(int, found.groups()))
    if found := _COPY.fullmatch(text):
        return CopySpec(int(found[1]))
    return ConvSpec.parse(text)


@dataclass(frozen=True)
class Cell:
    """One thing to measure: a workload in one direction by one backend under one setting of every axis.

    `count` is how many layers of this shape the network has that the workload was taken from, `network` its name where the
    suite has all of its convolutions, `scaled` what was changed in the shape ("n=1 for 16"); they change no figure.
    """

    workload: str
    spec: WorkloadSpec
    direction: Direction
    backend: str
    mode: Mode = Mode.EAGER
    device: Device = CPU
    precision: Precision = Precision.FP32
    layout: Layout = Layout.CHANNELS_LAST
    cache: Cache = Cache.HOT
    threads: int = 0
    optimizer: Optimizer | None = None
    count: int = 1
    network: str = ""
    scaled: str = ""

    def __post_init__(self) -> None:
        if (self.optimizer is not None) != (self.direction is Direction.TRAIN):
            raise ValueError(f"{self.direction} with optimizer {self.optimizer}: train needs one, the others take none")
        if self.spec.is_convolution == (self.direction is Direction.NONE):
            raise ValueError(f"{self.direction} of {self.spec}: a convolution needs a direction, anything else takes none")

    @property
    def is_convolution(self) -> bool:
        """Whether its workload is a convolution; else it is there to be a ceiling."""
        return self.spec.is_convolution

    @property
    def layout_text(self) -> str:
        """The name of its layout; empty where its workload has none."""
        return self.spec.layout_text(self.layout)

    @property
    def operands(self) -> dict[str, Shape]:
        """The shapes of x, w and dy, as `backends.base.Operands` says."""
        x, w, y = self.spec.shapes(self.precision.itemsize)
        return {"x": x, "w": w, "dy": y if self.is_convolution else (0,)}

    @property
    def results(self) -> dict[str, Shape]:
        """The shape of each array that a call leaves, by the names of `backends.base.Results`."""
        x, w, y = self.spec.shapes(self.precision.itemsize)
        shapes = {"y": y, "dx": x, "dw": w, "w": w}
        return {name: shapes[name] for name in self.direction.outputs if name in shapes}

    @property
    def conv(self) -> ConvSpec:
        """The convolution. Raises TypeError where the cell is none: whoever asks must have looked at `direction`."""
        if not isinstance(self.spec, ConvSpec):
            raise TypeError(f"{self.spec} is no convolution")
        return self.spec

    def __str__(self) -> str:
        """The stable id: every axis, in a fixed order; an optimizer stands at the end."""
        axes = (
            self.workload, self.direction, self.backend, self.mode, str(self.device), self.precision,
            self.layout.lower(), self.cache, f"t{self.threads}",
        )  # fmt: skip
        return "/".join([*axes, self.optimizer] if self.optimizer else axes)
