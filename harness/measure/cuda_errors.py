"""What the text of an error says: whether CUDA is broken for the rest of the process, and whether memory ran out."""

import re

# After these errors a process "must be terminated and relaunched": every later call of CUDA in it fails with the same error.
# Source: https://docs.nvidia.com/cuda/cuda-runtime-api/group__CUDART__TYPES.html, cudaErrorIllegalAddress and its like. The
# texts are those of cudaGetErrorString.
_STICKY = re.compile(
    r"illegal memory access|device-side assert|unspecified launch failure|illegal instruction|misaligned address"
    r"|invalid program counter|hardware stack error|operation not supported on global/shared address space"
    r"|the launch timed out|uncorrectable (?:ECC|NVLink) error|CUDA error: unknown error|GPU is lost|cluster target block"
    # What a library says when a kernel of its own ended so; its handle is of no use afterwards.
    r"|CUDNN_STATUS_(?:EXECUTION_FAILED|INTERNAL_ERROR|MAPPING_ERROR)|CUBLAS_STATUS_(?:EXECUTION_FAILED|INTERNAL_ERROR|MAPPING_ERROR)",
    re.IGNORECASE,
)
# XLA and TensorFlow give the driver's name of an error. Every name that is not known to be harmless is taken for one that
# breaks the process: a fresh process costs some seconds, a broken one costs all cells that follow.
_NAMED = re.compile(r"\bCUDA_ERROR_(\w+)")
_HARMLESS = {
    "OUT_OF_MEMORY", "INVALID_VALUE", "NOT_SUPPORTED", "NO_DEVICE", "NO_BINARY_FOR_GPU", "INVALID_PTX", "NOT_FOUND",
    "UNSUPPORTED_PTX_VERSION", "LAUNCH_OUT_OF_RESOURCES",
}  # fmt: skip
# What errors contain when memory ran out: in PyTorch on a GPU and on the CPU, XLA, TensorFlow, the C++ library, CUDA's driver,
# cuDNN and cuBLAS, which take memory of their own beside the framework's.
_STARVED = (
    "OutOfMemory", "out of memory", "can't allocate memory", "RESOURCE_EXHAUSTED", "OOM when", "bad_alloc",
    "CUDA_ERROR_OUT_OF_MEMORY", "CUDNN_STATUS_ALLOC_FAILED", "CUBLAS_STATUS_ALLOC_FAILED", "Failed to allocate",
)  # fmt: skip
# PyTorch says the first where no engine of cuDNN ran, for whatever reason; want of memory for a workspace is one.
_SHOWN = 400  # characters of its first line that a row has for certain, behind the name of the error's class
_AMBIGUOUS = ("unable to find an engine to execute this computation",)


def fatal(error: BaseException | str) -> bool:
    """Whether CUDA is broken for the rest of this process after an error, which may be given as its text."""
    text = str(error)
    return bool(_STICKY.search(text)) or any(name not in _HARMLESS for name in _NAMED.findall(text))


def starved(error: BaseException | str) -> bool:
    """Whether memory ran out, which may be given as the text of the error."""
    text = error if isinstance(error, str) else f"{type(error).__name__} {error}"
    return isinstance(error, MemoryError) or any(mark in text for mark in _STARVED)


def note(error: BaseException | str) -> str:
    """What else the error may mean, and what its first line would hide; empty for nothing."""
    text = str(error)
    if any(mark in text for mark in _AMBIGUOUS):
        return "cuDNN has no engine for this convolution, or none whose workspace fits into the memory that is left"
    broken = _STICKY.search(text) or next((found for found in _NAMED.finditer(text) if found[1] not in _HARMLESS), None)
    first = next(iter(text.strip().splitlines()), "")[:_SHOWN]
    return f"further on: {broken[0]}" if broken and not fatal(first) else ""
