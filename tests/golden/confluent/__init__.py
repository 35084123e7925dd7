"""Schemas as AvroData, JsonSchemaData and ProtobufData of Confluent's converters translate them.

``scripts/record_confluent_schemas.py`` records them by ``ConverterSchemas.java``;
``tests/unit/converters/test_as_confluent.py`` compares. The answers are those of version 8.5.0 of the schema registry
(commit 794611b of its public source).
"""
