"""Transforms and predicates with the names, keys and results of those that come with Kafka Connect."""
