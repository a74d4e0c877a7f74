"""What is asked: workloads, and Cell, one workload under one setting of every axis.

Pure data, immutable, JSON-able by `codec`. Nothing here says how a framework does it (backends) or what came back (record).
"""

import math
import re
from dataclasses import dataclass, replace
from typing import Any, Self

from harness import axes, descriptor
from harness.axes import CPU, OPTIONS, Autotune, Cache, Device, Direction, Layout, Mode, Optimizer, Precision, Switch, Values
from harness.counting import same_padding, taps_below
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
        descriptor.must_describe(**vars(self))
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
        """The padding that TensorFlow calls SAME for this size."""
        return tuple(map(same_padding, self.spatial, self.kernel, self.stride, self.dilation))

    def __str__(self) -> str:
        """A descriptor on one line: `n1 c3 k64 28x28 f5x5 p2x2`, what is trivial left out, `2-1` an asymmetric pad."""
        return descriptor.described(**vars(self))

    @classmethod
    def parse(cls, text: str) -> Self:
        """The convolution whose `str` is `text`, so that a frame, which holds only that text, can be computed with.

        Raises ValueError for anything else.
        """
        found = descriptor.parsed(text)
        if found is None or any(found.pop("output_padding")):
            raise ValueError(f"{text!r} describes no convolution; it reads like 'n1 c3 k64 28x28 f5x5 p2x2'")
        return cls(**found)


@dataclass(frozen=True)
class TransposedSpec(Spec):
    """A transposed convolution: x [N, C, *spatial], w [C, K/groups, *kernel], y [N, K, *out_spatial].

    It computes the input gradient of another convolution, `mirrored`: x is the y of that one, y is its x, w is its w, and c and
    k have changed places. So each of its passes is a pass of the mirrored one: forward is the input gradient, the input
    gradient is forward, and the filter gradient is the filter gradient with x and dy exchanged.
    """

    mirrored: ConvSpec

    transposed = True

    @classmethod
    def of(
        cls, *, n: int, c: int, k: int, spatial: tuple[int, ...], kernel: tuple[int, ...], stride: tuple[int, ...],
        dilation: tuple[int, ...], padding: tuple[tuple[int, int], ...], groups: int = 1,
        output_padding: tuple[int, ...] | None = None,
    ) -> Self:  # fmt: skip
        """The one with these sizes of its own; `output_padding` are positions that y has more at its end, below the stride.

        y has (size - 1) * stride - lo - hi + dilation * (kernel - 1) + 1 + output_padding positions per dimension, as in
        https://docs.pytorch.org/docs/stable/generated/torch.nn.ConvTranspose2d.html. Raises ValueError where the numbers do not
        describe a transposed convolution with at least one output.
        """
        more = (0,) * len(spatial) if output_padding is None else output_padding
        descriptor.must_describe(n, c, k, spatial, kernel, stride, dilation, padding, groups)
        if len(more) != len(spatial):
            raise ValueError(f"output_padding has {len(more)} entries, spatial has {len(spatial)}")
        if not all(0 <= extra < s for extra, s in zip(more, stride, strict=True)):
            raise ValueError(
                f"output_padding is {list(more)}; each entry must be at least 0 and below the stride {list(stride)}"
            )
        out = tuple(
            (size - 1) * s - lo - hi + d * (r - 1) + 1 + extra
            for size, r, s, d, (lo, hi), extra in zip(spatial, kernel, stride, dilation, padding, more, strict=True)
        )
        if min(out) < 1:
            raise ValueError(
                f"padding {[list(pair) for pair in padding]} takes all that spatial {list(spatial)} with kernel "
                f"{list(kernel)} and stride {list(stride)} gives: no output is left"
            )
        return cls(ConvSpec(n, k, c, out, kernel, stride, dilation, padding, groups))

    @property
    def sizes(self) -> dict[str, Any]:
        """What `of` takes to make it."""
        found = {name: getattr(self.mirrored, name) for name in ("n", "kernel", "stride", "dilation", "padding", "groups")}
        inner = self.mirrored.out_spatial
        more = (
            out - ((size - 1) * s - lo - hi + d * (r - 1) + 1)
            for out, size, r, s, d, (lo, hi) in zip(
                self.mirrored.spatial, inner, found["kernel"], found["stride"], found["dilation"], found["padding"], strict=True
            )
        )
        return {**found, "c": self.mirrored.k, "k": self.mirrored.c, "spatial": inner, "output_padding": tuple(more)}

    @property
    def ndim(self) -> int:
        """Spatial dimensions: 1, 2 or 3."""
        return self.mirrored.ndim

    def shapes(self, itemsize: int) -> Shapes:
        """Those of x, w and y."""
        return Shapes(self.mirrored.y_shape, self.mirrored.w_shape, self.mirrored.x_shape)

    def products(self, direction: Direction) -> int:
        """Those of the mirrored pass."""
        return self.mirrored.products(MIRRORED[direction])

    @property
    def multiply_adds(self) -> int:
        """Those of the mirrored convolution, in which each of them stands too."""
        return self.mirrored.multiply_adds

    @property
    def multiply_adds_inside(self) -> int:
        """Without those whose result the padding cuts off."""
        return self.mirrored.multiply_adds_inside

    @property
    def pads_evenly(self) -> bool:
        """Whether as much is cut off on both sides of every dimension."""
        return self.mirrored.pads_evenly

    @property
    def images(self) -> int:
        """Images in a batch: n."""
        return self.mirrored.n

    def unfolded_elements(self, images: int) -> int:
        """Those of the mirrored convolution."""
        return self.mirrored.unfolded_elements(images)

    def swept(self, axis: str) -> tuple[str, int]:
        """The shape without its batch or its size, and that: n, or the first spatial dimension of x."""
        if axis == "batch":
            return str(TransposedSpec.of(**{**self.sizes, "n": 1})), self.mirrored.n
        alike = TransposedSpec.of(**{**self.sizes, "spatial": tuple(64 * taps for taps in self.mirrored.kernel)})
        return str(alike), self.mirrored.out_spatial[0]

    def layout_text(self, layout: Layout) -> str:
        """Its name for 1, 2 or 3 spatial dimensions: `NCW`, `NHWC`, `NDHWC`."""
        return layout.text(self.ndim)

    def __str__(self) -> str:
        """A descriptor as that of a convolution: `transposed n1 c64 k32 14x14 f3x3 s2x2 p1x1 o1x1`, o for output_padding."""
        return f"transposed {descriptor.described(**self.sizes)}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """The transposed convolution whose `str` is `text`. Raises ValueError for anything else."""
        found = descriptor.parsed(text.removeprefix("transposed "))
        if found is None or not text.startswith("transposed "):
            raise ValueError(
                f"{text!r} describes no transposed convolution; it reads like 'transposed n1 c64 k32 14x14 f4x4 s2x2'"
            )
        return cls.of(**found)


# The pass of the mirrored convolution that a single pass of a transposed one is.
MIRRORED = {Direction.FPROP: Direction.DGRAD, Direction.DGRAD: Direction.FPROP, Direction.WGRAD: Direction.WGRAD}


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


WorkloadSpec = ConvSpec | TransposedSpec | GemmSpec | CopySpec

_GEMM = re.compile(r"gemm m(\d+) n(\d+) k(\d+)")
_COPY = re.compile(r"copy (\d+) bytes")


def parse_workload(text: str) -> WorkloadSpec:
    """The workload whose `str` is `text`. Raises ValueError where it is none."""
    if found := _GEMM.fullmatch(text):
        return GemmSpec(*map(int, found.groups()))
    if found := _COPY.fullmatch(text):
        return CopySpec(int(found[1]))
    return TransposedSpec.parse(text) if text.startswith("transposed ") else ConvSpec.parse(text)


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
    autotune: Autotune = Autotune.DEFAULT
    operands: Values = Values.NORMAL
    switch: Switch = Switch.DEFAULT
    bias: axes.Bias = axes.Bias.NONE
    epilogue: axes.Epilogue = axes.Epilogue.NONE
    api: axes.Api = axes.Api.DEFAULT

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
    def options(self) -> dict[str, str]:
        """The axes of OPTIONS that are not at their default, each with its value."""
        values = {name: getattr(self, name) for name in OPTIONS}
        return {name: str(value) for name, value in values.items() if value != OPTIONS[name].default}

    @property
    def of_process(self) -> tuple[tuple[str, str], ...]:
        """Those of `options` that a process is begun with, which it cannot share with cells that have others."""
        return tuple((name, value) for name, value in self.options.items() if OPTIONS[name].process)

    @property
    def layout_text(self) -> str:
        """The name of its layout; empty where its workload has none."""
        return self.spec.layout_text(self.layout)

    @property
    def reads(self) -> tuple[str, ...]:
        """The operands that a call reads, by the names of `backends.base.Operands`."""
        biased = self.bias is axes.Bias.CHANNEL and "y" in self.direction.outputs
        return (*self.direction.reads, "b") if biased else self.direction.reads

    @property
    def outputs(self) -> tuple[str, ...]:
        """What a call leaves, by the names of `backends.base.Results`; the loss is a number, the others are arrays."""
        return self.direction.outputs if self.bias is axes.Bias.NONE else self.direction.biased_outputs

    @property
    def operand_shapes(self) -> dict[str, Shape]:
        """The shapes of x, w, dy and, where there is a bias, b, as `backends.base.Operands` says."""
        x, w, y = self.spec.shapes(self.precision.itemsize)
        shapes = {"x": x, "w": w, "dy": y if self.is_convolution else (0,)}
        return shapes if self.bias is axes.Bias.NONE else {**shapes, "b": y[1:2]}

    @property
    def results(self) -> dict[str, Shape]:
        """The shape of each array that a call leaves, by the names of `backends.base.Results`."""
        x, w, y = self.spec.shapes(self.precision.itemsize)
        shapes = {"y": y, "dx": x, "dw": w, "w": w, "db": y[1:2], "b": y[1:2]}
        return {name: shapes[name] for name in self.outputs if name in shapes}

    @property
    def conv(self) -> ConvSpec:
        """The convolution, or the one that a transposed one mirrors: `spec.transposed` tells which.

        Raises TypeError where the cell is none: whoever asks must have looked at `direction`.
        """
        if isinstance(self.spec, TransposedSpec):
            return self.spec.mirrored
        if not isinstance(self.spec, ConvSpec):
            raise TypeError(f"{self.spec} is no convolution")
        return self.spec

    def __str__(self) -> str:
        """The stable id: every axis, in a fixed order; an optimizer stands at the end, and `options` behind it."""
        parts = (
            self.workload, self.direction, self.backend, self.mode, str(self.device), self.precision,
            self.layout.lower(), self.cache, f"t{self.threads}",
        )  # fmt: skip
        optimizer = (self.optimizer,) if self.optimizer else ()
        return "/".join((*parts, *optimizer, *(f"{name}:{value}" for name, value in self.options.items())))
