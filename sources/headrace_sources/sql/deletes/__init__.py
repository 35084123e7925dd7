"""Deleted rows without change data capture: the ledger of sent keys and its comparison with the table."""
