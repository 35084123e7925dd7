"""Writes records into Elasticsearch: one index per topic, one document per key, nothing twice, nothing lost."""

from headrace_sinks.elasticsearch.connector import ElasticsearchSinkConnector

__all__ = ["ElasticsearchSinkConnector"]
