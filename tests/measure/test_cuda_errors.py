import pytest

from harness.measure.cuda_errors import fatal


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
