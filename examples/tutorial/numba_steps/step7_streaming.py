"""Step 7, streaming stores: large results go past the caches, by an instruction that Numba has no word for."""

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic
from .step3_flags import flags
from .step5_accumulators import LANES, add_terms, total
from .step6_one_pass import BLOCK

STREAM_FROM = 32 << 20  # bytes: about the size of the last-level cache
LINE = 16  # floats in a cache line


@intrinsic
def stream_line(typing, out, i, given, x, alpha):
    """out[i : i + LINE] = given where x > 0, else alpha * given, past the caches; out[i] begins a cache line."""

    def code(context, builder, signature, args):
        vector = ir.VectorType(ir.FloatType(), LINE)
        arrays = [context.make_array(signature.args[k])(context, builder, args[k]).data for k in (0, 2, 3)]
        target, *sources = (builder.bitcast(builder.gep(p, [args[1]]), vector.as_pointer()) for p in arrays)
        given, x = (builder.load(p, align=4) for p in sources)
        alpha = builder.insert_element(ir.Constant(vector, ir.Undefined), args[4], ir.IntType(32)(0))
        alpha = builder.shuffle_vector(alpha, alpha, ir.Constant(ir.VectorType(ir.IntType(32), LINE), None))
        positive = builder.fcmp_ordered(">", x, ir.Constant(vector, None))
        store = builder.store(builder.select(positive, given, builder.fmul(alpha, given)), target, align=4 * LINE)
        store.set_metadata("nontemporal", builder.module.add_metadata([ir.IntType(32)(1)]))

    return types.void(out, types.intp, given, x, types.float32), code


@intrinsic
def fence(typing):
    """Streamed stores reach memory before whatever comes next."""
    return types.void(), lambda context, builder, signature, args: builder.fence("seq_cst") and None


@njit(**flags)
def select(out, given, x, alpha, lo, hi):
    out, given, x = out[lo:hi], given[lo:hi], x[lo:hi]
    for i in range(x.size):
        scaled = alpha * given[i]
        out[i] = given[i] if x[i] > 0 else scaled


@njit(**flags)
def lines(out):
    """Where out's first whole cache line begins, and where its last one ends."""
    head = min(out.size, (64 - np.intp(out.ctypes.data % 64)) % 64 // 4)
    return head, out.size - (out.size - head) % LINE


@njit(**flags)
def prelu_part(x, alpha, y, stream):
    first, last = lines(y) if stream else (x.size, x.size)
    select(y, x, x, alpha, 0, first)
    for i in range(first, last, LINE):
        stream_line(y, i, x, x, alpha)
    select(y, x, x, alpha, last, x.size)
    if stream:
        fence()


@njit(**flags)
def backward_part(dy, x, alpha, dx, stream):
    first, last = lines(dx) if stream else (0, 0)
    sums = np.zeros(LANES)
    select(dx, dy, x, alpha, 0, first)
    for lo in range(0, x.size, BLOCK):
        hi = min(lo + BLOCK, x.size)
        add_terms(dy[lo:hi], x[lo:hi], sums)  # in blocks that do not depend on the address, nor does dalpha
        if stream:
            for i in range(lo + first, min(hi + first, last), LINE):
                stream_line(dx, i, dy, x, alpha)
        else:
            select(dx, dy, x, alpha, lo, hi)
    if stream:
        select(dx, dy, x, alpha, last, x.size)
        fence()
    return total(sums)


@njit(**flags)
def prelu(x, alpha, y):
    prelu_part(x, alpha, y, y.nbytes >= STREAM_FROM)


@njit(**flags)
def prelu_backward(dy, x, alpha, dx):
    return np.float32(backward_part(dy, x, alpha, dx, dx.nbytes >= STREAM_FROM))
