"""For PyInstaller: the modules that no bytecode names, because compiled modules import them or their names are made."""

from pathlib import Path

_package = Path(__file__).parent.parent
# Not the adapters, in folders without an underscore: a program that imports one of them has a hook of its own for it.
_files = [path for pattern in ("*.py", "*.so", "*.pyd") for path in _package.rglob(pattern)]
hiddenimports = sorted(
    {
        ".".join((_package.name, *path.relative_to(_package).parent.parts, path.name.split(".")[0])).removesuffix(
            ".__init__"
        )
        for path in _files
        if path.parent != Path(__file__).parent
        and (path.parent == _package or path.relative_to(_package).parts[0][0] == "_")
    }
)
# Numba's cache is keyed by what these files say.
_sources = ("_kernels.py", "_integers.py", "_tables.py", "_numba/kernels.py", "_numba/simd.py")
datas = [(str(_package / name), f"fastact/{Path(name).parent}".removesuffix("/.")) for name in _sources]
