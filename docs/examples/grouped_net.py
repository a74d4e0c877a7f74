"""A small network in JAX with a block of 8 groups, as ResNeXt has them: the model of docs/bug-report.md."""

import jax
import jax.numpy as jnp


def convolved(name, x, w, groups=1):
    """The layer of that name, behind a ReLU."""
    with jax.named_scope(name):
        y = jax.lax.conv_general_dilated(
            x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=groups
        )
        return jax.nn.relu(y)


def loss(params, x):
    """The mean of the squares of what the last layer gives."""
    x = convolved("stem", x, params["stem"])
    x = convolved("dense", x, params["dense"])
    x = convolved("grouped", x, params["grouped"], groups=8)
    x = convolved("expand", x, params["expand"])
    return jnp.mean(jnp.square(x))


def build():
    """The function, and what it is called with: the filters as [rows, columns, channels of a group, filters], one image."""
    shapes = {"stem": (3, 3, 3, 64), "dense": (3, 3, 64, 64), "grouped": (3, 3, 8, 64), "expand": (1, 1, 64, 128)}
    return loss, ({name: jnp.zeros(shape) for name, shape in shapes.items()}, jnp.zeros((1, 32, 32, 3)))
