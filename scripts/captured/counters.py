"""FLOP of the convolutions of a model by counters that are not convbench's; it imports nothing of convbench."""

import ast
import functools
import importlib
import importlib.util
import math
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any


def built(target: str, arguments: Sequence[str]) -> Callable[[], Any]:
    """What makes the model that is named."""
    place, _, name = target.rpartition(":")
    if place.endswith(".py"):
        sys.path.insert(0, str(Path(place).parent))
        place = Path(place).stem
    make = getattr(importlib.import_module(place), name)
    given = {name: ast.literal_eval(value) for name, _, value in (each.partition("=") for each in arguments)}
    return lambda: make(**given)


def of_torch(build: Callable[[], Any], shape: tuple[int, ...]) -> dict[str, int]:
    """By FlopCounterMode, on tensors of the device `meta`: `forward` and `gradients` of the convolutions.

    `products` are those of the matrix products in the forward pass.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    model, x = build().to("meta"), torch.empty(shape, device="meta")  # RegNet computes its widths when it is built
    with FlopCounterMode(display=False) as counter:
        y = model(x)
        forward = dict(counter.get_flop_counts()["Global"])
        y.sum().backward()
    convolution, backward = torch.ops.aten.convolution, torch.ops.aten.convolution_backward
    return {
        "forward": forward[convolution],
        "gradients": counter.get_flop_counts()["Global"][backward],
        "products": sum(flop for operation, flop in forward.items() if operation is not convolution),
    }


def of_fvcore(build: Callable[[], Any], shape: tuple[int, ...]) -> int:
    """By fvcore's FlopCountAnalysis, whose unit is a multiply-add: the forward pass, which it runs."""
    import torch
    from fvcore.nn import FlopCountAnalysis

    found = FlopCountAnalysis(build().eval(), torch.zeros(shape))
    found.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    return 2 * int(found.by_operator()["conv"])


def of_keras(model: Any, shape: tuple[int, ...]) -> int:
    """The forward pass, which is traced: of each layer with a filter its elements, by the positions that it is laid on."""
    import tensorflow as tf

    flop = []

    def watched(layer: Any, call: Callable[..., Any], x: Any, **more: Any) -> Any:
        y = call(x, **more)
        tensor = x if "Transpose" in type(layer).__name__ else y
        flop.append(2 * math.prod(layer.kernel.shape) * math.prod(tensor.shape[:-1]))
        return y

    for layer in model._flatten_layers():
        if "Conv" in type(layer).__name__:
            layer.call = functools.partial(watched, layer, layer.call)
    tf.function(model).get_concrete_function(tf.TensorSpec(shape))
    return sum(flop)


def main(kind: str, target: str, shape: str, *arguments: str) -> dict[str, Any]:
    """What the counters say, by name.

    `target` is file.py:callable or module:callable, `shape` as in 1,3,224,224, and `arguments` are NAME=LITERAL. Of kind
    `torch` they are FlopCounterMode, fvcore where it is installed, and what torchvision publishes of its own models; of kind
    `keras` it is the sum over the layers.
    """
    sizes = tuple(map(int, shape.split(",")))
    build = built(target, arguments)
    if kind == "keras":
        return {"layers": of_keras(build(), sizes)}
    told: dict[str, Any] = {"flop_counter": of_torch(build, sizes)}
    if importlib.util.find_spec("fvcore"):
        told["fvcore"] = of_fvcore(build, sizes)
    if "vision.py:" in target:  # the room beside this one
        told["torchvision"] = sys.modules["vision"].published(ast.literal_eval(arguments[0].partition("=")[2]))
    return told


def export(path: Path, target: str, shape: str, *arguments: str) -> None:
    """Write a model of PyTorch as an ONNX file, by the exporter that needs no package but onnx."""
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is the older of two
        x = torch.zeros(tuple(map(int, shape.split(","))))
        torch.onnx.export(built(target, arguments)().eval(), (x,), str(path), dynamo=False)
