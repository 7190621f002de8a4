"""Imports in unusual ways, for test_surroundings.py: `python tests/scripts/imports.py FUNCTION [ARGUMENT ...]`.

Each function imports the package itself, and prints what the test wants to know.
"""

import ctypes
import gc
import importlib
import importlib.util
import locale
import os
import pkgutil
import resource
import signal
import sys
import time
import warnings

import numpy as np


def every_module():
    """As by documentation tools, which import all that they find, `__main__` included."""
    import fastact
    from fastact import _built, _tables

    for module in pkgutil.walk_packages(fastact.__path__, "fastact."):
        try:
            importlib.import_module(module.name)
        except ModuleNotFoundError as error:  # an adapter, where the library that it is for is missing
            assert not error.name.startswith("fastact"), error
        except ImportError:  # kernels for other processors refuse
            level = module.name.rpartition(".")[2]
            assert level in _tables.LEVELS and level not in _built.levels(), module.name
    print(*(name for name in sys.modules if name.startswith("fastact.")))


def kernels_above_the_level():
    """Says why each level's kernels refuse to be imported on a CPU of the lowest level."""
    from fastact import _built, _tables

    _built.CPU_LEVEL = "generic"
    for level in list(_tables.LEVELS)[1:]:
        try:
            importlib.import_module(f"fastact._cython.{level}.f32")
        except ImportError as error:
            print(error)


def reloaded():
    """The package and every module of it that is Python; settings and results stay right."""
    import fastact

    fastact.set_num_threads(1)
    for name in [n for n in sys.modules if n.split(".")[0] == "fastact" and sys.modules[n].__file__.endswith(".py")]:
        importlib.reload(sys.modules[name])
    importlib.reload(fastact)
    x = np.linspace(-1, 1, 300_000, dtype=np.float32)
    for backend in fastact.available_backends():
        with fastact.use_backend(backend), fastact.threads(2):
            assert (fastact.relu(x) == np.maximum(x, 0)).all()
            assert fastact.prelu_backward(x, x)[1].shape == ()
    print("right")


def thrown_out_and_imported_again():
    importlib.import_module("fastact")
    for name in [n for n in sys.modules if n.split(".")[0] == "fastact"]:
        del sys.modules[name]
    fastact = importlib.import_module("fastact")
    print(*fastact.relu(np.array([-1.0, 2.0])))


def lazy():
    spec = importlib.util.find_spec("fastact")
    spec.loader = importlib.util.LazyLoader(spec.loader)
    fastact = sys.modules["fastact"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fastact)
    print(*fastact.relu([-1.0, 2.0]))


def from_a_zip_archive(archive):
    sys.path.insert(0, archive)
    import fastact

    assert ".zip" in fastact.__file__, fastact.__file__
    print(*fastact.relu([-1.0, 2.0]), *fastact.prelu([-1.0, 2.0], backend="numpy"), fastact.config()["version"])


def what_the_import_changes():
    """About the process: the differences of its state before and after."""
    libm = ctypes.CDLL(None)

    def state():
        control = ctypes.create_string_buffer(64)
        libm.fegetenv(control)
        return {
            "affinity": os.sched_getaffinity(0),
            "signals blocked": signal.pthread_sigmask(signal.SIG_BLOCK, []),
            "signal handlers": [signal.getsignal(s) for s in signal.valid_signals()],
            "floating point": control.raw[:2] + control.raw[28:32],
            "environment": dict(os.environ),
            "folder": os.getcwd(),
            "threads": len(os.listdir("/proc/self/task")),
            "limits": [resource.getrlimit(getattr(resource, n)) for n in dir(resource) if n.startswith("RLIMIT_")],
            "locale": locale.setlocale(locale.LC_ALL),
            "recursion": sys.getrecursionlimit(),
            "switching": sys.getswitchinterval(),
            "collector": (gc.isenabled(), gc.get_threshold()),
            "warnings": list(warnings.filters),
            "numpy": (np.geterr(), np.get_printoptions()),
            "niceness": os.nice(0),
            "mask": os.umask(os.umask(0)),
            "excepthook": sys.excepthook is sys.__excepthook__,
        }

    before = state()
    import fastact  # noqa: F401

    after = state()
    print({key: (before[key], after[key]) for key in before if before[key] != after[key]})


def time_of_the_import():
    """Seconds beyond NumPy's."""
    start = time.process_time()
    import fastact  # noqa: F401

    print(time.process_time() - start)


def pages_of_pydoc(*names):
    """The first lines of each, which have the signature."""
    import pydoc

    for name in names:
        print(pydoc.plain(pydoc.render_doc(f"fastact.{name}")).splitlines()[2])


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
