"""Workarounds that need kafka-python's internals. Only this module and ``batch_*.py`` use its private names.

Written for kafka-python 3.0; tests against a real broker fail when the internals change.
"""

from __future__ import annotations

import logging
import ssl
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import kafka
from kafka.errors import (
    AuthorizationError,
    KafkaConnectionError,
    KafkaTimeoutError,
    SaslAuthenticationFailedError,
    UnsupportedSaslMechanismError,
)
from kafka.net.compat import KafkaNetClient
from kafka.net.inet import KafkaNetSocket, create_connection
from kafka.net.manager import KafkaConnectionManager
from kafka.net.selector import NetworkSelector
from kafka.net.transport import KafkaSSLTransport, KafkaTCPTransport
from kafka.producer.transaction_manager import TransactionalRequestResult

from headrace.broker.client_errors import BrokerFailure
from headrace.broker.kafka_python.error_mapping import UntrustedCertificateError, broker_failure
from headrace.patterns import Pattern

# These loggers report every failed attempt, and every exception that a rebalance listener raises.
_NOISY = ("kafka.net", "kafka.cluster", "kafka.coordinator", "kafka.producer.sender")
_DIRECT = "direct"  # URL scheme that means "no proxy"
_FAILURE_TTL = 60.0  # seconds: longer than kafka-python's longest backoff
_BEFORE_EPOCH_BUMPS = (2, 4)  # the last version of Kafka without KIP-360
_WAKEUP_INTERVAL = 200  # milliseconds
_FORCED_CLOSE = 5.0  # seconds for the sender thread to end after force_close


_REFUSALS = (
    SaslAuthenticationFailedError,
    UnsupportedSaslMechanismError,
    AuthorizationError,
    UntrustedCertificateError,
)


class _DirectSocket(KafkaNetSocket):  # type: ignore[misc]
    """Closes the socket when connecting fails; kafka-python leaves that to the garbage collector."""

    SCHEMES = (_DIRECT,)

    def socket(self, *arguments: Any) -> Any:
        self._made = super().socket(*arguments)
        return self._made

    async def connect(self, *arguments: Any, **options: Any) -> Any:
        try:
            return await super().connect(*arguments, **options)
        except BaseException:
            self._made.close()
            raise


class _TcpTransport(KafkaTCPTransport):  # type: ignore[misc]
    """Drain buffered bytes before handling EOF, so that authentication errors are not lost.

    kafka-python discards the bytes that it reads together with the end of a connection, and a broker that refuses a
    login sends the reason and closes at once.
    """

    def _sock_recv(self) -> tuple[bytes, Exception | None]:
        received, error = super()._sock_recv()
        return received, None if received else error  # the next read returns the end again

    async def _write_to_sock(self) -> None:
        """Like kafka-python's, which leaks the socket when a client is closed before a last request is sent."""
        try:
            await super()._write_to_sock()
        except GeneratorExit:
            if self._sock is not None:  # the client is closed: nothing else will close the socket
                self._write_task = None  # this task, which cannot be cancelled from within
                self._close()
            raise


class _SslTransport(_TcpTransport, KafkaSSLTransport):  # type: ignore[misc]
    """The same over TLS."""


class TrackingConnectionManager(KafkaConnectionManager):  # type: ignore[misc]
    """kafka-python's connection manager, extended: it records why the last attempt to reach a broker failed."""

    def __init__(self, net: Any, **configs: Any) -> None:
        super().__init__(net, **{**configs, "proxy_url": configs.get("proxy_url") or f"{_DIRECT}://"})
        self._failures: dict[str, tuple[float, Exception]] = {}  # by host:port, with monotonic seconds
        self._refusals: dict[Any, Exception] = {}  # by node, until raised

    def get_connection(self, node_id: Any, *arguments: Any, **options: Any) -> Any:
        known = self._conns.get(node_id)
        connection = super().get_connection(node_id, *arguments, **options)
        if connection is not known:
            node = self.cluster.broker_metadata(node_id)
            address = f"{node.host}:{node.port}"
            connection.init_future.add_callback(lambda _: self._failures.pop(address, None))
            connection.init_future.add_errback(lambda error: self._note(address, node_id, error))
            connection.close_future.add_errback(lambda error: self._note(address, node_id, error))
        return connection

    async def _build_transport(self, node: Any, timeout_at: float | None = None) -> Any:
        """Like kafka-python's, which leaks the socket and loses the reason when the handshake fails."""
        options, proxy = self.config["socket_options"], self.config["proxy_url"]
        opened = await create_connection(self._net, node.host, node.port, options, proxy, timeout_at)
        try:
            if self.ssl_enabled:
                opened.getpeername()  # raises if the peer has closed already: wrap_socket would leak the socket then
                settings = {key: value for key, value in self.config.items() if key.startswith("ssl_")}
                transport = _SslTransport(self._net, opened, host=node.host, **settings)
            else:
                transport = _TcpTransport(self._net, opened, host=node.host)
        except OSError as error:
            opened.close()
            raise KafkaConnectionError(f"the connection was closed before it could be used: {error}") from error
        except BaseException:
            opened.close()
            raise
        try:
            await transport.handshake()
        except ssl.SSLCertVerificationError as error:
            transport.abort(error)
            raise UntrustedCertificateError(error.verify_message) from error
        except (OSError, ValueError) as error:
            transport.abort(error)
            raise KafkaConnectionError(f"the TLS handshake failed: {error}") from error
        except BaseException as error:
            transport.abort(error)
            raise
        return transport

    async def _connect(
        self, node: Any, conn: Any, reset_backoff_on_connect: bool = True, timeout_at: float | None = None
    ) -> None:
        """Like kafka-python's, which treats a refused login as a connection and retries without backoff."""
        await super()._connect(node, conn, False, timeout_at)
        if conn.connected and reset_backoff_on_connect:
            self.reset_backoff(node.node_id)
        elif node.node_id in self._refusals:
            self.update_backoff(node.node_id)

    def maybe_raise_auth_failure(self, node_id: Any) -> None:
        """Raise a refusal once, then allow the next attempt: kafka-python would never connect to the broker again."""
        error = self._refusals.pop(node_id, None)
        if error is not None:
            raise error

    def _note(self, address: str, node_id: Any, error: Exception) -> None:
        self._failures[address] = (time.monotonic(), error)
        if isinstance(error, _REFUSALS):
            self._refusals[node_id] = error  # raised to the next caller that needs the broker

    def failure(self) -> BrokerFailure | None:
        for address, (when, error) in list(self._failures.items()):
            # A broker that is needed is retried all the time. An old failure is of a broker that is not needed any
            # more, because its partitions have moved.
            if time.monotonic() - when < _FAILURE_TTL:
                return broker_failure(address, error)
            self._failures.pop(address, None)
        return None


class ClientHandle:
    """One of kafka-python's clients; releases its connections when the constructor fails."""

    def __init__(self, make: Callable[..., Any], arguments: Mapping[str, Any]) -> None:
        self._make = make
        self._arguments = arguments
        self._connections: TrackingConnectionManager | None = None
        self.client: Any = None

    def open(self) -> None:
        """Create the client, which asks a broker for its version. Raise kafka-python's exceptions."""
        net_clients: list[Any] = []

        def make_net_client(**configs: Any) -> Any:
            net = NetworkSelector(**configs)
            self._connections = TrackingConnectionManager(net, **configs)
            net_clients.append(KafkaNetClient(net=net, manager=self._connections, **configs))
            return net_clients[-1]

        try:
            self.client = self._make(**self._arguments, kafka_client=make_net_client)
        except BaseException:
            for net_client in net_clients:
                net_client.close()
            raise

    def failure(self) -> BrokerFailure | None:
        """Return a broker that cannot be reached; None when none failed since it last answered. Never blocks."""
        return self._connections.failure() if self._connections is not None else None


def quiet() -> None:
    """Reduce kafka-python's logging, unless levels are set: errors are raised or reported by ``connection_problem``."""
    for name in ("kafka", *_NOISY):
        logger = logging.getLogger(name)
        if logger.level == logging.NOTSET:
            logger.setLevel(logging.CRITICAL if name in _NOISY else logging.ERROR)


def cluster_id(admin: kafka.KafkaAdminClient) -> str:
    """Return the cluster id from metadata: kafka-python's ``describe_cluster`` fails on brokers of Kafka 2.8 to 3.6."""
    return str(admin._manager.run(admin._get_cluster_metadata, [])["cluster_id"])


@contextmanager
def flushing(producer: kafka.KafkaProducer) -> Iterator[None]:
    """Send without waiting for ``linger.ms``. kafka-python's ``flush`` applies the timeout to each batch separately."""
    accumulator = producer._accumulator
    accumulator.begin_flush()
    producer._sender.wakeup()
    try:
        yield
    finally:
        accumulator._flushes_in_progress.decrement()


def transaction_error(producer: kafka.KafkaProducer) -> Exception | None:
    """Return what put the producer's transaction into an error state."""
    error = producer._transaction_manager.last_error
    return error if isinstance(error, Exception) else None


def fail_on_stale_epoch(producer: kafka.KafkaProducer) -> None:
    """Make an error about the producer's epoch final, as it is with brokers before KIP-360.

    kafka-python answers INVALID_PRODUCER_EPOCH with a new epoch, and asks for it without its old one if the broker
    refuses that: a producer that was fenced then fences the newer one. Its version check is the only switch.
    """
    producer._transaction_manager._api_version = _BEFORE_EPOCH_BUMPS


def complete_transactional_request(
    producer: kafka.KafkaProducer, begin: Callable[[Any], TransactionalRequestResult], timeout: float
) -> None:
    """Make a request of the producer's transaction manager, and wait for its result. Raise KafkaError.

    kafka-python's own calls wait without a limit. After an error its thread ends one of the waiting requests and then
    sleeps until it is woken, so that the others may never end. Raise KafkaTimeoutError after ``timeout`` seconds.
    """
    result = begin(producer._transaction_manager)
    end = time.monotonic() + timeout
    producer._sender.wakeup()
    while not result.wait(timeout_ms=_WAKEUP_INTERVAL):
        if time.monotonic() > end:
            raise KafkaTimeoutError(f"no response within {timeout:g} s")
        producer._sender.wakeup()


def force_close(producer: kafka.KafkaProducer) -> bool:
    """Make the producer's thread fail all batches and end, without waiting for it; return whether it has ended."""
    sender = producer._sender
    sender.force_close()
    return not sender.is_alive()


def close_producer(producer: kafka.KafkaProducer) -> None:
    """Close at once and end its thread. kafka-python's ``close`` leaks the thread when unsent records are left."""
    force_close(producer)
    producer._sender.join(_FORCED_CLOSE)
    producer.close(timeout=0)


def release_paused_records(consumer: kafka.KafkaConsumer) -> None:
    """Let the next poll return records that were fetched before their partition was paused, if it is resumed.

    kafka-python keeps them apart, and takes them back only when no other partition was read last. Until then it does
    not fetch the partition either: without this call it may never continue.
    """
    fetcher = consumer._fetcher
    if not fetcher._next_partition_records:  # None, or records that were all returned
        fetcher._next_partition_records = None


class _WholeNames:
    """Matches whole topic names in linear time, where kafka-python expects a pattern of ``re``."""

    def __init__(self, pattern: Pattern) -> None:
        self.match = pattern.fullmatch


def subscribe_to_pattern(
    consumer: kafka.KafkaConsumer, pattern: Pattern, listener: kafka.ConsumerRebalanceListener
) -> None:
    """Subscribe to the topics whose whole name matches.

    kafka-python compiles a pattern with ``re`` and matches the beginning of names. Here its steps are repeated with
    another matcher, which is in place before topics are asked for.
    """
    subscription, cluster = consumer._subscription, consumer._cluster
    subscription.subscribe(pattern="(?!)", listener=listener)
    subscription.subscribed_pattern = _WholeNames(pattern)
    cluster.need_all_topic_metadata = True
    cluster.set_topics([])
    cluster.request_update()


def forget(consumer: kafka.KafkaConsumer, partitions: Iterable[kafka.TopicPartition]) -> None:
    """Drop the positions of revoked partitions, as Java's client does.

    kafka-python keeps them through an eager rebalance; a member that gets the same partition again would then skip
    records that were polled and not committed.
    """
    subscription = consumer._subscription
    kept = subscription.assigned_partitions() - set(partitions)
    subscription.assign_from_subscribed(sorted(kept))


def keep_joining(consumer: kafka.KafkaConsumer) -> None:
    """Complete a group join that outlived the last poll; call it before every poll.

    kafka-python loses it in two ways. A leader that rejoins because a topic changed considers the join done once it
    has assigned the partitions; it then waits forever, without partitions and heartbeats. And a join that ends between
    two polls is discarded and started again, which makes all other members rejoin, too.
    """
    coordinator = consumer._coordinator
    if coordinator.rejoining:
        coordinator.rejoin_needed = True
        task = coordinator._join_task
        if task is not None and not isinstance(task, _UnreadJoin):
            coordinator._join_task = _UnreadJoin(task)


class _UnreadJoin:
    """A join whose result has not been read: kafka-python starts another one when ``is_done`` is true."""

    is_done = False

    def __init__(self, task: Any) -> None:
        self.add_callback = task.add_callback
        self.add_errback = task.add_errback
