"""What is kept of captures: the shipped suites of whole models, and the table of models in docs/capture.md."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

from harness import flops  # noqa: E402
from harness.ask import planning, suite  # noqa: E402
from harness.ask.captured import collect  # noqa: E402
from harness.axes import Device, Direction, Layout, Mode  # noqa: E402
from harness.captures import worker  # noqa: E402
from scripts.captured import __main__ as script  # noqa: E402
from scripts.captured import models, suites  # noqa: E402
from scripts.captured.suites import SHIPPED, Shipped  # noqa: E402
from tests.captures import torch_models  # noqa: E402
from tests.command import convbench  # noqa: E402

FPROP, DGRAD, WGRAD = Direction.FPROP, Direction.DGRAD, Direction.WGRAD
KEPT = models.PAGE.read_text(encoding="utf-8").split(models.BEGIN)[1].split(models.END)[0].splitlines()
MODELS = models.models()
# Those of which each framework has one or two in every run.
ORDINARY = {
    ("ResNet-50", "PyTorch"), ("MobileNetV3-Large", "PyTorch"), ("3D U-Net", "PyTorch"), ("Conv-TasNet", "PyTorch"),
    ("DCGAN", "PyTorch"), ("ResNet-50", "JAX"), ("U-Net", "JAX"), ("DCGAN", "JAX"), ("ResNet-50", "ONNX, a file of onnx"),
    ("U-Net", "ONNX, exported by PyTorch"),
}  # fmt: skip


@pytest.fixture(autouse=True)
def paths(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Python finds modules stays as it was: naming a file of models puts its folder there."""
    monkeypatch.setattr(sys, "path", list(sys.path))


def told(model: models.Model) -> str:
    return f"{model.name}, {model.by}"


def parameter(model: models.Model) -> object:
    return pytest.param(model, id=told(model), marks=[] if (model.name, model.by) in ORDINARY else pytest.mark.long)


# The suites ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "shipped",
    [pytest.param(each, id=each.suite, marks=pytest.mark.long if "keras" in each.request.target else []) for each in SHIPPED],
)
def test_a_shipped_suite_is_what_is_captured(shipped: Shipped) -> None:
    if "keras" in shipped.request.target:
        pytest.importorskip("keras")
    for name, text in suites.files(shipped, worker.seen(suites.located(shipped.request))).items():
        assert (suites.FOLDER / name).read_text(encoding="utf-8") == text


def test_the_command_that_a_suite_names_writes_its_table(tmp_path: Path) -> None:
    (words,) = re.findall("^#     convbench (.*)$", (suites.FOLDER / "unet3d.toml").read_text(encoding="utf-8"), re.MULTILINE)
    said = convbench(tmp_path, *words.replace("tests/", f"{suites.ROOT}/tests/").split())
    assert said.returncode == 0, said.stderr
    table = "shapes/unet3d.csv"
    assert (tmp_path / table).read_text(encoding="utf-8") == (suites.FOLDER / table).read_text(encoding="utf-8")


@pytest.mark.parametrize("shipped", SHIPPED, ids=[each.suite for each in SHIPPED])
def test_a_shipped_suite_is_a_whole_network_in_each_framework(shipped: Shipped) -> None:
    loaded = suite.load(shipped.suite)
    assert {workload.network for workload in loaded.workloads} == {shipped.network}
    cells = planning.cells(loaded, dict.fromkeys(("tensorflow", "torch", "jax"), (Device("cpu"),)))
    asked = {(cell.workload, cell.direction) for cell in cells if cell.count}
    for backend, mode in (("tensorflow", Mode.EAGER), ("torch", Mode.EAGER), ("jax", Mode.COMPILED)):
        own = [cell for cell in cells if cell.backend == backend]
        assert {(cell.workload, cell.direction) for cell in own} == asked
        assert {cell.mode for cell in own} == {mode}
    # Every layer has each pass, but for the first, which has no input gradient.
    passes = {each: sum(workload.layers(each) for workload in loaded.workloads) for each in (FPROP, DGRAD, WGRAD)}
    unused = 1 if shipped.suite == "convtasnet" else 0  # what its last block hands on has no gradients
    assert (passes[DGRAD], passes[WGRAD]) == (passes[FPROP] - 1 - unused, passes[FPROP] - unused)
    assert sum(passes.values()) == int(re.findall(r"([0-9]+) calls", loaded.description)[0])
    assert planning.estimate(planning.plan(loaded, {"torch": (Device("cpu"),)}, 1), 2) < 30 * 60


# Prints each cell of the suites that a framework cannot measure on a CPU, and why; in a process whose only framework it is.
SUPPORTED = """
import sys
from importlib.metadata import entry_points
from harness.ask import planning, suite
from harness.axes import Device
from harness.backends.base import unsupported
name, *suites = sys.argv[1:]
(found,) = entry_points(group="harness.backends", name=name)
backend = found.load()(Device("cpu"), 1)
cells = [cell for each in suites for cell in planning.cells(suite.load(each), {name: (Device("cpu"),)})]
print([(cell.workload, str(cell.direction), why) for cell in cells if (why := unsupported(backend, cell))], len(cells) > 300)
"""


@pytest.mark.long
@pytest.mark.parametrize("name", ["torch", "tensorflow", "jax"])
def test_each_framework_has_every_cell_of_them_on_a_cpu(name: str) -> None:
    pytest.importorskip(name)
    words = [sys.executable, "-c", SUPPORTED, name, *(each.suite for each in SHIPPED)]
    said = subprocess.run(words, cwd=suites.ROOT, stdout=subprocess.PIPE, text=True, check=True)
    assert said.stdout.splitlines()[-1] == "[] True"


@pytest.mark.parametrize(
    ("name", "calls", "forward"),
    [
        ("convnext", 22, 0.2930e9),
        ("efficientnet", 81, 0.3845e9),
        ("unet", 23, None),
        ("unet3d", 18, None),
        ("convtasnet", 100, None),
    ],
)
def test_a_shipped_suite_has_the_published_layers(name: str, calls: int, forward: float | None) -> None:
    workloads = suite.load(name).workloads
    assert sum(workload.layers(FPROP) for workload in workloads) == calls
    total = sum(flops.nominal(workload.spec) * workload.layers(FPROP) for workload in workloads)
    assert forward is None or total / 2 == pytest.approx(forward, rel=2e-4)


def test_suites_have_transposed_grouped_dilated_and_sequences() -> None:
    specs = {name: [workload.spec for workload in suite.load(name).workloads] for name in ("unet", "unet3d", "convtasnet")}
    assert {name: sum(spec.transposed for spec in found) for name, found in specs.items()} == {
        "unet": 4,
        "unet3d": 3,
        "convtasnet": 1,
    }
    plain = [spec for spec in specs["convtasnet"] if not spec.transposed]
    assert sorted(spec.dilation[0] for spec in plain if spec.depthwise) == [2**power for power in range(8)]
    layouts = {(cell.backend, cell.layout) for cell in planning.cells(
        suite.load("convtasnet"), dict.fromkeys(("tensorflow", "torch", "jax"), (Device("cpu"),)))}  # fmt: skip
    assert layouts == {
        ("tensorflow", Layout.CHANNELS_LAST), ("torch", Layout.CHANNELS_FIRST), ("jax", Layout.CHANNELS_LAST),
        ("jax", Layout.CHANNELS_FIRST),
    }  # fmt: skip


def test_the_definitions_have_the_published_parameters() -> None:
    """3D U-Net: "The architecture has 19069955 parameters in total"; Conv-TasNet: 5.1 million, table II."""
    volumes = torch_models.UNet3D()
    convolutions = [module for module in volumes.modules() if isinstance(module, torch.nn.Conv3d | torch.nn.ConvTranspose3d)]
    assert sum(parameter.numel() for module in convolutions for parameter in module.parameters()) == 19_069_955
    assert round(sum(parameter.numel() for parameter in torch_models.ConvTasNet().parameters()) / 1e6, 1) == 5.1


def test_a_suite_that_is_not_what_is_captured_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (shipped,) = [each for each in SHIPPED if each.suite == "unet3d"]
    monkeypatch.setattr(suites, "SHIPPED", (shipped,))
    monkeypatch.setattr(suites, "FOLDER", tmp_path)
    monkeypatch.setattr(script.capturing, "in_process", worker.seen)
    (tmp_path / "shapes").mkdir()
    assert (script.write_suites(check=True), list(tmp_path.glob("*.toml"))) == (2, [])
    assert script.write_suites(check=False) == 2
    assert script.write_suites(check=True) == 0


# The table -------------------------------------------------------------------------------------------------------------------


def test_the_table_has_every_model_and_nothing_else() -> None:
    listed = re.findall(r"^\| ([^|]+) \| ([^|]+) \| [0-9,]+ \| ", "\n".join(KEPT), re.MULTILINE)
    assert listed == [(model.name, model.by) for model in MODELS]
    assert len({name for name, _ in listed}) >= 20
    assert {line.count("|") for line in KEPT} == {len(models.HEADINGS) + 1}
    unequal = [line for line in KEPT[2:] if not re.search(r"\| yes(, filter gradients by groups)? \|$", line)]
    assert [re.findall("no: (.*) .$", line) for line in unequal] == [[why] for _, why in models.DIFFERS.values()]


@pytest.mark.parametrize("model", [parameter(model) for model in MODELS if not model.needs_torchvision])
def test_a_row_is_what_is_captured_and_counted(model: models.Model) -> None:
    pytest.importorskip({"Keras": "keras", "JAX": "jax"}.get(model.by, "onnx" if "ONNX" in model.by else "torch"))
    assert [row for row in models.rows(model) if row not in KEPT] == []


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")  # torchvision and fvcore call what PyTorch has deprecated
def test_the_rows_of_torchvision_are_what_is_captured_under_its_python(tmp_path: Path) -> None:
    python = script.environment(tmp_path)
    sys.path += map(str, tmp_path.glob("lib/python*/site-packages"))
    vision = [model for model in MODELS if model.needs_torchvision]
    assert len(vision) == len(models.VISION)
    assert [row for model in vision for row in models.rows(model, python) if row not in KEPT] == []


def test_another_counter_that_says_something_else_is_told_of() -> None:
    (model,) = [each for each in MODELS if (each.name, each.by) == ("U-Net", "PyTorch")]
    found = collect("U-Net", worker.seen(suites.located(model.request)))
    forward, gradients = found.flop(FPROP), found.flop(DGRAD) + found.flop(WGRAD)
    for by, equal in ((0, "yes"), (2, "no")):
        told = {"flop_counter": {"forward": forward + by, "gradients": gradients, "products": 0}, "fvcore": forward + by}
        assert [count.equal for count in models.counts(model, found, told)] == [equal, equal]
    told = {"flop_counter": {"forward": forward, "gradients": gradients + 2, "products": 0}}
    assert [count.equal for count in models.counts(model, found, told)] == ["no"]
