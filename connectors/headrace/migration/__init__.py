"""What a cluster of Kafka Connect's JVM workers has stored, and what headrace would do with it."""
