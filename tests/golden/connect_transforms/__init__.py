"""Answers of the transforms and predicates that come with Kafka Connect and Debezium.

``scripts/record_kafka_connect_transforms.py`` records them by ``Transforms.java``;
``tests/unit/transforms/test_as_kafka_connect.py`` compares.
"""
