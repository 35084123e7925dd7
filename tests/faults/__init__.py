"""The table of faults that tests inject and docs/operations/faults.md shows."""
