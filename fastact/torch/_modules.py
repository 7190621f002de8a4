"""torch's modules ReLU, LeakyReLU and PReLU with our functions, and how they get into a model."""

import copy

import torch
from torch import Tensor, nn

from ._functions import leaky_relu, prelu, relu

_OPAQUE = """

    `opaque` is for torch.compile.  False: torch's own operation, which is fused with its neighbours.  True: fastact's,
    as an operator that nothing is fused with.  docs/torch.md says when which is faster.
    """


class _Ours(nn.Module):
    """What our modules add to torch's."""

    opaque = False

    def extra_repr(self) -> str:
        """As torch's, with opaque=True where that was asked for."""
        return ", ".join(filter(None, (super().extra_repr(), "opaque=True" if self.opaque else "")))

    def __prepare_scriptable__(self) -> nn.Module:
        """torch's module with the same parameters, for TorchScript."""
        module = copy.copy(self)
        module.__class__ = next(torchs for torchs, ours in _REPLACED.items() if isinstance(self, ours))
        return module


class ReLU(_Ours, nn.ReLU):
    __doc__ = "torch.nn.ReLU by `fastact.torch.relu`." + _OPAQUE

    def __init__(self, inplace: bool = False, *, opaque: bool = False) -> None:
        super().__init__(inplace)
        self.opaque = opaque

    def forward(self, input: Tensor) -> Tensor:
        """As torch.nn.ReLU."""
        return relu(input, self.inplace, opaque=self.opaque)


class LeakyReLU(_Ours, nn.LeakyReLU):
    __doc__ = "torch.nn.LeakyReLU by `fastact.torch.leaky_relu`." + _OPAQUE

    def __init__(self, negative_slope: float = 1e-2, inplace: bool = False, *, opaque: bool = False) -> None:
        super().__init__(negative_slope, inplace)
        self.opaque = opaque

    def forward(self, input: Tensor) -> Tensor:
        """As torch.nn.LeakyReLU."""
        return leaky_relu(input, self.negative_slope, self.inplace, opaque=self.opaque)


class PReLU(_Ours, nn.PReLU):
    __doc__ = "torch.nn.PReLU by `fastact.torch.prelu`: float32 slopes also go with a 16-bit input." + _OPAQUE

    def __init__(
        self,
        num_parameters: int = 1,
        init: float = 0.25,
        device: object = None,
        dtype: torch.dtype | None = None,
        *,
        opaque: bool = False,
    ) -> None:
        super().__init__(num_parameters, init, device, dtype)
        self.opaque = opaque

    def forward(self, input: Tensor) -> Tensor:
        """As torch.nn.PReLU."""
        return prelu(input, self.weight, opaque=self.opaque)


_REPLACED = {nn.ReLU: ReLU, nn.LeakyReLU: LeakyReLU, nn.PReLU: PReLU}


def replace_activations(model: nn.Module, *, opaque: bool = False) -> nn.Module:
    """Make torch's ReLU, LeakyReLU and PReLU modules in a model fastact's, in place.

    Parameters
    ----------
    model : torch.nn.Module
        It may be an activation itself.  Only modules of exactly these three types change: no subclasses, no
        parametrised or quantised modules.
    opaque : bool
        What the modules get; see `fastact.torch.PReLU`.

    Returns
    -------
    torch.nn.Module
        The model.  Each module stays the same object and gets another class, so that parameters, hooks, names,
        `training` and who shares a module with whom are as before.

    Examples
    --------
    >>> import fastact.torch, torch
    >>> fastact.torch.replace_activations(torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.PReLU(3)))[1]
    PReLU(num_parameters=3)
    """
    for module in model.modules():
        if (ours := _REPLACED.get(type(module))) is not None:
            module.__class__ = ours
            module.opaque = opaque
    return model
