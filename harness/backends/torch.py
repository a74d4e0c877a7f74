"""PyTorch: functional convolutions forward, `aten.convolution_backward` with an output mask for each gradient alone.

The mask really skips the other gradient's work. `torch.nn.grad` is a thin wrapper over the same op since 2022 and was
wrong for groups before; autograd's own `backward` computes both gradients and belongs to bprop and train. What the
convolutions are held against are `torch.mm` and `Tensor.copy_`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar
from weakref import WeakSet

from harness.axes import Api, Device, Direction, Epilogue, Layout, Mode, Optimizer, Switch
from harness.backends import base, nvidia, onednn, torch_calls, torch_layer, torch_profile, torch_programs, torch_script
from harness.backends import torch_settings as settings
from harness.backends.base import ALREADY_DONE, DTYPES, Backend, Operands, Prepared, Results, by_name
from harness.profile import Event
from harness.spec import Cell, ConvSpec

if TYPE_CHECKING:
    from harness.backends.base import Array


class TorchBackend(Backend):
    """PyTorch on the CPU (oneDNN and its own kernels) or on an NVIDIA GPU (cuDNN)."""

    name: ClassVar[str] = "torch"
    distributions: ClassVar[tuple[str, ...]] = ("torch", "triton")
    modes: ClassVar[frozenset[Mode]] = frozenset({Mode.EAGER, Mode.COMPILED})
    autotunes: ClassVar[bool] = True
    switches: ClassVar[frozenset[Switch]] = settings.SWITCHES
    apis: ClassVar[frozenset[Api]] = frozenset({Api.LAYER})
    switching = staticmethod(onednn.isa)  # the other switches are PyTorch's own
    biases: ClassVar[bool] = True
    epilogues: ClassVar[frozenset[Epilogue]] = frozenset({Epilogue.RELU})
    script, op_reason = staticmethod(torch_script.script), staticmethod(torch_script.reason)

    @staticmethod
    def environ(device: Device, threads: int, cache: str = "") -> dict[str, str]:
        """A CPU worker sees no GPU; without `cache` and on a GPU a first call is a first call in every process."""
        hidden = {"CUDA_VISIBLE_DEVICES": ""} if device.kind == "cpu" else {}
        caches = torch_programs.caches(cache if device.kind == "cpu" else "")
        return {**caches, "OMP_NUM_THREADS": str(threads), **hidden}

    @staticmethod
    def profile_environ(device: Device, threads: int) -> dict[str, str]:
        """oneDNN tells when a primitive began; whether it tells anything is switched at run time."""
        return {"ONEDNN_VERBOSE_TIMESTAMP": "1"} if device.kind == "cpu" else {}

    def __init__(self, device: Device, threads: int) -> None:
        import torch

        self._torch = torch
        settings.set_switch(torch)
        if device.kind == "gpu":
            settings.must_be_for_nvidia(torch)
        self._device = torch.device("cpu") if device.kind == "cpu" else torch.device("cuda", device.index)
        torch.set_num_threads(threads)

    def devices(self) -> tuple[Device, ...]:
        """The CPU and what CUDA shows; ROCm, whose devices have the same name, is none."""
        torch = self._torch
        count = torch.cuda.device_count() if torch.version.cuda and torch.cuda.is_available() else 0
        return (Device("cpu"), *(Device("gpu", index) for index in range(count)))

    def board(self) -> Mapping[str, str]:
        """Name and UUID, CUDA, cuDNN and NCCL."""
        return settings.board(self._torch, self._device) if self._device.type == "cuda" else {}

    def build(self) -> base.Build:
        """CUDA's version, or the vendor of what else it computes on."""
        return settings.build(self._torch)

    def threads_used(self) -> int | None:
        """The size of the intra-op pool."""
        return int(self._torch.get_num_threads())

    def idle_bytes(self) -> int:
        """What CUDA's caching allocator has reserved beyond what tensors hold."""
        cuda = self._torch.cuda
        return int(cuda.memory_reserved(self._device)) - int(cuda.memory_allocated(self._device))

    def supports(self, cell: Cell) -> str | None:
        """What PyTorch has no call for, or this machine no compiler."""
        if reason := settings.lacks(cell):
            return reason
        if reason := nvidia.lacks(cell, lambda: self._torch.cuda.get_device_capability(self._device)):
            return reason
        if cell.device.kind == "gpu" and (reason := settings.no_kernels(self._torch, self._device)):
            return reason
        return settings.no_compiler(cell)

    def pads_beforehand(self, cell: Cell) -> bool:
        """Where the padding is asymmetric."""
        return not (cell.spec.transposed or cell.spec.pads_evenly)

    def process_wide(self, cell: Cell) -> str:
        """Whether products of fp32 may be computed in TF32, and whether cuDNN tries: switches of the process, not of a call."""
        return f"{settings.fp32_precision(cell)} {cell.options.get('autotune', '')}".strip()

    def prepare(self, cell: Cell, operands: Operands) -> TorchPrepared:
        """Operands on the device in the cell's memory format; settings are set for this cell and read back."""
        settings.set_precision(self._torch, cell)
        settings.set_autotuning(self._torch, cell)
        kind = TorchConvolution if cell.is_convolution else TorchCeiling
        return kind(self._torch, self._device, cell, operands)


# Calls queued behind one wait of the device. CUDA queues about a thousand launches before the host blocks, and a training
# step in eager mode has some thirty.
_QUEUED = 32
_FIRST_WAIT_CYCLES, _LONGEST_WAIT_CYCLES = 1 << 20, 1 << 31  # about half a millisecond, and a second


_CLOCK = "CUDA events around queued calls, with the gaps between kernels"


class TorchPrepared(Prepared):
    """What a convolution and a ceiling have in common: waiting, the device's clock and memory, eviction, compilations, FLOP."""

    _open: ClassVar[WeakSet[TorchPrepared]] = WeakSet()
    _fixed: Mapping[str, str]  # the settings of this cell alone
    _code: Any = None  # the code object that its compiled program is kept with

    def __init__(self, torch: Any, device: Any, cell: Cell) -> None:
        self._torch, self._device, self._cell = torch, device, cell
        self._dtype = getattr(torch, DTYPES[cell.precision])
        self.device_clock = _CLOCK if device.type == "cuda" else ""
        self.wait = waiting(torch, device)
        self._wait_cycles = _FIRST_WAIT_CYCLES
        self.sources = (torch_profile.SOURCE,)
        self._open.add(self)

    def _compiled(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """What torch.compile makes of a function, to be forgotten when this is closed."""
        own = torch_programs.own(function)
        self._code = own.__code__
        compiled: Callable[..., Any] = self._torch.compile(own, dynamic=False, fullgraph=True)
        return compiled

    def read_settings(self) -> Mapping[str, str]:
        """Those of the process, and what of this cell does not change."""
        return {**settings.read_settings(self._torch, self._cell), **self._fixed}

    def device_memory(self) -> tuple[int, int, str] | None:
        """CUDA's caching allocator over one call."""
        if self._device.type != "cuda":
            return None
        cuda = self._torch.cuda
        cuda.synchronize(self._device)
        cuda.reset_peak_memory_stats(self._device)
        before = int(cuda.memory_allocated(self._device))
        handle = self.launch()
        self.wait(handle)
        return before, int(cuda.max_memory_allocated(self._device)), "torch.cuda.max_memory_allocated"

    def device_time(self, calls: int) -> float | None:
        """Between two CUDA events around the calls, all of them queued while the device waits, so that no gap is the host's.

        Where the host could not queue them in time, `device_clock` says so from then on. None on the CPU.
        """
        if self._device.type != "cuda":
            return None
        with self._torch.cuda.device(self._device):
            parts = [_QUEUED] * (calls // _QUEUED) + [calls % _QUEUED] * bool(calls % _QUEUED)
            return sum(map(self._between_events, parts)) * 1e6

    def _between_events(self, calls: int) -> float:
        """Milliseconds of calls queued behind one wait; the wait grows until the host is done before it is over."""
        cuda = self._torch.cuda
        stream, sleep = cuda.current_stream(self._device), getattr(cuda, "_sleep", None)  # no public call makes a device wait
        sleep = sleep if self._wait_cycles else None
        while True:
            begin, end = cuda.Event(enable_timing=True), cuda.Event(enable_timing=True)
            if sleep:
                sleep(self._wait_cycles)
            begin.record(stream)
            for _ in range(calls):
                self.launch()
            end.record(stream)
            all_queued = sleep is not None and not begin.query()  # the device still waits
            end.synchronize()
            if all_queued:
                return float(begin.elapsed_time(end))
            if sleep is None or self._wait_cycles >= _LONGEST_WAIT_CYCLES:
                # A call that waits for the device itself can never be queued; trying again would cost a second each time.
                self.device_clock, self._wait_cycles = f"{_CLOCK}; the host's gaps between launches may be in it", 0
                return float(begin.elapsed_time(end))
            self._wait_cycles = min(4 * self._wait_cycles, _LONGEST_WAIT_CYCLES)

    def compilations(self) -> int:
        """Graphs that torch.compile has made in this process."""
        return torch_programs.count()

    def evict(self, nbytes: int) -> None:
        """A fresh buffer filled with zeros; the allocator keeps it for the next time."""
        self._torch.zeros(-(-nbytes // 4), dtype=self._torch.float32, device=self._device)
        self.wait(None)

    def flops(self) -> float | None:
        """FlopCounterMode over one eager call of one pass; it does not see into compiled code."""
        if self._cell.mode is not Mode.EAGER or torch_layer.takes_one(self._cell):
            return None
        from torch.utils.flop_counter import FlopCounterMode

        with FlopCounterMode(display=False) as counter:
            self.launch()
        return float(counter.get_total_flops())

    @contextmanager
    def watched(self) -> Iterator[Callable[[], Sequence[Event]]]:
        """torch.profiler, and on the CPU what oneDNN prints; on a GPU CUPTI's kernels."""

        def tell(sources: tuple[str, ...]) -> None:
            self.sources = sources

        with torch_profile.watched(self._torch, self._cell, tell) as read:
            yield read

    def close(self) -> None:
        """Drop the call and its program; on a GPU the last of all gives the cached blocks back, so that others start alike."""
        del self.launch
        if self._code is not None:
            torch_programs.forget(self._code)
            self._code = None
        self._open.discard(self)
        if self._device.type == "cuda" and not self._open:  # the others' next calls would have to ask CUDA for theirs again
            self._torch.cuda.empty_cache()


class TorchConvolution(TorchPrepared):
    """A convolution in PyTorch."""

    _x: Any = None
    _parameters: tuple[Any, ...] = ()  # the filter, and the bias where there is one
    _optimizer: Any = None

    def __init__(self, torch: Any, device: Any, cell: Cell, operands: Operands) -> None:
        super().__init__(torch, device, cell)
        self._format = _memory_format(torch, cell)
        # Asymmetric padding is no argument of any convolution in PyTorch: x is padded before the clock starts.
        self._prepadded = not cell.conv.pads_evenly
        self._pads = (0,) * cell.conv.ndim if self._prepadded else tuple(lo for lo, _ in cell.conv.padding)
        # What is computed is then the gradient of the padded x, which has more elements than were asked for.
        padded = self._prepadded and cell.direction in (Direction.DGRAD, Direction.BPROP, Direction.TRAIN)
        self.composite = padded or torch_layer.takes_one(cell)
        self.load(operands)
        self.op, self.launch = self._choose()
        layout = "channels_last" if cell.layout is Layout.CHANNELS_LAST else "contiguous"
        self._fixed = {"dtype": str(self._x.dtype).removeprefix("torch."), "filter_layout": layout}
        self.settings = self.read_settings()

    def _tensor(self, array: Array) -> Any:
        tensor = self._torch.tensor(array, dtype=self._dtype, device=self._device)
        # Not `contiguous`, which leaves one channel or a 1x1 filter as it is; the call would then run channels first.
        return tensor.to(memory_format=self._format)

    def load(self, operands: Operands) -> None:
        """Copies on the device, which ask for the gradients that autograd makes; filter and bias of a layer are parameters."""
        x, w, dy = self._tensor(operands.x), self._tensor(operands.w), self._tensor(operands.dy)
        b = None if operands.b is None else self._torch.tensor(operands.b, dtype=self._dtype, device=self._device)
        parameters = (w,) if b is None else (w, b)
        if self._cell.api is Api.LAYER:
            parameters = tuple(map(self._torch.nn.Parameter, parameters))
        if self._prepadded:
            flat = [side for pair in reversed(self._cell.conv.padding) for side in pair]
            x = self._torch.nn.functional.pad(x, flat).to(memory_format=self._format)
        in_x, in_parameters = torch_layer.wanted(self._cell)
        x.requires_grad_(in_x)
        for tensor in parameters:
            tensor.requires_grad_(in_parameters)
        if self._x is None:
            self._x, self._dy, self._parameters = x, dy, parameters
        else:  # into the same tensors: a compiled call may have specialised on them
            with self._torch.no_grad():
                for kept, new in zip((self._x, self._dy, *self._parameters), (x, dy, *parameters), strict=True):
                    kept.copy_(new)
        self._initial = tuple(tensor.detach().clone() for tensor in parameters)
        self.reset()

    def reset(self) -> None:
        """The first filter and bias, and the optimizer's slots at zero; these stay, since only the first step makes them."""
        if self._cell.direction is not Direction.TRAIN:
            return
        with self._torch.no_grad():
            for kept, first in zip(self._parameters, self._initial, strict=True):
                kept.copy_(first)
            for slots in self._optimizer.state.values() if self._optimizer else ():
                for slot in slots.values():
                    if slot is not None:  # SGD's momentum buffer, without momentum
                        slot.zero_()
        if self._optimizer is None and self._cell.optimizer is Optimizer.SGD:
            self._optimizer = self._torch.optim.SGD(self._parameters, lr=base.LEARNING_RATE)
        elif self._optimizer is None:
            betas = (base.ADAM_BETA1, base.ADAM_BETA2)
            self._optimizer = self._torch.optim.Adam(self._parameters, base.LEARNING_RATE, betas, base.ADAM_EPSILON)

    def _choose(self) -> tuple[str, Callable[[], Any]]:
        """The text of the call that is timed, and the call."""
        torch, cell, x = self._torch, self._cell, self._x
        if cell.api is Api.LAYER:
            operands = (x, *self._parameters, self._dy)
            return torch_layer.called(torch, cell, operands, self._optimizer, self._compiled)
        given, compiled = (x, *self._parameters), cell.mode is Mode.COMPILED

        def wrap(function: Callable[..., Any]) -> Any:
            return self._compiled(function) if compiled else function

        def single(op: Any, operands: tuple[Any, ...], *rest: Any) -> Callable[[], Any]:
            """One op; eager without a function around it, which would be timed with it."""
            if compiled:
                return partial(wrap(lambda *tensors: op(*tensors, *rest)), *operands)
            return partial(op, *operands, *rest)

        text, conv, told = torch_calls.forward(torch, cell, self._pads)
        forward_loss = torch_calls.loss(conv, told, biased=len(given) > 2)
        match cell.direction:
            case Direction.FPROP:
                launch = single(conv, given, *told)
            case Direction.DGRAD | Direction.WGRAD:
                text, backward, told = torch_calls.gradient(torch, cell, self._pads)
                launch = single(backward, (self._dy, *given[:2]), *told)
            case Direction.BPROP:
                call, grad = wrap(forward_loss), torch.autograd.grad

                def launch() -> Any:
                    y, loss = call(*given)
                    return (y, loss, *grad(loss, given))

                text = f"{text}, mean(y^2), autograd.grad"
            case Direction.TRAIN:
                text = f"{text}, mean(y^2), backward, optim.{cell.optimizer}.step"
                launch = torch_calls.step(wrap(forward_loss), self._optimizer, *given)
        if compiled:  # what follows the forward pass is dispatched by PyTorch itself, as in a program that compiles its model
            compiled_part, comma, rest = text.partition(", backward")
            text = f"torch.compile({compiled_part}){comma}{rest}"
        return text + (" on x padded beforehand" if self._prepadded else ""), launch

    def fetch(self, handle: Any) -> Results:
        """Host copies in float64; the part of dx that belongs to beforehand padding is cut off."""
        if self._cell.direction in (Direction.DGRAD, Direction.WGRAD):
            handle = [made for made in handle if made is not None]  # of (dx, dw, db), of which the mask leaves some
            handle = handle[0] if len(handle) == 1 else handle
        values = by_name(self._cell, handle)
        arrays = {name: tensor.detach().to("cpu", self._torch.float64).numpy().copy() for name, tensor in values.items()}
        if self._prepadded and "dx" in arrays:
            arrays["dx"] = arrays["dx"][_inside(self._cell.conv)]
        if "loss" in arrays:
            arrays["loss"] = float(arrays["loss"])
        return Results(**arrays)

    def close(self) -> None:
        """Drop the tensors."""
        self._x = self._dy = self._optimizer = None
        self._parameters = self._initial = ()
        super().close()


class TorchCeiling(TorchPrepared):
    """A matrix product or a copy in PyTorch."""

    _x: Any = None

    def __init__(self, torch: Any, device: Any, cell: Cell, operands: Operands) -> None:
        super().__init__(torch, device, cell)
        self.load(operands)
        self.op, self.launch = self._choose()
        self._fixed = {"dtype": DTYPES[cell.precision]}
        self.settings = self.read_settings()

    def load(self, operands: Operands) -> None:
        """Copies on the device, always in the same tensors, and an empty one for a copy to go to."""
        arrays = (operands.x, operands.w)
        x, w = (self._torch.tensor(array, dtype=self._dtype, device=self._device) for array in arrays)
        if self._x is None:
            self._x, self._w, self._into = x, w, self._torch.empty_like(x)
        else:
            self._x.copy_(x)
            self._w.copy_(w)
        self._into.zero_()

    def _choose(self) -> tuple[str, Callable[[], Any]]:
        """The text of the call that is timed, and the call."""
        call: Callable[[Any, Any], Any]
        if not self._cell.spec.computes:
            text, call, arguments = "Tensor.copy_", lambda into, x: into.copy_(x), (self._into, self._x)
        else:
            text, call, arguments = "torch.mm", self._torch.mm, (self._x, self._w)
        if self._cell.mode is Mode.COMPILED:
            compiled = self._compiled(lambda a, b: call(a, b))
            return f"torch.compile({text})", lambda: compiled(*arguments)
        return text, lambda: call(*arguments)

    def fetch(self, handle: Any) -> Results:
        """A host copy in float64."""
        return Results(y=handle.to("cpu", self._torch.float64, copy=True).numpy())

    def close(self) -> None:
        """Drop the tensors."""
        self._x = self._w = self._into = None
        super().close()


def waiting(torch: Any, device: Any) -> Callable[[Any], object]:
    """What waits for a call: for the stream that it was put on.

    The CPU is synchronous: nothing is left to wait for.
    """

    def synchronize(handle: Any) -> None:
        torch.cuda.current_stream(device).synchronize()

    return synchronize if device.type == "cuda" else ALREADY_DONE


def _memory_format(torch: Any, cell: Cell) -> Any:
    if cell.layout is Layout.CHANNELS_FIRST:
        return torch.contiguous_format
    return {2: torch.channels_last, 3: torch.channels_last_3d}[cell.conv.ndim]


def _inside(spec: ConvSpec) -> tuple[slice, ...]:
    return (slice(None), slice(None), *(slice(lo, lo + n) for n, (lo, _) in zip(spec.spatial, spec.padding, strict=True)))
