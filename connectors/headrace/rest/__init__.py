"""Kafka Connect's REST API, and ours under /v1."""
