"""Files for monitoring systems, generated from the names that the worker exposes."""
