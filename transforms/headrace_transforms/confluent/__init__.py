"""Transforms with the names and keys of those that Confluent and Aiven publish, written from their documentation."""
