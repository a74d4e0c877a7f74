"""TensorFlow: `tf.nn.conv*d` forward, the `Conv*Backprop*` raw ops for each gradient alone, GradientTape for both at once.

The raw ops are the only way to time one gradient: `tf.nn` has no such function but for depthwise convolutions. The
filter is [*kernel, C/g, K] in either layout. A 1-D convolution is the 2-D op on a height of 1, as `tf.nn.conv1d` does it.
What the convolutions are held against are `tf.linalg.matmul` and `tf.raw_ops.DeepCopy`.
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextvars import copy_context
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from harness.backends import traces
from harness.backends.base import (
    ADAM_BETA1,
    ADAM_BETA2,
    ADAM_EPSILON,
    ALREADY_DONE,
    LEARNING_RATE,
    Backend,
    Operands,
    Prepared,
    Results,
    T,
)  # fmt: skip
from harness.spec import Cell, ConvSpec, CopySpec, Device, Direction, Layout, Mode, Optimizer, Precision

if TYPE_CHECKING:
    from harness.backends.base import Array


class TensorFlowBackend(Backend):
    """TensorFlow on the CPU (oneDNN, Eigen, XLA) or on an NVIDIA GPU (cuDNN, XLA)."""

    name: ClassVar[str] = "tensorflow"
    distributions: ClassVar[tuple[str, ...]] = ("tensorflow", "keras", "greenlet")
    modes: ClassVar[frozenset[Mode]] = frozenset({Mode.EAGER, Mode.COMPILED, Mode.XLA})

    @staticmethod
    def environ(device: Device, threads: int) -> dict[str, str]:
        """A CPU worker sees no GPU: TensorFlow would place every op on one. A GPU worker takes memory as it needs it."""
        placed = {"CUDA_VISIBLE_DEVICES": "-1"} if device.kind == "cpu" else {"TF_FORCE_GPU_ALLOW_GROWTH": "true"}
        return {"TF_CPP_MIN_LOG_LEVEL": "2", **placed}

    def __init__(self, device: Device, threads: int) -> None:
        import numpy
        import tensorflow

        if find_spec("greenlet") is None:  # told here, not by the first cell
            raise ImportError("greenlet is not installed: pip install 'convbench[tensorflow]'")

        self.tf, self.np = tensorflow, numpy
        self.tried: dict[Cell, str | None] = {}
        self.tf.config.threading.set_intra_op_parallelism_threads(threads)
        self.tf.config.threading.set_inter_op_parallelism_threads(threads)
        self.device = "/CPU:0"
        if device.kind == "gpu":
            self.device = self._only(device.index)

    def _only(self, index: int) -> str:
        """Make one GPU the only one. Eager ops run on the first that TensorFlow sees, wherever their operands are."""
        gpus = self.tf.config.list_physical_devices("GPU")
        if index >= len(gpus):  # TensorFlow itself would quietly compute on the CPU
            raise RuntimeError(f"TensorFlow sees {len(gpus)} GPUs here, so there is no gpu:{index}")
        self.tf.config.set_visible_devices(gpus[index], "GPU")
        # What is put on the GPU and has no kernel there must fail, not move to the CPU.
        self.tf.config.set_soft_device_placement(False)
        return "/GPU:0"

    def devices(self) -> tuple[Device, ...]:
        """The CPU and the GPUs that TensorFlow loaded a driver for."""
        gpus = self.tf.config.list_physical_devices("GPU")
        return (Device("cpu"), *(Device("gpu", index) for index in range(len(gpus))))

    def threads_used(self) -> int | None:
        """The size of the intra-op pool."""
        return int(self.tf.config.threading.get_intra_op_parallelism_threads())

    def supports(self, cell: Cell) -> str | None:
        """What has no kernel. Without this the ops fail, some with a message that does not name the cause."""
        if cell.mode not in self.modes:
            return f"TensorFlow has no mode {cell.mode}"
        if cell.device.kind == "cpu" and cell.precision is Precision.TF32:
            return "TF32 is a format of NVIDIA GPUs; the CPU has none"
        if cell.optimizer is Optimizer.ADAM and cell.precision in (Precision.BF16, Precision.FP16):
            return f"Keras computes Adam's constants in {cell.precision}, where 0.999 is 1 or 1e-8 is 0: no step comes of it"
        return None if cell.direction is Direction.NONE else self._lacks(cell)

    def _lacks(self, cell: Cell) -> str | None:
        """The convolutions that this build has no kernel for."""
        spec = cell.conv
        kinds = {
            f"{cell.layout.text(spec.ndim)} activations": cell.layout is Layout.CHANNELS_FIRST,
            "grouped convolutions": spec.groups > 1 and not _depthwise(spec),
            "dilated convolutions": max(spec.dilation) > 1,
        }
        doubtful = [kind for kind, applies in kinds.items() if applies]
        if not doubtful or (cell.device.kind != "cpu" and spec.ndim < 3):
            return None
        # Whether such a kernel exists on a CPU depends on the build, the processor, oneDNN and the padding: ask TensorFlow.
        problem = self._try(replace(cell, spec=_smallest(spec), workload="probe"))
        if problem is None:
            return None
        what = "" if cell.direction is Direction.FPROP else "gradients of "
        padded = " with explicit padding" if spec.ndim < 3 and _padding(spec) == "EXPLICIT" else ""
        return f"TensorFlow has no {cell.device.kind.upper()} kernel here for {what}{' and '.join(doubtful)}{padded}: {problem}"

    def _try(self, cell: Cell) -> str | None:
        """The first line of TensorFlow's message where a call fails, None where it works; asked once per kind of call."""
        if cell not in self.tried:
            shapes = cell.conv.x_shape, cell.conv.w_shape, cell.conv.y_shape
            try:
                prepared = self.prepare(cell, Operands(*(self.np.ones(shape, self.np.float32) for shape in shapes)))
                prepared.fetch(prepared.launch())
                prepared.close()
                self.tried[cell] = None
            except (self.tf.errors.OpError, ValueError, MisplacedError) as error:
                self.tried[cell] = _plain(getattr(error, "message", None) or str(error))[:200]
        return self.tried[cell]

    def pads_beforehand(self, cell: Cell) -> bool:
        """Where Conv3D is asked for anything but SAME and VALID."""
        return isinstance(cell.spec, ConvSpec) and _pads_beforehand(cell.spec)

    def prepare(self, cell: Cell, operands: Operands) -> TensorFlowPrepared:
        """Operands on the device, precision set and read back."""
        config = self.tf.config.experimental
        config.enable_tensor_float_32_execution(cell.precision is Precision.TF32)
        settings = {"tf32": str(config.tensor_float_32_execution_enabled()), "op_determinism": self._deterministic()}
        # TensorFlow reads these when it is loaded, and offers nothing that tells what it made of them.
        tuning = "TF_ENABLE_ONEDNN_OPTS" if cell.device.kind == "cpu" else "TF_CUDNN_USE_AUTOTUNE"
        settings[tuning] = os.environ.get(tuning, "default")
        kind = TensorFlowCeiling if cell.direction is Direction.NONE else TensorFlowPrepared
        return kind(self.tf, self.device, cell, operands, settings)

    def _deterministic(self) -> str:
        """Whether op determinism is on; public names can set it, only this one reads it."""
        try:
            from tensorflow.python.framework import config

            return str(config.is_op_determinism_enabled())
        except (ImportError, AttributeError):
            return "not told"


_DEVICE_CLOCK = "XLA's profiler: kernels and copies, without the gaps between"


class MisplacedError(RuntimeError):
    """A result lies on another device than it was to be computed on."""


def _plain(message: str) -> str:
    """The sentence in an error of TensorFlow, without the graph nodes and the stack around it."""
    text = re.split(r"\[Op:|\[\[\{\{node", re.sub(r"\{\{function_node .*?\}\}", "", message))[0].strip()
    if text.startswith("Graph execution error"):  # the stack of the call comes first, the cause is the last line
        text = text.splitlines()[-1]
    return " ".join(text.split())


def _smallest(spec: ConvSpec) -> ConvSpec:
    """A convolution of the same kind on as few positions as show it; sizes and paddings keep their remainder by the stride.

    SAME padding depends on that remainder alone, so the small one is padded by the same rule as the large one. Padding wider
    than the filter stays so, and with it explicit.
    """
    sizes, sides = [], []
    for size, (low, high), r, s, d in zip(spec.spatial, spec.padding, spec.kernel, spec.stride, spec.dilation, strict=True):
        least = d * (r - 1) + 1
        size, low, high = (length - max(0, (length - least) // s) * s for length in (size, low, high))
        sizes.append(size)
        sides.append((low, high))
    return replace(spec, n=1, spatial=tuple(sizes), padding=tuple(sides))


def _padding(spec: ConvSpec) -> str:
    """How the ops are told the padding. oneDNN's kernels take SAME and VALID only, as most programs say it."""
    if not any(map(any, spec.padding)):
        return "VALID"
    return "SAME" if spec.padding == spec.same_padding() else "EXPLICIT"


def _pads_beforehand(spec: ConvSpec) -> bool:
    return spec.ndim == 3 and _padding(spec) == "EXPLICIT"


def _depthwise(spec: ConvSpec) -> bool:
    """Whether the depthwise op can serve: 2-D (or 1-D), one stride for all dimensions, no dilation."""
    return spec.depthwise and spec.ndim < 3 and len(set(_two(spec.stride))) == 1 and max(spec.dilation) == 1


def waiting(tf: Any, device: str) -> Callable[[Any], object]:
    """What waits for a call.

    A GPU's stream is waited for through the one public call that does so. The CPU's executor is synchronous: nothing is left to
    wait for.
    """
    return (lambda handle: tf.test.experimental.sync_devices()) if "GPU" in device else ALREADY_DONE


def _two(values: tuple[Any, ...], filler: Any = None) -> tuple[Any, ...]:
    """One entry becomes two: that of the added height of 1 first (its own, or that of the only dimension)."""
    return ((values[0] if filler is None else filler), values[0]) if len(values) == 1 else values


class TensorFlowPrepared(Prepared):
    """One cell in TensorFlow; see `base.Prepared`."""

    def __init__(self, tf: Any, device: str, cell: Cell, operands: Operands, settings: dict[str, str]) -> None:
        self.tf, self.device, self.cell, self.spec = tf, device, cell, cell.conv
        self.dtype = getattr(tf, _DTYPES[cell.precision])
        self.last = cell.layout is Layout.CHANNELS_LAST
        self.depthwise = _depthwise(self.spec)
        # Conv3D takes SAME and VALID only; any other padding is applied to x before the clock starts.
        self.prepadded = _pads_beforehand(self.spec)
        self.padding = "VALID" if self.prepadded else _padding(self.spec)
        self.mutable = cell.direction is Direction.TRAIN
        # What is computed is then the gradient of the padded x, which has more elements than were asked for.
        self.composite = self.prepadded and cell.direction in (Direction.DGRAD, Direction.BPROP, Direction.TRAIN)
        self.device_clock = _DEVICE_CLOCK if "GPU" in device else ""
        self.traced: Any = None
        self.optimizer: Any = None
        self.wait = waiting(tf, device)
        self.bind: Any = None
        self.load(operands)
        self.op, self.bind = self._choose()
        self.launch = self._bound()
        filters = "[*kernel,C,K/C]" if self.depthwise else "[*kernel,C/g,K]"
        dtype = self.x.dtype.name
        self.settings: Mapping[str, str] = {"dtype": dtype, **settings, "filter_layout": filters, "padding": self.padding}

    # Operands: canonical host arrays to tensors and back ----------------------------------------------------------

    def _activations(self, array: Array) -> Array:
        """[N, C, *spatial] in the cell's layout, a 1-D one with a height of 1."""
        if self.spec.ndim == 1:
            array = array[:, :, None]
        return _moved(array, 1, -1) if self.last else array

    def _filter(self, array: Array) -> Array:
        """[K, C/g, *kernel] as [*kernel, C/g, K], or [*kernel, C, K/C] for the depthwise op."""
        if self.spec.ndim == 1:
            array = array[:, :, None]
        if self.depthwise:  # output channel c * multiplier + m belongs to input channel c
            array = array[:, 0].reshape(self.spec.c, -1, *array.shape[2:])
        return _moved(_moved(array, 0, -1), 0, -1) if self.depthwise else _moved(_moved(array, 1, -1), 0, -1)

    def _tensor(self, array: Array) -> Any:
        with self.tf.device(self.device):
            return self.tf.cast(self.tf.constant(array), self.dtype)

    def load(self, operands: Operands) -> None:
        """Tensors on the device; w is a variable where an optimizer updates it."""
        x = self._tensor(self._activations(operands.x))
        if self.prepadded:
            pads = [(0, 0), (0, 0), *self.spec.padding]
            with self.tf.device(self.device):
                x = self.tf.pad(x, [pads[0], *pads[2:], pads[1]] if self.last else pads)
        self.x, self.dy = x, self._tensor(self._activations(operands.dy))
        self.initial_w = self._tensor(self._filter(operands.w))
        if not self.mutable:
            self.w = self.initial_w
        elif getattr(self, "w", None) is None:
            with self.tf.device(self.device):
                self.w = self.tf.Variable(self.initial_w)
        self.reset()
        if self.bind is not None:
            self.launch = self._bound()

    def reset(self) -> None:
        """The first filter, and the optimizer's slots at zero; the same variables, since a tf.function holds on to them."""
        if not self.mutable:
            return
        self.w.assign(self.initial_w)
        if self.optimizer is None:
            kinds = self.tf.keras.optimizers
            with self.tf.device(self.device):
                if self.cell.optimizer is Optimizer.SGD:
                    self.optimizer = kinds.SGD(LEARNING_RATE)
                else:
                    self.optimizer = kinds.Adam(LEARNING_RATE, beta_1=ADAM_BETA1, beta_2=ADAM_BETA2, epsilon=ADAM_EPSILON)
                self.optimizer.build([self.w])
        for variable in self.optimizer.variables:
            if variable.path.rsplit("/", 1)[-1] != "learning_rate":
                variable.assign(self.tf.zeros_like(variable.value))

    # The call ---------------------------------------------------------------------------------------------------------

    def _geometry(self) -> dict[str, Any]:
        """strides, padding, dilations and data_format as the raw ops want them; what an op takes by default is left out."""
        spec = self.spec
        around = (lambda inner, outer: [outer, *inner, outer]) if self.last else (lambda inner, outer: [outer, outer, *inner])
        geometry: dict[str, Any] = {
            "strides": around(_two(spec.stride, None if self.depthwise else 1), 1),
            "padding": self.padding,
        }
        if max(spec.dilation) > 1:
            geometry["dilations"] = around(_two(spec.dilation, 1), 1)
        if not self.last:
            geometry["data_format"] = "NCDHW" if spec.ndim == 3 else "NCHW"
        if self.padding == "EXPLICIT":
            pairs = around(_two(spec.padding, (0, 0)), (0, 0))
            geometry["explicit_paddings"] = [side for pair in pairs for side in pair]
        return geometry

    def _forward(self) -> tuple[str, Callable[[Any, Any], Callable[[], Any]]]:
        """The documented forward call, bound to x and w; tf.nn takes explicit paddings as pairs in the place of `padding`."""
        raw = self._geometry()
        flat = raw.get("explicit_paddings")
        padding = [list(pair) for pair in zip(flat[::2], flat[1::2], strict=True)] if flat else self.padding
        name = "depthwise_conv2d" if self.depthwise else "conv3d" if self.spec.ndim == 3 else "conv2d"
        op, strides = getattr(self.tf.nn, name), raw["strides"]
        rest = {key: raw[key] for key in ("data_format", "dilations") if key in raw}
        return f"tf.nn.{name}", lambda x, w: partial(op, x, w, strides, padding, **rest)

    def _backward(self) -> tuple[str, Callable[[Any, Any], Callable[[], Any]]]:
        """One gradient alone, by its raw op, bound to its two tensors, (dy, w) or (x, dy)."""
        raw, tf, geometry = self.tf.raw_ops, self.tf, self._geometry()
        prefix = "DepthwiseConv2dNative" if self.depthwise else "Conv3D" if self.spec.ndim == 3 else "Conv2D"
        version = "V2" if self.spec.ndim == 3 else ""
        if self.cell.direction is Direction.DGRAD:
            name, sizes = f"{prefix}BackpropInput{version}", tf.constant(self.x.shape.as_list(), tf.int32)
            op = getattr(raw, name)
            return f"tf.raw_ops.{name}", lambda dy, w: partial(op, input_sizes=sizes, filter=w, out_backprop=dy, **geometry)
        name, sizes = f"{prefix}BackpropFilter{version}", tf.constant(self.initial_w.shape.as_list(), tf.int32)
        op = getattr(raw, name)
        return f"tf.raw_ops.{name}", lambda x, dy: partial(op, input=x, filter_sizes=sizes, out_backprop=dy, **geometry)

    def _choose(self) -> tuple[str, Callable[[Any, Any], Callable[[], Any]]]:
        """The text of the call that is timed, and what binds it to its operands: arguments, so that none is folded."""
        direction = self.cell.direction
        if direction in (Direction.DGRAD, Direction.WGRAD):
            text, bind = self._backward()
        elif direction is Direction.FPROP:
            text, bind = self._forward()
        else:
            text, both = self._both()
            bind = partial(partial, both)  # of (x, w) makes the call both(x, w)
        if self.cell.mode is not Mode.EAGER:
            unbound = bind
            traced = self.traced = self.tf.function(lambda a, b: unbound(a, b)(), jit_compile=self.cell.mode is Mode.XLA)
            bind = partial(partial, traced)
            text = f"tf.function({text}{', jit_compile=True' if self.cell.mode is Mode.XLA else ''})"
        return text + (" on x padded beforehand" if self.prepadded else ""), bind

    def _bound(self) -> Callable[[], Any]:
        """The call with the operands of the moment, and no more of Python than that.

        After a convolution the caches hold little of the interpreter: a function more around the op took 1 us, where it takes
        0.1 by itself.
        """
        direction = self.cell.direction
        if direction is Direction.TRAIN:
            step = self.bind(self.x, None)
            # The variable is captured, as a model's are. It is handed on itself: a kept copy of its value would make the
            # next step copy the filter before it writes to it.
            return lambda: (*step(), self.w)
        return self.bind(
            *{Direction.DGRAD: (self.dy, self.w), Direction.WGRAD: (self.x, self.dy)}.get(direction, (self.x, self.w))
        )

    def _both(self) -> tuple[str, Callable[[Any, Any], Any]]:
        name, forward = self._forward()
        tf, train = self.tf, self.cell.direction is Direction.TRAIN

        def call(x: Any, w: Any) -> Any:
            w = self.w if train else w
            with tf.GradientTape() as tape:
                tape.watch([x] if train else [x, w])  # a variable is watched by itself, a tensor is not
                y = forward(x, w)()
                loss = tf.reduce_mean(tf.square(y))
            dx, dw = tape.gradient(loss, [x, w])
            if train:
                self.optimizer.apply_gradients([(dw, w)])
            return y, loss, dx, dw

        text = f"{name}, mean(y^2), GradientTape.gradient"
        return (f"{text}, optimizers.{self.cell.optimizer}.apply_gradients" if train else text), call

    # Results ----------------------------------------------------------------------------------------------------------

    def fetch(self, handle: Any) -> Results:
        """Host copies in float64 and canonical layout."""
        single = {Direction.FPROP: "y", Direction.DGRAD: "dx", Direction.WGRAD: "dw"}.get(self.cell.direction)
        values = {single: handle} if single else dict(zip(("y", "loss", "dx", "dw", "w"), handle, strict=False))
        self._must_lie_here(values)
        back = {"y": self._canonical, "dx": self._canonical, "dw": self._canonical_filter, "w": self._canonical_filter}
        arrays = {name: self.tf.cast(value, self.tf.float64).numpy() for name, value in values.items()}
        results = {name: back[name](array) for name, array in arrays.items() if name != "loss"}
        if self.prepadded and "dx" in results:
            inside = (slice(lo, lo + n) for n, (lo, _) in zip(self.spec.spatial, self.spec.padding, strict=True))
            results["dx"] = results["dx"][(slice(None), slice(None), *inside)]
        return Results(loss=float(arrays["loss"]) if "loss" in arrays else None, **results)

    def _must_lie_here(self, values: dict[str, Any]) -> None:
        """Raises MisplacedError where a result lies elsewhere: TensorFlow runs a call that names no device where it can.

        Soft placement is about calls that do name one; naming it in every call would be timed with it.
        """
        for name, value in values.items():
            where = getattr(value, "backing_device", None) or value.device
            if not where.endswith(self.device[1:]):
                lies = where.rpartition("device:")[2]
                raise MisplacedError(f"TensorFlow computed {name} on {lies}, not on {self.device[1:]}: it has no kernel there")

    def _canonical(self, array: Array) -> Array:
        array = _moved(array, -1, 1) if self.last else array
        return array[:, :, 0] if self.spec.ndim == 1 else array

    def _canonical_filter(self, array: Array) -> Array:
        if self.depthwise:
            array = _moved(_moved(array, -1, 0), -1, 0)
            array = array.reshape(self.spec.k, 1, *array.shape[2:])
        else:
            array = _moved(_moved(array, -1, 0), -1, 1)
        return array[:, :, 0] if self.spec.ndim == 1 else array

    def device_memory(self) -> tuple[int, int, str] | None:
        """TensorFlow's BFC allocator over one call."""
        if "GPU" not in self.device:
            return None
        stats, name = self.tf.config.experimental, self.device.strip("/")
        self.wait(None)
        stats.reset_memory_stats(name)
        base = int(stats.get_memory_info(name)["current"])
        handle = self.launch()
        self.wait(handle)
        return base, int(stats.get_memory_info(name)["peak"]), "tf.config.experimental.get_memory_info"

    def device_time(self, calls: int) -> float | None:
        """What XLA's profiler saw of the calls on the device. Takes a trace, so ask once for many calls; None on the CPU.

        TensorFlow writes the trace without TensorBoard's plug-in, and carries the description of its format in its package,
        though under no public name; a version that does not has no device time.
        """
        if "GPU" not in self.device:
            return None
        try:
            from tensorflow.tsl.profiler.protobuf import xplane_pb2
        except ImportError:
            self.device_clock = ""
            return None
        profiler = self.tf.profiler.experimental
        options = profiler.ProfilerOptions(host_tracer_level=0, python_tracer_level=0, device_tracer_level=1)
        self.wait(None)
        with tempfile.TemporaryDirectory() as folder:
            with profiler.Profile(folder, options):
                for _ in range(calls):
                    self.launch()
                self.wait(None)
            return traces.busy_ns(self._events(Path(folder), xplane_pb2.XSpace), calls)

    def _events(self, folder: Path, space_kind: Any) -> Iterator[traces.Event]:
        """The events of the GPU in the traces that were written to a folder: of the whole process, which sees one GPU."""
        for path in folder.rglob("*.xplane.pb"):
            space = space_kind()
            space.ParseFromString(path.read_bytes())
            for plane in space.planes:
                for line in plane.lines if plane.name.startswith(traces.plane_name(0)[:-1]) else ():
                    for event in line.events:
                        stats = frozenset(plane.stat_metadata[stat.metadata_id].name for stat in event.stats)
                        start_ns = line.timestamp_ns + event.offset_ps / 1e3
                        yield traces.Event(line.name, start_ns, event.duration_ps / 1e3, stats)

    def compilations(self) -> int:
        """How often the call was traced, which XLA's compilation follows; nothing is compiled in eager mode."""
        return int(self.traced.experimental_get_tracing_count()) if self.traced else 0

    def on_own_stack(self, run: Callable[..., T], *arguments: Any) -> T:
        """What `run(*arguments)` returns, with no Python frame above it.

        An eager op notes the innermost 30 frames of its caller (StackTrace::kStackTraceInitialSize, set by pywrap_tfe_src.cc),
        each of which is up to 0.3 us of a call.
        """
        from greenlet import greenlet

        fresh = greenlet(run)
        fresh.gr_context = copy_context()  # otherwise it would begin with nothing of what was set
        return fresh.switch(*arguments)

    def evict(self, nbytes: int) -> None:
        """A fresh buffer filled with zeros; the allocator keeps it for the next time."""
        with self.tf.device(self.device):
            self.tf.fill([-(-nbytes // 4)], 0.0)
        self.wait(None)

    def close(self) -> None:
        """Drop the tensors and what a tf.function was traced for."""
        self.x = self.w = self.dy = self.initial_w = self.optimizer = self.launch = self.bind = self.traced = None


class TensorFlowCeiling(TensorFlowPrepared):
    """A matrix product or a copy in TensorFlow; waiting, counting and letting go are those of the convolutions."""

    def __init__(self, tf: Any, device: str, cell: Cell, operands: Operands, settings: dict[str, str]) -> None:
        self.tf, self.device, self.cell, self.traced, self.composite = tf, device, cell, None, False
        self.device_clock = _DEVICE_CLOCK if "GPU" in device else ""
        self.dtype = getattr(tf, _DTYPES[cell.precision])
        self.wait = waiting(tf, device)
        self.load(operands)
        self.op, self.launch = self._choose()
        self.settings: Mapping[str, str] = {**settings, "dtype": _DTYPES[cell.precision]}

    def load(self, operands: Operands) -> None:
        """Tensors on the device."""
        self.x, self.w = self._tensor(operands.x), self._tensor(operands.w)

    def reset(self) -> None:
        """Nothing is changed."""

    def _choose(self) -> tuple[str, Callable[[], Any]]:
        """The text of the call that is timed, and the call."""
        tf, copies, compiled = self.tf, isinstance(self.cell.spec, CopySpec), self.cell.mode is not Mode.EAGER
        xla = self.cell.mode is Mode.XLA
        call: Callable[..., Any]
        if not copies:
            text, call = "tf.linalg.matmul", lambda x, w: tf.linalg.matmul(x, w)
        elif xla:  # a program of XLA's has results of its own, so that it copies; it has no DeepCopy
            text, call = "tf.identity", lambda x: tf.identity(x)
        else:  # tf.identity and Variable.assign hand on the buffer itself
            text, call = "tf.raw_ops.DeepCopy", lambda x: tf.raw_ops.DeepCopy(x=x)
        if compiled:
            call = self.traced = tf.function(call, jit_compile=xla)
            text = f"tf.function({text}{', jit_compile=True' if xla else ''})"
        return text, (lambda: call(self.x)) if copies else (lambda: call(self.x, self.w))

    def fetch(self, handle: Any) -> Results:
        """A host copy in float64."""
        return Results(y=self.tf.cast(handle, self.tf.float64).numpy())


_DTYPES = {
    Precision.FP64: "float64",
    Precision.FP32: "float32",
    Precision.TF32: "float32",
    Precision.BF16: "bfloat16",
    Precision.FP16: "float16",
}


def _moved(array: Array, source: int, target: int) -> Array:
    import numpy as np

    return np.ascontiguousarray(np.moveaxis(array, source, target))
