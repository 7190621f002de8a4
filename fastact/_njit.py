"""The six functions inside other people's @njit functions.

Numba asks for `init` before it compiles or loads anything, by the entry point `numba_extensions` of pyproject.toml.
`init` gives Numba an implementation (an overload) of each function of the table of operations; nothing else imports
this module.  The rules for types are those of _arguments.py, applied to Numba's types.  What _arguments.py raises for
dtypes is Numba's TypingError here; what depends on shapes or memory is a ValueError when the function runs.

An implementation is put together from the smallest functions that the types of a call need:
- On numbers it is the formula.
- On small arrays in C order it is a loop (`_sweep`), which LLVM can inline into the caller's.  With one slope for all
  elements it adds up dalpha, too, in the order of the kernels.
- On all others it calls the C interface (fastact.h) by the names of its functions, so that code in Numba's cache finds
  them in any process.
- Without the compiled core, the loop also takes large arrays, `_everywhere` takes those in another order, and `_add_up`
  makes the sums of dalpha.

Numba removes a branch on a truth value that is constant when the function is made (`if sums:`), before it infers types.
The code of such a branch therefore need not fit the types of the call.
"""

import inspect

import numpy as np
from llvmlite import binding, ir
from numba import njit, typeof
from numba.core import cgutils, errors, types
from numba.core.imputils import impl_ret_borrowed
from numba.cpython.unsafe.tuple import tuple_setitem
from numba.extending import overload
from numba.np.arrayobj import load_item, store_item
from numba.np.numpy_support import as_dtype, from_dtype

import fastact

from . import _built, _interface
from ._numba.simd import add_products_part_unless_gt, add_products_unless_gt, address, put_sum, sum_lanes, word, zeros
from ._tables import BLOCK, GROUP, NO_OPENMP, OPERATIONS, Operation

# fastact.h's numbers.  Without the core no C function is called, and the numbers only have to differ.
_NAMES = ("OK", "BAD_VALUE", "NO_MEMORY", "NO_SOURCE")
_STATUSES = _built.entry.STATUSES if _built.entry else {name: number for number, name in enumerate(_NAMES)}
_NUMBERS = _built.entry.DTYPES if _built.entry else {}
SMALL = BLOCK  # the most elements for a loop here: it takes 36 ns for 1024 floats, and the C interface 60 ns

# Numba's options for every function here.  Nothing calls them from Python or C.
_OPTIONS = {
    "error_model": "numpy", "boundscheck": False, "fastmath": False, "forceinline": True,
    "no_cpython_wrapper": True, "no_cfunc_wrapper": True,
}  # fmt: skip
_jit = njit(**_OPTIONS)


def _by_type(choose):
    """A function for compiled code.  choose() gets the types of the arguments and returns the implementation."""

    def stub():
        pass

    overload(stub, strict=False, jit_options=_OPTIONS)(choose)
    return stub


def _is_array(kind: types.Type) -> bool:
    return isinstance(kind, types.Array)


_ready = False


def init() -> None:
    """Give Numba the implementations; a second call does nothing.

    The kernels of the C interface are loaded here, because code from Numba's cache calls them without asking.
    """
    global _ready
    if _ready:
        return
    try:
        _interface.load_kernels()
    except ImportError:
        _name_missing_functions()
        compiled = False
    else:
        binding.load_library_permanently(_built.entry.__file__)
        compiled = True
    for op in OPERATIONS.values():
        function = getattr(fastact, op.name)
        overload(function, strict=False, prefer_literal=True, jit_options=_OPTIONS)(_typing(op, function, compiled))
    _ready = True


# ---- the types of a call ---------------------------------------------------------------------------------------------

_REFUSED = {"backend", "n_threads", "return_mask", "mask"}  # keywords that only calls from Python have


class _Call:
    """The types of one call's arguments, checked, and those of its results.

    A type is an array's, a number's, or `types.none` where there is no such operand.
    """

    def __init__(self, op: Operation, given: dict) -> None:
        self.op = op
        none = types.none
        self.x, self.dy = _operand(given["x"], "x"), none
        self.scalar = not _is_array(self.x)
        kind = self.x if self.scalar else self.x.dtype
        is_float = isinstance(kind, types.Float)
        self.dtype = kind if is_float or op.integers else types.float64  # the computing dtype
        if op.backward:
            self.dy = _operand(given["dy"], "dy")
            if _is_array(self.dy) is self.scalar:
                raise errors.TypingError("fastact: dy and x must both be arrays or both be numbers")
        self.alpha, self.dalpha_dtype = none, self.dtype
        if op.alpha:
            self.alpha = _operand(given["alpha"], "alpha")
            if _is_array(self.alpha):
                if self.scalar or op.alpha == "number":
                    raise errors.TypingError("fastact: alpha must be a number here: prelu of an array takes arrays")
                if isinstance(self.alpha.dtype, types.Float):
                    self.dalpha_dtype = self.alpha.dtype
        if not isinstance(given.get("channel_axis", types.intp), types.Integer):
            raise errors.TypingError("fastact: channel_axis must be an integer")
        self.need, self.need_dalpha = True, op.summed
        self.out, self.dalpha_out = given["out"], none
        if op.summed:
            self.need, self.need_dalpha = (_constant(given[name], name) for name in ("need_dx", "need_dalpha"))
            if not isinstance(self.out, types.BaseTuple) or len(self.out) != 2:
                raise errors.TypingError("fastact: out must be a tuple of two, (dx, dalpha), each an array or None")
            self.out, self.dalpha_out = self.out
        names = ("out[0] (dx)", "out[1] (dalpha)") if op.summed else ("out", "")
        _check_out(self.out, names[0], self.need and not self.scalar, self.dtype)
        _check_out(self.dalpha_out, names[1], self.need_dalpha and not self.scalar, self.dalpha_dtype)

        # Whether every operand of the elementwise part lies in C order.
        arrays = [a for a in (self.x, self.dy, self.alpha, self.out) if _is_array(a)]
        self.flat = all(a.layout == "C" for a in arrays)
        # Whether a loop computes the call where the compiled core is there, x is small and alpha's form allows it.
        alike = not self.scalar and getattr(self.dy, "dtype", None) == self.x.dtype == self.dtype
        self.swept = self.flat and (alike if self.need_dalpha else self.need)


def _operand(kind: types.Type, name: str) -> types.Type:
    """The type, if it is that of a real array or number."""
    kind = types.unliteral(kind)
    number = kind.dtype if _is_array(kind) else kind
    if number not in _DTYPES:
        allowed = "an array or a number: float32, float64, an integer or bool"
        raise errors.TypingError(f"fastact: {name} is {kind}, and must be {allowed}")
    return kind


def _constant(value: object, name: str) -> bool:
    """A flag's value, which decides the results' types."""
    value = getattr(value, "literal_value", value)
    if not isinstance(value, bool):
        raise errors.TypingError(f"fastact: {name} must be True or False, written out in the call")
    return value


def _check_out(kind: types.Type, name: str, wanted: bool, dtype: types.Type) -> None:
    """Check the type of an `out`; its shape and memory are checked when the function runs."""
    if kind == types.none:
        return
    if not wanted:
        raise errors.TypingError(f"fastact: {name} was given for a number, or for a gradient that is not needed")
    if not _is_array(kind):
        raise errors.TypingError(f"fastact: {name} is {kind}, and must be an array or None")
    if kind.dtype != dtype:
        raise errors.TypingError(f"fastact: {name} has dtype {kind.dtype}, but the result has dtype {dtype}")
    if not kind.mutable:
        raise errors.TypingError(f"fastact: {name} is read-only")


def _typing(op: Operation, function: object, compiled: bool):
    """The function that Numba calls to get the implementation of one operation."""
    public = inspect.signature(function)

    def typed(*args, **kws):
        if refused := _REFUSED.intersection(kws):
            raise errors.TypingError(
                f"fastact.{op.name}: {', '.join(sorted(refused))} cannot be given inside an @njit function"
            )
        try:
            bound = public.bind(*args, **kws)
        except TypeError as error:
            raise errors.TypingError(f"fastact.{op.name}: {error}") from None
        bound.apply_defaults()
        call = _Call(op, {name: _type_of(value) for name, value in bound.arguments.items()})
        return _with_signature(op, public, _on_numbers(call) if call.scalar else _on_arrays(call, compiled))

    typed.__name__ = op.name  # which Numba's messages show
    return typed


def _type_of(value: object) -> object:
    """The type of an argument that was given or is a default; a flag as it is."""
    value = value.value if isinstance(value, types.Omitted) else value
    return value if isinstance(value, types.Type | bool) else typeof(value)


def _with_signature(op: Operation, public: inspect.Signature, run):
    """A function with an operation's own arguments and defaults, which passes arrays to run() without their owners.

    It is made from text, because Numba takes a call's keywords from the names of its arguments.
    """
    names = [name for name in public.parameters if name not in {"more", *_REFUSED}]
    dy, alpha, axis = (name if name in names else None for name in ("dy", "alpha", "channel_axis"))
    out, dalpha_out = ("out[0]", "out[1]") if op.summed else ("out", None)
    lent = ", ".join(f"borrowed({name})" for name in (dy, "x", alpha, out, dalpha_out))
    text = f"lambda {', '.join(names)}: run({axis or 1}, {lent}, owner({out}), owner({dalpha_out}))"
    function = eval(text, {"run": run, "borrowed": _borrowed, "owner": _owner})
    defaults = (public.parameters[name].default for name in names)
    function.__defaults__ = tuple(default for default in defaults if default is not inspect.Parameter.empty)
    return function


# ---- the contract's expressions, on numbers --------------------------------------------------------------------------


def _formulas(call: _Call):
    """The expressions of reference.py on numbers of any dtype: the elementwise f(dy, x, alpha) and a term of dalpha."""
    dtype = call.dtype
    # A number for alpha is converted to double first, as in a call from Python.
    cast_alpha = dtype if _is_array(call.alpha) else _jit(lambda alpha: dtype(np.float64(alpha)))

    def relu(dy, x, alpha):
        return dtype(0) if dtype(x) <= 0 else dtype(x)

    def relu_backward(dy, x, alpha):
        return dtype(0) if dtype(x) <= 0 else dtype(dy)

    def prelu(dy, x, alpha):
        return dtype(x) if dtype(x) > 0 else cast_alpha(alpha) * dtype(x)

    def prelu_backward_dx(dy, x, alpha):
        return dtype(dy) if dtype(x) > 0 else cast_alpha(alpha) * dtype(dy)

    def prelu_backward_dalpha(dy, x):
        return 0.0 if dtype(x) > 0 else 0.0 + np.float64(dtype(x)) * np.float64(dtype(dy))

    return _jit(locals()[call.op.reference]), _jit(prelu_backward_dalpha)


def _on_numbers(call: _Call):
    """run() where x is a number."""
    (formula, term), dtype, summed = _formulas(call), call.dtype, call.op.summed
    dx, dalpha = (_jit((lambda a: a) if need else (lambda a: None)) for need in (call.need, call.need_dalpha))

    def run(channel_axis, dy, x, alpha, out, dalpha_out, owner, dalpha_owner):
        y = formula(dy, x, alpha)
        if summed:
            return dx(y), dalpha(dtype(term(dy, x)))
        return y

    return _jit(run)


# ---- checks when the function runs -----------------------------------------------------------------------------------
# Each returns the number of an error, and only `run` raises.

# The first numbers are the statuses of fastact.h, whose functions return _BAD_VALUE for shared memory.
_OK, _BAD_VALUE, _NO_MEMORY, _NO_SOURCE = (_STATUSES[name] for name in _NAMES)
_NO_CORE = 100
_NO_OPENMP = f"fastact: {NO_OPENMP}"
_BAD_DY, _BAD_OUT, _BAD_DALPHA, _BAD_AXIS, _BAD_CHANNELS, _BAD_ALPHA = range(101, 107)


@_jit
def _first_axis(alpha, x, channel_axis):
    """The axis of x along which alpha's first axis lies."""
    if alpha.ndim != 1:
        return x.ndim - alpha.ndim
    return channel_axis + x.ndim if channel_axis < 0 else channel_axis


def _may_vary(alpha: types.Type, x: types.Type) -> bool:
    """Whether alpha is an array that can have more slopes than one."""
    return _is_array(alpha) and 0 < alpha.ndim <= x.ndim


@_by_type
def _rows(alpha, x, channel_axis):
    """Whether alpha's shape fits x, how many slopes there are, and how many elements in C order share one.

    0 slopes: alpha broadcasts along one of its own axes.
    """
    one_axis = getattr(alpha, "ndim", 0) == 1
    wrong_axis, wrong_size = (_BAD_AXIS, _BAD_CHANNELS) if one_axis else (_BAD_ALPHA, _BAD_ALPHA)

    def one_slope(alpha, x, channel_axis):
        return _OK if alpha.size == 1 else wrong_axis, 1, x.size

    def several(alpha, x, channel_axis):
        channels, inner = alpha.size, 1
        if channels == 1:
            return _OK, 1, x.size
        first = _first_axis(alpha, x, channel_axis)
        if first < 0 or first + alpha.ndim > x.ndim:
            return wrong_axis, 0, 0
        for axis in range(alpha.ndim):
            if alpha.shape[axis] != x.shape[first + axis]:
                if alpha.shape[axis] != 1:
                    return wrong_size, 0, 0
                channels = 0
        for axis in range(first + alpha.ndim, x.ndim):
            inner *= x.shape[axis]
        return _OK, channels, inner

    if not _is_array(alpha):
        return lambda alpha, x, channel_axis: (_OK, 1, x.size)
    return several if _may_vary(alpha, x) else one_slope


@_by_type
def _shape(a):
    """The shape of an array or number; np.shape() of a number takes 0.4 s to compile."""
    return (lambda a: a.shape) if _is_array(a) else lambda a: ()


@_by_type
def _differs(a, like):
    """Whether `a` is an array, and of another shape."""
    return (lambda a, like: a.shape != _shape(like)) if _is_array(a) else lambda a, like: False


@word(lambda a: a)
def _borrowed(context, builder, kinds, a):
    """The same array without an owner, so that Numba counts no references to it; a number or None itself."""
    if not _is_array(kinds[0]):
        return a
    array = context.make_array(kinds[0])(context, builder, a)
    array.meminfo = array.parent = cgutils.get_null_value(array.meminfo.type)
    return array._getvalue()


@word(lambda a: types.UniTuple(types.voidptr, 2) if _is_array(a) else types.none)
def _owner(context, builder, kinds, a):
    """An array's owner, which `_borrowed` removes; None for a number or None."""
    if not _is_array(kinds[0]):
        return context.get_dummy_value()
    array = context.make_array(kinds[0])(context, builder, a)
    return context.make_tuple(builder, types.UniTuple(types.voidptr, 2), (array.meminfo, array.parent))


@word(lambda a, owner: a)
def _owned(context, builder, kinds, a, owner):
    """An array with its owner again; where none is given, itself."""
    if kinds[1] != types.none:
        array = context.make_array(kinds[0])(context, builder, a)
        array.meminfo, array.parent = cgutils.unpack_tuple(builder, owner)
        a = array._getvalue()
    return impl_ret_borrowed(context, builder, kinds[0], a)


@word(lambda a: types.CPointer(a.dtype))
def _pointer(context, builder, kinds, a):
    """The pointer to an array's first element."""
    return context.make_array(kinds[0])(context, builder, a).data


@_by_type
def _extent(a):
    """The lowest address of an array's elements, and the address behind the last one."""
    in_c_order = a.layout == "C"

    def extent(a):
        low = high = address(_pointer(a))
        if in_c_order:
            return low, low + a.size * a.itemsize
        for axis in range(a.ndim):
            step = a.strides[axis] * (a.shape[axis] - 1)
            low, high = low + min(step, 0), high + max(step, 0)
        return low, (high + a.itemsize if a.size else low)

    return extent


@_by_type
def _overlap(a, b):
    """Whether two arrays share memory.  One not in C order counts as all memory from its lowest to its highest byte."""

    def overlap(a, b):
        (low, high), (first, end) = _extent(a), _extent(b)
        return max(low, first) < min(high, end)

    return overlap if _is_array(a) and _is_array(b) else lambda a, b: False


@_by_type
def _interferes(out, a):
    """Whether `out` shares memory with an operand of its shape, unless both lie in exactly the same place."""
    may_be_same = _is_array(out) and _is_array(a) and out.dtype == a.dtype
    any_strides = may_be_same and not out.layout == a.layout == "C"

    def interferes(out, a):
        same = address(_pointer(out)) == address(_pointer(a))
        if any_strides:
            for axis in range(a.ndim):
                same = same and (a.shape[axis] == 1 or a.strides[axis] == out.strides[axis])
        return _overlap(out, a) & (not same)

    return interferes if may_be_same else lambda out, a: _overlap(out, a)


@_by_type
def _overlaps_itself(a):
    """Whether an array has too little memory for its elements."""

    def overlaps(a):
        low, high = _extent(a)
        return high - low < a.size * a.itemsize

    return overlaps if _is_array(a) else lambda a: False


def _check(call: _Call, compiled: bool):
    """A function of all arguments that returns the number of an error, or _OK.

    It checks for shared memory where the C interface does not.
    """
    looks = call.swept or not compiled
    largest = SMALL if compiled else np.iinfo(np.intp).max

    def check(dy, x, alpha, out, dalpha_out, alpha_status):
        if _differs(dy, x):
            return _BAD_DY
        if alpha_status != _OK:
            return alpha_status
        if _differs(out, x):
            return _BAD_OUT
        if _differs(dalpha_out, alpha):
            return _BAD_DALPHA
        if looks and x.size <= largest:
            shared = _overlap(out, dalpha_out) | _overlap(out, alpha) | _overlap(dalpha_out, alpha)
            shared |= _interferes(out, dy) | _interferes(out, x) | _overlap(dalpha_out, dy) | _overlap(dalpha_out, x)
            if shared | _overlaps_itself(out) | _overlaps_itself(dalpha_out):
                return _BAD_VALUE
        return _OK

    return _jit(check)


# ---- the memory of results -------------------------------------------------------------------------------------------


@_by_type
def _empty(x, dtype):
    """Memory for y or dx, in the axis order of np.empty_like."""
    ndim, one = x.ndim, (1,) * x.ndim

    def in_c_order(x, dtype):
        return np.empty(x.shape, dtype)

    def in_fortran_order(x, dtype):
        return np.empty(x.shape[::-1], dtype).T

    def in_order_of_strides(x, dtype):
        memory, strides = np.empty(x.shape, dtype), one
        for axis in range(ndim):
            inside = memory.itemsize
            for other in range(ndim):
                a, b = abs(x.strides[axis]), abs(x.strides[other])
                if b < a or (b == a and other > axis):
                    inside *= x.shape[other]
            strides = tuple_setitem(strides, axis, inside)
        return np.lib.stride_tricks.as_strided(memory, x.shape, strides)

    if x.layout == "C" or ndim < 2:
        return in_c_order
    return in_fortran_order if x.layout == "F" else in_order_of_strides


# ---- loops -----------------------------------------------------------------------------------------------------------


@word(lambda a, i: getattr(a, "dtype", a))
def _load(context, builder, kinds, a, i):
    """Element i of an array in C order, counted over all axes; a number or None itself."""
    return load_item(context, builder, kinds[0], _place(context, builder, kinds[0], a, i)) if _is_array(kinds[0]) else a


def _place(context, builder, kind: types.Array, a, i):
    """The address of element i of an array in C order."""
    return builder.gep(context.make_array(kind)(context, builder, a).data, [i])


class _Distinct(ir.MDValue):
    """A node of metadata that is equal to no other; llvmlite makes such nodes for debug information only."""

    def __init__(self, module: ir.Module) -> None:
        super().__init__(module, (), str(len(module.metadata)))

    def descr(self, buffer: list) -> None:
        """Write the node."""
        buffer += ("distinct ",)
        super().descr(buffer)

    __eq__, __hash__ = object.__eq__, object.__hash__


@word(lambda *kinds: types.void)
def _fill(context, builder, kinds, formula, y, dy, x, alpha, begin, end):
    """y[i] = formula(dy[i], x[i], alpha) for begin <= i < end, on arrays in C order; alpha is a number or None.

    LLVM is told that no iteration reads what another one writes: y lies exactly where an operand does, or apart from
    all.  It then makes one vector loop without checks for overlap.  A call in place would fail such checks, and run the
    loop without vectors.
    """
    module = builder.module
    group, loop_id = _Distinct(module), _Distinct(module)
    loop_id.operands = loop_id, module.add_metadata([ir.MetaDataString(module, "llvm.loop.parallel_accesses"), group])
    elements = [getattr(kind, "dtype", kind) for kind in kinds[2:5]]
    call = context.get_function(kinds[0], kinds[0].get_call_type(context.typing_context, elements, {}))

    def mark(first):
        for instruction in builder.block.instructions[first:]:
            if instruction.opname in ("load", "store"):
                instruction.set_metadata("llvm.access.group", group)

    with cgutils.for_range(builder, end, begin) as loop:
        i = loop.index
        operands = [
            load_item(context, builder, kind, _place(context, builder, kind, a, i)) if _is_array(kind) else a
            for kind, a in ((kinds[2], dy), (kinds[3], x))
        ]
        mark(0)
        result = call(builder, [*operands, alpha])
        first = len(builder.block.instructions)
        store_item(context, builder, kinds[1], result, _place(context, builder, kinds[1], y, i))
        mark(first)
    latch = loop.index.incomings[-1][1]
    latch.terminator.set_metadata("llvm.loop", loop_id)
    return context.get_dummy_value()


@_jit
def _sum_of_block(dy, x):
    """The sum of the terms of one slope's elements, at most BLOCK, in the order of _kernels.py."""
    p, q, total, i = _pointer(x), _pointer(dy), zeros(), 0
    while i + GROUP <= x.size:
        total = add_products_unless_gt(total, p, q, i, 0)
        i += GROUP
    if i < x.size:
        total = add_products_part_unless_gt(total, p, q, i, 0, 0, x.size - i)
    return sum_lanes(total)


def _sweep(call: _Call, sums: bool):
    """A function sweep(y, dalpha, dy, x, alpha, channels, inner) over arrays in C order; it returns whether it ran.

    It takes every alpha whose axes are consecutive axes of x.  If `sums`, it takes one slope only and makes its dalpha.
    """
    (formula, _), dalpha_dtype, need = _formulas(call), call.dalpha_dtype, call.need

    def sweep(y, dalpha, dy, x, alpha, channels, inner):
        if sums:
            if channels != 1:
                return False
            put_sum(_pointer(dalpha), 0, dalpha_dtype(_sum_of_block(dy, x)))
        if need:
            if channels == 1:
                _fill(formula, y, dy, x, _load(alpha, 0), 0, x.size)
                return True
            i, channel = 0, 0
            while channels and i < x.size:
                _fill(formula, y, dy, x, _load(alpha, channel), i, i + inner)
                i += inner
                channel = channel + 1 if channel + 1 < channels else 0
        return channels != 0 or x.size == 0

    return _jit(sweep)


@_by_type
def _at(a, i):
    """Element i of an array; a number or None itself."""
    return (lambda a, i: a[i]) if _is_array(a) else (lambda a, i: a)


@_by_type
def _spread(a, x, channel_axis):
    """An array of alpha's shape, broadcast to x's by strides of 0; a number or None itself."""
    none, varies = (0,) * x.ndim, _may_vary(a, x)

    def spread(a, x, channel_axis):
        strides = none
        if varies and a.size != 1:
            first = _first_axis(a, x, channel_axis)
            for axis in range(a.ndim):
                if a.shape[axis] != 1:
                    strides = tuple_setitem(strides, first + axis, a.strides[axis])
        return np.lib.stride_tricks.as_strided(a, x.shape, strides)

    return spread if _is_array(a) else lambda a, x, channel_axis: a


def _everywhere(call: _Call):
    """A function like `_sweep`'s for arrays of any layout and every alpha."""
    formula, _ = _formulas(call)

    def everywhere(y, dy, x, alpha, channel_axis):
        slopes = _spread(alpha, x, channel_axis)
        for i in np.ndindex(x.shape):
            y[i] = formula(_at(dy, i), x[i], _at(slopes, i))

    return _jit(everywhere)


def _add_up(call: _Call):
    """A function of (dalpha, dy, x, alpha, channel_axis) that sums dalpha without the C interface.

    The sums and their rounding errors are kept apart (Knuth's two-sum), so the error is far below the contract's bound
    for every order of the terms.  A sum that is not finite is returned without its rounding errors, which may be NaN.
    """
    (_, term), dtype = _formulas(call), as_dtype(call.dalpha_dtype).type

    def add_up(dalpha, dy, x, alpha, channel_axis):
        sums, rests = np.zeros(dalpha.shape), np.zeros(dalpha.shape)
        if x.size:
            high, low = _spread(sums, x, channel_axis), _spread(rests, x, channel_axis)
            for i in np.ndindex(x.shape):
                before, new = high[i], term(dy[i], x[i])
                after = before + new
                part = after - before
                high[i] = after
                low[i] += (before - (after - part)) + (new - part)
        for i in np.ndindex(dalpha.shape):
            total = sums[i] + rests[i]
            dalpha[i] = dtype(total if np.isfinite(total) else sums[i])

    return _jit(add_up)


# ---- the C interface -------------------------------------------------------------------------------------------------

# fastact.h's functions by kernel: their operands in order.  leaky_relu's are prelu's with a number for alpha.
_C_FUNCTIONS = {
    "relu": ("y", "mask", "x"),
    "relu_backward": ("y", "dy", "x", "mask"),
    "prelu": ("y", "x", "alpha"),
    "prelu_backward": ("y", "dalpha", "dy", "x", "alpha"),
}
# fastact.h's number of each dtype (0 without the core, where nobody reads it).
_DTYPES = {
    from_dtype(dtype): _NUMBERS.get(dtype.name, 0)
    for dtype in map(np.dtype, ("?", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"))
}
_I32, _I64, _POINTER = ir.IntType(32), ir.IntType(64), ir.IntType(8).as_pointer()
# fastact_array: size, dtype, ndim, data, shape, strides.  fastact_options: size, n_threads, source, channel_axis,
# parallel_for, context, message, message_size.
_ARRAY = ir.LiteralStructType([_I32, _I32, _I32, _POINTER, _POINTER, _POINTER])
_CALL_OPTIONS = ir.LiteralStructType([_I32, _I32, _I32, _I32, _POINTER, _POINTER, _POINTER, _I64])


def _call_c(kernel: str):
    """A function of (y, dalpha, dy, x, alpha, channel_axis) that calls a kernel's C function and returns its status."""
    names = ("y", "dalpha", "dy", "x", "alpha")

    @word(lambda *kinds: types.int32)
    def call(context, builder, kinds, y, dalpha, dy, x, alpha, channel_axis):
        """Call through a separate function, to keep the structs out of the caller, which gets the loop inlined."""
        values = (y, dalpha, dy, x, alpha, channel_axis)
        kind = ir.FunctionType(_I32, [value.type for value in values])
        function = ir.Function(builder.module, kind, builder.module.get_unique_name(f"call_fastact_{kernel}"))
        function.linkage = "internal"
        function.attributes.add("noinline")
        inside = ir.IRBuilder(function.append_basic_block())
        operands = dict(zip(names, zip(kinds, function.args, strict=True), strict=False))  # channel_axis: an option
        arguments = [
            _pointer_to_array(context, inside, *operands.get(name, (types.none, None))) for name in _C_FUNCTIONS[kernel]
        ]
        arguments.append(_pointer_to_options(inside, inside.trunc(function.args[-1], _I32)))
        kind = ir.FunctionType(_I32, [_POINTER] * len(arguments))
        entry = cgutils.get_or_insert_function(builder.module, kind, f"fastact_{kernel}")
        inside.ret(inside.call(entry, arguments))
        return builder.call(function, values)

    return call


def _pointer_to_struct(builder, kind: ir.Type, fields: list):
    """The address of a struct on the stack; integers and None stand for constants."""
    place = cgutils.alloca_once(builder, kind)
    for number, (field, value) in enumerate(zip(kind.elements, fields, strict=True)):
        value = ir.Constant(field, value) if value is None or isinstance(value, int) else value
        builder.store(value, cgutils.gep_inbounds(builder, place, 0, number))
    return builder.bitcast(place, _POINTER)


def _pointer_to_array(context, builder, kind: types.Type, value):
    """The address of a fastact_array; NULL where there is no operand; a number is an array of no axes."""
    size = context.get_abi_sizeof(_ARRAY)
    if kind == types.none:
        return ir.Constant(_POINTER, None)
    if not _is_array(kind):
        double = context.cast(builder, value, kind, types.float64)
        data = builder.bitcast(cgutils.alloca_once_value(builder, double), _POINTER)
        return _pointer_to_struct(builder, _ARRAY, [size, _DTYPES[types.float64], 0, data, None, None])
    array = context.make_array(kind)(context, builder, value)
    shape, strides = (
        builder.bitcast(cgutils.alloca_once_value(builder, numbers), _POINTER)
        for numbers in (array.shape, array.strides)
    )
    fields = [size, _DTYPES[kind.dtype], kind.ndim, builder.bitcast(array.data, _POINTER), shape]
    return _pointer_to_struct(builder, _ARRAY, [*fields, None if kind.layout == "C" else strides])


def _pointer_to_options(builder, channel_axis):
    """The address of a fastact_options: one thread inside a parallel region, else the bound in force.

    The threads that Numba starts for prange have no Python thread state, in each of its threading layers; a thread that
    calls an @njit function from Python has one.  With OpenMP and TBB the calling thread works in the region, too.  With
    OpenMP the C interface detects this.  With TBB nothing does: the calling thread's part may use several threads.
    """
    kind = ir.FunctionType(_POINTER, [])
    state = cgutils.get_or_insert_function(builder.module, kind, "PyGILState_GetThisThreadState")
    inside = builder.icmp_unsigned("==", builder.call(state, []), ir.Constant(_POINTER, None))
    threads = builder.zext(inside, _I32)
    size = cgutils.sizeof(builder, _CALL_OPTIONS.as_pointer())
    fields = [builder.trunc(size, _I32), threads, 0, channel_axis, None, None, None, 0]
    return _pointer_to_struct(builder, _CALL_OPTIONS, fields)


_missing_function = None  # kept alive


def _name_missing_functions() -> None:
    """Give the C functions' names to one that returns _NO_CORE: else cached code that calls them ends the process."""
    import ctypes  # needed here only

    global _missing_function
    _missing_function = ctypes.CFUNCTYPE(ctypes.c_int)(lambda: _NO_CORE)
    for kernel in _C_FUNCTIONS:
        binding.add_symbol(f"fastact_{kernel}", ctypes.cast(_missing_function, ctypes.c_void_p).value)


# ---- arrays ----------------------------------------------------------------------------------------------------------


@njit(**{**_OPTIONS, "forceinline": False})
def _fail(wrong):
    """Raise the error that has this number."""
    if wrong == _BAD_DY:
        raise ValueError("fastact: dy and x have different shapes")
    if wrong == _BAD_OUT:
        raise ValueError("fastact: out has another shape than the result")
    if wrong == _BAD_DALPHA:
        raise ValueError("fastact: out[1] (dalpha) has another shape than alpha")
    if wrong == _BAD_AXIS:
        raise ValueError("fastact: channel_axis is out of range for x")
    if wrong == _BAD_CHANNELS:
        raise ValueError("fastact: alpha does not have one slope for each channel of x along channel_axis")
    if wrong == _BAD_ALPHA:
        raise ValueError("fastact: alpha does not broadcast to x")
    if wrong == _NO_MEMORY:
        raise MemoryError("fastact: no memory for partial sums or a scratch")
    if wrong == _NO_SOURCE:
        raise RuntimeError(_NO_OPENMP)
    if wrong == _NO_CORE:
        raise RuntimeError("fastact: its compiled core is gone since Numba cached this code: delete Numba's cache")
    # The C interface returns the same number, _BAD_VALUE, where a struct has another size than it expects.
    raise ValueError(
        "fastact: out shares memory with an operand or among its own elements, and is not exactly x or dy "
        "(or Numba's cache holds code for another version of fastact: delete it)"
    )


def _on_arrays(call: _Call, compiled: bool):
    """run() where x is an array.

    Its operands have no owners.  Numba counts references to an array for as long as anything can raise, and each count
    takes as long as relu of 64 floats.  So the owner of `out` is a separate argument, and is put back at the end.
    """
    check, compute, summed = _check(call, compiled), _compute(call, compiled), call.op.summed
    dtype, dalpha_dtype = (as_dtype(kind).type for kind in (call.dtype, call.dalpha_dtype))
    makes_y, makes_dalpha = call.need and call.out == types.none, call.need_dalpha and call.dalpha_out == types.none

    def run(channel_axis, dy, x, alpha, out, dalpha_out, owner, dalpha_owner):
        wrong, channels, inner = _rows(alpha, x, channel_axis)
        wrong = check(dy, x, alpha, out, dalpha_out, wrong)
        if wrong != _OK:
            _fail(wrong)
        y, dalpha = out, dalpha_out
        if makes_y:
            y = _empty(x, dtype)
        if makes_dalpha:
            dalpha = np.empty(_shape(alpha), dalpha_dtype)
        wrong = compute(_borrowed(y), _borrowed(dalpha), dy, x, alpha, channel_axis, channels, inner)
        if wrong != _OK:
            _fail(wrong)
        if summed:
            return _owned(y, owner), _owned(dalpha, dalpha_owner)
        return _owned(y, owner)

    return _jit(run)


def _compute(call: _Call, compiled: bool):
    """A function of (y, dalpha, dy, x, alpha, channel_axis, channels, inner) that computes and returns a status."""
    call_c, sweep = _call_c(call.op.kernel), _sweep(call, compiled and call.need_dalpha)
    everywhere, add_up = _everywhere(call), _add_up(call)
    flat, swept, need, need_dalpha = call.flat, call.swept, call.need, call.need_dalpha
    nothing = not need and not need_dalpha

    def with_core(y, dalpha, dy, x, alpha, channel_axis, channels, inner):
        if nothing:
            return _OK
        if swept and x.size <= SMALL and sweep(y, dalpha, dy, x, alpha, channels, inner):
            return _OK
        return call_c(y, dalpha, dy, x, alpha, channel_axis)

    def without(y, dalpha, dy, x, alpha, channel_axis, channels, inner):
        if need_dalpha:  # it comes first, because dx may overwrite dy or x
            add_up(dalpha, dy, x, alpha, channel_axis)
        if need and not (flat and sweep(y, dalpha, dy, x, alpha, channels, inner)):
            everywhere(y, dy, x, alpha, channel_axis)
        return _OK

    return _jit(with_core if compiled else without)
