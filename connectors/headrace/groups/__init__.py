"""Worker groups: Kafka Connect's group protocol, the assignment of connectors and tasks, leases."""
