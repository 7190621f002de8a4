"""The Numba variant's kernels: _kernels.py over simd.py's words, compiled at the first request and cached on disk.

The words of the vocabulary are put into a text, which is then run like any module.  Then each of its functions becomes
an @njit function.  A kernel's number is a constant of a closure, so LLVM keeps one branch of each `if op == ...`.
Numba's cache looks at one file only, so its key is given the hash of every file that the machine code depends on.
"""

from __future__ import annotations

import logging
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib.resources import files
from importlib.util import find_spec, module_from_spec
from types import FunctionType, ModuleType

import numpy as np
from numba import cfunc, config, from_dtype, types
from numba.core.caching import FunctionCache

from .. import _tables
from .._forks import forks
from . import simd

SLOW = 1.0  # seconds of compilation after which a message is logged
SOURCES = ("_kernels.py", "_integers.py", "_tables.py", "_numba/simd.py", "_numba/kernels.py")
NUMBERS = {name: np.intp(n) for name, n in vars(_tables).items() if name.isupper() and isinstance(n, int)}
OPS = {kernel: np.intp(number) for number, kernel in enumerate(_tables.KERNELS)}


def _load(name: str) -> ModuleType:
    """One of the texts as a module, whose functions Numba compiles when they are called."""
    spec = find_spec(f"fastact.{name}")
    module = module_from_spec(spec)
    words = {word: value for word, value in vars(simd).items() if not word.startswith("_")}
    vars(module).update(words | NUMBERS | {kernel.upper(): op for kernel, op in OPS.items()})
    spec.loader.exec_module(module)
    apart = getattr(module, "OUT_OF_LINE", ())
    early = (*_tables.FAMILIES.values(), "run_integers")
    for key, function in list(vars(module).items()):
        if isinstance(function, FunctionType) and function.__module__ == module.__name__:
            setattr(
                module,
                key,
                (simd.out_of_line if key in apart else simd.inlined_early if key in early else simd.inlined)(function),
            )
    return module


_text = _load("_kernels")
_integers = _load("_integers")


def _digest() -> int:
    """The hash of every file that the machine code depends on."""
    folder = files("fastact")  # which may be a zip archive
    return zlib.crc32(b"".join(folder.joinpath(name).read_bytes() for name in SOURCES))


def _kernel(kernel: str, digest: int) -> Callable:
    """The C function of a kernel.  Numba takes `op` and `digest` for constants, and for a part of its cache's key.

    The function that it calls is a global of this module, because a compiled function in a closure would make the key
    another one in each process.
    """
    op = OPS[kernel]

    def plain(loop):
        digest  # noqa: B018 (read here, so that it is in the closure and the key)
        _text.run_plain(op, loop)

    def with_alpha(loop):
        digest  # noqa: B018
        _text.run_with_alpha(op, loop)

    def backward(loop):
        digest  # noqa: B018
        _text.run_backward(op, loop)

    def to_mask(loop):
        digest  # noqa: B018
        _text.run_to_mask(op, loop)

    def from_mask(loop):
        digest  # noqa: B018
        _text.run_from_mask(op, loop)

    calls = {f"run_{call.__name__}": call for call in (plain, with_alpha, backward, to_mask, from_mask)}
    return calls[_tables.FAMILIES[_tables.KERNELS[kernel]]]


def _moving_kernel(kernel: str, dtype: str, digest: int) -> Callable:
    """The same for a kernel that moves whole elements."""
    op = OPS[kernel]
    c, bound = _tables.MOVING[kernel, dtype]
    bound = np.dtype(c.removesuffix("_t")).type(bound)
    reads_dy = "dy" in _tables.KERNELS[kernel]

    def integers(loop):
        digest  # noqa: B018
        buffer = simd.stream_buffer(loop.y)
        _integers.run_integers(op, loop.y, loop.x, loop.x, buffer, loop, bound)

    def floats(loop):
        digest  # noqa: B018
        y, x = simd.as_int16(loop.y), simd.as_int16(loop.x)
        buffer = simd.stream_buffer(y)
        _integers.run_integers(op, y, simd.as_int16(loop.dy) if reads_dy else x, x, buffer, loop, bound)

    return integers if dtype in _tables.INTEGERS else floats


def _compile(kernel: str, dtype: str):
    """The C callback of a kernel, from the disk cache where there is one that works."""
    halves = {"float16": simd.FLOAT16, "bfloat16": simd.BFLOAT16}
    signature = types.void(simd.InnerLoop(halves.get(dtype) or from_dtype(np.dtype(dtype))))
    if config.DISABLE_JIT:
        raise RuntimeError('NUMBA_DISABLE_JIT is set: without compilation there is no backend "numba"')

    def function(digest: int) -> Callable:
        moves = (kernel, dtype) in _tables.MOVING
        return _moving_kernel(kernel, dtype, digest) if moves else _kernel(kernel, digest)

    try:
        return cfunc(signature, cache=True, **simd.FLAGS)(function(_digest()))
    except Exception:
        # No folder to write to, a full disk, a damaged cache: none of them is a reason not to compute.  A fault of
        # our own comes up again here.
        compiled = cfunc(signature, **simd.FLAGS)(function(0))
    with suppress(Exception):
        FunctionCache(compiled.__wrapped__).flush()  # a damaged cache is emptied, and the next process fills it again
    return compiled


_compiled: dict[tuple[str, str], object] = {}  # keeps the machine code alive


def address(kernel: str, dtype: str) -> int:
    """The C address of a kernel (see _tables.py for its argument), compiled if need be."""
    # A boolean is a uint8: Numba would read and write its own ones as 0 or 1.
    key = kernel, "uint8" if dtype == "bool" else dtype
    with forks.lock:
        if key not in _compiled:
            with _told_if_slow(*key):
                _compiled[key] = _compile(*key)
        return _compiled[key].address


@contextmanager
def _told_if_slow(kernel: str, dtype: str) -> Iterator[None]:
    """After a second of compilation, log what is going on: nobody expects a first call to take long."""
    folder = cache_folder()

    def tell() -> None:
        kept = (
            f"once; it is cached in {folder}" if folder else "in every process, for no cache folder can be written to"
        )
        logging.getLogger("fastact").warning(
            "fastact is compiling %s for %s with Numba, which takes some seconds, %s. "
            "fastact.warmup() does it ahead of time; the Cython backend needs no compilation.", kernel, dtype, kept
        )  # fmt: skip

    timer = threading.Timer(SLOW, tell)
    timer.daemon = True
    with suppress(RuntimeError):  # where no thread can be started, there is no message
        timer.start()
    try:
        yield
    finally:
        timer.cancel()
        if timer.ident is not None:
            timer.join()  # a fork must not come while the timer's thread holds a lock


def cache_folder() -> str | None:
    """Where the machine code is cached, or None where no folder can be written to."""
    try:
        return FunctionCache(_kernel("relu", 0)).cache_path
    except Exception:
        return None
