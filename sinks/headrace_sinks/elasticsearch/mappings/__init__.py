"""Mapping bodies: from a schema, from the user's declaration, and whether one takes what is to be written."""
