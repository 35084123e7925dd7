"""A record's way: from a source task to Kafka, from Kafka to a sink task."""
