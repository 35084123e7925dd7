"""kafka-python behind the ports; nothing outside this package imports ``kafka``."""

from headrace.broker.kafka_python.broker import TITLE, KafkaPythonBroker

__all__ = ["TITLE", "KafkaPythonBroker"]
