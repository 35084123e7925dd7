"""Measurements beside their limits, both of one run. Machines are noisy: a figure without its rival says nothing."""
