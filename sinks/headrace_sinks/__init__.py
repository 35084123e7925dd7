"""Sink connectors that come with headrace."""
