"""The `with` blocks of the settings: a context variable has another value until the block is left.

`threads`, `use_backend` and `thread_source` (_settings) are made of these classes: what every block runs (Number and
Name, which contexts.pyx has compiled as well), and what is needed to decorate a function (Block).
"""

import inspect
from collections.abc import Callable
from contextlib import suppress
from contextvars import ContextVar, Token
from functools import wraps
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, cast

from ._built import contexts, policy

Function = TypeVar("Function", bound=Callable[..., Any])


class Setting:
    """A variable's value for one `with` block, checked when the object is made."""

    __slots__ = ("_token", "_value")
    _variable: ClassVar[ContextVar[Any]]
    _value: Any
    _token: Token[Any] | bool | None  # None before the block, False after it

    def __init__(self, value: Any) -> None:
        self._value, self._token = self._check(value), None

    def _check(self, value: Any) -> Any:
        """The value, if it is right."""
        raise NotImplementedError

    def _require(self) -> bool:
        """Raise an error if what the value needs is missing; True if it cannot go missing later."""
        return True

    def __enter__(self) -> None:
        if self._token is not None:
            raise RuntimeError(f"this {self!r} was entered before: make a new one for each `with` block")
        self._require()
        policy.ask_contexts()
        self._token = self._variable.set(self._value)

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        token = self._token
        if not isinstance(token, Token):
            raise RuntimeError(f"this {self!r} was not entered, or was left before")
        self._token = False
        # If the block is left in another context (an async generator closed by another task), reset() fails.  Nothing
        # has to be undone: that context never had the value.
        with suppress(ValueError):
            self._variable.reset(token)


class Number(Setting):
    """A setting that is a number."""

    __slots__ = ()

    def __init__(self, n: int) -> None:
        super().__init__(n)


class Name(Setting):
    """A setting that is a name."""

    __slots__ = ()

    def __init__(self, name: str) -> None:
        super().__init__(name)


if not TYPE_CHECKING and contexts is not None:
    Setting, Number, Name = contexts.Setting, contexts.Number, contexts.Name


class Block(Setting):
    """What a setting is beside its `with` block."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"fastact.{type(self).__name__}({self._value!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._value,)  # a copy has not been entered

    def __call__(self, function: Function) -> Function:
        """As a decorator, of plain functions: a coroutine or generator would run after the block has ended."""
        for kind in (inspect.iscoroutinefunction, inspect.isgeneratorfunction, inspect.isasyncgenfunction):
            if kind(function):
                raise TypeError(f"{self!r} cannot decorate {function.__name__}, which runs later: use `with` inside it")

        @wraps(function)
        def within(*args: Any, **options: Any) -> Any:
            with type(self)(self._value):  # a new one for each call
                return function(*args, **options)

        return cast(Function, within)
