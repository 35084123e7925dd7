"""Settings of all unit tests: Hypothesis, and what they would do again and again.

Hypothesis has no deadlines and health checks of speed: property tests must not fail on a busy machine.
"""

from __future__ import annotations

import functools
import gc
import os

import typer.testing
from hypothesis import HealthCheck, settings

settings.register_profile("headrace", deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True)
# Fewer examples for the inner loop (make test-quick); all of them are tried by make test.
settings.register_profile("quick", settings.get_profile("headrace"), max_examples=20)
settings.load_profile(os.environ.get("HEADRACE_TEST_PROFILE", "headrace"))

# CliRunner makes all commands of an app from their annotations for each invocation, which takes 50 ms.
setattr(typer.testing, "_get_command", functools.cache(getattr(typer.testing, "_get_command")))  # noqa: B009, B010

gc.disable()  # until all tests are collected: nearly everything that is imported and collected stays


def pytest_collection_finish() -> None:
    """Exempt the modules and the tests from garbage collections, which took a tenth of the CPU time of a run."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    gc.enable()
