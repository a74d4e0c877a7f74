"""The three convolution passes in JAX: each gradient alone, both through jax.grad, and one optimizer step."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

rng = np.random.default_rng(0)
x = jnp.asarray(rng.standard_normal((1, 28, 28, 3)), jnp.float32)  # input, NHWC
w = jnp.asarray(rng.standard_normal((5, 5, 3, 64)), jnp.float32)  # filter, HWIO


def conv(x, w):
    """The forward pass. precision="highest" keeps full float32 where a GPU would round the factors."""
    return lax.conv_general_dilated(
        x, w, window_strides=(1, 1), padding="SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"), precision="highest"
    )


# Forward pass, then both gradients at once: argnums asks for the gradient in x and in w.
y = jax.jit(conv)(x, w)
dx, dw = jax.jit(jax.grad(lambda x, w: jnp.mean(conv(x, w) ** 2), argnums=(0, 1)))(x, w)
dy = 2 * y / y.size

# Each gradient alone. JAX has no named operation for them: fix one operand, and conv is linear in the other; the
# transpose of that linear map is the pass. Only the shape and dtype of the free operand are used.
dgrad = jax.jit(lambda w, dy: jax.linear_transpose(lambda free: conv(free, w), x)(dy)[0])
wgrad = jax.jit(lambda x, dy: jax.linear_transpose(lambda free: conv(x, free), w)(dy)[0])
named_dx, named_dw = dgrad(w, dy), wgrad(x, dy)


@jax.jit
def sgd(w, dw):
    """One step of plain gradient descent."""
    return w - 0.01 * dw


@jax.jit
def adam(w, dw, m, v, t):
    """One step of Adam: the filter and the two slots after step t, counted from 1."""
    m, v = 0.9 * m + 0.1 * dw, 0.999 * v + 0.001 * dw**2
    return w - 0.01 * (m / (1 - 0.9**t)) / (jnp.sqrt(v / (1 - 0.999**t)) + 1e-8), m, v


# Arrays are immutable: the step returns a new filter, and the old one stays.
after_sgd = sgd(w, dw)
after_adam, _, _ = adam(w, dw, jnp.zeros_like(w), jnp.zeros_like(w), 1)


def dot(a, b):
    """Inner product of two arrays of one shape, in float64."""
    return np.vdot(np.asarray(a, np.float64), np.asarray(b, np.float64))


def check(claim, got, want):
    """Print the largest relative error; stop where it is more than float32 rounding explains."""
    got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
    error = np.abs(got - want).max() / np.abs(want).max()
    print(f"{'ok  ' if error < 1e-5 else 'FAIL'} {claim}: relative error {error:.1e}")
    if not error < 1e-5:
        raise SystemExit(1)


def convolutions(function, *operands):
    """How many convolutions the compiled function holds."""
    return function.lower(*operands).compile().as_text().count(" convolution(")


print("shapes: x", x.shape, "w", w.shape, "y", y.shape, "dx", dx.shape, "dw", dw.shape)
print("convolutions compiled: dgrad", convolutions(dgrad, w, dy), "wgrad", convolutions(wgrad, x, dy))
check("linear_transpose in w == jax.grad", named_dw, dw)
check("linear_transpose in x == jax.grad", named_dx, dx)
check("<x, dgrad> == <y, dy>", dot(x, named_dx), dot(y, dy))
check("<w, wgrad> == <y, dy>", dot(w, named_dw), dot(y, dy))
check("SGD: w - 0.01 * dw", after_sgd, np.asarray(w) - 0.01 * np.asarray(dw))
check("Adam, first step: w - 0.01 * dw / (|dw| + eps)", after_adam, w - 0.01 * dw / (jnp.abs(dw) + 1e-8))
