"""What an application's state was made by: a record in an internal topic, compared before a task uses the state.

The newest record counts. A process that starts an application with other steps writes its own, unless the state does
not fit; the others notice it at the rebalance that its consumer causes, and stop.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson

from headrace.broker.interfaces import Admin, NewTopic, Reader
from headrace.errors import ConflictError, TaskError
from headrace.metrics import now_ms
from headrace.pipeline.stream.topics import read_to_end
from headrace.pipeline.transactions import TaskTransaction
from headrace.plugin import StreamTopology
from headrace.records import ConsumedBatch, EncodedBatch, TopicPartition

_KEY = b"topology"
_CONFIG = {"cleanup.policy": "compact"}


def registration_topic(application: str) -> str:
    """Return the name of the topic."""
    return f"{application}-topology"


@dataclass(frozen=True)
class Registration:
    """What a process wrote. ``stores``: store → the definition of its state, and the topics that it follows."""

    fingerprint: str
    stores: Mapping[str, tuple[str, tuple[str, ...]]]
    worker: str = ""
    written: int = 0
    """Epoch milliseconds."""

    @classmethod
    def of(cls, topology: StreamTopology, worker: str = "") -> Registration:
        definitions = topology.definitions
        stores = {store: (definitions.get(store, ""), topics) for store, topics in topology.stores.items()}
        return cls(topology.fingerprint, stores, worker, now_ms())

    def encoded(self) -> bytes:
        stores = {store: {"definition": item[0], "topics": item[1]} for store, item in self.stores.items()}
        content = {"fingerprint": self.fingerprint, "stores": stores, "worker": self.worker, "written": self.written}
        return orjson.dumps(content)

    @classmethod
    def decoded(cls, text: bytes) -> Registration:
        content: Mapping[str, Any] = orjson.loads(text)
        stores = {store: (item["definition"], tuple(item["topics"])) for store, item in content["stores"].items()}
        return cls(content["fingerprint"], stores, content["worker"], content["written"])

    def origin(self) -> str:
        """Return who wrote it and when, for messages."""
        moment = datetime.fromtimestamp(self.written / 1000, UTC).isoformat(timespec="seconds")
        return f"by {self.worker or 'a worker'} at {moment}"


@dataclass(frozen=True)
class StateChanges:
    """What becomes of each store when an application is changed."""

    kept: tuple[str, ...]
    added: tuple[str, ...]
    removed: tuple[str, ...]
    """Their changelogs stay in Kafka, unused."""
    changed: Mapping[str, str]
    """Stores whose state does not fit any more, each with the reason."""

    @classmethod
    def between(cls, before: Registration, after: Registration) -> StateChanges:
        both = [store for store in after.stores if store in before.stores]
        changed = {store: _difference(before.stores[store], after.stores[store]) for store in both}
        return cls(
            tuple(store for store in both if not changed[store]),
            tuple(store for store in after.stores if store not in before.stores),
            tuple(store for store in before.stores if store not in after.stores),
            {store: reason for store, reason in changed.items() if reason},
        )

    def lines(self) -> list[str]:
        """Return the changes as text."""
        return [
            *(f"kept     {store}: its state is used on" for store in self.kept),
            *(f"new      {store}: begins without state" for store in self.added),
            *(f"removed  {store}: its changelog stays in Kafka and is not used" for store in self.removed),
            *(f"RESET    {store}: {reason}" for store, reason in self.changed.items()),
        ]


def _difference(before: tuple[str, tuple[str, ...]], after: tuple[str, tuple[str, ...]]) -> str:
    if before[0] != after[0]:
        return f"its state was made by '{before[0]}', and the step is now '{after[0]}'"
    if before[1] != after[1]:
        return f"its state follows the partitions of {', '.join(before[1])}, and would follow {', '.join(after[1])}"
    return ""


def changed_state(application: str, changes: StateChanges) -> tuple[str, str]:
    """Return message and hint about stores that do not fit."""
    reasons = "; ".join(f"step '{store}': {reason}" for store, reason in changes.changed.items())
    text = f"the state of application {application} does not fit its steps: {reasons}"
    hint = (
        f"undo the change, give the step another name (it begins without state), or stop the application and run "
        f"`headrace stream reset {application}`, which deletes the state of all steps"
    )
    return text, hint


def require_fitting_state(application: str, known: Registration | None, topology: StreamTopology) -> None:
    """Raise ConflictError with all changes when the registered state does not fit a topology."""
    if known is None:
        return
    changes = StateChanges.between(known, Registration.of(topology))
    if changes.changed:
        text, hint = changed_state(application, changes)
        lines = [f"{text} (written {known.origin()})", *changes.lines()]
        raise ConflictError("\n".join(lines), code="stream.changed", hint=hint)


def read_registration(
    admin: Admin,
    open_reader: Callable[[], Reader],
    application: str,
    proceed: Callable[[int], bool] = lambda remaining: True,
) -> Registration | None:
    """Return the newest registration; None when there is none, or when ``proceed`` returned False."""
    place = TopicPartition(registration_topic(application), 0)
    end = admin.end_offsets([place.topic]).get(place, 0)
    if not end:
        return None
    found: list[bytes | None] = []

    def keep(batch: ConsumedBatch) -> None:
        found.extend(batch.values)

    reader = open_reader()
    try:
        reached = read_to_end(reader, {}, {place: end}, keep, proceed)
    finally:
        reader.close()
    texts = [text for text in found if text is not None]
    return Registration.decoded(texts[-1]) if reached and texts else None


class RegistrationGuard:
    """Compares the application of a task with what is registered. Used from the task's thread."""

    def __init__(
        self, application: str, own: Registration, open_reader: Callable[[], Reader], stopping: Callable[[], bool]
    ) -> None:
        self._application = application
        self._own = own
        self._open_reader = open_reader
        self._stopping = stopping
        self._must_write = False

    def prepare(self, admin: Admin) -> None:
        """Create the topic if it is missing. Raise TaskError when the existing state does not fit the application."""
        topic = registration_topic(self._application)
        if not admin.end_offsets([topic]):
            admin.create_topics([NewTopic(topic, 1, config=_CONFIG)])
        known = self._read(admin)
        self._must_write = known is None or known.fingerprint != self._own.fingerprint
        if known is None:
            return
        changes = StateChanges.between(known, self._own)
        if changes.changed:
            text, hint = changed_state(self._application, changes)
            raise TaskError(f"{text} (written {known.origin()})", code="stream.changed", hint=hint)

    def register(self, transaction: TaskTransaction) -> None:
        """Write the own registration, unless it is the known one."""
        if self._must_write and not self._stopping():
            topic = registration_topic(self._application)
            transaction.send(EncodedBatch(topic, [self._own.encoded()], [_KEY]))
            transaction.commit_sent()
            self._must_write = False

    def check(self, admin: Admin) -> None:
        """Raise TaskError when another process has started an application of this name with other steps."""
        known = self._read(admin)
        if known is not None and known.fingerprint != self._own.fingerprint:
            name = self._application
            raise TaskError(
                f"another process runs a stream application named {name} with other steps (started {known.origin()}): "
                "two applications of one name would share partitions, offsets and state",
                code="stream.other_application",
                hint="give one of them another name; after a change of the file, start all processes with the same one",
            )

    def _read(self, admin: Admin) -> Registration | None:
        return read_registration(admin, self._open_reader, self._application, lambda remaining: not self._stopping())
