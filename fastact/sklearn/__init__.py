"""fastact for scikit-learn: relu of MLPClassifier and MLPRegressor by these kernels, in the whole process.

scikit-learn keeps its activations in two dictionaries, which are private: ACTIVATIONS and DERIVATIVES of
sklearn.neural_network._base.  `enable` changes their entries "relu"; nothing else of scikit-learn is touched.
docs/scikit-learn.md has examples.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module

import numpy as np

import fastact

__all__ = ["disable", "enable", "enabled"]

_NAME = "relu"
_lock = threading.Lock()
_asked: list[object] = []  # enable() and the `with` blocks that are in force
_replaced: list[tuple[dict, Callable]] = []  # scikit-learn's dictionaries and what they held


def _relu(X: np.ndarray) -> None:
    """As scikit-learn's: in place."""
    fastact.relu(X, out=X)


def _relu_derivative(Z: np.ndarray, delta: np.ndarray) -> None:
    """As scikit-learn's: in place, by relu's result Z, which is 0 where its input was not above 0."""
    fastact.relu_backward(delta, Z, out=delta)


_OURS = {"ACTIVATIONS": _relu, "DERIVATIVES": _relu_derivative}


def _tables() -> list[tuple[dict, Callable]]:
    """scikit-learn's dictionaries, each with our function."""
    found = []
    try:
        base, user = (import_module(f"sklearn.neural_network.{m}") for m in ("_base", "_multilayer_perceptron"))
        for name, ours in _OURS.items():
            table = getattr(base, name)
            if getattr(user, name) is not table or not callable(table[_NAME]):
                raise KeyError(name)
            found.append((table, ours))
    except (AttributeError, KeyError, TypeError) as error:
        version = import_module("sklearn").__version__
        raise RuntimeError(
            f"this scikit-learn ({version}) does not keep relu where fastact.sklearn replaces it, in ACTIVATIONS and "
            f"DERIVATIVES of sklearn.neural_network._base ({error}); nothing was changed, please report this"
        ) from None
    return found


def _ask(who: object) -> None:
    with _lock:
        if not _asked:
            tables = _tables()
            _replaced[:] = [(table, table[_NAME]) for table, _ in tables]
            for table, ours in tables:
                table[_NAME] = ours
        if who not in _asked:
            _asked.append(who)


def _take_back(who: object) -> None:
    with _lock:
        if who not in _asked:
            return
        _asked.remove(who)
        if not _asked:
            for table, theirs in _replaced:
                if table[_NAME] in _OURS.values():  # else somebody has replaced it after us
                    table[_NAME] = theirs
            _replaced.clear()


_PROCESS = object()  # who asked, for enable()


def enable() -> None:
    """Compute relu of every MLPClassifier and MLPRegressor in this process by fastact, in all its threads.

    Estimators need no change, and those that exist already are meant, too: fit, partial_fit and predict of
    ``activation="relu"``, which is the default.  Losses stay the same, for the values do.

    Other processes are not concerned.  joblib's workers (``n_jobs=2`` in a grid search) take it from::

        with joblib.parallel_config("loky", initializer=fastact.sklearn.enable):
            search.fit(X, y)

    Raises
    ------
    RuntimeError
        If this scikit-learn keeps its activations somewhere else.  Nothing is changed then.

    Notes
    -----
    It may be called again.  Do not call it, or `disable`, while another thread fits an estimator.

    Examples
    --------
    >>> import fastact.sklearn
    >>> from sklearn.neural_network import MLPRegressor
    >>> fastact.sklearn.enable()
    >>> model = MLPRegressor(solver="lbfgs", random_state=0).fit([[0.0], [1.0], [2.0]], [0.0, 1.0, 2.0])
    >>> fastact.sklearn.disable()
    """
    _ask(_PROCESS)


def disable() -> None:
    """Undo `enable` in the whole process, however often it was called; `with enabled():` blocks stay in force."""
    _take_back(_PROCESS)


@contextmanager
def enabled() -> Iterator[None]:
    """Compute relu of scikit-learn's networks by fastact within a `with` block, in the whole process and its threads.

    Blocks nest and may overlap: scikit-learn's own functions come back when the last one is left and `enable` is not in
    force.

    Raises
    ------
    RuntimeError
        As for `enable`.
    """
    who = object()
    _ask(who)
    try:
        yield
    finally:
        _take_back(who)
