"""Which of nested events does the work, which tensor is moved, and what a GPU's kernel does."""

import pytest

from harness.backends.kinds import kernel_kind, nested, role, settled
from harness.profile import Event, Kind, Level, Role
from harness.spec import ConvSpec, GemmSpec
from tests.builders import cell

SPEC = ConvSpec.parse("n2 c4 k6 8x8 f3x3 p1x1 g2")


def operator(name: str, start_ns: int, end_ns: int, kind: Kind = Kind.CONVOLUTION, thread: str = "1") -> Event:
    return Event(start_ns, end_ns, thread, Level.OPERATOR, name, kind, "torch.profiler", implementation=name)


def primitive(start_ns: int, end_ns: int, kind: Kind = Kind.CONVOLUTION) -> Event:
    return Event(start_ns, end_ns, "oneDNN", Level.PRIMITIVE, "p", kind, "oneDNN")


def kinds(operators: list[Event], primitives: list[Event]) -> dict[str, Kind]:
    return {event.name: event.kind for event in settled(operators, primitives)}


def test_events_are_told_with_those_around_them():
    events = [operator("b", 10, 20), operator("a", 0, 100), operator("c", 12, 18), operator("d", 30, 40)]
    events.append(operator("elsewhere", 13, 14, thread="2"))
    assert dict(nested(events)) == {1: (), 0: (1,), 2: (1, 0), 3: (1,), 4: ()}


def test_the_innermost_operator_of_a_kind_does_it():
    chain = [operator("conv2d", 0, 100), operator("convolution", 5, 95), operator("_slow_conv2d", 10, 90)]
    assert kinds(chain, []) == {"conv2d": Kind.FRAMEWORK, "convolution": Kind.FRAMEWORK, "_slow_conv2d": Kind.CONVOLUTION}
    assert [event.implementation for event in settled(chain, [])] == ["", "", "_slow_conv2d"]


def test_one_on_another_thread_or_of_another_kind_is_not_inside():
    apart = [operator("conv2d", 0, 100), operator("convolution", 5, 95, thread="2"), operator("copy_", 10, 20, Kind.COPY)]
    assert set(kinds(apart, []).values()) == {Kind.CONVOLUTION, Kind.COPY}


def test_an_operator_with_a_primitive_inside_only_calls_it():
    """The clocks of both may differ by a microsecond, so it need not lie inside entirely."""
    around = [operator("mkldnn_convolution", 100, 200), operator("beside", 300, 400)]
    assert kinds(around, [primitive(98, 199)]) == {"mkldnn_convolution": Kind.FRAMEWORK, "beside": Kind.CONVOLUTION}


def test_products_inside_a_convolution_are_how_it_computes():
    assert kinds([operator("Conv2D", 0, 100)], [primitive(10, 20, Kind.GEMM)]) == {"Conv2D": Kind.CONVOLUTION}
    both = [primitive(10, 20, Kind.GEMM), primitive(30, 40, Kind.REORDER)]
    assert kinds([operator("Conv2D", 0, 100)], both) == {"Conv2D": Kind.FRAMEWORK}
    assert kinds([operator("mm", 0, 100, Kind.GEMM)], [primitive(10, 20, Kind.GEMM)]) == {"mm": Kind.FRAMEWORK}


@pytest.mark.parametrize(
    ("dims", "expected"),
    [
        (SPEC.x_shape, Role.ACTIVATION), (SPEC.y_shape, Role.ACTIVATION), ((2, 4, 10, 10), Role.ACTIVATION),
        (SPEC.w_shape, Role.FILTER), ((2, 3, 2, 3, 3), Role.FILTER), ((3, 3, 2, 6), Role.FILTER),
        ((2, 8, 8, 4), Role.ACTIVATION), ((7,), Role.UNKNOWN),
    ],
)  # fmt: skip
def test_a_tensor_is_known_by_its_dimensions_or_by_its_size(dims: tuple[int, ...], expected: Role):
    """As it is, padded, grouped, or with its dimensions in another order."""
    assert role(dims, cell(spec=SPEC)) == expected


def test_of_equal_sizes_the_dimensions_decide_and_of_equal_dimensions_nothing():
    equal = ConvSpec.parse("n1 c4 k4 2x2 f1x1")  # x and w have 16 elements each
    assert role((1, 4, 2, 2), cell(spec=equal)) == Role.ACTIVATION
    assert role((4, 4, 1, 1), cell(spec=equal)) == Role.FILTER
    assert role((16,), cell(spec=equal)) == Role.UNKNOWN


def test_what_is_no_convolution_has_no_filter():
    from harness.axes import Direction

    assert role((2, 3), cell(spec=GemmSpec(2, 3, 4), direction=Direction.NONE)) == Role.UNKNOWN


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("sm90_xmma_fprop_implicit_gemm_tf32f32_tf32f32_f32_nhwckrsc_nhwc_tilesize128x128x32", Kind.CONVOLUTION),
        ("cutlass_80_tensorop_s1688wgrad_optimized_tf32_128x128_16x4_nhwc_align4", Kind.CONVOLUTION),
        ("void implicit_convolve_sgemm<float, float, 1024, 5, 5, 3, 3, 3, 1, false>", Kind.CONVOLUTION),
        ("void cudnn::winograd_nonfused::winogradForwardData4x4<float>", Kind.CONVOLUTION),
        ("void cudnn::ops::nchwToNhwcKernel<float, float, float, false, true>", Kind.REORDER),
        ("ampere_sgemm_128x64_nn", Kind.GEMM),
        ("void cublasLt::splitKreduce_kernel<32, 16, int, float>", Kind.GEMM),
        ("void at::native::vectorized_elementwise_kernel<4, at::native::CUDAFunctor_add<float>>", Kind.ELEMENTWISE),
        ("void at::native::reduce_kernel<512, 1, at::native::ReduceOp<float>>", Kind.REDUCTION),
        ("void at::native::multi_tensor_apply_kernel<at::native::TensorListMetadata<2>>", Kind.OPTIMIZER),
        ("wrapped_convert", Kind.CONVERT), ("Memcpy DtoD (Device -> Device)", Kind.COPY), ("Memset (Device)", Kind.BOOKKEEPING),
        ("xyz", Kind.OTHER),
    ],
)  # fmt: skip
def test_kernels_of_gpus_are_known_by_their_names(name: str, expected: Kind):
    """Names as cuDNN, cuBLAS, PyTorch and XLA give them; not run on a GPU."""
    assert kernel_kind(name) == expected
