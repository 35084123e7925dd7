"""Rules over several keys are reported with mistakes in single keys, without findings that follow from these."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from headrace.config import ConfigModel, IntervalOrCron, key
from headrace.errors import Finding


class ShopConfig(ConfigModel):
    url: str = key("shop.url", doc="Where the shop is.")
    size: int = key("batch.size", default=10, ge=1, doc="Records of a batch.")
    every: IntervalOrCron = key("poll.interval.ms", default="5000", doc="When to look.")
    tables: str = key("table.list", default="", doc="What to read.")
    query: str = key("query", default="", doc="What to read instead.")

    def problems(self) -> Iterable[Finding]:
        if not self.tables and not self.query:
            yield Finding("shop.nothing", "nothing says what to read", "table.list")
        if self.size > 10:
            yield Finding("shop.size", "too large", "batch.size")


@pytest.mark.parametrize(
    ("properties", "expected"),
    [
        ({"shop.url": "u", "batch.size": "many"}, {"batch.size", "table.list"}),
        ({"shop.url": "u", "batch.size": "0", "query": "q"}, {"batch.size"}),
        ({"shop.url": "u", "tabel.list": "t"}, {"tabel.list"}),  # table.list is misspelled
        ({"shop.url": "u", "colour": "red"}, {"colour", "table.list"}),
        ({"batch.size": "11"}, {"shop.url"}),  # without a required key no rule is checked
        ({"shop.url": "u", "query": "q", "poll.interval.ms": "-1"}, {"poll.interval.ms"}),
        ({"shop.url": "u", "query": "q", "poll.interval.ms": "0 3 * *"}, {"poll.interval.ms"}),
        ({"shop.url": "u", "query": "q", "poll.interval.ms": "0 3 * * *"}, set()),
        ({"shop.url": "u", "query": "q", "poll.interval.ms": "30s", "batch.size": "11"}, {"batch.size"}),
    ],
)
def test_each_mistake_is_reported_once(properties: dict[str, str], expected: set[str]) -> None:
    _, findings = ShopConfig.validate_properties(properties)

    assert sorted(finding.key for finding in findings) == sorted(expected)
