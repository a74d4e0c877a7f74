"""What the capture of PyTorch sees, held against PyTorch's own counter of FLOP and against published networks."""

import itertools
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch")

import harness  # noqa: E402
from harness import flops  # noqa: E402
from harness.ask import logs, suite  # noqa: E402
from harness.ask.captured import collect  # noqa: E402
from harness.axes import Direction, Layout, Precision  # noqa: E402
from harness.calls import Call, Seen, Timing  # noqa: E402
from harness.captures import timing, torch_timing  # noqa: E402
from harness.captures import torch as torch_capture  # noqa: E402
from harness.captures.base import Input, Request  # noqa: E402
from harness.captures.torch import TorchCapture  # noqa: E402
from harness.errors import CaptureError  # noqa: E402
from tests.captures import torch_models  # noqa: E402
from tests.captures.torch_models import GROUPED, MODELS, nn  # noqa: E402

FPROP, DGRAD, WGRAD = Direction.FPROP, Direction.DGRAD, Direction.WGRAD
EAGER = ("resnet18", "resnet50", "mobilenet_v2", "convnext_tiny", "unet", "unet_3d", "dcgan", "upsampler", "wavenet", "padded")


def see(model: object, *shapes: tuple[int, ...], **options: object) -> Seen:
    return TorchCapture().capture(model, tuple(map(Input, shapes)), Request(**options))  # type: ignore[arg-type]


def flop(seen: Seen, *directions: Direction) -> int:
    return sum(flops.nominal(call.spec) * call.times for call in seen.calls if call.direction in directions)


def count(seen: Seen, direction: Direction) -> int:
    return sum(call.times for call in seen.calls if call.direction is direction)


def by_counter(build: Callable[[], nn.Module], shape: tuple[int, ...]) -> tuple[int, int]:
    """FLOP of the convolutions, forward and backward, by FlopCounterMode on meta tensors."""
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"):
        model, x = build(), torch.empty(shape)
    with FlopCounterMode(display=False) as counter:
        model(x).sum().backward()
    counts = counter.get_flop_counts()["Global"]
    return counts[torch.ops.aten.convolution], counts[torch.ops.aten.convolution_backward]


@pytest.mark.parametrize(
    "name", [*EAGER, *(pytest.param(name, marks=pytest.mark.long) for name in MODELS if name not in EAGER)]
)
def test_flop_are_those_of_torchs_own_counter(name: str) -> None:
    build, shape = MODELS[name]
    seen = see(build(), shape)
    forward, backward = by_counter(build, shape)
    assert flop(seen, FPROP) == forward
    if name not in GROUPED:  # where the counter takes the filter gradient of a grouped one for `groups` times as many
        assert flop(seen, DGRAD, WGRAD) == backward
    assert count(seen, WGRAD) == count(seen, FPROP) - (name == "conv_tasnet")  # what its last block hands on is used by nobody
    assert 0 < count(seen, DGRAD) < count(seen, FPROP)


@pytest.mark.parametrize(
    ("name", "calls", "unique", "multiply_adds"),
    [
        ("resnet18", 20, 11, 1_813_561_344),
        ("resnet50", 53, 23, 4_087_136_256),
        pytest.param("vgg16", 13, 9, 15_346_630_656, marks=pytest.mark.long),
    ],
)
def test_published_networks(name: str, calls: int, unique: int, multiply_adds: int) -> None:
    build, shape = MODELS[name]
    captured = collect(name, see(build(), shape))
    assert sum(layer.count for layer in captured.layers) == calls
    assert len(captured.layers) == unique
    assert captured.flop(FPROP) == 2 * multiply_adds
    stem = captured.layers[0]
    assert stem.counts == {FPROP: 1, WGRAD: 1}
    assert captured.flop(DGRAD) == captured.flop(FPROP) - flops.nominal(stem.spec)
    assert captured.flop(WGRAD) == captured.flop(FPROP)


def test_without_gradients_it_is_the_forward_pass_alone() -> None:
    seen = see(torch_models.Recurrent(), (1, 3, 20, 20), gradients=False)
    assert {call.direction for call in seen.calls} == {FPROP}
    assert [(call.name, call.times) for call in seen.calls] == [("first", 1), ("again", 12)]


def test_without_weights_the_calls_are_the_same() -> None:
    with TorchCapture().building(Request(weights=False)):
        weightless = torch_models.UNet()
    assert next(weightless.parameters()).is_meta
    shape = (1, 3, 32, 32)
    assert see(weightless, shape, weights=False).calls == see(torch_models.UNet(), shape).calls
    with pytest.raises(CaptureError, match="--no-weights: found beside --precision"):
        see(weightless, shape, weights=False, precision="bf16")


def test_a_real_step_makes_the_same_calls() -> None:
    torch.manual_seed(0)
    shape = (2, 3, 16, 24)
    assert see(torch_models.UNet(depth=2), shape, real=True).calls == see(torch_models.UNet(depth=2), shape).calls


def test_frozen_layers_have_no_filter_gradient() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.Conv2d(4, 5, 3), nn.Conv2d(5, 6, 3))
    for parameter in model[:2].parameters():
        parameter.requires_grad = False
    captured = collect("frozen", see(model, (1, 3, 20, 20)))
    assert [dict(layer.counts) for layer in captured.layers] == [
        {FPROP: 1}, {FPROP: 1}, {FPROP: 1, WGRAD: 1}, {FPROP: 1, DGRAD: 1, WGRAD: 1},
    ]  # fmt: skip


def test_layers_that_are_computed_again_count_again() -> None:
    depths, shape = (1, 1, 1, 1), (1, 3, 64, 64)
    once = see(torch_models.ResNet(depths, bottleneck=False), shape)
    again = see(torch_models.ResNet(depths, bottleneck=False, recompute=True), shape)
    assert count(again, FPROP) == 2 * count(once, FPROP) - 1  # all but the stem
    assert count(again, DGRAD) == count(once, DGRAD)


def test_a_transposed_layer_has_passes_of_its_own() -> None:
    layer = nn.ConvTranspose2d(6, 8, (3, 5), 2, 1, output_padding=(1, 0), groups=2, dilation=(1, 2))
    (call,) = see(layer, (2, 6, 7, 9), gradients=False).calls
    assert call.spec.transposed
    y = layer(torch.zeros(2, 6, 7, 9))
    assert call.spec.shapes(1) == ((2, 6, 7, 9), tuple(layer.weight.shape), tuple(y.shape))
    captured = collect("up", see(nn.Sequential(nn.Conv2d(3, 6, 1), layer), (2, 3, 7, 9)))
    assert captured.layers[1].counts == {FPROP: 1, DGRAD: 1, WGRAD: 1}


@pytest.mark.parametrize("layout", Layout)
def test_layouts_are_those_of_the_tensors(layout: Layout) -> None:
    seen = see(torch_models.ResNet((1, 1, 1, 1), bottleneck=False), (2, 3, 64, 64), layout=str(layout))
    assert {call.layout for call in seen.calls} == {layout}


def test_precision_of_a_converted_model() -> None:
    seen = see(torch_models.UNet(depth=2), (1, 3, 16, 16), precision="bf16")
    assert {call.precision for call in seen.calls} == {Precision.BF16}


def test_autocast_is_seen() -> None:
    class Mixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.low, self.high = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            with torch.autocast("cpu", dtype=torch.bfloat16):
                x = self.low(x)
            return self.high(x.float())

    captured = collect("mixed", see(Mixed(), (1, 3, 20, 20)))
    assert {layer.name: layer.precision for layer in captured.layers} == {"low": Precision.BF16, "high": Precision.FP32}
    assert {file for file in captured.texts() if file.endswith(".toml")} == {"mixed.toml", "mixed-bf16-nchw.toml"}


def test_remarks_say_what_a_suite_does_not_measure() -> None:
    captured = collect("padded", see(torch_models.Padded(), (1, 3, 33, 32)))
    assert {layer.name: layer.remarks for layer in captured.layers} == {
        "stem": ("x was padded by an operation of its own",),
        "next": ("1 with bias, which -a bias=none,channel measures, too",),
    }  # fmt: skip
    assert captured.layers[0].spec.spatial == (34, 33)


def test_a_model_under_inference_mode_is_seen() -> None:
    class Inferring(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Conv2d(3, 4, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            with torch.inference_mode():
                return self.layer(x)

    seen = see(Inferring(), (1, 3, 8, 8), gradients=False)
    assert ([call.times for call in seen.calls], seen.left_out) == ([1], ())


def test_what_a_model_gives_may_be_a_dataclass() -> None:
    @dataclass
    class Given:
        features: torch.Tensor
        count: int = 3

    class Giving(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Conv2d(3, 4, 3)

        def forward(self, x: torch.Tensor) -> dict[str, list[Given]]:
            return {"given": [Given(self.layer(x))]}

    assert count(see(Giving(), (1, 3, 8, 8)), WGRAD) == 1


class Looking(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x) if x.sum() < 1e9 else x


def test_a_model_that_looks_at_its_data_is_told_of_and_can_be_computed() -> None:
    with pytest.raises(CaptureError, match=r"needs the result of aten::_local_scalar_dense.*; --real computes"):
        see(Looking(), (1, 3, 8, 8))
    assert count(see(Looking(), (1, 3, 8, 8), real=True), WGRAD) == 1


@pytest.mark.parametrize(
    ("model", "shapes", "words"),
    [
        (nn.Linear(4, 4), [(2, 4)], r"no convolution seen; what was seen: .*aten::addmm x 1"),
        (torch_models.Recurrent(), [], "the model wants x; give the shape of each"),
        (nn.Conv2d(3, 4, 3).requires_grad_(False), [(1, 3, 8, 8)], "nothing that the model gives depends on what is trained"),
    ],
)
def test_what_cannot_be_seen_is_said(model: nn.Module, shapes: list[tuple[int, ...]], words: str) -> None:
    with pytest.raises(CaptureError, match=words):
        see(model, *shapes)


@pytest.mark.parametrize(
    ("model", "given", "more", "words"),
    [
        (42, [(1,)], {}, "^model: found int; allowed: a model of torch, tensorflow, jax, onnx$"),
        (None, [(1,)], {"framework": "torch"}, "^model: found None; allowed: a model of torch$"),
        (nn.Conv2d, [(1,)], {}, "^model: found the class Conv2d; allowed: a model of torch, "),
        (nn.Conv2d(3, 4, 3), [], {}, r"^inputs: the model wants input; give the shape of each, as in \(8, 3, 224, 224\)$"),
        (nn.Conv2d(3, 4, 3), [(1, 3, 8, 8)], {"framework": "caffe"}, "^framework: found 'caffe'; allowed: torch, "),
        (nn.Conv2d(3, 4, 3), [(-1, 3, 8, 8)], {}, r"^inputs: found \(-1, 3, 8, 8\); allowed: sizes from 0 to below 10\^9$"),
        (nn.Conv2d(3, 4, 3), [(10**9, 3, 8, 8)], {}, r"^inputs: found \(1000000000, 3, 8, 8\); allowed: sizes from 0 to below"),
        (
            nn.Conv2d(3, 4, 3),
            [(0, 3, 32, 32)],
            {},
            "^no convolution that a suite can have; left out: convolution x 2: n is 0; at least 1",
        ),
        (
            nn.Conv2d(3, 4, 3).requires_grad_(False),
            [(1, 3, 8, 8)],
            {},
            "what is trained; gradients=False leaves the gradients out$",
        ),
        (
            Looking(),
            [(1, 3, 8, 8)],
            {},
            "; convbench capture --real computes the step, with inputs of the callable or random$",
        ),
    ],
)
def test_within_a_program_messages_name_its_arguments(
    model: object, given: list[tuple[int, ...]], more: dict[str, str], words: str
) -> None:
    with pytest.raises(CaptureError, match=words):
        harness.capture(model, *given, **more)  # type: ignore[arg-type]


def test_a_dtype_that_is_none() -> None:
    with pytest.raises(CaptureError, match="found dtype 'float31'"):
        TorchCapture().capture(nn.Conv2d(3, 4, 3), [Input((1, 3, 8, 8), "float31")], Request())


def test_an_operation_of_its_own_is_left_out_by_name() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Conv2d(3, 4, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.layer(x)
            return y + torch.ops.aten.conv_tbc(y[0], y[0, :2, :3, :2].contiguous(), torch.zeros(2), 0)[:1, :1, :1]

    left = see(Own(), (1, 3, 5, 5), gradients=False, real=True).left_out
    assert [(one.what, one.times) for one in left] == [("aten::conv_tbc", 1)]


def test_within_a_program_the_model_stays_as_it_is(tmp_path: Path) -> None:
    model = torch_models.ResNet((1, 1, 1, 1), bottleneck=False)
    model.stem.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.head.weight.grad = gradient = torch.ones_like(model.head.weight)
    captured = harness.capture(model, (2, 3, 64, 64), name="mine")
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert model.head.weight.grad is gradient
    assert next(model.parameters()).grad is None
    assert (model.training, model.stem.training) == (True, False)
    assert harness.capture(model, torch.zeros(2, 3, 64, 64)).layers == captured.layers
    paths = captured.write(tmp_path / "mine.toml")
    assert [path.relative_to(tmp_path).as_posix() for path in paths] == ["mine.toml", "shapes/mine.csv"]
    loaded = suite.load(tmp_path / "mine.toml")
    assert [(work.spec, work.layers(DGRAD)) for work in loaded.workloads] == [
        (layer.spec, layer.counts.get(DGRAD, 0)) for layer in captured.layers
    ]


def test_the_share_of_the_convolutions_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that moves by 1 with each reading, every pass over a convolution takes 1, and nothing else takes any."""
    ticks, told = itertools.count(), list[timing.Watched]()

    def measured(step: Callable[[], None], watched: Callable[[], timing.Watched]) -> Timing:
        step()
        told.extend([watched(), watched()])
        return Timing(10, 4, 2)

    monkeypatch.setattr(torch_timing, "time", SimpleNamespace(perf_counter_ns=lambda: next(ticks)))
    monkeypatch.setattr(timing, "measured", measured)
    seen = see(torch_models.UNet(depth=2), (1, 3, 32, 32), timed=True)
    assert seen.timing == Timing(10, 4, 2)
    # The two gradients of a layer are one operation, and each layer but the first one has both.
    assert told == [timing.Watched(2 * count(seen, FPROP))] * 2
    assert see(torch_models.UNet(depth=2), (1, 3, 32, 32)).timing is None


def test_a_step_that_fails_costs_the_share_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*rest: object) -> Timing:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(torch_timing, "timed", failing)
    seen = see(torch_models.UNet(depth=2), (1, 3, 32, 32), timed=True)
    assert seen.timing is None
    assert seen.notes == ("the convolutions' share of a step is not known: RuntimeError: out of memory",)
    assert count(seen, FPROP) > 0


def test_convolutions_that_are_no_plain_ones_are_named() -> None:
    notes = torch_capture._TorchNotes(torch)
    for name in ("quantized::conv2d.new", "torchvision::deform_conv2d", "aten::convert_element_type"):
        notes._operation(SimpleNamespace(name=lambda name=name: name), (), None)
    assert [(one.what, one.why) for one in notes.seen("x").left_out] == [
        ("quantized::conv2d.new", "quantized"),
        ("torchvision::deform_conv2d", "an operation of its own, not a plain convolution"),
    ]


def test_fourier_transforms_by_which_a_convolution_may_be_computed_are_named() -> None:
    class Fourier(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.filter = nn.Conv2d(3, 4, 3), nn.Parameter(torch.ones(4, 6, 4, dtype=torch.complex64))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.fft.irfft2(torch.fft.rfft2(self.layer(x)) * self.filter)

    seen = see(Fourier(), (1, 3, 8, 8), gradients=False)
    assert [call.times for call in seen.calls] == [1]
    (note,) = seen.notes
    assert note.startswith("Fourier transforms were seen (aten::_fft_")
    assert note.endswith("): a convolution that is computed by them is left out")


def test_a_trace_of_the_profiler_tells_the_same(tmp_path: Path) -> None:
    shape = (2, 3, 16, 24)
    model, x = torch_models.UNet(depth=2), torch.zeros(shape)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], record_shapes=True) as profile:
        model(x).sum().backward()
    profile.export_chrome_trace(str(tmp_path / "trace.json"))

    def told(seen: Seen) -> Counter[tuple[object, ...]]:
        found = Counter[tuple[object, ...]]()
        for call in seen.calls:
            found[call.spec, call.direction, call.precision] += call.times
        return found

    assert told(logs.seen((tmp_path / "trace.json").read_text())) == told(see(model, shape))


def test_calls_have_the_names_of_their_layers() -> None:
    seen = see(torch_models.ResNet((1, 1, 1, 1), bottleneck=False), (1, 3, 64, 64))
    names = {call.name for call in seen.calls}
    assert "stem.0.0" in names
    assert "blocks.1.short.0" in names
    assert all(isinstance(call, Call) and call.name for call in seen.calls)
