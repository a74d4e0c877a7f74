"""What every kind of workload answers for itself: Spec, the base class of the kinds that stand in `spec`."""

import math
from abc import ABC, abstractmethod
from typing import NamedTuple

from harness.axes import Direction, Layout

Shape = tuple[int, ...]


class Shapes(NamedTuple):
    """The shapes of a workload's operands and of its result, y = f(x, w); (0,) for one that it does not have."""

    x: Shape
    w: Shape
    y: Shape


class Spec(ABC):
    """One kind of workload, which answers for itself what the rest of the house asks of any kind.

    A kind is a frozen dataclass in `spec`, named there in `WorkloadSpec` and in `parse_workload`. The suite's reader makes it,
    and the adapters run it.
    """

    is_convolution = True  # has passes, layouts and caches to choose; what has not serves as a ceiling
    computes = True  # has products to sum; what has not moves bytes, in whatever precision
    transposed = False  # is a transposed convolution

    @abstractmethod
    def shapes(self, itemsize: int) -> Shapes:
        """The shapes of x, w and y in elements of so many bytes."""

    @abstractmethod
    def products(self, direction: Direction) -> int:
        """How many products are summed for one element of the result of a single pass."""

    @property
    def multiply_adds(self) -> int:
        """Of one pass; the same for each of them."""
        return math.prod(self.shapes(1).y) * self.products(Direction.FPROP if self.is_convolution else Direction.NONE)

    @property
    def multiply_adds_inside(self) -> int:
        """The same without those whose tap falls into the padding."""
        return self.multiply_adds

    @property
    def padding_elements(self) -> int:
        """Elements of the padding around x."""
        return 0

    @property
    def pads_evenly(self) -> bool:
        """Whether every dimension is padded alike on both sides."""
        return True

    @property
    def ndim(self) -> int:
        """Spatial dimensions."""
        return 0

    @property
    def images(self) -> int:
        """Images in a batch."""
        return 1

    def unfolded_elements(self, images: int) -> int:
        """Elements of so many images of x, unfolded for a matrix product (im2col)."""
        return 0

    def swept(self, axis: str) -> tuple[str, int]:
        """What a sweep over `batch` or `size` leaves alike, as text, and its value on that axis; 0 where there is none."""
        return str(self), 0

    def layout_text(self, layout: Layout) -> str:
        """The name of a layout for this kind: `NCW`, `NHWC`; empty where it has none."""
        return ""
