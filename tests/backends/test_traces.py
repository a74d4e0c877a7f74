"""Traces of XLA's profiler: the time that a device worked, and the events of a profile."""

from typing import Any

import pytest

from harness.backends.hlo import Program
from harness.backends.traces import Mark, Plane, busy_ns, events, of_gpus, plane_name
from harness.profile import Event, Kind, Level
from tests.builders import cell

KERNEL = {"kernel_details": "regs:8", "correlation_id": 3}


def kernel(
    start_ns: float, duration_ns: float, line: str = "Stream #7(Kernel)", stats: dict[str, Any] = KERNEL, name: str = "k"
) -> Mark:
    return Mark(line, start_ns, duration_ns, stats, name)


def test_time_is_the_sum_of_what_the_device_worked_and_gaps_do_not_count():
    assert busy_ns([kernel(0, 10), kernel(50, 10)], 2) == 20


def test_what_overlaps_on_two_streams_counts_once():
    marks = [kernel(0, 100), kernel(20, 30, "Stream #9(Kernel)"), kernel(90, 30, "Stream #9(Kernel)"), kernel(200, 5)]
    assert busy_ns(marks, 1) == 125


def test_the_order_in_the_trace_is_no_matter():
    assert busy_ns([kernel(50, 10), kernel(0, 10)], 1) == 20


@pytest.mark.parametrize("told", ["kernel_details", "memcpy_details", "Memset_details", "cuda_graph_exec_id"])
def test_kernels_copies_fills_and_graphs_are_work(told: str):
    assert busy_ns([kernel(0, 7, stats={told: ""})], 1) == 7


@pytest.mark.parametrize(
    "mark",
    [
        kernel(0, 10, stats={"memalloc_details": ""}),
        kernel(0, 10, stats={"MemFree_details": ""}),
        kernel(0, 10, stats={}),
        kernel(0, 10, line="CUPTI overhead"),
        kernel(0, 10, line="XLA Modules"),
    ],
)
def test_allocations_overhead_and_derived_lines_are_not(mark: Mark):
    assert busy_ns([mark], 1) is None
    assert busy_ns([mark, kernel(100, 5)], 1) == 5


def test_nothing_seen_is_none():
    assert busy_ns([], 3) is None


def test_a_trace_that_lost_events_is_none():
    """Calls are equal, so their events are a multiple of them; the profiler's buffers drop what does not fit."""
    assert busy_ns([kernel(0, 10), kernel(20, 10), kernel(40, 10)], 2) is None


def test_a_plane_is_named_by_the_index_of_its_gpu():
    assert plane_name(3) == "/device:GPU:3"
    planes = [Plane(name, {}, (kernel(0, 1, name=name),)) for name in ("/host:CPU", "/device:GPU:0", "/device:GPU:1")]
    assert [mark.name for mark in of_gpus(planes)] == ["/device:GPU:0", "/device:GPU:1"]


# Events of a profile -----------------------------------------------------------------------------------------------------

BEGAN = 1_750_000_000_123_456_789
COMPLETION = "ThunkExecutor::Execute (wait for completion)"
ENVIRONMENT = Plane("Task Environment", {"profile_start_time": BEGAN, "profile_stop_time": BEGAN + 10**9}, ())
TEXT = """
HloModule jit_f, is_scheduled=true

ENTRY %main (x: f32[1,4,4,1], w: f32[3,3,1,2]) -> f32[1,4,4,2] {
  %x = f32[1,4,4,1]{3,2,1,0} parameter(0)
  %w = f32[3,3,1,2]{3,2,1,0} parameter(1)
  ROOT %convolution.1 = f32[1,4,4,2]{3,2,1,0} convolution(%x, %w), window={size=3x3 pad=1_1x1_1}, dim_labels=b01f_01io->b01f
}
"""


def told(*marks: Mark, plane: str = "/host:CPU", text: str = TEXT) -> list[Event]:
    return events([ENVIRONMENT, Plane(plane, {}, marks)], Program(text, cell()))


def operation(name: str, start_ns: float, duration_ns: float, **stats: Any) -> Mark:
    return Mark("tf_XLAEigen", start_ns, duration_ns, {"hlo_op": name, "hlo_module": "jit_f", **stats}, name, "tf_XLAEigen 2")


def test_an_operation_is_what_the_program_says_on_the_clock_of_the_machine():
    (event,) = told(operation("convolution.1", 2500.4, 1000))
    assert (event.start_ns, event.end_ns) == (BEGAN + 2500, BEGAN + 3500)
    assert (event.level, event.kind, event.implementation) == (Level.COMPILED, Kind.CONVOLUTION, "Eigen")
    assert event.detail == "f32 1x4x4x1 * 3x3x1x2 -> 1x4x4x2 size=3x3 pad=1_1x1_1"
    assert (event.thread, event.source) == ("tf_XLAEigen 2", "XLA")


def test_an_asynchronous_operation_ends_at_its_own_end():
    """Of two that run at once each has its own: they are told apart by the number that both marks carry."""
    ends = [Mark("a", at, 0, {"_c": number}, f"end: {name}", "a 1") for at, number, name in ((900, 7, "x"), (500, 8, "y"))]
    found = told(operation("x", 100, 50, _p=7), operation("y", 120, 20, _p=8), *ends)
    assert [(event.name, event.start_ns - BEGAN, event.end_ns - BEGAN) for event in found] == [("x", 100, 900), ("y", 120, 500)]


def test_an_end_that_is_told_late_is_that_of_the_program():
    """The thread that tells it may have waited for a core meanwhile; each run of the program has its own end."""
    end = Mark("a", 900, 0, {"_c": 7}, "end: x", "a 1")
    waits = [Mark("b", 200, last - 200, {"run_id": run}, COMPLETION, "b 2") for run, last in ((3, 400), (4, 500))]
    (event,) = told(operation("x", 100, 50, _p=7, run_id=3), end, *waits)
    assert event.end_ns - BEGAN == 400
    (event,) = told(operation("x", 100, 50, _p=7, run_id=9), end, *waits)
    assert event.end_ns - BEGAN == 900


def test_the_end_of_another_operation_is_not_taken_for_its_own():
    (event,) = told(operation("x", 100, 50, _p=7), Mark("a", 900, 0, {"_c": 7}, "end: z", "a 1"))
    assert event.end_ns == BEGAN + 150


def test_everything_else_on_the_host_is_the_framework_but_for_waiting_and_for_mere_moments():
    """What a thread waits for is told by the events of another, or it is outside of all."""
    names = ("PjitFunction(f)", "BlockUntilReady", COMPLETION, "CpuExecutable::Execute")
    moment = Mark("python", 5, 0, {}, "ThreadpoolListener::Record", "python 0")
    found = told(moment, *(Mark("python", 0, 9, {}, name, "python 0") for name in names))
    assert [(event.name, event.level, event.kind) for event in found] == [
        (name, Level.SPAN, Kind.FRAMEWORK) for name in (names[0], names[3])
    ]


def test_a_kernel_on_a_gpu_belongs_to_its_operation_and_does_what_it_is_called():
    """By construction: no trace of a GPU was at hand."""
    name, stats = "sm90_xmma_fprop_implicit_gemm_f32f32", {**KERNEL, "hlo_op": "convolution.1", "hlo_module": "jit_f"}
    (event,) = told(kernel(5, 10, stats=stats, name=name), kernel(20, 5, line="XLA Ops"), plane="/device:GPU:0")
    assert (event.level, event.kind, event.thread) == (Level.PRIMITIVE, Kind.CONVOLUTION, "Stream #7(Kernel)")
    assert (event.name, event.implementation) == ("convolution.1", name)
    assert "3x3x1x2" in event.detail
    assert (event.start_ns, event.end_ns) == (BEGAN + 5, BEGAN + 15)


def test_what_the_name_of_a_kernel_does_not_tell_its_operation_does():
    stats = {**KERNEL, "hlo_op": "convolution.1"}
    assert [event.kind for event in told(kernel(0, 1, stats=stats, name="xyz"), plane="/device:GPU:0")] == [Kind.CONVOLUTION]
    assert [event.kind for event in told(kernel(0, 1, name="xyz"), plane="/device:GPU:0")] == [Kind.OTHER]


def test_where_a_gpu_works_the_host_only_starts_its_operations():
    planes = [
        Plane("/host:CPU", {}, (operation("convolution.1", 0, 9),)),
        Plane("/device:GPU:0", {}, (kernel(5, 10, name="dgrad"),)),
    ]
    host, device = events([ENVIRONMENT, *planes], Program(TEXT, cell()))
    assert (host.kind, host.implementation, device.kind) == (Kind.FRAMEWORK, "", Kind.CONVOLUTION)


def test_a_trace_without_its_beginning_is_refused():
    with pytest.raises(ValueError, match="does not say when it began"):
        events([Plane("/host:CPU", {}, ())], Program("", cell()))
