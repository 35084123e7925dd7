"""What the probes of a worker answer. Liveness: only a restart helps. Health: whether requests are answered.

Health has the states and texts of Kafka Connect (KIP-1017).
"""

from __future__ import annotations

from headrace.runtime.api import Health

BUSY = 10.0
"""Seconds after which a command of the control thread makes the worker unhealthy, as in Kafka Connect."""
STUCK = 120.0
"""Seconds after which only a restart helps: what waits for Kafka gives up before."""


def liveness(*, alive: bool, ended: str | None, busy: float) -> Health:
    """``alive``: whether the control thread runs. ``ended``: another thread that has ended by mistake. ``busy``: for
    how many seconds the control thread has carried out one command."""
    if not alive:
        return Health("unhealthy", "The worker's control thread has ended; restart the worker.")
    if ended is not None:
        return Health("unhealthy", f"The worker's thread {ended} has ended; restart the worker.")
    if busy > STUCK:
        text = f"The worker's control thread has carried out one command for {busy:.0f} s; restart the worker."
        return Health("unhealthy", text)
    return Health("healthy", "The worker's threads are alive.")


def health(live: Health, waiting: str | None, *, busy: float) -> Health:
    """``live``: the liveness. ``waiting``: what a worker that starts waits for."""
    if live.status != "healthy":
        return live
    if waiting is not None:
        return Health("starting", f"Worker is still starting up: {waiting}")
    if busy > BUSY:
        text = f"its control thread has carried out one command for {busy:.0f} s"
        return Health("unhealthy", f"Worker was unable to handle this request in time: {text}.")
    return Health("healthy", "Worker has completed startup and is ready to handle requests.")
