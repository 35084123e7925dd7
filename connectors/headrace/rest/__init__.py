"""Kafka Connect's REST API, and ours under /v1."""

from headrace.rest.server import RestServer

__all__ = ["RestServer"]
