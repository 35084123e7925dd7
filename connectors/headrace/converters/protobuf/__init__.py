"""Protobuf with a schema registry: schemas and values as Connect's ProtobufData maps them.

``ProtobufMessage`` (``messages.py``) is one message of a compiled file. ``to_connect.py`` and ``from_connect.py``
translate schemas, ``encoding.py`` and ``decoding.py`` values, ``proto_text.py`` writes files.
"""
