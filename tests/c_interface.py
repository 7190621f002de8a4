"""The C interface for tests: fastact.h's constants, structs and functions through ctypes, which calls without the GIL.

What the header declares is read from it, so that nothing here has to be changed with it.  A call travels as a dict of
arguments by the header's names (y, dx, dalpha, dy, x, alpha, mask); those that are missing are NULL.  This module does
not import `helpers`, because programs of tests/scripts use it too.
"""

import ctypes
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
from helpers import FLOATS

import fastact

HEADER = Path(fastact.get_include()) / "fastact.h"
TEXT = re.sub(r"/\*.*?\*/", "", HEADER.read_text(), flags=re.DOTALL).replace("\\\n", "")
# {FASTACT_FLOAT32: 3, ...}
CONSTANTS: dict[str, int] = {}
for _body in re.findall(r"enum \{(.*?)\}", TEXT, re.DOTALL):
    _next = 0
    for _name, _value in re.findall(r"(FASTACT_\w+)(?: = (\d+))?", _body):
        CONSTANTS[_name] = _next = int(_value or _next)
        _next += 1
_DTYPES = (*FLOATS, *["bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"])
DTYPES = {dtype: CONSTANTS[f"FASTACT_{dtype.name.upper()}"] for dtype in map(np.dtype, _DTYPES)}
OK, BAD_VALUE, BAD_TYPE, NO_MEMORY, NO_SOURCE, NOT_YET = (
    CONSTANTS[f"FASTACT_{name}"] for name in ("OK", "BAD_VALUE", "BAD_TYPE", "NO_MEMORY", "NO_SOURCE", "NOT_YET")
)
OWN, OPENMP, CALLER = (CONSTANTS[f"FASTACT_SOURCE_{name}"] for name in ("OWN", "OPENMP", "CALLER"))
# {"relu": ["y", "mask", "x", "options"], ...}
ARGUMENTS = {
    name: [re.findall(r"\w+", argument)[-1] for argument in arguments.split(",")]
    for name, arguments in re.findall(r"F\(int, (\w+), \((.*?)\)\)", TEXT, re.DOTALL)
}


class Array(ctypes.Structure):
    _fields_ = (
        ("size", ctypes.c_uint32),
        ("dtype", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("data", ctypes.c_void_p),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
    )


class Options(ctypes.Structure):
    _fields_ = (
        ("size", ctypes.c_uint32),
        ("n_threads", ctypes.c_int32),
        ("source", ctypes.c_int32),
        ("channel_axis", ctypes.c_int32),
        ("parallel_for", ctypes.c_void_p),
        ("context", ctypes.c_void_p),
        ("message", ctypes.c_void_p),
        ("message_size", ctypes.c_size_t),
    )


class Scheduler(ctypes.Structure):
    _fields_ = (
        ("size", ctypes.c_uint32),
        ("workers", ctypes.c_int32),
        ("schedule", ctypes.c_void_p),
        ("pool", ctypes.c_void_p),
    )


class Outcome(NamedTuple):
    """What a call returned."""

    status: int
    message: str


def lengths(numbers):
    """Lengths or strides as C has them."""
    return (ctypes.c_int64 * len(numbers))(*numbers)


def array(a, with_strides=True):
    """An ndarray as C has it; `with_strides` is False for NULL, which means C order."""
    return Array(
        ctypes.sizeof(Array),
        DTYPES[a.dtype],
        a.ndim,
        a.ctypes.data,
        lengths(a.shape) if a.ndim else None,
        lengths(a.strides) if with_strides and a.ndim else None,
    )


def options(**fields):
    """Those of fastact_default_options(), but for some fields."""
    return Options(**{"size": ctypes.sizeof(Options), "channel_axis": 1} | fields)


library = ctypes.CDLL(fastact._built.entry.__file__)  # what config() names, which imports Numba and its runtime


def function(name):
    """A function of the header, with its types."""
    found = getattr(library, f"fastact_{name}")
    numbers = fastact._tables.OPERATIONS[name].alpha == "number"
    found.argtypes = [
        ctypes.POINTER(Options)
        if argument == "options"
        else ctypes.c_double
        if argument == "alpha" and numbers
        else ctypes.POINTER(Array)
        for argument in ARGUMENTS[name]
    ]
    return found


def call(name, given, text=None, options_are_null=False, **fields):
    """Call a function of the header on arguments (ndarrays, Arrays, numbers); fields of the options by their names.

    `text` is a buffer for the message.
    """
    text = text or ctypes.create_string_buffer(1000)
    chosen = options(**{"message": ctypes.addressof(text), "message_size": len(text)} | fields)
    ready = [array(a) if isinstance(a := given.get(argument), np.ndarray) else a for argument in ARGUMENTS[name][:-1]]
    status = function(name)(*ready, None if options_are_null else chosen)
    return Outcome(status, text.value.decode())
