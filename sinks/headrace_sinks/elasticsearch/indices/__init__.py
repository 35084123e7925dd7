"""Routing of records to indices, and provisioning of indices and templates."""
