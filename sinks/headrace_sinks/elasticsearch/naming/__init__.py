"""Names of indices: from a topic's name or from a template; legal, and confined."""
