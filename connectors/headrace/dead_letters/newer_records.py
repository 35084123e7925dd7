"""Newer records of the keys of letters: a retry must not write an old version of a key over a newer one.

The sink compares versions itself, but it cannot compare with a document that a newer record has deleted: a system
remembers the version of a deletion for a limited time only. So the topic is asked.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from headrace.broker.interfaces import Admin, Reader
from headrace.dead_letters.letter_queue import Progress, read_pages
from headrace.dead_letters.letters import Letter, RecordPlace
from headrace.records import TopicPartition


class NewerRecords:
    """The newest record of each key that a letter has, from the topics of the letters. Used from one thread."""

    def __init__(self, reader: Reader, admin: Admin, letters: Iterable[tuple[RecordPlace, bytes | None]]) -> None:
        self._reader = reader
        self._admin = admin
        self._newest: dict[tuple[TopicPartition, bytes], int] = {}
        self._letters: set[RecordPlace] = set()
        self._found: set[RecordPlace] = set()
        self._positions: dict[TopicPartition, int] = {}
        for place, key in letters:
            item = place.topic_partition
            self._letters.add(place)
            self._positions[item] = min(self._positions.get(item, place.offset), place.offset)
            if key is not None:
                self._newest[item, key] = -1
        topics = sorted({item.topic for item in self._positions})
        self._begins = admin.begin_offsets(topics)
        self._ends = admin.end_offsets(topics)

    def read_to_end(self, progress: Progress) -> None:
        """Read what the topics have received since the last call."""
        self._ends = self._admin.end_offsets(sorted({item.topic for item in self._positions}))
        until = {item: end for item, end in self._ends.items() if item in self._positions}
        whole = sum(max(0, end - self._positions[item]) for item, end in until.items())
        read = 0
        for page in read_pages(self._reader, self._positions, until):
            for batch in page:
                self._note(batch.topic_partition, batch.offsets, batch.keys)
                read += len(batch)
            progress("looking for newer records of the same keys", read, whole)
        self._positions |= until

    def unknown(self, place: RecordPlace) -> bool:
        """Return whether the topic cannot have had the record: it was deleted, or deleted and created again."""
        return place.offset >= self._ends.get(place.topic_partition, 0)

    def supersede(self, letter: Letter, place: RecordPlace) -> bool:
        """Return whether the topic has a newer record of the key, or compaction has removed this one for a newer one.

        Newer records that are open letters themselves do not count: they have not been written either.
        """
        if letter.key is None:
            return False
        if self._newest[place.topic_partition, letter.key] > place.offset:
            return True
        return place not in self._found and self._begins.get(place.topic_partition, 0) <= place.offset

    def _note(self, item: TopicPartition, offsets: Collection[int], keys: Collection[bytes | None]) -> None:
        for offset, key in zip(offsets, keys, strict=True):
            if key is None or (item, key) not in self._newest:
                continue
            place = RecordPlace(item, offset)
            if place in self._letters:
                self._found.add(place)
            else:
                self._newest[item, key] = offset
