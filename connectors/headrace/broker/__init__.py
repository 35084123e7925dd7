"""Kafka clients: the protocols that headrace uses (``interfaces``), and their adapters."""
