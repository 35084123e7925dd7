"""Answers of Kafka Connect's own transforms and predicates.

``scripts/record_kafka_connect_transforms.py`` records them by ``Transforms.java``;
``tests/unit/transforms/test_as_kafka_connect.py`` compares.
"""
