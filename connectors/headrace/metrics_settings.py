"""Configuration keys of a worker that concern metrics and the age of data."""

from __future__ import annotations

import re
from collections.abc import Iterable

from headrace.config import CommaList, ConfigModel, Duration, Secret, key
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

    traces: bool = key(
        "opentelemetry.traces",
        default=False,
        doc="Export an OpenTelemetry span for each batch, with links to the traces of its records (header "
        "`traceparent`). Where to, is configured by OpenTelemetry's environment variables, such as "
        "`OTEL_EXPORTER_OTLP_ENDPOINT`. It needs the extra `opentelemetry` (headrace's own).",
    )

    reporter_url: str | None = key(
        "metrics.elasticsearch.url",
        default=None,
        doc="Elasticsearch to which the worker writes its metrics and events, for dashboards in Kibana; not set: none "
        "(headrace's own, as all keys `metrics.elasticsearch.*`).",
    )
    reporter_user: str | None = key("metrics.elasticsearch.username", default=None, doc="Its user.")
    reporter_password: Secret | None = key(
        "metrics.elasticsearch.password", default=None, doc="Password of `metrics.elasticsearch.username`."
    )
    reporter_api_key: Secret | None = key(
        "metrics.elasticsearch.api.key", default=None, doc="API key, instead of user and password."
    )
    reporter_ca_file: str | None = key(
        "metrics.elasticsearch.ca.file",
        default=None,
        doc="PEM file that signs its TLS; not set: the system's.",
        file=True,
    )
    reporter_interval: Duration = key(
        "metrics.elasticsearch.interval", default=10_000, ge=100, doc="How often metrics are written."
    )
    reporter_namespace: str = key(
        "metrics.elasticsearch.namespace",
        default="default",
        doc="End of the names of the data streams `metrics-headrace.worker-…` and `logs-headrace.events-…`.",
        pattern=r"^[a-z0-9_.]{1,100}$",
    )
    reporter_retention: str = key(
        "metrics.elasticsearch.retention",
        default="30d",
        doc="How long Elasticsearch keeps them, as it writes times.",
        pattern=r"^\d+[dhms]$",
    )

    def metrics_problems(self) -> Iterable[Finding]:
        """Yield what is wrong with the keys of this class."""
        for name in sorted({*self.metrics_names} - {*_NAMES}):
            text = f"Invalid value {name} for configuration metrics.names: unknown set of names"
            yield Finding("config.invalid_value", text, "metrics.names", f"choose from {', '.join(_NAMES)}")
        if self.reporter_url is not None and not re.fullmatch(r"https?://[^@/?#]+(/[^@?#]*)?", self.reporter_url):
            text = "Invalid value for configuration metrics.elasticsearch.url: it is not of the form http://host:port"
            hint = "user and password have keys of their own"
            yield Finding("config.invalid_value", text, "metrics.elasticsearch.url", hint)
        if (self.reporter_user is None) != (self.reporter_password is None):
            text = "metrics.elasticsearch.username and metrics.elasticsearch.password require each other"
            yield Finding("config.conflict", text, "metrics.elasticsearch.username", "set both, or none")
        if self.reporter_user is not None and self.reporter_api_key is not None:
            text = "metrics.elasticsearch.username and metrics.elasticsearch.api.key are both set"
            yield Finding("config.conflict", text, "metrics.elasticsearch.api.key", "keep one of the two")
