"""Of one dimension of a convolution: how many taps of the filter meet the input, and the padding called SAME. Numbers alone."""

import math


def taps_below(bound: int, out: int, s: int, r: int, d: int) -> int:
    """How many pairs of 0 <= p < out and 0 <= tap < r have p * s + tap * d < bound, without going through them."""
    if bound <= 0:
        return 0
    whole = min(out, max(0, (bound - 1 - (r - 1) * d) // s + 1))  # positions all of whose taps are below
    some = min(out, (bound - 1) // s + 1) - whole  # those after them of which at least one tap is
    # Of those from the last backwards, p has (bound - 1 - p * s) // d + 1 taps.
    last = bound - 1 - (whole + some - 1) * s
    return whole * r + some + _floor_sum(some, d, s, last)


def same_padding(size: int, taps: int, stride: int, dilation: int) -> tuple[int, int]:
    """What TensorFlow calls SAME in one dimension, (low, high): ceil(size / stride) outputs, the odd one at the end.

    Source: https://www.tensorflow.org/api_docs/python/tf/nn#notes_on_padding_2
    """
    total = max((math.ceil(size / stride) - 1) * stride + dilation * (taps - 1) + 1 - size, 0)
    return total // 2, total - total // 2


def _floor_sum(n: int, m: int, a: int, b: int) -> int:
    """Sum of (a * i + b) // m over 0 <= i < n, by Euclid's algorithm: as many steps as the numbers have digits."""
    total = 0
    while n > 0:
        total += n * (n - 1) // 2 * (a // m) + n * (b // m)
        a, b = a % m, b % m
        top = a * n + b
        n, b, a, m = top // m, top % m, m, a
        if m == 0:
            break
    return total
