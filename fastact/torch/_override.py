"""torch's own PReLU by fastact: its two kernels on the CPU are replaced through torch's dispatcher.

torch's prelu gives its kernels the slopes in a shape that broadcasts with x.  Ours give the slopes' gradient in that
shape, already reduced; torch's autograd takes it as it is.  Under torch.func a batched slope would be reduced over the
wrong axes, so there the gradient stays full-size (the key FuncTorchBatched).
"""

import threading
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch

from . import _compute, _host

_lock = threading.Lock()
_library: torch.library.Library | None = None  # what is registered now
_asked: list[tuple[object, bool]] = []  # who asked for it, and for which memory: enable() and the `with` blocks


def _takes(x: torch.Tensor, weight: torch.Tensor, dy: torch.Tensor) -> bool:
    """Whether fastact takes the operands of a kernel.  (A loop over them took 1 us of the 3 that a call costs here.)"""
    dtype = x.dtype
    return dtype in _compute.DTYPES and weight.dtype is dtype and dy.dtype is dtype


def _gradients(dy: torch.Tensor, x: torch.Tensor, weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The gradients as torch's kernel gives them, in formulas: that of the slopes is full-size."""
    return torch.where(x > 0, dy, weight * dy), torch.where(x > 0, 0, x * dy)


def _kernels() -> Iterator[tuple[str, str, object]]:
    """Operator, dispatch key and kernel of each replacement."""
    forward = _host.kernel_in_force(_host.FORWARD, "CPU", lambda x, weight: torch.where(x > 0, x, weight * x))
    backward = _host.kernel_in_force(_host.BACKWARD, "CPU", _gradients)

    def prelu(keys, x, weight):
        if _takes(x, weight, x):
            return _compute.forward("prelu", x, weight)
        return forward(keys, x, weight)

    def prelu_backward(keys, dy, x, weight):
        if _takes(x, weight, dy):
            return _compute.backward("prelu", dy, x, weight)
        return backward(keys, dy, x, weight)

    def batched_backward(keys, dy, x, weight):
        return _gradients(dy, x, weight)

    yield _host.FORWARD, "CPU", prelu
    yield _host.BACKWARD, "CPU", prelu_backward
    yield _host.BACKWARD, "FuncTorchBatched", batched_backward


def _ask(who: object, torch_memory: bool) -> None:
    """Note who asked; replace the kernels if nobody did before."""
    global _library
    with _lock:
        if _library is None:
            _library = _replaced()
        else:
            _require_ours()
        _asked[:] = [*(entry for entry in _asked if entry[0] is not who), (who, torch_memory)]
        _compute.set_torch_memory(torch_memory)


def _take_back(who: object) -> None:
    """Forget who asked; put torch's kernels back if that was the last one."""
    global _library
    with _lock:
        _asked[:] = [entry for entry in _asked if entry[0] is not who]
        _compute.set_torch_memory(bool(_asked) and _asked[-1][1])
        if not _asked and _library is not None:
            _host.put_back(_library)
            _library = None


def _replaced() -> torch.library.Library:
    """Replace the kernels, and try them."""
    if lacks := _host.lacking():
        raise RuntimeError(
            f"this torch ({torch.__version__}) lacks {' and '.join(lacks)}, so that its PReLU cannot be replaced; "
            "fastact.torch.replace_activations(model) works without"
        )
    for operator in (_host.FORWARD, _host.BACKWARD):
        for key in ("CPU", "FuncTorchBatched"):
            if len(found := _host.kernels_of(operator, key)) > 1:
                raise RuntimeError(
                    f"torch's kernel {_host.NAMESPACE}::{operator} ({key}) has been replaced already, at {found[0]}: "
                    "that has to go before fastact.torch.enable()"
                )
    library = torch.library.Library(_host.NAMESPACE, "IMPL")
    try:
        with warnings.catch_warnings():
            # torch warns once in a process about whoever overrides a kernel first.  Here it is meant.
            warnings.filterwarnings("ignore", "(?s).*Overriding a previously registered kernel")
            for operator, key, kernel in list(_kernels()):
                library.impl(operator, kernel, key, with_keyset=True)
        if (fault := _fault()) and _compute.use_exchange(False):
            if _fault():  # it is not the exchange's
                _compute.use_exchange(True)
            else:
                warnings.warn(
                    f"fastact.torch: PReLU through torch.{_host.EXCHANGE_API} {fault} in torch {torch.__version__}: "
                    f"from now on {_host.THROUGH_ARRAYS}",
                    RuntimeWarning,
                    stacklevel=4,
                )
                fault = None
        if fault:
            raise RuntimeError(
                f"torch's PReLU by fastact {fault} in torch {torch.__version__}, so torch's own is in force again; "
                "please report this"
            )
    except BaseException:
        _host.put_back(library)
        raise
    return library


def _require_ours() -> None:
    """A RuntimeError if somebody has replaced the kernels after us."""
    for operator in (_host.FORWARD, _host.BACKWARD):
        found = _host.kernels_of(operator, "CPU")[0]
        if __file__ not in found:
            raise RuntimeError(
                f"torch's kernel {_host.NAMESPACE}::{operator} (CPU) was replaced after fastact.torch.enable(), at "
                f"{found}: that has to go first"
            )


def _fault() -> str | None:
    """What is wrong with one forward and backward, whose results are known.

    They run in a thread of their own, where autocast, inference_mode and whatever else the caller has on are off.
    """
    with ThreadPoolExecutor(1) as thread:
        try:
            return None if thread.submit(_is_right).result() else "computes wrong numbers"
        except Exception as error:
            return f"fails ({type(error).__name__}: {error})"


def _is_right() -> bool:
    x = torch.tensor([[-2.0, 4.0], [-1.0, -3.0]], dtype=torch.float32, device="cpu", requires_grad=True)
    weight = torch.tensor([0.5, 0.25], dtype=torch.float32, device="cpu", requires_grad=True)
    y = torch.prelu(x, weight)
    dx, dweight = torch.autograd.grad(y, (x, weight), torch.tensor([[1.0, 2.0], [4.0, 8.0]]).to(y))
    expected = [[-1.0, 4.0], [-0.5, -0.75]], [[0.5, 2.0], [2.0, 2.0]], [-6.0, -24.0]
    return (y.tolist(), dx.tolist(), dweight.tolist()) == expected


_PROCESS = object()  # who asked, for enable()


def enable(*, torch_memory: bool = False) -> None:
    """Compute torch's PReLU on the CPU by fastact, in the whole process and all its threads.

    Models need no change: torch.nn.PReLU, torch.nn.functional.prelu and torch.prelu are meant, forward and backward.
    ReLU and leaky ReLU stay torch's; `replace_activations` is for these.

    Parameters
    ----------
    torch_memory : bool
        Whether results lie in memory from torch.  By default they lie in fastact's recycled memory: that is faster,
        but such a tensor cannot be resized to more elements (`resize_`).  It holds for all results of fastact.torch.

    Raises
    ------
    RuntimeError
        If somebody else has replaced the kernels, or torch has none of the kind.

    Notes
    -----
    It may be called again; the last call's `torch_memory` holds.  What fastact does not take goes to torch's own
    kernel.  A tape that was recorded before or after runs backward all the same.  Do not call it, or `disable`, while
    another thread computes a PReLU.

    Examples
    --------
    >>> import fastact.torch, torch
    >>> fastact.torch.enable()
    >>> torch.nn.PReLU()(torch.tensor([-2.0, 4.0])).tolist()
    [-0.5, 4.0]
    >>> fastact.torch.disable()
    """
    _ask(_PROCESS, torch_memory)


def disable() -> None:
    """Undo `enable`, however often it was called.  A `with enabled():` block around it stays in force."""
    _take_back(_PROCESS)


@contextmanager
def enabled(*, torch_memory: bool = False) -> Iterator[None]:
    """Compute torch's PReLU on the CPU by fastact within a `with` block, in the whole process and all its threads.

    Blocks nest and may overlap: torch's kernels come back when the last one is left and `enable` is not in force.

    Parameters
    ----------
    torch_memory : bool
        As for `enable`.

    Raises
    ------
    RuntimeError
        As for `enable`.
    """
    who = object()
    _ask(who, torch_memory)
    try:
        yield
    finally:
        _take_back(who)
