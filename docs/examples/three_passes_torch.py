"""The three convolution passes in PyTorch: each gradient by name, both through autograd, and one optimizer step."""

import numpy as np
import torch

rng = np.random.default_rng(0)
x_nhwc = torch.tensor(rng.standard_normal((1, 28, 28, 3)), dtype=torch.float32)
w_hwio = torch.tensor(rng.standard_normal((5, 5, 3, 64)), dtype=torch.float32)

# The same numbers in PyTorch's order of dimensions: x is NCHW, and the filter OIHW.
x = x_nhwc.permute(0, 3, 1, 2).contiguous().requires_grad_()
w = w_hwio.permute(3, 2, 0, 1).contiguous().requires_grad_()

# Forward pass, then both gradients at once. SAME at stride 1 with a 5x5 filter is two rows and columns on each side.
y = torch.nn.functional.conv2d(x, w, stride=1, padding=2)
loss = (y**2).mean()
dx, dw = torch.autograd.grad(loss, [x, w])

# Each gradient alone. One operation computes both; output_mask says which of (dx, dw, db) are wanted.
x, y, before = x.detach(), y.detach(), w.detach().clone()
dy = 2 * y / y.numel()


def backward(mask):
    """What aten.convolution_backward returns for a mask: (dx, dw, db), None for what was not asked for."""
    return torch.ops.aten.convolution_backward(
        dy, x, before, bias_sizes=None, stride=[1, 1], padding=[2, 2], dilation=[1, 1],
        transposed=False, output_padding=[0, 0], groups=1, output_mask=mask,
    )  # fmt: skip


named_dx, no_dw, _ = backward([True, False, False])
no_dx, named_dw, _ = backward([False, True, False])

# One step on the filter: an optimizer is given the filter only. Then the same step by Adam, from the same filter.
w.grad = dw
torch.optim.SGD([w], lr=0.01).step()
after_sgd = w.detach().clone()

with torch.no_grad():
    w.copy_(before)
torch.optim.Adam([w], lr=0.01, eps=1e-8).step()
after_adam = w.detach().clone()


def dot(a, b):
    """Inner product of two tensors of one shape, in float64."""
    return torch.sum(a.double() * b.double())


def check(claim, got, want):
    """Print the largest relative error; stop where it is more than float32 rounding explains."""
    error = ((got.double() - want.double()).abs().max() / want.double().abs().max()).item()
    print(f"{'ok  ' if error < 1e-5 else 'FAIL'} {claim}: relative error {error:.1e}")
    if not error < 1e-5:
        raise SystemExit(1)


print("shapes: x", *x.shape, "w", *w.shape, "y", *y.shape, "dx", *dx.shape, "dw", *dw.shape)
print("not asked for:", no_dw, no_dx)
check("convolution_backward, mask dw == autograd", named_dw, dw)
check("convolution_backward, mask dx == autograd", named_dx, dx)
check("<x, dgrad> == <y, dy>", dot(x, named_dx), dot(y, dy))
check("<w, wgrad> == <y, dy>", dot(before, named_dw), dot(y, dy))
check("SGD: w - 0.01 * dw", after_sgd, before - 0.01 * dw)
check("Adam, first step: w - 0.01 * dw / (|dw| + eps)", after_adam, before - 0.01 * dw / (dw.abs() + 1e-8))
