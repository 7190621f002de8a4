"""What the adapter asks of torch's inside.  The private names of torch stand here and nowhere else."""

import torch
from torch import Tensor
from torch.autograd import forward_ad

# The operator behind torch's PReLU, below autograd, and its backward.
NAMESPACE, FORWARD, BACKWARD = "aten", "_prelu_kernel", "_prelu_kernel_backward"

autocast_is_on = torch._C._is_any_autocast_enabled
_modes = torch._C._len_torch_dispatch_stack
_transforms = torch._C._functorch.maybe_current_level
_tracing = torch._C._get_tracing_state


def is_ordinary() -> bool:
    """Whether tensors are just numbers in this thread now.

    They are not under a dispatch mode (fake tensors, make_fx), a transform of torch.func, forward AD or jit.trace.
    """
    return not _modes() and _transforms() is None and forward_ad._current_level < 0 and _tracing() is None


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
