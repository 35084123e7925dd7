"""The pytest plugin of ``headrace[testing]``: drivers for a plugin's own tests, and assertions that explain themselves.

pytest loads it by its entry point. Modules named here are rewritten as test modules are, so a failed assertion of a
conformance suite shows the values on both sides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from headrace.testing.driver import SinkDriver, SourceDriver

pytest.register_assert_rewrite(
    "headrace.testing.driver",
    "headrace.testing.group_contract",
    "headrace.testing.kafka_clients",
    "headrace.testing.recording_consumer",
    "headrace.testing.sink",
    "headrace.testing.source",
    "headrace.testing.waiting",
)


@pytest.fixture
def drive_source() -> Iterator[Callable[..., SourceDriver]]:
    """Start source tasks with the arguments of SourceDriver; all are stopped when the test ends."""
    from headrace.testing.driver import SourceDriver  # not before the registration above

    with ExitStack() as drivers:
        yield lambda *arguments, **options: drivers.enter_context(SourceDriver(*arguments, **options))


@pytest.fixture
def drive_sink() -> Iterator[Callable[..., SinkDriver]]:
    """Start sink tasks with the arguments of SinkDriver; all are stopped when the test ends."""
    from headrace.testing.driver import SinkDriver  # not before the registration above

    with ExitStack() as drivers:
        yield lambda *arguments, **options: drivers.enter_context(SinkDriver(*arguments, **options))
