"""The vector vocabulary that kernels.py is written in: what simd.h is to the Cython variant.

A `Vector` is an LLVM vector; LLVM splits it into the registers of the machine, so there is one text for every CPU.
For elementwise work a vector is one cache line (64 bytes), whatever the type; a sum has 16 doubles.  A pointer is
Numba's own CPointer: it carries the type, and an index counts elements.  Each word becomes one or two LLVM
instructions, without fast-math flags: nothing is fused or reordered, and nothing raises.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

GROUP = 16  # the lanes of a sum: doubles in a wide vector
LINE = 64  # bytes: a cache line, an elementwise vector, the alignment that streaming needs

Pointer = types.CPointer


class Vector(types.Type):
    """Numba's type of `lanes` elements of `dtype` in vector registers."""

    def __init__(self, dtype: types.Type, lanes: int):
        self.dtype = dtype
        self.lanes = lanes
        super().__init__(name=f"Vector({dtype} x {lanes})")


@register_model(Vector)
class VectorModel(models.PrimitiveModel):
    """A vector is one LLVM value, in memory as in a register."""

    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type, ir.VectorType(dmm[fe_type.dtype].get_value_type(), fe_type.lanes))


def _line(pointer: Pointer) -> Vector:
    """The type of the cache line that a pointer points to."""
    return Vector(pointer.dtype, LINE * 8 // pointer.dtype.bitwidth)


# ---- LLVM, spelled once ----------------------------------------------------------------------------------------------


def _at(context, builder, pointer, index, kind: types.Type):
    """The address of pointer[index] as a pointer to `kind`."""
    return builder.bitcast(builder.gep(pointer, [index]), context.get_value_type(kind).as_pointer())


def _align(kind: types.Type) -> int:
    """The alignment that every address has: that of one element."""
    return kind.dtype.bitwidth // 8


def _broadcast(builder, scalar, lanes: int):
    """The scalar in every lane."""
    vector = ir.VectorType(scalar.type, lanes)
    index = ir.IntType(32)
    first = builder.insert_element(ir.Constant(vector, ir.Undefined), scalar, index(0))
    return builder.shuffle_vector(
        first, ir.Constant(vector, ir.Undefined), ir.Constant(ir.VectorType(index, lanes), [0] * lanes)
    )


def _vector(context, builder, value, given: types.Type, kind: Vector):
    """A vector as it is; a number in every lane."""
    if isinstance(given, Vector):
        return value
    return _broadcast(builder, context.cast(builder, value, given, kind.dtype), kind.lanes)


def _first(builder, n, lanes: int):
    """A mask of the lanes below n."""
    index = ir.IntType(32)
    ramp = ir.Constant(ir.VectorType(index, lanes), list(range(lanes)))
    return builder.icmp_signed("<", ramp, _broadcast(builder, builder.trunc(n, index), lanes))


def _masked(context, builder, verb: str, kind: Vector, returns, arguments: list):
    """Call llvm.masked.load or .store on vectors of `kind`: lanes that are masked out are not touched in memory."""
    element = "i" if isinstance(kind.dtype, types.Integer) else "f"
    name = f"llvm.masked.{verb}.v{kind.lanes}{element}{kind.dtype.bitwidth}.p0"
    function = ir.FunctionType(returns, [argument.type for argument in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, function, name), arguments)


def _load(context, builder, pointer, index, kind: Vector):
    vector = builder.load(_at(context, builder, pointer, index, kind))
    vector.align = _align(kind)
    return vector


def _load_part(context, builder, pointer, index, n, kind: Vector):
    vector = context.get_value_type(kind)
    return _masked(
        context,
        builder,
        "load",
        kind,
        vector,
        [
            _at(context, builder, pointer, index, kind),
            ir.IntType(32)(_align(kind)),
            _first(builder, n, kind.lanes),
            ir.Constant(vector, None),
        ],
    )


def _widened(context, builder, vector, kind: Vector):
    if kind.dtype is types.float64:
        return vector
    return builder.fpext(vector, context.get_value_type(WIDE))


# ---- memory ----------------------------------------------------------------------------------------------------------

WIDE = Vector(types.float64, GROUP)


@intrinsic
def at(typingctx, p, i):
    """The pointer to p[i]."""

    def codegen(context, builder, signature, args):
        return builder.gep(args[0], [args[1]])

    return p(p, types.intp), codegen


@intrinsic
def get(typingctx, p, i):
    """The number p[i]."""

    def codegen(context, builder, signature, args):
        return builder.load(builder.gep(args[0], [args[1]]))

    return p.dtype(p, types.intp), codegen


@intrinsic
def put(typingctx, p, i, value):
    """p[i] = value, a number."""

    def codegen(context, builder, signature, args):
        builder.store(args[2], builder.gep(args[0], [args[1]]))

    return types.void(p, types.intp, p.dtype), codegen


@intrinsic
def address(typingctx, p):
    """The address as an integer; 0 for "no such array"."""

    def codegen(context, builder, signature, args):
        return builder.ptrtoint(args[0], context.get_value_type(types.intp))

    return types.intp(p), codegen


@intrinsic
def lanes(typingctx, p):
    """The lanes of the vectors that `load(p, i)` gives; a constant."""
    n = _line(p).lanes

    def codegen(context, builder, signature, args):
        return context.get_constant(types.intp, n)

    return types.intp(p), codegen


@intrinsic(prefer_literal=True)
def scratch(typingctx, n):
    """An uninitialised array of n doubles (a literal) on the stack, and a pointer to it."""
    size = n.literal_value

    def codegen(context, builder, signature, args):
        array = cgutils.alloca_once(builder, ir.ArrayType(ir.DoubleType(), size))
        return builder.bitcast(array, ir.DoubleType().as_pointer())

    return Pointer(types.float64)(n), codegen


@intrinsic
def load(typingctx, p, i):
    """A cache line's worth of elements from p[i] on, at any alignment."""
    kind = _line(p)

    def codegen(context, builder, signature, args):
        return _load(context, builder, *args, kind)

    return kind(p, types.intp), codegen


@intrinsic
def load_part(typingctx, p, i, n):
    """The first n lanes from memory, zero in the others; nothing is touched past p[i + n - 1]."""
    kind = _line(p)

    def codegen(context, builder, signature, args):
        return _load_part(context, builder, *args, kind)

    return kind(p, types.intp, types.intp), codegen


@intrinsic
def load_wide(typingctx, p, i):
    """16 elements from p[i] on, as doubles."""
    kind = Vector(p.dtype, GROUP)

    def codegen(context, builder, signature, args):
        return _widened(context, builder, _load(context, builder, *args, kind), kind)

    return WIDE(p, types.intp), codegen


@intrinsic
def load_wide_part(typingctx, p, i, n):
    """The n < 16 elements from p[i] on, as doubles, and +0.0 in the other lanes."""
    kind = Vector(p.dtype, GROUP)

    def codegen(context, builder, signature, args):
        return _widened(context, builder, _load_part(context, builder, *args, kind), kind)

    return WIDE(p, types.intp, types.intp), codegen


@intrinsic
def store(typingctx, p, i, v):
    """Store a vector at p[i] and on, at any alignment."""

    def codegen(context, builder, signature, args):
        builder.store(args[2], _at(context, builder, *args[:2], v)).align = _align(v)

    return types.void(p, types.intp, v), codegen


@intrinsic
def store_part(typingctx, p, i, v, n):
    """Store the first n lanes; nothing is touched past p[i + n - 1]."""

    def codegen(context, builder, signature, args):
        pointer, index, vector, count = args
        mask = _first(builder, count, v.lanes)
        arguments = [vector, _at(context, builder, pointer, index, v), ir.IntType(32)(_align(v)), mask]
        _masked(context, builder, "store", v, ir.VoidType(), arguments)

    return types.void(p, types.intp, v, types.intp), codegen


@intrinsic
def stream(typingctx, p, i, v):
    """Store a cache line past the caches; p + i must be aligned to it, and a `fence` must follow the last one."""

    def codegen(context, builder, signature, args):
        stored = builder.store(args[2], _at(context, builder, *args[:2], v))
        stored.align = LINE
        stored.set_metadata("nontemporal", builder.module.add_metadata([ir.IntType(32)(1)]))

    return types.void(p, types.intp, v), codegen


@intrinsic
def fence(typingctx):
    """Order streamed stores before whatever tells another thread that they are done."""

    def codegen(context, builder, signature, args):
        if builder.module.triple.startswith(("x86_64", "i386", "i486", "i586", "i686")):
            sfence = ir.FunctionType(ir.VoidType(), [])
            builder.call(cgutils.get_or_insert_function(builder.module, sfence, "llvm.x86.sse.sfence"), [])
        else:
            builder.fence("seq_cst")

    return types.void(), codegen


# ---- registers -------------------------------------------------------------------------------------------------------


@intrinsic
def splat(typingctx, p, value):
    """The number in every lane of a vector of p's type."""
    kind = _line(p)

    def codegen(context, builder, signature, args):
        return _vector(context, builder, args[1], value, kind)

    return kind(p, value), codegen


@intrinsic
def mul(typingctx, a, b):
    """The product, rounded once."""

    def codegen(context, builder, signature, args):
        return (builder.mul if isinstance(a.dtype, types.Integer) else builder.fmul)(*args)

    return a(a, b), codegen


@intrinsic
def add(typingctx, a, b):
    """The sum, rounded once."""

    def codegen(context, builder, signature, args):
        return (builder.add if isinstance(a.dtype, types.Integer) else builder.fadd)(*args)

    return a(a, b), codegen


def _where(relation: str):
    """A select on an ordered compare (false for NaN).  u is a vector; v, a and b are vectors or numbers."""

    def where(typingctx, u, v, a, b):
        given = [types.unliteral(kind) for kind in (u, v, a, b)]

        def codegen(context, builder, signature, args):
            u_, v_, a_, b_ = (_vector(context, builder, arg, kind, u) for arg, kind in zip(args, given, strict=True))
            compare = builder.icmp_signed if isinstance(u.dtype, types.Integer) else builder.fcmp_ordered
            return builder.select(compare(relation, u_, v_), a_, b_)

        return u(*given), codegen

    return intrinsic(where)


where_gt = _where(">")  # where_gt(u, v, a, b): u > v ? a : b
where_le = _where("<=")  # where_le(u, v, a, b): u <= v ? a : b


@intrinsic
def join(typingctx, a, b, n):
    """Lanes below n from a, the others from b."""

    def codegen(context, builder, signature, args):
        return builder.select(_first(builder, args[2], a.lanes), args[0], args[1])

    return a(a, b, types.intp), codegen


@intrinsic
def zeros(typingctx):
    """16 doubles, all +0.0."""

    def codegen(context, builder, signature, args):
        return ir.Constant(context.get_value_type(WIDE), None)

    return WIDE(), codegen


@intrinsic
def sum_lanes(typingctx, v):
    """The sum of the lanes by halves: lane i + lane i+8, then i + i+4, i + i+2, i + i+1."""

    def codegen(context, builder, signature, args):
        (total,) = args
        index = ir.IntType(32)
        half = v.lanes // 2
        while half:
            halves = [
                builder.shuffle_vector(
                    total,
                    ir.Constant(total.type, ir.Undefined),
                    ir.Constant(ir.VectorType(index, half), list(range(first, first + half))),
                )
                for first in (0, half)
            ]
            total = builder.fadd(*halves)
            half //= 2
        return builder.extract_element(total, index(0))

    return v.dtype(v), codegen
