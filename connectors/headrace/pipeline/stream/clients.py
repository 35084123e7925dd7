"""What a stream task is given besides its configuration: factories of clients, a directory, times and limits."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from headrace.broker.interfaces import Admin, Consumer, Producer, Reader, TransactionalProducer
from headrace.pipeline.dead_letters import DeadLetterQueue
from headrace.pipeline.offset_gaps import OffsetGaps


@dataclass(frozen=True)
class StreamClients:
    """Makes the clients of a stream task."""

    open_consumer: Callable[[], Consumer]
    open_producer: Callable[[], TransactionalProducer]
    transactional_id: str
    """Of the producers, for messages."""
    open_reader: Callable[[], Reader]
    open_admin: Callable[[], Admin]
    group: str
    checkpoints: Path | None = None
    """The directory of the application's checkpoints."""
    open_dead_letters: Callable[[Producer], DeadLetterQueue] | None = None
    """Is given a producer that sends within the task's transactions."""
    topic_used: Callable[[str], None] = lambda topic: None
    gaps: OffsetGaps | None = None
    deciding: Callable[[], AbstractContextManager[None]] = nullcontext
    """Decides over HTTP while the context is entered, if the application is configured to."""
    worker: str = ""
    """The name of this process, for others that run an application of the same name."""


@dataclass(frozen=True)
class StreamLimits:
    """Times, in seconds, and sizes of a stream task. See :class:`headrace.settings.StreamSettings`."""

    commit_interval: float
    max_task_idle: float = 0.0
    idle_after: float | None = None
    most_entries: int | None = None
    purge_interval: float = 30.0
