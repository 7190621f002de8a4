"""Hide each name of torch's that fastact.torch looks up, one at a time, and see what is still right.

Each runs in a child of this process, which has imported torch and nothing of fastact.
"""

import os
import sys
import traceback
import warnings

import torch
from torch.autograd import forward_ad

# Where the name is, the name, what takes its place, a word of the one warning (None: no warning), a word of the error
# of enable() (None: it works).
NOTHING = "nothing takes its place"
ARRAYS = "through NumPy arrays"
TORCHS = "torch's own operations"
HIDDEN = [
    (sys.modules, "fastact.torch._exchange", None, None, None),
    (sys.modules, "ml_dtypes", None, None, None),
    (torch.Tensor, "__dlpack_c_exchange_api__", None, ARRAYS, None),
    (torch.Tensor, "__dlpack_c_exchange_api__", object(), ARRAYS, None),
    (torch._C, "_len_torch_dispatch_stack", NOTHING, TORCHS, None),
    (torch._C._functorch, "maybe_current_level", NOTHING, TORCHS, None),
    (torch._C, "_get_tracing_state", NOTHING, TORCHS, None),
    (forward_ad, "_current_level", NOTHING, TORCHS, None),
    (torch._C, "_is_any_autocast_enabled", NOTHING, None, None),
    (torch._C, "_has_storage", NOTHING, None, None),
    (torch._C, "_dispatch_dump", NOTHING, None, "torch._C._dispatch_dump"),
    (torch.library, "get_kernel", NOTHING, None, None),
    (torch.library.Library, "_destroy", NOTHING, None, "torch.library.Library._destroy"),
]


def check(where, name, instead, warning, error):
    """Hide a name; what has to hold then."""
    if isinstance(where, dict):
        where[name] = instead
    elif instead is NOTHING:
        delattr(where, name)
    else:
        setattr(where, name, instead)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        import fastact.torch as ours
    caught = [str(entry.message) for entry in caught if "fastact" in str(entry.message)]
    assert len(caught) == (warning is not None), caught
    assert warning is None or (warning in caught[0] and name in caught[0]), caught
    x, weight = torch.tensor([[-2.0, 4.0]]), torch.tensor([0.5, 0.25], requires_grad=True)

    def is_right(prelu):
        for dtype in (torch.float32, torch.bfloat16):
            w = weight.to(dtype)
            y = prelu(x.to(dtype), w)
            assert y.dtype is dtype and y.tolist() == [[-1.0, 4.0]]
            assert torch.autograd.grad(y.sum(), w)[0].tolist() == [-2.0, 0.0]

    is_right(ours.prelu)
    assert ours.relu(x).tolist() == [[0.0, 4.0]]
    assert torch.func.vmap(lambda x: ours.prelu(x[None], weight)[0])(x).tolist() == [[-1.0, 4.0]]
    try:
        ours.enable()
    except RuntimeError as refused:
        assert error and error in str(refused), refused
    else:
        assert error is None
        is_right(torch.prelu)
        ours.disable()
    is_right(torch.prelu)


for hidden in HIDDEN:
    sys.stdout.flush()
    if not (child := os.fork()):
        try:
            check(*hidden)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    print(hidden[1], "right" if status == 0 else f"wrong ({status})", flush=True)
