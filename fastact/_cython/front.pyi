from typing import Any

# The arguments are not typed: the functions called by these check them, so that a wrong argument has one error.
def elementwise(
    name: str, dy: Any, x: Any, alpha: Any, channel_axis: Any, out: Any, backend: Any, n_threads: Any, /
) -> Any: ...
def backward(
    name: str,
    dy: Any,
    x: Any,
    alpha: Any,
    channel_axis: Any,
    need: Any,
    need_dalpha: Any,
    out: Any,
    backend: Any,
    n_threads: Any,
    /,
) -> Any: ...
def forked() -> None: ...
