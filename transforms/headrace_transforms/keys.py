"""Keys that several transforms have."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any

from pydantic import AfterValidator

from headrace import CommaList, ConfigModel, Finding, key


class ReplaceNullConfig(ConfigModel):
    """The key of transforms that copy structs."""

    replace_null: bool = key(
        "replace.null.with.default",
        default=True,
        doc="Replace a null by the default of its field in the schema, in every field of a struct that is copied.",
    )


def _not_empty(value: tuple[str, ...]) -> tuple[str, ...]:
    if not value:
        raise ValueError("Empty list")
    return value


Names = Annotated[CommaList, AfterValidator(_not_empty)]
"""A list of at least one name."""


def pairs(text: Iterable[str]) -> Mapping[str, str]:
    """Return ``a:b`` items as a dictionary. Raise ValueError."""
    made = {}
    for item in text:
        parts = item.split(":")
        if len(parts) != 2 or not all(part.strip() for part in parts):
            raise ValueError(f"'{item}' is not a pair of names with a colon between them, such as foo:bar")
        made[parts[0]] = parts[1]
    return made


def invalid(name: str, value: Any, reason: str, hint: str) -> Finding:
    """Return the finding about a value that the model alone cannot refuse."""
    return Finding("config.invalid_value", f"Invalid value {value} for configuration {name}: {reason}", name, hint)
