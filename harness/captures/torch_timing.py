"""How much of a real step in PyTorch its convolutions take: each of them is timed on its own."""

import time
from collections.abc import Callable
from typing import Any

from harness.calls import Timing
from harness.captures import timing


def timed(torch: Any, step: Callable[[], None]) -> Timing:
    """The time of a step, and that of its convolutions.

    On a GPU these wait for what was launched before them and for themselves, so that their times are their own.
    """
    wait = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
    watch = _watch(torch, wait)

    def whole() -> None:
        step()
        wait()

    def watched() -> timing.Watched:
        watch.spent_ns = 0
        with watch:
            step()
        wait()
        return timing.Watched(watch.spent_ns)

    return timing.measured(whole, watched)


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
