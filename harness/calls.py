"""The convolutions that a model asks for, call by call: what a capture sees and a log tells. Pure data, as JSON by `codec`."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from harness.axes import Direction, Layout, Precision
from harness.spec import ConvSpec, TransposedSpec

STEP = "a step"  # what calls are counted in, where nothing else is said

# Elements of tensors as frameworks and libraries name them.
_PRECISIONS = {
    "float64": Precision.FP64, "double": Precision.FP64, "f64": Precision.FP64,
    "float32": Precision.FP32, "float": Precision.FP32, "f32": Precision.FP32,
    "bfloat16": Precision.BF16, "bf16": Precision.BF16,
    "float16": Precision.FP16, "half": Precision.FP16, "f16": Precision.FP16,
}  # fmt: skip


@dataclass(frozen=True)
class Call:
    """One pass over a convolution that a model makes, `times` times in a step, or in what else `Seen.counts_of` names.

    `layout` is None where the tensors fit both. `remark` is what a reader should know of it.
    """

    spec: ConvSpec | TransposedSpec
    direction: Direction
    precision: Precision = Precision.FP32
    layout: Layout | None = None
    bias: bool = False
    name: str = ""
    times: int = 1
    remark: str = ""


@dataclass(frozen=True)
class LeftOut:
    """What was seen and is no Call, `times` times: what it is, why it is left out, its layer where that is known."""

    what: str
    why: str
    name: str = ""
    times: int = 1


@dataclass(frozen=True)
class Timing:
    """A step of the model and the convolutions in it, in ns: medians over `steps` of each.

    `shared_ns` is the part of `convolutions_ns` in operations that have other work fused into them.
    """

    step_ns: int
    convolutions_ns: int
    steps: int
    shared_ns: int = 0


@dataclass(frozen=True)
class Seen:
    """All that was seen of a model. `source` says by what, `operations` how often each other operation was seen.

    `counts_of` says in what the calls are counted: in a step, or in all of a log in which the steps are not told apart.
    """

    source: str
    calls: tuple[Call, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    operations: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    timing: Timing | None = None
    counts_of: str = STEP


def precision(name: str) -> Precision | None:
    """The precision of elements that a framework calls so (`float32`, `half`, `bf16`); None for those of no precision here."""
    return _PRECISIONS.get(name)


def layer(
    x: Sequence[int], w: Sequence[int], stride: Sequence[int], padding: Sequence[tuple[int, int]], dilation: Sequence[int],
    groups: int = 1, transposed: bool = False, output_padding: Sequence[int] = (),
) -> ConvSpec | TransposedSpec:  # fmt: skip
    """The `spec` of a Call, of a layer with input x [N, C, *spatial] and filter w [K, C/groups, *kernel].

    The filter of a transposed layer is [C, K/groups, *kernel]. Lists of one entry stand for all dimensions. Raises ValueError
    for a layer that no spec describes.
    """
    dims = len(x) - 2
    stride, dilation = _each(stride, dims), _each(dilation, dims)
    padding = tuple((int(low), int(high)) for low, high in padding) * (dims if len(padding) == 1 else 1)
    n, c, *spatial = map(int, x)
    kernel = tuple(map(int, w[2:]))
    if not transposed:
        return ConvSpec(n, c, int(w[0]), tuple(spatial), kernel, stride, dilation, padding, groups)
    return TransposedSpec.of(
        n=n, c=c, k=int(w[1]) * groups, spatial=tuple(spatial), kernel=kernel, stride=stride, dilation=dilation,
        padding=padding, groups=groups, output_padding=_each(output_padding or (0,), dims),
    )  # fmt: skip


def _each(values: Sequence[int], dims: int) -> tuple[int, ...]:
    """One entry per dimension."""
    found = tuple(map(int, values))
    return found * dims if len(found) == 1 else found
