"""A record becomes a document: its id, its bytes, the texts in it that are JSON."""
