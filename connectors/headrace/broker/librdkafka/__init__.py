"""librdkafka (confluent-kafka) behind the ports; nothing outside this package imports ``confluent_kafka``."""

from headrace.broker.librdkafka.broker import TITLE, LibrdkafkaBroker
from headrace.broker.librdkafka.settings import translate

__all__ = ["TITLE", "LibrdkafkaBroker", "translate"]
