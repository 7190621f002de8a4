"""PyTorch's ReLU, leaky ReLU and PReLU on a CPU by fastact: for existing models, unchanged, and for new ones.

`enable()` replaces the kernels of torch's own PReLU.  The functions and modules have the names and the meaning of
torch's, and `replace_activations` puts the modules into a model.  docs/torch.md says which to choose.

This package is never imported by `import fastact`.  Its rooms: _host (what is asked of torch's inside), _compute (plain
CPU tensors through fastact), _operators (formulas in torch's operations, the table of operators, their registration),
_functions, _modules, _override.
"""

from . import _host
from ._functions import leaky_relu, prelu, relu
from ._modules import LeakyReLU, PReLU, ReLU, replace_activations
from ._override import disable, enable, enabled

_host.warn_of_missing()

__all__ = [
    "LeakyReLU",
    "PReLU",
    "ReLU",
    "disable",
    "enable",
    "enabled",
    "leaky_relu",
    "prelu",
    "relu",
    "replace_activations",
]
