"""A worker group under faults: its engines, the schedule of faults, and what must be true after each of them."""
