"""Configuration keys of a worker that concern metrics and the age of data."""

from __future__ import annotations

from collections.abc import Iterable

from headrace.config import CommaList, ConfigModel, key
from headrace.errors import Finding

_NAMES = ("headrace", "kafka-connect")


class MetricsSettings(ConfigModel):
    """Part of the keys of a worker."""

    hop_headers: bool = key(
        "freshness.headers",
        default=True,
        doc="Add the header `headrace.hops` to the last record of each batch that a source or a stream application "
        "sends, so that sinks know how old the data is and which hop held it back (headrace's own).",
    )
    metrics_names: CommaList = key(
        "metrics.names",
        default="headrace",
        doc="Names of the metrics for Prometheus: `headrace`, `kafka-connect` (those that Kafka Connect's attributes "
        "have in the dashboards and rules of Strimzi), or both (headrace's own).",
    )

    def metrics_problems(self) -> Iterable[Finding]:
        """Yield what is wrong with the keys of this class."""
        for name in sorted({*self.metrics_names} - {*_NAMES}):
            text = f"Invalid value {name} for configuration metrics.names: unknown set of names"
            yield Finding("config.invalid_value", text, "metrics.names", f"choose from {', '.join(_NAMES)}")
