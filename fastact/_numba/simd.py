"""The vector vocabulary of _kernels.py in LLVM: what _cython/simd.h is in C.

A `Vector` is an LLVM vector; LLVM splits it into the registers of the machine, so there is one text for every CPU.
For elementwise work a vector is one cache line of the computing type; a sum has GROUP doubles.  A pointer is Numba's
CPointer: it carries the type, and an index counts elements.  Each word becomes one or two LLVM instructions, without
fast-math flags: nothing is reordered, nothing raises, and only exact products are fused.
"""

import inspect
from collections.abc import Callable

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.core.typing.templates import AttributeTemplate
from numba.extending import infer_getattr, intrinsic, lower_getattr_generic, models, register_model

from .._tables import FETCH_AHEAD, FETCH_AHEAD_STREAMED, GROUP, INNER_LOOP, LINE, PAIRS, STREAM_LINES

# Every flag of the compiler.  Numba's "numpy" error model leaves out the checks before // and %.
FLAGS = {"error_model": "numpy", "boundscheck": False, "fastmath": False, "forceinline": True}
inlined = njit(nogil=True, no_cpython_wrapper=True, no_cfunc_wrapper=True, **FLAGS)
# The same, inlined by Numba: a function that is called once would otherwise be compiled twice (0.6 s of 4.6 s).
inlined_early = njit(inline="always", **FLAGS)
# The same, left as a function of its own where LLVM sees fit.
out_of_line = njit(nogil=True, no_cpython_wrapper=True, no_cfunc_wrapper=True, **{**FLAGS, "forceinline": False})

# np.intp and np.bool_, because Numba compiles a function again for each plain constant that it is called with.
ZERO = np.intp(0)
NO_DX, STORED, STREAMED = np.arange(3, dtype=np.intp)  # what is done about dx in the loop of a sum
ORDINARY, STREAMING = np.array([False, True])  # stores
ROWS, ALONG = ORDINARY, STREAMING  # how alpha lies

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


class Half(types.Type):
    """The type of a 16-bit float in memory, for which Numba has none: an integer whose bits stand for a float32."""

    bitwidth = 16


@register_model(Half)
class HalfModel(models.PrimitiveModel):
    """16 bits."""

    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type, ir.IntType(16))


FLOAT16, BFLOAT16 = Half("float16"), Half("bfloat16")


def _computing(dtype: types.Type) -> types.Type:
    """The type that stored elements are computed in."""
    return types.float32 if isinstance(dtype, Half) else dtype


def _line(pointer: Pointer) -> Vector:
    """The type of the vector that a pointer's elements are loaded as: a cache line of the computing type."""
    dtype = _computing(pointer.dtype)
    return Vector(dtype, LINE * 8 // dtype.bitwidth)


class InnerLoop(types.Type):
    """Numba's type of a pointer to `struct inner_loop` with elements of one storage type; its fields are attributes."""

    def __init__(self, dtype: types.Type):
        self.dtype = dtype
        super().__init__(name=f"InnerLoop({dtype})")

    def field(self, name: str) -> types.Type | None:
        """The type of a field."""
        kind = INNER_LOOP.get(name)
        if kind is None:
            return None
        numbers = {
            "ptrdiff_t ": types.intp, "bool ": types.boolean, "double *": Pointer(types.float64),
            "uint8_t *": Pointer(types.uint8),
        }  # fmt: skip
        return numbers.get(kind) or Pointer(_computing(self.dtype) if "T" in kind else self.dtype)


@register_model(InnerLoop)
class InnerLoopModel(models.PrimitiveModel):
    """The pointer itself; each field has eight bytes."""

    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type, ir.IntType(64).as_pointer())


@infer_getattr
class InnerLoopFields(AttributeTemplate):
    """loop.n and the other fields."""

    key = InnerLoop

    def generic_resolve(self, loop, name):
        """The type of a field."""
        return loop.field(name)


@lower_getattr_generic(InnerLoop)
def _field(context, builder, loop, value, name):
    """Load a field."""
    place = ir.Constant(ir.IntType(64), list(INNER_LOOP).index(name))
    number = builder.load(builder.gep(value, [place]))
    kind = loop.field(name)
    if kind is types.boolean:
        return builder.icmp_signed("!=", number, ir.Constant(number.type, 0))
    return number if kind is types.intp else builder.inttoptr(number, context.get_value_type(kind))


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
    letter = "i" if isinstance(kind.dtype, Half) else "f"
    return _call(builder, f"llvm.masked.{verb}.v{kind.lanes}{letter}{kind.dtype.bitwidth}.p0", returns, arguments)


def _load(context, builder, pointer, index, kind: Vector):
    """A vector as it is stored."""
    vector = builder.load(_at(context, builder, pointer, index, kind))
    vector.align = _align(kind)
    return vector


def _load_part(context, builder, pointer, index, mask, kind: Vector):
    """The lanes under a mask, as they are stored."""
    vector = context.get_value_type(kind)
    arguments = [_at(context, builder, pointer, index, kind), ir.IntType(32)(_align(kind)), mask]
    return _masked(builder, "load", kind, vector, [*arguments, ir.Constant(vector, None)])


# ---- 16-bit floats ---------------------------------------------------------------------------------------------------
# What halves.h does in C.


def _converts_halves(context) -> bool:
    """Whether the code is for a machine that converts float16; on others LLVM would call a library."""
    triple, _, features = context.codegen().magic_tuple()
    return "+f16c" in features or triple.startswith(("aarch64", "arm64"))


def _like(vector, element: ir.Type) -> ir.Type:
    """A vector of as many lanes."""
    return ir.VectorType(element, vector.type.count)


def _numbers(vector, number: int):
    """An integer in every lane of a constant that goes with `vector`."""
    return ir.Constant(vector.type, [number] * vector.type.count)


def _computed(context, builder, vector, dtype: types.Type):
    """A vector of stored elements as one of the computing type."""
    if not isinstance(dtype, Half):
        return vector
    if dtype is FLOAT16 and _converts_halves(context):
        return builder.fpext(builder.bitcast(vector, _like(vector, ir.HalfType())), _like(vector, ir.FloatType()))
    bits = builder.zext(vector, _like(vector, ir.IntType(32)))
    if dtype is BFLOAT16:
        return builder.bitcast(builder.shl(bits, _numbers(bits, 16)), _like(vector, ir.FloatType()))
    sign = builder.shl(builder.and_(bits, _numbers(bits, 0x8000)), _numbers(bits, 16))
    rest = builder.and_(bits, _numbers(bits, 0x7FFF))
    # 112 is added to the exponent, and 224 to that of inf and NaN.  A subnormal's value is its bits times 2**-24.
    large = builder.icmp_unsigned(">=", rest, _numbers(bits, 0x7C00))
    moved = builder.select(large, _numbers(bits, 224 << 23), _numbers(bits, 112 << 23))
    normal = builder.add(builder.shl(rest, _numbers(bits, 13)), moved)
    small = builder.uitofp(rest, _like(vector, ir.FloatType()))
    small = builder.fmul(small, ir.Constant(small.type, [2.0**-24] * vector.type.count))
    is_small = builder.icmp_unsigned("<", rest, _numbers(bits, 0x400))
    found = builder.select(is_small, builder.bitcast(small, bits.type), normal)
    return builder.bitcast(builder.or_(found, sign), small.type)


def _stored(context, builder, vector, dtype: types.Type):
    """A vector of the computing type as stored elements, rounded to nearest even."""
    if not isinstance(dtype, Half):
        return vector
    if dtype is FLOAT16 and _converts_halves(context):
        return builder.bitcast(builder.fptrunc(vector, _like(vector, ir.HalfType())), _like(vector, ir.IntType(16)))
    bits = builder.bitcast(vector, _like(vector, ir.IntType(32)))

    def rounded(value, shift: int):
        """The value without its last `shift` bits, rounded to nearest even."""
        odd = builder.and_(builder.lshr(value, _numbers(bits, shift)), _numbers(bits, 1))
        half = _numbers(bits, (1 << (shift - 1)) - 1)
        return builder.lshr(builder.add(builder.add(value, half), odd), _numbers(bits, shift))

    if dtype is BFLOAT16:
        quiet = builder.or_(builder.lshr(bits, _numbers(bits, 16)), _numbers(bits, 0x40))
        is_nan = builder.fcmp_unordered("uno", vector, vector)
        return builder.trunc(builder.select(is_nan, quiet, rounded(bits, 16)), _like(vector, ir.IntType(16)))
    sign = builder.and_(builder.lshr(bits, _numbers(bits, 16)), _numbers(bits, 0x8000))
    rest = builder.and_(bits, _numbers(bits, 0x7FFFFFFF))
    normal = rounded(builder.sub(rest, _numbers(bits, 112 << 23)), 13)
    # A float32 from 0.5 on is a multiple of 2**-24, as a float16 subnormal is: adding 0.5 rounds to such a multiple.
    shifted = builder.fadd(builder.bitcast(rest, vector.type), ir.Constant(vector.type, [0.5] * vector.type.count))
    small = builder.sub(builder.bitcast(shifted, bits.type), _numbers(bits, 0x3F000000))
    nan = builder.or_(
        builder.and_(builder.lshr(rest, _numbers(bits, 13)), _numbers(bits, 0x3FF)), _numbers(bits, 0x7E00)
    )
    is_nan = builder.icmp_unsigned(">", rest, _numbers(bits, 0x7F800000))
    large = builder.select(is_nan, nan, _numbers(bits, 0x7C00))
    is_small = builder.icmp_unsigned("<", rest, _numbers(bits, 0x38800000))
    is_large = builder.icmp_unsigned(">=", rest, _numbers(bits, 0x47800000))
    found = builder.select(is_large, large, builder.select(is_small, small, normal))
    return builder.trunc(builder.or_(found, sign), _like(vector, ir.IntType(16)))


def _has_avx512(context) -> bool:
    """Whether the code is for a machine with AVX-512: registers of 8 doubles, masks and multiply-adds."""
    return "+avx512f" in context.codegen().magic_tuple()[2]


def _load_wide(context, builder, pointer, index, dtype: types.Type):
    """16 elements as doubles.  There is a load for each register, so LLVM makes converting loads without shuffles."""
    lanes = 8 if _has_avx512(context) else 4
    pieces = []
    for first in range(0, GROUP, lanes):
        at = builder.add(index, ir.Constant(index.type, first))
        piece = _load(context, builder, pointer, at, Vector(dtype, lanes))
        pieces.append(_widened(builder, _computed(context, builder, piece, dtype)))
    while len(pieces) > 1:
        pieces = [_shuffle(builder, *pair, range(2 * lanes)) for pair in zip(pieces[::2], pieces[1::2], strict=True)]
        lanes *= 2
    return pieces[0]


def _shuffle(builder, a, b, order):
    """The lanes of a and then b, in this order."""
    index = ir.IntType(32)
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(index, len(order)), list(order)))


def _widened(builder, vector):
    """A vector of floats or doubles as doubles."""
    doubles = _like(vector, ir.DoubleType())
    return vector if vector.type == doubles else builder.fpext(vector, doubles)


def word(returns: Callable) -> Callable:
    """Make a word of a function that emits its code; `returns` gives the result's type for the arguments' types."""

    def decorate(emit: Callable):
        def typed(typingctx, *kinds):
            kinds = tuple(map(types.unliteral, kinds))

            def codegen(context, builder, signature, values):
                return emit(context, builder, kinds, *values)

            return returns(*kinds)(*kinds), codegen

        # Numba binds arguments by the function's signature: the typing context, then the word's own parameters.
        parameters = list(inspect.signature(emit).parameters.values())
        typed.__signature__ = inspect.Signature([parameters[0], *parameters[3:]])
        return intrinsic(typed)

    return decorate


def _void(*kinds) -> types.Type:
    return types.void


# ---- memory ----------------------------------------------------------------------------------------------------------

WIDE = Vector(types.float64, GROUP)


@word(lambda p, i: p)
def at(context, builder, kinds, p, i):
    """The pointer to p[i]."""
    return builder.gep(p, [i])


at_sums = at_slopes = at


@word(lambda p, i: p.dtype)
def sum_at(context, builder, kinds, p, i):
    """The number p[i]."""
    return builder.load(builder.gep(p, [i]))


@word(_void)
def put_sum(context, builder, kinds, p, i, value):
    """p[i] = value, a number."""
    builder.store(value, builder.gep(p, [i]))


@word(lambda p: types.intp)
def address(context, builder, kinds, p):
    """The address as an integer; 0 for "no such array"."""
    return builder.ptrtoint(p, context.get_value_type(types.intp))


@inlined
def wanted(p):
    """Whether there is such a result."""
    return address(p) != 0


@word(lambda p: p.dtype)
def zero_of(context, builder, kinds, p):
    """The number 0 of the pointer's type: with a plain 0 Numba computes uint64 in float64."""
    return context.get_constant(kinds[0].dtype, 0)


@word(lambda p: Pointer(types.int16))
def as_int16(context, builder, kinds, p):
    """A pointer to 16-bit floats as one to integers."""
    return p


@word(lambda p, q: types.boolean)
def same(context, builder, kinds, p, q):
    """Whether both are one address."""
    return builder.icmp_unsigned("==", p, q)


@word(lambda p: types.intp)
def to_line(context, builder, kinds, p):
    """How many elements lie before the first address that can be streamed to."""
    place = builder.ptrtoint(p, context.get_value_type(types.intp))
    return builder.udiv(builder.and_(builder.neg(place), place.type(LINE - 1)), place.type(_align(kinds[0])))


@inlined
def unaligned(p, i):
    """How many elements p[i] lies behind the last address that can be streamed to."""
    return address(at(p, i)) // item_size(p) % line(p)


@inlined
def fetch_distance(p, streams):
    """How many elements ahead to prefetch."""
    return (FETCH_AHEAD_STREAMED if streams else FETCH_AHEAD) // item_size(p)


@word(lambda p: types.intp)
def item_size(context, builder, kinds, p):
    """The bytes of an element; a constant."""
    return context.get_constant(types.intp, _align(kinds[0]))


@word(lambda p: types.intp)
def lanes(context, builder, kinds, p):
    """The elements of a vector; a constant."""
    return context.get_constant(types.intp, _line(kinds[0]).lanes)


# The elements between two addresses that can be streamed to: a vector, which is half a cache line of 16-bit floats.
line = lanes


@word(lambda: types.intp)
def registers(context, builder, kinds):
    """How many wide vectors the registers can hold over a loop; a constant."""
    return context.get_constant(types.intp, 4 if _has_avx512(context) else 1)


def _on_stack(size: int):
    """A word without arguments: `size` uninitialised doubles on the stack."""

    @word(lambda: Pointer(types.float64))
    def doubles(context, builder, kinds):
        array = cgutils.alloca_once(builder, ir.ArrayType(ir.DoubleType(), size))
        return builder.bitcast(array, ir.DoubleType().as_pointer())

    return doubles


scratch = _on_stack(PAIRS)


@word(lambda p: p)
def stream_buffer(context, builder, kinds, p):
    """STREAM_LINES cache lines of uninitialised elements on the stack."""
    with builder.goto_entry_block():  # alloca_once of cgutils would write zeros there, in every call
        lines = builder.alloca(context.get_value_type(_line(kinds[0])), STREAM_LINES)
    return builder.bitcast(lines, p.type)


def _lie(pointer: Pointer) -> Vector:
    """The type of what `load` reads, as it is stored."""
    return Vector(pointer.dtype, _line(pointer).lanes)


@word(lambda p, i: _line(p))
def load(context, builder, kinds, p, i):
    """A vector of the elements from p[i] on, at any alignment."""
    return _computed(context, builder, _load(context, builder, p, i, _lie(kinds[0])), kinds[0].dtype)


load_slopes = load


@word(lambda p, i, n: _line(p))
def load_part(context, builder, kinds, p, i, n):
    """The first n lanes from memory, zero in the others; nothing is touched past p[i + n - 1]."""
    kind = _lie(kinds[0])
    vector = _load_part(context, builder, p, i, _first(builder, n, kind.lanes), kind)
    return _computed(context, builder, vector, kind.dtype)


load_slopes_part = load_part


@word(lambda p, i: _line(p))
def load_slope(context, builder, kinds, p, i):
    """The number p[i] in every lane."""
    return _broadcast(builder, builder.load(builder.gep(p, [i])), _line(kinds[0]).lanes)


@word(lambda p, i: WIDE)
def load_wide(context, builder, kinds, p, i):
    """GROUP elements from p[i] on, as doubles."""
    return _load_wide(context, builder, p, i, kinds[0].dtype)


@word(_void)
def store(context, builder, kinds, p, i, v):
    """Store a vector at p[i] and on, at any alignment."""
    vector = _stored(context, builder, v, kinds[0].dtype)
    builder.store(vector, _at(context, builder, p, i, _lie(kinds[0]))).align = _align(kinds[0])


@word(_void)
def store_wide(context, builder, kinds, p, i, v):
    """The same for a wide vector."""
    builder.store(v, _at(context, builder, p, i, kinds[2])).align = _align(kinds[2])


@word(_void)
def store_part(context, builder, kinds, p, i, v, n):
    """Store the first n lanes; nothing is touched past p[i + n - 1]."""
    kind = _lie(kinds[0])
    vector = _stored(context, builder, v, kind.dtype)
    mask = _first(builder, n, kind.lanes)
    arguments = [vector, _at(context, builder, p, i, kind), ir.IntType(32)(_align(kind)), mask]
    _masked(builder, "store", kind, ir.VoidType(), arguments)


def _past_the_caches(builder, value, target):
    """A streaming store, which goes past the caches."""
    stored = builder.store(value, target)
    stored.set_metadata("nontemporal", builder.module.add_metadata([ir.IntType(32)(1)]))
    return stored


def _is_x86(builder) -> bool:
    """Whether the code is for an x86."""
    return builder.module.triple.startswith(("x86_64", "i386", "i486", "i586", "i686"))


@word(_void)
def stream(context, builder, kinds, p, i, v):
    """Store a vector past the caches; p + i must be aligned to it, and a `fence` must follow the last one."""
    kind = _lie(kinds[0])
    vector = _stored(context, builder, v, kind.dtype)
    if isinstance(kind.dtype, Half) and _is_x86(builder) and _converts_halves(context):
        # LLVM would merge the conversion and the store, and x86 has no such streaming instruction: the result was
        # stored as usual.  Empty inline assembly between the two makes LLVM convert in a register first.
        kept = ir.InlineAsm(ir.FunctionType(vector.type, [vector.type]), "", "=x,0")
        vector = builder.call(kept, [vector])
    _past_the_caches(builder, vector, _at(context, builder, p, i, kind)).align = kind.lanes * _align(kind)


@word(_void)
def stream_lines(context, builder, kinds, p, buffer, n):
    """Copy n cache lines past the caches."""
    lines = context.get_value_type(_line(kinds[0])).as_pointer()
    source, target = (builder.bitcast(pointer, lines) for pointer in (buffer, p))
    with cgutils.for_range(builder, n) as loop:
        line = builder.load(builder.gep(source, [loop.index]))
        _past_the_caches(builder, line, builder.gep(target, [loop.index])).align = LINE


@word(_void)
def _stream_lane(context, builder, kinds, p, i, v, k):
    """p[i + k] = lane k of v, past the caches.  It is stored as an integer, for which x86 has an instruction."""
    integers = ir.VectorType(ir.IntType(kinds[2].dtype.bitwidth), kinds[2].lanes)
    value = builder.extract_element(builder.bitcast(v, integers), builder.trunc(k, ir.IntType(32)))
    _past_the_caches(builder, value, builder.bitcast(builder.gep(p, [builder.add(i, k)]), value.type.as_pointer()))


@inlined
def stream_part(p, i, v, n):
    """Store the first n lanes past the caches, one by one.  16 bits cannot be streamed, and are stored as usual."""
    if item_size(p) == 2:
        store_part(p, i, v, n)
    else:
        for k in range(n):
            _stream_lane(p, i, v, k)


@word(_void)
def fetch(context, builder, kinds, p, i):
    """A hint that the line of p[i] will be read soon."""
    there = builder.bitcast(builder.gep(p, [i]), ir.IntType(8).as_pointer())
    read, keep, data = (ir.IntType(32)(hint) for hint in (0, 3, 1))
    _call(builder, "llvm.prefetch.p0", ir.VoidType(), [there, read, keep, data])


fetch_slopes = fetch


@word(_void)
def fence(context, builder, kinds):
    """Order streamed stores before whatever tells another thread that they are done."""
    if _is_x86(builder):
        _call(builder, "llvm.x86.sse.sfence", ir.VoidType(), [])
    else:
        builder.fence("seq_cst")


# ---- registers -------------------------------------------------------------------------------------------------------


@word(lambda like, number: like if isinstance(like, Vector) else _line(like))
def full_like(context, builder, kinds, like, number):
    """The number in every lane of a vector of the type of `like`, or of the type that the pointer `like` loads."""
    kind = kinds[0] if isinstance(kinds[0], Vector) else _line(kinds[0])
    return _broadcast(builder, context.cast(builder, number, kinds[1], kind.dtype), kind.lanes)


full = full_like


@word(lambda a, b: a)
def mul(context, builder, kinds, a, b):
    """The product, rounded once."""
    return builder.fmul(a, b)


@word(lambda a, b: a)
def add(context, builder, kinds, a, b):
    """The sum, rounded once."""
    return builder.fadd(a, b)


@word(lambda v: types.boolean)
def exact_in_double(context, builder, kinds, v):
    """Whether the product of two of v's numbers is exact in double: a constant."""
    return context.get_constant(types.boolean, kinds[0].dtype == types.float32)


def _not_greater(builder, u, v):
    """A mask of the lanes where u <= v or either is NaN.

    Every "greater" is tested by this mask: its lanes are those that take the product, or that add a term to a sum.
    """
    return builder.fcmp_unordered("<=", u, v)


@word(lambda u, v, a, b: a)
def where_gt(context, builder, kinds, u, v, a, b):
    """u > v ? a : b."""
    return builder.select(_not_greater(builder, u, v), b, a)


@word(lambda u, v, a, b: a)
def where_le(context, builder, kinds, u, v, a, b):
    """u <= v ? a : b."""
    return builder.select(builder.fcmp_ordered("<=", u, v), a, b)


def _bits(builder, mask):
    """A mask's lanes as the lowest bits of an integer."""
    return builder.zext(builder.bitcast(mask, ir.IntType(mask.type.count)), ir.IntType(64))


@word(lambda u, v: types.intp)
def bits_gt(context, builder, kinds, u, v):
    """The lanes where u > v."""
    return _bits(builder, builder.fcmp_ordered(">", u, v))


@word(lambda u, v: types.intp)
def bits_le(context, builder, kinds, u, v):
    """The lanes where u <= v."""
    return _bits(builder, builder.fcmp_ordered("<=", u, v))


@word(lambda k, a, b: a)
def where_bits(context, builder, kinds, k, a, b):
    """The lanes of a whose bits are set, the others of b."""
    lanes = kinds[1].lanes
    mask = builder.bitcast(builder.trunc(k, ir.IntType(lanes)), ir.VectorType(ir.IntType(1), lanes))
    return builder.select(mask, a, b)


@inlined
def get_bits(mask, i, n):
    """n <= 64 bits from the lowest bit of element i's byte on.  Bits after the n-th may have any value."""
    bits = ZERO
    for k in range((n + 7) >> 3):
        bits |= np.intp(sum_at(mask, (i >> 3) + k)) << (8 * k)
    return bits


@inlined
def put_bits(mask, i, bits, n):
    """Store the lowest n bits, in whole bytes, from element i's byte on."""
    for k in range((n + 7) >> 3):
        put_sum(mask, (i >> 3) + k, np.uint8((bits >> (8 * k)) & 255))


@word(lambda a, b, n: a)
def join(context, builder, kinds, a, b, n):
    """Lanes below n from a, the others from b."""
    return builder.select(_first(builder, n, kinds[0].lanes), a, b)


def _add_products_unless_gt(context, builder, totals: list, u, v, index, bound, dtype: types.Type, given: types.Type):
    """Each of the totals + (u > bound ? 0 : u * v) for 16 elements from u[index] and v[index] on.

    Adding +0.0 does not change a lane, because no lane of a sum is -0.0.
    """
    if dtype is FLOAT16:
        # The product of two float16 numbers is exact in float32, so only products are converted to double.
        kind = Vector(dtype, GROUP)
        factor, other = (_computed(context, builder, _load(context, builder, p, index, kind), dtype) for p in (u, v))
        bounds = _broadcast(builder, context.cast(builder, bound, given, types.float32), GROUP)
        product = builder.fmul(factor, other)
        mask = _not_greater(builder, factor, bounds)
        term = _widened(builder, builder.select(mask, product, ir.Constant(product.type, None)))
        return [builder.fadd(total, term) for total in totals]
    # These loads come before the one for the comparison.  Otherwise LLVM would shuffle the numbers out of its register.
    compared = factor = _load_wide(context, builder, u, index, dtype)
    other = _load_wide(context, builder, v, index, dtype)
    kind = WIDE
    exact = dtype is types.float32 and _has_avx512(context)
    if exact:
        # A converting load keeps both vector ports of such a machine busy, so the rest has to be short: one
        # comparison of floats, and under its mask multiply-adds fused (the product is exact).
        kind = Vector(dtype, GROUP)
        compared = _load(context, builder, u, index, kind)
    bounds = _broadcast(builder, context.cast(builder, bound, given, kind.dtype), kind.lanes)
    mask = _not_greater(builder, compared, bounds)
    if exact:
        fused = [_call(builder, "llvm.fma.v16f64", total.type, [factor, other, total]) for total in totals]
        return [builder.select(mask, *pair) for pair in zip(fused, totals, strict=True)]
    product = builder.fmul(factor, other)
    term = builder.select(mask, product, ir.Constant(product.type, None))
    return [builder.fadd(total, term) for total in totals]


@word(lambda total, u, v, i, bound: total)
def add_products_unless_gt(context, builder, kinds, total, u, v, i, bound):
    """total + (u > bound ? 0 : u * v) for GROUP elements from u[i] and v[i] on, in doubles."""
    return _add_products_unless_gt(context, builder, [total], u, v, i, bound, kinds[1].dtype, kinds[4])[0]


@word(lambda total, following, u, v, i, bound, n: types.UniTuple(total, 2))
def split_products_unless_gt(context, builder, kinds, total, following, u, v, i, bound, n):
    """The same, split: lanes below n are added to total, the others to following; both are the result."""
    totals = [total, following]
    sums = _add_products_unless_gt(context, builder, totals, u, v, i, bound, kinds[2].dtype, kinds[5])
    first = _first(builder, n, GROUP)
    split = builder.select(first, sums[0], total), builder.select(first, following, sums[1])
    return context.make_tuple(builder, types.UniTuple(kinds[0], 2), split)


@word(lambda p, i, lane, n: WIDE)
def _load_wide_part(context, builder, kinds, p, i, lane, n):
    """The n elements from p[i] on, as doubles, in the lanes from `lane` on, and +0.0 in the other lanes."""
    below, upto = (_first(builder, lanes, GROUP) for lanes in (lane, builder.add(lane, n)))
    mask = builder.and_(upto, builder.not_(below))
    vector = _load_part(context, builder, p, builder.sub(i, lane), mask, Vector(kinds[0].dtype, GROUP))
    return _widened(builder, _computed(context, builder, vector, kinds[0].dtype))


_group = _on_stack(GROUP)


@inlined
def add_products_part_unless_gt(total, u, v, i, bound, lane, n):
    """add_products_unless_gt for n < GROUP elements, which go to the lanes from `lane` on."""
    a = _group()
    b = _group()
    store_wide(a, 0, _load_wide_part(u, i, lane, n))
    store_wide(b, 0, _load_wide_part(v, i, lane, n))
    return add_products_unless_gt(total, a, b, ZERO, bound)


@word(lambda: WIDE)
def zeros(context, builder, kinds):
    """GROUP doubles, all +0.0."""
    return ir.Constant(context.get_value_type(WIDE), None)


@word(lambda v: v.dtype)
def sum_lanes(context, builder, kinds, v):
    """The sum of the lanes by halves: lane i + lane i+8, then i + i+4, i + i+2, i + i+1."""
    half = kinds[0].lanes // 2
    while half:
        low, high = (_shuffle(builder, v, v, range(first, first + half)) for first in (0, half))
        v = builder.fadd(low, high)
        half //= 2
    return builder.extract_element(v, ir.IntType(32)(0))
