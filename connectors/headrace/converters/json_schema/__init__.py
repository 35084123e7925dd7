"""JSON Schema with a schema registry: schemas and values as Connect's JsonSchemaData maps them.

``JsonSchemaDocument`` (``document.py``) is a parsed schema with those that it refers to. ``to_connect.py`` and
``from_connect.py`` translate schemas, ``encoding.py`` and ``decoding.py`` values.
"""
