"""Rows to records: types of columns, values, timestamps, and keys as the ledger has them."""
