"""kafka-python behind the ports; nothing outside this package imports ``kafka``."""

from headrace.broker.kafka_python.broker import TITLE, KafkaPythonBroker
from headrace.broker.kafka_python.settings import translate

__all__ = ["TITLE", "KafkaPythonBroker", "translate"]
