"""Conformance suites, drivers, contexts and fault injection for the tests of plugins. Needs `headrace[testing]`."""
