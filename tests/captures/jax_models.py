"""Models in plain JAX, with jit, checkpoint and scan as people write them. Parameters are shapes alone."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

NUMBERS = ("NHWC", "HWIO", "NHWC")
Params = dict[str, Any]


def conv(x: Any, w: Any, stride: int = 1, padding: Any = "SAME", groups: int = 1, dilation: int = 1) -> Any:
    return lax.conv_general_dilated(
        x,
        w,
        (stride, stride),
        padding,
        rhs_dilation=(dilation, dilation),
        dimension_numbers=NUMBERS,
        feature_group_count=groups,
    )


def weights(*shape: int) -> Any:
    return jax.ShapeDtypeStruct(shape, jnp.float32)


# ResNet-50: the blocks of a stage that are alike are a scan over their weights ------------------------------------------------


def _block(x: Any, p: Params, stride: int) -> Any:
    y = jax.nn.relu(conv(x, p["reduce"]))
    y = jax.nn.relu(conv(y, p["middle"], stride, [(1, 1), (1, 1)]))
    y = conv(y, p["expand"])
    return jax.nn.relu(y + (conv(x, p["short"], stride) if "short" in p else x))


@jax.jit
def resnet50(params: Params, x: Any) -> Any:
    x = jax.nn.relu(conv(x, params["stem"], 2, [(3, 3), (3, 3)]))
    x = lax.reduce_window(x, -jnp.inf, lax.max, (1, 3, 3, 1), (1, 2, 2, 1), "SAME")
    for stage in range(4):
        x = jax.checkpoint(_block, static_argnums=2)(x, params[f"first{stage}"], 2 if stage else 1)
        x, _ = lax.scan(lambda x, p: (_block(x, p, 1), None), x, params[f"rest{stage}"])
    return x.mean((1, 2)) @ params["head"]


def resnet50_params() -> Params:
    params: Params = {"stem": weights(7, 7, 3, 64), "head": weights(2048, 1000)}
    into = 64
    for stage, depth in enumerate((3, 4, 6, 3)):
        base, out, rest = 64 * 2**stage, 256 * 2**stage, depth - 1
        params[f"first{stage}"] = {
            "reduce": weights(1, 1, into, base), "middle": weights(3, 3, base, base), "expand": weights(1, 1, base, out),
            "short": weights(1, 1, into, out),
        }  # fmt: skip
        params[f"rest{stage}"] = {
            "reduce": weights(rest, 1, 1, out, base), "middle": weights(rest, 3, 3, base, base),
            "expand": weights(rest, 1, 1, base, out),
        }  # fmt: skip
        into = out
    return params


# U-Net and DCGAN, whose steps up are lax.conv_transpose -----------------------------------------------------------------------


def unet(params: list[Params], x: Any) -> Any:
    *levels, bottom = params
    skips = []
    for level in levels:
        x = jax.nn.relu(conv(jax.nn.relu(conv(x, level["down"][0])), level["down"][1]))
        skips.append(x)
        x = lax.reduce_window(x, -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    x = jax.nn.relu(conv(jax.nn.relu(conv(x, bottom["down"][0])), bottom["down"][1]))
    for level, skip in zip(levels[::-1], skips[::-1], strict=True):
        x = lax.conv_transpose(x, level["up"], (2, 2), "VALID", dimension_numbers=NUMBERS)
        x = jnp.concatenate([x, skip], -1)
        x = jax.nn.relu(conv(jax.nn.relu(conv(x, level["after"][0])), level["after"][1]))
    return conv(x, bottom["head"])


def unet_params(width: int = 16, depth: int = 4) -> list[Params]:
    widths = [width * 2**level for level in range(depth + 1)]
    params: list[Params] = []
    for into, out in zip([3, *widths], widths, strict=False):
        params.append({"down": [weights(3, 3, into, out), weights(3, 3, out, out)]})
        if len(params) <= depth:
            params[-1] |= {"up": weights(2, 2, 2 * out, out), "after": [weights(3, 3, 2 * out, out), weights(3, 3, out, out)]}
    params[-1]["head"] = weights(1, 1, width, 2)
    return params


def dcgan(params: tuple[list[Any], list[Any]], z: Any) -> Any:
    generator, discriminator = params
    x = lax.conv_transpose(z, generator[0], (1, 1), "VALID", dimension_numbers=NUMBERS)
    for w in generator[1:]:
        x = lax.conv_transpose(jax.nn.relu(x), w, (2, 2), "SAME", dimension_numbers=NUMBERS)
    for w in discriminator[:-1]:
        x = jax.nn.leaky_relu(conv(x, w, 2, [(1, 1), (1, 1)]))
    return conv(x, discriminator[-1], 1, "VALID")


def dcgan_params() -> tuple[list[Any], list[Any]]:
    up = [(100, 512), (512, 256), (256, 128), (128, 64), (64, 3)]
    down = [(3, 64), (64, 128), (128, 256), (256, 512), (512, 1)]
    return [weights(4, 4, *pair) for pair in up], [weights(4, 4, *pair) for pair in down]


MODELS: dict[str, tuple[Callable[..., Any], Callable[[], Any], tuple[int, ...]]] = {
    "resnet50": (resnet50, resnet50_params, (1, 224, 224, 3)),
    "unet": (unet, unet_params, (1, 96, 64, 3)),
    "dcgan": (dcgan, dcgan_params, (8, 1, 1, 100)),
}


def build(name: str) -> tuple[Callable[..., Any], tuple[Any, Any]]:
    """One of them and what it is called with, for `convbench capture --framework jax`."""
    function, params, shape = MODELS[name]
    return function, (params(), weights(*shape))
