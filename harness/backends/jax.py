"""JAX: `lax.conv_general_dilated` forward, `jax.linear_transpose` of it for each gradient alone.

JAX names no backward op. The convolution is linear in x and in w, and its transpose in one of them is exactly that
gradient; under jit it compiles to a single convolution (a vjp that keeps one gradient would do so too, but un-jitted it
runs the forward pass as well). Mode compiled is `jax.jit`, eager is dispatch op by op. What the convolutions are held
against are `jnp.matmul` and `jnp.copy`.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from operator import methodcaller
from typing import TYPE_CHECKING, Any, ClassVar

from harness.axes import Autotune, Device, Direction, Epilogue, Layout, Mode, Optimizer, Precision, Switch
from harness.backends import base, hlo, jax_calls, jax_profile, jax_script, jax_transposed, nvidia, traces
from harness.backends import jax_settings as settings
from harness.backends.base import DTYPES, Backend, Operands, Prepared, Results, by_name
from harness.profile import Event
from harness.spec import Cell

if TYPE_CHECKING:
    from harness.backends.base import Array


# What bounds the share of a GPU's memory that JAX takes, three quarters by default; both at once are an error of JAX's.
_FRACTIONS = {"XLA_CLIENT_MEM_FRACTION", "XLA_PYTHON_CLIENT_MEM_FRACTION"}


class JaxBackend(Backend):
    """JAX through XLA on the CPU or on an NVIDIA GPU."""

    name: ClassVar[str] = "jax"
    distributions: ClassVar[tuple[str, ...]] = ("jax", "jaxlib", "jax-cuda13-plugin", "jax-cuda12-plugin")
    modes: ClassVar[frozenset[Mode]] = frozenset({Mode.EAGER, Mode.COMPILED})
    autotunes: ClassVar[bool] = True
    switches: ClassVar[frozenset[Switch]] = frozenset(settings.FLAGS)
    biases: ClassVar[bool] = True
    epilogues: ClassVar[frozenset[Epilogue]] = frozenset({Epilogue.RELU})
    switching = staticmethod(settings.switching)
    script, op_reason = staticmethod(jax_script.script), staticmethod(jax_script.reason)

    @staticmethod
    def environ(device: Device, threads: int, cache: str = "") -> dict[str, str]:
        """A CPU worker starts no GPU; a GPU worker takes memory as it needs it, so that others fit beside it.

        With `cache` what XLA made of a program for the CPU is kept in the folder, however small and soon compiled it is.
        """
        platform = "cpu" if device.kind == "cpu" else "cuda"
        caches = {"JAX_ENABLE_COMPILATION_CACHE": "false"}
        if cache and device.kind == "cpu":
            caches = {
                "JAX_ENABLE_COMPILATION_CACHE": "true", "JAX_COMPILATION_CACHE_DIR": os.path.join(cache, "jax"),
                "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
                "JAX_PERSISTENT_CACHE_ENABLE_XLA_CACHES": "none",
            }  # fmt: skip
        room = {} if device.kind == "cpu" or _FRACTIONS.intersection(os.environ) else {"XLA_CLIENT_MEM_FRACTION": "0.95"}
        return {**caches, **room, "JAX_PLATFORMS": platform, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}

    @staticmethod
    def autotuning(choice: Autotune) -> dict[str, str]:
        """XLA's level, in its flags."""
        return nvidia.xla_flags(choice)

    def __init__(self, device: Device, threads: int) -> None:
        import jax
        import jax.numpy
        import numpy

        self._jax: Any = jax
        self._np = numpy
        self._compiled = _Compilations()
        jax.monitoring.register_event_duration_secs_listener(self._compiled)
        found = jax.devices("cpu") if device.kind == "cpu" else settings.gpus(jax)
        if device.index >= len(found):
            raise RuntimeError(f"JAX sees {len(found)} GPUs here, so there is no {device}")
        self._device = found[device.index]

    def devices(self) -> tuple[Device, ...]:
        """The CPU, and the GPUs where this process was not told to leave them alone."""
        found = [Device("cpu")]
        with contextlib.suppress(RuntimeError):  # no such platform, or no plug-in for it
            found += [Device("gpu", index) for index in range(len(self._jax.devices("cuda")))]
        return tuple(found)

    def board(self) -> Mapping[str, str]:
        """The name alone; the versions of the libraries are those of their distributions."""
        return {} if self._device.platform == "cpu" else {"name": str(self._device.device_kind)}

    def build(self) -> base.Build:
        """What the plug-ins beside it are for; without one it computes on the CPU."""
        return nvidia.plug_in()

    def idle_bytes(self) -> int:
        """What XLA's pool has beyond what arrays hold."""
        return settings.idle_bytes(self._device)

    def supports(self, cell: Cell) -> str | None:
        """Everything but TF32 on a CPU, Adam in 16 bits, and a mode of its own for XLA, which it always runs through."""
        return settings.lacks(cell) or nvidia.lacks(cell, lambda: settings.capability(self._device))

    def process_wide(self, cell: Cell) -> str:
        """Whether the x64 mode is on. It is part of the key of every compiled program, so that a change of it compiles anew."""
        return "x64" if cell.precision is Precision.FP64 else "x32"

    def prepare(self, cell: Cell, operands: Operands) -> JaxPrepared:
        """Operands on the device; float64 needs the x64 mode, which is on for such cells only."""
        self._jax.config.update("jax_enable_x64", cell.precision is Precision.FP64)
        kind = JaxConvolution if cell.is_convolution else JaxCeiling
        return kind(self._jax, self._np, self._device, cell, operands, self._compiled)


class _Compilations:
    """Counts what XLA compiles in this process; a listener of jax.monitoring."""

    EVENT = "/jax/core/compile/backend_compile_duration"

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, event: str, duration_secs: float, **kwargs: str | int) -> None:
        """One event of JAX, with how long it took."""
        self.count += event == self.EVENT


class JaxPrepared(Prepared):
    """What a convolution and a ceiling have in common: arrays, waiting, the device's clock and memory, compilations, FLOP."""

    def __init__(self, jax: Any, np: Any, device: Any, cell: Cell, compiled: _Compilations) -> None:
        self._jax, self._np, self._device, self._cell, self._compiled = jax, np, device, cell, compiled
        on_cpu = cell.device.kind == "cpu"
        self.device_clock = "" if on_cpu else traces.CLOCK
        self._dtype = getattr(jax.numpy, DTYPES[cell.precision])
        exact = cell.precision in (Precision.FP32, Precision.FP64)
        # DEFAULT lets XLA use TF32 on a GPU; HIGHEST forbids it.
        self._precision = jax.lax.Precision.HIGHEST if exact else jax.lax.Precision.DEFAULT
        self.wait = waiting(jax, single=len(cell.outputs) == 1)
        self._lowered: Callable[[], Any] | None = None  # the traced program of a compiled call, for what XLA says of it
        self._program: Any = None  # the compiled one, once it was asked for
        self.sources = (f"XLA's profiler, JAX {jax.__version__}",)

    def _placed(self, array: Array) -> Any:
        """An array on the device, in the cell's precision."""
        return self._jax.device_put(self._np.asarray(array).astype(self._dtype), self._device)  # by no other GPU

    def _float64(self, array: Any) -> Array:
        """A host copy of an array of the device."""
        wide = array.astype(self._jax.numpy.float32) if array.dtype.itemsize < 4 else array
        host: Array = self._np.asarray(wide).astype("float64")
        return host

    def read_settings(self) -> Mapping[str, str]:
        """Of a ceiling this is all."""
        return {"precision": self._precision.name, "x64": str(self._jax.config.jax_enable_x64)}

    def device_memory(self) -> tuple[int, int, str] | None:
        """What XLA planned for the compiled program: JAX's own peak counter has no reset, so none is read."""
        if self._cell.device.kind == "cpu" or self._lowered is None:
            return None
        plan = self._lowered().compile().memory_analysis()
        before = int(plan.argument_size_in_bytes)
        # What is donated is argument and result in one.
        peak = before + int(plan.output_size_in_bytes) - int(plan.alias_size_in_bytes) + int(plan.temp_size_in_bytes)
        return before, peak, "jax compiled.memory_analysis"

    def device_time(self, calls: int) -> float | None:
        """What XLA's profiler saw of the calls on the device. Takes a trace, so ask once for many calls; None on the CPU."""
        if self._cell.device.kind == "cpu":  # its plane has the threads of the host, which wait for one another
            return None
        with jax_profile.traced(self._jax, 0) as planes:
            handle = None
            for _ in range(calls):
                handle = self.launch()
            self.wait(handle)
        wanted = traces.plane_name(self._device.local_hardware_id)
        return traces.busy_ns((mark for plane in planes if plane.name == wanted for mark in plane.marks), calls)

    @contextlib.contextmanager
    def watched(self) -> Iterator[Callable[[], Sequence[Event]]]:
        """XLA's profiler: level 2 of the host has the operations of programs, whose text tells what they are."""
        compiled = self._optimised()
        text = compiled.as_text() if compiled else ""
        with jax_profile.traced(self._jax, 2) as planes:
            yield lambda: traces.events(planes, hlo.Program(text, self._cell))

    def compilations(self) -> int:
        """Programs that XLA has compiled in this process, those of single operations included."""
        return self._compiled.count

    def evict(self, nbytes: int) -> None:
        """A fresh buffer filled with zeros."""
        self._jax.block_until_ready(self._jax.numpy.zeros(-(-nbytes // 4), dtype="float32", device=self._device))

    def flops(self) -> float | None:
        """XLA's cost analysis of the traced program, before it is optimised; it leaves out taps in the padding."""
        return jax_profile.flops(self._lowered() if self._lowered else None)

    def _optimised(self) -> Any:
        """The program after optimisation, as it runs: JAX may compile it once more for this. None for single operations."""
        if self._program is None and self._lowered:
            self._program = self._lowered().compile()
        return self._program

    def compiled_flops(self) -> float | None:
        """The same of the program after optimisation, as it runs."""
        return jax_profile.flops(self._optimised())

    def close(self) -> None:
        """Drop the call. Its compiled program goes with the function that jax.jit made, on which all of JAX's caches hang.

        The function's own `clear_cache` would also make JAX forget how it traced every other one.
        """
        self._lowered = self._program = None
        del self.launch


class JaxConvolution(JaxPrepared):
    """A convolution in JAX."""

    _transposed: Any  # a gradient of dy, un-jitted
    _like: Any  # what it is a gradient in

    def __init__(
        self, jax: Any, np: Any, device: Any, cell: Cell, operands: Operands, compiled: _Compilations
    ) -> None:  # fmt: skip
        super().__init__(jax, np, device, cell, compiled)
        self._groups = cell.conv.groups if cell.spec.transposed else 0  # of a transposed convolution
        spatial = {1: "W", 2: "HW", 3: "DHW"}[cell.conv.ndim]
        self._last = cell.layout is Layout.CHANNELS_LAST
        activations = cell.layout.text(cell.conv.ndim)
        self._numbers = (activations, f"{spatial}IO" if self._last else f"OI{spatial}", activations)
        self._state: Any = None
        self._bind: Callable[[], Callable[[], Any]] | None = None
        self._calls = jax_calls.Calls(jax, cell, self._numbers, self._precision)
        self.load(operands)
        self.op, self._bind = self._choose()
        self.launch = self._bind()
        self.settings = self.read_settings()

    def read_settings(self) -> Mapping[str, str]:
        """JAX's configuration, and what of this cell does not change."""
        return {
            "dtype": str(self._dtype.dtype),
            **super().read_settings(),
            "matmul_precision": str(self._jax.config.jax_default_matmul_precision),  # of what names no precision; the call does
            "filter_layout": self._numbers[1],
            **({} if self._cell.device.kind == "cpu" else settings.tuning()),
        }

    def _array(self, array: Array, filter_: bool = False) -> Any:
        if filter_ and self._groups:
            array = jax_transposed.turned(array, self._groups)
        if self._last:
            array = self._np.moveaxis(array, (0, 1), (-1, -2)) if filter_ else self._np.moveaxis(array, 1, -1)
        return self._placed(array)

    def _canonical(self, name: str, array: Any) -> Array:
        """The host copy of an output, by its name in `Results`, in canonical layout."""
        canonical, filter_ = self._float64(array), name in ("dw", "w")
        if name in ("db", "b"):
            return canonical.reshape(-1)
        if self._last:
            canonical = self._np.moveaxis(canonical, (-1, -2), (0, 1)) if filter_ else self._np.moveaxis(canonical, -1, 1)
        return jax_transposed.turned(canonical, self._groups) if filter_ and self._groups else canonical

    def load(self, operands: Operands) -> None:
        """Arrays on the device in the cell's layout."""
        self._x, self._dy = self._array(operands.x), self._array(operands.dy)
        self._parameters: tuple[Any, ...] = (self._array(operands.w, filter_=True),)
        if operands.b is not None:  # as y is broadcast: a reshape in the call would be one more operation
            b = operands.b if self._last else operands.b.reshape(-1, *(1,) * self._cell.conv.ndim)
            self._parameters = (*self._parameters, self._placed(b))
        if self._cell.direction in (Direction.DGRAD, Direction.WGRAD):
            w, in_x = self._parameters[0], self._cell.direction is Direction.DGRAD
            self._other, self._like = (w, (self._x,)) if in_x else (self._x, self._parameters)  # beside what and in what
            # Un-jitted, a transpose built in the call would have its tracing timed; jit builds its own, once.
            self._transposed = self._calls.transpose(self._other, self._like)
        self.reset()
        if self._bind is not None:
            self.launch = self._bind()

    def reset(self) -> None:
        """The optimizer's state on the first filter and bias; arrays are immutable, so these themselves are unharmed.

        A compiled step counts on its device, as other frameworks' do: a number of Python would be copied there in every call.
        """
        if self._cell.direction is not Direction.TRAIN:
            return
        from jax.example_libraries import optimizers

        if self._cell.optimizer is Optimizer.SGD:
            init, self._update, self._params = optimizers.sgd(base.LEARNING_RATE)
        else:
            init, self._update, self._params = optimizers.adam(
                base.LEARNING_RATE, base.ADAM_BETA1, base.ADAM_BETA2, base.ADAM_EPSILON
            )
        first = 0 if self._cell.mode is Mode.EAGER else self._jax.device_put(self._np.int32(0), self._device)
        held = self._parameters if len(self._parameters) > 1 else self._parameters[0]
        self._state, self._steps = self._jax.block_until_ready((init(held), first))

    def _choose(self) -> tuple[str, Callable[[], Callable[[], Any]]]:
        """The text of the call that is timed, and what binds it to its operands: arguments, so that none is folded.

        No function of Python stands around a single compiled pass, as in the other adapters.
        """
        direction, text = self._cell.direction, self._calls.text
        function: Callable[..., Any]
        arguments: Callable[[], tuple[Any, ...]]
        match direction:
            case Direction.FPROP:
                function, arguments = self._calls.forward, lambda: (self._x, *self._parameters)
            case Direction.DGRAD | Direction.WGRAD:
                function, arguments = self._gradient, lambda: (self._dy, self._other)
            case Direction.BPROP:
                function, arguments = self._calls.both, lambda: (self._x, *self._parameters)
            case Direction.TRAIN:
                step = self._calls.step(self._params, self._update)
                function, arguments = step, lambda: (self._steps, self._x, self._state)
        if self._cell.mode is Mode.COMPILED:
            jitted = function = self._jax.jit(function)
            text = f"jax.jit({text})"
            self._lowered = lambda: jitted.lower(*arguments())
        elif direction in (Direction.DGRAD, Direction.WGRAD):
            function, arguments = (lambda dy: self._transposed(dy)[0]), lambda: (self._dy,)
            if len(self._cell.outputs) > 1:
                function = self._transposed_in_both
        if direction is not Direction.TRAIN:
            return text, lambda: partial(function, *arguments())

        def train() -> Any:
            self._steps, results = function(*arguments())
            self._state = results[-1]
            return results

        return text, lambda: train

    def _gradient(self, dy: Any, other: Any) -> Any:
        """What is jitted of one gradient, or of those of filter and bias, as a function of dy and the other operand."""
        found = self._calls.transpose(other, self._like)(dy)
        return found if len(found) > 1 else found[0]

    def _transposed_in_both(self, dy: Any) -> Any:
        """The gradients of filter and bias, un-jitted."""
        return self._transposed(dy)

    def fetch(self, handle: Any) -> Results:
        """Host copies in float64 and canonical layout."""
        if self._cell.direction is Direction.TRAIN:
            held = self._params(handle[-1])
            handle = (*handle[:-1], *(held if len(self._parameters) > 1 else (held,)))
        values = by_name(self._cell, handle)
        loss = float(values.pop("loss")) if "loss" in values else None
        return Results(loss=loss, **{name: self._canonical(name, value) for name, value in values.items()})

    def close(self) -> None:
        """Drop the arrays."""
        self._x = self._dy = self._other = self._transposed = self._like = self._state = self._bind = None
        self._parameters = ()
        super().close()


class JaxCeiling(JaxPrepared):
    """A matrix product or a copy in JAX."""

    def __init__(
        self, jax: Any, np: Any, device: Any, cell: Cell, operands: Operands, compiled: _Compilations
    ) -> None:  # fmt: skip
        super().__init__(jax, np, device, cell, compiled)
        self.load(operands)
        self.op, self.launch = self._call()
        self.settings = self.read_settings()

    def load(self, operands: Operands) -> None:
        """Arrays on the device, and an empty one for a copy to go to."""
        self._x, self._w = self._placed(operands.x), self._placed(operands.w)
        self._into = self._jax.numpy.zeros_like(self._x)

    def _call(self) -> tuple[str, Callable[[], Any]]:
        """The text of the call that is timed, and the call."""
        jax, compiled = self._jax, self._cell.mode is Mode.COMPILED
        if not self._cell.spec.computes:
            return self._copy() if compiled else ("jnp.copy", lambda: jax.numpy.copy(self._x))

        def product(x: Any, w: Any) -> Any:
            return jax.numpy.matmul(x, w, precision=self._precision)

        if not compiled:
            return "jnp.matmul", lambda: product(self._x, self._w)
        call = jax.jit(product)
        self._lowered = lambda: call.lower(self._x, self._w)
        return "jax.jit(jnp.matmul)", lambda: call(self._x, self._w)

    def _copy(self) -> tuple[str, Callable[[], Any]]:
        """A copy into the result of the one before, which is donated: no array is fresh, so no page of it is touched first."""
        call = self._jax.jit(lambda into, x: self._jax.numpy.copy(x), donate_argnums=0, keep_unused=True)
        self._lowered = lambda: call.lower(self._into, self._x)

        def launch() -> Any:
            self._into = call(self._into, self._x)
            return self._into

        return "jax.jit(jnp.copy) into a donated array", launch

    def fetch(self, handle: Any) -> Results:
        """A host copy in float64."""
        return Results(y=self._float64(handle))

    def close(self) -> None:
        """Drop the arrays."""
        self._x = self._w = self._into = None
        super().close()


def waiting(jax: Any, single: bool) -> Callable[[Any], object]:
    """What waits for a call, since dispatch is asynchronous on every device.

    Of a single array it is its own method, with no function of Python around it; that for trees takes microseconds more.
    """
    return methodcaller("block_until_ready") if single else jax.block_until_ready
