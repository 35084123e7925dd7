"""Measurements that print ratios of one run. Machines are noisy: a figure without its rival says nothing."""
