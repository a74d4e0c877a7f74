"""The three convolution passes in TensorFlow: each gradient by name, both through GradientTape, and one optimizer step."""

import numpy as np
import tensorflow as tf

tf.config.experimental.enable_tensor_float_32_execution(False)  # full float32 where a GPU would round the factors

rng = np.random.default_rng(0)
x = tf.constant(rng.standard_normal((1, 28, 28, 3)), tf.float32)  # input, NHWC
w = tf.Variable(rng.standard_normal((5, 5, 3, 64)), dtype=tf.float32)  # filter, HWIO
geometry = {"strides": [1, 1, 1, 1], "padding": "SAME"}

# Forward pass, then both gradients at once. x is a plain tensor: without tape.watch its gradient would be None.
with tf.GradientTape() as tape:
    tape.watch(x)
    y = tf.nn.conv2d(x, w, **geometry)
    loss = tf.reduce_mean(y**2)
dx, dw = tape.gradient(loss, [x, w])

# Each gradient alone, by its own operation. It takes the shape of its result and dy, the gradient of the loss in y.
dy = 2 * y / tf.cast(tf.size(y), y.dtype)
named_dw = tf.raw_ops.Conv2DBackpropFilter(input=x, filter_sizes=w.shape, out_backprop=dy, **geometry)
named_dx = tf.raw_ops.Conv2DBackpropInput(input_sizes=x.shape, filter=w, out_backprop=dy, **geometry)

# One step on the filter. An optimizer updates variables only, so dx has no place here.
before = w.numpy()
tf.keras.optimizers.SGD(learning_rate=0.01).apply_gradients([(dw, w)])
after_sgd = w.numpy()

# The same step by Adam, from the same filter.
w.assign(before)
tf.keras.optimizers.Adam(learning_rate=0.01, epsilon=1e-8).apply_gradients([(dw, w)])
after_adam = w.numpy()


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


print("shapes: x", x.shape, "w", w.shape, "y", y.shape, "dx", dx.shape, "dw", dw.shape)
check("Conv2DBackpropFilter == GradientTape", named_dw, dw)
check("Conv2DBackpropInput == GradientTape", named_dx, dx)
check("<x, dgrad> == <y, dy>", dot(x, named_dx), dot(y, dy))
check("<w, wgrad> == <y, dy>", dot(before, named_dw), dot(y, dy))
check("SGD: w - 0.01 * dw", after_sgd, before - 0.01 * dw)

# Keras adds epsilon before the bias correction, so in the first step it counts 1 / sqrt(1 - 0.999) times.
step = dw / (tf.abs(dw) + 1e-8 / np.sqrt(1 - 0.999))
check("Adam, first step: w - 0.01 * dw / (|dw| + eps)", after_adam, before - 0.01 * step)
