"""Runs connectors: brings the running tasks into the desired state."""
