"""Answers queries of the state of a stream application from the tasks of this worker."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from headrace.broker.interfaces import Admin
from headrace.errors import ConflictError, HeadraceError, NotFoundError, RetriableError
from headrace.pipeline.stream import state_codec
from headrace.pipeline.stream.queries import StateQueries
from headrace.pipeline.stream.topics import changelog_topic
from headrace.states import TaskId

OTHER_OWNER = "stream.other_owner"
_TIMEOUT = 20.0
"""Seconds that a task may need: it answers between two batches."""


@dataclass(frozen=True)
class FoundState:
    """What a store holds of a key. ``entries``: an object for each window, record or row."""

    task: int
    partition: int
    key: Any
    entries: Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class StreamStateAnswer:
    """The answer of the tasks of this worker: the entry, if they have it, and the partitions that they asked for it."""

    store: str
    found: FoundState | None
    partitions: frozenset[int]
    """Of the store, that tasks of this worker have."""
    total: int
    """The number of partitions of the store; 0 with an entry, which needs no other partitions."""

    @property
    def elsewhere(self) -> list[int]:
        """The partitions that other processes have."""
        return sorted(set(range(self.total)) - self.partitions)

    def missing(self) -> HeadraceError:
        """Return the error of an answer without an entry."""
        if not self.elsewhere:
            return no_entry(self.store)
        return ConflictError(
            f"store '{self.store}' has no entry of this key in the partitions of this worker "
            f"({', '.join(map(str, sorted(self.partitions))) or 'none'}), and other processes have partitions "
            f"{', '.join(map(str, self.elsewhere))}",
            code=OTHER_OWNER,
            hint="ask the other workers that run this application",
        )


def no_entry(store: str) -> NotFoundError:
    """Return the error of a key that no partition of a store has."""
    return NotFoundError(f"store '{store}' has no entry of this key", code="stream.no_entry")


def keys_of(text: str) -> list[Any]:
    """Return the keys that a text may mean: JSON, in the form of the changelog, then the text itself.

    So ``7`` finds the number, and otherwise the text; ``"7"`` is the text only. An array is a key of several columns.
    """
    try:
        key = state_codec.decode(text.encode())
    except (orjson.JSONDecodeError, ArithmeticError, ValueError, TypeError):
        return [text]
    if isinstance(key, str):
        return [key]
    if isinstance(key, list):
        key = tuple(key)
    try:
        hash(key)
    except TypeError:
        return [text]
    return [key, text]


def query_state(
    queries: Mapping[TaskId, StateQueries], with_admin: Callable[[Callable[[Admin], int]], int], name: str, store: str,
    key: str,
) -> StreamStateAnswer:  # fmt: skip
    """Return what the tasks of this worker hold. Raise NotFoundError for an unknown store, RetriableError while a task
    does not answer."""
    if not queries:
        hint = f"see `headrace connectors status {name}`"
        raise RetriableError(f"no task of {name} runs in this worker", code="stream.no_answer", hint=hint)
    partitions: set[int] = set()
    for task, asked in queries.items():
        found = asked.ask(store, keys_of(key), _TIMEOUT)
        partitions |= found.partitions
        if found.partition is not None:
            state = FoundState(task.number, found.partition, found.key, found.entries)
            return StreamStateAnswer(store, state, frozenset(partitions), 0)
    changelog = changelog_topic(name, store)
    total = with_admin(lambda admin: len(admin.end_offsets([changelog])))
    return StreamStateAnswer(store, None, frozenset(partitions), total)
