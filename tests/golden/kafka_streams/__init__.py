"""Results of Kafka Streams 4.4 over generated records, which headrace's operators are compared with.

``scripts/record_kafka_streams_results.py`` records them by ``Reference.java``;
``tests/unit/streams/test_kafka_streams.py`` compares.
"""
