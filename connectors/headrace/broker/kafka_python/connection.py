"""What the adapter must know of kafka-python's inner life; every use of its private names is in this module.

Written for kafka-python 3.0; tests against a real broker hold it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import kafka
from kafka.errors import AuthorizationError, SaslAuthenticationFailedError, UnsupportedSaslMechanismError
from kafka.net.compat import KafkaNetClient
from kafka.net.inet import KafkaNetSocket
from kafka.net.manager import KafkaConnectionManager
from kafka.net.selector import NetworkSelector

Failure = tuple[str, Exception]
"""A broker's host:port, and why it cannot be reached."""

# They log every failed try, and every exception that a rebalance listener raises.
_NOISY = ("kafka.net", "kafka.cluster", "kafka.coordinator", "kafka.producer.sender")
_DIRECT = "direct"  # the scheme of no proxy at all
_FORCED = 5.0  # seconds for a sender that was told to give up; it does so at its next turn
_AUTHENTICATION = (SaslAuthenticationFailedError, UnsupportedSaslMechanismError, AuthorizationError)


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


class Connections(KafkaConnectionManager):  # type: ignore[misc]
    """kafka-python's connections, which remember why the last try to reach a broker failed."""

    def __init__(self, net: Any, **configs: Any) -> None:
        super().__init__(net, **{**configs, "proxy_url": configs.get("proxy_url") or f"{_DIRECT}://"})
        self._failures: dict[str, Exception] = {}  # by host:port

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

    def _note(self, address: str, node_id: Any, error: Exception) -> None:
        self._failures[address] = error
        if isinstance(error, _AUTHENTICATION):
            self._auth_failures[node_id] = error  # the next try raises it instead of trying for ever

    def failure(self) -> Failure | None:
        return next(iter(list(self._failures.items())), None)


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
