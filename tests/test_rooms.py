"""The rooms of the package: a module imports only those before it in this list, so there is no circle."""

import ast
import re
from pathlib import Path

import fastact

PACKAGE = Path(fastact.__file__).parent
# From what knows nothing of the others to what everything else is for.
ROOMS = [
    "_version", "_tables", "_integers", "_kernels", "reference", "_foreign", "_arguments", "_cpu", "_forks",
    "_policy", "_plan",
    "_cython.policy", "_cython.plan", "_cython.driver", "_cython.entry", "_cython.buffers", "_cython.contexts",
    "_built", "_contexts", "_cython",
    "_cython.generic", "_cython.v2", "_cython.v3", "_cython.v4", "_cython.neon",
    "_numba", "_numba.simd", "_numba.kernels",
    "_backends", "_interface", "_settings", "_buffers", "_buffered", "_dask", "_driver", "_launch", "_dispatch",
    "_masks",
    "_cython.front", "_front", "ops", "_cython.ops", "_limit", "_config", "__init__", "__main__", "_njit", "_freeze",
    "_freeze.hook-fastact", "sklearn", "onnx._rewrite", "onnx._backend", "onnx", "_freeze.hook-fastact.onnx",
    "torch._exchange", "torch._host", "torch._compute", "torch._operators",
    "torch._functions", "torch._modules", "torch._override", "torch", "_freeze.hook-fastact.torch",
    "jax._handlers", "jax._primitives", "jax", "_freeze.hook-fastact.jax",
]  # fmt: skip


def imports_of_python(text, package):
    """The modules of the package that a Python text imports, wherever in it: statements, import_module, optional."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*parts, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if called in ("import_module", "optional"):
                yield str(node.args[0].value) if called == "import_module" else f"fastact._cython.{node.args[0].value}"


def imports_of_cython(text):
    """The same of a .pyx or .pxd."""
    text = re.sub(r"\(\s*([^)]*?)\s*\)", lambda found: found[1].replace("\n", " "), text)
    for base, how, names in re.findall(r"^from (fastact[\w.]*) (c?import) (.+)$", text, re.MULTILINE):
        if (base, how) != ("fastact", "cimport") or names == "*":  # what fastact.h declares, which imports nothing
            yield from (f"{base}.{name.strip()}" for name in names.split(","))


def room_of(name):
    """The room that an imported name is in, or None outside the package."""
    parts = name.split(".")
    for end in range(len(parts), 1, -1):
        if ".".join(parts[1:end]) in ROOMS and parts[0] == "fastact":
            return ".".join(parts[1:end])
    return "__init__" if parts[0] == "fastact" else None


def arrows():
    """Every arrow: who imports, whom."""
    for file in sorted(PACKAGE.rglob("*.p*")):
        name = ".".join(file.relative_to(PACKAGE).with_suffix("").parts)
        package = ".".join(["fastact", *name.split(".")[:-1]])
        room = name.removesuffix(".__init__")
        if file.suffix == ".py":
            found = imports_of_python(file.read_text(encoding="utf-8"), package)
        elif file.suffix in (".pyx", ".pxd"):
            found = imports_of_cython(file.read_text(encoding="utf-8"))
        else:
            continue
        for imported in found:
            if (target := room_of(imported)) not in (None, room):
                yield room, target


def test_every_module_has_its_place():
    files = [file for file in PACKAGE.rglob("*.py*") if file.suffix in (".py", ".pyx")]
    modules = {".".join(file.relative_to(PACKAGE).with_suffix("").parts).removesuffix(".__init__") for file in files}
    assert modules == set(ROOMS) - {"_cython.ops", "_cython.policy", "_cython.plan", "jax._handlers"}


def test_no_arrow_goes_back():
    found = set(arrows())
    assert ("_dispatch", "_launch") in found
    assert ("_cython.driver", "_cython.plan") in found
    back = sorted((room, target) for room, target in found if ROOMS.index(target) >= ROOMS.index(room))
    assert not back
