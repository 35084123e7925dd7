"""Who may write for an exactly-once source task: producers of replaced sets of tasks are fenced first (KIP-618).

A task asks before it initialises its producer, which has a fixed id, and checks again afterwards. Between the two the
config topic is read to its end: a newer set of tasks that is not in it yet will fence this producer when it starts.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog

from headrace.broker.interfaces import TransactionalProducer
from headrace.broker.producer_fencing import fence_producers
from headrace.errors import ConflictError, NotFoundError, RetriableError
from headrace.groups.protocol import Unit
from headrace.records import EncodedBatch, SourceOffset, SourcePartition
from headrace.runtime.membership import Membership
from headrace.states import TaskId
from headrace.stores import ConfigStore
from headrace.stores.offsets import offset_records

log = structlog.stdlib.get_logger("headrace.group")

OpenProducer = Callable[[Mapping[str, str], str], TransactionalProducer]
"""Of a connector with this configuration, and with a transactional.id."""


class GroupOfSources(Protocol):
    """What the fencing needs of the worker's group."""

    @property
    def membership(self) -> Membership: ...

    @property
    def configs(self) -> ConfigStore: ...

    def may_write(self) -> bool:
        """Return whether no other worker can have been given the work of this one."""
        ...

    def forward_fencing(self, connector: str) -> None:
        """Ask the leader to fence. Raise HeadraceError."""
        ...


class SourceFencing:
    """Thread-safe. Methods may block."""

    def __init__(
        self,
        group_id: str,
        offset_topic: str,
        group: GroupOfSources,
        open_producer: OpenProducer,
        call: Callable[[Callable[[], None]], None],
    ) -> None:
        """``call`` runs a function on the thread that writes configurations."""
        self._call = call
        self._group_id = group_id
        self._offset_topic = offset_topic
        self._group = group
        self._open_producer = open_producer
        self._fencing = threading.Lock()

    def transactional_id(self, task: TaskId) -> str:
        """Return the id of a task's producers, as Kafka Connect names it."""
        return f"{self._group_id}-{task.connector}-{task.number}"

    def position_records(
        self, connector: str, positions: Iterable[tuple[SourcePartition, SourceOffset | None]]
    ) -> EncodedBatch:
        """Return the records that store positions in the offset topic."""
        return offset_records(self._offset_topic, connector, positions)

    def permit(self, task: TaskId, config: Mapping[str, str]) -> TaskPermit:
        """Return the permit of a task that was started with this configuration."""
        return TaskPermit(self, self._group, task, config)

    def request(self, connector: str) -> None:
        """Fence, or ask the leader to do it. Raise HeadraceError."""
        if not self._group.membership.leads():
            self._group.forward_fencing(connector)
            return
        try:
            self.fence(connector)
        except (ConflictError, NotFoundError) as error:  # the task is replaced, or asks again
            raise RetriableError(error.message, code=error.code, hint=error.hint) from error

    def fence(self, connector: str) -> None:
        """Fence the producers of the tasks before the last commit of tasks, as the leader.

        Raise NotFoundError, ConflictError when the tasks change meanwhile, RetriableError, InfrastructureError.
        """
        with self._fencing:
            configs = self._group.configs
            configs.refresh()
            desired = configs.desired()
            if connector not in desired.configs:
                raise NotFoundError(f"Connector {connector} not found")
            if connector not in desired.unfenced:
                return
            publication = desired.publications[connector]
            tasks, earlier = len(desired.tasks.get(connector, ())), desired.fenced_counts.get(connector)
            # The initialisation of a single task fences its predecessor.
            if earlier is not None and not earlier == tasks == 1:
                config = desired.configs[connector]
                ids = [self.transactional_id(TaskId(connector, number)) for number in range(earlier)]
                fence_producers(lambda name: self._open_producer(config, name), ids)
                log.info("producers fenced", connector=connector, tasks=earlier)

            def store() -> None:
                if configs.desired().publications.get(connector) != publication:
                    text = f"the tasks of {connector} have changed while the producers of earlier ones were fenced"
                    raise ConflictError(text, code="group.tasks_changed", hint="try again")
                configs.put_fencing(connector, tasks)

            self._call(store)


@dataclass
class TaskPermit:
    """Implements :class:`headrace.pipeline.source_transactions.TransactionPermit`. Used from the task's thread."""

    fencing: SourceFencing
    group: GroupOfSources
    task: TaskId
    config: Mapping[str, str]
    publication: int = -1

    def prepare(self) -> None:
        self.group.configs.refresh()
        self.publication = self._require_own()
        if self.task.connector in self.group.configs.desired().unfenced:
            self.fencing.request(self.task.connector)
            self.group.configs.refresh()
            if self.task.connector in self.group.configs.desired().unfenced:
                raise self._lost("its set of tasks has changed")

    def confirm(self) -> None:
        self.group.configs.refresh()
        if self._require_own() != self.publication:
            raise self._lost("its set of tasks has changed")

    def _require_own(self) -> int:
        """Return the number of the publication of the tasks. Raise RetriableError unless this is one of them."""
        connector, number = self.task.connector, self.task.number
        desired = self.group.configs.desired()
        tasks: Sequence[Mapping[str, str]] = desired.tasks.get(connector, ())
        if number >= len(tasks) or tasks[number] != self.config:
            raise self._lost("its configuration was replaced")
        if not self.group.may_write() or not self.group.membership.owns(Unit(connector, number)):
            raise self._lost("this worker does not own it")
        return desired.publications[connector]

    def _lost(self, why: str) -> RetriableError:
        return RetriableError(f"task {self.task} may not write: {why}", code="group.task_replaced")
