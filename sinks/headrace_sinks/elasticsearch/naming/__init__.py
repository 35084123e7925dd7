"""Index names: legal characters, names from topics, and the template language of ``index.name``."""
