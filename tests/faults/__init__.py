"""The table of faults that tests prove and that docs/operations/faults.md shows."""
