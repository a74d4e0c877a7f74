"""What TensorFlow's profiler tells of calls: its operators, eager and in a tf.function, and the programs of XLA.

On the CPU oneDNN's own lines are read beside it, which the environment turns on for the whole process.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness.backends import hlo, kinds, traces
from harness.profile import Event, Kind, Level

SOURCE = "TensorFlow"
_EAGER = re.compile(r"Eager(?:Local)?Execute: (\S+)")
_KERNEL = re.compile(r"[^:\s]+:(_?[A-Z]\w*)")  # the name of a node, and the operator of its kernel
_NAMELESS = frozenset({"KernelAndDeviceFunc::Run", "EagerKernelExecute"})  # run the operator of what is around them
_FUNCTION = "__"  # begins the name of a tf.function
_LIBRARY = re.compile(r"^_(?:Mkl(?:Native|Eager)?|Fused)?")
# What operators do, by their names without oneDNN's prefix; the first that fits counts.
_OPERATORS = tuple(
    (kind, re.compile(pattern))
    for kind, pattern in (
        (Kind.CONVOLUTION, r"Conv(?:[123]D|2d)"),
        (Kind.GEMM, r"MatMul|Einsum"),
        (Kind.FRAMEWORK, r"PartitionedCall|^Xla|^Remote"),
        (Kind.OPTIMIZER, r"^(?:Resource|Sparse)?Apply[A-Z]|^Assign(?:Add|Sub)?VariableOp$"),
        (Kind.REDUCTION, r"^(?:Mean|Sum|Max|Min|Prod|Any|All|L2Loss|BiasAddGrad)$"),
        (Kind.TRANSPOSE, r"Transpose$"),
        (Kind.CONVERT, r"^Cast$"),
        (Kind.COPY, r"^(?:DeepCopy|Copy|Pad|PadV2|MirrorPad|Concat|ConcatV2|Pack|Split|Tile|Reverse|ReverseV2|Snapshot)$"),
        (
            Kind.BOOKKEEPING,
            r"^(?:EagerConst|Const|HostConst|Identity|IdentityN|Shape|ShapeN|Size|Rank|Reshape|ExpandDims|Squeeze|Slice"
            r"|StridedSlice|Fill|ZerosLike|OnesLike|Arg|Retval|NoOp|ReadVariableOp|VarHandleOp|DynamicStitch|StopGradient)$",
        ),
        (
            Kind.ELEMENTWISE,
            r"^(?:Square|SquaredDifference|Mul|MulNoNan|Add|AddV2|AddN|Sub|Div|RealDiv|DivNoNan|Sqrt|Rsqrt|Neg|Pow|Exp|Log"
            r"|Maximum|Minimum|BiasAdd|Relu|SelectV2|BroadcastTo|BroadcastGradientArgs|FloorDiv)$",
        ),
    )
)


@contextmanager
def traced(tf: Any, host_level: int, device_level: int) -> Iterator[list[traces.Plane]]:
    """TensorFlow's profiler around calls; the planes of its trace are there after the exit.

    TensorFlow writes the trace without TensorBoard's plug-in, and carries the description of its format in its package, though
    under no public name. Raises ImportError where it does not.
    """
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    planes: list[traces.Plane] = []
    profiler = tf.profiler.experimental
    options = profiler.ProfilerOptions(
        host_tracer_level=host_level, python_tracer_level=0, device_tracer_level=device_level
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        with profiler.Profile(folder, options):
            yield planes
        for path in Path(folder).rglob("*.xplane.pb"):
            space = xplane_pb2.XSpace()
            space.ParseFromString(path.read_bytes())
            planes += traces.of_space(space)


def optimised(tf: Any, function: Any, arguments: Sequence[Any]) -> str:
    """The text of XLA's program of a tf.function after optimisation; empty where TensorFlow has none to give."""
    try:
        return str(function.experimental_get_compiler_ir(*arguments)(stage="optimized_hlo"))
    except (AttributeError, TypeError, ValueError, tf.errors.OpError):
        return ""


def events(planes: Sequence[traces.Plane], primitives: Sequence[Event], program: hlo.Program) -> list[Event]:
    """What a trace holds, with operators told from spans by their names, and oneDNN's primitives."""
    found = traces.events(planes, program)
    host = operators([event for event in found if event.level is Level.SPAN])
    own = [event for event in host if event.level is Level.OPERATOR]
    on_device = any(event.level is Level.PRIMITIVE for event in found)
    if on_device:  # what computes is there, and the host's operators only start it
        own = [kinds.starting(event) for event in own]
    spans = [event for event in host if event.level is Level.SPAN]
    compiled = [event for event in found if event.level > Level.OPERATOR]
    return [*spans, *kinds.settled(own, primitives), *compiled, *primitives]


def operators(spans: Sequence[Event]) -> list[Event]:
    """The same spans; one that runs an operator is that operator, or FRAMEWORK where another one inside it does."""
    names: dict[int, str] = {}
    outer: set[int] = set()
    for number, around in kinds.nested(spans):
        names[number] = _operator(spans[number].name)
        if spans[number].name in _NAMELESS:
            names[number] = next((names[each] for each in reversed(around) if names[each]), "")
        outer.update(each for each in around if names[number] and names[each] == names[number])
    found = []
    for number, span in enumerate(spans):
        span, name = replace(span, source=SOURCE), names[number]
        if not name or name.startswith(_FUNCTION):
            found.append(span)
        elif number in outer:
            found.append(replace(span, level=Level.OPERATOR))
        else:
            kind, by = operator_kind(name), _implementation(name)
            by = by if kind is Kind.CONVOLUTION else ""
            found.append(replace(span, level=Level.OPERATOR, name=name, kind=kind, implementation=by))
    return found


def _operator(name: str) -> str:
    """The operator that a span runs, as its name tells; empty where it tells none."""
    found = _EAGER.fullmatch(name) or _KERNEL.fullmatch(name)
    return found[1] if found else ""


def operator_kind(name: str) -> Kind:
    """What an operator does, by its name: `Conv2D`, `_MklNativeConv2D`."""
    bare = _LIBRARY.sub("", name)
    return next((kind for kind, pattern in _OPERATORS if pattern.search(bare)), Kind.OTHER)


def _implementation(name: str) -> str:
    """Who computes a convolution without a primitive of oneDNN: Eigen, but for the operators with code of their own."""
    return name if name.startswith(("_Mkl", "Depthwise")) else "Eigen"
