"""Benchmarks: headrace and a limit or competitor, measured in the same run because machines differ and are noisy."""
