"""The configuration keys of the sink and their rules."""
