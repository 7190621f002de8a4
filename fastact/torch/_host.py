"""What the adapter asks of torch's inside.  The private names of torch stand here and nowhere else."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd import forward_ad

# The operator behind torch's PReLU, below autograd, and its backward.
NAMESPACE, FORWARD, BACKWARD = "aten", "_prelu_kernel", "_prelu_kernel_backward"

autocast_is_on = torch._C._is_any_autocast_enabled
_modes = torch._C._len_torch_dispatch_stack
_transforms = torch._C._functorch.maybe_current_level
_tracing = torch._C._get_tracing_state


# What is true where tensors are not just numbers: a dispatch mode is on (fake tensors, make_fx), or a transform of
# torch.func, or jit.trace.
EXTRAORDINARY = (_modes, _transforms, _tracing)
FORWARD_AD = vars(forward_ad)  # with _current_level, which is -1 outside of forward AD


def is_ordinary() -> bool:
    """Whether tensors are just numbers in this thread now."""
    return not any(function() for function in EXTRAORDINARY) and FORWARD_AD["_current_level"] < 0


def recorder(function: type[torch.autograd.Function]) -> Callable:
    """Its `apply` without what that does for transforms of torch.func, which takes as long as the rest."""
    return super(torch.autograd.Function, function).apply


def exchange_api() -> object:
    """DLPack's C exchange API, since torch 2.11; an AttributeError without it."""
    return Tensor.__dlpack_c_exchange_api__


def has_memory(tensor: Tensor) -> bool:
    """Whether it has memory of its own.  Tensors that vmap has wrapped have none."""
    return torch._C._has_storage(tensor)


def kernels_of(operator: str, key: str) -> list[str]:
    """Where the kernels of an aten operator were registered for a dispatch key; the one in force comes first."""
    try:
        dump = torch._C._dispatch_dump(f"{NAMESPACE}::{operator}")
    except (AttributeError, RuntimeError):
        dump = ""
    lines = [line.partition(": ") for line in dump.splitlines()]
    return [rest.partition(" :: ")[0].removeprefix("registered at ") for name, _, rest in lines
            if name in (key, f"{key} (inactive)")]  # fmt: skip


def kernel_in_force(operator: str, key: str) -> object:
    """The kernel that torch calls for a key now; it stays callable after it was replaced."""
    return torch.library.get_kernel(f"{NAMESPACE}::{operator}", key)
