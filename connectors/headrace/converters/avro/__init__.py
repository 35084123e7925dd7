"""Avro with a schema registry: Confluent's wire format, and schemas as Connect's AvroData maps them.

``AvroType`` (``avro_types.py``) is a parsed Avro schema. ``to_connect.py`` and ``from_connect.py`` translate schemas,
``encoding.py`` and ``decoding.py`` values, ``codec.py`` bytes.
"""
