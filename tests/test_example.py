"""The digits examples.  `train_digits.py`: it learns, it goes through fastact, and its gradients are right.

The example is loaded from its file, as a user runs it; without scikit-learn or matplotlib this file is skipped.
One short training run is shared by the tests that look at results; each backend then repeats an epoch of it.
The calls of fastact are counted, so an example that quietly computed an activation in NumPy would fail.
The gradient of the whole network, slopes included, is compared with central differences in float64.
`train_in_place.py` is held to it: the same gradients in each of its ways, the same losses, and less memory in place.
"""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

import fastact

pytest.importorskip("sklearn")
matplotlib = pytest.importorskip("matplotlib")

EXAMPLES = Path(__file__).parents[1] / "examples"
HIDDEN = [64, 64]
ARGUMENTS = ["--seeds", "2", "--hidden", "64,64"]


def load(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def example():
    return load("train_digits")


@pytest.fixture(scope="module")
def in_place():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(EXAMPLES)  # it imports train_digits
        return load("train_in_place")


@pytest.fixture(scope="module")
def trained(example, tmp_path_factory):
    """Return the runs and the plot of five epochs."""
    plot = tmp_path_factory.mktemp("example") / "digits.png"
    return example.main([*ARGUMENTS, "--epochs", "5", "--plot", str(plot)]), plot


def test_both_learn(trained):
    runs, _ = trained
    for activation in ("relu", "prelu"):
        assert len(runs[activation]) == 2
        for run in runs[activation]:
            assert run.accuracy[-1] > 0.93
            assert run.loss[-1] < run.loss[0] / 3
            assert 0 <= run.dead < 0.2


def test_slopes_are_learned(trained):
    runs, _ = trained
    for run in runs["prelu"]:
        assert [s.shape for s in run.slopes] == [(units,) for units in HIDDEN]
        for slopes in run.slopes:
            assert slopes.dtype == np.float32
            assert np.isfinite(slopes).all()
            assert np.mean(slopes != 0.25) > 0.9
            assert np.ptp(slopes) > 0.1  # each unit has learned its own
    assert all(run.slopes == [] for run in runs["relu"])


def test_plot_is_a_png(trained):
    _, plot = trained
    content = plot.read_bytes()
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    assert len(content) > 20_000


def test_plot_is_drawn_with_matplotlibs_own_defaults(example, trained, tmp_path):
    """Whatever a user's matplotlibrc says."""
    runs, plot = trained
    with matplotlib.rc_context({"text.usetex": True, "savefig.dpi": 30, "font.size": 40}):
        example.save_plot(runs, tmp_path / "odd.png")
    assert (tmp_path / "odd.png").read_bytes() == plot.read_bytes()


def test_prints_a_row_each(example, tmp_path, capsys):
    example.main(["--epochs", "1", "--seeds", "1", "--hidden", "12,8", "--plot", str(tmp_path / "p.png")])
    starts = [line[:8].strip() for line in capsys.readouterr().out.splitlines()]
    for row in ("ReLU", "PReLU", "layer 1", "layer 2"):
        assert starts.count(row) == 1


@pytest.mark.parametrize("arguments", [["--hidden", "64,x"], ["--hidden", "0"], ["--epochs", "0"], ["--seeds", "0"]])
def test_bad_arguments_are_refused(example, arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        example.main(arguments)
    assert stop.value.code == 2
    assert arguments[0] in capsys.readouterr().err


@pytest.mark.parametrize("backend", fastact.available_backends())
def test_every_backend_trains_the_same(example, trained, backend, tmp_path, monkeypatch):
    """One epoch repeats the first one of the default backend, with every activation a call of fastact."""
    calls = {name: [] for name in ("relu", "relu_backward", "prelu", "prelu_backward")}

    def counted(function, calls):
        def wrapper(*args, **options):
            calls.append((fastact.get_backend(), options.get("channel_axis")))
            return function(*args, **options)

        return wrapper

    for name in calls:
        monkeypatch.setattr(fastact, name, counted(getattr(fastact, name), calls[name]))
    before = fastact.get_backend()
    runs = example.main([*ARGUMENTS, "--epochs", "1", "--backend", backend, "--plot", str(tmp_path / "p.png")])
    assert fastact.get_backend() == before

    batches = -(-len(example.load_data()[0]) // example.BATCH)
    backward = 2 * len(HIDDEN) * batches  # seeds, layers, batches
    forward = backward + 2 * len(HIDDEN) * 2  # and once each for the accuracy and for the dead units
    assert calls == {
        "relu": [(backend, None)] * forward,
        "relu_backward": [(backend, None)] * backward,
        "prelu": [(backend, 1)] * forward,
        "prelu_backward": [(backend, 1)] * backward,
    }
    # y and dx have the same bits everywhere; dalpha may round differently, once in a long while, on the numpy backend.
    for activation in ("relu", "prelu"):
        for run, first in zip(runs[activation], trained[0][activation], strict=True):
            np.testing.assert_allclose(run.loss[0], first.loss[0], rtol=1e-5)
            assert abs(run.accuracy[0] - first.accuracy[0]) < 0.01


@pytest.mark.parametrize("backend", fastact.available_backends())
@pytest.mark.parametrize("activation", ["relu", "prelu"])
def test_gradient_by_finite_differences(example, activation, backend):
    """Every weight, bias and slope of a small float64 network; no x is close enough to 0 for a step to cross it."""
    rng = np.random.default_rng(5)
    network = example.Network([6, 5, 4, 3], activation, rng, dtype=np.float64)
    for slopes in network.slopes:
        slopes[:] = rng.uniform(-0.2, 0.6, slopes.shape)
    images, labels = rng.standard_normal((7, 6)), rng.integers(3, size=7)
    step = 1e-6
    with fastact.use_backend(backend):
        inputs, xs, logits = network.forward(images)
        assert min(np.abs(x).min() for x in xs) > 100 * step
        np.testing.assert_array_equal(network.predict(images), logits)
        gradients = network.backward(example.cross_entropy(logits, labels)[1], inputs, xs)
        assert len(gradients) == (8 if activation == "prelu" else 6)
        for parameter, gradient in zip(network.parameters(), gradients, strict=True):
            assert gradient.shape == parameter.shape
            assert gradient.dtype == np.float64
            numeric = np.empty_like(parameter)
            for index in np.ndindex(parameter.shape):
                kept, losses = parameter[index], []
                for parameter[index] in (kept + step, kept - step):
                    losses.append(example.cross_entropy(network.predict(images), labels)[0])
                parameter[index] = kept
                numeric[index] = (losses[0] - losses[1]) / (2 * step)
            np.testing.assert_allclose(gradient, numeric, rtol=1e-6, atol=1e-8)
            assert np.abs(gradient).max() > 1e-3


def test_initialisation_is_he_with_the_slope_in_it(example):
    relu, prelu = (example.Network([400, 300, 10], a, np.random.default_rng(0)) for a in ("relu", "prelu"))
    assert relu.weights[0].dtype == prelu.slopes[0].dtype == np.float32
    assert relu.weights[0].std() == pytest.approx(np.sqrt(2 / 400), rel=0.01)
    assert prelu.weights[0].std() == pytest.approx(np.sqrt(2 / ((1 + 0.25**2) * 400)), rel=0.01)
    # The same draws, so that a seed means the same start for both.
    np.testing.assert_allclose(relu.weights[0], prelu.weights[0] * np.sqrt(1 + 0.25**2), rtol=1e-5)
    assert (prelu.slopes[0] == 0.25).all()


def test_only_the_weights_decay(example, monkeypatch):
    """With gradients of zero, an epoch shrinks the weights and leaves biases and slopes where they were."""
    networks = []

    class NoGradient(example.Network):
        def __init__(self, *args):
            super().__init__(*args)
            self.start = [p.copy() for p in self.parameters()]
            networks.append(self)

        def backward(self, *_):
            return [np.zeros_like(p) for p in self.parameters()]

    monkeypatch.setattr(example, "Network", NoGradient)
    example.train("prelu", example.load_data(), HIDDEN, epochs=1, seed=0, lr=0.02)
    (network,) = networks
    weights = len(network.weights)
    for after, before in zip(network.parameters()[:weights], network.start[:weights], strict=True):
        assert np.linalg.norm(after) < np.linalg.norm(before)
    for after, before in zip(network.parameters()[weights:], network.start[weights:], strict=True):
        np.testing.assert_array_equal(after, before)


@pytest.mark.parametrize("activation", ["relu", "prelu"])
def test_dead_share_counts_units_off_for_every_image(example, activation):
    network = example.Network([6, 8, 4, 3], activation, np.random.default_rng(0))
    images = np.random.default_rng(1).standard_normal((500, 6)).astype(np.float32)
    assert example.dead_share(network, images) == 0
    network.biases[0][:2] = -1000  # two of twelve hidden units never see an x above 0
    network.weights[1][:2] = 0  # and the next layer does not look at them
    assert example.dead_share(network, images) == pytest.approx(2 / 12)


def test_divergence_is_said(example):
    with np.errstate(all="ignore"), pytest.raises(SystemExit, match=r"diverged .* smaller --lr"):
        example.train("prelu", example.load_data(), HIDDEN, epochs=3, seed=0, lr=1e6)


@pytest.mark.parametrize("backend", fastact.available_backends())
@pytest.mark.parametrize("way", ["leaky ReLU", "leaky ReLU, in place", "PReLU", "PReLU, dx over dy"])
def test_in_place_has_the_gradients_of_the_other_example(example, in_place, way, backend):
    learned = way.startswith("PReLU")
    network = example.Network([64, 20, 30, 10], "prelu", np.random.default_rng(0))
    for slopes in network.slopes:
        slopes[:] = np.linspace(0, 0.5, len(slopes)) if learned else in_place.SLOPE
    layers = [in_place.WAYS[way](*[slopes] * learned) for slopes in network.slopes]
    images, labels, *_ = example.load_data()
    with fastact.use_backend(backend):
        loss, gradients = in_place.step(network, layers, images, labels)
        inputs, xs, logits = network.forward(images)
        want, dlogits = example.cross_entropy(logits, labels)
        wanted = network.backward(dlogits, inputs, xs)
    assert loss == want
    for got, wants in zip(gradients, wanted[: len(gradients)], strict=True):
        np.testing.assert_allclose(got, wants, rtol=1e-5, atol=1e-7)
    assert len(gradients) == len(wanted) - len(layers) * (not learned)


def test_in_place_is_in_place(in_place):
    x = np.random.default_rng(0).standard_normal((5, 4), np.float32)
    slopes = np.full(4, 0.25, np.float32)
    for way, (y_too, dx_too) in {
        "leaky ReLU": (False, False),
        "leaky ReLU, in place": (True, True),
        "PReLU": (False, False),
        "PReLU, dx over dy": (False, True),
    }.items():
        layer = in_place.WAYS[way](*[slopes] * way.startswith("PReLU"))
        given, dy = x.copy(), x.copy()
        assert (layer.forward(given) is given) == y_too
        assert (layer.backward(dy) is dy) == dx_too


@pytest.mark.full
def test_in_place_takes_less_memory_for_the_same_losses(in_place, capsys):
    """In new processes, as a user runs it."""
    found = in_place.main(["--steps", "1", "--hidden", "512,512"])
    printed = capsys.readouterr().out.splitlines()
    assert [line[:22].strip() for line in printed[1:]] == list(in_place.WAYS) == list(found)
    for usual, other in (("leaky ReLU", "leaky ReLU, in place"), ("PReLU", "PReLU, dx over dy")):
        assert found[usual][0] == found[other][0]
        if sys.platform.startswith("linux"):
            assert found[other][1] < found[usual][1] * (0.75 if "place" in other else 0.95)
    again = in_place.main(["--steps", "1", "--hidden", "512,512", "--way", "PReLU"])
    assert again["PReLU"][0] == found["PReLU"][0]


def test_in_place_learns(in_place):
    loss, _ = in_place.train("leaky ReLU, in place", HIDDEN, copies=1, steps=60, lr=0.1)
    assert loss < 0.2
