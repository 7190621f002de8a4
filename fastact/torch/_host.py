"""What the adapter asks of torch's inside.  The private names of torch stand here and nowhere else.

Each is looked up, never a version.  What serves where one is missing stands beside it, and `missing` says so.
"""

import warnings
from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd import forward_ad

# The operator behind torch's PReLU, below autograd, and its backward.
NAMESPACE, FORWARD, BACKWARD = "aten", "_prelu_kernel", "_prelu_kernel_backward"

missing: dict[str, str] = {}  # names that this torch lacks, and what follows for the user


def _find(name: str, instead: object, consequence: str | None = None) -> object:
    """What has this name in torch, or what serves instead."""
    found = torch
    for part in name.split("."):
        found = getattr(found, part, None)
    if found is None and consequence:
        lacks(name, consequence)
    return instead if found is None else found


def lacks(name: str, consequence: str) -> None:
    """Note that torch lacks a name, or has something unknown under it."""
    missing[f"torch.{name}"] = consequence


_TORCHS = "the functions and modules of fastact.torch are torch's own operations (enable() is not affected)"


def _maybe() -> bool:
    """In the place of a question that this torch does not answer."""
    return True


# What is true where tensors are not just numbers: a dispatch mode is on (fake tensors, make_fx), or a transform of
# torch.func, or jit.trace.
EXTRAORDINARY = (
    _find("_C._len_torch_dispatch_stack", _maybe, _TORCHS),
    _find("_C._functorch.maybe_current_level", _maybe, _TORCHS),
    _find("_C._get_tracing_state", _maybe, _TORCHS),
)
# With _current_level, which is -1 outside of forward AD.
FORWARD_AD = vars(forward_ad)
if _find("autograd.forward_ad._current_level", None, _TORCHS) is None:
    FORWARD_AD = {"_current_level": 0}


def is_ordinary() -> bool:
    """Whether tensors are just numbers in this thread now."""
    return not any(function() for function in EXTRAORDINARY) and FORWARD_AD["_current_level"] < 0


autocast_is_on = _find("_C._is_any_autocast_enabled", lambda: torch.is_autocast_enabled("cpu"))


def recorder(function: type[torch.autograd.Function]) -> Callable:
    """Its `apply` without what that does for transforms of torch.func, which takes as long as the rest."""
    return super(torch.autograd.Function, function).apply


EXCHANGE_API = "Tensor.__dlpack_c_exchange_api__"  # DLPack's C exchange API, since torch 2.11
THROUGH_ARRAYS = "tensors go through NumPy arrays, which takes 5 us more for each call"
exchange_api = _find(EXCHANGE_API, None, THROUGH_ARRAYS)


def _storage_found(tensor: Tensor) -> bool:
    """As torch._C._has_storage, by an error."""
    try:
        tensor.untyped_storage()
    except (NotImplementedError, RuntimeError):
        return False
    return True


_has_storage = _find("_C._has_storage", _storage_found)


def has_memory(tensor: Tensor) -> bool:
    """Whether it has memory of its own: not what vmap has wrapped, nor zeros without memory."""
    return _has_storage(tensor) and (tensor.data_ptr() != 0 or not tensor.numel())


def warn_of_missing() -> None:
    """One warning about all that this torch lacks."""
    if missing:
        what = "; ".join(f"it lacks {name}: {consequence}" for name, consequence in missing.items())
        warnings.warn(f"fastact.torch does not know this torch ({torch.__version__}): {what}", RuntimeWarning, 3)


# ---- for enable() ----------------------------------------------------------------------------------------------------


def lacking() -> list[str]:
    """What torch lacks of what replacing a kernel needs."""
    names = ["_C._dispatch_dump", "library.Library._destroy"]
    lacks = [f"torch.{name}" for name in names if _find(name, None) is None]
    return lacks or [f"{NAMESPACE}::{operator}" for operator in (FORWARD, BACKWARD) if not kernels_of(operator, "CPU")]


def kernels_of(operator: str, key: str) -> list[str]:
    """Where the kernels of an aten operator were registered for a dispatch key; the one in force comes first."""
    try:
        dump = torch._C._dispatch_dump(f"{NAMESPACE}::{operator}")
    except RuntimeError:
        dump = ""
    lines = [line.partition(": ") for line in dump.splitlines()]
    return [rest.partition(" :: ")[0].removeprefix("registered at ") for name, _, rest in lines
            if name in (key, f"{key} (inactive)")]  # fmt: skip


def kernel_in_force(operator: str, key: str, formula: Callable) -> Callable:
    """The kernel that torch calls for a key now, a function of the key set and the tensors; or else the formula.

    It stays callable after it was replaced.
    """
    if (get_kernel := _find("library.get_kernel", None)) is None:
        return lambda keys, *tensors: formula(*tensors)
    return get_kernel(f"{NAMESPACE}::{operator}", key).call_boxed


def put_back(library: torch.library.Library) -> None:
    """Take a library's kernels out of torch's dispatcher."""
    library._destroy()
