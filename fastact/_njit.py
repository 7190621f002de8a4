"""The six functions inside other people's @njit functions.

Numba asks for `init` before it compiles or loads anything, by the entry point `numba_extensions` of pyproject.toml.
`init` gives Numba an implementation (an overload) of each function of the table of operations; nothing else imports
this module.  The rules for types are those of _arguments.py, applied to Numba's types.  What _arguments.py raises for
dtypes is Numba's TypingError here; what depends on shapes or memory is a ValueError when the function runs.

An implementation is put together from the smallest functions that the types of a call need:
- On numbers it is the formula.
- On small arrays in C order it is a loop (`_sweep`), which LLVM can inline into the caller's.
- On all others it calls the C interface (fastact.h) by the names of its functions, so that code in Numba's cache finds
  them in any process.
- Without the compiled core, the loop also takes large arrays, and `_everywhere` those in another order.

The sums of dalpha come from the C interface, because their order is its own.  Only without it `_add_up` makes them.
"""

import inspect

import numpy as np
from llvmlite import binding, ir
from numba import njit
from numba.core import cgutils, errors, types
from numba.cpython.unsafe.tuple import tuple_setitem
from numba.extending import intrinsic, overload
from numba.np.arrayobj import load_item, store_item
from numba.np.numpy_support import as_dtype, from_dtype

import fastact

from . import _built, _interface
from ._tables import OPERATIONS, Operation

# fastact.h's numbers.  Without the core no C function is called, and only that they differ matters.
_NAMES = ("OK", "BAD_VALUE", "NO_MEMORY", "NO_SOURCE")
_STATUSES = _built.entry.STATUSES if _built.entry else {name: number for number, name in enumerate(_NAMES)}
_NUMBERS = _built.entry.DTYPES if _built.entry else {}
SMALL = 1024  # elements up to which a loop is taken: 1024 floats take it 75 ns, and the C interface 105

# Numba's options for every function here.  Nothing calls them from Python or C.
_OPTIONS = {
    "error_model": "numpy", "boundscheck": False, "fastmath": False, "forceinline": True,
    "no_cpython_wrapper": True, "no_cfunc_wrapper": True,
}  # fmt: skip
_jit = njit(**_OPTIONS)

_ready = False


def init() -> None:
    """Give Numba the implementations; a second call does nothing.

    The kernels of the C interface are loaded here, because code from Numba's cache calls them without asking.
    """
    global _ready
    if _ready:
        return
    try:
        _interface.capsule()
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
        self.scalar = not isinstance(self.x, types.Array)
        kind = self.x if self.scalar else self.x.dtype
        is_float = isinstance(kind, types.Float)
        self.dtype = kind if is_float or op.integers else types.float64  # the computing dtype
        if op.backward:
            self.dy = _operand(given["dy"], "dy")
            if isinstance(self.dy, types.Array) is self.scalar:
                raise errors.TypingError("fastact: dy and x must both be arrays or both be numbers")
        self.alpha, self.dalpha_dtype = none, self.dtype
        if op.alpha:
            self.alpha = _operand(given["alpha"], "alpha")
            if isinstance(self.alpha, types.Array):
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

    @property
    def flat(self) -> bool:
        """Whether every operand of the elementwise part lies in C order."""
        arrays = (a for a in (self.x, self.dy, self.alpha, self.out) if isinstance(a, types.Array))
        return all(a.layout == "C" for a in arrays)

    @property
    def swept(self) -> bool:
        """Whether a loop computes the call where the compiled core is there and x is small."""
        return self.flat and self.need and not self.need_dalpha


def _operand(kind: types.Type, name: str) -> types.Type:
    """The type, if it is that of a real array or number."""
    kind = types.unliteral(kind)
    number = kind.dtype if isinstance(kind, types.Array) else kind
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
    """The type of an `out`; its shape and memory are looked at when the function runs."""
    if kind == types.none:
        return
    if not wanted:
        raise errors.TypingError(f"fastact: {name} was given for a number, or for a gradient that is not needed")
    if not isinstance(kind, types.Array):
        raise errors.TypingError(f"fastact: {name} is {kind}, and must be an array or None")
    if kind.dtype != dtype:
        raise errors.TypingError(f"fastact: {name} has dtype {kind.dtype}, but the result has dtype {dtype}")
    if not kind.mutable:
        raise errors.TypingError(f"fastact: {name} is read-only")


def _typing(op: Operation, function: object, compiled: bool):
    """What Numba asks for the implementation of one operation."""
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
    if isinstance(value, types.Omitted):
        value = value.value
    known = {type(None): types.none, float: types.float64, int: types.intp}
    if isinstance(value, tuple):
        return types.Tuple([_type_of(item) for item in value])
    return known.get(type(value), value)


def _with_signature(op: Operation, public: inspect.Signature, run):
    """A function with an operation's own arguments and defaults, which passes them on to run()."""

    def relu(x, out):
        return run(None, x, None, 1, out, None)

    def relu_backward(dy, x, out):
        return run(dy, x, None, 1, out, None)

    def leaky_relu(x, alpha, out):
        return run(None, x, alpha, 1, out, None)

    def leaky_relu_backward(dy, x, alpha, out):
        return run(dy, x, alpha, 1, out, None)

    def prelu(x, alpha, channel_axis, out):
        return run(None, x, alpha, channel_axis, out, None)

    def prelu_backward(dy, x, alpha, channel_axis, need_dx, need_dalpha, out):
        return run(dy, x, alpha, channel_axis, out[0], out[1])

    function = locals()[op.name]
    defaults = (p.default for p in public.parameters.values() if p.name in inspect.signature(function).parameters)
    function.__defaults__ = tuple(default for default in defaults if default is not inspect.Parameter.empty)
    return function


# ---- the contract's expressions, on numbers --------------------------------------------------------------------------


def _formula(op: Operation, dtype: types.Type):
    """The elementwise expression of reference.py on numbers of the computing dtype, as f(dy, x, alpha)."""

    def relu(dy, x, alpha):
        return dtype(0) if x <= 0 else x

    def relu_backward(dy, x, alpha):
        return dtype(0) if x <= 0 else dy

    def prelu(dy, x, alpha):
        return x if x > 0 else alpha * x

    def prelu_backward_dx(dy, x, alpha):
        return dy if x > 0 else alpha * dy

    return _jit(locals()[op.reference])


@_jit
def _term(dy, x):
    """One term of dalpha."""
    return 0.0 if x > 0 else 0.0 + np.float64(x) * np.float64(dy)


def _casts(call: _Call):
    """Functions that make dy, x and alpha numbers of the computing dtype; 0 stands for an operand that is not there."""
    dtype = call.dtype

    def cast(value):
        return dtype(value)

    def cast_alpha(value):  # a number is a double first, as from Python
        return dtype(np.float64(value))

    def nothing(value):
        return dtype(0)

    number = call.alpha if call.alpha == types.none or isinstance(call.alpha, types.Array) else "number"
    return (
        _jit(nothing if call.dy == types.none else cast),
        _jit(cast),
        _jit(nothing if number == types.none else cast_alpha if number == "number" else cast),
    )


def _on_numbers(call: _Call):
    """run() where x is a number."""
    formula, (cast_dy, cast_x, cast_alpha) = _formula(call.op, call.dtype), _casts(call)
    pair, dtype = _pair(call), call.dtype

    def run(dy, x, alpha, channel_axis, out, dalpha_out):
        dy, x, alpha = cast_dy(dy), cast_x(x), cast_alpha(alpha)
        return pair(formula(dy, x, alpha), dtype(_term(dy, x)))

    def run_plain(dy, x, alpha, channel_axis, out, dalpha_out):
        return formula(cast_dy(dy), cast_x(x), cast_alpha(alpha))

    return _jit(run if call.op.summed else run_plain)


def _pair(call: _Call):
    """What an operation returns for its results: y or dx alone, or a pair with None for what is not needed."""
    pairs = {
        (True, True): lambda y, dalpha: (y, dalpha),
        (True, False): lambda y, dalpha: (y, None),
        (False, True): lambda y, dalpha: (None, dalpha),
        (False, False): lambda y, dalpha: (None, None),
    }
    return _jit(pairs[call.need, call.need_dalpha] if call.op.summed else lambda y, dalpha: y)


# ---- checks when the function runs -----------------------------------------------------------------------------------
# Each returns the number of what is wrong, and `run` alone raises.

# The statuses of fastact.h are the first ones; it answers with _BAD_VALUE for memory that is shared.
_OK, _BAD_VALUE, _NO_MEMORY, _NO_SOURCE = (_STATUSES[name] for name in _NAMES)
_NO_CORE = 100
_BAD_DY, _BAD_OUT, _BAD_DALPHA, _BAD_AXIS, _BAD_CHANNELS, _BAD_ALPHA = range(101, 107)


@_jit
def _nothing_wrong(*arguments):
    """Check nothing, where there is nothing to check."""
    return _OK


def _shape_check(a: types.Type, like: types.Type, wrong: int):
    """A function of (a, like) that compares the shapes of two arrays; a number has the shape ()."""

    def as_array(a, like):
        return _OK if a.shape == like.shape else wrong

    def as_number(a, like):
        return _OK if a.ndim == 0 else wrong

    if not isinstance(a, types.Array):
        return _nothing_wrong
    return _jit(as_array if isinstance(like, types.Array) else as_number)


def _alpha_check(call: _Call):
    """A function of (alpha, x, channel_axis) that looks whether alpha's shape fits x."""
    missing = call.x.ndim - getattr(call.alpha, "ndim", 0)

    def one_slope(alpha, x, channel_axis):
        return _OK if alpha.size == 1 else _BAD_AXIS if alpha.ndim == 1 else _BAD_ALPHA

    def per_channel(alpha, x, channel_axis):
        if alpha.size == 1:
            return _OK
        if channel_axis < -x.ndim or channel_axis >= x.ndim:
            return _BAD_AXIS
        return _OK if alpha.size == x.shape[channel_axis] else _BAD_CHANNELS

    def broadcast(alpha, x, channel_axis):
        if alpha.size != 1:
            for axis in range(alpha.ndim):
                if alpha.shape[axis] != 1 and alpha.shape[axis] != x.shape[missing + axis]:
                    return _BAD_ALPHA
        return _OK

    if not isinstance(call.alpha, types.Array) or call.alpha.ndim == 0:
        return _nothing_wrong
    if missing < 0 or call.x.ndim == 0:
        return _jit(one_slope)
    return _jit(per_channel if call.alpha.ndim == 1 else broadcast)


@intrinsic
def _borrowed(typingctx, a):
    """The same array without an owner, so that Numba counts no references to it; a number or None, itself.

    The counts took as long as relu of 64 floats.  The owner is the caller's or `run`'s variable.
    """

    def codegen(context, builder, signature, values):
        kind = signature.args[0]
        if not isinstance(kind, types.Array):
            return values[0]
        array = context.make_array(kind)(context, builder, values[0])
        array.meminfo, array.parent = (cgutils.get_null_value(old.type) for old in (array.meminfo, array.parent))
        return array._getvalue()

    return a(a), codegen


@intrinsic
def _address(typingctx, a):
    """The address of an array's first element."""

    def codegen(context, builder, signature, values):
        array = context.make_array(signature.args[0])(context, builder, values[0])
        return builder.ptrtoint(array.data, _I64)

    return types.intp(a), codegen


@_jit
def _extent(a):
    """The lowest address of an array's elements, and the address behind the last one."""
    low = high = _address(a)
    for axis in range(a.ndim):
        step = a.strides[axis] * (a.shape[axis] - 1)
        if step < 0:
            low += step
        else:
            high += step
    return low, high + a.itemsize


def _memory_check(result: types.Type, other: types.Type, in_place: bool):
    """A function of (result, other) that looks whether a result shares memory with another array.

    It is exact for arrays in C order.  Of others it takes all memory from the lowest element to the highest as theirs.
    `in_place`: the other one may be exactly the result.
    """
    if not isinstance(result, types.Array) or not isinstance(other, types.Array):
        return _nothing_wrong
    may_be_same = in_place and other.dtype == result.dtype and other.ndim == result.ndim

    def check(result, other):
        if result.size == 0 or other.size == 0 or (may_be_same and _is_same(result, other)):
            return _OK
        low, high = _extent(result)
        first, end = _extent(other)
        return _BAD_VALUE if low < end and first < high else _OK

    return _jit(check)


@_jit
def _is_same(a, b):
    """Whether two arrays of one dtype and one shape lie element by element in the same place."""
    same = _address(a) == _address(b)
    for axis in range(a.ndim):
        same = same and (a.shape[axis] == 1 or a.strides[axis] == b.strides[axis])
    return same


def _own_check(kind: types.Type):
    """A function of an array that looks whether it has too little memory for its elements."""

    def check(a):
        low, high = _extent(a)
        return _BAD_VALUE if high - low < a.size * a.itemsize else _OK

    return _jit(check) if isinstance(kind, types.Array) and kind.layout == "A" else _nothing_wrong


def _all_memory_checks(call: _Call):
    """A function of (out, dalpha_out, dy, x, alpha) that looks at the memory of what was given as out."""
    out, dalpha_out = call.out, call.dalpha_out
    out_dy, out_x = (_memory_check(out, other, in_place=True) for other in (call.dy, call.x))
    out_alpha, both = (_memory_check(out, other, in_place=False) for other in (call.alpha, dalpha_out))
    dalpha_dy, dalpha_x, dalpha_alpha = (
        _memory_check(dalpha_out, other, in_place=False) for other in (call.dy, call.x, call.alpha)
    )
    own, dalpha_own = _own_check(out), _own_check(dalpha_out)

    def check(out, dalpha_out, dy, x, alpha):
        wrong = own(out) | out_dy(out, dy) | out_x(out, x) | out_alpha(out, alpha) | both(out, dalpha_out)
        wrong |= dalpha_own(dalpha_out) | dalpha_dy(dalpha_out, dy) | dalpha_x(dalpha_out, x)
        return wrong | dalpha_alpha(dalpha_out, alpha)

    return _jit(check)


def _check(call: _Call, compiled: bool):
    """A function of all arguments that returns the number of what is wrong.

    The memory is looked at where the C interface does not do it.
    """
    shapes_alpha, memory = _alpha_check(call), _all_memory_checks(call)
    shapes_dy, shapes_out = _shape_check(call.dy, call.x, _BAD_DY), _shape_check(call.out, call.x, _BAD_OUT)
    shapes_dalpha = _shape_check(call.dalpha_out, call.alpha, _BAD_DALPHA)
    largest = (SMALL if call.swept else -1) if compiled else np.iinfo(np.intp).max

    def check(out, dalpha_out, dy, x, alpha, channel_axis):
        wrong = shapes_dy(dy, x) or shapes_alpha(alpha, x, channel_axis)
        wrong = wrong or shapes_out(out, x) or shapes_dalpha(dalpha_out, alpha)
        if wrong == _OK and x.size <= largest:
            wrong = memory(out, dalpha_out, dy, x, alpha)
        return wrong

    return _jit(check)


# ---- the memory of results -------------------------------------------------------------------------------------------


def _result(call: _Call):
    """A function of (out, x) that gives the memory of y or dx, as np.empty_like orders its axes."""
    dtype = as_dtype(call.dtype).type
    one, ndim = (1,) * call.x.ndim, call.x.ndim

    def given(out, x):
        return out

    def nothing(out, x):
        return None

    def in_c_order(out, x):
        return np.empty(x.shape, dtype)

    def in_fortran_order(out, x):
        return np.empty(x.shape[::-1], dtype).T

    def in_order_of_strides(out, x):
        memory = np.empty(x.shape, dtype)
        strides = one
        for axis in range(ndim):
            inside = memory.itemsize
            for other in range(ndim):
                a, b = abs(x.strides[axis]), abs(x.strides[other])
                if b < a or (b == a and other > axis):
                    inside *= x.shape[other]
            strides = tuple_setitem(strides, axis, inside)
        return np.lib.stride_tricks.as_strided(memory, x.shape, strides)

    if not call.need:
        return _jit(nothing)
    if call.out != types.none:
        return _jit(given)
    if call.x.layout == "C" or ndim < 2:
        return _jit(in_c_order)
    return _jit(in_fortran_order if call.x.layout == "F" else in_order_of_strides)


def _dalpha_result(call: _Call):
    """A function of (out, alpha) that gives the memory of dalpha."""
    dtype = as_dtype(call.dalpha_dtype).type

    def nothing(out, alpha):
        return None

    def given(out, alpha):
        return out

    def like_a_number(out, alpha):
        return np.empty((), dtype)

    def like_an_array(out, alpha):
        return np.empty(alpha.shape, dtype)

    if not call.need_dalpha:
        return _jit(nothing)
    if call.dalpha_out != types.none:
        return _jit(given)
    return _jit(like_an_array if isinstance(call.alpha, types.Array) else like_a_number)


# ---- loops -----------------------------------------------------------------------------------------------------------


@intrinsic
def _load(typingctx, a, i):
    """Element i of an array in C order, whatever its axes; of a number or None, itself."""
    if not isinstance(a, types.Array):
        return a(a, types.intp), lambda context, builder, signature, values: values[0]

    def codegen(context, builder, signature, values):
        kind = signature.args[0]
        array = context.make_array(kind)(context, builder, values[0])
        return load_item(context, builder, kind, builder.gep(array.data, [values[1]]))

    return a.dtype(a, types.intp), codegen


@intrinsic
def _store(typingctx, a, i, value):
    """Set element i of an array in C order."""

    def codegen(context, builder, signature, values):
        kind = signature.args[0]
        array = context.make_array(kind)(context, builder, values[0])
        store_item(context, builder, kind, values[2], builder.gep(array.data, [values[1]]))

    return types.void(a, types.intp, a.dtype), codegen


def _sweep(call: _Call):
    """A function sweep(y, dy, x, alpha, channel_axis) over arrays that lie in C order; False: it did nothing.

    It takes every alpha but those that broadcast along several axes.
    """
    formula, (cast_dy, cast_x, cast_alpha) = _formula(call.op, call.dtype), _casts(call)
    rows = _rows(call)

    def sweep(y, dy, x, alpha, channel_axis):
        channels, inner = rows(x, alpha, channel_axis)
        if channels == 1:
            slope = cast_alpha(_load(alpha, 0))
            for i in range(x.size):
                _store(y, i, formula(cast_dy(_load(dy, i)), cast_x(_load(x, i)), slope))
            return True
        i, channel = 0, 0
        while channels and i < x.size:
            slope = cast_alpha(_load(alpha, channel))
            for k in range(i, i + inner):
                _store(y, k, formula(cast_dy(_load(dy, k)), cast_x(_load(x, k)), slope))
            i += inner
            channel = channel + 1 if channel + 1 < channels else 0
        return channels != 0 or x.size == 0

    return _jit(sweep)


def _element(kind: types.Type):
    """A function of (operand, i) that gives its element i; of a number or None, itself."""
    return _jit((lambda a, i: a[i]) if isinstance(kind, types.Array) else (lambda a, i: a))


def _rows(call: _Call):
    """A function that gives how many slopes there are and how many elements share one; (0, 0): the shape is another."""
    alike = isinstance(call.alpha, types.Array) and call.alpha.ndim == call.x.ndim

    def one_slope(x, alpha, channel_axis):
        return 1, x.size

    def per_channel(x, alpha, channel_axis):
        inner = 1
        if alpha.size != 1:
            for axis in range(channel_axis + (x.ndim if channel_axis < 0 else 0) + 1, x.ndim):
                inner *= x.shape[axis]
        return alpha.size, inner

    def every_element(x, alpha, channel_axis):
        return (alpha.size, 1) if alpha.size == 1 or alpha.shape == x.shape else (0, 0)

    def other(x, alpha, channel_axis):
        return (1, x.size) if alpha.size == 1 else (0, 0)

    if not isinstance(call.alpha, types.Array) or call.alpha.ndim == 0:
        return _jit(one_slope)
    if call.alpha.ndim == 1:
        return _jit(per_channel)
    return _jit(every_element if alike else other)


def _spread(call: _Call):
    """A function spread(a, x, channel_axis) that shows an array of alpha's shape along x's axes, with strides of 0."""
    none, missing = (0,) * call.x.ndim, call.x.ndim - getattr(call.alpha, "ndim", 0)

    def one(a, x, channel_axis):
        return np.lib.stride_tricks.as_strided(a, x.shape, none)

    def per_channel(a, x, channel_axis):
        strides = none
        if a.size != 1:
            strides = tuple_setitem(strides, channel_axis + (x.ndim if channel_axis < 0 else 0), a.strides[0])
        return np.lib.stride_tricks.as_strided(a, x.shape, strides)

    def broadcast(a, x, channel_axis):
        strides = none
        if a.size != 1:
            for axis in range(a.ndim):
                if a.shape[axis] != 1:
                    strides = tuple_setitem(strides, missing + axis, a.strides[axis])
        return np.lib.stride_tricks.as_strided(a, x.shape, strides)

    if not isinstance(call.alpha, types.Array) or call.alpha.ndim == 0 or missing < 0 or call.x.ndim == 0:
        return _jit(one)
    return _jit(per_channel if call.alpha.ndim == 1 else broadcast)


def _everywhere(call: _Call):
    """A function like `_sweep`'s for arrays of any layout and every alpha."""
    formula, (cast_dy, cast_x, cast_alpha) = _formula(call.op, call.dtype), _casts(call)
    is_array = isinstance(call.alpha, types.Array)
    spread = _spread(call) if is_array else _jit(lambda a, x, channel_axis: a)
    dy_at, alpha_at = _element(call.dy), _element(call.alpha)

    def everywhere(y, dy, x, alpha, channel_axis):
        slopes = spread(alpha, x, channel_axis)
        for i in np.ndindex(x.shape):
            y[i] = formula(cast_dy(dy_at(dy, i)), cast_x(x[i]), cast_alpha(alpha_at(slopes, i)))

    return _jit(everywhere)


def _add_up(call: _Call):
    """A function of (dalpha, dy, x, alpha, channel_axis) that sums dalpha without the C interface.

    The sums and what their additions have rounded away are kept apart (Knuth's two-sum), so the error is far below the
    contract's bound for every order of the terms.  A sum that is not finite has no such rest.
    """
    spread, (cast_dy, cast_x, _), dtype = _spread(call), _casts(call), as_dtype(call.dalpha_dtype).type

    def add_up(dalpha, dy, x, alpha, channel_axis):
        sums, rests = np.zeros(dalpha.shape), np.zeros(dalpha.shape)
        if x.size:
            high, low = spread(sums, x, channel_axis), spread(rests, x, channel_axis)
            for i in np.ndindex(x.shape):
                before, term = high[i], _term(cast_dy(dy[i]), cast_x(x[i]))
                after = before + term
                part = after - before
                high[i] = after
                low[i] += (before - (after - part)) + (term - part)
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

    @intrinsic
    def call(typingctx, y, dalpha, dy, x, alpha, channel_axis):
        def codegen(context, builder, signature, values):
            """Call a function of its own, so that the structs are no part of the caller, into which the loop goes."""
            kind = ir.FunctionType(_I32, [value.type for value in values])
            name = builder.module.get_unique_name(f"call_fastact_{kernel}")
            function = ir.Function(builder.module, kind, name)
            function.linkage = "internal"
            function.attributes.add("noinline")
            inside = ir.IRBuilder(function.append_basic_block())
            typed = zip(signature.args, function.args, strict=True)
            operands = dict(zip(names, typed, strict=False))  # channel_axis goes into the options
            arguments = [
                _pointer_to_array(context, inside, *operands.get(name, (types.none, None)))
                for name in _C_FUNCTIONS[kernel]
            ]
            arguments.append(_pointer_to_options(inside, inside.trunc(function.args[-1], _I32)))
            kind = ir.FunctionType(_I32, [_POINTER] * len(arguments))
            entry = cgutils.get_or_insert_function(builder.module, kind, f"fastact_{kernel}")
            inside.ret(inside.call(entry, arguments))
            return builder.call(function, values)

        return types.int32(y, dalpha, dy, x, alpha, types.intp), codegen

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
    if not isinstance(kind, types.Array):
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

    The threads that Numba starts for prange have no thread state of Python's, whichever layer starts them, and those
    that call @njit functions from Python have one.  The calling thread works in the region as well with OpenMP, where
    the C interface finds this out, and with TBB, where nothing tells: its own part may use several threads.
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


def _on_arrays(call: _Call, compiled: bool):
    """run() where x is an array."""
    check, compute = _check(call, compiled), _computed_by_c(call) if compiled else _computed_here(call)
    result, dalpha_result, pair = _result(call), _dalpha_result(call), _pair(call)

    def run(dy, x, alpha, channel_axis, out, dalpha_out):
        dy, x, alpha = _borrowed(dy), _borrowed(x), _borrowed(alpha)
        wrong = check(_borrowed(out), _borrowed(dalpha_out), dy, x, alpha, channel_axis)
        if wrong == _OK:
            y, dalpha = result(out, x), dalpha_result(dalpha_out, alpha)
            wrong = compute(_borrowed(y), _borrowed(dalpha), dy, x, alpha, channel_axis)
            if wrong == _OK:
                return pair(y, dalpha)
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
            raise RuntimeError("fastact: no OpenMP runtime with GOMP_parallel is loaded in this process")
        if wrong == _NO_CORE:
            raise RuntimeError("fastact: its compiled core is gone since Numba cached this code: delete Numba's cache")
        # The C interface answers the same where structs have another size.
        raise ValueError(
            "fastact: out shares memory with an operand or among its own elements, and is not exactly x or dy "
            "(or Numba's cache holds code for another version of fastact: delete it)"
        )

    return _jit(run)


def _computed_by_c(call: _Call):
    """compute() with the compiled core: the status."""
    call_c, sweep = _call_c(call.op.kernel), _sweep(call) if call.swept else None

    def if_large(y, dalpha, dy, x, alpha, channel_axis):
        if x.size <= SMALL and sweep(y, dy, x, alpha, channel_axis):
            return _OK
        return call_c(y, dalpha, dy, x, alpha, channel_axis)

    def always(y, dalpha, dy, x, alpha, channel_axis):
        return call_c(y, dalpha, dy, x, alpha, channel_axis)

    if not call.need and not call.need_dalpha:
        return _nothing_wrong
    return _jit(if_large if call.swept else always)


def _computed_here(call: _Call):
    """compute() without the compiled core; dalpha first, for dx may be in place."""
    everywhere = _everywhere(call) if call.need else _nothing_wrong
    add_up = _add_up(call) if call.need_dalpha else _nothing_wrong
    sweep = _sweep(call) if call.flat and call.need else _jit(lambda y, dy, x, alpha, channel_axis: False)

    def compute(y, dalpha, dy, x, alpha, channel_axis):
        add_up(dalpha, dy, x, alpha, channel_axis)
        if not sweep(y, dy, x, alpha, channel_axis):
            everywhere(y, dy, x, alpha, channel_axis)
        return _OK

    return _jit(compute)
