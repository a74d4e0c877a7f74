"""The convolutions in the jaxpr of a function, into whatever it calls: traced by shapes, nothing of it is computed."""

from collections.abc import Iterator, Sequence
from typing import Any

from harness.axes import Direction, Layout
from harness.calls import Call, Seen, Timing, precision
from harness.captures import jax_timing, timing
from harness.captures.base import (
    DATA,
    TRAINED,
    Capture,
    Input,
    Notes,
    Request,
    constant,
    followed,
    is_named,
    passes,
    wanted,
    weighed,
)
from harness.captures.jax_timing import CONVOLUTION
from harness.errors import CaptureError
from harness.spec import ConvSpec, TransposedSpec

_PRODUCTS = (CONVOLUTION, "dot_general")
_ROUNDS = 3  # after which what a loop carries has come about as it will: there are two bits of it
_DATA = ("ConcretizationTypeError", "TracerBoolConversionError", "TracerIntegerConversionError", "TracerArrayConversionError")


class JaxCapture(Capture):
    """JAX: `conv_general_dilated` in the forward pass; a scan counts its length. The gradients follow from the forward pass.

    A gradient's own jaxpr would not do: it has layers that are computed again, and filter gradients as convolutions whose
    filter is dy.
    """

    name = "jax"
    functions = True
    options = frozenset({"timed"})

    def __init__(self) -> None:
        import jax

        self._jax: Any = jax

    @classmethod
    def takes(cls, model: object) -> bool:
        """Whether it is a function that JAX made."""
        return is_named(model, "jax", "jaxlib")

    def capture(self, model: Any, inputs: Sequence[Any], request: Request) -> Seen:
        """What a step of the function asks for. Of its arguments those that hold several arrays are trained."""
        jax = self._jax
        if not inputs:
            raise request.without_inputs(f"the function wants {wanted(model)}", 8, 99, 99, 3)
        arguments = [jax.tree.map(self._ready, given, is_leaf=lambda each: isinstance(each, Input)) for given in inputs]
        about = [
            DATA if given is argument or hasattr(argument, "shape") else TRAINED
            for given, argument in zip(inputs, arguments, strict=True)
            for _ in jax.tree.leaves(argument)
        ]
        try:
            closed = jax.make_jaxpr(model)(*arguments)
        except Exception as error:
            if any(kind.__name__ in _DATA for kind in type(error).__mro__):
                raise CaptureError(
                    "the function needs the values of an array to go on, which are not known when it is traced"
                ) from error
            raise
        notes = Notes()
        _Jaxpr(notes, request.gradients).walk(closed, about, 1, "")
        if any(call.direction is not Direction.FPROP for call in notes.calls):
            notes.said["the gradients are those that training would ask for: they follow from the forward pass"] = None
        taken = None
        if request.timed and notes.calls:
            leaves = [leaf for given in inputs for leaf in jax.tree.leaves(given)]
            leaves = [self._ready(leaf) if isinstance(leaf, Input) else leaf for leaf in leaves]
            taken = timing.known(notes, lambda: self._timed(closed, leaves, about, notes, request.gradients))
        return notes.seen(f"JAX {jax.__version__}", timing=taken)

    def _timed(self, closed: Any, leaves: Sequence[Any], about: Sequence[int], notes: Notes, gradients: bool) -> Timing:
        """The time of a step of the function, whose gradients are taken, and that of its convolutions."""
        jax = self._jax
        given = jax_timing.values(jax, leaves, about)
        function, arrays = jax_timing.step(jax, closed, given, about, gradients)
        made = Notes()
        _Jaxpr(made, gradients=False).walk(jax.make_jaxpr(function)(*arrays), [DATA], 1, "")
        # A gradient is one convolution of JAX's, too. What is computed again makes more of them.
        backward = sum(call.times for call in notes.calls if call.direction is not Direction.FPROP)
        seen, there = notes.operations[CONVOLUTION] + backward, made.operations[CONVOLUTION]
        if there < seen:
            raise timing.UnknownShareError(
                f"a step has {there} convolutions, not {seen}: no gradient can be asked for in arrays that the function makes"
            )
        return jax_timing.timed(jax, function, arrays)

    def _ready(self, given: Any) -> Any:
        """An array by its shape and type alone."""
        jax = self._jax
        if isinstance(given, Input):
            try:
                return jax.ShapeDtypeStruct(given.shape, jax.numpy.dtype(given.dtype or "float32"))
            except TypeError:
                raise CaptureError(f"--input: found dtype {given.dtype!r}; allowed: one of NumPy's, or bfloat16") from None
        return jax.ShapeDtypeStruct(given.shape, given.dtype) if hasattr(given, "shape") and hasattr(given, "dtype") else given


class _Jaxpr:
    """Goes through the equations of a jaxpr, and of those within it."""

    def __init__(self, notes: Notes, gradients: bool) -> None:
        self._notes, self._gradients = notes, gradients
        self._silent = False  # while it is looked at how what a loop carries comes about

    def walk(self, jaxpr: Any, about: Sequence[int], times: int, remark: str) -> list[int]:
        """Note what it asks for, `times` times; how its results come about, `about` being how its arguments did."""
        consts = [constant(getattr(value, "shape", ())) for value in getattr(jaxpr, "consts", ())]
        jaxpr = getattr(jaxpr, "jaxpr", jaxpr)
        if len(about) != len(jaxpr.invars):  # a call that hands its arguments on in its own way
            about = [followed(about)] * len(jaxpr.invars)
        known: dict[Any, int] = dict(zip(jaxpr.constvars, consts, strict=False)) | dict(zip(jaxpr.invars, about, strict=True))
        for equation in jaxpr.eqns:
            operands = [_about(var, known) for var in equation.invars]
            results = self._equation(equation, operands, times, remark)
            known.update(zip(equation.outvars, results, strict=True))
        return [_about(var, known) for var in jaxpr.outvars]

    def _equation(self, equation: Any, operands: list[int], times: int, remark: str) -> list[int]:
        name, params = equation.primitive.name, equation.params
        if not self._silent:
            self._notes.operations[name] += times
        if name in _PRODUCTS:
            if name == CONVOLUTION and not self._silent:
                self._convolution(equation, operands, times, remark)
            return [weighed(operands[0], operands[1])] * len(equation.outvars)
        if name == "scan":
            rounds = times * params["length"]
            return self._loop(params["jaxpr"], operands, params["num_consts"], params["num_carry"], rounds, remark)
        if name == "while":
            of_test, of_body = params["cond_nconsts"], params["body_nconsts"]
            told = _and(remark, "in a while loop, counted once")
            carried = operands[of_test + of_body :]
            self.walk(params["cond_jaxpr"], [*operands[:of_test], *carried], times, told)
            return self._loop(params["body_jaxpr"], operands[of_test:], of_body, len(carried), times, told)
        if name == "cond":
            told = _and(remark, "in a branch, counted as if it were taken")
            each = [self.walk(branch, operands[1:], times, told) for branch in params["branches"]]
            return [followed(results) for results in zip(*each, strict=True)]
        inner = list(_within(params))
        for one in inner:
            results = self.walk(one, operands, times, remark)
        if len(inner) == 1 and len(results) == len(equation.outvars):
            return results
        return [followed(operands)] * len(equation.outvars)

    def _loop(self, body: Any, operands: list[int], consts: int, carried: int, times: int, remark: str) -> list[int]:
        """The body of a loop: what it carries comes about by its last round as well as by its first."""
        before, self._silent = self._silent, True
        carry = operands[consts : consts + carried]
        for _ in range(_ROUNDS):
            results = self.walk(body, [*operands[:consts], *carry, *operands[consts + carried :]], times, remark)
            carry = [old | new for old, new in zip(carry, results[:carried], strict=True)]
        self._silent = before
        return self.walk(body, [*operands[:consts], *carry, *operands[consts + carried :]], times, remark)

    def _convolution(self, equation: Any, operands: list[int], times: int, remark: str) -> None:
        params, notes = equation.params, self._notes
        x, w = (var.aval for var in equation.invars[:2])
        name = str(equation.source_info.name_stack) or "conv"
        if params["batch_group_count"] > 1:
            notes.left_out("convolution with batch_group_count", "the filter gradient of a grouped one", name, times)
            return
        if (of := precision(str(x.dtype))) is None:
            notes.left_out(f"convolution of {x.dtype}", "no precision of a suite", name, times)
            return
        if operands[0] & operands[1] & DATA:
            remark = _and(remark, "its filter depends on the input")
        transposed = any(each > 1 for each in params["lhs_dilation"])
        try:
            spec = (_mirrored if transposed else _plain)(x.shape, w.shape, params)
        except ValueError as error:
            notes.left_out("transposed convolution" if transposed else "convolution", str(error), name, times)
            return
        numbers = params["dimension_numbers"].lhs_spec
        layout = {1: Layout.CHANNELS_FIRST, len(numbers) - 1: Layout.CHANNELS_LAST}.get(numbers[1])
        call = Call(spec, Direction.FPROP, of, layout, name=name[:200], remark=remark)
        notes.layer(call, passes(operands[0], operands[1], self._gradients), times)


def _about(var: Any, known: dict[Any, int]) -> int:
    """How a value came about; one that stands in the equation is part of the function."""
    return constant(getattr(var.val, "shape", ())) if hasattr(var, "val") else known.get(var, 0)


def _and(remark: str, more: str) -> str:
    return remark if more in remark else ", ".join(filter(None, [remark, more]))


def _within(params: dict[str, Any]) -> Iterator[Any]:
    """The jaxprs that an equation calls."""
    for value in params.values():
        for each in value if isinstance(value, tuple | list) else (value,):
            if hasattr(getattr(each, "jaxpr", each), "eqns"):
                yield each


def _numbers(x: Sequence[int], w: Sequence[int], params: dict[str, Any]) -> tuple[list[int], list[int]]:
    """The shapes in canonical order: x as [N, C, *spatial], w as [K, C/groups, *kernel]."""
    numbers = params["dimension_numbers"]
    return [x[at] for at in numbers.lhs_spec], [w[at] for at in numbers.rhs_spec]


def _plain(x: Sequence[int], w: Sequence[int], params: dict[str, Any]) -> ConvSpec | TransposedSpec:
    (n, c, *spatial), (k, _, *kernel) = _numbers(x, w, params)
    stride, dilation, padding = (params[name] for name in ("window_strides", "rhs_dilation", "padding"))
    pads = tuple((int(low), int(high)) for low, high in padding)
    return ConvSpec(n, c, k, tuple(spatial), tuple(kernel), tuple(stride), tuple(dilation), pads, params["feature_group_count"])


def _mirrored(x: Sequence[int], w: Sequence[int], params: dict[str, Any]) -> ConvSpec | TransposedSpec:
    """A transposed convolution, which reads an x with holes: the input gradient of another convolution.

    Of that convolution the stride is the distance of the holes, y is this x, and x is this result; what it is padded with is
    what a full overlap would take, less what this one is padded with. Raises ValueError where there is none.
    """
    (n, c, *spatial), (k, _, *kernel) = _numbers(x, w, params)
    if set(params["window_strides"]) != {1}:
        raise ValueError("it has strides beside the holes in x")
    stride, dilation = params["lhs_dilation"], params["rhs_dilation"]
    sizes, pads = [], []
    for size, taps, s, d, (low, high) in zip(spatial, kernel, stride, dilation, params["padding"], strict=True):
        reach = d * (taps - 1)
        sizes.append((size - 1) * s + 1 + low + high - reach)
        # Less than a stride more at the end changes no number of outputs, and is there where output padding was asked for.
        pads.append((reach - low, max(reach - high, 0)))
        if not 0 <= pads[-1][1] - (reach - high) < s:
            raise ValueError("it is padded by more than the convolution has that it could be mirrored with")
    spec = ConvSpec(
        n, k, c, tuple(sizes), tuple(kernel), tuple(stride), tuple(dilation), tuple(pads), params["feature_group_count"]
    )
    if spec.out_spatial != tuple(spatial):
        raise ValueError("no convolution has it for its input gradient")
    return TransposedSpec(spec)
