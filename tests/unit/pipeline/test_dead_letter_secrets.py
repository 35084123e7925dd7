"""The headers of a dead letter contain no secret (finding 1 of the security review)."""

from __future__ import annotations

import pytest

from headrace.errors import DataError
from headrace.pipeline.dead_letters import reason_headers
from headrace.pipeline.fault_policy import Failure, Stage
from headrace.records import TopicPartition
from headrace.redaction import Redactor
from headrace.states import TaskId


def test_message_trace_and_hint_contain_no_secret() -> None:
    with pytest.raises(DataError) as raised:
        raise DataError("registry x://u:s3cret-9@h", hint="not s3cret-9") from RuntimeError("refused s3cret-9")
    failure = Failure(Stage.VALUE_CONVERTER, "JsonConverter", raised.value, TopicPartition("orders", 0), 7)
    headers = reason_headers(failure, TaskId("orders", 0), Redactor({"s3cret-9": "${env:PASSWORD}"}))
    assert b"s3cret-9" not in b"".join(value for _, value in headers)
    assert sum(value.count(b"${env:PASSWORD}") for _, value in headers) >= 3
