"""The convolutions of an ONNX file: its graph is read and its shapes are inferred; nothing of it is run."""

from collections.abc import Iterator, Sequence
from typing import Any

from harness.axes import Direction, Layout, Precision
from harness.calls import Call, Seen, layer
from harness.captures.base import DATA, Capture, Input, Notes, Request, constant, followed, passes, weighed
from harness.counting import same_padding
from harness.errors import CaptureError

# onnx.TensorProto.DataType, which stands in files and so never changes.
_PRECISIONS = {1: Precision.FP32, 10: Precision.FP16, 11: Precision.FP64, 16: Precision.BF16}
_PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_WHY = {
    "QLinearConv": "quantized", "ConvInteger": "quantized", "DeformConv": "deformable: where it reads is computed",
    "CausalConvWithState": "an operation of its own, not a plain convolution",
}  # fmt: skip
_SOME_DIMENSIONS = 6  # of symbolic dimensions that are named in a message


class OnnxCapture(Capture):
    """ONNX: `Conv` and `ConvTranspose` in the graph and the graphs within it. Weights that lie in other files are not read."""

    name = "onnx"
    suffixes = (".onnx",)
    options = frozenset({"sizes"})

    def __init__(self) -> None:
        import onnx
        import onnx.inliner
        import onnx.shape_inference

        self._onnx: Any = onnx

    @classmethod
    def takes(cls, model: object) -> bool:
        """Whether it is an `onnx.ModelProto`."""
        return type(model).__name__ == "ModelProto"

    def capture(self, model: Any, inputs: Sequence[Any], request: Request) -> Seen:
        """What a step of the model asks for. `model` is the path of its file, or a ModelProto."""
        onnx, where = self._onnx, model if isinstance(model, str) else request.target or "model"
        file = isinstance(model, str)
        if file:
            try:
                model = onnx.load(model, load_external_data=False)
            except OSError as error:
                raise CaptureError(f"{where}: cannot be read: {error.strerror or error}") from None
            except Exception as error:
                raise CaptureError(f"{where}: cannot be read as ONNX: {type(error).__name__}") from None
        if not self.takes(model):
            raise CaptureError(f"{where}: found {type(model).__name__}; allowed: an onnx.ModelProto, or the path of a file")
        if not file:  # it stays as it is
            given, model = model, onnx.ModelProto()
            model.CopyFrom(given)
        if not model.graph.node:
            raise CaptureError(f"{where}: a model of ONNX without any operation")
        if model.functions:
            model = onnx.inliner.inline_local_functions(model)
        _fix(model.graph, inputs, request)
        try:
            model = onnx.shape_inference.infer_shapes(model, data_prop=True)
        except Exception as error:
            raise CaptureError(f"{where}: its shapes cannot be inferred: {error}") from None
        notes = Notes()
        _Graph(notes, request.gradients).walk(model.graph, {})
        if any(call.direction is not Direction.FPROP for call in notes.calls):
            notes.said["the gradients are those that training would ask for: the file has the forward pass alone"] = None
        producer = " ".join(filter(None, [model.producer_name, model.producer_version]))
        return notes.seen(f"ONNX {onnx.__version__}" + (f", a file of {producer}" if producer else ""))


def _fix(graph: Any, inputs: Sequence[Any], request: Request) -> None:
    """Give the inputs of a graph sizes, by their order and by the names of their dimensions; what was inferred before goes."""
    parts, option, sizes = {tensor.name for tensor in graph.initializer}, request.option("--input"), request.sizes
    given = [value for value in graph.input if value.name not in parts]
    if len(inputs) > len(given):
        names = ", ".join(value.name for value in given)
        raise CaptureError(f"{option}: found {len(inputs)} shapes; allowed: {len(given)}, for {names}")
    symbols = {dim.dim_param: None for value in given for dim in value.type.tensor_type.shape.dim if dim.dim_param}
    if unknown := sizes.keys() - symbols.keys():
        names = ", ".join(symbols) or "no name, since all sizes are fixed"
        raise CaptureError(f"{option}: found {min(unknown)}; allowed: {names}")
    for value, shape in zip(given, inputs, strict=False):
        dims = value.type.tensor_type.shape.dim
        if not isinstance(shape, Input) or len(shape.shape) != len(dims):
            raise CaptureError(f"{option}: allowed for {value.name}: {len(dims)} sizes, {_shown(dims)}")
        for dim, size in zip(dims, shape.shape, strict=True):
            dim.dim_value = size
    missing = {}
    for value in given:
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param in sizes:
                dim.dim_value = sizes[dim.dim_param]
            elif dim.WhichOneof("value") != "dim_value":
                missing[dim.dim_param or "?"] = f"{value.name} ({_shown(value.type.tensor_type.shape.dim)})"
    if missing:
        named = "; ".join(f"{name} of {where}" for name, where in list(missing.items())[:_SOME_DIMENSIONS])
        give = "give the whole shape" if request.in_program else f"give --input {next(iter(missing))}=8, or the whole shape"
        raise CaptureError(f"{option}: sizes are missing: {named}; {give}")
    del graph.value_info[:]
    for value in graph.output:
        value.type.tensor_type.ClearField("shape")


def _shown(dims: Any) -> str:
    return ",".join(dim.dim_param or str(dim.dim_value or "?") for dim in dims)


class _Graph:
    """Goes through the nodes of a graph, and of the graphs within it."""

    def __init__(self, notes: Notes, gradients: bool) -> None:
        self._notes, self._gradients = notes, gradients
        self._shapes: dict[str, tuple[int, ...] | None] = {}
        self._kinds: dict[str, int] = {}

    def walk(self, graph: Any, outer: dict[str, int], remark: str = "") -> int:
        """Note what the graph asks for; how what it gives came about. `outer` has that of the values around it."""
        about = dict(outer)
        for tensor in graph.initializer:
            self._shapes[tensor.name], self._kinds[tensor.name] = tuple(tensor.dims), tensor.data_type
            about[tensor.name] = constant(tensor.dims)
        for value in (*graph.input, *graph.value_info, *graph.output):
            of = value.type.tensor_type
            dims = [dim.dim_value if dim.WhichOneof("value") == "dim_value" else 0 for dim in of.shape.dim]
            if value.name not in self._shapes:
                self._shapes[value.name] = tuple(dims) if of.HasField("shape") and all(dims) else None
                self._kinds[value.name] = of.elem_type
        for value in graph.input:
            about.setdefault(value.name, DATA)
        for node in graph.node:
            self._node(node, about, remark)
        return followed(about.get(value.name, 0) for value in graph.output)

    def _node(self, node: Any, about: dict[str, int], remark: str) -> None:
        self._notes.operations[node.op_type] += 1
        operands = [about.get(name, 0) for name in node.input if name]
        result = followed(operands)
        if node.op_type in _PRODUCTS and len(operands) > 1:
            result = weighed(operands[0], operands[1])
        if node.op_type in ("Conv", "ConvTranspose"):
            self._convolution(node, operands, remark)
        elif node.op_type in _WHY:
            self._notes.left_out(node.op_type, _WHY[node.op_type], node.name)
        elif node.op_type == "Constant":
            result = 0
        for words, inner in _within(node):
            result |= self.walk(inner, about, ", ".join(filter(None, [remark, words])))
        about.update(dict.fromkeys(filter(None, node.output), result))

    def _convolution(self, node: Any, operands: list[int], remark: str) -> None:
        x, w = (self._shapes.get(name) for name in node.input[:2])
        name = node.name or next(iter(node.output), "")
        if not x or not w:
            self._notes.left_out(node.op_type, "its sizes do not follow from those of the inputs", name)
            return
        kind = self._kinds.get(node.input[0], 0)
        if kind not in _PRECISIONS:
            self._notes.left_out(node.op_type, "no precision of a suite", name)
            return
        transposed = node.op_type == "ConvTranspose"
        try:
            spec = layer(x, w, *_geometry(node, x, w, transposed), transposed=transposed, **_more(node))
        except ValueError as error:
            self._notes.left_out(node.op_type, str(error), name)
            return
        bias = len(node.input) > 2 and bool(node.input[2])
        call = Call(spec, Direction.FPROP, _PRECISIONS[kind], Layout.CHANNELS_FIRST, bias, name[:200], remark=remark)
        self._notes.layer(call, passes(operands[0], operands[1], self._gradients))


def _within(node: Any) -> Iterator[tuple[str, Any]]:
    """The graphs within a node, each with what is to be said of what it has."""
    words = {
        "If": "in a branch, counted as if it were taken", "Loop": "in a loop, counted once", "Scan": "in a loop, counted once",
    }.get(node.op_type, "")  # fmt: skip
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield words, attribute.g
        yield from ((words, graph) for graph in attribute.graphs)


def _attributes(node: Any) -> dict[str, Any]:
    """The whole numbers, lists of them and texts that a node has."""
    found: dict[str, Any] = {}
    for attribute in node.attribute:
        if attribute.ints:
            found[attribute.name] = list(attribute.ints)
        elif attribute.HasField("s"):
            found[attribute.name] = attribute.s.decode(errors="replace")
        elif attribute.HasField("i"):
            found[attribute.name] = attribute.i
    return found


def _more(node: Any) -> dict[str, Any]:
    found = _attributes(node)
    return {"groups": found.get("group", 1), "output_padding": found.get("output_padding", ())}


def _geometry(node: Any, x: Sequence[int], w: Sequence[int], transposed: bool) -> tuple[Any, Any, Any]:
    """Stride, padding and dilation, as `calls.layer` takes them.

    Source: https://onnx.ai/onnx/operators/onnx__Conv.html and onnx__ConvTranspose.html
    """
    found, dims = _attributes(node), len(x) - 2
    stride, dilation = found.get("strides", [1] * dims), found.get("dilations", [1] * dims)
    pads = found.get("pads", [0] * 2 * dims)
    padding = list(zip(pads[:dims], pads[dims:], strict=True))
    rule = found.get("auto_pad", "NOTSET")
    if rule == "VALID":
        padding = [(0, 0)] * dims
    if transposed and (rule.startswith("SAME") or "output_shape" in found):
        more = found.get("output_padding", [0] * dims)
        sizes = found.get("output_shape") or [size * s for size, s in zip(x[2:], stride, strict=True)]
        # total_padding = stride * (input_size - 1) + output_padding + ((kernel - 1) * dilation + 1) - output_shape
        totals = [
            s * (size - 1) + extra + (taps - 1) * d + 1 - out
            for s, size, extra, taps, d, out in zip(stride, x[2:], more, w[2:], dilation, sizes[-dims:], strict=True)
        ]
        padding = [(each // 2, each - each // 2) for each in totals]
        if rule != "SAME_UPPER":
            padding = [(high, low) for low, high in padding]
    elif rule.startswith("SAME"):
        padding = list(map(same_padding, x[2:], w[2:], stride, dilation))
        if rule == "SAME_LOWER":
            padding = [(high, low) for low, high in padding]
    return stride, padding, dilation
