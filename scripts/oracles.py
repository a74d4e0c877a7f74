"""What convbench is held against: a plain loop around the same operations. Shares no code with it, not even the operands.

    python scripts/oracles.py FRAMEWORK CELL ...    prepares these cells, says `ready`, and answers each line on standard
                                                    input that names one with the median time of a call in a visit to it, in ns

Run by scripts/fidelity, one thread on one core.
"""

import math
import os
import sys
import time
from collections.abc import Callable
from functools import partial
from operator import methodcaller
from typing import Any, NamedTuple


class Layer(NamedTuple):
    """A square 2-D convolution."""

    n: int
    c: int
    k: int
    size: int
    kernel: int
    stride: int
    pad: int
    groups: int = 1


LAYERS = {
    "example": Layer(1, 3, 64, 28, 5, 1, 2),  # of many texts on the three passes
    "rn50_conv1": Layer(1, 3, 64, 224, 7, 2, 3),  # ResNet-50, as in suites/first.toml
    "rn50_res2_3x3": Layer(1, 64, 64, 56, 3, 1, 1),
    "rn50_res4_1x1": Layer(1, 1024, 256, 14, 1, 1, 0),
    "rn50_res5_3x3": Layer(1, 512, 512, 7, 3, 1, 1),
    "depthwise": Layer(1, 64, 64, 28, 3, 1, 1, groups=64),
    "grouped": Layer(1, 64, 64, 28, 3, 1, 1, groups=4),
}
PASSES = ("fprop", "dgrad", "wgrad")
WARM_S = 0.2
LEAD_S, VISIT_S = 0.012, 0.05  # of a visit what does not count, since another process ran before, and what does
# Just under the 32 MiB at which glibc's mmap threshold ends (mallopt(3), M_MMAP_THRESHOLD).
SETTLING_BYTES = 31 * 2**20

Call = Callable[[], Any]


class Waited(NamedTuple):
    """A call that is done when its result has been waited for; a timed loop makes both itself, with no function around them."""

    launch: Call
    wait: Callable[[Any], Any]

    def __call__(self) -> Any:
        """Both, where nothing is timed: some tenths of a us more."""
        return self.wait(self.launch())


# The operations, as each framework's documentation calls them ------------------------------------------------------------
# As partials, which have no code in Python: a function around the op is 0.3 to 1 us of TensorFlow's call, up to 1.5 % of it.


def drawn(*shape: int) -> Any:
    """N(0, 1) in float32 by NumPy, as convbench's operands are: where their memory comes from may show in the time.

    TensorFlow's passes of rn50_res5_3x3 seemed to take some percent longer on what tf.random.normal made (docs/fidelity.md).
    """
    import numpy as np

    return np.random.default_rng().standard_normal(shape, dtype=np.float32)


def torch_calls(layer: Layer) -> dict[str, Call]:
    """The three passes in PyTorch, eager, channels last."""
    import torch

    n, c, k, size, r, s, p, g = layer
    last: dict[str, Any] = {"memory_format": torch.channels_last}
    # `to`, since `contiguous` leaves a 1x1 filter as it is.
    x, w = (torch.from_numpy(drawn(*shape)).to(**last) for shape in ((n, c, size, size), (k, c // g, r, r)))
    dy = torch.from_numpy(drawn(*torch.nn.functional.conv2d(x, w, None, s, p, 1, g).shape)).to(**last)

    back = torch.ops.aten.convolution_backward
    # Made beforehand: lists made in the call are 1 to 1.5 us of it, 2 % of a short one.
    strides, pads, ones, zeros, in_x, in_w = [s, s], [p, p], [1, 1], [0, 0], [True, False, False], [False, True, False]
    return {
        "fprop": partial(torch.nn.functional.conv2d, x, w, None, (s, s), (p, p), (1, 1), g),  # as torch.nn.Conv2d calls it
        "dgrad": partial(back, dy, x, w, None, strides, pads, ones, False, zeros, g, in_x),
        "wgrad": partial(back, dy, x, w, None, strides, pads, ones, False, zeros, g, in_w),
    }


def tensorflow_calls(layer: Layer) -> dict[str, Call]:
    """The three passes in TensorFlow, NHWC, eager; SAME where the layer's padding is that."""
    import tensorflow as tf

    n, c, k, size, r, s, p, g = layer
    same = s == 1 and p == r // 2 and p > 0
    pads = [[0, 0], [p, p], [p, p], [0, 0]]
    padding: Any = "SAME" if same else pads if p else "VALID"
    strides = [1, s, s, 1]
    x = tf.constant(drawn(n, size, size, c))
    if g == c:
        w = tf.constant(drawn(r, r, c, k // c))
        dy = tf.constant(drawn(*tf.nn.depthwise_conv2d(x, w, strides, padding).shape))
        x_sizes, w_sizes = tf.constant(x.shape.as_list()), tf.constant(w.shape.as_list())
        # By their raw ops, as the other gradients: the same two in tf.nn take 5 to 8 us more, a tenth of the call.
        ops, how = tf.raw_ops, {"strides": strides, "padding": padding}
        return {
            "fprop": partial(tf.nn.depthwise_conv2d, x, w, strides, padding),
            "dgrad": partial(ops.DepthwiseConv2dNativeBackpropInput, input_sizes=x_sizes, filter=w, out_backprop=dy, **how),
            "wgrad": partial(ops.DepthwiseConv2dNativeBackpropFilter, input=x, filter_sizes=w_sizes, out_backprop=dy, **how),
        }
    w = tf.constant(drawn(r, r, c // g, k))
    dy = tf.constant(drawn(*tf.nn.conv2d(x, w, s, padding).shape))
    x_sizes, w_sizes = tf.constant(x.shape.as_list()), tf.constant(w.shape.as_list())
    raw: dict[str, Any] = {"strides": strides, "padding": "SAME" if same else "EXPLICIT" if p else "VALID"}
    if raw["padding"] == "EXPLICIT":
        raw["explicit_paddings"] = [side for pair in pads for side in pair]
    return {
        "fprop": partial(tf.nn.conv2d, x, w, s, padding),
        "dgrad": partial(tf.raw_ops.Conv2DBackpropInput, input_sizes=x_sizes, filter=w, out_backprop=dy, **raw),
        "wgrad": partial(tf.raw_ops.Conv2DBackpropFilter, input=x, filter_sizes=w_sizes, out_backprop=dy, **raw),
    }


def jax_calls(layer: Layer) -> dict[str, Call]:
    """The three passes in JAX, NHWC, jitted, each waited for."""
    import jax

    n, c, k, size, r, s, p, g = layer

    def conv(x: Any, w: Any) -> Any:
        return jax.lax.conv_general_dilated(
            x, w, (s, s), [(p, p)] * 2, dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=g, precision="highest"
        )

    x, w = (jax.numpy.asarray(drawn(*shape)) for shape in ((n, size, size, c), (r, r, c // g, k)))
    dy = jax.numpy.asarray(drawn(*conv(x, w).shape))
    forward = jax.jit(conv)
    in_x = jax.jit(lambda dy, w: jax.linear_transpose(lambda a: conv(a, w), x)(dy)[0])
    in_w = jax.jit(lambda dy, x: jax.linear_transpose(lambda b: conv(x, b), w)(dy)[0])
    wait = methodcaller("block_until_ready")
    return {
        "fprop": Waited(partial(forward, x, w), wait),
        "dgrad": Waited(partial(in_x, dy, w), wait),
        "wgrad": Waited(partial(in_w, dy, x), wait),
    }


CALLS = {"torch": torch_calls, "tensorflow": tensorflow_calls, "jax": jax_calls}


def call_of(framework: str, cell: str) -> Call:
    """The call of a cell such as `grouped/wgrad`."""
    layer, direction = cell.split("/")
    return CALLS[framework](LAYERS[layer])[direction]


# The loop ----------------------------------------------------------------------------------------------------------------


def loop(call: Call, count: int) -> list[int]:
    """The times of so many single calls, in ns.

    It counts calls: looking at the time between two of them would make the next one up to 1.5 % longer.
    """
    times: list[int] = []
    if isinstance(call, Waited):
        launch, wait = call
        for _ in range(count):
            begun = time.perf_counter_ns()
            wait(launch())
            times.append(time.perf_counter_ns() - begun)
    else:
        for _ in range(count):
            begun = time.perf_counter_ns()
            call()
            times.append(time.perf_counter_ns() - begun)
    return times


Run = Callable[[Call, int], list[int]]


def loop_of(framework: str) -> Run:
    """The loop; in TensorFlow with no function above it, since its op takes longer the more there are.

    A loop in a script's function has two or three above it, 0.3 to 0.7 us of the op; convbench's cells have none.
    """
    if framework == "tensorflow":
        from greenlet import greenlet

        return lambda call, count: greenlet(loop).switch(call, count)  # type: ignore[no-any-return]
    return loop


class Prepared:
    """A call that is warm, and how long it takes."""

    def __init__(self, call: Call, run: Run) -> None:
        self.call, self.run = call, run
        call()  # may compile, and is no measure of the others
        warm, begun = 0, time.perf_counter()
        while not warm or time.perf_counter() < begun + WARM_S:
            call()
            warm += 1
        self.call_s = (time.perf_counter() - begun) / warm

    def visit(self) -> float:
        """The median time of a call in ns: over what counts of a visit, right behind what does not."""
        self.run(self.call, math.ceil(LEAD_S / self.call_s))
        times = sorted(self.run(self.call, math.ceil(VISIT_S / self.call_s)))
        self.call_s = min(self.call_s, times[len(times) // 2] / 1e9)  # the warm-up may have been disturbed
        return (times[(len(times) - 1) // 2] + times[len(times) // 2]) / 2


def become(framework: str) -> None:
    """Make this process one of that framework, on one thread and one core.

    It frees a large block first, which puts the allocator into the state in which convbench's worker has it.
    """
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    os.environ.update(OMP_NUM_THREADS="1", CUDA_VISIBLE_DEVICES="-1", JAX_PLATFORMS="cpu", TF_CPP_MIN_LOG_LEVEL="2")
    # Or NumPy's large arrays leave huge pages in the heap, which no framework has by itself.
    os.environ["NUMPY_MADVISE_HUGEPAGE"] = "0"
    if framework == "torch":
        import torch

        torch.set_num_threads(1)
    if framework == "tensorflow":
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    bytearray(SETTLING_BYTES)


def serve(framework: str, cells: list[str]) -> None:
    """Prepare these cells, and answer each line on standard input that names one."""
    become(framework)
    run, prepared = loop_of(framework), {}
    for cell in cells:
        # Other operands first, as convbench's check has: in a new process JAX is up to 3 % quicker on the first ones.
        call_of(framework, cell)()
        prepared[cell] = Prepared(call_of(framework, cell), run)
    print("ready", flush=True)
    for line in sys.stdin:
        print(prepared[line.rstrip("\n")].visit(), flush=True)


if __name__ == "__main__":
    serve(sys.argv[1], sys.argv[2:])
