"""The models of the table in docs/capture.md: what is captured of each, and what other counters say of the same model."""

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from harness import flops
from harness.ask.captured import Captured, collect
from harness.axes import Direction
from harness.captures import worker
from harness.captures.base import Input, Request
from harness.execution import capturing
from scripts.captured import counters
from scripts.captured.suites import ROOT, TORCH, located

PAGE = ROOT / "docs" / "capture.md"
BEGIN, END = "<!-- models: begin, written by scripts/captured -->\n", "<!-- models: end -->\n"
HEADINGS = (
    "model",
    "captured by",
    "input",
    "calls",
    "shapes",
    "FLOP, forward",
    "FLOP, gradients",
    "also counted by",
    "its FLOP",
    "equal",
)
JAX, TORCHVISION = "tests/captures/jax_models.py", "scripts/captured/vision.py"
LIGHT = "onnx/backend/test/data/light"
FPROP, DGRAD, WGRAD = Direction.FPROP, Direction.DGRAD, Direction.WGRAD

# The models of TORCH, of torchvision and of Keras, as the table calls them. What stands before a comma is one network.
PLAIN = {
    "resnet18": "ResNet-18", "resnet34": "ResNet-34", "resnet50": "ResNet-50", "resnet101": "ResNet-101",
    "wide_resnet50": "Wide ResNet-50-2", "resnext50": "ResNeXt-50", "vgg16": "VGG-16", "alexnet": "AlexNet",
    "mobilenet_v1": "MobileNetV1", "mobilenet_v2": "MobileNetV2", "mobilenet_v3_large": "MobileNetV3-Large",
    "mobilenet_v3_small": "MobileNetV3-Small", "efficientnet_b0": "EfficientNet-B0", "convnext_tiny": "ConvNeXt-Tiny",
    "densenet121": "DenseNet-121", "unet": "U-Net", "unet_3d": "3D U-Net", "dcgan": "DCGAN", "conv_tasnet": "Conv-TasNet",
}  # fmt: skip
VISION = {
    "resnet50": "ResNet-50", "mobilenet_v3_large": "MobileNetV3-Large", "mobilenet_v3_small": "MobileNetV3-Small",
    "efficientnet_b0": "EfficientNet-B0", "convnext_tiny": "ConvNeXt-Tiny", "densenet121": "DenseNet-121",
    "regnet_y_400mf": "RegNetY-400MF", "mnasnet1_0": "MNASNet 1.0", "shufflenet_v2_x1_0": "ShuffleNetV2 x1.0",
    "squeezenet1_1": "SqueezeNet 1.1", "vgg19": "VGG-19", "efficientnet_v2_s": "EfficientNetV2-S",
}  # fmt: skip
KERAS = {
    "ResNet50": "ResNet-50, v1", "MobileNetV3Large": "MobileNetV3-Large", "MobileNetV3Small": "MobileNetV3-Small",
    "EfficientNetB0": "EfficientNet-B0", "ConvNeXtTiny": "ConvNeXt-Tiny",
}  # fmt: skip
FUNCTIONS = ("resnet50", "unet", "dcgan")  # of JAX
EXPORTED = (
    "resnet50", "mobilenet_v3_large", "mobilenet_v3_small", "efficientnet_b0", "convnext_tiny", "unet", "unet_3d", "dcgan",
)  # fmt: skip
SHIPPED_ONNX = {"light_resnet50": "resnet50", "light_densenet121": "densenet121"}
IMAGES = {"efficientnet_v2_s": 384}  # the size for which torchvision publishes a number, where that is not 224
GROUPS = ", filter gradients by groups"  # where that counter has `groups` times as many, see as_flop_counter
FLOP_COUNTER, OF_TORCH, FVCORE = "FlopCounterMode", "FlopCounterMode on PyTorch's", "fvcore"
# Where another model is counted than that which is captured: by how many FLOP forward, and why.
DIFFERS = {
    ("DenseNet-121", "ONNX, a file of onnx", OF_TORCH): (2_048_000, "its classifier is a 1x1 convolution"),
    ("DCGAN", "JAX", OF_TORCH): (
        196_608_000,
        "its first transposed layer has no stride, and is a convolution of an x padded more",
    ),
    ("Conv-TasNet", "PyTorch", FVCORE): (524_156_928, "its trace is without the last layer to the next block, used by nobody"),
}


class Model(NamedTuple):
    """A row of the table: `request` is what is captured, `words` what `counters.main` is given, for the same model.

    Where `exported` is set, an ONNX file is captured that is yet to be made of the model that is counted.
    """

    name: str
    by: str
    request: Request
    words: tuple[str, ...]
    exported: bool = False

    @property
    def input(self) -> str:
        """The shape of what it is called with, in its own order: JAX has the channels last."""
        batch, channels, *spatial = self.words[2].split(",")
        return ",".join([batch, *spatial, channels] if self.by == "JAX" else [batch, channels, *spatial])

    @property
    def needs_torchvision(self) -> bool:
        """Whether it needs a package beside those that the tests have."""
        return self.request.target.startswith(TORCHVISION)


class Count(NamedTuple):
    """What another counter says: its name, its FLOP as they are shown, and whether that is what was captured."""

    by: str
    flop: str
    equal: str


def models() -> list[Model]:
    """All of the table: those of one network together, in the order above. Imports PyTorch, for the shapes of its models."""
    networks = list(dict.fromkeys([*PLAIN.values(), *VISION.values()]))
    return sorted(_models(), key=lambda model: networks.index(model.name.partition(",")[0]))


def _models() -> Iterator[Model]:
    from tests.captures import torch_models

    shapes = {name: torch_models.MODELS[name][1] for name in PLAIN}
    words = {name: ("torch", f"{ROOT}/{TORCH}:build", _shape(shapes[name]), f"name={name!r}") for name in PLAIN}
    for name, network in PLAIN.items():
        request = Request(f"{TORCH}:build", "torch", (Input(shapes[name]),), arguments={"name": repr(name)})
        yield Model(network, "PyTorch", request, words[name])
    for name, network in VISION.items():
        sizes = (1, 3, *[IMAGES.get(name, 224)] * 2)
        request = Request(f"{TORCHVISION}:build", "torch", (Input(sizes),), arguments={"name": repr(name)})
        told = ("torch", f"{ROOT}/{TORCHVISION}:build", _shape(sizes), f"name={name!r}")
        yield Model(network, "PyTorch, torchvision", request, told)
    for name, network in KERAS.items():
        target, sizes = f"keras.applications:{name}", (1, 224, 224, 3)
        yield Model(network, "Keras", Request(target, inputs=(Input(sizes),)), ("keras", target, _shape(sizes), "weights=None"))
    for name in FUNCTIONS:
        yield Model(PLAIN[name], "JAX", Request(f"{JAX}:build", "jax", arguments={"name": repr(name)}), words[name])
    for name in EXPORTED:
        yield Model(PLAIN[name], "ONNX, exported by PyTorch", Request(framework="onnx"), words[name], exported=True)
    for name, like in SHIPPED_ONNX.items():
        yield Model(PLAIN[like], "ONNX, a file of onnx", Request(f"{LIGHT}/{name}.onnx", "onnx"), words[like])


def _shape(sizes: tuple[int, ...]) -> str:
    """A shape as programs take it."""
    return ",".join(map(str, sizes))


def asked(model: Model, folder: Path) -> Request:
    """The request with the places of this machine. A file that is yet to be exported is written into the folder."""
    if model.exported:
        counters.export(path := folder / "model.onnx", *model.words[1:])
        return replace(model.request, target=str(path))
    if model.request.target.startswith("onnx/"):
        import onnx

        return replace(model.request, target=str(Path(onnx.__file__).parents[1] / model.request.target))
    return located(model.request)


def captured(model: Model, python: str | None = None) -> Captured:
    """The convolutions of a model: in this process, or in one of its own under the Python that has its packages."""
    with tempfile.TemporaryDirectory() as folder:
        request = asked(model, Path(folder))
        return collect(model.name, capturing.in_process(request, python) if python else worker.seen(request))


def as_flop_counter(found: Captured) -> int:
    """FLOP of the gradients as FlopCounterMode has them, which takes a grouped filter gradient for `groups` times as many.

    Source: pytorch#183405
    """
    total = found.flop(DGRAD)
    for layer in found.layers:
        spec = layer.spec.mirrored if layer.spec.transposed else layer.spec
        total += flops.nominal(layer.spec) * layer.counts.get(WGRAD, 0) * spec.groups
    return total


def counts(model: Model, found: Captured, told: dict[str, Any]) -> Iterator[Count]:
    """What other counters say, held against what was captured."""
    forward, gradients = found.flop(FPROP), found.flop(DGRAD) + found.flop(WGRAD)

    def equal(by: str, flop: int, same: bool = True) -> str:
        more, why = DIFFERS.get((model.name, model.by, by), (None, ""))
        return ("yes" if same else "no") if flop == forward else f"no: {why}" if forward - flop == more else "no"

    if "layers" in told:
        yield Count(by := "a sum over its layers", f"{told['layers']:,}", equal(by, told["layers"]))
        return
    counter = told["flop_counter"]
    by = FLOP_COUNTER if model.by.startswith("PyTorch") else OF_TORCH
    verdict = equal(by, counter["forward"], counter["gradients"] == as_flop_counter(found))
    if verdict == "yes" and counter["gradients"] != gradients:
        verdict += GROUPS
    yield Count(by, f"{counter['forward']:,} + {counter['gradients']:,}", verdict)
    if "fvcore" in told and model.by.startswith("PyTorch"):
        yield Count(FVCORE, f"{told['fvcore']:,}", equal(FVCORE, told["fvcore"]))
    if "torchvision" in told:
        giga = round((forward + counter["products"]) / 2e9, 3)
        yield Count("torchvision's pages", f"{told['torchvision']:.3f} GMAC", "yes" if giga == told["torchvision"] else "no")


def rows(model: Model, python: str | None = None) -> list[str]:
    """The rows of a model, which is captured and counted now: the first has what was captured, each of them another counter."""
    return lines(model, captured(model, python), counters.main(*model.words))


def lines(model: Model, found: Captured, told: dict[str, Any]) -> list[str]:
    """The rows of a model, by what was captured and what the counters told."""
    gradients = found.flop(DGRAD) + found.flop(WGRAD)
    first = [
        model.name,
        model.by,
        model.input,
        str(found.calls),
        str(len(found.layers)),
        f"{found.flop(FPROP):,}",
        f"{gradients:,}",
    ]
    cells = [[*(first if place == 0 else [""] * len(first)), *count] for place, count in enumerate(counts(model, found, told))]
    return [f"| {' | '.join(row)} |" for row in cells]


def page(text: str, body: list[str]) -> str:
    """The page with these rows for its table."""
    head = [f"| {' | '.join(HEADINGS)} |", f"|{'---|' * len(HEADINGS)}"]
    before, rest = text.split(BEGIN)
    return before + BEGIN + "\n".join([*head, *body]) + "\n" + END + rest.split(END)[1]
