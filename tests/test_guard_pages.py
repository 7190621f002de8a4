"""Every operand between two pages that may not be touched: no kernel reads or writes outside of its arrays.

An array lies at the end or at the beginning of its own pages (mprotect forbids the ones around them), so one
element too far ends the process.  Every row form, length around the registers, SIMD level and backend;
streamed by force and not, with one thread and three.  Results are compared too: the reference's bits, and
one dalpha for all.
"""

import ctypes
import mmap
import sys

import numpy as np
import pytest
from cases import Case, per_channel
from helpers import COMPILED, assert_same_bits, call, expected, operands, out_for

from fastact._operations import OPERATIONS

PAGE = mmap.PAGESIZE
CASES = [
    *(Case((n,), ()) for n in (1, 3, 15, 16, 17, 31, 500, 513, 1040, 16385)),
    *(per_channel((2, c, m)) for c in (1, 3, 17, 131) for m in (1, 5, 16, 17, 49, 196, 1025)),
    *(per_channel((n, c), -1) for c in (1, 2, 16, 17, 131, 256, 300, 2049) for n in (1, 3, 33, 70)),
    *(Case(shape, shape) for shape in [(3, 7, 49), (1, 5000), (40, 17, 9)]),
]


def between_guards(array, at_end):
    """A copy of `array` on pages of its own, the pages before and after it forbidden; and what keeps them."""
    pages = -(-max(array.nbytes, 1) // PAGE)
    memory = mmap.mmap(-1, (pages + 2) * PAGE)
    base = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    protect = ctypes.CDLL(None).mprotect
    protect.argtypes = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int
    for guard in (base, base + (pages + 1) * PAGE):
        assert protect(guard, PAGE, 0) == 0
    start = PAGE + (pages * PAGE - array.nbytes if at_end else 0)
    copy = np.frombuffer(memory, array.dtype, array.size, start).reshape(array.shape)
    copy[...] = array
    return copy


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mprotect as Linux has it")
@pytest.mark.skipif(not COMPILED, reason="no compiled variant")
@pytest.mark.parametrize("streamed", [False, True], ids=["ordinary", "streamed"])
@pytest.mark.parametrize("at_end", [False, True], ids=["at the beginning", "at the end"])
def test_nothing_outside_is_touched(dtype, at_end, streamed, policy):
    if streamed:
        policy(stream_bytes=0, stream_bytes_per_thread=0, bytes_per_thread=1, bytes_per_summing_thread=1)
    for case in CASES:
        ops = operands("prelu_backward", case.shape, case.alpha, dtype)
        ops = {k: between_guards(v, at_end) for k, v in ops.items()}
        out, dalpha = (between_guards(np.zeros_like(ops[k]), at_end) for k in ("x", "alpha"))
        of = {}
        for name in ("relu", "relu_backward", "prelu", "prelu_backward"):
            op = OPERATIONS[name]
            mine = {k: v for k, v in ops.items() if k in op.reads or (k == "alpha" and op.alpha)}
            of[name] = mine, expected(name, mine, case.channel_axis)
        first = None
        for compiled in COMPILED:
            for n_threads in (1, 3):
                for name, (mine, want) in of.items():
                    more = {"channel_axis": case.channel_axis} if "alpha" in mine else {}
                    outs = (out, dalpha)[: len(OPERATIONS[name].writes)]
                    call(name, mine, compiled, out=out_for(name, *outs), n_threads=n_threads, **more)
                    assert_same_bits(out, want, f"{name} {compiled} {case} {n_threads}")
                first = dalpha.copy() if first is None else first
                assert_same_bits(dalpha, first, f"{compiled} {case} {n_threads}")
