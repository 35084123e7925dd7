"""The converters that come with headrace: between bytes and values with a schema."""
