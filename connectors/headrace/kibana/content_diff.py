"""Differences between two JSON values as lines for people: the path, the old and the new value."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from headrace.kibana.ids import canonical

_WIDEST = 60


def differences(old: Any, new: Any, path: str = "") -> Iterator[str]:
    """Yield a line for each difference, in the order of paths. Panels and references are matched by name."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for name in sorted(old.keys() | new.keys()):
            inner = f"{path}.{name}" if path else str(name)
            if name not in old:
                yield f"+ {inner}: {_short(new[name])}"
            elif name not in new:
                yield f"- {inner}: {_short(old[name])}"
            else:
                yield from differences(old[name], new[name], inner)
    elif _is_list(old) and _is_list(new):
        yield from differences(_by_name(old), _by_name(new), path)
    elif old != new:
        yield f"~ {path}: {_short(old)} → {_short(new)}"


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _by_name(items: Sequence[Any]) -> Mapping[str, Any]:
    named: dict[str, Any] = {}
    for number, item in enumerate(items):
        name = (item.get("title") or item.get("name")) if isinstance(item, Mapping) else None
        key = f"[{name}]" if name and f"[{name}]" not in named else f"[{number}]"
        named[key] = item
    return named


def _short(value: Any) -> str:
    text = canonical(value)
    return text if len(text) <= _WIDEST else f"{text[: _WIDEST - 1]}…"
