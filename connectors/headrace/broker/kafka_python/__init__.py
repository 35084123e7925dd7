"""kafka-python behind the ports; nothing outside this package imports ``kafka``."""

from headrace.broker.kafka_python.broker import KafkaPythonBroker

__all__ = ["KafkaPythonBroker"]
