"""The Elasticsearch sink as users name it, and the look at the cluster before it runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import ClassVar

import structlog

from headrace import ConfigError, Finding, Rebuilder, SinkConnector, Verifier
from headrace_sinks.elasticsearch.cluster.checks import obstacles
from headrace_sinks.elasticsearch.cluster.client import Client
from headrace_sinks.elasticsearch.configuration.keys import ElasticsearchSinkConfig
from headrace_sinks.elasticsearch.indices.readiness import Indices
from headrace_sinks.elasticsearch.rebuild.rebuilder import ElasticsearchRebuilder
from headrace_sinks.elasticsearch.task import ElasticsearchSinkTask
from headrace_sinks.elasticsearch.verification.verifier import ElasticsearchVerifier

log = structlog.stdlib.get_logger("headrace.check")


class ElasticsearchSinkConnector(SinkConnector):
    """Writes records to Elasticsearch."""

    config_model = ElasticsearchSinkConfig
    task_class = ElasticsearchSinkTask
    aliases: ClassVar[tuple[str, ...]] = (
        "io.confluent.connect.elasticsearch.ElasticsearchSinkConnector",
        "io.aiven.connect.elasticsearch.ElasticsearchSinkConnector",
    )

    def check(self, properties: Mapping[str, str]) -> Iterable[Finding]:
        config, findings = ElasticsearchSinkConfig.validate_properties(properties)
        if config is None:
            return findings
        try:
            client = Client(config)
        except ConfigError as error:
            return error.findings
        try:
            pipeline = "" if config.merges() else config.ingest_pipeline
            resources = config.resources().values()
            findings = list(obstacles(client, resources, streams=config.streams(), pipeline=pipeline))
            if any(finding.severity == "error" for finding in findings):
                return findings
            return [*findings, *Indices(client, config, log, look_only=True).misfits()]
        finally:
            client.close()

    def verifier(self, properties: Mapping[str, str]) -> Verifier:
        return ElasticsearchVerifier(ElasticsearchSinkConfig.parse(properties))

    def rebuilder(self, properties: Mapping[str, str]) -> Rebuilder:
        return ElasticsearchRebuilder(ElasticsearchSinkConfig.parse(properties), properties)
