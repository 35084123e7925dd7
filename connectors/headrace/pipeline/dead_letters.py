"""The dead letter queue: originals of refused records, with headers that say where and why (KIP-298)."""

from __future__ import annotations

import traceback
from bisect import bisect_left
from collections.abc import Mapping, Sequence

from headrace.broker.interfaces import Producer
from headrace.errors import DataError, HeadraceError, InfrastructureError, RetriableError, TaskError
from headrace.metrics import TaskMetrics, now_ms
from headrace.pipeline.fault_policy import NO_PARTITION, Failure
from headrace.records import ConsumedBatch, EncodedBatch, Headers, TopicPartition
from headrace.redaction import Redact, unredacted
from headrace.states import TaskId

CONNECT_PREFIX = "__connect.errors."
OUR_PREFIX = "__headrace.errors."
"""Prefix of headers that Kafka Connect does not have: the stable code, the hint, and details of the place."""
TIME = "time"
"""Our header: when the record was refused, epoch milliseconds. The letter's timestamp is the record's own."""
RETRIES = "retries"
"""Our header: how often a retry of the letter was refused."""
_LONGEST_TEXT = 16_384  # of one header, in characters; a reason must not make a record too large for the broker
_FLUSH_TIMEOUT = 30.0

Originals = Mapping[TopicPartition, ConsumedBatch]


class DeadLetterQueue:
    """Writes refused records durably: the position of a record moves on only when its dead letter is in Kafka.

    (Kafka Connect logs a dead letter that the broker refuses, and goes on without it.)
    """

    def __init__(
        self,
        producer: Producer,
        topic: str,
        task: TaskId,
        metrics: TaskMetrics,
        *,
        context_headers: bool,
        config_origin: str = "",
        redact: Redact = unredacted,
    ) -> None:
        """``redact`` takes secrets out of the reasons that letters name."""
        self.redact = redact
        self._producer = producer
        self._topic = topic
        self._task = task
        self._metrics = metrics
        self._context_headers = context_headers
        key = ", ".join(filter(None, ("errors.deadletterqueue.topic.name", config_origin)))
        self._named = f"the dead letter queue {topic} ({key})"

    @property
    def topic(self) -> str:
        """The name of the topic."""
        return self._topic

    def write(self, failures: Sequence[Failure], originals: Originals) -> None:
        """Return when the broker has acknowledged the letters. Raise RetriableError, or TaskError if it refuses one."""
        letters = [self._letter(failure, originals[failure.topic_partition]) for failure in failures]
        self.send(letters)

    def send(self, letters: Sequence[EncodedBatch]) -> None:
        """Write letters that are already encoded. Return and raise as :meth:`write`."""
        self._metrics.add("deadletterqueue_produce_requests", len(letters))
        try:
            deliveries = [self._producer.send(letter) for letter in letters]
            self._producer.flush(_FLUSH_TIMEOUT)
            for delivery in deliveries:
                if not delivery.done():
                    reason = self._producer.connection_problem() or f"no answer within {_FLUSH_TIMEOUT:g} s"
                    raise RetriableError(reason)
                if (error := delivery.error()) is not None:
                    raise error
        except HeadraceError as error:
            self._metrics.add("deadletterqueue_produce_failures", len(letters))
            if isinstance(error, DataError):
                raise TaskError(f"{self._named} refused a record: {error}") from error
            raise self._explained(error) from error

    def _explained(self, error: HeadraceError) -> HeadraceError:
        """Return an error of the client that says which topic it is about, and what the task needs."""
        if isinstance(error, InfrastructureError):
            return queue_unusable(error, self._named, self._topic, "written")
        if isinstance(error, RetriableError):
            text = f"{self._named} cannot be written: {error.message}"
            return RetriableError(text, code=error.code, hint=error.hint, delay=error.delay)
        return HeadraceError(f"{self._named}: {error.message}", code=error.code, hint=error.hint)

    def reasons(self, failure: Failure) -> Headers:
        """Return the headers that say where and why a record failed; empty if the configuration wants none."""
        return reason_headers(failure, self._task, self.redact) if self._context_headers else []

    def close(self) -> None:
        self._producer.close(_FLUSH_TIMEOUT)

    def _letter(self, failure: Failure, batch: ConsumedBatch) -> EncodedBatch:
        index = bisect_left(batch.offsets, failure.offset)
        headers: Headers = [*batch.headers[index], *self.reasons(failure)]
        return EncodedBatch(
            self._topic, [batch.values[index]], [batch.keys[index]], [batch.timestamps[index]], [headers]
        )


def reason_headers(failure: Failure, task: TaskId, redact: Redact, **more: str) -> list[tuple[str, bytes]]:
    """Return the headers that say where and why a record failed. ``more`` are headers of ours.

    ``redact`` is not applied to the details of the error: they are contents of the record.
    """
    error = failure.error
    kind = type(error.__cause__ or error)
    place = {"partition": str(failure.topic_partition.partition), "offset": str(failure.offset)}
    reasons = {
        "topic": failure.topic_partition.topic,
        **(place if failure.topic_partition.partition != NO_PARTITION else {}),
        "connector.name": task.connector,
        "task.id": str(task.number),
        "stage": failure.stage.value,
        "class.name": failure.executor,
        "exception.class.name": f"{kind.__module__}.{kind.__qualname__}",
        "exception.message": redact(error.message),
        "exception.stacktrace": redact(_trace(error)),
    }
    ours = {"code": error.code, "hint": redact(error.hint), TIME: str(now_ms()), **error.details, **more}
    return [
        *((CONNECT_PREFIX + name, _bounded(text)) for name, text in reasons.items()),
        *((OUR_PREFIX + name, _bounded(text)) for name, text in ours.items() if text),
    ]


def without_reasons(headers: Headers) -> Headers:
    """Return a letter's headers without those that say why it is one."""
    return [header for header in headers if not header[0].startswith((CONNECT_PREFIX, OUR_PREFIX))]


def queue_unusable(error: HeadraceError, named: str, topic: str, what: str) -> InfrastructureError:
    """Return the error of a queue that cannot be created or written, with the ACLs that it needs."""
    hint = f"grant the worker's user CREATE, DESCRIBE and WRITE on topic {topic}, or name another topic"
    if error.code != "kafka.not_authorized":
        hint = error.hint
    return InfrastructureError(f"{named} cannot be {what}: {error.message}", code=error.code, hint=hint)


def _bounded(text: str) -> bytes:
    return text[:_LONGEST_TEXT].encode(errors="replace")


def _trace(error: BaseException) -> str:
    """Return the traceback as Python prints it, without lines of code: reading them takes ten times longer."""
    lines = [_trace(error.__cause__), "\nwhich was the reason of:\n\n"] if error.__cause__ is not None else []
    lines += ["Traceback (most recent call last):\n"] if error.__traceback__ is not None else []
    for frame, line in traceback.walk_tb(error.__traceback__):
        lines.append(f'  File "{frame.f_code.co_filename}", line {line}, in {frame.f_code.co_name}\n')
    return "".join([*lines, *traceback.format_exception_only(error)])
