"""Errors of CUDA after which nothing works any more in a process."""

import re

# After these a process "must be terminated and relaunched": every later call of CUDA in it fails with the same error.
# https://docs.nvidia.com/cuda/cuda-runtime-api/group__CUDART__TYPES.html, cudaErrorIllegalAddress and its like; the text is
# that of cudaGetErrorString.
_STICKY = re.compile(
    r"illegal memory access|device-side assert|unspecified launch failure|illegal instruction|misaligned address"
    r"|invalid program counter|hardware stack error|operation not supported on global/shared address space"
    r"|the launch timed out|uncorrectable (?:ECC|NVLink) error",
    re.IGNORECASE,
)
# XLA and TensorFlow give the driver's name. Whatever is not known to leave the context whole is taken for sticky: a fresh
# process costs seconds, a broken one every cell that follows.
_NAMED = re.compile(r"\bCUDA_ERROR_(\w+)")
_HARMLESS = {
    "OUT_OF_MEMORY", "INVALID_VALUE", "NOT_SUPPORTED", "NO_DEVICE", "NO_BINARY_FOR_GPU", "INVALID_PTX", "NOT_FOUND",
    "UNSUPPORTED_PTX_VERSION", "LAUNCH_OUT_OF_RESOURCES",
}  # fmt: skip


def fatal(error: BaseException | str) -> bool:
    """Whether CUDA is broken for the rest of this process, by an error or by the text that is left of it."""
    text = str(error)
    return bool(_STICKY.search(text)) or any(name not in _HARMLESS for name in _NAMED.findall(text))
