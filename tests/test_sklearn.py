"""fastact.sklearn: scikit-learn's networks with our relu lose as they did, and get their own relu back.

Skipped where scikit-learn is not installed.
"""

import doctest
import re
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="scikit-learn is not installed (pip install 'fastact[sklearn]')")

import joblib
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPClassifier, MLPRegressor, _base, _multilayer_perceptron

import fastact
import fastact.sklearn as ours

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:scipy.optimize:DeprecationWarning"),  # an older scikit-learn with a newer SciPy
]
THEIRS = _base.ACTIVATIONS["relu"], _base.DERIVATIVES["relu"]


def in_force():
    return _base.ACTIVATIONS["relu"], _base.DERIVATIVES["relu"]


@pytest.fixture(autouse=True)
def undone():
    yield
    ours.disable()
    assert in_force() == THEIRS


@pytest.fixture
def calls(monkeypatch):
    """How often fastact was called, by the name of the function."""
    counts = {"relu": 0, "relu_backward": 0}

    def counted(name, function):
        def wrapper(*args, **options):
            counts[name] += 1
            return function(*args, **options)

        return wrapper

    for name in counts:
        monkeypatch.setattr(fastact, name, counted(name, getattr(fastact, name)))
    return counts


def data(dtype=np.float64, n=300):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n, 12)).astype(dtype)
    return X, (X @ rng.standard_normal(12).astype(dtype) + np.abs(X[:, 0])).astype(dtype)


def net(kind, *layers, max_iter=15, **options):
    return kind(hidden_layer_sizes=layers, max_iter=max_iter, random_state=1, **options)


# How an estimator is trained: what it is, and what it is fitted with.
WAYS = {
    "classifier": lambda X, y: net(MLPClassifier, 30, 20).fit(X, y > 0),
    "regressor": lambda X, y: net(MLPRegressor, 30, 20).fit(X, y),
    "early stopping": lambda X, y: net(MLPClassifier, 30, max_iter=40, early_stopping=True).fit(X, y > 0),
    "sgd": lambda X, y: net(MLPRegressor, 30, solver="sgd", learning_rate_init=1e-3).fit(X, y),
    "lbfgs": lambda X, y: net(MLPRegressor, 30, solver="lbfgs").fit(X, y),
    "partial_fit": lambda X, y: partly(net(MLPClassifier, 30), X, y > 0),
    "one sample a batch": lambda X, y: net(MLPRegressor, 5, batch_size=1, max_iter=2).fit(X[:40], y[:40]),
}


def partly(model, X, y):
    for part in np.array_split(np.arange(len(X)), 3):
        model.partial_fit(X[part], y[part], classes=[False, True])
    return model


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("way", WAYS)
def test_the_same_losses_and_predictions(way, dtype, calls):
    X, y = data(dtype)
    want = WAYS[way](X, y)
    predicted = want.predict(X)
    assert not any(calls.values())
    with ours.enabled():
        got = WAYS[way](X, y)
        assert calls["relu"] > 0 and calls["relu_backward"] > 0
        assert (got.predict(X) == predicted).all()
    assert [repr(v) for v in getattr(got, "loss_curve_", [])] == [repr(v) for v in getattr(want, "loss_curve_", [])]
    assert got.n_iter_ == want.n_iter_ and repr(got.loss_) == repr(want.loss_)
    for a, b in zip(got.coefs_ + got.intercepts_, want.coefs_ + want.intercepts_, strict=True):
        assert a.dtype == b.dtype and (a == b).all()
    many = sum(calls.values())
    assert (got.predict(X) == predicted).all() and sum(calls.values()) == many, "it was not undone"


def test_the_functions_are_scikit_learns_on_any_memory():
    """Both in place, at every kind of value, and in the orders that a product of matrices may have."""
    rng = np.random.default_rng(0)
    special = [0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0]
    with ours.enabled():
        relu, derivative = in_force()
    for order in "CF":
        X = np.asarray(np.concatenate([rng.standard_normal((41, 7)), [special]]), order=order)
        ours_, theirs = X.copy(order), X.copy(order)
        assert relu(ours_) is None
        THEIRS[0](theirs)
        np.testing.assert_array_equal(ours_, theirs)
        delta = rng.permuted(X, axis=0)
        got, want = delta.copy("C"), delta.copy("C")
        assert derivative(ours_, got) is None
        THEIRS[1](theirs, want)
        np.testing.assert_array_equal(got, want)


def test_enable_and_blocks():
    ours.disable()  # nothing to undo
    ours.enable()
    ours.enable()
    replaced = in_force()
    assert replaced[0] is not THEIRS[0] and replaced[1] is not THEIRS[1]
    with ours.enabled(), ours.enabled():
        ours.disable()
        assert in_force() == replaced
    assert in_force() == THEIRS
    first, second = ours.enabled(), ours.enabled()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert in_force() == replaced, "the blocks overlap"
    second.__exit__(None, None, None)
    assert in_force() == THEIRS
    with pytest.raises(ZeroDivisionError), ours.enabled():
        1 / 0  # noqa: B018


def test_another_threads_fit_goes_through_it(calls):
    X, y = data()
    with ours.enabled():
        thread = threading.Thread(target=quietly, args=(X, y))
        thread.start()
        thread.join()
    assert calls["relu"] > 0


def quietly(X, y):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        WAYS["regressor"](X, y)


def test_what_somebody_else_replaced_stays(monkeypatch):
    mine = lambda X: None  # noqa: E731
    with ours.enabled():
        _base.ACTIVATIONS["relu"] = mine
    try:
        assert _base.ACTIVATIONS["relu"] is mine and _base.DERIVATIVES["relu"] is THEIRS[1]
    finally:
        _base.ACTIVATIONS["relu"] = THEIRS[0]


# ---- what is private there -------------------------------------------------------------------------------------------


def test_the_private_dictionaries_are_where_they_were():
    """It fails when a new scikit-learn moves them: see fastact/sklearn/__init__.py."""
    for name, function in (("ACTIVATIONS", "inplace_relu"), ("DERIVATIVES", "inplace_relu_derivative")):
        assert getattr(_base, name)["relu"] is getattr(_base, function)
        assert getattr(_multilayer_perceptron, name) is getattr(_base, name)
    assert MLPClassifier().activation == MLPRegressor().activation == "relu"


@pytest.mark.parametrize("moved", ["gone", "renamed", "another dictionary"])
def test_where_they_have_moved_nothing_is_changed(moved, monkeypatch):
    if moved == "gone":
        monkeypatch.delattr(_base, "DERIVATIVES")
    elif moved == "renamed":
        monkeypatch.delitem(_base.DERIVATIVES, "relu")
    else:
        monkeypatch.setattr(_multilayer_perceptron, "DERIVATIVES", dict(_base.DERIVATIVES))
    with pytest.raises(RuntimeError, match=r"this scikit-learn \(\d.*nothing was changed"):
        ours.enable()
    assert _base.ACTIVATIONS["relu"] is THEIRS[0]
    monkeypatch.undo()
    with ours.enabled():
        assert in_force() != THEIRS


# ---- other processes -------------------------------------------------------------------------------------------------


def who_computes(_):
    """The module of the function that is in force in a worker."""
    return in_force()[0].__module__


@pytest.mark.parametrize("initializer", [None, ours.enable])
def test_joblibs_workers(initializer):
    """They are processes of their own: what the docstring says is how they take it over."""
    options = {} if initializer is None else {"initializer": initializer}
    with ours.enabled(), joblib.parallel_config("loky", n_jobs=2, **options):
        found = joblib.Parallel()(joblib.delayed(who_computes)(i) for i in range(4))
    assert set(found) == {"sklearn.neural_network._base" if initializer is None else "fastact.sklearn"}


def test_a_grid_search_in_workers():
    X, y = data(n=120)
    search = GridSearchCV(net(MLPRegressor, 8, max_iter=5), {"alpha": [1e-4, 1e-2]}, cv=2)
    want = search.fit(X, y).cv_results_["mean_test_score"]
    with joblib.parallel_config("loky", n_jobs=2, initializer=ours.enable):
        got = search.fit(X, y).cv_results_["mean_test_score"]
    assert got.tolist() == want.tolist()


# ---- what users read -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ours.__all__)
def test_docstrings(name):
    runner = doctest.DocTestRunner()
    for test in doctest.DocTestFinder(recurse=False).find(getattr(ours, name), name, globs={}):
        runner.run(test)
    assert not runner.failures
    assert "process" in getattr(ours, name).__doc__.split("\n")[0]


def test_the_page_runs_as_it_stands():
    page = Path(__file__).parents[1] / "docs" / "scikit-learn.md"
    (program,) = re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
    exec(program, {})
