"""The topics of a Kafka Connect cluster, as ``scripts/record_connect_topics.py`` has recorded them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

FILE = Path(__file__).parent / "topics.jsonl"
TOPICS = ("recorded-configs", "recorded-offsets", "recorded-statuses")


class TopicRecord(NamedTuple):
    """A record; no value is a deletion."""

    topic: str
    key: str
    value: str | None


def recorded_topics() -> list[TopicRecord]:
    """Return all records, in their order."""
    return [TopicRecord(**json.loads(line)) for line in FILE.read_text(encoding="utf-8").splitlines()]
