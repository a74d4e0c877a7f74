"""What PyTorch's profiler records becomes events: by objects that answer as kineto's do, those of a GPU among them."""

from dataclasses import dataclass
from typing import Any

import pytest

from harness.backends.torch_profile import events, operator_kind
from harness.profile import Event, Kind, Level


@dataclass
class Recorded:
    """A fake of torch._C._autograd._KinetoEvent."""

    called: str
    start: int
    end: int
    device: str = "DeviceType.CPU"
    activity: str = "cpu_op"
    correlation: int = 0
    linked: int = 0
    thread: int = 1
    hidden: bool = False

    def __getattr__(self, name: str) -> Any:
        values = {
            "name": self.called, "start_ns": self.start, "end_ns": self.end, "device_type": self.device,
            "activity_type": self.activity, "correlation_id": self.correlation, "linked_correlation_id": self.linked,
            "start_thread_id": self.thread, "is_hidden_event": self.hidden, "device_index": 0, "device_resource_id": 7,
        }  # fmt: skip
        if name not in values:
            raise AttributeError(name)
        return lambda: values[name]


def kinds(found: list[Event]) -> dict[str, Kind]:
    return {event.name: event.kind for event in found}


def primitive(start_ns: int, end_ns: int) -> Event:
    return Event(
        start_ns, end_ns, "oneDNN", Level.PRIMITIVE, "convolution", Kind.CONVOLUTION, "oneDNN", "brg_conv_fwd:avx512_core"
    )


CHAIN = (Recorded("aten::conv2d", 0, 100), Recorded("aten::convolution", 5, 95), Recorded("aten::_convolution", 8, 94))


def test_the_innermost_operator_is_the_convolution_where_no_primitive_is_inside():
    found = events([*CHAIN, Recorded("aten::_slow_conv2d_forward", 10, 90), Recorded("aten::resize_", 12, 13)], [])
    assert kinds(found) == {
        "aten::conv2d": Kind.FRAMEWORK, "aten::convolution": Kind.FRAMEWORK, "aten::_convolution": Kind.FRAMEWORK,
        "aten::_slow_conv2d_forward": Kind.CONVOLUTION, "aten::resize_": Kind.BOOKKEEPING,
    }  # fmt: skip
    assert {event.name: event.implementation for event in found}["aten::_slow_conv2d_forward"] == "_slow_conv2d"
    assert {(event.level, event.source, event.thread) for event in found} == {(Level.OPERATOR, "torch.profiler", "1")}


def test_a_primitive_inside_is_the_convolution_and_all_operators_around_it_are_the_framework():
    found = events([*CHAIN, Recorded("aten::mkldnn_convolution", 10, 90)], [primitive(20, 80)])
    assert [event.implementation for event in found if event.kind is Kind.CONVOLUTION] == ["brg_conv_fwd:avx512_core"]
    assert {event.kind for event in found if event.level is Level.OPERATOR} == {Kind.FRAMEWORK}


def test_spans_of_compiled_programs_and_of_autograd_are_no_operators():
    names = (
        "Torch-Compiled Region: 0/0",
        "## Call CompiledFxGraph abc ##",
        "autograd::engine::evaluate_function: X",
        "MulBackward0",
    )
    found = events([Recorded(name, 0, 10) for name in names], [])
    assert [(event.level, event.kind) for event in found] == [(Level.SPAN, Kind.FRAMEWORK)] * 4


def test_what_the_profiler_hides_is_hidden():
    assert events([Recorded("aten::add", 0, 10, hidden=True)], []) == []


def test_what_computes_in_a_step_of_an_optimizer_is_that_step():
    step = Recorded("Optimizer.step#SGD.step", 100, 200, activity="user_annotation")
    found = events([step, Recorded("aten::mul", 10, 20), Recorded("aten::_foreach_add_", 120, 150)], [])
    assert kinds(found) == {step.called: Kind.FRAMEWORK, "aten::mul": Kind.ELEMENTWISE, "aten::_foreach_add_": Kind.OPTIMIZER}


def test_a_kernel_of_a_gpu_belongs_to_the_operator_that_started_it():
    """By construction: no GPU was at hand. The host's operators only start what runs there."""
    kernel, copy = "sm80_xmma_fprop_implicit_gemm_f32", "Memcpy DtoD (Device -> Device)"
    on_gpu = {"device": "DeviceType.CUDA", "activity": "kernel", "linked": 5}
    found = events(
        [
            Recorded("aten::add", 40, 50), Recorded("aten::cudnn_convolution", 0, 30, correlation=5),
            Recorded("cudaLaunchKernel", 10, 12, activity="cuda_runtime", correlation=9, linked=5),
            Recorded(kernel, 100, 190, **on_gpu), Recorded("unknown_kernel", 200, 210, **on_gpu),
            Recorded(copy, 220, 230, **{**on_gpu, "activity": "gpu_memcpy", "linked": 0}),
            Recorded("a range", 0, 300, **{**on_gpu, "activity": "gpu_user_annotation"}),
        ],
        [],
    )  # fmt: skip
    on_host, on_device = found[:3], found[3:]
    assert {(event.level, event.kind) for event in on_host} == {(Level.OPERATOR, Kind.FRAMEWORK)}
    told = [(event.name, event.implementation, event.kind, event.level, event.thread) for event in on_device]
    assert told == [
        ("aten::cudnn_convolution", kernel, Kind.CONVOLUTION, Level.PRIMITIVE, "0 7"),
        ("aten::cudnn_convolution", "unknown_kernel", Kind.CONVOLUTION, Level.PRIMITIVE, "0 7"),
        (copy, copy, Kind.COPY, Level.PRIMITIVE, "0 7"),
    ]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("conv2d", Kind.CONVOLUTION), ("convolution_backward", Kind.CONVOLUTION), ("_convolution_pointwise", Kind.CONVOLUTION),
        ("_conv_depthwise2d", Kind.CONVOLUTION), ("slow_conv_dilated2d", Kind.CONVOLUTION), ("mm", Kind.GEMM),
        ("addmm", Kind.GEMM), ("copy_", Kind.COPY), ("_to_copy", Kind.COPY), ("empty_strided", Kind.BOOKKEEPING),
        ("as_strided_", Kind.BOOKKEEPING), ("zero_", Kind.BOOKKEEPING), ("t", Kind.BOOKKEEPING), ("mean", Kind.REDUCTION),
        ("sum", Kind.REDUCTION), ("pow", Kind.ELEMENTWISE), ("mul_", Kind.ELEMENTWISE), ("_foreach_addcdiv_", Kind.ELEMENTWISE),
        ("_fused_adam_", Kind.OPTIMIZER), ("_nnpack_available", Kind.BOOKKEEPING),
        ("some_new_thing", Kind.OTHER), ("_convert_weight_to_int4pack", Kind.OTHER),
    ],
)  # fmt: skip
def test_operators_have_kinds(name: str, kind: Kind):
    assert operator_kind(name) is kind
