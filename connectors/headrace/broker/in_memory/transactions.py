"""Transactional producers of the in-memory Kafka: epochs, fencing, and offsets that are committed with the records."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from headrace.broker.client_errors import PRODUCER_FENCED, REBALANCE
from headrace.broker.in_memory.cluster import GroupMember, InMemoryCluster
from headrace.broker.in_memory.producer import require_valid
from headrace.broker.interfaces import GroupMetadata
from headrace.errors import HeadraceError
from headrace.records import EncodedBatch, TopicPartition


class InMemoryGroupMetadata(NamedTuple):
    """The membership of a consumer."""

    group: str
    member: GroupMember


class InMemoryTransactionalProducer:
    """See :class:`headrace.broker.interfaces.TransactionalProducer`."""

    def __init__(self, cluster: InMemoryCluster, transactional_id: str, max_request_size: int) -> None:
        self._cluster = cluster
        self._id = transactional_id
        self._max_request_size = max_request_size
        self._error: HeadraceError | None = None
        self._open = False
        self._offsets: list[tuple[str, dict[TopicPartition, int]]] = []
        self._partitions: set[TopicPartition] = set()

    def init(self) -> None:
        with self._cluster.changed:
            self._cluster.require_up()
            older = self._cluster.transactional.get(self._id)
            if isinstance(older, InMemoryTransactionalProducer) and older is not self:
                older.end(committed=False)
            self._cluster.transactional[self._id] = self

    def begin(self) -> None:
        self._require_usable("begin a transaction")
        if self._open:
            raise RuntimeError("begin inside a transaction")
        self._open = True

    def send(self, batch: EncodedBatch, partition: int | None = None) -> None:
        self._require_open(f"write to {batch.topic}")
        try:
            require_valid(batch, self._max_request_size)
            with self._cluster.changed:
                self._cluster.require_up()
                self._require_newest(f"write to {batch.topic}")
                if (fault := self._cluster.next_send_fault()) is not None:
                    raise fault
                self._partitions.update(self._cluster.write(batch, transaction=self, partition=partition))
        except HeadraceError as error:
            self._error = error
            raise

    def send_offsets(self, offsets: Mapping[TopicPartition, int], group: GroupMetadata) -> None:
        doing = "send offsets to the transaction"
        self._require_open(doing)
        if not isinstance(group, InMemoryGroupMetadata):
            raise TypeError("the group metadata of another client")
        try:
            with self._cluster.changed:
                self._cluster.require_up()
                self._require_newest(doing)
                current = self._cluster.groups[group.group]
                owned = all(current.owners.get(item) is group.member for item in offsets)
                # Kafka accepts offsets of the members of a generation until the next one has begun.
                if group.member not in current.members or not owned:
                    raise REBALANCE.error(doing, "")
                self._offsets.append((group.group, dict(offsets)))
        except HeadraceError as error:
            self._error = error
            raise

    def commit(self) -> None:
        self._end("commit the transaction", committed=True)

    def abort(self) -> None:
        self._end("abort the transaction", committed=False)

    def connection_problem(self) -> str | None:
        return self._cluster.connection_problem()

    def close(self, timeout: float) -> None:
        """Close. Kafka aborts an open transaction after its timeout; here it is aborted at once."""
        del timeout
        with self._cluster.changed:
            if self._cluster.transactional.get(self._id) is self:
                self.end(committed=False)

    def end(self, *, committed: bool) -> None:
        """Write the markers, and the offsets of a committed transaction. Call it with the cluster's lock."""
        if committed:
            for group, offsets in self._offsets:
                self._cluster.groups[group].committed.update(offsets)
        for item in self._partitions:
            self._cluster.logs[item].end_transaction(self, committed=committed)
        self._offsets, self._open = [], False
        self._partitions.clear()
        self._cluster.changed.notify_all()

    def _end(self, doing: str, *, committed: bool) -> None:
        self._require_open(doing)
        try:
            with self._cluster.changed:
                self._cluster.require_up()
                self._require_newest(doing)
                self.end(committed=committed)
        except HeadraceError as error:
            self._error = error
            raise

    def _require_newest(self, doing: str) -> None:
        if self._cluster.transactional.get(self._id) is not self:
            raise PRODUCER_FENCED.error(doing, "the producer was fenced")

    def _require_usable(self, doing: str) -> None:
        if self._error is not None:
            raise RuntimeError(f"cannot {doing}: the producer has failed; create a new one") from self._error
        if self._id not in self._cluster.transactional:
            raise RuntimeError(f"cannot {doing}: init has not been called")

    def _require_open(self, doing: str) -> None:
        self._require_usable(doing)
        if not self._open and self._cluster.transactional.get(self._id) is self:
            raise RuntimeError(f"cannot {doing}: begin has not been called")
