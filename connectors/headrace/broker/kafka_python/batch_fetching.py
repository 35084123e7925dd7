"""Fetched record batches decoded to columns, instead of an object for each record.

The consumer's fetcher makes an instance of its ``PartitionRecords`` for each partition of a response. The class here
takes its place: same positions, checksums and transactions, by private names of kafka-python 3.0; pyproject.toml
requires that version. See decision record 230.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from typing import Any

import kafka
from kafka.consumer.fetcher import Fetcher
from kafka.errors import CorruptRecordError

from headrace.broker.kafka_python.record_format import DecodedRecords, decode_records
from headrace.records import ConsumedBatch, TopicPartition


def fetch_columns(consumer: kafka.KafkaConsumer) -> None:
    """Make the consumer's ``poll`` return lists of :class:`FetchedRecords`."""
    consumer._fetcher.PartitionRecords = _PartitionColumns


class FetchedRecords:
    """Consecutive records of a partition. The fetcher counts them by ``len`` and adds them to a list by iteration."""

    __slots__ = ("columns",)

    def __init__(self, columns: DecodedRecords) -> None:
        self.columns = columns

    def __len__(self) -> int:
        return len(self.columns.offsets)

    def __iter__(self) -> Iterator[FetchedRecords]:
        return iter((self,))

    def part(self, start: int, end: int | None = None) -> FetchedRecords:
        return FetchedRecords(self.columns.part(start, end))


def consumed_batch(
    partition: kafka.TopicPartition, found: list[FetchedRecords], end_offset: int | None
) -> ConsumedBatch:
    """Return what a poll has found in a partition."""
    columns = found[0].columns
    for more in found[1:]:
        columns.extend(more.columns)
    return ConsumedBatch(
        TopicPartition(*partition),
        columns.offsets,
        columns.keys,
        columns.values,
        columns.timestamps,
        columns.headers,
        end_offset,
    )


class _PartitionColumns(Fetcher.PartitionRecords):  # type: ignore[misc]
    """What a response has of one partition, decoded one of Kafka's batches at a time."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._rest: FetchedRecords | None = None  # decoded, and not taken yet

    def take(self, n: int | None = None) -> FetchedRecords | tuple[()]:
        """Return up to ``n`` records of one of Kafka's batches; the fetcher asks again for more."""
        try:
            records = self._rest or next(self.record_iterator, None)
        except Exception:
            self.drain()  # the position stays, so the next poll fetches the same again
            raise
        if records is None:
            return ()
        if n is not None and n < len(records):
            records, self._rest = records.part(0, n), records.part(n)
        else:
            self._rest = None
        self.next_fetch_offset = records.columns.offsets[-1] + 1
        return records

    def _maybe_skip_record(self, record: FetchedRecords) -> bool:
        return False  # _unpack_records leaves out what is before the position

    def _unpack_records(
        self, tp: kafka.TopicPartition, records: Any, key_deserializer: None, value_deserializer: None
    ) -> Iterator[FetchedRecords]:
        while (batch := records.next_batch()) is not None:
            if self.check_crcs and not batch.validate_crc():
                raise CorruptRecordError(f"record batch of {tp} at offset {batch.base_offset} fails its checksum")
            if batch.magic < 2:
                found: FetchedRecords | None = _legacy_records(batch)
            else:
                self.leader_epoch = batch.leader_epoch
                found = None if self._is_hidden(batch) else FetchedRecords(_decode(batch))
                self.next_fetch_offset = batch.next_offset
            if found is not None and found.columns.offsets and found.columns.offsets[0] < self.fetch_offset:
                # A fetch from the middle of a batch gives all of it.
                found = found.part(bisect_left(found.columns.offsets, self.fetch_offset))
            if found:
                self.bytes_read += batch.size_in_bytes
                self.records_read += len(found)
                yield found
                if batch.magic == 2:
                    self.next_fetch_offset = batch.next_offset  # compaction may have removed the last records
        self.drain()

    def _is_hidden(self, batch: Any) -> bool:
        """Return whether the batch is a marker or belongs to an aborted transaction."""
        if self.isolation_level == kafka.IsolationLevel.READ_COMMITTED and batch.has_producer_id():
            self._consume_aborted_transactions_up_to(batch.last_offset)
            if self._contains_abort_marker(batch):
                self.aborted_producer_ids.discard(batch.producer_id)
            elif self._is_batch_aborted(batch):
                return True
        return bool(batch.is_control_batch)


def _decode(batch: Any) -> DecodedRecords:
    batch._maybe_uncompress()
    count = batch.records_count
    try:
        columns = decode_records(
            bytes(memoryview(batch._buffer)[batch._pos :]), count, batch.base_offset, batch.first_timestamp
        )
    except ValueError as error:
        raise CorruptRecordError(f"invalid record batch at offset {batch.base_offset}: {error}") from error
    return columns._replace(timestamps=[batch.max_timestamp] * count) if batch.timestamp_type else columns


def _legacy_records(batch: Any) -> FetchedRecords:
    """Records that were written by brokers before Kafka 0.11."""
    records = list(batch)
    return FetchedRecords(
        DecodedRecords(
            [record.offset for record in records],
            [record.key for record in records],
            [record.value for record in records],
            [record.timestamp for record in records],
            [()] * len(records),
        )
    )
