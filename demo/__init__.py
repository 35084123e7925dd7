"""Real engines, real data, a worker, and a view of rows arriving: ``python -m demo``, from the repository's root."""
