"""The one table of operations: what each reads and writes, and its line in the reference.

Dispatch, the parity tests, the consistency tests and the benchmarks all go through OPERATIONS, so an
activation that has a row here is tested and timed without another line.  A row names the kernel that both
compiled variants look up, says whether alpha is read (`alpha`) and whether a gradient of alpha is summed
(`summed`); everything else is elementwise and exact.  leaky_relu is prelu's kernel with one alpha.
"""

from collections.abc import Callable
from typing import NamedTuple

from . import reference


class Operation(NamedTuple):
    """One public function: its operands, its kernel and its contract."""

    name: str
    kernel: str  # the name both compiled variants know it by
    reads: tuple[str, ...]  # array operands in the order of the signature
    writes: tuple[str, ...]
    alpha: str  # "" (none), "number" (leaky_relu) or "array" (every form)
    reference: Callable  # the elementwise expression
    dalpha: Callable | None = None  # the summed expression, where there is one
    integers: bool = False  # integers and booleans keep their dtype (else: computed in float64)

    @property
    def summed(self) -> bool:
        """Whether a gradient of alpha is summed."""
        return self.dalpha is not None

    @property
    def backward(self) -> bool:
        """Whether it reads dy."""
        return "dy" in self.reads


OPERATIONS: dict[str, Operation] = {
    op.name: op
    for op in (
        Operation("relu", "relu", ("x",), ("y",), "", reference.relu, integers=True),
        Operation("relu_backward", "relu_backward", ("dy", "x"), ("dx",), "", reference.relu_backward),
        Operation("leaky_relu", "prelu", ("x",), ("y",), "number", reference.prelu),
        Operation("leaky_relu_backward", "prelu_backward", ("dy", "x"), ("dx",), "number", reference.prelu_backward_dx),
        Operation("prelu", "prelu", ("x",), ("y",), "array", reference.prelu),
        Operation(
            "prelu_backward",
            "prelu_backward",
            ("dy", "x"),
            ("dx", "dalpha"),
            "array",
            reference.prelu_backward_dx,
            reference.prelu_backward_dalpha,
        ),
    )
}
