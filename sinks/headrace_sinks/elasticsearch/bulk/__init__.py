"""Bulk requests: encoding, splitting, sending with adaptive concurrency, and the result of each record."""
