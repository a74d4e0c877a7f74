"""The convolutions in the graph that TensorFlow makes of a step of a model, gradients included: traced, not computed."""

import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from harness.axes import Direction, Layout
from harness.calls import Call, Seen, precision
from harness.captures import tensorflow_timing, timing
from harness.captures.base import Capture, Input, Notes, Request, is_named, wanted
from harness.counting import same_padding
from harness.errors import CaptureError
from harness.spec import ConvSpec, TransposedSpec

_OPERATION = re.compile(r"(Conv2D|Conv3D|DepthwiseConv2dNative)(BackpropInput|BackpropFilter)?(?:V2)?")
_OTHER = re.compile(r"Conv(?!ert)")
_PASS = {"": Direction.FPROP, "BackpropInput": Direction.DGRAD, "BackpropFilter": Direction.WGRAD}
_INSIDE = {  # what is to be said of what an operation calls, by its type
    "While": "in a loop, counted once", "StatelessWhile": "in a loop, counted once",
    "If": "in a branch, counted as if it were taken", "StatelessIf": "in a branch, counted as if it were taken",
    "Case": "in a branch, counted as if it were taken", "StatelessCase": "in a branch, counted as if it were taken",
}  # fmt: skip


_PADDED = "x was padded by an operation of its own"
_MADE_BY = {  # what is to be said of a convolution, by the type of the operation that x comes from
    "SpaceToBatchND": "a dilated one, which TensorFlow runs on blocks (space to batch)",
    "Pad": _PADDED, "PadV2": _PADDED, "MirrorPad": _PADDED,
}  # fmt: skip


class TensorFlowCapture(Capture):
    """TensorFlow and Keras: `Conv2D`, `Conv3D`, `DepthwiseConv2dNative` and their gradients in the graph of a training step.

    Only what the outputs and the gradients depend on counts: a gradient that nobody asked for stands in the graph, too, and
    is dropped before it is run.
    """

    name = "tensorflow"
    functions = True
    options = frozenset({"timed"})

    def __init__(self) -> None:
        import tensorflow

        self._tf: Any = tensorflow

    @classmethod
    def takes(cls, model: object) -> bool:
        """Whether it is a Keras model or layer, a `tf.Module`, or a `tf.function`."""
        return is_named(model, "tensorflow", "keras", "tf_keras")

    def capture(self, model: Any, inputs: Sequence[Any], request: Request) -> Seen:
        """What a step of the model asks for."""
        tf = self._tf
        if not inputs:
            raise request.without_inputs(f"the model wants {_wanted(model)}", 8, 224, 224, 3)
        forward: set[str] = set()

        def step(*values: Any) -> Any:
            with tf.GradientTape() as tape:
                given = self._called(model, values, training=request.gradients)
                floating = [each for each in tf.nest.flatten(given) if tf.is_tensor(each) and each.dtype.is_floating]
                loss = tf.add_n([tf.reduce_sum(tf.cast(each, tf.float32)) for each in floating]) if floating else None
            forward.update(operation.name for operation in tf.compat.v1.get_default_graph().get_operations())
            if not request.gradients:
                return given
            trained = _trained(model, tape)
            if loss is None or not trained:
                raise request.nothing_trained()
            return given, [each for each in tape.gradient(loss, trained) if each is not None]

        signature = [self._signature(model, place, given) for place, given in enumerate(inputs)]
        function, taken = tf.function(step, autograph=False), None
        try:
            graph = function.get_concrete_function(*signature).graph
        except Exception as error:
            if "OperatorNotAllowedInGraphError" in type(error).__name__:
                raise CaptureError(
                    "the model needs the values of a tensor to go on, which are not known when its graph is made"
                ) from error
            raise
        notes = Notes()
        layers = {layer.name for layer in getattr(model, "_flatten_layers", lambda: ())()}
        found = list(_operations(graph, graph.outputs, forward, ""))
        _note(notes, found, layers, tf)
        if request.timed and notes.calls:
            values = [tensorflow_timing.values(tf, given, asked) for given, asked in zip(inputs, signature, strict=True)]
            taken = timing.known(notes, lambda: tensorflow_timing.timed(tf, lambda: function(*values), _functions(found)))
            if taken and getattr(model, "compiled", False) and model.jit_compile:
                notes.said["timed as a tf.function without XLA, which the model is compiled for (jit_compile)"] = None
        return notes.seen(f"TensorFlow {tf.__version__}", timing=taken)

    def _called(self, model: Any, values: Sequence[Any], *, training: bool) -> Any:
        """What the model gives for these inputs."""
        if is_named(model, "keras", "tf_keras"):
            return model(values[0] if len(values) == 1 else list(values), training=training)
        return model(*values)

    def _signature(self, model: Any, place: int, given: Any) -> Any:
        """The shape and type of an input."""
        tf = self._tf
        if not isinstance(given, Input):
            return tf.nest.map_structure(lambda each: tf.TensorSpec(each.shape, each.dtype), given)
        wanted = getattr(model, "inputs", None) or []
        dtype = given.dtype or (wanted[place].dtype if place < len(wanted) else "float32")
        try:
            return tf.TensorSpec(given.shape, tf.as_dtype(dtype))
        except TypeError:
            raise CaptureError(f"--input: found dtype {given.dtype!r}; allowed: one of TensorFlow's, such as float32") from None


def _wanted(model: Any) -> str:
    """What a model must be called with, as far as it says so."""
    inputs = getattr(model, "inputs", None) or []
    told = [f"{each.name} ({','.join('?' if size is None else str(size) for size in each.shape)})" for each in inputs]
    return ", ".join(told) or wanted(getattr(model, "call", model))


def _trained(model: Any, tape: Any) -> list[Any]:
    """The variables that a training step changes."""
    if is_named(model, "keras", "tf_keras"):
        return [getattr(variable, "value", variable) for variable in model.trainable_variables]
    return list(tape.watched_variables())


class _Found(NamedTuple):
    """An operation of the graph: whether it was made for a gradient, what is to be said of it, and what it lies in.

    `compiled` names the function around it that XLA compiles as a whole; empty: there is none.
    """

    operation: Any
    backward: bool
    remark: str
    path: str
    compiled: str


def _operations(
    graph: Any, outputs: Sequence[Any], forward: set[str] | None, remark: str, back: bool = False, path: str = "",
    compiled: str = "",
) -> Iterator[_Found]:  # fmt: skip
    """What the outputs depend on, and what that calls. `forward` names what was made before the gradients; None: see `back`."""
    reached, used = set[str](), {tensor.name for tensor in outputs}
    waiting = [tensor.op for tensor in outputs]
    while waiting:
        operation = waiting.pop()
        if operation.name not in reached:
            reached.add(operation.name)
            used |= {tensor.name for tensor in operation.inputs}
            waiting += [*(tensor.op for tensor in operation.inputs), *operation.control_inputs]
    for operation in graph.get_operations():
        if operation.name not in reached:
            continue
        backward = back if forward is None else operation.name not in forward
        yield _Found(operation, backward, remark, f"{path}{operation.name}", compiled)
        told = ", ".join(filter(None, [remark, _INSIDE.get(operation.type, "")]))
        for inner in _called_graphs(operation):
            wanted = inner.outputs
            if operation.type.endswith("PartitionedCall"):  # what nobody uses of a call is dropped when it is inlined
                wanted = [tensor for tensor, given in zip(wanted, operation.outputs, strict=False) if given.name in used]
            around = compiled or _compiled(operation)
            yield from _operations(inner, wanted, None, told, backward, f"{path}{operation.name}/", around)


def _compiled(operation: Any) -> str:
    """The name of the function that an operation calls where XLA is to compile it, as of a tf.function with jit_compile."""
    attributes = operation.node_def.attr
    asked = "_XlaMustCompile" in attributes and attributes["_XlaMustCompile"].b
    return str(attributes["f"].func.name) if asked else ""


def _functions(found: Sequence[_Found]) -> dict[str, bool]:
    """The functions with convolutions that XLA compiles as a whole, each with whether there is nothing else in it."""
    inside: dict[str, set[str]] = {}
    for each in found:
        inside.setdefault(each.compiled, set()).add(each.operation.type)
    return {
        name: all(map(tensorflow_timing.is_of_convolution, types))
        for name, types in inside.items()
        if name and any(map(_OPERATION.fullmatch, types))
    }


def _called_graphs(operation: Any) -> Iterator[Any]:
    """The graphs of the functions that an operation names."""
    from tensorflow.python.ops import control_flow_util_v2

    named = []
    for attribute in operation.node_def.attr.values():
        kind = attribute.WhichOneof("value")
        named += [attribute.func.name] if kind == "func" else [each.name for each in attribute.list.func]
    first = 1 if operation.type.removeprefix("Stateless") in ("If", "Case") else 0
    shapes = [tensor.shape for tensor in operation.inputs][first:]
    for name in filter(None, named):
        graph, made = operation.graph, None
        while graph is not None and made is None:
            made, graph = graph._get_function(name), getattr(graph, "outer_graph", None)
        if made is not None and getattr(made, "graph", None) is not None:
            yield made.graph
            continue
        try:  # one that is known by its definition alone, which has no shapes of its variables
            yield control_flow_util_v2.get_func_graph(operation, shapes, name)
        except (KeyError, ValueError):  # not of these inputs: a gradient's name, a kernel's
            continue


def _note(notes: Notes, found: Sequence[_Found], layers: set[str], tf: Any) -> None:
    """Note the convolutions among the operations.

    A transposed layer is the input gradient of a convolution in the forward pass; its own gradients are that convolution, and
    its filter gradient with the layer's dy for x.
    """
    calls = []
    for each in found:
        notes.operations[each.operation.type] += 1
        matched = _OPERATION.fullmatch(each.operation.type)
        if matched is None:
            if _OTHER.search(each.operation.type):
                why = "quantized" if "Quantized" in each.operation.type else "an operation of its own, not a plain convolution"
                notes.left_out(each.operation.type, why, each.path)
            continue
        kind = each.operation.inputs[-1].dtype.name
        of = precision(kind)
        try:
            if of is None:
                raise ValueError(f"its elements are {kind}, no precision of a suite")
            calls.append((each, _PASS[matched[2] or ""], _spec(each.operation, matched[1], matched[2] or "", tf), of))
        except ValueError as error:
            notes.left_out(each.operation.type, str(error), each.path)
    mirrored = {spec for each, direction, spec, _ in calls if direction is Direction.DGRAD and not each.backward}
    made = {each.operation.name for each in found if each.backward}
    for each, direction, spec, of in calls:
        transposed, remark = False, each.remark
        if direction is Direction.DGRAD and not each.backward:
            transposed, direction = True, Direction.FPROP
        elif direction is Direction.FPROP and each.backward:
            if spec in mirrored:
                transposed, direction = True, Direction.DGRAD
            else:
                remark = ", ".join(filter(None, [remark, "computed again for the gradients"]))
        elif direction is Direction.WGRAD and spec in mirrored:
            transposed = each.operation.inputs[0].op.name in made
        if direction is Direction.FPROP and (told := _MADE_BY.get(_maker(each.operation))):
            remark = ", ".join(filter(None, [remark, told]))
        layout = Layout.CHANNELS_FIRST if _attribute(each.operation, "data_format")[1] == "C" else Layout.CHANNELS_LAST
        name = "" if each.backward else _layer(each.path, layers)
        made_of = TransposedSpec(spec) if transposed else spec
        notes.call(Call(made_of, direction, of, layout, name=name, remark=remark))


def _maker(operation: Any) -> str:
    """The type of the operation that x comes from, whatever reshapes it on the way."""
    given = operation.inputs[0].op
    while given.type in ("Reshape", "Squeeze", "Identity"):
        given = given.inputs[0].op
    return str(given.type)


def _attribute(operation: Any, name: str) -> Any:
    """An attribute, a text as text."""
    value = operation.get_attr(name)
    return value.decode() if isinstance(value, bytes) else value


def _layer(path: str, layers: set[str]) -> str:
    """The layer's part of the names of an operation: `resnet50_1/conv1_conv_1/convolution` is conv1_conv.

    Keras opens the scope of a layer twice, and TensorFlow numbers what has been there.
    """
    parts = path.split("/")
    for part in reversed(parts):
        for name in (re.sub(r"_\d+$", "", part), part):
            if name in layers:
                return name
    return (parts[-2] if len(parts) > 1 else parts[0])[:200]


def _spec(operation: Any, kind: str, which: str, tf: Any) -> ConvSpec:
    """The convolution that an operation is a pass of. Raises ValueError where the graph does not know its sizes."""
    tensors = list(operation.inputs)  # x, w and y, but for the result, in whose place stands which sizes it has
    place = {"": 2, "BackpropInput": 0, "BackpropFilter": 1}[which]
    asked = tensors[place] if which else None
    tensors[place:] = [operation.outputs[0], *tensors[place + 1 :]]
    x, w, y = (_sizes(tensor, asked if at == place else None, tf) for at, tensor in enumerate(tensors))
    order = _attribute(operation, "data_format")
    at_channels = order.index("C")
    places = [place for place in range(len(order)) if order[place] not in "NC"]
    *kernel, into, out = w
    c = x[at_channels]
    groups, k = (c, into * out) if kind == "DepthwiseConv2dNative" else (c // into, out)
    stride, dilation = ([_attribute(operation, name)[at] for at in places] for name in ("strides", "dilations"))
    spatial, rule = [x[at] for at in places], _attribute(operation, "padding")
    if rule == "EXPLICIT":
        pads = _attribute(operation, "explicit_paddings")
        padding = [(pads[2 * at], pads[2 * at + 1]) for at in places]
    elif rule == "SAME":
        padding = list(map(same_padding, spatial, kernel, stride, dilation))
    else:
        padding = [(0, 0)] * len(places)
    spec = ConvSpec(x[0], c, k, tuple(spatial), tuple(kernel), tuple(stride), tuple(dilation), tuple(padding), groups)
    if spec.out_spatial != tuple(y[at] for at in places):
        raise ValueError(f"its y of {y} does not follow from its x of {x}")
    return spec


def _sizes(tensor: Any, asked: Any, tf: Any) -> list[int]:
    """The shape of a tensor, told by the input that asks for it where the graph has not inferred it."""
    if tensor.shape.is_fully_defined():
        return [int(size) for size in tensor.shape]
    told = None if asked is None else tf.get_static_value(asked)
    if told is None or min(told) < 1:
        raise ValueError("its sizes do not follow from those of the inputs")
    return [int(size) for size in told]
