import pytest

from harness.backends.traces import Event, busy_ns, plane_name

KERNEL = frozenset({"kernel_details", "correlation_id"})


def kernel(start_ns: float, duration_ns: float, line: str = "Stream #7(Kernel)", stats: frozenset[str] = KERNEL) -> Event:
    return Event(line, start_ns, duration_ns, stats)


def test_time_is_the_sum_of_what_the_device_worked_and_gaps_do_not_count():
    assert busy_ns([kernel(0, 10), kernel(50, 10)], 2) == 20


def test_what_overlaps_on_two_streams_counts_once():
    events = [kernel(0, 100), kernel(20, 30, "Stream #9(Kernel)"), kernel(90, 30, "Stream #9(Kernel)"), kernel(200, 5)]
    assert busy_ns(events, 1) == 125


def test_the_order_in_the_trace_is_no_matter():
    assert busy_ns([kernel(50, 10), kernel(0, 10)], 1) == 20


@pytest.mark.parametrize("told", ["kernel_details", "memcpy_details", "Memset_details", "cuda_graph_exec_id"])
def test_kernels_copies_fills_and_graphs_are_work(told: str):
    assert busy_ns([kernel(0, 7, stats=frozenset({told}))], 1) == 7


@pytest.mark.parametrize(
    "event",
    [
        kernel(0, 10, stats=frozenset({"memalloc_details"})),
        kernel(0, 10, stats=frozenset({"MemFree_details"})),
        kernel(0, 10, stats=frozenset()),
        kernel(0, 10, line="CUPTI overhead"),
        kernel(0, 10, line="XLA Modules"),
    ],
)
def test_allocations_overhead_and_derived_lines_are_not(event: Event):
    assert busy_ns([event], 1) is None
    assert busy_ns([event, kernel(100, 5)], 1) == 5


def test_nothing_seen_is_none():
    assert busy_ns([], 3) is None


def test_a_trace_that_lost_events_is_none():
    """Calls are equal, so their events are a multiple of them; the profiler's buffers drop what does not fit."""
    assert busy_ns([kernel(0, 10), kernel(20, 10), kernel(40, 10)], 2) is None


def test_a_plane_is_named_by_the_index_of_its_gpu():
    assert plane_name(3) == "/device:GPU:3"
