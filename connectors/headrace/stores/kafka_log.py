"""A compacted log in a Kafka topic, read by a thread of its own: what other workers write appears here, too."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import orjson
import structlog

from headrace.broker.interfaces import Admin, KafkaClients, Reader
from headrace.errors import HeadraceError, RetriableError
from headrace.records import ConsumedBatch, EncodedBatch, TopicPartition
from headrace.retries import retry
from headrace.stores.log import Entries, LatestValues, Listener
from headrace.stores.log_writers import LogWriter, ProducerWriter

log = structlog.stdlib.get_logger("headrace.worker")

_POLL = 0.5
"""Seconds of a poll without records."""
_TIMEOUT = 10.0
"""Seconds within which a topic must be read to its end."""
_RECORDS = 10_000
_STOP = 5.0


class KafkaLog:
    """Implements :class:`headrace.stores.log.CompactedLog`. The topic exists, and is compacted.

    Values are JSON. A record that is not (of another program) is logged and left out.
    """

    def __init__(
        self,
        kafka: KafkaClients,
        topic: str,
        client_id: str,
        *,
        read_back: bool = True,
        writer: LogWriter | None = None,
        poll: float = _POLL,
    ) -> None:
        """``read_back``: an append returns after its records were read. ``writer``: by default a producer.

        ``poll``: seconds that a request for records waits for them, and that ``close`` may therefore take.
        """
        self.topic = topic
        self._kafka = kafka
        self._settings = {"client.id": client_id}
        self._read_back = read_back
        self._writer = writer or ProducerWriter(kafka, self._settings)
        self._poll = poll
        self._values = LatestValues()
        self._moved = threading.Condition()
        self._positions: dict[TopicPartition, int] = {}
        self._replayed_to: Mapping[TopicPartition, int] | None = None
        self.replaying = True
        """Whether the record that is applied now was there before the log was opened."""
        self._ended: int | None = None
        self._writing = threading.Lock()
        self._admin: Admin | None = None
        self._started = False
        self._closed = False
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._follow_topic, name=f"{topic}-reader", daemon=True)

    @property
    def started(self) -> bool:
        """Whether :meth:`start` has returned."""
        return self._started

    def start(self, stop: threading.Event) -> None:
        """Read the topic to its end. Raise RetriableError when ``stop`` is set first, InfrastructureError."""
        ends = retry(self._ends, stop=stop, on_failure=self._waiting)
        begins = retry(lambda: self._with_admin(lambda admin: admin.begin_offsets([self.topic])), stop=stop)
        with self._moved:
            self._positions = dict(begins)
            self._replayed_to = ends
        if not self._thread.is_alive():
            self._thread.start()
        while not self._wait_for(ends, 0.2):
            if stop.is_set():
                raise RetriableError(f"{self.topic} was not read to its end", code="kafka.unreachable")
        self._started = True

    def offset(self) -> int:
        """Return one more than the offset of the last record that was read of a topic of one partition; 0: none.

        It is not the reader's position, which moves over the markers of transactions.
        """
        with self._moved:
            return 0 if self._ended is None else self._ended

    def wait_for_offset(self, offset: int, timeout: float) -> bool:
        """Wait until :meth:`offset` is at least ``offset``; return whether it is."""
        with self._moved:
            return self._moved.wait_for(lambda: (self._ended or 0) >= offset, timeout)

    def append(self, entries: Entries) -> None:
        self.append_by(self._writer, entries)

    def append_by(self, writer: LogWriter, entries: Entries) -> None:
        """As :meth:`append`, by another writer."""
        if not entries:
            return
        batch = EncodedBatch(
            self.topic,
            [None if value is None else orjson.dumps(value) for value in entries.values()],
            [key.encode() for key in entries],
        )
        with self._writing:
            writer.write(batch)
        if self._read_back:
            self.refresh()

    def get(self, key: str) -> Any:
        return self._values.get(key)

    def read(self) -> dict[str, Any]:
        return self._values.read()

    def refresh(self) -> None:
        # To the end of the log, also where transactions are open: what was committed after their beginning counts.
        if not self._wait_for(self._ends(committed=False), _TIMEOUT):
            raise RetriableError(f"{self.topic} was not read to its end in time", code="kafka.unreachable")

    def follow(self, listener: Listener) -> None:
        self._values.follow(listener)

    def discard_unsent(self) -> None:
        """Discard what was not sent yet: this worker may not write any more. Never blocks; on any thread."""
        self._writer.discard_unsent()

    def stop_reading(self) -> None:
        """Let the last poll end without waiting for it: several logs that are closed wait together."""
        self._stopping.set()

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self.stop_reading()
        if self._thread.is_alive():
            self._thread.join(_STOP)
        self._writer.close()
        if self._admin is not None:
            self._admin.close()

    def _ends(self, *, committed: bool = True) -> dict[TopicPartition, int]:
        return self._with_admin(lambda admin: admin.end_offsets([self.topic], committed=committed))

    def _with_admin(self, ask: Callable[[Admin], dict[TopicPartition, int]]) -> dict[TopicPartition, int]:
        if self._admin is None:
            self._admin = self._kafka.admin(self._settings)
        found = ask(self._admin)
        if not found:
            raise RetriableError(f"topic {self.topic} has no partitions yet", code="kafka.unreachable")
        return found

    def _wait_for(self, ends: Mapping[TopicPartition, int], timeout: float) -> bool:
        with self._moved:
            return self._moved.wait_for(
                lambda: all(self._positions.get(item, 0) >= end for item, end in ends.items()), timeout
            )

    def _waiting(self, error: RetriableError, failures: int) -> None:
        if failures == 1:
            log.warning("waiting", topic=self.topic, code=error.code, reason=str(error))

    def _follow_topic(self) -> None:
        reader: Reader | None = None
        failed = False
        while not self._stopping.is_set():
            try:
                if reader is None:
                    reader = self._kafka.reader(self._settings)
                    reader.assign(self._positions)
                for batch in reader.poll(self._poll, _RECORDS):
                    self._take(batch)
                positions = reader.positions()
            except HeadraceError as error:
                if not failed:
                    log.warning("waiting", topic=self.topic, code=error.code, reason=str(error))
                failed = True
                if reader is not None:
                    reader.close()
                    reader = None
                self._stopping.wait(self._poll)
                continue
            failed = False
            with self._moved:
                self._positions = positions
                self._moved.notify_all()
        if reader is not None:
            reader.close()

    def _take(self, batch: ConsumedBatch) -> None:
        """Apply the records one by one: a key may occur twice."""
        for offset, key, value in zip(batch.offsets, batch.keys, batch.values, strict=True):
            try:
                entry = {(key or b"").decode(): None if value is None else orjson.loads(value)}
            except ValueError as error:
                log.warning("record ignored", topic=self.topic, offset=offset, reason=f"not JSON: {error}")
            else:
                end = (self._replayed_to or {}).get(batch.topic_partition, 0)
                self.replaying = offset < end
                self._values.update(entry)
            with self._moved:
                self._ended = offset + 1
                # A failed poll starts again after what was applied.
                self._positions = {**self._positions, batch.topic_partition: offset + 1}
                self._moved.notify_all()


class BackgroundLog:
    """Writes to another log on a thread of its own, so that an append never waits for Kafka.

    Of the values of a key that wait, the newest is written. They are visible at once. A value that is outdated when it
    is written is left out. What was in the log before this worker has read it outdates nothing: its generation may be
    one of a group that ended, such as that of a Kafka Connect cluster that was taken over.
    """

    def __init__(self, log_: KafkaLog, outdated: Callable[[Any, Any], bool] = lambda known, new: False) -> None:
        """``outdated``: whether a known value of the log makes a new one of this worker obsolete."""
        self._log = log_
        self._outdated = outdated
        self._waiting: dict[str, Any] = {}
        self._changed = threading.Condition()
        self._followed: set[str] = set()
        self._closing = False
        log_.follow(self._note)
        self._thread = threading.Thread(target=self._run, name=f"{log_.topic}-writer", daemon=True)
        self._thread.start()

    def append(self, entries: Entries) -> None:
        with self._changed:
            self._waiting.update(entries)
            self._changed.notify_all()

    def get(self, key: str) -> Any:
        with self._changed:
            return self._waiting[key] if key in self._waiting else self._log.get(key)

    def read(self) -> dict[str, Any]:
        with self._changed:
            values = {**self._log.read(), **self._waiting}
        return {key: value for key, value in values.items() if value is not None}

    def refresh(self) -> None:
        self._log.refresh()

    def follow(self, listener: Listener) -> None:
        self._log.follow(listener)

    def close(self) -> None:
        """Write what waits, if Kafka answers within some seconds."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        self._thread.join(_STOP)
        self._log.close()

    def _note(self, entries: Entries) -> None:
        """Called on the thread of the log."""
        if not self._log.replaying:
            self._followed.update(entries)

    def _is_outdated(self, key: str, value: Any) -> bool:
        return key in self._followed and self._outdated(self._log.get(key), value)

    def _run(self) -> None:
        failed = False
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closing)
                entries = dict(self._waiting)
                closing = self._closing
            if not entries:
                return
            try:
                self._log.append({key: value for key, value in entries.items() if not self._is_outdated(key, value)})
            except HeadraceError as error:
                if not failed:
                    log.warning("waiting", topic=self._log.topic, code=error.code, reason=str(error))
                failed = True
                if closing:
                    return
                time.sleep(_POLL)
                continue
            failed = False
            with self._changed:
                for key, value in entries.items():
                    if key in self._waiting and self._waiting[key] is value:
                        del self._waiting[key]
