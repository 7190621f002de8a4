"""Streaming stores for step 7: Numba has no word for them, so these functions write LLVM's instructions."""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

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
