"""Training in place, and its peak memory
======================================

Train one network on scikit-learn's digits four times, in the usual ways and in place, and print the peak memory.

The network and the loss are those of `train_digits.py`, next to this file.  Leaky ReLU is trained with x kept for the
backward, then in place with one bit kept for each element.  PReLU needs x for its slopes' gradient, so only its
backward is in place: dx takes dy's memory in the pass that adds up dalpha.  The arithmetic is the same in both ways.

Each way runs in a process of its own.  The peak is the system's count of that process's memory (Linux only), beyond
what it has when the network and the images are there.  FASTACT_BUFFER_LIMIT=0 holds for all: else fastact would keep
the memory of dropped results for its next ones, and NumPy's matrix products cannot use that.
Run ``python examples/train_in_place.py --help``; ``main`` returns what it prints.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from train_digits import MOMENTUM, Network, cross_entropy, load_data

import fastact

SLOPE = 0.01  # of leaky ReLU
STATUS = Path("/proc/self/status")


class LeakyReLU:
    """The usual way: x is kept, and y and dx are new arrays."""

    def forward(self, x):
        """Return y."""
        self.x = x
        return fastact.leaky_relu(x, SLOPE)

    def backward(self, dy):
        """Return dx, and let x go."""
        x, self.x = self.x, None
        return fastact.leaky_relu_backward(dy, x, SLOPE)


class LeakyReLUInPlace:
    """y in x's memory, dx in dy's; a mask is kept."""

    def forward(self, x):
        """Return y."""
        y, self.mask = fastact.leaky_relu(x, SLOPE, return_mask=True, out=(x, None))
        return y

    def backward(self, dy):
        """Return dx."""
        return fastact.leaky_relu_backward(dy, alpha=SLOPE, mask=self.mask, out=dy)


class PReLU:
    """The usual way, with a slope for each unit, which are learned."""

    def __init__(self, slopes):
        self.slopes = slopes

    def forward(self, x):
        """Return y."""
        self.x = x
        return fastact.prelu(x, self.slopes)

    def backward(self, dy):
        """Return dx, let x go, and keep the slopes' gradient."""
        x, self.x = self.x, None
        dx, self.dslopes = fastact.prelu_backward(dy, x, self.slopes)
        return dx


class PReLUInPlace(PReLU):
    """dx in dy's memory; x and y are both kept."""

    def backward(self, dy):
        """Return dx, let x go, and keep the slopes' gradient."""
        x, self.x = self.x, None
        dx, self.dslopes = fastact.prelu_backward(dy, x, self.slopes, out=(dy, None))
        return dx


WAYS = {
    "leaky ReLU": LeakyReLU,
    "leaky ReLU, in place": LeakyReLUInPlace,
    "PReLU": PReLU,
    "PReLU, dx over dy": PReLUInPlace,
}


def linear(inputs, weights, biases):
    """Return inputs @ weights + biases, in one new array."""
    x = inputs @ weights
    x += biases
    return x


def step(network, layers, images, labels):
    """One forward and backward pass; return the loss and the gradients in the order of `network.parameters()`.

    No array is held longer than it is needed, by a name or a list.
    """
    inputs = [images]
    for layer, weights, biases in zip(layers, network.weights, network.biases, strict=False):
        inputs.append(layer.forward(linear(inputs[-1], weights, biases)))
    loss, dx = cross_entropy(linear(inputs[-1], network.weights[-1], network.biases[-1]), labels)
    dweights, dbiases = [], []
    for layer, weights in zip([None, *layers][::-1], network.weights[::-1], strict=True):
        dweights.append(inputs.pop().T @ dx)
        dbiases.append(dx.sum(axis=0))
        if layer is not None:  # nobody needs the gradient of the images
            dx = layer.backward(dx @ weights.T)
    return loss, dweights[::-1] + dbiases[::-1] + [layer.dslopes for layer in layers if hasattr(layer, "slopes")]


def train(way, hidden, copies, steps, lr):
    """Train by gradient descent with momentum on all images at once.

    Returns
    -------
    loss : float
        Of the last step.
    peak : int or None
        Bytes beyond those of the images and the network; None where the system does not say.
    """
    images, labels, *_ = load_data()
    rng = np.random.default_rng(0)
    images, labels = np.repeat(images, copies, axis=0), np.repeat(labels, copies)
    images += rng.normal(scale=0.2, size=images.shape).astype(np.float32)  # each copy with noise of its own
    learned = WAYS[way] in (PReLU, PReLUInPlace)
    network = Network([images.shape[1], *hidden, labels.max() + 1], "prelu" if learned else "relu", rng)
    layers = [WAYS[way](*slopes) for slopes in (zip(network.slopes) if learned else [()] * len(hidden))]
    velocities = [np.zeros_like(p) for p in network.parameters()]
    step(network, layers, images[:8], labels[:8])  # whatever is loaded, compiled or started once is there now
    before = peak_memory()
    for _ in range(steps):
        loss, gradients = step(network, layers, images, labels)
        for parameter, velocity, gradient in zip(network.parameters(), velocities, gradients, strict=True):
            velocity *= MOMENTUM
            velocity -= lr * gradient
            parameter += velocity
    after = peak_memory()
    return float(loss), None if after is None else after - before


def peak_memory():
    """The most bytes that this process has had in memory so far, or None where the system does not say."""
    lines = STATUS.read_text().splitlines() if STATUS.exists() else []
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM")), None)


def sizes(text):
    """Whole numbers with commas between them."""
    return [int(units) for units in text.split(",")]


def in_a_new_process(way, options):
    """`train` where nothing has run before, because a process's peak only grows."""
    command = [sys.executable, __file__, "--way", way, *options]
    environment = os.environ | {"FASTACT_BUFFER_LIMIT": "0"}
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout
    loss, peak = printed.split()
    return float(loss), None if peak == "None" else int(peak)


def main(argv=None):
    """Train in each way, and print a row for each.

    Returns
    -------
    dict
        For each way the loss of the last step, and the peak in bytes or None.
    """
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--hidden", type=sizes, default="256,256", help="hidden units of each layer (default %(default)s)"
    )
    parser.add_argument("--copies", type=int, default=8, help="of each image, with noise (default %(default)s)")
    parser.add_argument("--steps", type=int, default=30, help="each on all images at once (default %(default)s)")
    parser.add_argument("--lr", type=float, default=0.1, help="learning rate (default %(default)s)")
    parser.add_argument("--way", choices=WAYS, help="only this one, in this process: prints its loss and its peak")
    options = sys.argv[1:] if argv is None else argv
    args = parser.parse_args(options)
    if args.way:
        found = {args.way: train(args.way, args.hidden, args.copies, args.steps, args.lr)}
        print(*found[args.way])
        return found
    print(f"{'':22}{'loss':>10}{'peak memory':>14}", flush=True)
    found = {}
    for way in WAYS:
        loss, peak = found[way] = in_a_new_process(way, options)
        print(f"{way:22}{loss:10.6f}{'unknown' if peak is None else f'{peak / 1e6:.0f} MB':>14}", flush=True)
    return found


if __name__ == "__main__":
    main()
