"""What the adapter must know of kafka-python's inner life; every use of its private names is in this module.

Written for kafka-python 3.0; tests against a real broker hold it.
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
    SaslAuthenticationFailedError,
    UnsupportedSaslMechanismError,
)
from kafka.net.compat import KafkaNetClient
from kafka.net.inet import KafkaNetSocket, create_connection
from kafka.net.manager import KafkaConnectionManager
from kafka.net.selector import NetworkSelector
from kafka.net.transport import KafkaSSLTransport, KafkaTCPTransport

Failure = tuple[str, Exception]
"""A broker's host:port, and why it cannot be reached."""

# They log every failed try, and every exception that a rebalance listener raises.
_NOISY = ("kafka.net", "kafka.cluster", "kafka.coordinator", "kafka.producer.sender")
_DIRECT = "direct"  # the scheme of no proxy at all
_REMEMBERED = 60.0  # seconds: longer than kafka-python's longest pause between two tries
_FORCED = 5.0  # seconds for a sender that was told to give up; it does so at its next turn


class UntrustedError(KafkaConnectionError):  # type: ignore[misc]
    """The broker's certificate is not one that we trust."""


_REFUSALS = (SaslAuthenticationFailedError, UnsupportedSaslMechanismError, AuthorizationError, UntrustedError)


class _DirectSocket(KafkaNetSocket):  # type: ignore[misc]
    """Closes the socket of a connection that fails; kafka-python leaves that to the garbage collector."""

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
    """Hears out a broker that hangs up: kafka-python drops what it reads together with the end of a connection.

    A broker that refuses a login says so and closes at once; the reason would be lost.
    """

    def _sock_recv(self) -> tuple[bytes, Exception | None]:
        received, error = super()._sock_recv()
        return received, None if received else error  # the end is read again


class _SslTransport(KafkaSSLTransport):  # type: ignore[misc]
    """The same over TLS."""

    def _sock_recv(self) -> tuple[bytes, Exception | None]:
        received, error = super()._sock_recv()
        return received, None if received else error


class Connections(KafkaConnectionManager):  # type: ignore[misc]
    """kafka-python's connections, which remember why the last try to reach a broker failed."""

    def __init__(self, net: Any, **configs: Any) -> None:
        super().__init__(net, **{**configs, "proxy_url": configs.get("proxy_url") or f"{_DIRECT}://"})
        self._failures: dict[str, tuple[float, Exception]] = {}  # by host:port, with monotonic seconds
        self._refusals: dict[Any, Exception] = {}  # by node, until somebody was told

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
        """As kafka-python's, which leaks the socket and forgets what was wrong when the handshake fails."""
        options, proxy = self.config["socket_options"], self.config["proxy_url"]
        opened = await create_connection(self._net, node.host, node.port, options, proxy, timeout_at)
        try:
            if self.ssl_enabled:
                opened.getpeername()  # raises if the peer is gone already: wrap_socket would leak the socket then
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
            raise UntrustedError(error.verify_message) from error
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
        """As kafka-python's, which takes a refused login for a connection made, and tries again without a pause."""
        await super()._connect(node, conn, False, timeout_at)
        if conn.connected and reset_backoff_on_connect:
            self.reset_backoff(node.node_id)
        elif node.node_id in self._refusals:
            self.update_backoff(node.node_id)

    def maybe_raise_auth_failure(self, node_id: Any) -> None:
        """Raises a refusal once, then lets the next try begin: kafka-python gives up on the broker for good."""
        error = self._refusals.pop(node_id, None)
        if error is not None:
            raise error

    def _note(self, address: str, node_id: Any, error: Exception) -> None:
        self._failures[address] = (time.monotonic(), error)
        if isinstance(error, _REFUSALS):
            self._refusals[node_id] = error  # for whoever wants the broker next

    def failure(self) -> Failure | None:
        for address, (when, error) in list(self._failures.items()):
            # A broker that is needed is tried again all the time; one that is not, after its partitions have moved,
            # is nobody's trouble.
            if time.monotonic() - when < _REMEMBERED:
                return address, error
            self._failures.pop(address, None)
        return None


class Client:
    """One of kafka-python's clients, which cleans up behind a constructor that fails."""

    def __init__(self, make: Callable[..., Any], arguments: Mapping[str, Any]) -> None:
        self._make = make
        self._arguments = arguments
        self._connections: Connections | None = None
        self.client: Any = None

    def open(self) -> None:
        """Make the client: it asks a broker for its version. Raises kafka-python's exceptions."""
        net_clients: list[Any] = []

        def make_net_client(**configs: Any) -> Any:
            net = NetworkSelector(**configs)
            self._connections = Connections(net, **configs)
            net_clients.append(KafkaNetClient(net=net, manager=self._connections, **configs))
            return net_clients[-1]

        try:
            self.client = self._make(**self._arguments, kafka_client=make_net_client)
        except BaseException:
            for net_client in net_clients:
                net_client.close()
            raise

    def failure(self) -> Failure | None:
        """A broker that cannot be reached, and why; None when none failed since it last answered. Never blocks."""
        return self._connections.failure() if self._connections is not None else None


def quiet() -> None:
    """Lower kafka-python's log levels, unless somebody has set them: what it logs, we raise or tell as trouble."""
    for name in ("kafka", *_NOISY):
        logger = logging.getLogger(name)
        if logger.level == logging.NOTSET:
            logger.setLevel(logging.CRITICAL if name in _NOISY else logging.ERROR)


def cluster_id(admin: kafka.KafkaAdminClient) -> str:
    """Asked for as every client asks. Its own ``describe_cluster`` fails on brokers of Kafka 2.8 to 3.6."""
    return str(admin._manager.run(admin._get_cluster_metadata, [])["cluster_id"])


def was_abandoned(future: Any) -> bool:
    """Whether a failed record was given up for the sake of another one; the failure is then the other one's.

    When the broker refuses a record, kafka-python gives up all that its idempotent producer has, and all that comes.
    """
    result = future._produce_future.value
    return result is not None and result[0] == -1


@contextmanager
def flushing(producer: kafka.KafkaProducer) -> Iterator[None]:
    """Send at once what waits for company (``linger.ms``). Its own ``flush`` counts the timeout anew per batch."""
    accumulator = producer._accumulator
    accumulator.begin_flush()
    producer._sender.wakeup()
    try:
        yield
    finally:
        accumulator._flushes_in_progress.decrement()


def close_producer(producer: kafka.KafkaProducer) -> None:
    """Close at once and end its thread. Its own ``close`` leaves the thread behind when records are left over."""
    sender = producer._sender
    sender.force_close()
    sender.join(_FORCED)
    producer.close(timeout=0)


def forget(consumer: kafka.KafkaConsumer, partitions: Iterable[kafka.TopicPartition]) -> None:
    """Drop the positions of revoked partitions, as Java's client does.

    kafka-python keeps them through an eager rebalance; records that were polled and not committed would then be
    skipped by a member that gets the same partition again.
    """
    subscription = consumer._subscription
    kept = subscription.assigned_partitions() - set(partitions)
    subscription.assign_from_subscribed(sorted(kept))


def keep_joining(consumer: kafka.KafkaConsumer) -> None:
    """Let a join of the group that outlived the last poll come to its end; to be called before every poll.

    kafka-python forgets it, in two ways. A leader that joins again because a topic changed takes the join for done
    once it has assigned the partitions; it then waits for ever, without partitions and heartbeats. And a join that
    ends between two polls is thrown away and begun anew, which makes all other members join again too.
    """
    coordinator = consumer._coordinator
    if coordinator.rejoining:
        coordinator.rejoin_needed = True
        task = coordinator._join_task
        if task is not None and not isinstance(task, _Unread):
            coordinator._join_task = _Unread(task)


class _Unread:
    """A join whose outcome nobody has seen: kafka-python begins anew when ``is_done`` is true."""

    is_done = False

    def __init__(self, task: Any) -> None:
        self.add_callback = task.add_callback
        self.add_errback = task.add_errback
