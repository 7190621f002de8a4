"""The functions and their gradients, as fastact computes them."""

import matplotlib.pyplot as plt
import numpy as np

import fastact

ALPHA = 0.25
x = np.linspace(-2, 2, 401)
at_zero = np.flatnonzero(x == 0)  # the gradients jump there, and the point shows which value they take
dy = np.ones_like(x)

rows = {
    "relu": (fastact.relu(x), fastact.relu_backward(dy, x)),
    f"prelu, alpha = {ALPHA}": (fastact.prelu(x, ALPHA), fastact.prelu_backward(dy, x, ALPHA)[0]),
}
# The gradient by alpha is a sum over elements: with one element for each slope, it shows the terms.
terms = fastact.prelu_backward(dy[:, None], x[:, None], np.full((x.size, 1), ALPHA))[1][:, 0]

figure, axes = plt.subplots(1, 3, figsize=(9, 3), sharex=True, layout="constrained")
for name, (y, dx) in rows.items():
    axes[0].plot(x, y, label=name)
    (line,) = axes[1].plot(x, np.where(x == 0, np.nan, dx), label=name)
    axes[1].plot(0, dx[at_zero], "o", color=line.get_color())
axes[2].plot(x, terms, color="C1", label="prelu")
for axis, title in zip(axes, ("y", "dx, for dy = 1", "terms of dalpha, for dy = 1"), strict=True):
    axis.set(title=title, xlabel="x")
    axis.grid(alpha=0.3)
    axis.legend()
