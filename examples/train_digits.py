"""A network on scikit-learn's digits, with ReLU and with PReLU
============================================================

Train a small network on scikit-learn's digits with ReLU and with PReLU, side by side on the same seeds.

Plain NumPy does the matrix products; every activation, forward and backward, goes through fastact.
In fastact's names, x is what enters an activation and y what leaves it; dx and dy are the loss's gradients there.
The recipe is He et al. 2015 (arXiv 1502.01852): slopes start at 0.25, learn with momentum and are never decayed.
Run ``python examples/train_digits.py --help``; ``main`` returns what it prints, so that the tests can check it.
"""

import argparse
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from matplotlib import style
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import fastact

FIRST_SLOPE = 0.25
MOMENTUM = 0.9
WEIGHT_DECAY = 1e-4
BATCH = 32
NAMES = {"relu": "ReLU", "prelu": "PReLU"}
COLORS = {"relu": "#D55E00", "prelu": "#0072B2"}


class Network:
    """Fully connected layers with an activation between them; the last layer gives the logits.

    Parameters
    ----------
    sizes : sequence of int
        Inputs, hidden units of each layer, classes.
    activation : {"relu", "prelu"}
        PReLU has one learned slope per hidden unit.
    rng : numpy.random.Generator
        Both activations draw the same numbers from the same seed and scale them by their own He factor.
    dtype : dtype, default float32
        float64 is for checking gradients.
    """

    def __init__(self, sizes, activation, rng, dtype=np.float32):
        self.activation = activation
        slope = FIRST_SLOPE if activation == "prelu" else 0.0
        self.weights, self.biases, self.slopes = [], [], []
        for n, units in pairwise(sizes):
            std = np.sqrt(2 / ((1 + slope**2) * n))
            self.weights.append((std * rng.standard_normal((n, units))).astype(dtype))
            self.biases.append(np.zeros(units, dtype))
        if activation == "prelu":
            self.slopes = [np.full(units, FIRST_SLOPE, dtype) for units in sizes[1:-1]]

    def parameters(self):
        """Every learned array, in the order of `backward`'s gradients: weights, biases, slopes."""
        return self.weights + self.biases + self.slopes

    def activate(self, x, layer, out=None):
        """Apply the activation behind `layer` to x of shape (batch, units)."""
        if self.activation == "relu":
            return fastact.relu(x, out=out)
        # The slopes are one per unit, and the units are axis 1 of (batch, units).
        return fastact.prelu(x, self.slopes[layer], channel_axis=1, out=out)

    def forward(self, images):
        """Return each layer's input, each activation's x, and the logits: what `backward` needs."""
        inputs, xs = [images], []
        for layer in range(len(self.weights) - 1):
            xs.append(inputs[-1] @ self.weights[layer] + self.biases[layer])
            inputs.append(self.activate(xs[-1], layer))  # not in place: the backward needs x
        return inputs, xs, inputs[-1] @ self.weights[-1] + self.biases[-1]

    def predict(self, images):
        """Return the logits only, with every activation in place."""
        y = images
        for layer in range(len(self.weights) - 1):
            x = y @ self.weights[layer] + self.biases[layer]
            y = self.activate(x, layer, out=x)
        return y @ self.weights[-1] + self.biases[-1]

    def backward(self, dlogits, inputs, xs):
        """Return the loss's gradient for every array of `parameters`."""
        dweights, dbiases = [None] * len(self.weights), [None] * len(self.biases)
        dslopes = [None] * len(self.slopes)
        dx = dlogits
        for layer in reversed(range(len(self.weights))):
            dweights[layer] = inputs[layer].T @ dx
            dbiases[layer] = dx.sum(axis=0)
            if layer == 0:
                break  # nobody needs the gradient of the images
            dy = dx @ self.weights[layer].T
            x = xs[layer - 1]
            # dy is ours and not needed again, so dx takes its place.
            if self.activation == "relu":
                dx = fastact.relu_backward(dy, x, out=dy)
            else:
                dx, dslopes[layer - 1] = fastact.prelu_backward(
                    dy, x, self.slopes[layer - 1], channel_axis=1, out=(dy, None)
                )
        return dweights + dbiases + dslopes


def cross_entropy(logits, labels):
    """Return the mean softmax cross-entropy and its gradient for the logits."""
    rows = np.arange(len(labels))
    log_p = logits - logits.max(axis=1, keepdims=True)
    log_p -= np.log(np.exp(log_p).sum(axis=1, keepdims=True))
    dlogits = np.exp(log_p)
    dlogits[rows, labels] -= 1
    return -log_p[rows, labels].mean(), dlogits / len(labels)


@dataclass
class Run:
    """One trained network: its curves (one value per epoch) and what became of its units.

    Attributes
    ----------
    loss : ndarray
        Mean training loss of each epoch.
    accuracy : ndarray
        Test accuracy after each epoch.
    dead : float
        Share of hidden units whose x is <= 0 for every training image.
    slopes : list of ndarray
        The learned slopes of each hidden layer; empty for ReLU.
    """

    loss: np.ndarray
    accuracy: np.ndarray
    dead: float
    slopes: list


def load_data():
    """Return the digits (8x8 pixels, 10 classes), centred and scaled, split in the same way every time."""
    images, labels = load_digits(return_X_y=True)
    train, test, train_labels, test_labels = train_test_split(
        images.astype(np.float32), labels, test_size=0.2, stratify=labels, random_state=0
    )
    mean, std = train.mean(axis=0), train.std()
    return (train - mean) / std, train_labels, (test - mean) / std, test_labels


def dead_share(network, images):
    """Return the share of hidden units whose x is <= 0 for every image.

    A dead ReLU unit gives 0 and gets no gradient, so it stays dead. A PReLU unit in the same state is still a
    linear unit and passes the gradient, multiplied by its slope, as long as the slope is not 0.
    """
    _, xs, _ = network.forward(images)
    return float(np.mean(np.concatenate([(x <= 0).all(axis=0) for x in xs])))


def train(activation, data, hidden, epochs, seed, lr):
    """Train one network by minibatch SGD with momentum and return its `Run`."""
    images, labels, test_images, test_labels = data
    rng = np.random.default_rng(seed)
    network = Network([images.shape[1], *hidden, labels.max() + 1], activation, rng)
    parameters = network.parameters()
    velocities = [np.zeros_like(p) for p in parameters]
    losses, accuracies = [], []
    for _ in range(epochs):
        order = rng.permutation(len(images))
        total = 0.0
        for start in range(0, len(order), BATCH):
            batch = order[start : start + BATCH]
            inputs, xs, logits = network.forward(images[batch])
            loss, dlogits = cross_entropy(logits, labels[batch])
            total += float(loss) * len(batch)
            gradients = network.backward(dlogits, inputs, xs)
            for i, (p, velocity, gradient) in enumerate(zip(parameters, velocities, gradients, strict=True)):
                if i < len(network.weights):  # the weights decay; biases and slopes do not
                    gradient += WEIGHT_DECAY * p
                velocity *= MOMENTUM
                velocity -= lr * gradient
                p += velocity
        if not np.isfinite(total):
            raise SystemExit(f"{NAMES[activation]} diverged at learning rate {lr}, seed {seed}: try a smaller --lr")
        losses.append(total / len(order))
        accuracies.append(np.mean(network.predict(test_images).argmax(axis=1) == test_labels))
    return Run(np.array(losses), np.array(accuracies), dead_share(network, images), network.slopes)


def slopes_by_layer(runs):
    """Return one array per hidden layer: the learned slopes of all runs together."""
    return [np.concatenate(layer) for layer in zip(*(run.slopes for run in runs), strict=True)]


def print_results(runs):
    """Print a row for each activation and a row for the slopes of each layer."""
    print(f"{'':8}{'test accuracy':>18}{'dead units':>18}   (mean ± standard deviation over the seeds)")
    for activation, of_seeds in runs.items():
        accuracy = 100 * np.array([run.accuracy[-1] for run in of_seeds])
        dead = 100 * np.array([run.dead for run in of_seeds])
        cells = [f"{v.mean():.2f} ± {v.std():.2f} %" for v in (accuracy, dead)]
        print(f"{NAMES[activation]:8}{cells[0]:>18}{cells[1]:>18}")
    print("A dead unit has x <= 0 for every training image. In that state ReLU passes no gradient; PReLU does.")
    print(f"\n{'PReLU slopes':14}{'mean':>8}{'min':>8}{'max':>8}   (all start at {FIRST_SLOPE})")
    for i, slopes in enumerate(slopes_by_layer(runs["prelu"]), start=1):
        print(f"{f'layer {i}':14}{slopes.mean():8.3f}{slopes.min():8.3f}{slopes.max():8.3f}")


@style.context("default")  # whatever the user's matplotlibrc says
def save_plot(runs, path):
    """Save the curves of both activations and the histogram of the learned slopes as a PNG."""
    figure = Figure(figsize=(13, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    for_curves, for_slopes = figure.subfigures(1, 2, width_ratios=[2, 1])

    left, middle = for_curves.subplots(1, 2)
    for activation, of_seeds in runs.items():
        style = {"color": COLORS[activation], "lw": 2, "label": NAMES[activation]}
        for axes, curves in (
            (left, np.array([run.loss for run in of_seeds])),
            (middle, np.array([run.accuracy for run in of_seeds])),
        ):
            epoch = np.arange(1, curves.shape[1] + 1)
            axes.fill_between(epoch, curves.min(axis=0), curves.max(axis=0), color=style["color"], alpha=0.15, lw=0)
            axes.plot(epoch, curves.mean(axis=0), marker="o" if len(epoch) == 1 else None, **style)
    left.set(title="Training loss", xlabel="epoch", ylabel="cross-entropy (log scale)", yscale="log")
    left.legend(frameon=False, title="mean and range of the seeds")
    middle.set(title="Test accuracy", xlabel="epoch")
    middle.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=1))

    layers = slopes_by_layer(runs["prelu"])
    bins = np.histogram_bin_edges(np.concatenate(layers), 40)
    rows = for_slopes.subplots(len(layers), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
    for i, (axes, slopes) in enumerate(zip(rows, layers, strict=True), start=1):
        axes.hist(slopes, bins, color=COLORS["prelu"], alpha=0.75)
        axes.axvline(FIRST_SLOPE, color="0.2", ls="--", lw=1.2)
        axes.text(0.99, 0.9, f"layer {i}", transform=axes.transAxes, ha="right", va="top")
    rows[0].set_title(f"Learned PReLU slopes (start: {FIRST_SLOPE})")
    rows[-1].set_xlabel("slope")
    for_slopes.supylabel("units, all seeds", fontsize="medium")

    for axes in (left, middle, *rows):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="0.9", lw=0.8)
        axes.set_axisbelow(True)
    figure.savefig(path, dpi=120, format="png")


def parse_arguments(argv):
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--seeds", type=int, default=5, help="number of seeds; both activations use the same ones")
    parser.add_argument("--hidden", default="64,64,64,64", help="hidden units of each layer (default %(default)s)")
    parser.add_argument("--lr", type=float, default=0.02, help="learning rate (default %(default)s)")
    parser.add_argument("--backend", choices=fastact.available_backends(), default=fastact.get_backend())
    parser.add_argument("--plot", type=Path, default=Path("train_digits.png"), metavar="FILE")
    arguments = parser.parse_args(argv)
    try:
        arguments.hidden = [int(units) for units in arguments.hidden.split(",")]
    except ValueError:
        parser.error(f"--hidden takes whole numbers with commas between them, not {arguments.hidden!r}")
    if min(arguments.epochs, arguments.seeds, *arguments.hidden) < 1:
        parser.error("--epochs, --seeds and --hidden must be at least 1")
    return arguments


def main(argv=None):
    """Train both networks on every seed, print the comparison and save the plot.

    Returns
    -------
    dict
        "relu" and "prelu", each a list with one `Run` per seed.
    """
    args = parse_arguments(argv)
    data = load_data()
    print(
        f"{len(data[0])} training and {len(data[2])} test images, hidden units {args.hidden}, "
        f"{args.epochs} epochs, {args.seeds} seeds, backend {args.backend}\n"
    )
    with fastact.use_backend(args.backend):
        runs = {
            activation: [train(activation, data, args.hidden, args.epochs, seed, args.lr) for seed in range(args.seeds)]
            for activation in NAMES
        }
    print_results(runs)
    save_plot(runs, args.plot)
    print(f"\nplot: {args.plot}")
    return runs


if __name__ == "__main__":
    main()
