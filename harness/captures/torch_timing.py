"""How much of a real step in PyTorch its convolutions take: whole steps and steps whose convolutions are timed, in turns."""

import statistics
import time
from collections.abc import Callable
from typing import Any

from harness.calls import Timing

_FEWEST, _MOST, _BUDGET_S = 3, 20, 10.0  # of each kind, and for how long it goes on beyond the fewest


def timed(torch: Any, step: Callable[[], None]) -> Timing:
    """The time of a step without any look into it, and that of the convolutions in the steps between.

    On a GPU these wait for what was launched before them and for themselves, so that their times are their own.
    """
    on_gpu = torch.cuda.is_available()
    wait = torch.cuda.synchronize if on_gpu else lambda: None
    watch = _watch(torch, wait)
    step()  # allocators, caches of compiled kernels
    whole, convolutions, until = list[int](), list[int](), time.monotonic() + _BUDGET_S
    while len(whole) < _FEWEST or (len(whole) < _MOST and time.monotonic() < until):
        wait()
        begun = time.perf_counter_ns()
        step()
        wait()
        whole.append(time.perf_counter_ns() - begun)
        watch.spent_ns = 0
        with watch:
            step()
        convolutions.append(watch.spent_ns)
    return Timing(round(statistics.median(whole)), round(statistics.median(convolutions)), len(whole))


def _watch(torch: Any, wait: Callable[[], None]) -> Any:
    """A mode that adds up the times of convolutions, in ns."""
    from torch.utils._python_dispatch import TorchDispatchMode

    aten = torch.ops.aten
    watched = (aten.convolution.default, aten.convolution_backward.default)

    class Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
        spent_ns = 0

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if func not in watched:
                return func(*args, **(kwargs or {}))
            wait()
            begun = time.perf_counter_ns()
            result = func(*args, **(kwargs or {}))
            wait()
            self.spent_ns += time.perf_counter_ns() - begun
            return result

    return Watch()  # type: ignore[no-untyped-call]
