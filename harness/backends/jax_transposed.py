"""A transposed convolution as JAX is told it: `lax.conv_transpose`, and the filter in the order that it takes.

JAX takes the filter mirrored in space, with input and output channels as those of the transposed convolution itself
(`transpose_kernel=False`, as flax calls it). It is brought into that order before the clock starts.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from harness.spec import ConvSpec

if TYPE_CHECKING:
    from harness.backends.base import Array


def call(lax: Any, mirrored: ConvSpec, numbers: tuple[str, str, str], precision: Any) -> tuple[str, Callable[[Any, Any], Any]]:
    """The name of the call that makes y of (x, w), and the call; `lax.conv_transpose` itself takes no groups."""
    told = {"rhs_dilation": mirrored.dilation, "dimension_numbers": numbers, "precision": precision}
    if mirrored.groups == 1:
        return "lax.conv_transpose", partial(lax.conv_transpose, strides=mirrored.stride, padding=pads(mirrored), **told)
    ones = (1,) * mirrored.ndim
    return "lax.conv_general_dilated(lhs_dilation)", partial(
        lax.conv_general_dilated, window_strides=ones, padding=pads(mirrored), lhs_dilation=mirrored.stride,
        feature_group_count=mirrored.groups, **told,
    )  # fmt: skip


def pads(mirrored: ConvSpec) -> tuple[tuple[int, int], ...]:
    """What is added around x, once there are stride - 1 zeros between its positions, so that the output has the right size.

    A negative number cuts positions off.
    """
    found = []
    for out, size, r, s, d, (lo, _) in zip(
        mirrored.spatial,
        mirrored.out_spatial,
        mirrored.kernel,
        mirrored.stride,
        mirrored.dilation,
        mirrored.padding,
        strict=True,
    ):
        reach = d * (r - 1)
        low = reach - lo
        found.append((low, out - ((size - 1) * s + 1) + reach - low))
    return tuple(found)


def turned(w: Array, groups: int) -> Array:
    """[C, K/g, *kernel] as [K, C/g, *kernel] with every spatial dimension reversed; the same again turns it back."""
    import numpy as np

    first, second, *kernel = w.shape
    split = w.reshape(groups, first // groups, second, *kernel).swapaxes(1, 2)
    swapped = split.reshape(groups * second, first // groups, *kernel)
    return np.ascontiguousarray(np.flip(swapped, tuple(range(2, w.ndim))))
