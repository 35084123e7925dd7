"""The dead letters of a worker's connectors, as REST sees them. The worker does the work: credentials stay with it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

import structlog

from headrace.broker.connector_clients import ConnectorClients
from headrace.broker.interfaces import KafkaClients, NewTopic
from headrace.dead_letters.letter_groups import MOST_LETTERS, QueueSummary, open_letters, summarize
from headrace.dead_letters.letter_queue import LetterQueue
from headrace.dead_letters.letter_writers import EntryChecker, TaskWriter
from headrace.dead_letters.letters import Letter
from headrace.dead_letters.marks import marks_topic
from headrace.dead_letters.newer_records import NewerRecords
from headrace.dead_letters.retry_run import LetterWriter, Outcomes, RetryRun
from headrace.errors import CommandError, ConflictError, HeadraceError, NotFoundError
from headrace.metrics import TaskMetrics
from headrace.pipeline.fault_policy import FaultPolicy
from headrace.pipeline.topic_creation import create_topic
from headrace.redaction import Secrets, redacted_errors
from headrace.registry import Registry
from headrace.runtime.stage_build import make_stages
from headrace.settings import SinkSettings, WorkerSettings
from headrace.validation import ConnectorConfig

log = structlog.stdlib.get_logger("headrace.dead_letters")
_STOP_TIMEOUT = 5.0


@dataclass
class LetterJob:
    """A retry or discard, running or ended. Written by its thread, read by others."""

    connector: str
    action: str
    group: str | None
    dry: bool
    state: str = "RUNNING"
    """RUNNING, DONE or FAILED."""
    step: str = "starting"
    done: int = 0
    whole: int = 0
    outcomes: Outcomes = field(default_factory=dict)
    error: str = ""


class DeadLetterService:
    """Answers questions about queues, and runs one retry or discard per connector at a time. Thread-safe."""

    def __init__(
        self,
        registry: Registry,
        secrets: Secrets,
        kafka_clients: KafkaClients,
        settings: WorkerSettings,
        config_of: Callable[[str], ConnectorConfig],
        letters_at_once: int = MOST_LETTERS,
    ) -> None:
        """``config_of`` returns a connector's configuration; it raises NotFoundError and ConfigError."""
        self._letters_at_once = letters_at_once
        self._registry = registry
        self._secrets = secrets
        self._kafka_clients = kafka_clients
        self._settings = settings
        self._config_of = config_of
        self._lock = threading.Lock()
        self._jobs: dict[str, LetterJob] = {}
        self._threads: dict[str, threading.Thread] = {}
        self._stop = threading.Event()

    def groups(self, name: str, start: Mapping[int, int] | None = None) -> QueueSummary:
        """Return the open letters by group, one part of the queue. Raises CommandError, NotFoundError, RetriableError.

        ``start``: where the next part begins, as the summary of the part before says.
        """
        with self._queue(self._config(name)) as queue:
            return summarize(queue, start, self._letters_at_once)

    def letters(self, name: str, group: str | None, limit: int) -> Sequence[Letter]:
        """Return the newest open letters. Raises as :meth:`groups`."""
        with self._queue(self._config(name)) as queue:
            return open_letters(queue, group, limit)

    def start(self, name: str, action: str, group: str | None, *, dry: bool) -> LetterJob:
        """Begin to ``retry`` or ``discard``. Raises as :meth:`groups`, and ConflictError while a run is active."""
        config = self._config(name)
        if action == "retry" and not isinstance(config.settings, SinkSettings):
            raise CommandError(
                f"letters of {name} cannot be retried: it is a source, and its letters name rows without their content",
                code="dlq.not_a_sink",
                hint="fix the rows or the configuration, let the source read them again, then discard the letters",
            )
        with self._lock:
            running = self._jobs.get(name)
            if running is not None and running.state == "RUNNING":
                raise ConflictError(f"a {running.action} of the dead letters of {name} is running", code="dlq.running")
            job = self._jobs[name] = LetterJob(name, action, group, dry)
            thread = threading.Thread(target=self._run, args=(job, config), name=f"{name}-dead-letters", daemon=True)
            self._threads[name] = thread
            thread.start()
        return job

    def job(self, name: str) -> LetterJob:
        """Return the connector's last job since the worker started. Raises NotFoundError."""
        if (job := self._jobs.get(name)) is None:
            raise NotFoundError(f"nothing was done with the dead letters of {name} since the worker started")
        return job

    def close(self) -> None:
        """Let jobs end after their current chunk; what has no mark then is still open."""
        self._stop.set()
        for thread in self._threads.values():
            thread.join(_STOP_TIMEOUT)

    def _config(self, name: str) -> ConnectorConfig:
        config = self._config_of(name)
        if not config.settings.dead_letter_topic:
            raise CommandError(
                f"connector {name} has no dead letter queue",
                code="dlq.not_configured",
                hint="set errors.deadletterqueue.topic.name in its configuration",
            )
        return config

    @contextmanager
    def _queue(self, config: ConnectorConfig) -> Iterator[LetterQueue]:
        with redacted_errors(self._secrets.of(config.name)), ExitStack() as stack:
            admin = self._clients(config).admin()
            stack.callback(admin.close)
            reader = self._clients(config).reader(f"headrace-dlq-{config.name}")
            stack.callback(reader.close)
            yield LetterQueue(config.settings.dead_letter_topic or "", config.name, reader, admin)

    def _clients(self, config: ConnectorConfig) -> ConnectorClients:
        return ConnectorClients(self._kafka_clients, self._settings, config.settings)

    def _run(self, job: LetterJob, config: ConnectorConfig) -> None:
        try:
            with redacted_errors(self._secrets.of(config.name)), ExitStack() as stack:
                self._work(job, config, stack)
        except HeadraceError as error:
            job.error, job.state = error.with_code(), "FAILED"
            log.warning("dead letters", connector=job.connector, action=job.action, code=error.code, reason=str(error))
        except (Exception, SystemExit) as error:  # a bug: the user gets a message, the trace goes to the log
            log.exception("dead letters", connector=job.connector, action=job.action)
            job.error = f"internal error ({type(error).__name__}) → the worker's log has the trace"
            job.state = "FAILED"
        else:
            job.state = "DONE"
            log.info("dead letters", connector=job.connector, action=job.action, group=job.group, dry_run=job.dry)

    def _work(self, job: LetterJob, config: ConnectorConfig, stack: ExitStack) -> None:
        def progress(step: str, done: int, whole: int) -> None:
            job.step, job.done, job.whole = step, done, whole

        queue = stack.enter_context(self._queue(config))
        queue.ends()  # raises when there is no queue, before a topic of marks is created
        producer = None
        if not job.dry:
            topic = NewTopic(
                marks_topic(queue.topic), 1, config.settings.dead_letter_replication, {"cleanup.policy": "compact"}
            )
            clients = self._clients(config)
            create_topic(clients.admin, topic)
            producer = clients.transactional_producer(f"headrace-dlq-{config.name}")
            stack.callback(producer.close, _STOP_TIMEOUT)
            producer.init()
        redact = self._secrets.of(config.name)
        run = RetryRun(queue, producer, job.group, progress, self._stop.is_set, job.outcomes, redact)
        if job.action == "discard":
            run.discard()
            return
        policy = FaultPolicy(config.settings, lambda key: key, self._stop, log, TaskMetrics())
        stages = make_stages(self._registry, self._settings, config.settings, policy)
        stack.callback(stages.close)
        reader = self._clients(config).reader(f"headrace-dlq-{config.name}")
        stack.callback(reader.close)
        writer: LetterWriter = EntryChecker(config) if job.dry else TaskWriter(config, self._stop)
        stack.callback(writer.close)
        run.retry(
            stages,
            writer,
            lambda letters: NewerRecords(reader, queue.admin, letters),
            splits=config.plugin.cls.task_class.takes_split_records,
        )
