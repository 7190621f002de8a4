"""The public functions, written out with their docstrings; they know no strides, threads or SIMD.

Each checks for misplaced arguments and is one line into _front.  Where there is a C compiler, Cython compiles this very
file (pure-Python mode) as fastact._cython.ops, and its calls go through the compiled fast path.  Without one it runs as
it is.  Formulas are the contract of reference.py; names are x, y, dy, dx, alpha, dalpha in every room of the package
(torch: input, output, grad_output, grad_input, weight; ONNX: slope; oneDNN: src, dst, diff_dst, diff_src, weights).
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Literal, Never, overload

import numpy as np
from numpy.typing import ArrayLike

from fastact import _masks
from fastact._front import backward, elementwise  # absolute: compiled, it is in another package

__all__ = ["leaky_relu", "leaky_relu_backward", "prelu", "prelu_backward", "relu", "relu_backward"]


# fmt: off
if TYPE_CHECKING:
    from typing import Any, Protocol, TypeVar

    from typing_extensions import Buffer

    class Lazy(Protocol):
        """A dask array, whose results are dask arrays, or an xarray object, which may hold one."""

        def __array__(self) -> Any: ...
        def __dask_graph__(self) -> Any: ...

    class DLPack(Protocol):
        """Memory on the CPU that its owner exports, such as torch's."""

        def __dlpack__(self) -> Any: ...
        def __dlpack_device__(self) -> tuple[Any, int]: ...

    Memory = TypeVar("Memory", bound=Buffer | DLPack)
    Memories = tuple[Buffer | DLPack | None, Buffer | DLPack | None]

if TYPE_CHECKING:  # mypy wants nothing but overloads in such a block

    @overload
    def relu(x: Lazy, /, *, backend: str | None = ..., n_threads: int | None = ...) -> Any: ...
    @overload
    def relu(
        x: ArrayLike, /, *, return_mask: Literal[False] = ..., out: np.ndarray | None = ...,
        backend: str | None = ..., n_threads: int | None = ...,
    ) -> np.ndarray: ...
    @overload
    def relu(
        x: ArrayLike, /, *, return_mask: Literal[False] = ..., out: Memory,
        backend: str | None = ..., n_threads: int | None = ...,
    ) -> Memory: ...
    @overload
    def relu(
        x: ArrayLike, /, *, return_mask: Literal[True], out: tuple[np.ndarray | None, np.ndarray | None] | None = ...,
        backend: str | None = ..., n_threads: int | None = ...,
    ) -> tuple[np.ndarray, np.ndarray]: ...
    @overload
    def relu(
        x: ArrayLike, /, *, return_mask: Literal[True], out: Memories,
        backend: str | None = ..., n_threads: int | None = ...,
    ) -> tuple[Any, Any]: ...
# fmt: on


def relu(
    x: ArrayLike,
    /,
    *more: Never,
    return_mask: bool = False,
    out: np.ndarray | tuple[np.ndarray | None, np.ndarray | None] | None = None,
    backend: str | None = None,
    n_threads: int | None = None,
) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
    """Rectified linear unit: y = 0 where x <= 0, else x.

    Parameters
    ----------
    x : array_like
        Of any shape and layout; float16, bfloat16 (ml_dtypes'), float32, float64, integer or bool.  A dask array makes
        the results dask arrays, which are lazy, here and in the other functions.
    return_mask : bool
        Whether to return a mask as well: one bit for each element, which `relu_backward` takes in x's place.
    out : ndarray or writable buffer, or tuple of (ndarray or None, ndarray or None), optional
        Where the result goes: x's shape, the result's dtype.  It may be exactly x (in place).  With
        ``return_mask=True`` a tuple (y, mask); None for what is to be allocated.
    backend : {"cython", "numba", "numpy"}, optional
        Default: see `get_backend`.
    n_threads : int, optional
        An upper bound on threads, at least 1.  Default: see `get_num_threads`.

    Returns
    -------
    y : ndarray
        x's shape, and x's dtype in native byte order (integers and booleans are kept); `out` if it was given.
    mask : ndarray
        With ``return_mask=True`` only: uint8, ``ceil(x.size / 8)`` of them.  One bit for each element in C order of
        x's shape, the first one the lowest of its byte: 0 where x <= 0, else 1.

    Raises
    ------
    TypeError
        If x is complex, long double, object, string, datetime, structured or masked, or out has another dtype, or is
        no tuple of two with ``return_mask=True``.
    ValueError
        If out has another shape, is read-only, or shares memory with x without being x.
    RuntimeError
        If the backend is not available here.

    Notes
    -----
    NaN stays NaN; -0.0 and -inf give +0.0.  Equal to the reference bit for bit in every backend.  16-bit floats are
    moved as they are, and nothing is rounded.

    References
    ----------
    Vinod Nair, Geoffrey E. Hinton, "Rectified linear units improve restricted Boltzmann machines", ICML 2010.

    Examples
    --------
    >>> import numpy as np
    >>> import fastact
    >>> fastact.relu(np.array([-2.0, -0.0, 0.5, np.nan]))
    array([0. , 0. , 0.5, nan])
    >>> x = np.array([-1, 0, 7])
    >>> fastact.relu(x, out=x)
    array([0, 0, 7])

    In place, with a mask for the backward:

    >>> x = np.array([-2.0, 0.5, 0.0, 3.0], np.float16)
    >>> y, mask = fastact.relu(x, return_mask=True, out=(x, None))
    >>> y is x, mask
    (True, array([10], dtype=uint8))
    >>> fastact.relu_backward(np.ones(4, np.float16), mask=mask)
    array([0., 1., 0., 1.], dtype=float16)
    """
    if more:
        raise _too_many(relu, 1, more)
    if return_mask:
        return _masks.forward("relu", x, None, out, backend, n_threads)
    return elementwise("relu", None, x, None, 1, out, backend, n_threads)


# fmt: off
if TYPE_CHECKING:

    @overload
    def relu_backward(
        dy: Lazy, x: ArrayLike, *,
        backend: str | None = ..., n_threads: int | None = ...,
    ) -> Any: ...
    @overload
    def relu_backward(
        dy: ArrayLike, x: Lazy, *,
        backend: str | None = ..., n_threads: int | None = ...,
    ) -> Any: ...
    @overload
    def relu_backward(
        dy: ArrayLike, x: ArrayLike | None = ..., *, mask: np.ndarray | None = ...,
        out: np.ndarray | None = ..., backend: str | None = ..., n_threads: int | None = ...,
    ) -> np.ndarray: ...
    @overload
    def relu_backward(
        dy: ArrayLike, x: ArrayLike | None = ..., *, mask: np.ndarray | None = ...,
        out: Memory, backend: str | None = ..., n_threads: int | None = ...,
    ) -> Memory: ...
# fmt: on


def relu_backward(
    dy: ArrayLike,
    x: ArrayLike | None = None,
    *more: Never,
    mask: np.ndarray | None = None,
    out: np.ndarray | None = None,
    backend: str | None = None,
    n_threads: int | None = None,
) -> np.ndarray:
    """Gradient of `relu`: dx = 0 where x <= 0, else dy.

    Parameters
    ----------
    dy : array_like
        The gradient of the output, of x's shape; cast to the computing dtype (float32 for 16-bit x, else x's own) by
        the rule "same_kind".
    x : array_like, optional
        The input of `relu`: float16, bfloat16, float32, float64, integer or bool (the last two compute in float64).
        Either x or mask must be given.
    mask : ndarray, optional
        In x's place: the mask that `relu` returned, for a dy of the shape that x had.
    out : ndarray, optional
        Where dx goes; it may be exactly dy or x (in place).
    backend, n_threads : optional
        As for `relu`.

    Returns
    -------
    dx : ndarray
        x's shape, and x's dtype in native byte order (float64 for integers); with a mask dy's shape and dtype, by the
        same rules.  `out` if it was given.

    Raises
    ------
    TypeError, ValueError, RuntimeError
        As for `relu`; TypeError also if mask is not uint8, or if x and mask are both missing; ValueError also if dy
        has another shape than x, if mask has another length than ``ceil(dy.size / 8)``, or if x and mask are both
        given.

    Notes
    -----
    The derivative at 0 is 0.  A dead unit gives exactly +0.0 even where dy is inf or NaN; x = NaN passes dy.  A dy of
    another dtype than a 16-bit x is rounded once.

    Examples
    --------
    >>> import numpy as np
    >>> import fastact
    >>> fastact.relu_backward(np.array([1.0, np.inf, 3.0]), np.array([0.5, -1.0, 0.0]))
    array([1., 0., 0.])
    """
    if more:
        raise _too_many(relu_backward, 2, more)
    if mask is not None or x is None:
        _check_one("relu_backward", x, mask)
        return _masks.backward("relu_backward", dy, mask, None, out, backend, n_threads)
    return elementwise("relu_backward", dy, x, None, 1, out, backend, n_threads)


# fmt: off
if TYPE_CHECKING:

    @overload
    def leaky_relu(
        x: Lazy, /, alpha: float = ..., *, backend: str | None = ..., n_threads: int | None = ...,
    ) -> Any: ...
    @overload
    def leaky_relu(
        x: ArrayLike, /, alpha: float = ..., *, return_mask: Literal[False] = ..., out: np.ndarray | None = ...,
        backend: str | None = ..., n_threads: int | None = ...,
    ) -> np.ndarray: ...
    @overload
    def leaky_relu(
        x: ArrayLike, /, alpha: float = ..., *, return_mask: Literal[False] = ..., out: Memory,
        backend: str | None = ..., n_threads: int | None = ...,
    ) -> Memory: ...
    @overload
    def leaky_relu(
        x: ArrayLike, /, alpha: float = ..., *, return_mask: Literal[True],
        out: tuple[np.ndarray | None, np.ndarray | None] | None = ...,
        backend: str | None = ..., n_threads: int | None = ...,
    ) -> tuple[np.ndarray, np.ndarray]: ...
    @overload
    def leaky_relu(
        x: ArrayLike, /, alpha: float = ..., *, return_mask: Literal[True], out: Memories,
        backend: str | None = ..., n_threads: int | None = ...,
    ) -> tuple[Any, Any]: ...
# fmt: on


def leaky_relu(
    x: ArrayLike,
    /,
    alpha: float = 0.01,
    *more: Never,
    return_mask: bool = False,
    out: np.ndarray | tuple[np.ndarray | None, np.ndarray | None] | None = None,
    backend: str | None = None,
    n_threads: int | None = None,
) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
    """Leaky ReLU: y = x where x > 0, else alpha * x, with one fixed alpha.

    Parameters
    ----------
    x : array_like
        Of any shape and layout; float16, bfloat16, float32, float64, integer or bool (the last two compute in float64).
    alpha : float
        The slope for x <= 0: one number.  `prelu` takes arrays.
    return_mask : bool
        Whether to return a mask as well: one bit for each element, which `leaky_relu_backward` takes in x's place.
    out, backend, n_threads : optional
        As for `relu`.

    Returns
    -------
    y : ndarray
        x's shape, and x's dtype in native byte order (float64 for integers); `out` if it was given.
    mask : ndarray
        With ``return_mask=True`` only: as `relu` returns it, with 1 where x > 0 and 0 elsewhere.

    Raises
    ------
    TypeError, ValueError, RuntimeError
        As for `relu`; ValueError also if alpha is not one number.

    Notes
    -----
    x > 0 comes through bit for bit whatever alpha is; the rest, 0 and NaN included, is one IEEE multiply.  16-bit x
    is multiplied by a float32 alpha in float32, and rounded once.

    References
    ----------
    Andrew L. Maas, Awni Y. Hannun, Andrew Y. Ng, "Rectifier nonlinearities improve neural network acoustic models",
    ICML 2013.

    Examples
    --------
    >>> import numpy as np
    >>> import fastact
    >>> fastact.leaky_relu(np.array([4.0, -2.0]), 0.2)
    array([ 4. , -0.4])
    >>> y, mask = fastact.leaky_relu(np.array([4.0, -2.0]), 0.2, return_mask=True)
    >>> fastact.leaky_relu_backward(np.array([1.0, 1.0]), alpha=0.2, mask=mask)
    array([1. , 0.2])
    """
    if more:
        raise _too_many(leaky_relu, 2, more)
    if return_mask:
        return _masks.forward("leaky_relu", x, alpha, out, backend, n_threads)
    return elementwise("leaky_relu", None, x, alpha, 1, out, backend, n_threads)


# fmt: off
if TYPE_CHECKING:

    @overload
    def leaky_relu_backward(
        dy: Lazy, x: ArrayLike, alpha: float = ..., *,
        backend: str | None = ..., n_threads: int | None = ...,
    ) -> Any: ...
    @overload
    def leaky_relu_backward(
        dy: ArrayLike, x: Lazy, alpha: float = ..., *,
        backend: str | None = ..., n_threads: int | None = ...,
    ) -> Any: ...
    @overload
    def leaky_relu_backward(
        dy: ArrayLike, x: ArrayLike | None = ..., alpha: float = ..., *, mask: np.ndarray | None = ...,
        out: np.ndarray | None = ..., backend: str | None = ..., n_threads: int | None = ...,
    ) -> np.ndarray: ...
    @overload
    def leaky_relu_backward(
        dy: ArrayLike, x: ArrayLike | None = ..., alpha: float = ..., *, mask: np.ndarray | None = ...,
        out: Memory, backend: str | None = ..., n_threads: int | None = ...,
    ) -> Memory: ...
# fmt: on


def leaky_relu_backward(
    dy: ArrayLike,
    x: ArrayLike | None = None,
    alpha: float = 0.01,
    *more: Never,
    mask: np.ndarray | None = None,
    out: np.ndarray | None = None,
    backend: str | None = None,
    n_threads: int | None = None,
) -> np.ndarray:
    """Gradient of `leaky_relu`: dx = dy where x > 0, else alpha * dy.

    Parameters
    ----------
    dy : array_like
        As for `relu_backward`.
    x : array_like, optional
        The input of `leaky_relu`.  Either x or mask must be given.
    alpha : float
        The slope for x <= 0: one number.
    mask : ndarray, optional
        In x's place: the mask that `leaky_relu` returned, for a dy of the shape that x had.
    out : ndarray, optional
        Where dx goes; it may be exactly dy or x (in place).
    backend, n_threads : optional
        As for `relu`.

    Returns
    -------
    dx : ndarray
        As for `relu_backward`.

    Raises
    ------
    TypeError, ValueError, RuntimeError
        As for `relu_backward`; ValueError also if alpha is not one number.

    Notes
    -----
    x = 0 and x = NaN take the alpha branch, with a mask as well.

    Examples
    --------
    >>> import numpy as np
    >>> import fastact
    >>> fastact.leaky_relu_backward(np.array([1.0, 1.0]), np.array([4.0, -2.0]), 0.2)
    array([1. , 0.2])
    """
    if more:
        raise _too_many(leaky_relu_backward, 3, more)
    if mask is not None or x is None:
        _check_one("leaky_relu_backward", x, mask)
        return _masks.backward("leaky_relu_backward", dy, mask, alpha, out, backend, n_threads)
    return elementwise("leaky_relu_backward", dy, x, alpha, 1, out, backend, n_threads)


# fmt: off
if TYPE_CHECKING:

    @overload
    def prelu(
        x: Lazy, /, alpha: ArrayLike = ..., *, channel_axis: int = ...,
        backend: str | None = ..., n_threads: int | None = ...,
    ) -> Any: ...
    @overload
    def prelu(
        x: ArrayLike, /, alpha: Lazy, *, channel_axis: int = ...,
        backend: str | None = ..., n_threads: int | None = ...,
    ) -> Any: ...
    @overload
    def prelu(
        x: ArrayLike, /, alpha: ArrayLike = ..., *, channel_axis: int = ...,
        out: np.ndarray | None = ..., backend: str | None = ..., n_threads: int | None = ...,
    ) -> np.ndarray: ...
    @overload
    def prelu(
        x: ArrayLike, /, alpha: ArrayLike = ..., *, channel_axis: int = ...,
        out: Memory, backend: str | None = ..., n_threads: int | None = ...,
    ) -> Memory: ...
# fmt: on


def prelu(
    x: ArrayLike,
    /,
    alpha: ArrayLike = 0.25,
    *more: Never,
    channel_axis: int = 1,
    out: np.ndarray | None = None,
    backend: str | None = None,
    n_threads: int | None = None,
) -> np.ndarray:
    """Parametric ReLU: y = x where x > 0, else alpha * x, with learned slopes.

    Parameters
    ----------
    x : array_like
        Of any shape and layout; float16, bfloat16, float32, float64, integer or bool (the last two compute in float64).
    alpha : float or array_like
        A scalar or an array of one element is shared; a 1-D array of length ``x.shape[channel_axis]`` is per
        channel; an array of more dimensions broadcasts to x.  Cast to the computing dtype: float32 for 16-bit x,
        else x's own.
    channel_axis : int
        The axis of x that a per-channel alpha runs along (negative: from the end); not looked at otherwise.
    out, backend, n_threads : optional
        As for `relu`.

    Returns
    -------
    y : ndarray
        x's shape, and x's dtype in native byte order (float64 for integers); `out` if it was given.

    Raises
    ------
    TypeError, ValueError, RuntimeError
        As for `relu`; ValueError also if alpha's shape does not fit x, with both shapes.

    Notes
    -----
    x > 0 comes through bit for bit whatever alpha is (inf, NaN, 0); the rest, 0 and NaN included, is one IEEE
    multiply.  16-bit x is multiplied in float32, and rounded once.

    References
    ----------
    Kaiming He, Xiangyu Zhang, Shaoqing Ren, Jian Sun, "Delving deep into rectifiers", ICCV 2015, arXiv:1502.01852.

    Examples
    --------
    >>> import numpy as np
    >>> import fastact
    >>> fastact.prelu(np.array([4.0, -2.0]), 0.2)
    array([ 4. , -0.4])
    >>> fastact.prelu(np.array([[1.0, -1.0], [-2.0, -2.0]]), np.array([0.25, 0.5]))  # one slope for each column
    array([[ 1. , -0.5],
           [-0.5, -1. ]])
    """
    if more:
        raise _too_many(prelu, 2, more)
    return elementwise("prelu", None, x, alpha, channel_axis, out, backend, n_threads)


# fmt: off
if TYPE_CHECKING:

    @overload
    def prelu_backward(
        dy: Lazy, x: ArrayLike, alpha: ArrayLike = ..., *, channel_axis: int = ..., need_dx: bool = ...,
        need_dalpha: bool = ..., backend: str | None = ..., n_threads: int | None = ...,
    ) -> tuple[Any, Any]: ...
    @overload
    def prelu_backward(
        dy: ArrayLike, x: Lazy, alpha: ArrayLike = ..., *, channel_axis: int = ..., need_dx: bool = ...,
        need_dalpha: bool = ..., backend: str | None = ..., n_threads: int | None = ...,
    ) -> tuple[Any, Any]: ...
    @overload
    def prelu_backward(
        dy: ArrayLike, x: ArrayLike, alpha: Lazy, *, channel_axis: int = ..., need_dx: bool = ...,
        need_dalpha: bool = ..., backend: str | None = ..., n_threads: int | None = ...,
    ) -> tuple[Any, Any]: ...
    @overload
    def prelu_backward(
        dy: ArrayLike, x: ArrayLike, alpha: ArrayLike = ..., *, channel_axis: int = ...,
        need_dx: Literal[True] = ..., need_dalpha: Literal[True] = ...,
        out: tuple[np.ndarray | None, np.ndarray | None] = ..., backend: str | None = ..., n_threads: int | None = ...,
    ) -> tuple[np.ndarray, np.ndarray]: ...
    @overload
    def prelu_backward(
        dy: ArrayLike, x: ArrayLike, alpha: ArrayLike = ..., *, channel_axis: int = ...,
        need_dx: Literal[False], need_dalpha: Literal[True] = ...,
        out: tuple[np.ndarray | None, np.ndarray | None] = ..., backend: str | None = ..., n_threads: int | None = ...,
    ) -> tuple[None, np.ndarray]: ...
    @overload
    def prelu_backward(
        dy: ArrayLike, x: ArrayLike, alpha: ArrayLike = ..., *, channel_axis: int = ...,
        need_dx: Literal[True] = ..., need_dalpha: Literal[False],
        out: tuple[np.ndarray | None, np.ndarray | None] = ..., backend: str | None = ..., n_threads: int | None = ...,
    ) -> tuple[np.ndarray, None]: ...
    @overload
    def prelu_backward(
        dy: ArrayLike, x: ArrayLike, alpha: ArrayLike = ..., *, channel_axis: int = ...,
        need_dx: bool = ..., need_dalpha: bool = ...,
        out: tuple[np.ndarray | None, np.ndarray | None] = ..., backend: str | None = ..., n_threads: int | None = ...,
    ) -> tuple[np.ndarray | None, np.ndarray | None]: ...
    @overload
    def prelu_backward(
        dy: ArrayLike, x: ArrayLike, alpha: ArrayLike = ..., *, channel_axis: int = ...,
        need_dx: bool = ..., need_dalpha: bool = ...,
        out: Memories, backend: str | None = ..., n_threads: int | None = ...,
    ) -> tuple[Any, Any]: ...
# fmt: on


def prelu_backward(
    dy: ArrayLike,
    x: ArrayLike,
    alpha: ArrayLike = 0.25,
    *more: Never,
    channel_axis: int = 1,
    need_dx: bool = True,
    need_dalpha: bool = True,
    out: tuple[np.ndarray | None, np.ndarray | None] = (None, None),
    backend: str | None = None,
    n_threads: int | None = None,
) -> tuple[np.ndarray | None, np.ndarray | None]:
    """Gradients of `prelu`: dx = dy where x > 0, else alpha * dy; dalpha = sum of x * dy over x not > 0.

    Parameters
    ----------
    dy : array_like
        As for `relu_backward`.
    x : array_like
        The input of `prelu`.
    alpha : float or array_like
        As for `prelu`.
    channel_axis : int
        As for `prelu`.
    need_dx, need_dalpha : bool
        A gradient that is not needed is None, and its work is not done.
    out : tuple of (ndarray or None, ndarray or None)
        Where dx and dalpha go; dx's may be exactly dy or x (in place), which changes no bit of dalpha.
    backend, n_threads : optional
        As for `relu`.

    Returns
    -------
    dx : ndarray or None
        x's shape, and x's dtype in native byte order (float64 for integers).
    dalpha : ndarray or None
        alpha's shape.  Its dtype is alpha's if that is an array of floats of any size, 0-d included; else (numbers,
        NumPy's scalars, lists, integers) the computing dtype: float32 for 16-bit x, else x's own.

    Raises
    ------
    TypeError, ValueError, RuntimeError
        As for `prelu` and `relu_backward`; ValueError also if an out is given for a gradient that is not needed.

    Notes
    -----
    x = 0 and x = NaN take the alpha branch.  Terms at x > 0 are left out as products, so an inf there leaks
    nothing.  dalpha is added up in float64 in an order fixed by shape, memory order and form of alpha, and rounded
    once.  The error is at most half an ulp + 2**-45 * sum(abs(x * dy)), and the bits are the same for every number of
    threads, SIMD level, alignment and run, and in both compiled variants.

    References
    ----------
    Kaiming He, Xiangyu Zhang, Shaoqing Ren, Jian Sun, "Delving deep into rectifiers", ICCV 2015, arXiv:1502.01852.

    Examples
    --------
    >>> import numpy as np
    >>> import fastact
    >>> dx, dalpha = fastact.prelu_backward(np.array([1.0, 10.0]), np.array([4.0, -2.0]), 0.2)
    >>> dx
    array([1., 2.])
    >>> dalpha
    array(-20.)

    dx over dy, and slopes in float32 beside gradients of 16 bits:

    >>> dy = np.array([1.0, 10.0], np.float16)
    >>> x = np.array([4.0, -2.0], np.float16)
    >>> fastact.prelu_backward(dy, x, np.full(1, 0.2, np.float32), out=(dy, None))
    (array([1., 2.], dtype=float16), array([-20.], dtype=float32))
    """
    if more:
        raise _too_many(prelu_backward, 3, more)
    return backward(
        "prelu_backward", dy, x, alpha, channel_axis, need_dx, need_dalpha, out, backend, n_threads
    )  # fmt: skip


def _check_one(name: str, x, mask) -> None:
    """Raise where x and mask are both given, or none of them."""
    if mask is None:
        raise TypeError(f"x is None, and must be an array: {name}() takes x or mask")
    if x is not None:
        raise ValueError(f"{name}() takes x or mask, and both were given")


def _too_many(function, takes: int, more: tuple) -> TypeError:
    """What to raise where more is given by position than the function takes."""
    name, many = function.__name__, f"{takes} positional argument{'s' * (takes > 1)}"
    keywords = [p.name for p in function.__signature__.parameters.values() if p.kind == p.KEYWORD_ONLY]
    return TypeError(
        f"{name}() takes at most {many} but {takes + len(more)} were given: "
        f"{', '.join(keywords)} are keyword-only, as in {name}(..., out=y)"
    )


def _hide_more(function) -> None:
    """Leave `more`, which is there for the message above only, out of what help() and type hints show."""
    signature = inspect.signature(function)
    shown = [p for p in signature.parameters.values() if p.kind != p.VAR_POSITIONAL]
    function.__signature__ = signature.replace(parameters=shown)
    function.__annotations__.pop("more", None)
    function.__module__ = "fastact"  # where users (and pickle) find it, whichever module it is in


for _name in __all__:
    _hide_more(globals()[_name])
del _name
