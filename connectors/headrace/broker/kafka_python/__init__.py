"""Adapter for kafka-python; only this package imports ``kafka``."""

from headrace.broker.kafka_python.clients import TITLE, KafkaPythonClients
from headrace.broker.kafka_python.settings import translate

__all__ = ["TITLE", "KafkaPythonClients", "translate"]
