"""Kafka clients behind ports."""
