"""Public data sets that tests read."""
