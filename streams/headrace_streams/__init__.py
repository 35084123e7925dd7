"""Stream applications of headrace: they read topics, process records in steps, keep state, and write topics."""
