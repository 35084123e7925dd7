"""Conformance suites that a plugin's tests inherit."""
