"""Mapping bodies: derived from schemas, declared by the user, and their compatibility with an index."""
