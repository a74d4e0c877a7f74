"""The suites that were made by capture: of which model each is, and the files of it as `suites/` has them."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from harness import units
from harness.ask.captured import Captured, collect
from harness.calls import Seen
from harness.captures.base import Input, Request

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "suites"
TORCH = "tests/captures/torch_models.py"


class Shipped(NamedTuple):
    """A suite that was made by capture, and the paper of its network; `size` says for what a step is."""

    suite: str
    network: str
    paper: str
    size: str
    request: Request
    remarks: tuple[str, ...] = ()


SHIPPED = (
    Shipped(
        "convnext", "ConvNeXt-Tiny", "Liu et al. 2022, arXiv:2201.03545", "an image of 224x224",
        Request("keras.applications:ConvNeXtTiny", inputs=(Input((1, 224, 224, 3)),)),
        ("Its pointwise layers are matrix products in the paper's program and in Keras, and no convolutions.",),
    ),
    Shipped(
        "efficientnet", "EfficientNet-B0", "Tan and Le 2019, arXiv:1905.11946", "an image of 224x224",
        Request("keras.applications:EfficientNetB0", inputs=(Input((1, 224, 224, 3)),)),
        ("Keras pads by an operation of its own where the stride is 2.",),
    ),
    Shipped(
        "unet", "U-Net", "Ronneberger et al. 2015, arXiv:1505.04597", "an image of 128x128",
        Request(
            f"{TORCH}:UNet", inputs=(Input((1, 1, 128, 128)),), arguments={"width": "64", "channels": "1"}, layout="NHWC"
        ),
        ("The paper's 23 layers, padded as most programs have them: the paper's own lose their border, on 572x572.",),
    ),
    Shipped(
        "unet3d", "3D-U-Net", "Çiçek et al. 2016, arXiv:1606.06650", "a volume of 16x24x24",
        Request(f"{TORCH}:UNet3D", inputs=(Input((1, 3, 16, 24, 24)),), layout="NHWC"),
        ("Its 19,069,955 parameters are the paper's; padded, on a smaller volume than the paper's 116x132x132.",),
    ),
    Shipped(
        "convtasnet", "Conv-TasNet", "Luo and Mesgarani 2019, arXiv:1809.07454", "4 s of sound at 8 kHz",
        Request(f"{TORCH}:ConvTasNet", inputs=(Input((1, 1, 32000)),)),
        ("Two speakers, the paper's best sizes: N 512, L 16, B 128, H 512, Sc 128, P 3, X 8, R 3.",),
    ),
)  # fmt: skip

# What is asked for beside the axes that a capture has seen.
AXES = """\
mode = ["eager", "compiled"]

[budget]
visits = 6
warmup_max_s = 1.0"""

EXCLUDED = """
# Each framework as most programs run it.
[[exclude]]
backend = ["torch", "tensorflow", "numpy"]
mode = "compiled"

[[exclude]]
backend = "jax"
mode = "eager"
"""

# PyTorch has no channels last for sequences, which is what TensorFlow has kernels for.
SEQUENCES = 'layout = ["NCW", "NWC"]'
SEQUENCES_EXCLUDED = """
# Each framework in the layout that it has on a CPU, JAX in both, so that each stands beside another.
[[exclude]]
backend = "torch"
layout = "NWC"

[[exclude]]
backend = "tensorflow"
layout = "NCW"
"""


def located(request: Request) -> Request:
    """The request, as it can be answered in any working directory."""
    return replace(request, target=f"{ROOT}/{request.target}") if ".py:" in request.target else request


def command(shipped: Shipped) -> str:
    """What a user gives to see the same."""
    request = shipped.request
    words = [f"convbench capture {request.target}", *(f"--arg {name}={value}" for name, value in request.arguments.items())]
    words += [f"--input {','.join(map(str, each.shape))}" for each in request.inputs]
    words += [f"--layout {request.layout}"] if request.layout else []
    return " ".join([*words, f"--out {shipped.suite}.toml"])


def files(shipped: Shipped, seen: Seen) -> dict[str, str]:
    """The suite and its table, by their paths below `suites/`. Raises ValueError where one suite cannot have all of it.

    The table is what `convbench capture` writes; so is the suite, but for what it says of the network, modes and budget.
    The version of the framework is left out, since the convolutions do not depend on it.
    """
    seen = replace(seen, source=seen.source.split()[0])
    place, _, name = shipped.request.target.rpartition(":")
    captured = collect(shipped.network, seen, target=f"{Path(place).name}:{name}")
    if captured.left_out or len(captured.parts()) != 1:
        raise ValueError(f"{shipped.suite}: has calls left out, or several precisions or layouts")
    found = captured.texts(shipped.suite)
    suite = f"{shipped.suite}.toml"
    return {**found, suite: _told(found[suite], shipped, captured)}


def _told(text: str, shipped: Shipped, captured: Captured) -> str:
    """The text of the suite with what only a person knows of it."""
    sequences = captured.layers[0].spec.ndim == 1
    totals = ", ".join(f"{each.words} {units.flop(captured.flop(each))}" for each in captured.directions)
    calls, shapes = units.many(captured.calls, "call"), units.many(len(captured.layers), "shape")
    about = f"The convolutions of {shipped.network} for {shipped.size}, forward and backward: {calls}, {shapes}; {totals}."
    (layout,) = re.findall("^layout = .*$", text, re.MULTILINE)
    text = re.sub("^description = .*$", f"description = {json.dumps(about, ensure_ascii=False)}", text, flags=re.MULTILINE)
    text = text.replace(layout, f"{SEQUENCES if sequences else layout}\n{AXES}", 1)
    head, _, rest = text.partition("\n")
    lines = [
        f"{shipped.network}: {shipped.paper}.", *shipped.remarks,
        f"    {command(shipped)}", "has the same table; `python scripts/captured suites` writes this file anew.",
    ]  # fmt: skip
    return "\n".join([head, *(f"# {line}" for line in lines), rest]) + EXCLUDED + (SEQUENCES_EXCLUDED if sequences else "")
