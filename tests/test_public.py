"""What a user sees: names, signatures, docstrings and their examples, and what an import brings along.

The signatures of the design are written here as Python functions and compared with the package's own, compiled
or not.  Doctests run on the objects that the package exports, since a compiled function may hide its examples
from doctest's usual search: each function must have some.  Imports are looked at in fresh interpreters.
"""

import ast
import doctest
import importlib
import inspect
import pathlib

import numpy as np
import pytest
from helpers import OPERATIONS, output_of

import fastact


def relu(x, /, *, return_mask=False, out=None, backend=None, n_threads=None): ...
def relu_backward(dy, x=None, *, mask=None, out=None, backend=None, n_threads=None): ...
def leaky_relu(x, /, alpha=0.01, *, return_mask=False, out=None, backend=None, n_threads=None): ...
def leaky_relu_backward(dy, x=None, alpha=0.01, *, mask=None, out=None, backend=None, n_threads=None): ...
def prelu(x, /, alpha=0.25, *, channel_axis=1, out=None, backend=None, n_threads=None): ...
def prelu_backward(
    dy,
    x,
    alpha=0.25,
    *,
    channel_axis=1,
    need_dx=True,
    need_dalpha=True,
    out=(None, None),
    backend=None,
    n_threads=None,
): ...


DESIGNED = {f.__name__: f for f in (relu, relu_backward, leaky_relu, leaky_relu_backward, prelu, prelu_backward)}
SETTINGS = {
    "available_backends": (),
    "clear_buffers": (),
    "config": (),
    "get_backend": (),
    "get_buffer_limit": (),
    "get_include": (),
    "get_thread_source": (),
    "get_num_threads": (),
    "set_backend": ("name",),
    "set_buffer_limit": ("bytes",),
    "set_num_threads": ("n",),
    "set_thread_source": ("name",),
    "show_config": (),
    "thread_source": ("name",),
    "threads": ("n",),
    "use_backend": ("name",),
    "warmup": ("operations", "dtypes"),
}


def test_public_names():
    assert set(fastact.__all__) == {*OPERATIONS, *SETTINGS}  # an added activation comes in by the table
    assert set(OPERATIONS) >= set(DESIGNED)
    visible = {n for n in dir(fastact) if not n.startswith("_")}
    modules = {"ops", "reference", "jax", "onnx", "sklearn", "torch"}  # the rooms without an underscore
    assert visible - modules == set(fastact.__all__)
    for name in fastact.__all__:
        assert callable(getattr(fastact, name)), name
    assert isinstance(fastact.__version__, str)


@pytest.mark.parametrize("name", DESIGNED)
def test_signatures_are_the_designs(name):
    function = getattr(fastact, name)
    got, want = inspect.signature(function), inspect.signature(DESIGNED[name])
    bare = [p.replace(annotation=p.empty) for p in got.parameters.values()]
    assert bare == list(want.parameters.values())
    assert function.__name__ == name
    assert function.__module__.startswith("fastact")


@pytest.mark.parametrize("name", SETTINGS)
def test_signatures_of_settings(name):
    assert tuple(inspect.signature(getattr(fastact, name)).parameters) == SETTINGS[name]


@pytest.mark.parametrize("name", DESIGNED)
def test_docstrings_say_what_matters(name):
    doc = inspect.getdoc(getattr(fastact, name))
    for section in ("Parameters", "Returns", "Raises", "Notes", "Examples"):
        assert f"\n{section}\n{'-' * len(section)}\n" in doc, section
    for parameter in inspect.signature(DESIGNED[name]).parameters:
        assert parameter in doc
    assert name == "relu" or "`" in doc


@pytest.mark.parametrize("name", [*DESIGNED, "use_backend", "threads", "available_backends", "config"])
def test_examples_of_docstrings(name):
    """On the object that users call; without examples the test would pass for nothing."""
    function = getattr(fastact, name)
    tests = [t for t in doctest.DocTestFinder(recurse=False).find(function, name, globs={}) if t.examples]
    assert tests, f"no examples found in {name}"
    for test in tests:
        result = doctest.DocTestRunner().run(test)
        assert result.attempted > 0
        assert result.failed == 0


@pytest.mark.parametrize("name", fastact.__all__)
def test_everything_public_has_a_docstring(name):
    assert inspect.getdoc(getattr(fastact, name))


def test_import_brings_numpy_and_nothing_else():
    code = "import sys, fastact; fastact.relu([1.0, -1.0]); fastact.prelu_backward([1.0], [-1.0]); print(*sys.modules)"
    for program in ("import sys, fastact; print(*sys.modules)", code):
        modules = {m.split(".")[0] for m in output_of("-c", program).split()}
        if program is code and fastact.available_backends()[0] == "numba":
            modules -= {"numba", "llvmlite", "scipy", "cython"}  # it is used, and imports what it finds
        assert not modules & {"numba", "llvmlite", "torch", "jax", "onnx", "dask", "scipy", "pytest", "cython"}
        assert {"numpy", "fastact"} <= modules


def test_numpy_backend_does_not_import_numba():
    code = "import sys, fastact; fastact.relu([1.0], backend='numpy'); print('numba' in sys.modules)"
    assert output_of("-c", code) == "False"


def test_numba_is_imported_when_it_is_used():
    if "numba" not in fastact.available_backends():
        pytest.skip("no Numba")
    code = "import sys, fastact; fastact.relu([1.0], backend='numba'); print('numba' in sys.modules)"
    assert output_of("-c", code) == "True"


def test_the_reference_imports_numpy_only():
    path = pathlib.Path(fastact.__file__).parent / "reference.py"
    imported = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(node.module or ".")
    assert imported == {"numpy"}


def test_the_package_is_typed():
    assert (pathlib.Path(fastact.__file__).parent / "py.typed").exists()


def test_functions_can_be_copied_to_other_processes():
    """Pickled by name, as multiprocessing and dask do."""
    import pickle

    for name in DESIGNED:
        function = pickle.loads(pickle.dumps(getattr(fastact, name)))
        assert function is getattr(fastact, name)


def test_modules_do_not_hide_packages():
    """No module is called numba or cython, and none shares a public name."""
    for path in (pathlib.Path(fastact.__file__).parent).glob("*"):
        assert path.stem.split(".")[0] not in {"numba", "cython", *fastact.__all__}
    assert importlib.import_module("fastact").relu is fastact.relu
    assert np.asarray(fastact.relu([-1.0])).shape == (1,)


def test_the_readmes_lines_run(tmp_path, monkeypatch):
    """In a folder of their own; the first block of code is what a newcomer copies."""
    text = (pathlib.Path(__file__).parent.parent / "README.md").read_text()
    first = text.split("```python\n")[1].split("```")[0]
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(first, names)
    assert names["dalpha"].shape == names["alpha"].shape
    assert (names["x"] >= 0).all()
