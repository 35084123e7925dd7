"""Real Kafka, Elasticsearch and PostgreSQL, installed by pip alone, for laptops, demos and tests."""

from headrace.embedded.elasticsearch import Elasticsearch
from headrace.embedded.kafka import Broker, Kafka
from headrace.embedded.postgres import Postgres
from headrace.embedded.stack import ENGINES, EmbeddedStack

__all__ = ["ENGINES", "Broker", "Elasticsearch", "EmbeddedStack", "Kafka", "Postgres"]
