"""A convolution as TensorFlow's ops are told it: padding, strides, and the order in which the arrays lie. Needs no TensorFlow.

The filter is [*kernel, C/g, K] in either layout. A 1-D convolution is the 2-D op on a height of 1, as `tf.nn.conv1d` does it.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from harness.axes import Api, Bias, Direction, Layout, Mode, Optimizer, Precision
from harness.spec import Cell, ConvSpec

if TYPE_CHECKING:
    from harness.backends.base import Array


class Geometry:
    """What the ops are told of one cell's convolution, and how its arrays are turned from canonical layout and back."""

    def __init__(self, cell: Cell) -> None:
        # A transposed convolution is told as the one that it mirrors.
        self.spec, self.last, self.transposed = cell.conv, cell.layout is Layout.CHANNELS_LAST, cell.spec.transposed
        self.layer, self._biased, self._direction = cell.api is Api.LAYER, cell.bias is Bias.CHANNEL, cell.direction
        serves = layer_is_depthwise(self.spec) if self.layer else depthwise(self.spec)
        self.depthwise = (serves or cell.api is Api.DEPTHWISE) and not self.transposed
        self.raised = self.spec.ndim == 1 and not self.layer  # to two dimensions, of which the first is 1
        # Conv3D takes SAME and VALID only; for any other padding x is padded before the clock starts.
        self.prepadded = pads_beforehand(self.spec) and not self.transposed
        self.padding = "VALID" if self.prepadded else padding(self.spec)

    @cached_property
    def arguments(self) -> dict[str, Any]:
        """strides, padding, dilations and data_format as the raw ops want them; what an op takes by default is left out."""
        spec = self.spec
        told: dict[str, Any] = {
            "strides": self._around(_two(spec.stride, None if self.depthwise else 1), 1),
            "padding": self.padding,
        }
        if max(spec.dilation) > 1:
            told["dilations"] = self._around(_two(spec.dilation, 1), 1)
        if not self.last:
            told["data_format"] = "NCDHW" if spec.ndim == 3 else "NCHW"
        if self.padding == "EXPLICIT":
            pairs = self._around(_two(spec.padding, (0, 0)), (0, 0))
            told["explicit_paddings"] = [side for pair in pairs for side in pair]
        return told

    @property
    def told(self) -> tuple[Any, Any, dict[str, Any]]:
        """Strides, padding, and what else a function of tf.nn is told, which takes explicit paddings as pairs."""
        raw = self.arguments
        flat = raw.get("explicit_paddings")
        padding = [list(pair) for pair in zip(flat[::2], flat[1::2], strict=True)] if flat else self.padding
        rest: dict[str, Any] = {key: raw[key] for key in ("data_format", "dilations") if key in raw}
        if self.depthwise and "dilations" in rest:  # the depthwise one takes those of height and width alone
            rest["dilations"] = list(_two(self.spec.dilation, 1))
        return raw["strides"], padding, rest

    @property
    def layer_name(self) -> str:
        """The class of the layer in `keras.layers`."""
        return f"{'Depthwise' if self.depthwise else ''}Conv{self.spec.ndim}D"

    @property
    def layer_text(self) -> str:
        """The layer as the name of a call has it."""
        return f"keras.layers.{self.layer_name}{'(use_bias=True)' if self._biased else ''}"

    @property
    def taped_for(self) -> str:
        """What the tape of one gradient is asked for, as the name of a call has it."""
        return "x" if self._direction is Direction.DGRAD else "w and b" if self._biased else "w"

    @property
    def layer_arguments(self) -> dict[str, Any]:
        """What the layer is made with, but for its dtype; its kernel and its bias are 0 until they are set."""
        spec = self.spec
        of = {"depth_multiplier": spec.k // spec.c} if self.depthwise else {"filters": spec.k, "groups": spec.groups}
        return {
            **of, "kernel_size": spec.kernel, "strides": spec.stride, "padding": self.padding.lower(),
            "data_format": "channels_last" if self.last else "channels_first", "dilation_rate": spec.dilation,
            "use_bias": self._biased, f"{'depthwise' if self.depthwise else 'kernel'}_initializer": "zeros",
        }  # fmt: skip

    def _around(self, inner: tuple[Any, ...], outer: Any) -> list[Any]:
        """The entries of the spatial dimensions with those of batch and channels, all in the order of the layout."""
        return [outer, *inner, outer] if self.last else [outer, outer, *inner]

    @property
    def pads(self) -> list[tuple[int, int]]:
        """What `tf.pad` adds to both sides of every dimension of x where it is padded beforehand."""
        return self._around(self.spec.padding, (0, 0))

    @property
    def bias_format(self) -> str:
        """Where the channels stand, as the ops of a bias are told it for any number of dimensions."""
        return "NHWC" if self.last else "NCHW"

    @property
    def x_shape(self) -> tuple[int, ...]:
        """Canonical shape of the convolution's x, with the padding that it was given beforehand."""
        n, c, *spatial = self.spec.x_shape
        if self.prepadded:
            spatial = [size + lo + hi for size, (lo, hi) in zip(spatial, self.spec.padding, strict=True)]
        return (n, c, *spatial)

    def shape(self, canonical: tuple[int, ...]) -> list[int]:
        """The canonical shape of activations in the cell's layout."""
        n, c, *spatial = canonical
        spatial = [1, *spatial] if self.raised else spatial
        return [n, *spatial, c] if self.last else [n, c, *spatial]

    @property
    def filter_shape(self) -> list[int]:
        """The shape of the filter as `filter` lays it."""
        k, per_group, *kernel = self.spec.w_shape
        kernel = [1, *kernel] if self.raised else kernel
        return [*kernel, self.spec.c, k // self.spec.c] if self.depthwise else [*kernel, per_group, k]

    def activations(self, array: Array) -> Array:
        """[N, C, *spatial] in the cell's layout."""
        if self.raised:
            array = array[:, :, None]
        return _moved(array, 1, -1) if self.last else array

    def filter(self, array: Array) -> Array:
        """[K, C/g, *kernel] as [*kernel, C/g, K], or as [*kernel, C, K/C] for the depthwise op."""
        if self.raised:
            array = array[:, :, None]
        if self.depthwise:  # output channel c * multiplier + m belongs to input channel c
            array = array[:, 0].reshape(self.spec.c, -1, *array.shape[2:])
        return _moved(_moved(array, 0, -1), 0, -1) if self.depthwise else _moved(_moved(array, 1, -1), 0, -1)

    def canonical(self, name: str, array: Array) -> Array:
        """The output of that name, a field of `Results`, in canonical layout, and without the padding that x was given."""
        if name in ("dw", "w"):
            return self._canonical_filter(array)
        if name in ("db", "b"):
            return array
        array = _moved(array, -1, 1) if self.last else array
        array = array[:, :, 0] if self.raised else array
        if name == "y" or not self.prepadded:
            return array
        inside = (slice(lo, lo + n) for n, (lo, _) in zip(self.spec.spatial, self.spec.padding, strict=True))
        return array[(slice(None), slice(None), *inside)]

    def _canonical_filter(self, array: Array) -> Array:
        """The inverse of `filter`."""
        if self.depthwise:
            array = _moved(_moved(array, -1, 0), -1, 0)
            array = array.reshape(self.spec.k, 1, *array.shape[2:])
        else:
            array = _moved(_moved(array, -1, 0), -1, 1)
        return array[:, :, 0] if self.raised else array


def padding(spec: ConvSpec) -> str:
    """How the ops are told the padding. oneDNN's kernels take SAME and VALID only, as most programs say it."""
    if not any(map(any, spec.padding)):
        return "VALID"
    return "SAME" if spec.padding == spec.same_padding() else "EXPLICIT"


def pads_beforehand(spec: ConvSpec) -> bool:
    """Whether no op takes this padding, so that x is padded before the clock starts."""
    return spec.ndim == 3 and padding(spec) == "EXPLICIT"


def depthwise(spec: ConvSpec) -> bool:
    """Whether `tf.nn.depthwise_conv2d` is a single op that can serve."""
    return spec.depthwise and not lacks_depthwise(spec)


def lacks_depthwise(spec: ConvSpec) -> str:
    """Why `tf.nn.depthwise_conv2d` does not serve for a depthwise convolution, in a clause; empty where it does."""
    if not spec.depthwise:
        return ""
    if spec.ndim == 3:
        return "TensorFlow has no depthwise op of three dimensions"
    if max(spec.stride) > 1 and max(spec.dilation) > 1:
        return "tf.nn.depthwise_conv2d gives a wrong result with both stride and dilation"
    if max(spec.dilation) > 1:
        return "tf.nn.depthwise_conv2d makes a dilated convolution of several operations (space to batch)"
    return "" if len(set(_two(spec.stride))) == 1 else "tf.nn.depthwise_conv2d takes equal strides only"


def layer_is_depthwise(spec: ConvSpec) -> bool:
    """Whether a depthwise layer of Keras can serve; the op that it calls takes equal strides, or 1 where there is dilation."""
    return spec.depthwise and spec.ndim < 3 and (len(set(spec.stride)) == 1 or max(spec.dilation) > 1)


def compiled_inside(cell: Cell) -> bool:
    """Whether Keras's layer compiles the forward pass by XLA in itself, whatever the mode.

    `keras.src.backend.tensorflow.nn.conv` makes a new `tf.function(jit_compile=True)` in each call for what TensorFlow has no
    CPU kernel for: groups, where the layer is no depthwise one, and volumes with channels first. An eager call is traced and
    compiled each time, a graph holds one function of it.
    """
    if cell.api is not Api.LAYER or layer_is_depthwise(cell.conv):
        return False
    return cell.conv.groups > 1 or (cell.conv.ndim == 3 and cell.layout is Layout.CHANNELS_FIRST)


def taped(cell: Cell) -> bool:
    """Whether a tape around the forward call makes the one gradient that is asked for."""
    return cell.api is not Api.DEFAULT and cell.direction in (Direction.DGRAD, Direction.WGRAD)


def runs_all(cell: Cell) -> bool:
    """Whether a call that is taped for one gradient runs the forward pass and the other gradient, too.

    A graph and a program of XLA lose both, since nothing uses them; what XLA compiles inside of a graph keeps them.
    """
    return taped(cell) and (cell.mode is Mode.EAGER or (cell.mode is Mode.COMPILED and compiled_inside(cell)))


def lacks(cell: Cell) -> str | None:
    """Why TensorFlow has no call for a cell, whatever the build; None where it may have one."""
    if cell.optimizer is Optimizer.ADAM and cell.precision in (Precision.BF16, Precision.FP16):
        return f"Keras computes Adam's constants in {cell.precision}, where 0.999 is 1 or 1e-8 is 0: no step comes of it"
    if not cell.is_convolution:
        return None
    if cell.spec.transposed and pads_beforehand(cell.conv):
        return "TensorFlow's transposed 3-D convolution takes paddings SAME and VALID only"
    return lacks_api(cell)


def lacks_api(cell: Cell) -> str | None:
    """Why a convolution cannot be made by the call that its axis `api` names; None where it can."""
    spec, strided, dilated = cell.conv, max(cell.conv.stride) > 1, max(cell.conv.dilation) > 1
    if cell.api is Api.LAYER:
        if cell.spec.transposed:
            return "Keras chooses padding and size of a transposed layer by rules of its own: none is measured here"
        if padding(spec) == "EXPLICIT":
            return "Keras's layers take the paddings SAME and VALID only"
        if strided and dilated and not layer_is_depthwise(spec):
            return "Keras's layer takes a stride or a dilation, not both"
    if cell.api is Api.DEPTHWISE:
        if cell.spec.transposed or not spec.depthwise:
            return "tf.nn.depthwise_conv2d is for convolutions of one input channel in each group"
        if not (lack := lacks_depthwise(spec)):
            return "tf.nn.depthwise_conv2d is what api=default calls here, too"
        return None if dilated and not strided and spec.ndim < 3 else lack
    return None


def smallest(spec: ConvSpec) -> ConvSpec:
    """A convolution of the same kind on as few positions as show it; sizes and paddings keep their remainder by the stride.

    SAME padding depends on that remainder alone, so the small one is padded by the same rule as the large one. Padding wider
    than the filter stays so, and with it explicit.
    """
    sizes, sides = [], []
    for size, (low, high), r, s, d in zip(spec.spatial, spec.padding, spec.kernel, spec.stride, spec.dilation, strict=True):
        least = d * (r - 1) + 1
        size, low, high = (length - max(0, (length - least) // s) * s for length in (size, low, high))
        sizes.append(size)
        sides.append((low, high))
    return replace(spec, n=1, spatial=tuple(sizes), padding=tuple(sides))


def _two(values: tuple[Any, ...], filler: Any = None) -> tuple[Any, ...]:
    """One entry becomes two: that of the added height of 1 first (its own, or that of the only dimension)."""
    return ((values[0] if filler is None else filler), values[0]) if len(values) == 1 else values


def _moved(array: Array, source: int, target: int) -> Array:
    import numpy as np

    return np.ascontiguousarray(np.moveaxis(array, source, target))
