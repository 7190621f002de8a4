from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor

AS_RELU: int
AS_LEAKY_RELU: int
AS_PRELU: int

def connect(
    api: object,
    tensor: type,
    parameter: type,
    dtypes: Iterable[int],
    functions: tuple[Callable[..., Any], ...],
) -> None: ...
def set_torch_memory(on: bool) -> None: ...

# `more` is a number for leaky_relu, the slopes for prelu.  None: not the common call.
def forward(op: int, x: Tensor, more: float | Tensor | None = None) -> Tensor | None: ...
def attempt(op: int, x: object, more: object = None) -> Tensor | bool | None: ...
def in_place(op: int, x: Tensor, more: float | None = None) -> Tensor | None: ...
def attempt_backward(
    op: int, dy: object, x: object, more: object = None, need_dx: bool = True, need_dalpha: bool = True
) -> Tensor | tuple[Tensor | None, Tensor | None] | None: ...
def backward(
    op: int, dy: Tensor, x: Tensor, more: object = None, need_dx: bool = True, need_dalpha: bool = True
) -> Tensor | tuple[Tensor | None, Tensor | None] | None: ...
