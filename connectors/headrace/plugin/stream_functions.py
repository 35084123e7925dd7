"""``@headrace.stream``: declares what a Python function of a stream application takes and returns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar, overload

F = TypeVar("F", bound=Callable[..., Any])
_ATTRIBUTE = "__headrace_stream__"


@dataclass(frozen=True)
class StreamFunction:
    """What a function declares."""

    batch: bool = False
    columns: Mapping[str, str] = field(default_factory=dict)


UNDECLARED = StreamFunction()
"""Of a function without the decorator."""


@overload
def stream(function: F, /) -> F: ...


@overload
def stream(*, batch: bool = False, columns: Mapping[str, str] | None = None) -> Callable[[F], F]: ...


def stream(function: Any = None, /, *, batch: bool = False, columns: Mapping[str, str] | None = None) -> Any:
    """Declare a function for the step ``call``, so that the step does not have to.

    ``batch``: it is called with a list of records, and returns a list of as many results. ``columns``: the names and
    types of the columns of what it returns, so that the steps after it are checked before the start; see ``columns`` of
    an input. The function itself is not changed.
    """

    def declare(declared: F) -> F:
        setattr(declared, _ATTRIBUTE, StreamFunction(batch, dict(columns or {})))
        return declared

    return declare if function is None else declare(function)


def declaration_of(function: Callable[..., Any]) -> StreamFunction:
    """Return what a function declares; :data:`UNDECLARED` without a decorator."""
    declared = getattr(function, _ATTRIBUTE, UNDECLARED)
    return declared if isinstance(declared, StreamFunction) else UNDECLARED
