"""convbench: how fast a convolution really is, forward and backward, in TensorFlow, PyTorch and JAX, on CPU and GPU.

The names below are the whole Python interface; each loads what it needs when it is first used, so that importing
this package costs nothing (a worker process imports it too, before it sets up its environment).
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.execution.capturing import capture
    from harness.execution.execute import run
    from harness.review.comparing import along, compare
    from harness.review.pages import report
    from harness.review.reading import explanations, profiles, summary, tuned
    from harness.store.table import kernels, load, samples

__all__ = [
    "along", "capture", "compare", "explanations", "kernels", "load", "profiles", "report", "run", "samples", "summary",
    "tuned",
]  # fmt: skip

_HOMES = {
    "run": "harness.execution.execute", "load": "harness.store.table", "samples": "harness.store.table",
    "summary": "harness.review.reading", "compare": "harness.review.comparing", "along": "harness.review.comparing",
    "report": "harness.review.pages", "tuned": "harness.review.reading", "kernels": "harness.store.table",
    "profiles": "harness.review.reading", "explanations": "harness.review.reading",
    "capture": "harness.execution.capturing",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
