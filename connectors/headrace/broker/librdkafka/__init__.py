"""Adapter for librdkafka (confluent-kafka); only this package imports ``confluent_kafka``."""

from headrace.broker.librdkafka.clients import TITLE, LibrdkafkaClients
from headrace.broker.librdkafka.settings import translate

__all__ = ["TITLE", "LibrdkafkaClients", "translate"]
