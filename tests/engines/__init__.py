"""Real engines for tests: their kinds, starts and addresses."""
