"""Transforms with the names, keys and results of those that come with Debezium 3.6."""
