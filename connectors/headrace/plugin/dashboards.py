"""Interface that a sink implements for ``headrace kibana``: where its records can be searched."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple


class IndexedField(NamedTuple):
    """A field that can be searched."""

    path: str
    """With dots for fields in objects, such as ``customer.country``."""
    type: str
    """Elasticsearch's name of the type, such as ``keyword``."""
    aggregatable: bool = True


class DataTarget(NamedTuple):
    """Where the records of one topic are written to."""

    topic: str
    name: str
    """An index, alias or data stream, or a pattern of them (``orders-*``)."""
    fields: Sequence[IndexedField] = ()
    """The fields that the configuration declares."""
    time_field: str = ""
    """The field that is the time of every document; empty = there is no such field."""


class DashboardData(ABC):
    """Describes and searches a sink's data, with the requests and field types of Elasticsearch.

    Used from one thread. :meth:`fields` and :meth:`search` may raise RetriableError, InfrastructureError and TaskError.
    """

    @abstractmethod
    def targets(self, topics: Sequence[str]) -> Sequence[DataTarget]:
        """Return a target for each topic. Does not connect. Raise DataError, ConfigError or TaskError for a topic
        without one."""

    @abstractmethod
    def fields(self, name: str) -> Sequence[IndexedField] | None:
        """Return all fields of a target as they are mapped now; None when it does not exist."""

    @abstractmethod
    def search(self, name: str, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return the response to a search request. Raise TaskError when it is refused."""

    @abstractmethod
    def close(self) -> None:
        """Release all resources."""
