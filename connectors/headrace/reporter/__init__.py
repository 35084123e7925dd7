"""Writes metrics and events of a worker into data streams of Elasticsearch."""

from headrace.reporter.bulk_client import ReporterAccess, reporter_access
from headrace.reporter.reporter import MetricsReporter

__all__ = ["MetricsReporter", "ReporterAccess", "reporter_access"]
