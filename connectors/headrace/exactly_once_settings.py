"""Keys of exactly-once sources (KIP-618)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, ClassVar, Literal

from headrace.config import LOWER, ConfigModel, Duration, key
from headrace.errors import Finding

ExactlyOnceSupport = Literal["disabled", "preparing", "enabled"]

_TRANSACTION_TIMEOUT = 60_000
"""Kafka's default of ``transaction.timeout.ms``."""


class ExactlyOnceSettings(ConfigModel):
    """Keys of a source connector. Names and defaults are Kafka Connect's."""

    exactly_once: Annotated[Literal["requested", "required"], LOWER] = key(
        "exactly.once.support",
        default="requested",
        doc="`required`: refuse the configuration unless the worker and the connector deliver exactly once. "
        "`requested`: deliver exactly once where that is possible.",
        group="Exactly Once Support",
    )
    boundary: Annotated[Literal["poll", "interval", "connector"], LOWER] = key(
        "transaction.boundary",
        default="poll",
        doc="When a transaction is committed. `poll`: with each batch that is read. `interval`: every "
        "`transaction.boundary.interval.ms`, which is faster; readers see the records later.",
        group="Exactly Once Support",
    )
    boundary_interval: Duration | None = key(
        "transaction.boundary.interval.ms",
        default=None,
        ge=1,
        doc="Interval of `transaction.boundary: interval`; the worker's `offset.flush.interval.ms` when not given.",
        group="Exactly Once Support",
    )

    unsupported_keys: ClassVar[dict[str, tuple[str, str]]] = {
        "offsets.storage.topic": (
            "positions of all connectors are in the offset topic of the worker group",
            "remove it, and set offset.storage.topic of the workers",
        ),
    }

    def boundary_problems(self, transaction_timeout: str | None) -> Iterable[Finding]:
        """Yield findings about boundaries. ``transaction_timeout``: of the connector's producer, in milliseconds."""
        if self.boundary == "connector":
            text = (
                "Invalid value connector for configuration transaction.boundary: The connector does not support "
                "connector-defined transaction boundaries with the given configuration"
            )
            yield Finding("config.invalid_value", text, "transaction.boundary", "set poll or interval")
        given = transaction_timeout or ""
        limit = int(given) if given.isdigit() else _TRANSACTION_TIMEOUT
        if self.boundary == "interval" and self.boundary_interval is not None and self.boundary_interval >= limit:
            text = (
                f"transaction.boundary.interval.ms ({self.boundary_interval}) must be less than transaction.timeout.ms "
                f"of the producer ({limit}): Kafka aborts transactions that are open for longer"
            )
            hint = "set a shorter interval, or producer.override.transaction.timeout.ms"
            yield Finding("config.conflict", text, "transaction.boundary.interval.ms", hint)
