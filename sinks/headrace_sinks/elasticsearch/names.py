"""A topic's name → the name of its index, as in Kafka Connect's Elasticsearch sink."""

from __future__ import annotations

from headrace import DataError

LONGEST = 255
"""Bytes, Elasticsearch's limit."""
_FORBIDDEN = '\\/*?"<>| ,#:'
_RESERVED = {".": "dot", "..": "dotdot"}


def index_name(topic: str) -> str:
    """Lower case, one leading ``-`` or ``_`` removed, cut to 255 bytes. Raises DataError when that is no valid name.

    https://www.elastic.co/guide/en/elasticsearch/reference/current/indices-create-index.html#indices-create-api-path-params
    """
    name = topic.lower()
    name = name[1:] if name[:1] in ("-", "_") else name
    name = _RESERVED.get(
        name.encode()[:LONGEST].decode(errors="ignore"), name.encode()[:LONGEST].decode(errors="ignore")
    )
    wrong = [character for character in name if character in _FORBIDDEN or ord(character) < 32]
    if wrong or not name or name[0] in "-_+":
        why = f"it holds {wrong[0]!r}" if wrong else "it is empty" if not name else f"it begins with {name[0]!r}"
        raise DataError(
            f"topic '{topic}' gives no index name: {why}",
            code="elasticsearch.invalid_index_name",
            hint="rename it with the transform RegexRouter, or name its index in 'topic.to.external.resource.mapping'",
        )
    return name
