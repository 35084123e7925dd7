"""Pipelines: from a source task to Kafka, and from Kafka to a sink task."""
