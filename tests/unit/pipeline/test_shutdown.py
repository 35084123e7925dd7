"""The end of a task's loop."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from headrace.errors import InfrastructureError, TaskError
from headrace.pipeline.fence import TaskAbandonedError
from headrace.pipeline.shutdown import close_clients, shut_down
from headrace.pipeline.stages import Stages
from tests.unit.pipeline.plain_converter import PlainConverter


def test_loop_task_and_stages_are_closed_in_this_order_though_each_of_them_fails(harness: Callable[[], Any]) -> None:
    closed: list[str] = []

    def failing(name: str) -> Callable[[], None]:
        def close() -> None:
            closed.append(name)
            raise TaskError(f"closing of {name} failed")

        return close

    class FailingConverter(PlainConverter):
        def close(self) -> None:
            failing("converter")()

    stages: Stages = replace(harness().stages(), key_converter=FailingConverter())
    with pytest.raises(TaskError, match="closing of"), shut_down(failing("loop"), failing("task"), stages):
        raise TaskError("the loop failed")

    assert closed == ["loop", "task", "converter"]


def test_a_client_that_cannot_be_closed_is_logged_and_the_others_are_closed(harness: Callable[[], Any]) -> None:
    closed: list[str] = []

    def unreachable() -> None:
        raise InfrastructureError("no broker answers", code="test.unreachable")

    def abandoned() -> None:
        raise TaskAbandonedError("abandoned")

    made = harness()
    with capture_logs() as logs:
        made.log = structlog.get_logger()
        close_clients(made.control, unreachable, abandoned, lambda: closed.append("last"))

    assert closed == ["last"]
    assert [(entry["event"], entry["code"]) for entry in logs] == [
        ("client not closed", "test.unreachable"),
        ("positions not committed", "task.abandoned"),
    ]
