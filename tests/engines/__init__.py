"""The real engines under the tests: which there are, how they start, and whose they are."""
