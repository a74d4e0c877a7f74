"""What the checks hold convbench against: each framework called by hand. Shares no code with its adapter, nor operands.

A plain loop is given as two functions: one launches a call, the other waits for it.
"""

import ctypes
from collections.abc import Callable
from typing import Any

Loop = tuple[Callable[[], Any], Callable[[Any], Any]]

# A kernel that breaks the GPU's context for good, as an illegal access does: PTX, which the driver compiles for its GPU.
_TRAP = """
.version 6.3
.target {target}
.address_size 64
.visible .entry fault() {{ trap; }}
"""
_TARGETS = ("sm_75", "sm_50")  # drivers of CUDA 13 need not know the older one, cards before Turing nothing else
_ROW = 1 << 18  # elements of a row of what is held


def trap(index: int) -> None:
    """Launch that kernel in the primary context of a GPU, which all frameworks use. Raises RuntimeError where it cannot be."""
    cuda = ctypes.CDLL("libcuda.so.1")
    device, context, module, function = ctypes.c_int(), ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_void_p()
    one, none = ctypes.c_uint(1), ctypes.c_uint(0)

    def call(name: str, *arguments: Any) -> int:
        code: int = getattr(cuda, name)(*arguments)
        if code and name != "cuModuleLoadData":
            raise RuntimeError(f"{name}: CUDA's error {code}")
        return code

    call("cuInit", none)
    call("cuDeviceGet", ctypes.byref(device), ctypes.c_int(index))
    call("cuDevicePrimaryCtxRetain", ctypes.byref(context), device)
    call("cuCtxSetCurrent", context)
    programs = (_TRAP.format(target=target).encode() for target in _TARGETS)
    if all(call("cuModuleLoadData", ctypes.byref(module), ctypes.c_char_p(program)) for program in programs):
        raise RuntimeError(f"cuModuleLoadData: no program for {', '.join(_TARGETS)} is taken")
    call("cuModuleGetFunction", ctypes.byref(function), module, ctypes.c_char_p(b"fault"))
    call("cuLaunchKernel", function, one, one, one, one, one, one, none, None, None, None)


class Cuda:
    """What the three have in common."""

    def __init__(self, index: int) -> None:
        self.index = index
        self.held: Any = None

    def let_go(self) -> None:
        """Let go of what is held."""
        self.held = None

    def fault(self) -> None:
        """Break the context of this process."""
        trap(self.index)

    def kernels_ns(self, launch: Callable[[], Any], wait: Callable[[Any], Any], calls: int) -> float | None:
        """The time of all kernels of so many calls by another tool than the adapter's; None: there is none."""
        return None


class Torch(Cuda):
    """PyTorch by hand."""

    def __init__(self, index: int) -> None:
        super().__init__(index)
        import torch

        self.torch, self.device = torch, torch.device("cuda", index)

    def gemm(self, size: int, dtype: str) -> Loop:
        """A square matrix product."""
        a, b = (self.torch.randn(size, size, device=self.device, dtype=getattr(self.torch, dtype)) for _ in range(2))
        return lambda: self.torch.mm(a, b), lambda handle: self.torch.cuda.synchronize(self.device)

    def copy(self, nbytes: int) -> Loop:
        """A copy of so many bytes."""
        x = self.torch.ones(nbytes // 4, device=self.device)
        y = self.torch.empty_like(x)
        return lambda: y.copy_(x), lambda handle: self.torch.cuda.synchronize(self.device)

    def kernels_ns(self, launch: Callable[[], Any], wait: Callable[[Any], Any], calls: int) -> float | None:
        """By torch.profiler, the sum over the kernels."""
        from torch.profiler import ProfilerActivity, profile

        with profile(activities=[ProfilerActivity.CUDA]) as profiler:
            for _ in range(calls):
                launch()
            self.torch.cuda.synchronize(self.device)
        found = sum(event.self_device_time_total for event in profiler.key_averages())
        return found * 1e3 or None

    def hold(self, nbytes: int) -> None:
        """Take so many bytes."""
        self.held = self.torch.zeros(nbytes // 4, device=self.device)
        self.torch.cuda.synchronize(self.device)

    def let_go(self) -> None:
        """And give the cached blocks back, as the adapter does once nothing is prepared."""
        self.held = None
        self.torch.cuda.empty_cache()


class Jax(Cuda):
    """JAX by hand."""

    def __init__(self, index: int) -> None:
        super().__init__(index)
        import jax

        self.jax, self.device = jax, jax.devices("cuda")[index]

    def gemm(self, size: int, dtype: str) -> Loop:
        """A square matrix product, compiled."""
        keys = self.jax.random.split(self.jax.random.key(0))
        made = (self.jax.random.normal(key, (size, size), getattr(self.jax.numpy, dtype)) for key in keys)
        a, b = (self.jax.device_put(each, self.device) for each in made)
        product = self.jax.jit(self.jax.numpy.matmul)
        return lambda: product(a, b), lambda handle: handle.block_until_ready()

    def copy(self, nbytes: int) -> Loop:
        """A copy of so many bytes, compiled."""
        x = self.jax.device_put(self.jax.numpy.ones(nbytes // 4, "float32"), self.device)
        copied = self.jax.jit(self.jax.numpy.copy)
        return lambda: copied(x), lambda handle: handle.block_until_ready()

    def hold(self, nbytes: int) -> None:
        """Take so many bytes."""
        self.held = self.jax.numpy.zeros((nbytes // 4 // _ROW, _ROW), "float32", device=self.device).block_until_ready()


class TensorFlow(Cuda):
    """TensorFlow by hand. Its adapter has made the GPU the only one that it sees."""

    def __init__(self, index: int) -> None:
        super().__init__(index)
        import tensorflow

        self.tf = tensorflow

    def _wait(self, handle: Any) -> None:
        self.tf.test.experimental.sync_devices()

    def gemm(self, size: int, dtype: str) -> Loop:
        """A square matrix product."""
        with self.tf.device("/GPU:0"):
            a, b = (self.tf.random.normal([size, size], dtype=getattr(self.tf, dtype)) for _ in range(2))
        return lambda: self.tf.linalg.matmul(a, b), self._wait

    def copy(self, nbytes: int) -> Loop:
        """A copy of so many bytes."""
        with self.tf.device("/GPU:0"):
            x = self.tf.ones([nbytes // 4])
        return lambda: self.tf.raw_ops.DeepCopy(x=x), self._wait

    def hold(self, nbytes: int) -> None:
        """Take so many bytes."""
        with self.tf.device("/GPU:0"):
            self.held = self.tf.zeros([nbytes // 4 // _ROW, _ROW])
        self._wait(None)
