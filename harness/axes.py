"""The axes along which a workload is varied, and the words that each may have."""

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, Self

LABEL = "@"  # between a backend and the label under which it is measured once more: torch@aa
PINNED = "pinned"  # begins the label of the twins that nights are held against: torch@pinned
NO_COMPETITOR = f"{LABEL}(?:aa$|{PINNED})"  # the backends that are measured beside their equals, and compete with none


class Direction(StrEnum):
    """One pass over a convolution y = conv(x, w), or several in one call.

    fprop, dgrad and wgrad are the three passes, each alone. bprop is the forward pass, the loss mean(y^2) and both
    gradients; train adds the optimizer's step on w. Other tools' names for them stand in docs/glossary.md. none is for
    what is no convolution: the matrix product and the copy that the ceilings are made of.
    """

    FPROP = "fprop"
    DGRAD = "dgrad"
    WGRAD = "wgrad"
    BPROP = "bprop"
    TRAIN = "train"
    NONE = "none"

    @property
    def words(self) -> str:
        """What people read: `backward filter`."""
        return {
            Direction.FPROP: "forward",
            Direction.DGRAD: "backward input",
            Direction.WGRAD: "backward filter",
            Direction.BPROP: "forward + both gradients",
            Direction.TRAIN: "training step",
            Direction.NONE: "no convolution",
        }[self]

    @property
    def is_convolution(self) -> bool:
        """Whether it is one of the directions of a convolution."""
        return self is not Direction.NONE

    @property
    def passes(self) -> int:
        """How many passes over the convolution it stands for. The loss and the optimizer's step are not counted."""
        return 3 if self in (Direction.BPROP, Direction.TRAIN) else 1

    @property
    def single(self) -> bool:
        """Whether it is one pass alone."""
        return self in PASSES

    @property
    def reads(self) -> tuple[str, ...]:
        """The operands that a call reads, by the names of `backends.base.Operands`."""
        return {Direction.DGRAD: ("w", "dy"), Direction.WGRAD: ("x", "dy")}.get(self, ("x", "w"))

    @property
    def outputs(self) -> tuple[str, ...]:
        """What a call leaves that has no bias, by the names of `backends.base.Results`; the loss is a number, not an array."""
        return {
            Direction.FPROP: ("y",),
            Direction.DGRAD: ("dx",),
            Direction.WGRAD: ("dw",),
            Direction.BPROP: ("y", "loss", "dx", "dw"),
            Direction.TRAIN: ("y", "loss", "dx", "dw", "w"),
            Direction.NONE: ("y",),
        }[self]

    @property
    def biased_outputs(self) -> tuple[str, ...]:
        """What a call with a bias leaves: beside a filter that of the bias, its gradient db or its updated value b."""
        more = {"dw": ("dw", "db"), "w": ("w", "b")}
        return tuple(each for name in self.outputs for each in more.get(name, (name,)))


PASSES = (Direction.FPROP, Direction.DGRAD, Direction.WGRAD)  # each one pass alone
UPDATED = ("w", "b")  # what an optimizer's step changes, by the names of `backends.base.Results`


class Mode(StrEnum):
    """How the framework runs the call: dispatched op by op, compiled by its own compiler, or TensorFlow's through XLA."""

    EAGER = "eager"
    COMPILED = "compiled"
    XLA = "xla"


class Precision(StrEnum):
    """The arithmetic. TF32 is never implied: it is asked for by name, and fp32 forbids it."""

    FP64 = "fp64"
    FP32 = "fp32"
    TF32 = "tf32"
    BF16 = "bf16"
    FP16 = "fp16"

    @property
    def itemsize(self) -> int:
        """Bytes of one element in memory; TF32 is stored as float32."""
        return {Precision.FP64: 8, Precision.FP32: 4, Precision.TF32: 4, Precision.BF16: 2, Precision.FP16: 2}[self]

    @property
    def unit_roundoff(self) -> float:
        """Half the distance from 1 to the next number of the format that the products are rounded to."""
        return {
            Precision.FP64: 2.0**-53,
            Precision.FP32: 2.0**-24,
            Precision.TF32: 2.0**-11,
            Precision.BF16: 2.0**-8,
            Precision.FP16: 2.0**-11,
        }[self]


class Layout(StrEnum):
    """Order of the activations' dimensions: channels first or channels last, named by its 2-D form."""

    CHANNELS_FIRST = "NCHW"
    CHANNELS_LAST = "NHWC"

    def text(self, ndim: int) -> str:
        """The name for 1, 2 or 3 spatial dimensions: `NCW`, `NHWC`, `NDHWC`."""
        spatial = {1: "W", 2: "HW", 3: "DHW"}[ndim]
        return f"NC{spatial}" if self is Layout.CHANNELS_FIRST else f"N{spatial}C"


class Cache(StrEnum):
    """Whether a call finds its operands in the caches: hot, called again at once; cold, the caches overwritten before."""

    HOT = "hot"
    COLD = "cold"


class Optimizer(StrEnum):
    """The optimizer of `train`, both with learning rate 0.01: plain SGD, or Adam with 0.9, 0.999 and 1e-8."""

    SGD = "sgd"
    ADAM = "adam"


class Autotune(StrEnum):
    """Whether the kernels of a GPU are chosen by trying several of them, which takes place in the first call.

    default leaves it to the framework: PyTorch takes what cuDNN's heuristic names, TensorFlow and XLA try.
    """

    DEFAULT = "default"
    ON = "on"
    OFF = "off"


class Values(StrEnum):
    """What the operands hold: some calls take many times as long, or less, on other values than random ones."""

    NORMAL = "normal"  # drawn from N(0, 1)
    ZEROS = "zeros"
    ONES = "ones"
    DENORMAL = "denormal"  # of w and dy, mostly smaller than the smallest normal number of the precision; x is N(0, 1)
    SPARSE = "sparse"  # nine of ten elements are 0, the others N(0, 1)


class Switch(StrEnum):
    """A switch of a process that maintainers ask for first; which frameworks have it their adapters say."""

    DEFAULT = "default"
    ONEDNN_OFF = "onednn_off"  # the framework's own kernels instead of oneDNN's
    ISA_AVX2 = "isa_avx2"  # no instructions newer than AVX2, in oneDNN or in what XLA compiles
    ISA_AVX512 = "isa_avx512"  # no AMX
    FLUSH_DENORMALS = "flush_denormals"  # the processor takes denormal numbers for 0
    YNN_OFF = "ynn_off"  # XLA's own convolution instead of the library YNN's


class Bias(StrEnum):
    """Whether a convolution adds a bias to its result."""

    NONE = "none"
    CHANNEL = "channel"  # one value for each output channel


class Epilogue(StrEnum):
    """What is made of the result of a forward pass: in the same call, or by one of its own where a framework makes one."""

    NONE = "none"
    RELU = "relu"  # max(y, 0), behind the bias where there is one


class Api(StrEnum):
    """By which call of its framework a convolution is made; which frameworks have it their adapters say."""

    DEFAULT = "default"  # the op that makes one pass alone
    LAYER = "layer"  # the framework's layer object, as nn.Conv2d or keras.layers.Conv2D; its gradients are autograd's
    DEPTHWISE = "depthwise"  # tf.nn.depthwise_conv2d, where the default is another op


class Option(NamedTuple):
    """An axis whose default leaves no trace: a cell at it has the id, and what is stored of it, of a time before the axis.

    The default stands in no id, and in a column as empty text. `meaning` is that of the column. Cells that differ in an axis
    that `competes` do the same work, so that the fastest of all of them is looked for. What is settled when a `process` begins
    keeps cells in processes of their own, whose environment has the value in a variable of `VARIABLES`.
    """

    default: StrEnum
    meaning: str
    competes: bool = False
    process: bool = False


OPTIONS: dict[str, Option] = {
    "autotune": Option(
        Autotune.DEFAULT,
        "Whether the kernels of a GPU were chosen by trying them: on or off; empty: as the framework does by default.",
        competes=True,
        process=True,
    ),
    "switch": Option(
        Switch.DEFAULT,
        "The switch of the process that was set: onednn_off, isa_avx2, isa_avx512, flush_denormals, ynn_off; empty: none.",
        process=True,
    ),
    "operands": Option(
        Values.NORMAL,
        "What the operands hold: zeros, ones, denormal (w and dy mostly below the smallest normal number), sparse (nine of ten "
        "elements are 0); empty: N(0, 1).",
    ),
    "bias": Option(Bias.NONE, "What the convolution adds to y: channel (a value for each output channel); empty: nothing."),
    "epilogue": Option(
        Epilogue.NONE, "What is made of the result of the forward pass, behind the bias: relu (max(y, 0)); empty: nothing."
    ),
    "api": Option(
        Api.DEFAULT,
        "By which call the framework was asked: layer (its layer object, with autograd's gradients), depthwise "
        "(tf.nn.depthwise_conv2d); empty: by the op that makes one pass alone.",
    ),
}
VARIABLES = {name: f"CONVBENCH_{name.upper()}" for name, option in OPTIONS.items() if option.process}
COMPETING = ("backend", "mode", *(name for name, option in OPTIONS.items() if option.competes))


@dataclass(frozen=True)
class Device:
    """Where a cell runs. Text form `cpu`, `gpu:0`."""

    kind: str
    index: int = 0

    def __str__(self) -> str:
        return "cpu" if self.kind == "cpu" else f"{self.kind}:{self.index}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """`cpu`, `gpu` or `gpu:1`. Raises ValueError for anything else."""
        kind, colon, index = text.partition(":")
        if kind not in ("cpu", "gpu") or (colon and (kind == "cpu" or not index.isdecimal())):
            raise ValueError(f"{text!r} is no device; write cpu, gpu or gpu:1")
        return cls(kind, int(index or 0))


CPU = Device("cpu")
