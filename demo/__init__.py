"""The demo: a worker with real engines and real data, run by ``python -m demo`` from the root of the repository."""
