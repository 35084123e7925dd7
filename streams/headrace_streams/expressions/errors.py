"""The error of an expression: before the start when it is compiled, per record when it is evaluated."""

from __future__ import annotations


class ExpressionError(Exception):
    """An expression cannot be compiled, or a record has values that it does not accept.

    Messages name columns and types, never the contents of a record: they go to logs.
    """

    def __init__(
        self, message: str, *, code: str = "stream.expression", hint: str = "", offset: int | None = None
    ) -> None:
        """``offset``: of the first character that the error is about, in the text that was parsed."""
        super().__init__(message)
        self.message = message
        self.code = code
        self.hint = hint
        self.offset = offset
