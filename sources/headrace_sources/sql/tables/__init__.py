"""Which tables are read, by which task, and the statements that read them."""
