"""The state of a stream task: the stores of each partition, their uncommitted changes, and their changelog records."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from headrace.pipeline.stream import state_codec
from headrace.plugin import Changes, Segments
from headrace.records import ConsumedBatch, EncodedBatch, TopicPartition

Store = dict[int, dict[Any, Any]]
_EMPTY: Segments = {}


class ChangelogBatch(NamedTuple):
    """Records for one partition of a changelog."""

    batch: EncodedBatch
    partition: int


@dataclass
class StreamState:
    """Used from the task's thread. ``changelogs``: store → its topic; ``followed``: store → the topics it follows."""

    changelogs: Mapping[str, str]
    followed: Mapping[str, tuple[str, ...]]
    _stores: dict[tuple[str, int], Store] = field(default_factory=dict)
    _changed: dict[tuple[str, int], dict[tuple[int, Any], Any]] = field(default_factory=dict)

    def of(self, topic_partition: TopicPartition) -> dict[str, Segments]:
        """Return the stores that follow a topic, in one of its partitions."""
        topic, partition = topic_partition
        return {
            store: self._stores.get((store, partition), _EMPTY)
            for store, followed in self.followed.items()
            if topic in followed
        }

    def apply(self, partition: int, changes: Mapping[str, Changes]) -> None:
        """Apply the changes of a batch, and note them for the changelog."""
        for store, segments in changes.items():
            content = self._stores.setdefault((store, partition), {})
            changed = self._changed.setdefault((store, partition), {})
            for number, entries in segments.items():
                segment = content.setdefault(number, {})
                for key, value in entries.items():
                    changed[number, key] = value
                    if value is None:
                        segment.pop(key, None)
                    else:
                        segment[key] = value
                if not segment:
                    del content[number]

    def in_partition(self, store: str, partition: int) -> Segments:
        """Return one store in one partition."""
        return self._stores.get((store, partition), _EMPTY)

    def changed(self) -> Collection[tuple[str, int]]:
        """Return the stores and partitions with changes that are not committed."""
        return self._changed.keys()

    def changed_entries(self) -> int:
        """Return the number of entries that the next :meth:`changelog_batches` holds."""
        return sum(map(len, self._changed.values()))

    def changelog_batches(self) -> Iterator[ChangelogBatch]:
        """Yield the last value of each changed entry; None for those that were deleted. Raise DataError."""
        for (store, partition), entries in self._changed.items():
            keys = state_codec.encode([[number, key] for number, key in entries])
            present = iter(state_codec.encode([value for value in entries.values() if value is not None]))
            values = [None if value is None else next(present) for value in entries.values()]
            yield ChangelogBatch(EncodedBatch(self.changelogs[store], values, list(keys)), partition)

    def check(self, changes: Mapping[str, Changes]) -> None:
        """Raise DataError when changes cannot be written to their changelogs."""
        for segments in changes.values():
            for number, entries in segments.items():
                state_codec.encode([[number, key] for key in entries])
                state_codec.encode(list(entries.values()))

    def committed(self) -> None:
        """Clear the changes after they were committed to the changelog."""
        self._changed.clear()

    def restore(self, batch: ConsumedBatch) -> None:
        """Apply records of a changelog."""
        topic, partition = batch.topic_partition
        store = next(name for name, changelog in self.changelogs.items() if changelog == topic)
        content = self._stores.setdefault((store, partition), {})
        for key, value in zip(batch.keys, batch.values, strict=True):
            if key is None:
                continue
            number, name = state_codec.decode(key)
            name = tuple(name) if isinstance(name, list) else name
            if value is not None:
                content.setdefault(number, {})[name] = state_codec.decode(value)
            elif number in content:
                content[number].pop(name, None)
                if not content[number]:
                    del content[number]

    def drop(self, partitions: Collection[TopicPartition]) -> None:
        """Drop the stores that follow these partitions."""
        for topic, partition in partitions:
            for store, followed in self.followed.items():
                if topic in followed:
                    self._stores.pop((store, partition), None)
                    self._changed.pop((store, partition), None)

    def clear(self) -> None:
        """Drop all stores."""
        self._stores.clear()
        self._changed.clear()

    def entries(self) -> int:
        """Return the number of entries of all stores."""
        return sum(len(segment) for store in self._stores.values() for segment in store.values())
