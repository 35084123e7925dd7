"""What converters of all formats share that keep their schemas in a registry: client, ids, subjects, caches.

``converter.py`` converts batches. A ``SchemaFormat`` (``schema_format.py``) knows one format.
"""
