"""An error message contains its code once."""

from __future__ import annotations

import pytest

from headrace import ConfigError, Finding, HeadraceError, TaskError

FINDING = Finding("sql.ambiguous_topic", "two tables have one topic", "topic.prefix", "set topic.name.format")


@pytest.mark.parametrize(
    "error",
    [
        ConfigError(findings=[FINDING]),
        ConfigError(findings=[FINDING, Finding("sql.missing_table", "there is no table 'x'")]),
        ConfigError("two tables have one topic", code="sql.ambiguous_topic"),
        TaskError("two tables have one topic", code="sql.ambiguous_topic", hint="set topic.name.format"),
    ],
)
def test_c1_connect_rest_25_the_code_is_named_once(error: HeadraceError) -> None:
    text = error.with_code()

    assert text.startswith("sql.ambiguous_topic: two tables")
    assert text.count("sql.ambiguous_topic") == 1
