"""The demo of the exploration model: surveys and users in PostgreSQL, and a simulated outside world."""
