"""Bulk requests: lines, puts, the threads that send, and how much is sent at once."""
