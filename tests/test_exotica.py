"""What happens rarely: Ctrl-C in a long call, arrays of more than 2**31 elements, files as operands and results.

Each is tried for real, in a process of its own where it is a danger to the others.
"""

import shutil
import signal
import sys

import numpy as np
import pytest
from helpers import COMPILED, SUMMED, assert_same_bits, call, expected, operands, out_for, output_of

import fastact
from fastact import _cpu
from fastact._operations import OPERATIONS

MANY = (1 << 31) + 17  # elements: more than an int counts

INTERRUPTED = """
import os, signal, sys, time
import numpy as np, fastact
x = np.linspace(-1, 1, 1 << 26, dtype="f4")
out = np.empty_like(x)
backend = sys.argv[1]
want = fastact.prelu_backward(x, x, 0.25, backend=backend)
signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGINT))
signal.signal(signal.SIGINT, signal.default_int_handler)  # a parent in the background has it ignored
interrupts = right = 0
for delay in (0.001, 0.003, 0.01, 0.02):
    end = time.monotonic() + 0.3
    try:
        signal.setitimer(signal.ITIMER_REAL, delay)
        while time.monotonic() < end:
            fastact.prelu_backward(x, x, 0.25, out=(out, None), backend=backend)
    except KeyboardInterrupt:
        interrupts += 1
    got = fastact.prelu_backward(x, x, 0.25, backend=backend)
    right += (got[0] == want[0]).all() and got[1] == want[1]
used = fastact.config()["buffers"].get("in_use_bytes")
assert used in (None, want[0].nbytes + got[0].nbytes)
print(interrupts, right)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGINT") or sys.platform == "win32", reason="signals as POSIX has them")
@pytest.mark.parametrize("backend", [v for v in ("cython", "numba") if v in fastact.available_backends()])
def test_ctrl_c(backend):
    """The interrupt arrives after the call that it met; the next call is right."""
    assert output_of(INTERRUPTED, backend) == "4 4"


WITHOUT_CORE = """
import atexit, signal, sys, time
for name in ("driver", "buffers", "front"):
    sys.modules["fastact._cython." + name] = None
import numpy as np, fastact
x = np.linspace(-1, 1, 1 << 24, dtype="f4")
signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGINT))
signal.signal(signal.SIGINT, signal.default_int_handler)  # a parent in the background has it ignored
out = np.empty_like(x)
fastact.relu(x, out=out, n_threads=2)
interrupts = late = 0
for delay in (0.001, 0.002, 0.005, 0.01) * 5:
    try:
        signal.setitimer(signal.ITIMER_REAL, delay)
        while True:
            fastact.relu(x, out=out, n_threads=2)
    except KeyboardInterrupt:
        interrupts += 1
        out[:] = 7  # nobody may be writing any more
        time.sleep(0.02)
        late += not (out == 7).all()
atexit.register(lambda: print(interrupts, late, (fastact.relu(x, n_threads=2) == np.maximum(x, 0)).all()))
"""


@pytest.mark.skipif("numba" not in fastact.available_backends(), reason="no Numba here")
@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="signals as POSIX has them")
def test_ctrl_c_without_the_core():
    """Helpers end with the call that they help; and where the interpreter shuts down, the caller is alone."""
    assert output_of(WITHOUT_CORE) == "20 0 True"


@pytest.mark.skipif(_cpu.memory() < 12 << 30, reason="needs 5 GB")
@pytest.mark.parametrize("backend", [v for v in ("cython", "numba") if v in fastact.available_backends()])
def test_more_elements_than_an_int_counts(backend):
    """int8, in place."""
    x = np.zeros(MANY, np.int8)
    x[:4], x[1 << 30 : (1 << 30) + 4], x[-4:] = (-1, 2, -3, 4), (-5, 6, -7, 8), (-9, 10, -11, 12)
    fastact.relu(x, out=x, backend=backend)
    assert x[:4].tolist() == [0, 2, 0, 4]
    assert x[1 << 30 : (1 << 30) + 4].tolist() == [0, 6, 0, 8]
    assert x[-4:].tolist() == [0, 10, 0, 12]
    assert np.count_nonzero(x) == 6


@pytest.mark.skipif(_cpu.memory() < 20 << 30, reason="needs 10 GB of memory")
@pytest.mark.parametrize("backend", [v for v in ("cython", "numba") if v in fastact.available_backends()])
def test_more_floats_than_an_int_counts(backend, tmp_path):
    """A file with holes, read only: dalpha of all of it, as one row, as channels, and as channels last."""
    if shutil.disk_usage(tmp_path).free < 1 << 30:
        pytest.skip("no disk")
    n = MANY + 15  # a multiple of 32
    file = tmp_path / "x"
    x = np.memmap(file, np.float32, "w+", shape=(n,))
    for at, value in ((0, -1), (31, -2), (1 << 30, -3), (n - 32, -4), (n - 1, -5)):
        x[at] = value
    x.flush()
    x = np.memmap(file, np.float32, "r", shape=(n,))
    assert fastact.prelu_backward(x, x, 0.25, need_dx=False, backend=backend)[1] == 55
    slopes = np.full(32, 0.25, np.float32)
    last = fastact.prelu_backward(*[x.reshape(-1, 32)] * 2, slopes, need_dx=False, backend=backend)[1]
    assert last[[0, 31]].tolist() == [1 + 9 + 16, 4 + 25]
    rows = fastact.prelu_backward(*[x.reshape(1, 32, -1)] * 2, slopes, need_dx=False, backend=backend)[1]
    assert rows.sum() == 55 and rows[0] == 5 and rows[-1] == 41
    del x
    file.unlink()


@pytest.mark.skipif(not COMPILED, reason="no compiled variant")
def test_files_in_and_out(name, tmp_path, dtype):
    """Memory-mapped operands (read-only) and results."""
    op = OPERATIONS[name]
    ops = operands(name, (8, 16, 40, 40), (16,), dtype)
    mapped = {}
    for key, value in ops.items():
        if isinstance(value, np.ndarray):
            np.save(tmp_path / key, value)
            mapped[key] = np.load(tmp_path / f"{key}.npy", mmap_mode="r")
        else:
            mapped[key] = value
    outs = [np.memmap(tmp_path / "out", dtype, "w+", shape=ops["x"].shape)]
    if name in SUMMED:
        outs.append(np.memmap(tmp_path / "dalpha", dtype, "w+", shape=ops["alpha"].shape))
    plain = call(name, ops)
    call(name, mapped, out=out_for(name, *outs))
    for out in outs:
        out.flush()
    assert_same_bits(np.fromfile(tmp_path / "out", dtype).reshape(ops["x"].shape), expected(name, ops))
    if name in SUMMED:
        assert_same_bits(np.fromfile(tmp_path / "dalpha", dtype), plain["dalpha"])
    assert op.writes
