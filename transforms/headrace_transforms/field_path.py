"""Paths of nested fields (KIP-821): ``a.b.c``, with backticks around a name that contains a dot."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from headrace import UPPER, DataError, Finding, Schema, Type, key
from headrace_transforms.keys import ReplaceNullConfig, invalid


class FieldSyntaxConfig(ReplaceNullConfig):
    """The key of transforms that name nested fields."""

    syntax: Annotated[Literal["V1", "V2"], UPPER] = key(
        "field.syntax.version",
        default="V1",
        doc="`V1`: a name is a field of the record. `V2`: dots lead into nested structs and maps; a name with a "
        "dot has backticks around it.",
        importance="high",
    )

    def path_problems(self, name: str, paths: Sequence[str]) -> Iterable[Finding]:
        """Yield findings about paths that cannot be read."""
        for path in paths:
            try:
                parse_path(path, self.syntax)
            except ValueError as error:
                yield invalid(name, path, str(error), "for example a.b.c, or a.`b.c` for a name with a dot")


@dataclass(frozen=True)
class FieldPath:
    """A path of one field."""

    text: str
    names: tuple[str, ...]

    def schema_in(self, schema: Schema) -> Schema | None:
        """Return the schema of the field; None when there is no such field."""
        found: Schema | None = schema
        for name in self.names:
            if found is None or found.type is not Type.STRUCT:
                return None
            found = found.by_name.get(name)
        return found

    def value_in(self, value: Mapping[str, Any] | None) -> Any:
        """Return the field of a map; None when a parent is missing. Raise DataError when a parent is no map."""
        found: Any = value
        for name in self.names:
            if found is None:
                return None
            if not isinstance(found, Mapping):
                raise DataError(
                    f"'{self.text}' leads into a value that is neither a map nor a struct", code="transform.not_a_map"
                )
            found = found.get(name)
        return found

    def struct_value_in(self, schema: Schema, value: Mapping[str, Any] | None, *, replace_null: bool) -> Any:
        """Return the field of a struct; with ``replace_null`` its default when it is null."""
        found: Any = value
        described: Schema | None = schema
        for name in self.names:
            if found is None or described is None:
                return None
            described = described.by_name.get(name)
            found = found.get(name)
            if found is None and replace_null and described is not None:
                found = described.default
        return found


def parse_path(text: str, syntax: str) -> FieldPath:
    """Return the path. Raise ValueError."""
    if syntax == "V1":
        return FieldPath(text, (text,))
    names: list[str] = []
    rest = text
    while True:
        if rest.startswith("`"):
            # A backtick ends the name only before a dot or the end, and not behind a backslash.
            ends = (at for at in range(1, len(rest)) if rest[at] == "`" and rest[at + 1 : at + 2] in ("", "."))
            end = next((at for at in ends if rest[at - 1] != "\\"), None)
            if end is None:
                raise ValueError("a backtick that begins a name has no second one that ends it")
            names.append(rest[1:end].replace("\\`", "`"))
            rest = rest[end + 1 :]
            if not rest:
                return FieldPath(text, tuple(names))
            rest = rest[1:]
        else:
            name, dot, rest = rest.partition(".")
            names.append(name)
            if not dot:
                return FieldPath(text, tuple(names))
