"""Fencing of transactional producers: an initialisation makes Kafka refuse all older producers of its id."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from headrace.broker.client_errors import transactional_id_refused
from headrace.broker.interfaces import TransactionalProducer
from headrace.errors import HeadraceError, InfrastructureError

_CLOSE_TIMEOUT = 5.0  # seconds


def initialized(producer: TransactionalProducer, transactional_id: str) -> TransactionalProducer:
    """Return a new producer that has fenced the older ones of its id. Close it when that fails, and raise."""
    try:
        producer.init()
    except InfrastructureError as error:
        producer.close(_CLOSE_TIMEOUT)
        raise transactional_id_refused(error, transactional_id) from error
    except HeadraceError:
        producer.close(_CLOSE_TIMEOUT)
        raise
    return producer


def fence_producers(open_producer: Callable[[str], TransactionalProducer], transactional_ids: Iterable[str]) -> None:
    """Fence the producers of these ids, and abort their transactions: Kafka's ``Admin.fenceProducers``.

    Neither client library has that request. ``open_producer`` returns a new producer of an id.
    """
    for name in transactional_ids:
        initialized(open_producer(name), name).close(_CLOSE_TIMEOUT)
