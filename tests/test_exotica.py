"""What happens rarely: Ctrl-C in a long call (in a process of its own), and arrays of more than 2**31 elements."""

import signal
import sys

import numpy as np
import pytest
from helpers import cpu, output_of

import fastact

COMPILED_BACKENDS = [name for name in ("cython", "numba") if name in fastact.available_backends()]
MANY = (1 << 31) + 17  # elements: more than an int counts


@pytest.mark.skipif(not hasattr(signal, "SIGINT") or sys.platform == "win32", reason="signals as POSIX has them")
@pytest.mark.parametrize("backend", COMPILED_BACKENDS)
def test_ctrl_c(backend):
    """The interrupt arrives after the call that it met; the next call is right."""
    assert output_of("interrupts.py", "every_delay", backend) == "4 4"


@pytest.mark.skipif("numba" not in fastact.available_backends(), reason="no Numba here")
@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="signals as POSIX has them")
def test_ctrl_c_without_the_core():
    """Helpers end with the call that they help; and where the interpreter shuts down, the caller is alone."""
    assert output_of("interrupts.py", "without_core") == "20 0 True"


@pytest.mark.skipif(cpu.memory() < 12 << 30, reason="needs 5 GB")
def test_more_elements_than_an_int_counts():
    """int8, in place: all of it is written, by one backend after the other."""
    x = np.zeros(MANY, np.int8)
    for backend in COMPILED_BACKENDS:
        x[:4], x[1 << 30 : (1 << 30) + 4], x[-4:] = (-1, 2, -3, 4), (-5, 6, -7, 8), (-9, 10, -11, 12)
        fastact.relu(x, out=x, backend=backend)
        assert x[:4].tolist() == [0, 2, 0, 4]
        assert x[1 << 30 : (1 << 30) + 4].tolist() == [0, 6, 0, 8]
        assert x[-4:].tolist() == [0, 10, 0, 12]
        assert np.count_nonzero(x) == 6


@pytest.mark.skipif(cpu.memory() < 12 << 30, reason="needs 9 GB of addresses, and 9 GB of memory where zeros take any")
def test_more_floats_than_an_int_counts():
    """Dalpha of all of it, as one row, as channels, and as channels last.

    Pages of zeros that are only read take no memory: Linux has one for all.
    """
    n = MANY + 15  # a multiple of 32
    x = np.zeros(n, np.float32)
    for at, value in ((0, -1), (31, -2), (1 << 30, -3), (n - 32, -4), (n - 1, -5)):
        x[at] = value
    slopes = np.full(32, 0.25, np.float32)
    for backend in COMPILED_BACKENDS:
        assert fastact.prelu_backward(x, x, 0.25, need_dx=False, backend=backend)[1] == 55
        last = fastact.prelu_backward(*[x.reshape(-1, 32)] * 2, slopes, need_dx=False, backend=backend)[1]
        assert last[[0, 31]].tolist() == [1 + 9 + 16, 4 + 25]
        rows = fastact.prelu_backward(*[x.reshape(1, 32, -1)] * 2, slopes, need_dx=False, backend=backend)[1]
        assert rows.sum() == 55 and rows[0] == 5 and rows[-1] == 41
