"""Sink for Elasticsearch: one index per topic, one document per key, idempotent writes."""

from headrace_sinks.elasticsearch.connector import ElasticsearchSinkConnector

__all__ = ["ElasticsearchSinkConnector"]
