"""Models in plain PyTorch, written from their papers: the convolutions of each are those of the published network."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint


def conv(
    into: int, out: int, size: Any, stride: Any = 1, *, groups: int = 1, padding: Any = None, dilation: int = 1
) -> nn.Module:
    """A convolution without bias, batch norm and ReLU."""
    if padding is None:
        padding = tuple(each // 2 for each in size) if isinstance(size, tuple) else dilation * (size // 2)
    layer = nn.Conv2d(into, out, size, stride, padding, groups=groups, dilation=dilation, bias=False)
    return nn.Sequential(layer, nn.BatchNorm2d(out), nn.ReLU())


# Image classification --------------------------------------------------------------------------------------------------------


class Block(nn.Module):
    """A residual block of two 3x3 (`bottle` 0) or of 1x1, 3x3, 1x1."""

    def __init__(self, into: int, out: int, stride: int, bottle: int, groups: int) -> None:
        super().__init__()
        if bottle:
            self.body = nn.Sequential(
                conv(into, bottle, 1), conv(bottle, bottle, 3, stride, groups=groups), conv(bottle, out, 1)
            )
        else:
            self.body = nn.Sequential(conv(into, out, 3, stride), conv(out, out, 3))
        self.short = conv(into, out, 1, stride) if stride > 1 or into != out else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.body(x) + self.short(x))


class ResNet(nn.Module):
    """He et al. 2015, with the stride in the 3x3 (v1.5); ResNeXt where there are groups."""

    def __init__(
        self, depths: Sequence[int], bottleneck: bool, groups: int = 1, width: int = 1, recompute: bool = False
    ) -> None:
        super().__init__()
        self.recompute = recompute
        self.stem = nn.Sequential(conv(3, 64, 7, 2), nn.MaxPool2d(3, 2, 1))
        blocks, into = [], 64
        for stage, depth in enumerate(depths):
            base = 64 * 2**stage
            out = base * 4 if bottleneck else base
            for place in range(depth):
                stride = 2 if stage and not place else 1
                blocks.append(Block(into, out, stride, base * width if bottleneck else 0, groups))
                into = out
        self.blocks = nn.ModuleList(blocks)
        self.head = nn.Linear(into, 1000)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = checkpoint(block, x, use_reentrant=False) if self.recompute else block(x)
        return self.head(x.mean((2, 3)))


def vgg16() -> nn.Module:
    """Simonyan and Zisserman 2014: convolutions with bias."""
    layers: list[nn.Module] = []
    into = 3
    for width, depth in ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3)):
        for _ in range(depth):
            layers += [nn.Conv2d(into, width, 3, padding=1), nn.ReLU()]
            into = width
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers)


def alexnet() -> nn.Module:
    """Krizhevsky et al. 2012, with its two groups."""
    return nn.Sequential(
        nn.Conv2d(3, 96, 11, 4), nn.ReLU(), nn.MaxPool2d(3, 2), nn.Conv2d(96, 256, 5, padding=2, groups=2), nn.ReLU(),
        nn.MaxPool2d(3, 2), nn.Conv2d(256, 384, 3, padding=1), nn.Conv2d(384, 384, 3, padding=1, groups=2),
        nn.Conv2d(384, 256, 3, padding=1, groups=2),
    )  # fmt: skip


class Squeeze(nn.Module):
    """Squeeze and excite: two convolutions of one position."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.down, self.up = nn.Conv2d(width, inner, 1), nn.Conv2d(inner, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(self.up(F.relu(self.down(x.mean((2, 3), keepdim=True)))))


class Inverted(nn.Module):
    """Sandler et al. 2018: 1x1 wider, depthwise, 1x1 narrower; with squeeze and excite where `inner` is not 0."""

    def __init__(self, into: int, wide: int, out: int, size: int, stride: int, inner: int = 0) -> None:
        super().__init__()
        parts = [conv(into, wide, 1)] if wide > into else []
        parts += [conv(wide, wide, size, stride, groups=wide)]
        parts += [Squeeze(wide, inner)] if inner else []
        self.body = nn.Sequential(*parts, conv(wide, out, 1))
        self.adds = stride == 1 and into == out

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x) if self.adds else self.body(x)


def inverted(rows: Sequence[tuple[int, int, int, int, int]], head: int, squeeze: bool) -> nn.Module:
    """A stem, inverted blocks by rows of factor, width, depth, stride and filter, and a 1x1."""
    parts: list[nn.Module] = [conv(3, 32, 3, 2)]
    into = 32
    for factor, width, depth, stride, size in rows:
        for place in range(depth):
            inner = into // 4 if squeeze else 0
            parts.append(Inverted(into, into * factor, width, size, stride if place == 0 else 1, inner))
            into = width
    return nn.Sequential(*parts, conv(into, head, 1))


def mobilenet_v2() -> nn.Module:
    rows = [
        (1, 16, 1, 1, 3),
        (6, 24, 2, 2, 3),
        (6, 32, 3, 2, 3),
        (6, 64, 4, 2, 3),
        (6, 96, 3, 1, 3),
        (6, 160, 3, 2, 3),
        (6, 320, 1, 1, 3),
    ]
    return inverted(rows, 1280, squeeze=False)


def efficientnet_b0() -> nn.Module:
    rows = [
        (1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 40, 2, 2, 5), (6, 80, 3, 2, 3), (6, 112, 3, 1, 5), (6, 192, 4, 2, 5),
        (6, 320, 1, 1, 3),
    ]  # fmt: skip
    return inverted(rows, 1280, squeeze=True)


def mobilenet_v3(rows: Sequence[tuple[int, int, int, int, int]], last: int) -> nn.Module:
    """Howard et al. 2019, tables 1 and 2 by rows of filter, expansion, width, inner width of squeeze and excite, and stride."""
    parts, into = [conv(3, 16, 3, 2)], 16
    for size, wide, width, inner, stride in rows:
        parts.append(Inverted(into, wide, width, size, stride, inner))
        into = width
    return nn.Sequential(*parts, conv(into, last, 1))


def mobilenet_v3_large() -> nn.Module:
    rows = [
        (3, 16, 16, 0, 1), (3, 64, 24, 0, 2), (3, 72, 24, 0, 1), (5, 72, 40, 24, 2), (5, 120, 40, 32, 1), (5, 120, 40, 32, 1),
        (3, 240, 80, 0, 2), (3, 200, 80, 0, 1), (3, 184, 80, 0, 1), (3, 184, 80, 0, 1), (3, 480, 112, 120, 1),
        (3, 672, 112, 168, 1), (5, 672, 160, 168, 2), (5, 960, 160, 240, 1), (5, 960, 160, 240, 1),
    ]  # fmt: skip
    return mobilenet_v3(rows, 960)


def mobilenet_v3_small() -> nn.Module:
    rows = [
        (3, 16, 16, 8, 2), (3, 72, 24, 0, 2), (3, 88, 24, 0, 1), (5, 96, 40, 24, 2), (5, 240, 40, 64, 1), (5, 240, 40, 64, 1),
        (5, 120, 48, 32, 1), (5, 144, 48, 40, 1), (5, 288, 96, 72, 2), (5, 576, 96, 144, 1), (5, 576, 96, 144, 1),
    ]  # fmt: skip
    return mobilenet_v3(rows, 576)


def mobilenet_v1() -> nn.Module:
    parts, into = [conv(3, 32, 3, 2)], 32
    for out, stride in ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1)):
        parts += [conv(into, into, 3, stride, groups=into), conv(into, out, 1)]
        into = out
    return nn.Sequential(*parts)


def convnext(depths: Sequence[int] = (3, 3, 9, 3), widths: Sequence[int] = (96, 192, 384, 768)) -> nn.Module:
    """Liu et al. 2022: patches, 7x7 depthwise; its pointwise layers are matrix products."""
    parts: list[nn.Module] = [nn.Conv2d(3, widths[0], 4, 4)]
    for stage, (depth, width) in enumerate(zip(depths, widths, strict=True)):
        if stage:
            parts.append(nn.Conv2d(widths[stage - 1], width, 2, 2))
        parts += [nn.Conv2d(width, width, 7, padding=3, groups=width) for _ in range(depth)]
    return nn.Sequential(*parts)


class Dense(nn.Module):
    """Huang et al. 2016, one layer: what it gives joins what it was given."""

    def __init__(self, into: int) -> None:
        super().__init__()
        self.body = nn.Sequential(conv(into, 128, 1), conv(128, 32, 3))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.body(x)], 1)


def densenet121() -> nn.Module:
    parts, into = [conv(3, 64, 7, 2), nn.MaxPool2d(3, 2, 1)], 64
    for stage, depth in enumerate((6, 12, 24, 16)):
        for _ in range(depth):
            parts.append(Dense(into))
            into += 32
        if stage < 3:
            parts += [conv(into, into // 2, 1), nn.AvgPool2d(2)]
            into //= 2
    return nn.Sequential(*parts)


def inception() -> nn.Module:
    """Szegedy et al. 2015, one branch of the third kind: 1x7 and 7x1, padded differently by dimension."""
    return nn.Sequential(
        conv(3, 32, 3, 2, padding=0), conv(32, 128, 1), conv(128, 128, (1, 7)), conv(128, 192, (7, 1)), conv(192, 64, (3, 1))
    )


def deeplab() -> nn.Module:
    """Chen et al. 2017: dilated filters in parallel would be the same layers."""
    return nn.Sequential(conv(3, 64, 7, 2), *(conv(64, 64, 3, dilation=rate) for rate in (6, 12, 18)), nn.Conv2d(64, 21, 1))


# Others ----------------------------------------------------------------------------------------------------------------------


class UNet(nn.Module):
    """Ronneberger et al. 2015, padded, theirs with a width of 64 and 1 channel: each step up is a transposed convolution."""

    def __init__(self, width: int = 16, depth: int = 4, channels: int = 3, classes: int = 2) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(depth + 1)]
        self.down = nn.ModuleList([self.twice(into, out) for into, out in zip([channels, *widths[:-1]], widths, strict=True)])
        pairs = list(zip(widths[:0:-1], widths[-2::-1], strict=True))
        self.ups = nn.ModuleList([nn.ConvTranspose2d(into, out, 2, 2) for into, out in pairs])
        self.after = nn.ModuleList([self.twice(2 * out, out) for _, out in pairs])
        self.head = nn.Conv2d(width, classes, 1)

    def twice(self, into: int, out: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(into, out, 3, padding=1), nn.ReLU(), nn.Conv2d(out, out, 3, padding=1), nn.ReLU())

    def forward(self, x: Tensor) -> Tensor:
        skips = []
        for level in self.down[:-1]:
            x = level(x)
            skips.append(x)
            x = F.max_pool2d(x, 2)
        x = self.down[-1](x)
        for up, level in zip(self.ups, self.after, strict=True):
            x = level(torch.cat([up(x), skips.pop()], 1))
        return self.head(x)


class UNet3D(nn.Module):
    """Çiçek et al. 2016, arXiv:1606.06650, figure 2, padded: twice as many channels before each pooling as before it."""

    def __init__(self, channels: int = 3, classes: int = 3) -> None:
        super().__init__()
        self.down = nn.ModuleList(
            [self.twice(channels, 32, 64), self.twice(64, 64, 128), self.twice(128, 128, 256), self.twice(256, 256, 512)]
        )
        # Without bias the parameters of all convolutions are 19,069,955, the number that the paper gives.
        self.ups = nn.ModuleList([nn.ConvTranspose3d(width, width, 2, 2, bias=False) for width in (512, 256, 128)])
        self.after = nn.ModuleList(
            [self.twice(256 + 512, 256, 256), self.twice(128 + 256, 128, 128), self.twice(64 + 128, 64, 64)]
        )
        self.head = nn.Conv3d(64, classes, 1)

    def twice(self, into: int, middle: int, out: int) -> nn.Module:
        return nn.Sequential(
            nn.Conv3d(into, middle, 3, padding=1), nn.BatchNorm3d(middle), nn.ReLU(),
            nn.Conv3d(middle, out, 3, padding=1), nn.BatchNorm3d(out), nn.ReLU(),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        skips = []
        for level in self.down[:-1]:
            x = level(x)
            skips.append(x)
            x = F.max_pool3d(x, 2)
        x = self.down[-1](x)
        for up, level in zip(self.ups, self.after, strict=True):
            x = level(torch.cat([skips.pop(), up(x)], 1))
        return self.head(x)


class Separation(nn.Module):
    """A block of Conv-TasNet: 1x1 wider, depthwise and dilated, then one 1x1 to the next block and one to the masks."""

    def __init__(self, width: int, hidden: int, size: int, dilation: int) -> None:
        super().__init__()
        padding = dilation * (size - 1) // 2
        self.body = nn.Sequential(
            nn.Conv1d(width, hidden, 1), nn.PReLU(), nn.GroupNorm(1, hidden),
            nn.Conv1d(hidden, hidden, size, padding=padding, dilation=dilation, groups=hidden), nn.PReLU(),
            nn.GroupNorm(1, hidden),
        )  # fmt: skip
        self.on, self.skip = nn.Conv1d(hidden, width, 1), nn.Conv1d(hidden, width, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self.body(x)
        return x + self.on(y), self.skip(y)


class ConvTasNet(nn.Module):
    """Luo and Mesgarani 2019, arXiv:1809.07454, its best of table II, which is not causal; two speakers.

    N = 512 filters of L = 16 samples, B = Sc = 128, H = 512, P = 3, X = 8 blocks in each of R = 3 repeats: 5.1 million
    parameters. What the last block hands on is used by nobody, so that layer has no gradients.
    """

    def __init__(self, filters: int = 512, length: int = 16, width: int = 128, hidden: int = 512, speakers: int = 2) -> None:
        super().__init__()
        self.speakers = speakers
        self.encoder = nn.Conv1d(1, filters, length, length // 2, bias=False)
        self.norm, self.bottleneck = nn.GroupNorm(1, filters), nn.Conv1d(filters, width, 1)
        self.blocks = nn.ModuleList([Separation(width, hidden, 3, 2**power) for _ in range(3) for power in range(8)])
        self.masks = nn.Sequential(nn.PReLU(), nn.Conv1d(width, speakers * filters, 1), nn.Sigmoid())
        self.decoder = nn.ConvTranspose1d(filters, 1, length, length // 2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        encoded = F.relu(self.encoder(x))
        y, skips = self.bottleneck(self.norm(encoded)), []
        for block in self.blocks:
            y, skip = block(y)
            skips.append(skip)
        masks = self.masks(torch.stack(skips).sum(0))
        batch, filters, frames = encoded.shape
        masked = encoded.unsqueeze(1) * masks.view(batch, self.speakers, filters, frames)
        return self.decoder(masked.flatten(0, 1)).view(batch, self.speakers, -1)


def dcgan() -> nn.Module:
    """Radford et al. 2015: the generator and the discriminator, which has the generator's layers the other way round."""
    generator: list[nn.Module] = []
    for into, out, stride, padding in ((100, 512, 1, 0), (512, 256, 2, 1), (256, 128, 2, 1), (128, 64, 2, 1), (64, 3, 2, 1)):
        generator += [nn.ConvTranspose2d(into, out, 4, stride, padding, bias=False), nn.ReLU()]
    discriminator: list[nn.Module] = []
    for into, out, stride, padding in ((3, 64, 2, 1), (64, 128, 2, 1), (128, 256, 2, 1), (256, 512, 2, 1), (512, 1, 1, 0)):
        discriminator += [nn.Conv2d(into, out, 4, stride, padding, bias=False), nn.LeakyReLU(0.2)]
    return nn.Sequential(nn.Sequential(*generator), nn.Sequential(*discriminator))


def upsampler() -> nn.Module:
    """Transposed layers of every kind: output padding, dilation, groups."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1), nn.ConvTranspose2d(8, 8, 3, 2, 1, output_padding=1, groups=2),
        nn.ConvTranspose2d(8, 4, 3, (3, 2), 1, output_padding=(2, 0), dilation=2), nn.ConvTranspose2d(4, 3, (5, 2)),
    )  # fmt: skip


def wavenet() -> nn.Module:
    """van den Oord et al. 2016: one dimension, dilated."""
    return nn.Sequential(nn.Conv1d(1, 32, 1), *(nn.Conv1d(32, 32, 2, dilation=2**power) for power in range(8)))


def video() -> nn.Module:
    """Factorized filters over time and space, of different sizes by dimension."""
    return nn.Sequential(
        nn.Conv3d(3, 24, (1, 7, 7), (1, 2, 2), (0, 3, 3)), nn.Conv3d(24, 24, (5, 1, 1), padding=(2, 0, 0), groups=24),
        nn.Conv3d(24, 48, (3, 3, 3), 2, 1), nn.Conv3d(48, 48, 1),
    )  # fmt: skip


class Recurrent(nn.Module):
    """One layer that is called several times."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.again = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 16, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for _ in range(12):
            x = torch.tanh(self.again(x))
        return x


class Padded(nn.Module):
    """A port from TensorFlow: what SAME pads is padded by an operation of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.next = nn.Conv2d(3, 16, 3, 2, bias=False), nn.Conv2d(16, 16, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.next(self.stem(F.pad(x, (0, 1, 0, 1))))


def resnet50() -> nn.Module:
    return ResNet((3, 4, 6, 3), bottleneck=True)


MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "resnet18": (lambda: ResNet((2, 2, 2, 2), bottleneck=False), (1, 3, 224, 224)),
    "resnet34": (lambda: ResNet((3, 4, 6, 3), bottleneck=False), (2, 3, 224, 224)),
    "resnet50": (resnet50, (1, 3, 224, 224)),
    "resnet101": (lambda: ResNet((3, 4, 23, 3), bottleneck=True), (1, 3, 224, 224)),
    "wide_resnet50": (lambda: ResNet((3, 4, 6, 3), bottleneck=True, width=2), (1, 3, 224, 224)),
    "resnext50": (lambda: ResNet((3, 4, 6, 3), bottleneck=True, groups=32, width=2), (1, 3, 224, 224)),
    "vgg16": (vgg16, (1, 3, 224, 224)),
    "alexnet": (alexnet, (4, 3, 227, 227)),
    "mobilenet_v1": (mobilenet_v1, (1, 3, 224, 224)),
    "mobilenet_v2": (mobilenet_v2, (1, 3, 224, 224)),
    "mobilenet_v3_large": (mobilenet_v3_large, (1, 3, 224, 224)),
    "mobilenet_v3_small": (mobilenet_v3_small, (1, 3, 224, 224)),
    "efficientnet_b0": (efficientnet_b0, (1, 3, 224, 224)),
    "convnext_tiny": (convnext, (1, 3, 224, 224)),
    "densenet121": (densenet121, (1, 3, 224, 224)),
    "inception": (inception, (1, 3, 79, 75)),
    "deeplab": (deeplab, (1, 3, 65, 65)),
    "unet": (UNet, (1, 3, 96, 64)),
    "unet_3d": (UNet3D, (1, 3, 16, 24, 24)),
    "conv_tasnet": (ConvTasNet, (1, 1, 32000)),
    "dcgan": (dcgan, (8, 100, 1, 1)),
    "upsampler": (upsampler, (2, 3, 15, 12)),
    "wavenet": (wavenet, (1, 1, 400)),
    "video": (video, (1, 3, 8, 56, 56)),
    "recurrent": (Recurrent, (1, 3, 20, 20)),
    "padded": (Padded, (1, 3, 33, 32)),
}
GROUPED = {
    "resnext50", "alexnet", "mobilenet_v1", "mobilenet_v2", "mobilenet_v3_large", "mobilenet_v3_small", "efficientnet_b0",
    "convnext_tiny", "conv_tasnet", "upsampler", "video",
}  # fmt: skip


def build(name: str) -> nn.Module:
    """One of them, for `convbench capture`."""
    return MODELS[name][0]()
