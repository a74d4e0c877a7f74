import pytest

from harness.measure.cuda_errors import fatal, starved
from harness.measure.engine import failure
from harness.record import Status


@pytest.mark.parametrize(
    "text",
    [
        "AcceleratorError: CUDA error: an illegal memory access was encountered",
        "RuntimeError: CUDA error: device-side assert triggered",
        "RuntimeError: CUDA error: unspecified launch failure",
        "RuntimeError: CUDA error: misaligned address",
        "RuntimeError: CUDA error: the launch timed out and was terminated",
        "RuntimeError: CUDA error: uncorrectable ECC error encountered",
        "JaxRuntimeError: INTERNAL: Failed to synchronize: CUDA_ERROR_ILLEGAL_ADDRESS: an address",
        "InternalError: CUDA_ERROR_LAUNCH_FAILED",
        "RuntimeError: cuDNN error: CUDNN_STATUS_EXECUTION_FAILED",
        "RuntimeError: cuDNN error: CUDNN_STATUS_INTERNAL_ERROR",
        "RuntimeError: CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasGemmEx( handle, opa, opb, m, n, k)`",
        "RuntimeError: CUDA error: unknown error",
        "NVMLError_GpuIsLost: GPU is lost",
        "InternalError: CUDA_ERROR_OF_A_LATER_DRIVER",
        "first CUDA_ERROR_OUT_OF_MEMORY, then CUDA_ERROR_ASSERT",
    ],
)
def test_an_error_that_stays_is_fatal(text: str) -> None:
    assert fatal(text)
    assert fatal(RuntimeError(text))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 GiB",
        "RESOURCE_EXHAUSTED: CUDA_ERROR_OUT_OF_MEMORY: out of memory",
        "RuntimeError: CUDA error: no kernel image is available for execution on the device",
        "cuDNN error: CUDNN_STATUS_NOT_SUPPORTED",
        "CUDA_ERROR_INVALID_VALUE: invalid argument",
        "ValueError: cannot do this one",
    ],
)
def test_an_error_of_one_call_is_not(text: str) -> None:
    assert not fatal(text)


@pytest.mark.parametrize(
    "text",
    [
        "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 15.77 GiB",
        "[enforce fail at alloc_cpu.cpp:116] err == 0. DefaultCPUAllocator: can't allocate memory: you tried",
        "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 34359738368 bytes.",
        "OOM when allocating tensor with shape[64,512,512,512] and type float on /GPU:0 by allocator GPU_0_bfc",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "INTERNAL: failed to allocate 2.00GiB: CUDA_ERROR_OUT_OF_MEMORY",
        "INTERNAL: Failed to allocate 4294967296 bytes for new constant",
        "std::bad_alloc",
    ],
)
def test_memory_that_ran_out_is_told_from_other_errors(text: str) -> None:
    assert starved(RuntimeError(text))
    assert failure(RuntimeError(text))[0] is Status.OOM
    assert not fatal(text)


@pytest.mark.parametrize("text", ["", "cuDNN error: CUDNN_STATUS_NOT_SUPPORTED", "CUDA error: an illegal memory access was"])
def test_other_errors_are_no_want_of_memory(text: str) -> None:
    assert failure(RuntimeError(text))[0] is Status.ERROR


def test_where_cudnn_finds_no_engine_both_causes_are_told() -> None:
    status, reason = failure(RuntimeError("GET was unable to find an engine to execute this computation"))
    assert status is Status.ERROR
    assert "cuDNN has no engine for this convolution, or none whose workspace fits into the memory that is left" in reason


def test_what_breaks_the_process_is_seen_below_the_first_line_and_beyond_its_end() -> None:
    """Only the row's text decides whether the worker goes on, and it holds one line of 500 characters."""
    below = "INTERNAL: the following errors were encountered:\n  CUDA_ERROR_ILLEGAL_ADDRESS: an address"
    beyond = f"INTERNAL: {'x' * 600} CUDA_ERROR_LAUNCH_FAILED"
    for text in (below, beyond):
        assert fatal(failure(RuntimeError(text))[1])
