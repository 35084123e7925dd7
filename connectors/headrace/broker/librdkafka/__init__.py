"""librdkafka (confluent-kafka) behind the ports; nothing outside this package imports ``confluent_kafka``."""

from headrace.broker.librdkafka.broker import TITLE, LibrdkafkaBroker

__all__ = ["TITLE", "LibrdkafkaBroker"]
