"""The sink's part of ``headrace reindex``: generations of an index, and the switch between them."""
