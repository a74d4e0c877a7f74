"""Spans of TensorFlow's profiler become operators by their names; primitives and operations of XLA stand beside them."""

import pytest

from harness.backends.hlo import Program
from harness.backends.tensorflow_profile import events, operator_kind, operators, optimised
from harness.backends.traces import Mark, Plane
from harness.profile import Event, Kind, Level
from tests.builders import cell

BEGAN = 10**18
ENVIRONMENT = Plane("Task Environment", {"profile_start_time": BEGAN}, ())


def span(name: str, start_ns: int, end_ns: int, thread: str = "python 0") -> Event:
    return Event(start_ns, end_ns, thread, Level.SPAN, name, Kind.FRAMEWORK, "XLA")


EAGER = [
    span("EagerExecute: Conv2DBackpropFilter", 0, 100), span("EagerLocalExecute: Conv2DBackpropFilter", 5, 95),
    span("KernelAndDeviceFunc::Run", 10, 90),
]  # fmt: skip


def test_the_innermost_span_of_an_eager_operator_is_the_operator():
    """It has no name of its own: that of what is around it counts."""
    found = operators(EAGER)
    assert [event.level for event in found] == [Level.OPERATOR] * 3
    assert [event.kind for event in found] == [Kind.FRAMEWORK, Kind.FRAMEWORK, Kind.CONVOLUTION]
    assert (found[2].name, found[2].implementation, found[2].source) == ("Conv2DBackpropFilter", "Eigen", "TensorFlow")
    assert found[0].name == "EagerExecute: Conv2DBackpropFilter"


def test_one_without_a_span_inside_is_the_operator_itself():
    (found,) = operators([span("EagerExecute: Shape", 0, 10)])
    assert (found.name, found.kind, found.level) == ("Shape", Kind.BOOKKEEPING, Level.OPERATOR)


def test_a_node_of_a_graph_tells_its_kernel():
    (found,) = operators([span("gradient_tape/Conv2DBackpropInput:_MklNativeConv2DBackpropInput", 0, 10, "tf_Compute 3")])
    assert (found.name, found.kind) == ("_MklNativeConv2DBackpropInput", Kind.CONVOLUTION)
    assert found.implementation == "_MklNativeConv2DBackpropInput"


@pytest.mark.parametrize(
    "name", ["FunctionRun", "EagerExecute: __inference_call_12", "ExecutorState::Process", "a: b", "TFE_Py"]
)
def test_everything_else_stays_a_span_of_the_framework(name: str):
    (found,) = operators([span(name, 0, 10)])
    assert (found.name, found.level, found.kind, found.source) == (name, Level.SPAN, Kind.FRAMEWORK, "TensorFlow")


def test_what_runs_a_function_is_a_span_too():
    found = operators([span("EagerExecute: __inference_call_12", 0, 100), span("KernelAndDeviceFunc::Run", 10, 90)])
    assert {event.level for event in found} == {Level.SPAN}


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("Conv2D", Kind.CONVOLUTION), ("DepthwiseConv2dNativeBackpropFilter", Kind.CONVOLUTION), ("Conv3D", Kind.CONVOLUTION),
        ("_MklNativeFusedConv2D", Kind.CONVOLUTION), ("_FusedConv2D", Kind.CONVOLUTION), ("MatMul", Kind.GEMM),
        ("Cast", Kind.CONVERT), ("Transpose", Kind.TRANSPOSE), ("_EagerConst", Kind.BOOKKEEPING), ("Mean", Kind.REDUCTION),
        ("Square", Kind.ELEMENTWISE), ("AssignSubVariableOp", Kind.OPTIMIZER), ("ResourceApplyAdam", Kind.OPTIMIZER),
        ("DeepCopy", Kind.COPY), ("StatefulPartitionedCall", Kind.FRAMEWORK), ("_XlaRun", Kind.FRAMEWORK),
        ("XlaLaunch", Kind.FRAMEWORK), ("SomethingNew", Kind.OTHER),
    ],
)  # fmt: skip
def test_operators_have_kinds(name: str, kind: Kind):
    assert operator_kind(name) is kind


def marks(*spans: Event) -> tuple[Mark, ...]:
    return tuple(Mark("python", each.start_ns, each.end_ns - each.start_ns, {}, each.name, each.thread) for each in spans)


def primitive(kind: Kind) -> Event:
    return Event(BEGAN + 20, BEGAN + 80, "oneDNN", Level.PRIMITIVE, "p", kind, "oneDNN", "jit:avx512_core")


def test_a_primitive_inside_is_the_convolution_and_products_are_eigen_s():
    planes = [ENVIRONMENT, Plane("/host:CPU", {}, marks(*EAGER))]
    found = events(planes, [primitive(Kind.CONVOLUTION)], Program("", cell()))
    assert [event.implementation for event in found if event.kind is Kind.CONVOLUTION] == ["jit:avx512_core"]
    found = events(planes, [primitive(Kind.GEMM)], Program("", cell()))
    assert [(event.kind, event.implementation) for event in found if event.kind is not Kind.FRAMEWORK] == [
        (Kind.CONVOLUTION, "Eigen"), (Kind.GEMM, "jit:avx512_core"),
    ]  # fmt: skip


def test_operations_of_xla_stand_beside_them():
    thunk = Mark("tf_XLAEigen", 30, 40, {"hlo_op": "convolution.1"}, "convolution.1", "tf_XLAEigen 1")
    planes = [ENVIRONMENT, Plane("/host:CPU", {}, (*marks(span("XlaLaunch:XlaLaunch", 0, 100)), thunk))]
    launch, operation = events(planes, [], Program("", cell()))
    assert (launch.level, launch.kind, launch.source) == (Level.OPERATOR, Kind.FRAMEWORK, "TensorFlow")
    assert (operation.level, operation.kind, operation.source) == (Level.COMPILED, Kind.CONVOLUTION, "XLA")


def test_on_a_gpu_the_host_s_operators_only_start_kernels():
    """By construction: no trace of a GPU was at hand."""
    name = "sm80_xmma_wgrad_implicit_gemm"
    kernel = Mark("Stream #7(Kernel)", 200, 40, {"kernel_details": "x", "tf_op": "conv:Conv2DBackpropFilter"}, name)
    planes = [ENVIRONMENT, Plane("/host:CPU", {}, marks(*EAGER)), Plane("/device:GPU:0", {}, (kernel,))]
    found = events(planes, [], Program("", cell()))
    (convolution,) = (event for event in found if event.kind is Kind.CONVOLUTION)
    assert (convolution.level, convolution.implementation) == (Level.PRIMITIVE, name)
    assert convolution.name == "conv:Conv2DBackpropFilter"


def test_a_program_that_tensorflow_does_not_give_has_no_text():
    class Errors:
        OpError = KeyError

    class Tf:
        errors = Errors

    def refuses(*arguments: object) -> None:
        raise ValueError("no such stage")

    class Function:
        experimental_get_compiler_ir = staticmethod(refuses)

    assert optimised(Tf, Function, (1, 2)) == ""
    assert optimised(Tf, None, ()) == ""
