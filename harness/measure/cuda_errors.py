"""Which errors of CUDA break the process: every later call of CUDA in it fails, too."""

import re

# After these errors a process "must be terminated and relaunched": every later call of CUDA in it fails with the same error.
# Source: https://docs.nvidia.com/cuda/cuda-runtime-api/group__CUDART__TYPES.html, cudaErrorIllegalAddress and its like. The
# texts are those of cudaGetErrorString.
_STICKY = re.compile(
    r"illegal memory access|device-side assert|unspecified launch failure|illegal instruction|misaligned address"
    r"|invalid program counter|hardware stack error|operation not supported on global/shared address space"
    r"|the launch timed out|uncorrectable (?:ECC|NVLink) error",
    re.IGNORECASE,
)
# XLA and TensorFlow give the driver's name of an error. Every name that is not known to be harmless is taken for one that
# breaks the process: a fresh process costs some seconds, a broken one costs all cells that follow.
_NAMED = re.compile(r"\bCUDA_ERROR_(\w+)")
_HARMLESS = {
    "OUT_OF_MEMORY", "INVALID_VALUE", "NOT_SUPPORTED", "NO_DEVICE", "NO_BINARY_FOR_GPU", "INVALID_PTX", "NOT_FOUND",
    "UNSUPPORTED_PTX_VERSION", "LAUNCH_OUT_OF_RESOURCES",
}  # fmt: skip


def fatal(error: BaseException | str) -> bool:
    """Whether CUDA is broken for the rest of this process after an error, which may be given as its text."""
    text = str(error)
    return bool(_STICKY.search(text)) or any(name not in _HARMLESS for name in _NAMED.findall(text))
