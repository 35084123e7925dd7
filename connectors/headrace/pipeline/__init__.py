"""The loops of source, sink and stream tasks."""
