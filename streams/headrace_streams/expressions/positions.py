"""Positions in the text of an expression or statement, as sqlglot reports them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlglot import exp


def offset_in(node: exp.Expression | None, default: int = 0) -> int:
    """Return the offset of the first character that is known of a node."""
    found = [item.meta["start"] for item in node.walk() if "start" in item.meta] if node is not None else []
    return min(found, default=default)


def line_and_column(text: str, offset: int) -> tuple[int, int]:
    """Return line and column, from 1, of a character."""
    before = text[:offset]
    return before.count("\n") + 1, offset - (before.rfind("\n") + 1) + 1


def offset_of_error(text: str, details: Mapping[str, Any]) -> int:
    """Return the offset of the text that an error of sqlglot's parser is about. ``details``: one of its ``errors``."""
    lines = text.split("\n")[: int(details.get("line") or 1) - 1]
    marked = str(details.get("highlight") or "")
    return max(0, sum(len(item) + 1 for item in lines) + int(details.get("col") or 1) - len(marked))
