"""Queries of a stream task's state: other threads ask, and the task's loop answers between two batches."""

from __future__ import annotations

import queue
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, NamedTuple

from headrace.errors import HeadraceError, NotFoundError, RetriableError
from headrace.pipeline.stream.state import StreamState
from headrace.plugin import StreamTask, StreamTopology
from headrace.records import TopicPartition


@dataclass(frozen=True)
class StateEntries:
    """What the state of a store holds of a key, in the partitions of one task."""

    partitions: frozenset[int]
    """The partitions of the store that the task has."""
    partition: int | None = None
    """The one that has the key; None: none of them has it."""
    key: Any = None
    entries: Sequence[Mapping[str, Any]] = ()


class _Query(NamedTuple):
    store: str
    keys: Sequence[Any]
    answer: Future[StateEntries]


class StateQueries:
    """The queries that wait for the loop of one task. Thread-safe."""

    def __init__(self) -> None:
        self._waiting: queue.SimpleQueue[_Query] = queue.SimpleQueue()

    def ask(self, store: str, keys: Sequence[Any], timeout: float) -> StateEntries:
        """Return what the state holds of the first of ``keys`` that it has.

        Raise NotFoundError for an unknown store, RetriableError when the loop has not answered in time.
        """
        answer: Future[StateEntries] = Future()
        self._waiting.put(_Query(store, keys, answer))
        try:
            return answer.result(timeout)
        except TimeoutError as error:
            answer.cancel()
            text = f"the task has not answered within {timeout:g} s: it restores its state, waits, or processes a batch"
            raise RetriableError(text, code="stream.no_answer", hint="see its status, and try again") from error

    def serve(self, find: Callable[[str, Sequence[Any]], StateEntries]) -> None:
        """Answer all queries that wait. Called by the loop."""
        while not self._waiting.empty():
            query = self._waiting.get()
            if not query.answer.set_running_or_notify_cancel():
                continue
            try:
                query.answer.set_result(find(query.store, query.keys))
            except HeadraceError as error:
                query.answer.set_exception(error)


def find_entries(
    task: StreamTask,
    topology: StreamTopology,
    state: StreamState,
    owned: Collection[TopicPartition],
    store: str,
    keys: Iterable[Any],
) -> StateEntries:
    """Return what a task's state holds of the first of ``keys`` that it has. Raise NotFoundError."""
    if store not in topology.stores:
        known = ", ".join(topology.stores) or "no store"
        raise NotFoundError(f"there is no store '{store}'", code="stream.unknown_store", hint=f"there is: {known}")
    topic = topology.stores[store][0]
    partitions = frozenset(item.partition for item in owned if item.topic == topic)
    for key in keys:
        for partition in sorted(partitions):
            segments = state.of(TopicPartition(topic, partition))[store]
            held = {number: {key: content[key]} for number, content in segments.items() if key in content}
            if entries := task.shown_state(store, key, held) if held else ():
                return StateEntries(partitions, partition, key, entries)
    return StateEntries(partitions)
