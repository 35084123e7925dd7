"""The Elasticsearch sink connector and its check of the cluster."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import ClassVar

import structlog

from headrace import ConfigError, Finding, Rebuilder, SinkConnector, Verifier
from headrace_sinks.elasticsearch.cluster.client import ElasticsearchClient
from headrace_sinks.elasticsearch.cluster.preflight import find_obstacles
from headrace_sinks.elasticsearch.configuration.keys import ElasticsearchSinkConfig
from headrace_sinks.elasticsearch.indices.provisioner import IndexProvisioner
from headrace_sinks.elasticsearch.rebuild.rebuilder import ElasticsearchRebuilder
from headrace_sinks.elasticsearch.task import ElasticsearchSinkTask
from headrace_sinks.elasticsearch.verification.verifier import ElasticsearchVerifier

log = structlog.stdlib.get_logger("headrace.check")


class ElasticsearchSinkConnector(SinkConnector):
    """Writes records to Elasticsearch indices and data streams."""

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
            client = ElasticsearchClient(config)
        except ConfigError as error:
            return error.findings
        try:
            pipeline = "" if config.merges() else config.ingest_pipeline
            resources = config.resources().values()
            findings = list(find_obstacles(client, resources, streams=config.streams(), pipeline=pipeline))
            if any(finding.severity == "error" for finding in findings):
                return findings
            return [*findings, *IndexProvisioner(client, config, log, dry_run=True).problems()]
        finally:
            client.close()

    def verifier(self, properties: Mapping[str, str]) -> Verifier:
        return ElasticsearchVerifier(ElasticsearchSinkConfig.parse(properties))

    def rebuilder(self, properties: Mapping[str, str]) -> Rebuilder:
        return ElasticsearchRebuilder(ElasticsearchSinkConfig.parse(properties), properties)
