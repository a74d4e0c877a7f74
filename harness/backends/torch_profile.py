"""What torch.profiler tells of calls of PyTorch: operators in one another, the spans of compiled programs, and a GPU's kernels.

On the CPU oneDNN's own lines are read beside it, since its primitives are no events of that profiler. No range of its own is
recorded around a call: opening one takes 9 to 35 us.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any

from harness.backends import kinds, onednn
from harness.profile import Event, Kind, Level
from harness.spec import Cell

SOURCE = "torch.profiler"
# What operators do, by their names without namespace and underscores around it; the first that fits counts.
_OPERATORS = tuple(
    (kind, re.compile(pattern))
    for kind, pattern in (
        (Kind.CONVOLUTION, r"conv(?!ert)"),
        (Kind.GEMM, r"^((add|baddb|addb|int_|scaled_)?mm|bmm|matmul|linear|dot|mv|addmv|einsum)$"),
        (Kind.OPTIMIZER, r"^fused_(adam|sgd|adagrad)"),
        (Kind.REDUCTION, r"^(foreach_norm|sum|mean|amax|amin|max|min|norm|linalg_vector_norm|any|all|var|std)$"),
        (Kind.COPY, r"^(foreach_copy|copy|clone|to_copy|cat|pad|constant_pad_nd|repeat|flip|index)$"),
        (
            Kind.BOOKKEEPING,
            r"^(empty|new_|zeros|ones|full|view|slice|reshape|expand|split|resize|squeeze|unsqueeze)\w*$"
            r"|^(unsafe_view|as_strided|to|contiguous|set|select|narrow|t|transpose|permute|detach|alias|fill|zero|item|local_scalar_dense)$"
            r"|^(nnpack_available|lift_fresh|result_type|is_nonzero|resolve_conj|resolve_neg|chunk|unbind|movedim|flatten|scalar_tensor|arange)$",
        ),
        (
            Kind.ELEMENTWISE,
            r"^(foreach_)?(add|sub|rsub|mul|div|square|pow|sqrt|rsqrt|neg|abs|exp|log|addcmul|addcdiv|lerp|clamp\w*|maximum"
            r"|minimum|reciprocal|where|relu|sigmoid|tanh|eq|ne|lt|gt|le|ge)$",
        ),
    )
)
_SPANS = ("autograd::", "torch::")  # functions of the autograd engine, in which operators run
_STEP = "Optimizer.step#"
_DIRECTION = re.compile(r"_(?:forward|backward)$")
_RUNTIME = ("cuda_runtime", "cuda_driver")  # calls of CUDA by the host
_NO_WORK = ("gpu_user_annotation", "overhead", "cuda_sync")  # on the timeline of a device


@contextmanager
def watched(torch: Any, cell: Cell, tell: Callable[[tuple[str, ...]], None]) -> Iterator[Callable[[], list[Event]]]:
    """As `Prepared.watched`; `tell` is called at the exit, with what was read."""
    activity, on_gpu = torch.profiler.ProfilerActivity, cell.device.kind != "cpu"
    profiler = torch.profiler.profile(activities=[activity.CPU, *([activity.CUDA] if on_gpu else [])])
    silent = onednn.Printed()
    library = not on_gpu and torch.backends.mkldnn.is_available()
    with profiler, onednn.printed(torch._C._verbose.mkldnn_set_verbose) if library else nullcontext(silent) as printed:
        yield lambda: events(profiler.profiler.kineto_results.events(), printed.events(cell))
    tell((f"{SOURCE} {torch.__version__}", *([printed.source] if library else [])))


def events(recorded: Iterable[Any], primitives: Sequence[Event]) -> list[Event]:
    """The events that the profiler recorded, as kineto has them with times of time.time_ns, and oneDNN's primitives."""
    shown = [event for event in recorded if not event.is_hidden_event()]
    on_device = [event for event in shown if _on_device(event)]
    host = [_of_host(event) for event in shown if not _on_device(event)]
    operators = [event for event in host if event.level is Level.OPERATOR]
    spans = [event for event in host if event.level is Level.SPAN]
    found = _optimizing(kinds.settled(operators, primitives), spans)
    if on_device:  # what computes is there, and the host's operators only start it
        found = [kinds.starting(event) for event in found]
    callers = (event for event in shown if not _on_device(event) and not event.linked_correlation_id())
    started = {event.correlation_id(): event.name() for event in callers}
    kernels = [_kernel(event, started) for event in on_device if event.activity_type() not in _NO_WORK]
    return [*spans, *found, *primitives, *kernels]


def _on_device(event: Any) -> bool:
    return str(event.device_type()).rpartition(".")[2] != "CPU"


def _of_host(event: Any) -> Event:
    name = event.name()
    namespace, _, operator = name.rpartition("::")
    level, kind, implementation = Level.SPAN, Kind.FRAMEWORK, ""
    if event.activity_type() in _RUNTIME:
        level = Level.OPERATOR
    elif namespace and not name.startswith(_SPANS):
        level, kind = Level.OPERATOR, operator_kind(operator)
        implementation = _DIRECTION.sub("", operator) if kind is Kind.CONVOLUTION else ""
    thread = str(event.start_thread_id())
    return Event(event.start_ns(), event.end_ns(), thread, level, name, kind, SOURCE, implementation)


def operator_kind(name: str) -> Kind:
    """What an operator does, by its name without the namespace, `_slow_conv2d_forward`."""
    bare = name.strip("_")
    return next((kind for kind, pattern in _OPERATORS if pattern.search(bare)), Kind.OTHER)


def _optimizing(operators: Sequence[Event], spans: Iterable[Event]) -> list[Event]:
    """The operators; what computes inside a step of an optimizer is that step."""
    steps = sorted((span.start_ns, span.end_ns) for span in spans if span.name.startswith(_STEP))
    found = []
    for event in operators:
        before = bisect_right(steps, (event.start_ns, event.start_ns)) - 1
        inside = before >= 0 and event.end_ns <= steps[before][1]
        found.append(replace(event, kind=Kind.OPTIMIZER) if inside and event.kind is Kind.ELEMENTWISE else event)
    return found


def _kernel(event: Any, started: dict[int, str]) -> Event:
    """A kernel, copy or fill on a GPU, under the name of the operator that started it."""
    linked = event.linked_correlation_id()
    name = started.get(linked, "") if linked else ""
    kind = kinds.kernel_kind(event.name())
    if kind is Kind.OTHER and name:
        kind = operator_kind(name.rpartition("::")[2])
    stream = f"{event.device_index()} {event.device_resource_id()}"
    return Event(
        event.start_ns(), event.end_ns(), stream, Level.PRIMITIVE, name or event.name(), kind, SOURCE, event.name()
    )  # fmt: skip
