"""Index and data stream names from topic names, as in Kafka Connect's Elasticsearch sink."""

from __future__ import annotations

from headrace import DataError

LONGEST = 255
"""Bytes; Elasticsearch's limit."""
LONGEST_PART = 100
"""Bytes of a data stream's dataset and namespace."""
_FORBIDDEN = '\\/*?"<>| ,#:'
_RESERVED = {".": "dot", "..": "dotdot"}


def index_name(topic: str) -> str:
    """Return the topic in lower case without one leading ``-`` or ``_``, truncated to 255 bytes.

    Raise DataError when that is not a valid name.

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
            hint="name its index with 'index.name' (and 'index.name.regex' for a part of the topic's name)",
        )
    return name


def data_stream_name(kind: str, dataset: str, namespace: str, topic: str) -> str:
    """Return ``logs-<dataset>-<namespace>``; the namespace has ``${topic}`` replaced, truncated to 100 bytes.

    A topic may contain ``-``, as in Kafka Connect. Raise DataError when that is not a valid name.
    """
    space = namespace.replace("${topic}", topic.lower()).encode()[:LONGEST_PART].decode(errors="ignore")
    wrong = [character for character in space if character in _FORBIDDEN or ord(character) < 32]
    if wrong or not space:
        raise DataError(
            f"topic '{topic}' gives no namespace of a data stream: "
            + (f"it holds {wrong[0]!r}" if wrong else "it is empty"),
            code="elasticsearch.invalid_index_name",
            hint="set 'data.stream.namespace' to a name without '${topic}'",
        )
    return f"{kind.lower()}-{dataset}-{space}"


def invalid_part_reason(text: str) -> str | None:
    """Return why this cannot be the dataset or namespace of a data stream; None when it can."""
    if len(text.encode()) > LONGEST_PART:
        return f"longer than {LONGEST_PART} bytes"
    if text != text.lower():
        return "not in lower case"
    wrong = [character for character in text if character in _FORBIDDEN + "-" or ord(character) < 32]
    return f"it holds {wrong[0]!r}" if wrong else None
