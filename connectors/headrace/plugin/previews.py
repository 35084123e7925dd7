"""Interface that a sink implements for ``headrace preview``: what it would write, without writing it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from headrace.errors import DataError
from headrace.records import SinkBatch


class PreviewedWrite(NamedTuple):
    """What a sink would write for one record."""

    action: str
    """What it would do, such as ``index`` or ``delete``."""
    target: str
    """What it would write to, such as ``orders/42``."""
    content: str
    """As it would be written; empty for a deletion."""


class Previewer(ABC):
    """Shows what a sink would do with records. Used from one thread; connects to no system."""

    @abstractmethod
    def writes(self, batch: SinkBatch) -> Sequence[PreviewedWrite | DataError | None]:
        """Return, for each record, what it writes. None: nothing. DataError: it would be refused."""

    @abstractmethod
    def mapping(self, batch: SinkBatch) -> Mapping[str, Mapping[str, Any]]:
        """Return, by target, the definitions of fields that the schema of the batch leads to. Raise TaskError."""
