"""The operators of stream applications: pure functions over batches of rows, tables and state."""
