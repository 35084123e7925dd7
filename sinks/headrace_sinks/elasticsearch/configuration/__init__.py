"""What users write: the sink's keys."""
