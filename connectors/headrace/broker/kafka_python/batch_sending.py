"""Whole batches put into kafka-python's accumulator; its sender, retries and transactions stay as they are.

``KafkaProducer.send`` costs a dozen calls and two objects for each record. This module does the same steps once for a
batch, by private names of kafka-python 3.0; pyproject.toml requires that version. See decision record 230.
"""

from __future__ import annotations

import random
import time
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice, repeat
from typing import Any, TypeVar

import kafka
from kafka.errors import BrokerResponseError, IllegalStateError, UnsupportedVersionError
from kafka.producer.future import FutureProduceResult
from kafka.producer.producer_batch import ProducerBatch
from kafka.record.memory_records import MemoryRecordsBuilder

from headrace.broker.kafka_python.partitioning import partition_index
from headrace.broker.kafka_python.record_format import Row, encode_records
from headrace.errors import DataError
from headrace.records import EncodedBatch, Headers

T = TypeVar("T")

_FORMAT = 2  # of records, since Kafka 0.11
_OVERHEAD = 256  # bytes, above what a record without headers needs next to key and value


class SentRecords:
    """Consecutive records of one delivery in one of kafka-python's batches, whose result they share.

    When the broker refuses a batch as too large, kafka-python splits it; then each record has a place of its own.
    """

    __slots__ = ("_future", "_moved", "count", "first")

    def __init__(self, future: Any, first: int, count: int) -> None:
        self.first = first
        self.count = count
        self._future = future
        self._moved: list[tuple[Any, int]] | None = None

    def acknowledged(self) -> bool:
        return all(future.is_done and _error(future, 0) is None for future in self._futures())

    def done(self) -> bool:
        return all(future.is_done for future in self._futures())

    def failed(self) -> bool:
        return any(future.is_done and _error(future, 0) is not None for future in self._futures())

    def errors(self) -> Iterator[tuple[Exception, bool]]:
        """Yield the error of each failed record, and whether it was discarded because of another record.

        When the broker refuses a record, kafka-python discards all records that its idempotent producer has or
        receives.
        """
        for future, index in self._places():
            if future.is_done and (error := _error(future, index)) is not None:
                yield error, future.value is not None and future.value[0] == -1

    def wait(self, timeout: float) -> None:
        """Wait for the first result that is missing, or until kafka-python has split the batch."""
        pending = next((future for future in self._futures() if not future.is_done), None)
        if pending is not None:
            pending.wait(timeout)

    def move(self, row: int, future: Any, index: int) -> None:
        """Take the result of a record from another batch. Called on kafka-python's thread, which splits the batch."""
        if self._moved is None:
            self._moved = list(self._places())
        before, self._moved[row] = self._moved[row][0], (future, index)
        if row == self.count - 1:
            before._latch.set()  # the old batch has no result: who waits for it waits for the new one

    def _futures(self) -> Sequence[Any]:
        return [self._future] if self._moved is None else [future for future, _ in self._moved]

    def _places(self) -> Sequence[tuple[Any, int]]:
        return self._moved or [(self._future, self.first + row) for row in range(self.count)]


def _error(future: Any, index: int) -> Exception | None:
    """Return the error of a record of a batch that is done."""
    if future.exception is not None:
        return future.exception  # type: ignore[no-any-return]
    _, _, error_of = future.value
    return error_of(index) if error_of is not None else None


class BatchSender:
    """Sends batches through a KafkaProducer."""

    def __init__(self, producer: kafka.KafkaProducer) -> None:
        self._producer = producer
        self._accumulator = producer._accumulator
        self._cluster = producer._metadata

    def send(self, batch: EncodedBatch, partition: int | None = None) -> list[SentRecords]:
        """Return the parts of the batch, by partition. Raise KafkaError, DataError, and ValueError for the topic."""
        if self._producer._closed:
            raise IllegalStateError("the producer is closed")
        columns = _Columns.of(batch)
        self._check_sizes(columns)
        try:
            found = self._producer._wait_on_metadata(batch.topic, self._producer.config["max_block_ms"])
        except BrokerResponseError as error:  # kafka-python's send returns this error as the record's
            refused = FutureProduceResult(kafka.TopicPartition(batch.topic, partition))
            refused.failure(error)
            return [SentRecords(refused, 0, len(batch))]
        if partition is not None and partition not in found:
            raise ValueError(f"the topic {batch.topic} has no partition {partition}")
        parts = {partition: columns} if partition is not None else self._by_partition(batch, columns, sorted(found))
        sent: list[SentRecords] = []
        for number, part in parts.items():
            sent += self._append(kafka.TopicPartition(batch.topic, number), part)
        return sent

    def _check_sizes(self, columns: _Columns) -> None:
        limit = self._producer.config["max_request_size"]
        if columns.longest_record() + _OVERHEAD <= limit:
            return
        for value, key, headers, _ in columns.rows(0):
            self._producer._ensure_valid_record_size(self._producer._estimate_size_in_bytes(key, value, headers))

    def _by_partition(self, batch: EncodedBatch, columns: _Columns, partitions: list[int]) -> dict[int, _Columns]:
        """Records without key go to one partition that has a leader, another one for each batch (as KIP-480 does)."""
        count = len(partitions)
        if count == 1:
            return {partitions[0]: columns}
        unkeyed = random.choice(sorted(self._cluster.available_partitions_for_topic(batch.topic) or ()) or partitions)
        if batch.keys is None:
            return {unkeyed: columns}
        rows: dict[int, list[int]] = defaultdict(list)
        for row, key in enumerate(batch.keys):
            rows[unkeyed if key is None else partitions[partition_index(key, count)]].append(row)
        return {number: columns.take(places) for number, places in rows.items()}

    def _append(self, partition: kafka.TopicPartition, columns: _Columns) -> list[SentRecords]:
        accumulator, transactions = self._accumulator, self._producer._transaction_manager
        if accumulator.config["message_version"] != _FORMAT:
            raise UnsupportedVersionError("brokers before Kafka 0.11 are not supported")
        if transactions and transactions.is_transactional():
            transactions.maybe_add_partition_to_transaction(partition)
        sent: list[SentRecords] = []
        row, count = 0, len(columns.values)
        accumulator._appends_in_progress.increment()
        try:
            with accumulator._tp_lock(partition):
                if accumulator._closed:
                    raise IllegalStateError("the producer is closed")
                queue = accumulator._batches[partition]
                while row < count:
                    part = queue[-1].append_rows(columns, row) if queue and isinstance(queue[-1], _Batch) else None
                    if part is None:
                        queue.append(_Batch(partition, accumulator.config))
                        accumulator._incomplete.add(queue[-1])
                        continue
                    sent.append(part)
                    row += part.count
        finally:
            accumulator._appends_in_progress.decrement()
        self._producer._sender.wakeup()
        return sent


@dataclass(frozen=True)
class _Columns:
    """The columns of a batch, or of its records for one partition."""

    values: Sequence[bytes | None]
    keys: Sequence[bytes | None] | None
    headers: Sequence[Headers] | None
    timestamps: Sequence[int] | None

    @classmethod
    def of(cls, batch: EncodedBatch) -> _Columns:
        if None in batch.values:
            keys = batch.keys if batch.keys is not None else [None] * len(batch)
            if any(key is None and value is None for key, value in zip(keys, batch.values, strict=True)):
                raise DataError("a record without key and value cannot be sent", code="data.empty_record")
        return cls(batch.values, batch.keys, batch.headers, batch.timestamps)

    def take(self, rows: list[int]) -> _Columns:
        def taken(column: Sequence[T] | None) -> list[T] | None:
            return [column[row] for row in rows] if column is not None else None

        values = [self.values[row] for row in rows]
        return _Columns(values, taken(self.keys), taken(self.headers), taken(self.timestamps))

    def rows(self, start: int) -> Iterator[Row]:
        now = int(time.time() * 1000)
        count = len(self.values) - start
        return zip(
            islice(self.values, start, None),
            islice(self.keys, start, None) if self.keys is not None else repeat(None, count),
            islice(self.headers, start, None) if self.headers is not None else repeat((), count),
            islice(self.timestamps, start, None) if self.timestamps is not None else repeat(now, count),
            strict=True,
        )

    def longest_record(self) -> int:
        """Return an upper limit for keys, values and headers of a record."""
        longest = max((len(value) for value in self.values if value is not None), default=0)
        longest += max((len(key) for key in self.keys or () if key is not None), default=0)
        return longest + max(
            (sum(4 * len(n) + len(v or b"") + 20 for n, v in h) for h in filter(None, self.headers or ())), default=0
        )


class _Batch(ProducerBatch):  # type: ignore[misc]
    """One of kafka-python's batches, which takes rows instead of records."""

    def __init__(self, partition: kafka.TopicPartition, config: dict[str, Any]) -> None:
        builder = MemoryRecordsBuilder(_FORMAT, config["compression_attrs"], config["batch_size"])
        super().__init__(partition, builder)
        self._record_futures = _RecordFutures()

    def append_rows(self, columns: _Columns, start: int) -> SentRecords | None:
        """Append rows from ``start`` on while there is room; None when there is none, or the batch is closed."""
        records = self.records
        if records._closed:
            return None
        builder, first = records._builder, records._next_offset
        rows = columns.rows(start)
        if first == 0:
            head = next(rows)
            builder._first_timestamp = builder._max_timestamp = head[3]
            rows = chain([head], rows)
        room = builder._batch_size - len(builder._buffer)
        encoded = encode_records(rows, first, builder._first_timestamp, room, at_least_one=first == 0)
        if not encoded.records:
            return None
        builder._buffer += encoded.data
        builder._num_records += encoded.records
        builder._last_offset = first + encoded.records - 1
        builder._max_timestamp = max(builder._max_timestamp, encoded.max_timestamp)
        records._next_offset = first + encoded.records
        self.last_append = time.monotonic()
        part = SentRecords(self.produce_future, first, encoded.records)
        self._record_futures.add(part)
        return part


class _RecordFutures:
    """Stands for the futures of single records, which kafka-python needs only when it splits a batch."""

    def __init__(self) -> None:
        self._parts: list[SentRecords] = []

    def add(self, part: SentRecords) -> None:
        self._parts.append(part)

    def __len__(self) -> int:
        return self._parts[-1].first + self._parts[-1].count if self._parts else 0

    def __getitem__(self, index: int) -> _RecordFuture:
        part = self._parts[bisect_right(self._parts, index, key=lambda part: part.first) - 1]
        return _RecordFuture(part, index - part.first)


@dataclass(frozen=True)
class _RecordFuture:
    part: SentRecords
    row: int

    def rebind(self, future: Any, index: int) -> None:
        self.part.move(self.row, future, index)
