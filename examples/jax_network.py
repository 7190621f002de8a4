"""A network in JAX
================

Train a small convolutional network in JAX, with PReLU by fastact and by the usual formula.

The images are noise with a square in one of four corners, and the network says in which.  Both networks begin alike and
take turns.  Run ``python examples/jax_network.py --help``; ``main`` returns what it prints, so that the tests can check
it.
"""

import argparse
import itertools
import time
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

import fastact.jax

WIDTHS = (1, 16, 32, 64)  # channels before and after each convolution
SIZE, CORNERS = 32, 4

Parameters = dict[str, list[jax.Array]]


def formula(x: jax.Array, alpha: jax.Array) -> jax.Array:
    """PReLU without fastact."""
    return jnp.where(x > 0, x, alpha[:, None, None] * x)


def initial(seed: int = 0) -> Parameters:
    """Parameters of He et al. 2015: slopes start at 0.25, and the weights' scale follows from them."""
    random = np.random.default_rng(seed)
    pairs = list(itertools.pairwise(WIDTHS))
    scale = np.sqrt(2 / (1 + 0.25**2))
    return {
        "weights": [jnp.asarray(random.normal(0, scale / np.sqrt(9 * c), (d, c, 3, 3)), jnp.float32) for c, d in pairs],
        "slopes": [jnp.full(d, 0.25, jnp.float32) for _, d in pairs],
        "last": [jnp.asarray(random.normal(0, 0.1, (WIDTHS[-1] * 16, CORNERS)), jnp.float32)],
    }


def loss(prelu: Callable[..., jax.Array], parameters: Parameters, images: jax.Array, labels: jax.Array) -> jax.Array:
    """The mean cross-entropy."""
    x = images
    for weights, slopes in zip(parameters["weights"], parameters["slopes"], strict=True):
        x = prelu(jax.lax.conv(x, weights, (1, 1), "SAME"), slopes)
        x = jax.lax.reduce_window(x, 0.0, jax.lax.add, (1, 1, 2, 2), (1, 1, 2, 2), "VALID") / 4
    scores = jax.nn.log_softmax(x.reshape(len(x), -1) @ parameters["last"][0])
    return -jnp.mean(jnp.take_along_axis(scores, labels[:, None], 1))


def step(
    prelu: Callable[..., jax.Array], rate: float, parameters: Parameters, images: jax.Array, labels: jax.Array
) -> tuple[Parameters, jax.Array]:
    """One step of gradient descent: new parameters, and the loss before it."""
    value, gradient = jax.value_and_grad(partial(loss, prelu))(parameters, images, labels)
    return jax.tree.map(lambda p, g: p - rate * g, parameters, gradient), value


def batch(random: np.random.Generator, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Images and their corners."""
    labels = random.integers(0, CORNERS, number)
    images = random.normal(0, 0.5, (number, 1, SIZE, SIZE)).astype(np.float32)
    for image, label in zip(images, labels, strict=True):
        row, column = SIZE // 2 * (label // 2) + 4, SIZE // 2 * (label % 2) + 4
        image[0, row : row + 8, column : column + 8] += 1
    return images, labels


def main(arguments: list[str] | None = None) -> str:
    """Train both networks, and return the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rate", type=float, default=0.02)
    chosen = parser.parse_args(arguments)
    names = {"jnp.where": formula, "fastact.jax": fastact.jax.prelu}
    steps = {name: jax.jit(partial(step, prelu, chosen.rate)) for name, prelu in names.items()}
    state = {name: initial() for name in names}
    losses: dict[str, list[float]] = {name: [] for name in names}
    times: dict[str, list[float]] = {name: [] for name in names}
    random = np.random.default_rng(1)
    for _ in range(chosen.steps):
        images, labels = batch(random, chosen.batch)
        for name in names:
            start = time.perf_counter()
            state[name], value = jax.block_until_ready(steps[name](state[name], images, labels))
            times[name].append(1e3 * (time.perf_counter() - start))
            losses[name].append(float(value))
    lines = [f"{'PReLU by':12} {'first loss':>10} {'last loss':>10} {'ms a step':>10}"]
    for name in names:
        middle = np.median(times[name][1:] or times[name])  # the first step compiles
        lines.append(f"{name:12} {losses[name][0]:10.5f} {losses[name][-1]:10.5f} {middle:10.2f}")
    return "\n".join(lines)


if __name__ == "__main__":
    print(main())
