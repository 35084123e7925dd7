"""Stable ids of generated objects: the same names give the same ids on every machine."""

from __future__ import annotations

import hashlib
import json
import uuid
from typing import Any

_NAMESPACE = uuid.UUID("5d1c2f6e-9f0a-4a86-9b0e-6a1d3c9e7b42")
_DIGITS = 12


def object_id(*names: str) -> str:
    """Return the id of an object with these names, a UUID of version 5."""
    return str(uuid.uuid5(_NAMESPACE, _joined(names)))


def is_object_id(ident: str) -> bool:
    """Return whether an id can be one of :func:`object_id`. Kibana gives copies of objects ids of version 4."""
    try:
        return uuid.UUID(ident).version == 5
    except ValueError:
        return False


def rule_id(*names: str) -> str:
    """Return the id of an alert rule, in the form of a UUID of version 4: Kibana refuses those of version 5."""
    digest = hashlib.sha256(_NAMESPACE.bytes + _joined(names).encode()).digest()
    return str(uuid.UUID(bytes=digest[:16], version=4))


def content_hash(content: Any) -> str:
    """Return a short digest of a JSON value, whatever the order of its keys."""
    return hashlib.sha256(canonical(content).encode()).hexdigest()[:_DIGITS]


def canonical(content: Any) -> str:
    """Return JSON on one line with sorted keys: equal values have equal texts, and differences are small."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _joined(names: tuple[str, ...]) -> str:
    # Lengths keep ("a", "b/c") and ("a/b", "c") apart.
    return "/".join(f"{len(name)}:{name}" for name in names)
