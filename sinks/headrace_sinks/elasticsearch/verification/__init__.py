"""The sink's part of ``headrace verify``: expected documents compared with the indexed ones."""
