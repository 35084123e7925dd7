"""The loop of a stream task, with its state and its transactions."""
