"""TensorFlow: `tf.nn.conv*d` forward, the `Conv*Backprop*` raw ops for each gradient alone, GradientTape for both at once.

The raw ops are the only way to time one gradient: `tf.nn` has no such function but for depthwise convolutions. How they are
told a convolution is `tensorflow_geometry`'s. What the convolutions are held against are `tf.linalg.matmul` and
`tf.raw_ops.DeepCopy`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from harness.axes import Api, Autotune, Device, Direction, Epilogue, Layout, Mode, Optimizer, Precision, Switch
from harness.backends import base, hlo, nvidia, onednn, tensorflow_calls, tensorflow_profile, tensorflow_script, traces
from harness.backends import tensorflow_geometry as geometry
from harness.backends import tensorflow_settings as settings
from harness.backends.base import ALREADY_DONE, DTYPES, Backend, Operands, Prepared, Results, T, by_name
from harness.profile import Event
from harness.spec import Cell, TransposedSpec

if TYPE_CHECKING:
    from harness.backends.base import Array


class TensorFlowBackend(Backend):
    """TensorFlow on the CPU (oneDNN, Eigen, XLA) or on an NVIDIA GPU (cuDNN, XLA)."""

    name: ClassVar[str] = "tensorflow"
    distributions: ClassVar[tuple[str, ...]] = ("tensorflow", "keras", "greenlet")
    modes: ClassVar[frozenset[Mode]] = frozenset({Mode.EAGER, Mode.COMPILED, Mode.XLA})
    autotunes: ClassVar[bool] = True
    switches: ClassVar[frozenset[Switch]] = frozenset({Switch.ONEDNN_OFF, Switch.ISA_AVX2, Switch.ISA_AVX512})
    biases: ClassVar[bool] = True
    epilogues: ClassVar[frozenset[Epilogue]] = frozenset({Epilogue.RELU})
    apis: ClassVar[frozenset[Api]] = frozenset({Api.LAYER, Api.DEPTHWISE})
    script, op_reason = staticmethod(tensorflow_script.script), staticmethod(tensorflow_script.reason)

    @staticmethod
    def environ(device: Device, threads: int, cache: str = "") -> dict[str, str]:
        """A CPU worker sees no GPU: TensorFlow would place every op on one. A GPU worker takes memory as it needs it.

        `cache` stays unused. TensorFlow can keep XLA's programs (`--tf_xla_persistent_cache_directory` in `TF_XLA_FLAGS`) and
        save 0.1 to 0.2 s of a first call, but nothing tells what it loaded, so that it cannot be held against the compiled one.
        """
        placed = {"CUDA_VISIBLE_DEVICES": "-1"} if device.kind == "cpu" else {"TF_FORCE_GPU_ALLOW_GROWTH": "true"}
        return {"TF_CPP_MIN_LOG_LEVEL": "2", **placed}

    @staticmethod
    def profile_environ(device: Device, threads: int) -> dict[str, str]:
        """oneDNN tells of each primitive when it began; nothing can turn that on or off later."""
        return {"ONEDNN_VERBOSE": "profile_exec", "ONEDNN_VERBOSE_TIMESTAMP": "1"} if device.kind == "cpu" else {}

    @staticmethod
    def autotuning(choice: Autotune) -> dict[str, str]:
        """Two switches: that of TensorFlow's own kernels, and XLA's for the mode of that name."""
        return settings.autotuning(choice)

    @staticmethod
    def switching(choice: Switch) -> dict[str, str]:
        """TensorFlow reads whether it may use oneDNN, and oneDNN how new its instructions may be."""
        return {"TF_ENABLE_ONEDNN_OPTS": "0"} if choice is Switch.ONEDNN_OFF else onednn.isa(choice)

    def __init__(self, device: Device, threads: int) -> None:
        import numpy
        import tensorflow

        self._tf, self._np = tensorflow, numpy
        self._tried: dict[Cell, str | None] = {}
        self._tf.config.threading.set_intra_op_parallelism_threads(threads)
        self._tf.config.threading.set_inter_op_parallelism_threads(threads)
        self._device, self._gpu = "/CPU:0", None
        if device.kind == "gpu":
            self._device, self._gpu = "/GPU:0", settings.only(tensorflow, device.index)

    def devices(self) -> tuple[Device, ...]:
        """The CPU and the GPUs that TensorFlow loaded a driver for."""
        return (Device("cpu"), *(Device("gpu", index) for index in range(len(settings.gpus(self._tf)))))

    def board(self) -> Mapping[str, str]:
        """The name, and the CUDA and cuDNN that this build was made for."""
        return settings.board(self._tf, self._gpu) if self._gpu else {}

    def build(self) -> base.Build:
        """CUDA's version, or whose devices a plug-in brings."""
        return settings.build(self._tf)

    def idle_bytes(self) -> int:
        """What the pool has beyond what tensors hold: as it never shrinks, it is at least what the highest peak was."""
        told = self._tf.config.experimental.get_memory_info(self._device.strip("/"))
        return max(TensorFlowPrepared._most_bytes, int(told["peak"])) - int(told["current"])

    def threads_used(self) -> int | None:
        """The size of the intra-op pool."""
        return int(self._tf.config.threading.get_intra_op_parallelism_threads())

    def supports(self, cell: Cell) -> str | None:
        """What has no kernel. Without this the ops fail, some with a message that does not name the cause."""
        if cell.mode not in self.modes:
            return f"TensorFlow has no mode {cell.mode}"
        if reason := nvidia.lacks(cell, lambda: settings.capability(self._tf, self._gpu)) or geometry.lacks(cell):
            return reason
        return self._lacks(cell) if cell.is_convolution else None

    def _lacks(self, cell: Cell) -> str | None:
        """The convolutions that this build has no kernel for."""
        spec = cell.conv
        kinds = {
            f"{cell.layout.text(spec.ndim)} activations": cell.layout is Layout.CHANNELS_FIRST,
            "grouped convolutions": spec.groups > 1 and (cell.spec.transposed or not geometry.depthwise(spec)),
            "dilated convolutions": max(spec.dilation) > 1,
        }
        doubtful = [kind for kind, applies in kinds.items() if applies]
        if not doubtful or (cell.device.kind != "cpu" and spec.ndim < 3):
            return None
        # Whether such a kernel exists on a CPU depends on the build, the processor, oneDNN and the padding: ask TensorFlow.
        least = geometry.smallest(spec)
        problem = self._try(replace(cell, spec=TransposedSpec(least) if cell.spec.transposed else least, workload="probe"))
        if problem is None:
            return None
        what = "" if cell.direction is Direction.FPROP else "gradients of "
        padded = " with explicit padding" if spec.ndim < 3 and geometry.padding(spec) == "EXPLICIT" else ""
        return f"TensorFlow has no {cell.device.kind.upper()} kernel here for {what}{' and '.join(doubtful)}{padded}: {problem}"

    def _try(self, cell: Cell) -> str | None:
        """The first line of TensorFlow's message where a call fails, None where it works; asked once per kind of call."""
        if cell not in self._tried:
            shapes = cell.operand_shapes.values()
            try:
                prepared = self.prepare(cell, Operands(*(self._np.ones(shape, self._np.float32) for shape in shapes)))
                made = prepared.fetch(prepared.launch()).items()
                prepared.close()
                wrong = [name for name, shape in cell.results.items() if made[name].shape != shape]
                self._tried[cell] = f"it gives {wrong[0]} of a wrong size" if wrong else None
            except (self._tf.errors.OpError, ValueError, MisplacedError) as error:
                self._tried[cell] = _plain(getattr(error, "message", None) or str(error))[:200]
        return self._tried[cell]

    def pads_beforehand(self, cell: Cell) -> bool:
        """Where Conv3D is asked for anything but SAME and VALID."""
        return cell.is_convolution and not cell.spec.transposed and geometry.pads_beforehand(cell.conv)

    def prepare(self, cell: Cell, operands: Operands) -> TensorFlowPrepared:
        """Operands on the device, precision set and read back."""
        self._tf.config.experimental.enable_tensor_float_32_execution(cell.precision is Precision.TF32)
        kind = TensorFlowConvolution if cell.is_convolution else TensorFlowCeiling
        return kind(self._tf, self._device, cell, operands)

    def process_wide(self, cell: Cell) -> str:
        """Whether products of fp32 may be computed in TF32, which is a switch of the process and not of a call."""
        return "tf32" if cell.precision is Precision.TF32 else "ieee"


class MisplacedError(RuntimeError):
    """A result lies on another device than it was to be computed on."""


def _plain(message: str) -> str:
    """The sentence in an error of TensorFlow, without the graph nodes and the stack around it."""
    text = re.split(r"\[Op:|\[\[\{\{node", re.sub(r"\{\{function_node .*?\}\}", "", message))[0].strip()
    if text.startswith("Graph execution error"):  # the stack of the call comes first, the cause is the last line
        text = text.splitlines()[-1]
    return " ".join(text.split())


def waiting(tf: Any, device: str) -> Callable[[Any], object]:
    """What waits for a call.

    A GPU's stream is waited for through the one public call that does so. The CPU's executor is synchronous: nothing is left to
    wait for.
    """
    return (lambda handle: tf.test.experimental.sync_devices()) if "GPU" in device else ALREADY_DONE


class TensorFlowPrepared(Prepared):
    """What a convolution and a ceiling have in common: waiting, the device's clock and memory, eviction, compilations."""

    _most_bytes: ClassVar[int] = 0  # the highest peak of the device's memory in this process before it was reset

    def __init__(self, tf: Any, device: str, cell: Cell) -> None:
        self._tf, self._device, self._cell = tf, device, cell
        self._dtype = getattr(tf, DTYPES[cell.precision])
        self.device_clock = traces.CLOCK if "GPU" in device else ""
        self.wait = waiting(tf, device)
        self.sources = (tensorflow_profile.SOURCE,)
        self._traced: Any = None  # the tf.function of a compiled call
        self._arguments: tuple[Any, ...] = ()  # of that call
        self._fixed: Mapping[str, str] = {}  # the settings of this cell alone

    def read_settings(self) -> Mapping[str, str]:
        """Those of the process, and what of this cell does not change."""
        return {**settings.read_settings(self._tf, self._cell), **self._fixed}

    def _tensor(self, array: Array) -> Any:
        with self._tf.device(self._device):
            return self._tf.cast(self._tf.constant(array), self._dtype)

    def device_memory(self) -> tuple[int, int, str] | None:
        """TensorFlow's BFC allocator over one call."""
        if "GPU" not in self._device:
            return None
        stats, name = self._tf.config.experimental, self._device.strip("/")
        self.wait(None)
        TensorFlowPrepared._most_bytes = max(self._most_bytes, int(stats.get_memory_info(name)["peak"]))
        stats.reset_memory_stats(name)
        before = int(stats.get_memory_info(name)["current"])
        handle = self.launch()
        self.wait(handle)
        return before, int(stats.get_memory_info(name)["peak"]), "tf.config.experimental.get_memory_info"

    def device_time(self, calls: int) -> float | None:
        """What XLA's profiler saw of the calls on the device. Takes a trace, so ask once for many calls; None on the CPU.

        A TensorFlow without the description of traces has no device time.
        """
        if "GPU" not in self._device:
            return None
        self.wait(None)
        try:
            with tensorflow_profile.traced(self._tf, 0, 1) as planes:
                for _ in range(calls):
                    self.launch()
                self.wait(None)
        except ImportError:
            self.device_clock = ""
            return None
        return traces.busy_ns(traces.of_gpus(planes), calls)

    @contextmanager
    def watched(self) -> Iterator[Callable[[], Sequence[Event]]]:
        """TensorFlow's profiler, and on the CPU what oneDNN prints; in mode xla the text of the program too."""
        on_cpu = "GPU" not in self._device
        compiled = self._traced if self._cell.mode is Mode.XLA else None
        program = hlo.Program(tensorflow_profile.optimised(self._tf, compiled, self._arguments), self._cell)
        lines: AbstractContextManager[onednn.Printed] = onednn.printed() if on_cpu else nullcontext(onednn.Printed())
        with tensorflow_profile.traced(self._tf, 2, int(not on_cpu)) as planes, lines as printed:
            yield lambda: tensorflow_profile.events(planes, printed.events(self._cell), program)
        own = f"TensorFlow's profiler {self._tf.__version__}"
        self.sources = (own, printed.source) if on_cpu else (own,)

    def compilations(self) -> int:
        """How often the call was traced, which XLA's compilation follows; 0 in eager mode, where convbench compiles nothing.

        What a layer of Keras compiles inside of each eager call is not counted, and is a part of its time: `op_reason` says so.
        """
        return int(self._traced.experimental_get_tracing_count()) if self._traced else 0

    def on_own_stack(self, run: Callable[..., T], *arguments: Any) -> T:
        """What `run(*arguments)` returns, with no Python frame above it where greenlet is installed."""
        return settings.on_own_stack(run, *arguments)

    def evict(self, nbytes: int) -> None:
        """A fresh buffer filled with zeros; the allocator keeps it for the next time."""
        with self._tf.device(self._device):
            self._tf.fill([-(-nbytes // 4)], 0.0)
        self.wait(None)

    def close(self) -> None:
        """Drop the call, and what a tf.function was traced for."""
        self._traced, self._arguments = None, ()
        del self.launch


class TensorFlowConvolution(TensorFlowPrepared):
    """A convolution in TensorFlow."""

    def __init__(self, tf: Any, device: str, cell: Cell, operands: Operands) -> None:
        super().__init__(tf, device, cell)
        self._geometry = geometry.Geometry(cell)
        # Where x is padded beforehand a gradient is that of the padded x, which has more elements than were asked for.
        padded = self._geometry.prepadded and cell.direction in (Direction.DGRAD, Direction.BPROP, Direction.TRAIN)
        self._taped = geometry.taped(cell)
        self.composite = padded or geometry.runs_all(cell)
        self._mutable = cell.direction is Direction.TRAIN or cell.api is Api.LAYER
        self._layer: Any = None
        self._parameters: tuple[Any, ...] = ()  # the filter, and the bias where there is one
        self._optimizer: Any = None
        self._bind: Any = None
        self.load(operands)
        self.op, self._bind = self._choose()
        self.launch = self._bound()
        layout = "[*kernel,C,K/C]" if self._geometry.depthwise else "[*kernel,C/g,K]"
        self._fixed = {"dtype": self._x.dtype.name, "filter_layout": layout, "padding": self._geometry.padding}
        self.settings = self.read_settings()

    def load(self, operands: Operands) -> None:
        """Tensors on the device; filter and bias are variables where an optimizer updates them or a layer has them."""
        x = self._tensor(self._geometry.activations(operands.x))
        if self._geometry.prepadded:
            with self._tf.device(self._device):
                x = self._tf.pad(x, self._geometry.pads)
        self._x, self._dy = x, self._tensor(self._geometry.activations(operands.dy))
        bias = () if operands.b is None else (self._tensor(operands.b),)
        self._initial = (self._tensor(self._geometry.filter(operands.w)), *bias)
        if not self._mutable:
            self._parameters = self._initial
        elif not self._parameters:
            with self._tf.device(self._device):
                if self._cell.api is Api.LAYER:
                    self._layer = tensorflow_calls.layer(self._tf, self._geometry, DTYPES[self._cell.precision])
                own = tensorflow_calls.parameters(self._layer) if self._layer else map(self._tf.Variable, self._initial)
                self._parameters = tuple(own)
        self.reset()
        if self._bind is not None:
            self.launch = self._bound()

    def reset(self) -> None:
        """The first filter and bias, and slots of zero; always in the same variables, since a tf.function holds on to them."""
        if not self._mutable:
            return
        for variable, first in zip(self._parameters, self._initial, strict=True):
            variable.assign(first)
        if self._cell.direction is not Direction.TRAIN:
            return
        if self._optimizer is None:
            kinds = self._tf.keras.optimizers
            with self._tf.device(self._device):
                if self._cell.optimizer is Optimizer.SGD:
                    self._optimizer = kinds.SGD(base.LEARNING_RATE)
                else:
                    self._optimizer = kinds.Adam(base.LEARNING_RATE, base.ADAM_BETA1, base.ADAM_BETA2, base.ADAM_EPSILON)
                self._optimizer.build([*self._parameters])
        for variable in self._optimizer.variables:
            if variable.path.rsplit("/", 1)[-1] != "learning_rate":
                variable.assign(self._tf.zeros_like(variable.value))

    def _choose(self) -> tuple[str, Callable[..., Callable[[], Any]]]:
        """The text of the call that is timed, and what binds it to its operands: arguments, so that none is folded."""
        direction, told = self._cell.direction, (self._tf, self._geometry, self._cell)
        bind: Callable[..., Callable[[], Any]]
        if self._taped:
            text, bind = tensorflow_calls.taped(*told, self._layer)
        elif direction in (Direction.DGRAD, Direction.WGRAD):
            text, bind = tensorflow_calls.gradient(*told)
        elif direction is Direction.FPROP:
            text, bind = tensorflow_calls.forward(*told, self._layer)
        else:
            text, both = tensorflow_calls.both(*told, self._parameters if self._mutable else (), self._optimizer, self._layer)
            bind = partial(partial, both)  # of (x, w) makes the call both(x, w)
        if self._cell.mode is not Mode.EAGER:
            unbound, xla = bind, self._cell.mode is Mode.XLA
            if "b" in self._cell.reads and not self._mutable:
                self._traced = self._tf.function(lambda a, b, c: unbound(a, b, c)(), jit_compile=xla)
            else:
                self._traced = self._tf.function(lambda a, b: unbound(a, b)(), jit_compile=xla)
            bind = partial(partial, self._traced)
            text = f"tf.function({text}{', jit_compile=True' if xla else ''})"
        return text + (" on x padded beforehand" if self._geometry.prepadded else ""), bind

    def _bound(self) -> Callable[[], Any]:
        """The call with the operands of the moment, and no more of Python than that.

        After a convolution the caches hold little of the interpreter: a function more around the op took 1 us, where it takes
        0.1 by itself.
        """
        direction = self._cell.direction
        if direction is Direction.TRAIN:
            self._arguments = (self._x, None)
            step = self._bind(*self._arguments)
            # The variable is captured, as a model's are. It is handed on itself: a kept copy of its value would make the
            # next step copy the filter before it writes to it.
            return lambda: (*step(), *self._parameters)
        given = (None,) if self._layer else self._parameters  # a layer has its own
        pairs = {Direction.DGRAD: (self._dy, given[0]), Direction.WGRAD: (self._x, self._dy)}
        self._arguments = (self._x, (*given, self._dy)) if self._taped else pairs.get(direction, (self._x, *given))
        bound: Callable[[], Any] = self._bind(*self._arguments)
        return bound

    def fetch(self, handle: Any) -> Results:
        """Host copies in float64 and canonical layout."""
        values = by_name(self._cell, handle)
        self._must_lie_here(values)
        arrays = {name: self._tf.cast(value, self._tf.float64).numpy() for name, value in values.items()}
        loss = float(arrays.pop("loss")) if "loss" in arrays else None
        return Results(loss=loss, **{name: self._geometry.canonical(name, array) for name, array in arrays.items()})

    def _must_lie_here(self, values: dict[str, Any]) -> None:
        """Raises MisplacedError where a result lies elsewhere: TensorFlow runs a call that names no device where it can.

        Soft placement is about calls that do name one; naming it in every call would be timed with it.
        """
        for name, value in values.items():
            where = getattr(value, "backing_device", None) or value.device
            if not where.endswith(self._device[1:]):
                lies = where.rpartition("device:")[2]
                raise MisplacedError(f"TensorFlow computed {name} on {lies}, not on {self._device[1:]}: it has no kernel there")

    def close(self) -> None:
        """Drop the tensors."""
        self._x = self._dy = self._optimizer = self._bind = self._layer = None
        self._parameters = self._initial = ()
        super().close()


class TensorFlowCeiling(TensorFlowPrepared):
    """A matrix product or a copy in TensorFlow."""

    def __init__(self, tf: Any, device: str, cell: Cell, operands: Operands) -> None:
        super().__init__(tf, device, cell)
        self.load(operands)
        self.op, self.launch = self._choose()
        self._fixed = {"dtype": DTYPES[cell.precision]}
        self.settings = self.read_settings()

    def load(self, operands: Operands) -> None:
        """Tensors on the device."""
        self._x, self._w = self._tensor(operands.x), self._tensor(operands.w)

    def _choose(self) -> tuple[str, Callable[[], Any]]:
        """The text of the call that is timed, and the call."""
        tf, copies, compiled = self._tf, not self._cell.spec.computes, self._cell.mode is not Mode.EAGER
        xla = self._cell.mode is Mode.XLA
        call: Any  # of two operands, or of one
        if not copies:
            text, call = "tf.linalg.matmul", lambda x, w: tf.linalg.matmul(x, w)
        elif xla:  # a program of XLA's has results of its own, so that it copies; it has no DeepCopy
            text, call = "tf.identity", lambda x: tf.identity(x)
        else:  # tf.identity and Variable.assign hand on the buffer itself
            text, call = "tf.raw_ops.DeepCopy", lambda x: tf.raw_ops.DeepCopy(x=x)
        if compiled:
            call = self._traced = tf.function(call, jit_compile=xla)
            self._arguments = (self._x,) if copies else (self._x, self._w)
            text = f"tf.function({text}{', jit_compile=True' if xla else ''})"
        return text, (lambda: call(self._x)) if copies else (lambda: call(self._x, self._w))

    def fetch(self, handle: Any) -> Results:
        """A host copy in float64."""
        return Results(y=self._tf.cast(handle, self._tf.float64).numpy())

    def close(self) -> None:
        """Drop the tensors."""
        self._x = self._w = None
        super().close()
