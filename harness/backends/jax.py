"""JAX: `lax.conv_general_dilated` forward, `jax.linear_transpose` of it for each gradient alone.

JAX names no backward op. The convolution is linear in x and in w, and its transpose in one of them is exactly that
gradient; under jit it compiles to a single convolution (a vjp that keeps one gradient would do so too, but un-jitted it
runs the forward pass as well). Mode compiled is `jax.jit`, eager is dispatch op by op. What the convolutions are held
against are `jnp.matmul` and `jnp.copy`.
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from operator import methodcaller
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from harness.backends import traces
from harness.backends.base import (
    ADAM_BETA1,
    ADAM_BETA2,
    ADAM_EPSILON,
    LEARNING_RATE,
    Backend,
    Operands,
    Prepared,
    Results,
)  # fmt: skip
from harness.spec import Cell, CopySpec, Device, Direction, Layout, Mode, Optimizer, Precision

if TYPE_CHECKING:
    from harness.backends.base import Array


class JaxBackend(Backend):
    """JAX through XLA on the CPU or on an NVIDIA GPU."""

    name: ClassVar[str] = "jax"
    distributions: ClassVar[tuple[str, ...]] = ("jax", "jaxlib", "jax-cuda13-plugin", "jax-cuda12-plugin")
    modes: ClassVar[frozenset[Mode]] = frozenset({Mode.EAGER, Mode.COMPILED})

    @staticmethod
    def environ(device: Device, threads: int) -> dict[str, str]:
        """A CPU worker starts no GPU; a GPU worker takes memory as it needs it, so that others fit beside it."""
        platform = "cpu" if device.kind == "cpu" else "cuda"
        return {"JAX_PLATFORMS": platform, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}

    def __init__(self, device: Device, threads: int) -> None:
        import jax
        import jax.numpy
        import numpy

        self.jax, self.np = jax, numpy
        self.compiled = _Compilations()
        jax.monitoring.register_event_duration_secs_listener(self.compiled)
        self.device = jax.devices("cpu" if device.kind == "cpu" else "cuda")[device.index]

    def devices(self) -> tuple[Device, ...]:
        """The CPU, and the GPUs where this process was not told to leave them alone."""
        found = [Device("cpu")]
        with contextlib.suppress(RuntimeError):  # no such platform, or no plug-in for it
            found += [Device("gpu", index) for index in range(len(self.jax.devices("cuda")))]
        return tuple(found)

    def supports(self, cell: Cell) -> str | None:
        """Everything but TF32 on a CPU, Adam in 16 bits, and a mode of its own for XLA, which it always runs through."""
        if cell.mode not in self.modes:
            return f"JAX has no mode {cell.mode}"
        if cell.device.kind == "cpu" and cell.precision is Precision.TF32:
            return "TF32 is a format of NVIDIA GPUs; the CPU has none"
        if cell.optimizer is Optimizer.ADAM and cell.precision in (Precision.BF16, Precision.FP16):
            return f"JAX computes Adam's constants in {cell.precision}, where 0.999 is 1 or 1e-8 is 0: no step comes of it"
        return None

    def prepare(self, cell: Cell, operands: Operands) -> JaxPrepared:
        """Operands on the device; float64 needs the x64 mode, which is on for such cells only."""
        self.jax.config.update("jax_enable_x64", cell.precision is Precision.FP64)
        kind = JaxCeiling if cell.direction is Direction.NONE else JaxPrepared
        return kind(self.jax, self.np, self.device, cell, operands, self.compiled)


class _Compilations:
    """Counts what XLA compiles in this process; a listener of jax.monitoring."""

    EVENT = "/jax/core/compile/backend_compile_duration"

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, event: str, duration_secs: float, **kwargs: str | int) -> None:
        """One event of JAX, with how long it took."""
        self.count += event == self.EVENT


class JaxPrepared(Prepared):
    """One cell in JAX; see `base.Prepared`."""

    def __init__(self, jax: Any, np: Any, device: Any, cell: Cell, operands: Operands, compiled: _Compilations) -> None:
        self.jax, self.np, self.device, self.cell, self.compiled = jax, np, device, cell, compiled
        self.device_clock = _device_clock(cell)
        self.dtype = getattr(jax.numpy, _DTYPES[cell.precision])
        spatial = {1: "W", 2: "HW", 3: "DHW"}[cell.conv.ndim]
        self.last = cell.layout is Layout.CHANNELS_LAST
        activations = cell.layout.text(cell.conv.ndim)
        self.numbers = (activations, f"{spatial}IO" if self.last else f"OI{spatial}", activations)
        self.precision = _precision(jax, cell)
        self.wait = waiting(jax, single=cell.direction in (Direction.FPROP, Direction.DGRAD, Direction.WGRAD))
        self.state: Any = None
        self.lowered: Callable[[], Any] | None = None  # the traced program of a compiled call, for what XLA says of it
        self.bind: Callable[[], Callable[[], Any]] | None = None
        self.load(operands)
        self.op, self.bind = self._choose()
        self.launch = self.bind()
        self.settings: Mapping[str, str] = {
            "dtype": str(self.x.dtype),
            "precision": self.precision.name,
            "matmul_precision": str(jax.config.jax_default_matmul_precision),  # of what names no precision; the call does
            "filter_layout": self.numbers[1],
            "x64": str(jax.config.jax_enable_x64),
            **({} if cell.device.kind == "cpu" else {"xla_gpu_autotune_level": _autotune_level()}),
        }

    def _array(self, array: Array, filter_: bool = False) -> Any:
        if self.last:
            array = self.np.moveaxis(array, (0, 1), (-1, -2)) if filter_ else self.np.moveaxis(array, 1, -1)
        return self.jax.device_put(self.jax.numpy.asarray(array, dtype=self.dtype), self.device)

    def _canonical(self, array: Any, filter_: bool = False) -> Array:
        array = self.np.asarray(array.astype(self.jax.numpy.float32) if array.dtype.itemsize < 4 else array).astype("float64")
        if self.last:
            array = self.np.moveaxis(array, (-1, -2), (0, 1)) if filter_ else self.np.moveaxis(array, -1, 1)
        return array

    def load(self, operands: Operands) -> None:
        """Arrays on the device in the cell's layout."""
        self.x, self.dy = self._array(operands.x), self._array(operands.dy)
        self.w = self._array(operands.w, filter_=True)
        if self.cell.direction in (Direction.DGRAD, Direction.WGRAD):
            self.other = self.w if self.cell.direction is Direction.DGRAD else self.x
            # Un-jitted, a transpose built in the call would have its tracing timed; jit builds its own, once.
            self.transposed = self._transpose(self.other)
        self.reset()
        if self.bind is not None:
            self.launch = self.bind()

    def reset(self) -> None:
        """The optimizer's state on the first filter; arrays are immutable, so the filter itself is unharmed."""
        if self.cell.direction is not Direction.TRAIN:
            return
        from jax.example_libraries import optimizers

        if self.cell.optimizer is Optimizer.SGD:
            init, self.update, self.params = optimizers.sgd(LEARNING_RATE)
        else:
            init, self.update, self.params = optimizers.adam(LEARNING_RATE, ADAM_BETA1, ADAM_BETA2, ADAM_EPSILON)
        self.state, self.step = self.jax.block_until_ready(init(self.w)), 0

    def _convolution(self, x: Any, w: Any) -> Any:
        spec = self.cell.conv
        return self.jax.lax.conv_general_dilated(
            x, w, spec.stride, spec.padding, rhs_dilation=spec.dilation, dimension_numbers=self.numbers,
            feature_group_count=spec.groups, precision=self.precision,
        )  # fmt: skip

    def _choose(self) -> tuple[str, Callable[[], Callable[[], Any]]]:
        """The text of the call that is timed, and what binds it to its operands: arguments, so that none is folded.

        No function of Python stands around a single compiled pass, as in the other adapters.
        """
        name, direction = "lax.conv_general_dilated", self.cell.direction
        function: Callable[..., Any]
        arguments: Callable[[], tuple[Any, ...]]
        match direction:
            case Direction.FPROP:
                text, function, arguments = name, self._convolution, lambda: (self.x, self.w)
            case Direction.DGRAD | Direction.WGRAD:
                text = f"linear_transpose({name}) in {'x' if direction is Direction.DGRAD else 'w'}"
                function, arguments = lambda dy, other: self._transpose(other)(dy)[0], lambda: (self.dy, self.other)
            case Direction.BPROP:
                text, function, arguments = f"value_and_grad(mean({name}^2))", self._both, lambda: (self.x, self.w)
            case Direction.TRAIN:
                text = f"value_and_grad(mean({name}^2)), optimizers.{self.cell.optimizer}"
                function, arguments = self._step, lambda: (self.step, self.x, self.state)
        if self.cell.mode is Mode.COMPILED:
            function, text = self.jax.jit(function), f"jax.jit({text})"
            self.lowered = lambda: function.lower(*arguments())
        elif direction in (Direction.DGRAD, Direction.WGRAD):
            function, arguments = lambda dy: self.transposed(dy)[0], lambda: (self.dy,)
        if direction is not Direction.TRAIN:
            return text, lambda: partial(function, *arguments())

        def train() -> Any:
            results = function(*arguments())
            self.state = results[-1]
            self.step += 1
            return results

        return text, lambda: train

    def _transpose(self, other: Any) -> Callable[[Any], tuple[Any]]:
        """The gradient as a function of dy: the transpose of the convolution in x with `other` = w, or in w with x."""
        if self.cell.direction is Direction.DGRAD:
            return self.jax.linear_transpose(lambda x: self._convolution(x, other), self._like(self.x))
        return self.jax.linear_transpose(lambda w: self._convolution(other, w), self._like(self.w))

    def _like(self, array: Any) -> Any:
        return self.jax.ShapeDtypeStruct(array.shape, array.dtype)

    def _loss(self, x: Any, w: Any) -> tuple[Any, Any]:
        y = self._convolution(x, w)
        return self.jax.numpy.mean(self.jax.numpy.square(y)), y

    def _both(self, x: Any, w: Any) -> Any:
        (loss, y), (dx, dw) = self.jax.value_and_grad(self._loss, argnums=(0, 1), has_aux=True)(x, w)
        return y, loss, dx, dw

    def _step(self, index: Any, x: Any, state: Any) -> Any:
        y, loss, dx, dw = self._both(x, self.params(state))
        return y, loss, dx, dw, self.update(index, dw, state)  # the filter is in the state; returned twice it would be copied

    def fetch(self, handle: Any) -> Results:
        """Host copies in float64 and canonical layout."""
        single = {Direction.FPROP: "y", Direction.DGRAD: "dx", Direction.WGRAD: "dw"}.get(self.cell.direction)
        values = {single: handle} if single else dict(zip(("y", "loss", "dx", "dw", "w"), handle, strict=False))
        loss = float(values.pop("loss")) if "loss" in values else None
        if "w" in values:
            values["w"] = self.params(values["w"])
        arrays = {name: self._canonical(value, filter_=name in ("dw", "w")) for name, value in values.items()}
        return Results(loss=loss, **arrays)

    def device_memory(self) -> tuple[int, int, str] | None:
        """What XLA planned for the compiled program: JAX's own peak counter has no reset, so none is read."""
        if self.cell.device.kind == "cpu" or self.lowered is None:
            return None
        plan = self.lowered().compile().memory_analysis()
        base = int(plan.argument_size_in_bytes)
        # What is donated is argument and result in one.
        peak = base + int(plan.output_size_in_bytes) - int(plan.alias_size_in_bytes) + int(plan.temp_size_in_bytes)
        return base, peak, "jax compiled.memory_analysis"

    def device_time(self, calls: int) -> float | None:
        """What XLA's profiler saw of the calls on the device. Takes a trace, so ask once for many calls; None on the CPU."""
        if self.cell.device.kind == "cpu":  # its plane has the threads of the host, which wait for one another
            return None
        profiler = self.jax.profiler
        options = profiler.ProfileOptions()
        options.host_tracer_level = options.python_tracer_level = 0
        with tempfile.TemporaryDirectory() as folder:
            with profiler.trace(folder, profiler_options=options):
                handle = None
                for _ in range(calls):
                    handle = self.launch()
                self.wait(handle)
            return traces.busy_ns(self._events(Path(folder)), calls)

    def _events(self, folder: Path) -> Iterator[traces.Event]:
        """The events of this device in the traces that were written to a folder."""
        wanted = traces.plane_name(self.device.local_hardware_id)
        for path in folder.rglob("*.xplane.pb"):
            for plane in self.jax.profiler.ProfileData.from_file(str(path)).planes:
                for line in plane.lines if plane.name == wanted else ():
                    for event in line.events:
                        stats = frozenset(name for name, _ in event.stats)
                        yield traces.Event(line.name, event.start_ns, event.duration_ns, stats)

    def compilations(self) -> int:
        """Programs that XLA has compiled in this process, those of single operations included."""
        return self.compiled.count

    def evict(self, nbytes: int) -> None:
        """A fresh buffer filled with zeros."""
        self.jax.block_until_ready(self.jax.numpy.zeros(-(-nbytes // 4), dtype="float32", device=self.device))

    def flops(self) -> float | None:
        """XLA's cost analysis of the traced program, before it is optimised; it leaves out taps in the padding."""
        count = self.lowered().cost_analysis() if self.lowered else None
        return float(count["flops"]) if count and "flops" in count else None

    def close(self) -> None:
        """Drop the arrays; compiled programs stay in JAX's own cache until the worker ends."""
        self.x = self.w = self.dy = self.other = self.transposed = self.state = self.bind = self.launch = self.lowered = None


class JaxCeiling(JaxPrepared):
    """A matrix product or a copy in JAX; waiting, counting and letting go are those of the convolutions."""

    def __init__(self, jax: Any, np: Any, device: Any, cell: Cell, operands: Operands, compiled: _Compilations) -> None:
        self.jax, self.np, self.device, self.cell, self.compiled = jax, np, device, cell, compiled
        self.device_clock = _device_clock(cell)
        self.dtype = getattr(jax.numpy, _DTYPES[cell.precision])
        self.precision = _precision(jax, cell)
        self.wait = waiting(jax, single=True)
        self.last = False  # arrays go to the device as they are
        self.lowered = None
        self.load(operands)
        self.op, self.launch = self._call()
        self.settings: Mapping[str, str] = {"precision": self.precision.name, "x64": str(jax.config.jax_enable_x64)}

    def load(self, operands: Operands) -> None:
        """Arrays on the device, and an empty one for a copy to go to."""
        self.x, self.w = self._array(operands.x), self._array(operands.w)
        self.into = self.jax.numpy.zeros_like(self.x)

    def _call(self) -> tuple[str, Callable[[], Any]]:
        """The text of the call that is timed, and the call."""
        jax, compiled = self.jax, self.cell.mode is Mode.COMPILED
        if isinstance(self.cell.spec, CopySpec):
            return self._copy() if compiled else ("jnp.copy", lambda: jax.numpy.copy(self.x))

        def product(x: Any, w: Any) -> Any:
            return jax.numpy.matmul(x, w, precision=self.precision)

        if not compiled:
            return "jnp.matmul", lambda: product(self.x, self.w)
        call = jax.jit(product)
        self.lowered = lambda: call.lower(self.x, self.w)
        return "jax.jit(jnp.matmul)", lambda: call(self.x, self.w)

    def _copy(self) -> tuple[str, Callable[[], Any]]:
        """A copy into the result of the one before, which is donated: no array is fresh, so no page of it is touched first."""
        call = self.jax.jit(lambda into, x: self.jax.numpy.copy(x), donate_argnums=0, keep_unused=True)
        self.lowered = lambda: call.lower(self.into, self.x)

        def launch() -> Any:
            self.into = call(self.into, self.x)
            return self.into

        return "jax.jit(jnp.copy) into a donated array", launch

    def fetch(self, handle: Any) -> Results:
        """A host copy in float64."""
        return Results(y=self._canonical(handle))

    def close(self) -> None:
        """Drop the arrays."""
        self.into = None
        super().close()


def waiting(jax: Any, single: bool) -> Callable[[Any], object]:
    """What waits for a call, since dispatch is asynchronous on every device.

    Of a single array it is its own method, with no function of Python around it; that for trees takes microseconds more.
    """
    return methodcaller("block_until_ready") if single else jax.block_until_ready  # type: ignore[no-any-return]


def _device_clock(cell: Cell) -> str:
    return "" if cell.device.kind == "cpu" else "XLA's profiler: kernels and copies, without the gaps between"


def _precision(jax: Any, cell: Cell) -> Any:
    """DEFAULT lets XLA use TF32 on a GPU; HIGHEST forbids it."""
    exact = cell.precision in (Precision.FP32, Precision.FP64)
    return jax.lax.Precision.HIGHEST if exact else jax.lax.Precision.DEFAULT


_DTYPES = {
    Precision.FP64: "float64",
    Precision.FP32: "float32",
    Precision.TF32: "float32",
    Precision.BF16: "bfloat16",
    Precision.FP16: "float16",
}


def _autotune_level() -> str:
    """XLA's level of autotuning as it was set for this process; XLA itself does not tell."""
    found = re.findall(r"--xla_gpu_autotune_level=(\d+)", os.environ.get("XLA_FLAGS", ""))
    return found[-1] if found else "default"
