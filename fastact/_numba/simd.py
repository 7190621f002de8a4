"""The vector vocabulary that kernels.py is written in: what simd.h is to the Cython variant.

A `Vector` is an LLVM vector; LLVM splits it into the registers of the machine, so there is one text for every CPU.
For elementwise work a vector is one cache line (64 bytes), whatever the type; a sum has 16 doubles.  A pointer is
Numba's own CPointer: it carries the type, and an index counts elements.  Each word becomes one or two LLVM
instructions, without fast-math flags: nothing is reordered, nothing raises, and only exact products are fused.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, models, register_model

GROUP = 16  # the lanes of a sum: doubles in a wide vector
LINE = 64  # bytes: a cache line, an elementwise vector, the alignment that streaming needs
# How many lines ahead they are fetched, in the caches and from memory: see docs/performance.md for the figures.
FETCH_AHEAD, FETCH_AHEAD_STREAMED = 16, 32

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


def _call(builder, name: str, returns, arguments: list):
    """Call one of LLVM's own functions."""
    function = ir.FunctionType(returns, [argument.type for argument in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, function, name), arguments)


def _masked(builder, verb: str, kind: Vector, returns, arguments: list):
    """Call llvm.masked.load or .store on vectors of `kind`: lanes that are masked out are not touched in memory."""
    element = "i" if isinstance(kind.dtype, types.Integer) else "f"
    return _call(builder, f"llvm.masked.{verb}.v{kind.lanes}{element}{kind.dtype.bitwidth}.p0", returns, arguments)


def _load(context, builder, pointer, index, kind: Vector):
    vector = builder.load(_at(context, builder, pointer, index, kind))
    vector.align = _align(kind)
    return vector


def _load_part(context, builder, pointer, index, mask, kind: Vector):
    vector = context.get_value_type(kind)
    return _masked(
        builder,
        "load",
        kind,
        vector,
        [
            _at(context, builder, pointer, index, kind),
            ir.IntType(32)(_align(kind)),
            mask,
            ir.Constant(vector, None),
        ],
    )


def _has_avx512(context) -> bool:
    """Whether the code is for a machine with AVX-512: registers of 8 doubles, masks and multiply-adds."""
    return "+avx512f" in context.codegen().magic_tuple()[2]


def _load_wide(context, builder, pointer, index, dtype: types.Type):
    """16 elements as doubles.  A load for each register: LLVM makes a converting load of it, without shuffles."""
    lanes = 8 if _has_avx512(context) else 4
    pieces = []
    for first in range(0, GROUP, lanes):
        at = builder.add(index, ir.Constant(index.type, first))
        pieces.append(_widened(context, builder, _load(context, builder, pointer, at, Vector(dtype, lanes)), dtype))
    while len(pieces) > 1:
        pieces = [_shuffle(builder, *pair, range(2 * lanes)) for pair in zip(pieces[::2], pieces[1::2], strict=True)]
        lanes *= 2
    return pieces[0]


def _shuffle(builder, a, b, order):
    """The lanes of a and then b, in this order."""
    index = ir.IntType(32)
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(index, len(order)), list(order)))


def _widened(context, builder, vector, dtype: types.Type):
    if dtype is types.float64:
        return vector
    return builder.fpext(vector, ir.VectorType(ir.DoubleType(), vector.type.count))


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


@intrinsic
def registers(typingctx):
    """How many wide vectors the registers can hold over a loop; a constant."""

    def codegen(context, builder, signature, args):
        return context.get_constant(types.intp, 4 if _has_avx512(context) else 1)

    return types.intp(), codegen


@intrinsic
def like(typingctx, p, q):
    """The pointer p as one to what q points to."""

    def codegen(context, builder, signature, args):
        return builder.bitcast(args[0], args[1].type)

    return q(p, q), codegen


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
        pointer, index, count = args
        return _load_part(context, builder, pointer, index, _first(builder, count, kind.lanes), kind)

    return kind(p, types.intp, types.intp), codegen


@intrinsic
def load_wide(typingctx, p, i):
    """16 elements from p[i] on, as doubles."""

    def codegen(context, builder, signature, args):
        return _load_wide(context, builder, *args, p.dtype)

    return WIDE(p, types.intp), codegen


@intrinsic
def load_wide_part(typingctx, p, i, at, n):
    """The n elements from p[i] on, as doubles, in the lanes from `at` on, and +0.0 in the other lanes."""
    kind = Vector(p.dtype, GROUP)

    def codegen(context, builder, signature, args):
        pointer, index, at, count = args
        below, upto = (_first(builder, lanes, GROUP) for lanes in (at, builder.add(at, count)))
        mask = builder.and_(upto, builder.not_(below))
        vector = _load_part(context, builder, pointer, builder.sub(index, at), mask, kind)
        return _widened(context, builder, vector, p.dtype)

    return WIDE(p, types.intp, types.intp, types.intp), codegen


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
        _masked(builder, "store", v, ir.VoidType(), arguments)

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
def stream_lane(typingctx, p, i, v, k):
    """p[i + k] = lane k of v, past the caches; as an integer, which is what x86 has an instruction for."""

    def codegen(context, builder, signature, args):
        pointer, index, vector, lane = args
        integers = ir.VectorType(ir.IntType(v.dtype.bitwidth), v.lanes)
        value = builder.extract_element(builder.bitcast(vector, integers), builder.trunc(lane, ir.IntType(32)))
        target = builder.gep(pointer, [builder.add(index, lane)])
        stored = builder.store(value, builder.bitcast(target, value.type.as_pointer()))
        stored.set_metadata("nontemporal", builder.module.add_metadata([ir.IntType(32)(1)]))

    return types.void(p, types.intp, v, types.intp), codegen


@intrinsic
def fetch(typingctx, p, i):
    """A hint that the line of p[i] will be read soon."""

    def codegen(context, builder, signature, args):
        there = builder.bitcast(builder.gep(args[0], [args[1]]), ir.IntType(8).as_pointer())
        read, keep, data = (ir.IntType(32)(hint) for hint in (0, 3, 1))
        _call(builder, "llvm.prefetch.p0", ir.VoidType(), [there, read, keep, data])

    return types.void(p, types.intp), codegen


@intrinsic
def fence(typingctx):
    """Order streamed stores before whatever tells another thread that they are done."""

    def codegen(context, builder, signature, args):
        if builder.module.triple.startswith(("x86_64", "i386", "i486", "i586", "i686")):
            _call(builder, "llvm.x86.sse.sfence", ir.VoidType(), [])
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
    """The sum, rounded once.  b is a vector; a may be a number."""
    given = types.unliteral(a)

    def codegen(context, builder, signature, args):
        a_ = _vector(context, builder, args[0], given, b)
        return (builder.add if isinstance(b.dtype, types.Integer) else builder.fadd)(a_, args[1])

    return b(given, b), codegen


@intrinsic
def exact_in_double(typingctx, v):
    """Whether the product of two of v's numbers is exact in double: a constant."""
    exact = v.dtype == types.float32

    def codegen(context, builder, signature, args):
        return context.get_constant(types.boolean, exact)

    return types.boolean(v), codegen


def _not_greater(builder, kind: Vector, u, v):
    """A mask of the lanes where u <= v or either is NaN.

    Every "greater" is asked this way round: it is the mask that leaves a lane alone in a product or a sum.
    """
    return (builder.icmp_signed if isinstance(kind.dtype, types.Integer) else builder.fcmp_unordered)("<=", u, v)


def _less_equal(builder, kind: Vector, u, v):
    """A mask of the lanes where u <= v."""
    return (builder.icmp_signed if isinstance(kind.dtype, types.Integer) else builder.fcmp_ordered)("<=", u, v)


def _where(mask, where_set: int):
    """A select.  u is a vector; v, a and b are vectors or numbers."""

    def where(typingctx, u, v, a, b):
        given = [types.unliteral(kind) for kind in (u, v, a, b)]

        def codegen(context, builder, signature, args):
            u_, v_, *ab = (_vector(context, builder, arg, kind, u) for arg, kind in zip(args, given, strict=True))
            return builder.select(mask(builder, u, u_, v_), ab[where_set], ab[1 - where_set])

        return u(*given), codegen

    return intrinsic(where)


where_gt = _where(_not_greater, 1)  # where_gt(u, v, a, b): u > v ? a : b
where_le = _where(_less_equal, 0)  # where_le(u, v, a, b): u <= v ? a : b


@intrinsic
def join(typingctx, a, b, n):
    """Lanes below n from a, the others from b."""

    def codegen(context, builder, signature, args):
        return builder.select(_first(builder, args[2], a.lanes), args[0], args[1])

    return a(a, b, types.intp), codegen


def _add_products_unless_gt(context, builder, totals: list, u, v, index, bound, dtype: types.Type, given: types.Type):
    """Each of the totals + (u > bound ? 0 : u * v) for 16 elements from u[index] and v[index] on.

    Where no lane of a total is -0.0, leaving a lane alone is adding +0.0 to it.
    """
    # Before the comparison's load: LLVM would take them out of its register, which costs shuffles.
    compared = factor = _load_wide(context, builder, u, index, dtype)
    other = _load_wide(context, builder, v, index, dtype)
    kind = WIDE
    exact = dtype is types.float32 and _has_avx512(context)
    if exact:
        # A converting load takes both vector ports of such a machine, so the rest has to be short: one
        # comparison of floats, and under its mask multiply-adds fused (the product is exact).
        kind = Vector(dtype, GROUP)
        compared = _load(context, builder, u, index, kind)
    mask = _not_greater(builder, kind, compared, _vector(context, builder, bound, given, kind))
    if exact:
        fused = [_call(builder, "llvm.fma.v16f64", total.type, [factor, other, total]) for total in totals]
        return [builder.select(mask, *pair) for pair in zip(fused, totals, strict=True)]
    product = builder.fmul(factor, other)
    term = builder.select(mask, product, ir.Constant(product.type, None))
    return [builder.fadd(total, term) for total in totals]


@intrinsic
def add_products_unless_gt(typingctx, total, u, v, i, bound):
    """total + (u > bound ? 0 : u * v) for 16 elements from u[i] and v[i] on, in doubles."""
    given = types.unliteral(bound)

    def codegen(context, builder, signature, args):
        return _add_products_unless_gt(context, builder, args[:1], *args[1:], u.dtype, given)[0]

    return total(total, u, v, types.intp, given), codegen


@intrinsic
def share_products_unless_gt(typingctx, total, following, u, v, i, bound, n):
    """The same, shared out: lanes below n are added to total, the others to following; both are the result."""
    given = types.unliteral(bound)
    both = types.UniTuple(total, 2)

    def codegen(context, builder, signature, args):
        totals, operands, n = list(args[:2]), args[2:-1], args[-1]
        sums = _add_products_unless_gt(context, builder, totals, *operands, u.dtype, given)
        first = _first(builder, n, GROUP)
        shared = builder.select(first, sums[0], totals[0]), builder.select(first, totals[1], sums[1])
        return context.make_tuple(builder, both, shared)

    return both(total, following, u, v, types.intp, given, types.intp), codegen


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
        half = v.lanes // 2
        while half:
            low, high = (_shuffle(builder, total, total, range(first, first + half)) for first in (0, half))
            total = builder.fadd(low, high)
            half //= 2
        return builder.extract_element(total, ir.IntType(32)(0))

    return v.dtype(v), codegen
