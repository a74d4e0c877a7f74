"""What PyTorch's dispatcher is asked for in a step of a model: the model as it is, run on tensors that hold no numbers."""

import contextlib
import re
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import is_dataclass, replace
from functools import partial
from typing import Any

from harness.axes import Direction, Layout
from harness.calls import Call, Seen, layer, precision
from harness.captures import timing, torch_timing
from harness.captures.base import Capture, Input, Notes, Request, wanted
from harness.errors import CaptureError

# Errors of operations whose result depends on the values of tensors, and not on their shapes alone.
_DATA = ("DataDependentOutputException", "DynamicOutputShapeException", "GuardOnDataDependentSymNode")
CONVOLVES = re.compile(r"conv(?!ert)|deform", re.IGNORECASE)
_DTYPES = {"fp64": "float64", "fp32": "float32", "tf32": "float32", "bf16": "bfloat16", "fp16": "float16"}


class TorchCapture(Capture):
    """PyTorch: every call of `aten.convolution` and `aten.convolution_backward`, whose mask says which gradients are asked for.

    The model has its own weights, and the inputs are fake tensors, which have strides, types and a device, but no memory: so
    layouts, autocast and what a model computes of its own weights are as in a real step, and no convolution is computed.
    """

    name = "torch"
    options = frozenset({"weights", "real", "timed", "precision", "layout"})

    def __init__(self) -> None:
        import torch

        self._torch: Any = torch

    @classmethod
    def takes(cls, model: object) -> bool:
        """Whether it is a `torch.nn.Module`."""
        return any(kind.__module__.startswith("torch.nn") and kind.__name__ == "Module" for kind in type(model).__mro__)

    def building(self, request: Request) -> AbstractContextManager[Any]:
        """Without weights the model is made of meta tensors."""
        device: AbstractContextManager[Any] = contextlib.nullcontext() if request.weights else self._torch.device("meta")
        return device

    def capture(self, model: Any, inputs: Sequence[Any], request: Request) -> Seen:
        """What a step of the model asks for."""
        parameters = _parameters(model)
        gradients = [parameter.grad for parameter in parameters]
        modes = [(module, module.training) for module in model.modules()] if self.takes(model) else []
        buffers = [(buffer, buffer.clone()) for buffer in model.buffers()] if self.takes(model) else []
        notes, taken = _TorchNotes(self._torch), None
        try:
            self._prepare(model, request)
            with self._without_numbers(request) as fake, notes.named(model):
                arguments, named = self._arguments(model, inputs, request, fake)
                with notes.watching():
                    self._step(model, arguments, named, request)
            if request.timed and notes.calls:
                arguments, named = self._arguments(model, inputs, replace(request, real=True), None)
                step = partial(self._step, model, arguments, named, request)
                taken = timing.known(notes, lambda: torch_timing.timed(self._torch, step))
        except Exception as error:
            if (told := _told(error, request)) is None:
                raise
            raise told from error
        finally:
            for parameter, gradient in zip(parameters, gradients, strict=True):
                parameter.grad = gradient
            for module, training in modes:
                module.training = training
            with self._torch.no_grad():
                for buffer, before in buffers:  # those of batch norm count their calls
                    buffer.copy_(before)
        return notes.seen(f"PyTorch {self._torch.__version__}", timing=taken)

    def _prepare(self, model: Any, request: Request) -> None:
        """Convert the model as asked for, and set it to inference where no gradient is."""
        torch = self._torch
        if not self.takes(model):
            if request.precision or request.layout:
                raise CaptureError("--precision, --layout: a function cannot be converted; allowed: for a torch.nn.Module")
            return
        if not request.weights and (request.precision or request.layout):
            raise CaptureError("--no-weights: found beside --precision or --layout, which tensors without memory do not keep")
        if request.precision:
            model.to(getattr(torch, _DTYPES[request.precision]))
        if request.layout == Layout.CHANNELS_LAST:
            dims = max((parameter.dim() for parameter in model.parameters()), default=4)
            model.to(memory_format=torch.channels_last_3d if dims == 5 else torch.channels_last)
        if not request.gradients:
            model.eval()

    @contextlib.contextmanager
    def _without_numbers(self, request: Request) -> Iterator[Any]:
        """The mode in which tensors have no numbers; None where they are real, or on the meta device."""
        if request.real or not request.weights:
            yield None
            return
        from torch._subclasses.fake_tensor import FakeTensorMode

        with FakeTensorMode(allow_non_fake_inputs=True) as mode:
            yield mode

    def _arguments(
        self, model: Any, inputs: Sequence[Any], request: Request, fake: Any
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:  # fmt: skip
        """What the model is called with, by position and by name."""
        torch = self._torch
        if not inputs:
            names = wanted(getattr(model, "forward", model))
            raise request.without_inputs(f"the model wants {names}", 8, 3, 224, 224)
        first = next((tensor for tensor in _parameters(model) if tensor.is_floating_point()), None)
        kinds = torch.float32 if first is None else first.dtype
        device = "meta" if not request.weights else "cpu" if first is None else first.device

        def made(given: Input) -> Any:
            kind = getattr(torch, given.dtype, None) if given.dtype else kinds
            if not isinstance(kind, torch.dtype):
                raise CaptureError(f"--input: found dtype {given.dtype!r}; allowed: one of PyTorch's, such as float32 or int64")
            draw = torch.randn if kind.is_floating_point and request.real else torch.zeros
            return draw(given.shape, dtype=kind, device=device)

        def ready(given: Any) -> Any:
            tensor = made(given) if isinstance(given, Input) else given
            if not isinstance(tensor, torch.Tensor):
                return given
            if fake is not None and tensor is given:
                tensor = fake.from_tensor(tensor)
            if not request.weights:
                tensor = tensor.to("meta")
            if tensor.is_floating_point() and request.precision:
                tensor = tensor.to(getattr(torch, _DTYPES[request.precision]))
            last = {4: torch.channels_last, 5: torch.channels_last_3d}.get(tensor.dim())
            if request.layout == Layout.CHANNELS_LAST and last is not None:
                tensor = tensor.contiguous(memory_format=last)
            return tensor

        found = torch.utils._pytree.tree_map(ready, tuple(inputs))
        return ((), found[0]) if len(found) == 1 and isinstance(found[0], dict) else (found, {})

    def _step(self, model: Any, arguments: tuple[Any, ...], named: dict[str, Any], request: Request) -> None:
        """One step: the forward pass, and the gradients of the sum of all that it gives."""
        torch = self._torch
        if not request.gradients:
            with torch.no_grad():
                model(*arguments, **named)
            return
        with torch.enable_grad():
            given = _leaves(torch, model(*arguments, **named))
            trained = [each for each in given if isinstance(each, torch.Tensor) and each.requires_grad]
            sums = [each.float().sum() for each in trained if each.is_floating_point()]
            if not sums:
                raise request.nothing_trained()
            torch.stack(sums).sum().backward()
        for parameter in _parameters(model):
            parameter.grad = None


class _TorchNotes(Notes):
    """What the dispatcher is asked for, noted call by call."""

    def __init__(self, torch: Any) -> None:
        super().__init__()
        self._torch = torch
        aten = torch.ops.aten
        self._forward, self._backward = aten.convolution.default, aten.convolution_backward.default
        self._pads = aten.constant_pad_nd.default
        self._modules: list[str] = []  # those that are running, the innermost last
        self._names: dict[int, str] = {}  # of filters, by the identity of the tensor
        self._kept: list[Any] = []  # filters, so that no other tensor gets the identity of one
        self._padded: dict[int, weakref.ref[Any]] = {}  # tensors that were padded by an operation of its own

    @contextlib.contextmanager
    def named(self, model: Any) -> Iterator[None]:
        """Know which layer runs, and whose filter is whose."""
        hooks = []
        for name, parameter in getattr(model, "named_parameters", lambda: ())():
            self._names[id(parameter)] = name.rpartition(".")[0]
            self._kept.append(parameter)
        for name, module in getattr(model, "named_modules", lambda: ())():
            hooks.append(module.register_forward_pre_hook(lambda *_, name=name: self._modules.append(name)))
            hooks.append(module.register_forward_hook(lambda *_: self._leave(), always_call=True))
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def _leave(self) -> None:
        if self._modules:
            self._modules.pop()

    def watching(self) -> AbstractContextManager[Any]:
        """The mode in which every operation comes by here."""
        from torch.utils._python_dispatch import TorchDispatchMode

        note, watched = self._operation, (self._forward, self._backward)

        class Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
            def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
                kwargs = kwargs or {}
                if func not in watched and CONVOLVES.search(func.name()) and hasattr(func, "decompose"):
                    with self:  # under inference_mode it comes whole
                        result = func.decompose(*args, **kwargs)
                    if result is not NotImplemented:
                        return result
                result = func(*args, **kwargs)
                note(func, args, result)
                return result

        return Watch()  # type: ignore[no-untyped-call]

    def _operation(self, func: Any, args: Any, result: Any) -> None:
        self.operations[name := func.name()] += 1
        if func is self._forward:
            x, w, bias, *rest = args
            self._names.setdefault(id(w), self._modules[-1] if self._modules else "")
            self._kept.append(w)
            self._note(x, w, rest, bias is not None, [Direction.FPROP])
        elif func is self._backward:
            _, x, w, bias, *rest, mask = args
            asked = [direction for direction, wanted in zip((Direction.DGRAD, Direction.WGRAD), mask, strict=False) if wanted]
            self._note(x, w, rest, bool(bias) and mask[2], asked)
        elif func is self._pads:
            self._padded[id(result)] = weakref.ref(result)
        elif CONVOLVES.search(name):
            why = "quantized" if name.startswith("quantized") else "an operation of its own, not a plain convolution"
            self.left_out(name, why, self._modules[-1] if self._modules else "")

    def _note(self, x: Any, w: Any, rest: Any, bias: bool, directions: Sequence[Direction]) -> None:
        stride, padding, dilation, transposed, output_padding, groups = rest
        name, kind = self._names.get(id(w), ""), str(x.dtype).removeprefix("torch.")
        padded = self._padded.get(id(x))
        remark = "x was padded by an operation of its own" if padded is not None and padded() is x else ""
        if (of := precision(kind)) is None:
            self.left_out(f"convolution of {kind}", "no precision of a suite", name)
            return
        try:
            pads = [(size, size) for size in padding]
            spec = layer(x.shape, w.shape, stride, pads, dilation, groups, bool(transposed), output_padding)
        except ValueError as error:
            self.left_out("convolution", str(error), name)
            return
        call = Call(spec, Direction.FPROP, of, _layout(self._torch, x, w), bool(bias), name, remark=remark)
        self.layer(call, directions)


def _leaves(torch: Any, given: Any) -> list[Any]:
    """What a model gives, out of dicts, sequences and dataclasses."""
    leaves = torch.utils._pytree.tree_leaves(given)
    return [
        leaf
        for each in leaves
        for leaf in (_leaves(torch, vars(each)) if is_dataclass(each) and not isinstance(each, type) else [each])
    ]


def _layout(torch: Any, *tensors: Any) -> Layout | None:
    """The layout that PyTorch takes for these: channels last where one of them has it; None where they fit both."""
    found = set()
    for tensor in tensors:
        last = {4: torch.channels_last, 5: torch.channels_last_3d}.get(tensor.dim())
        fits_last = last is not None and tensor.is_contiguous(memory_format=last)
        if tensor.is_contiguous() != fits_last:
            found.add(Layout.CHANNELS_LAST if fits_last else Layout.CHANNELS_FIRST)
    return Layout.CHANNELS_LAST if Layout.CHANNELS_LAST in found else next(iter(found), None)


def _parameters(model: Any) -> list[Any]:
    """The parameters of a model; none of a function."""
    parameters: Callable[[], Any] = getattr(model, "parameters", list)
    return list(parameters())


def _told(error: Exception, request: Request) -> CaptureError | None:
    """What is said of a step that came to nothing since its tensors have no numbers; None for any other error."""
    computes = f"{request.option('--real')} computes the step"
    if any(kind.__name__ in _DATA for kind in type(error).__mro__) or "out of meta tensor" in str(error):
        operation = getattr(error, "func", None)
        what = "the values of a tensor" if operation is None else f"the result of {operation.name()}"
        return CaptureError(f"the model needs {what} to go on; {computes}, with inputs of the callable or random")
    if type(error).__name__ == "UnsupportedOperatorException":
        return CaptureError(f"the model has an operation that PyTorch cannot do without numbers; {computes}")
    return None
